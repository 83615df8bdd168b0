//! A program that calls over WebSocket and does what every careful client does: it repeats a call whose answer it did not
//! get, with the same idempotency key. A lost connection is an answer here, never a panic.

use crate::gateway::TOKEN;
use crate::wait;
use crate::ws_client::{Socket, cli_params};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// An answer that takes longer is taken for lost; the call is repeated.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The connection is gone, or never came up.
#[derive(Debug)]
pub struct Lost;

/// One connection.
pub struct Caller {
    socket: Socket,
    next_id: u32,
}

impl Caller {
    pub async fn connect(port: u16) -> Result<Self, Lost> {
        let address = format!("ws://127.0.0.1:{port}/");
        let connecting = tokio_tungstenite::connect_async(address);
        let opened = tokio::time::timeout(ANSWER_LIMIT, connecting).await.map_err(|_| Lost)?;
        let (socket, _) = opened.map_err(|_| Lost)?;
        let mut caller = Self { socket, next_id: 0 };
        let mut params = cli_params(4);
        params["auth"] = json!({"token": TOKEN});
        caller.call("connect", params).await?.map_err(|_| Lost)?;
        Ok(caller)
    }

    /// `Ok(Err)` is a refusal of the gateway.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Result<Value, Value>, Lost> {
        self.next_id += 1;
        let id = format!("c{}", self.next_id);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params}).to_string();
        self.socket.send(Message::text(frame)).await.map_err(|_| Lost)?;
        let end = Instant::now() + ANSWER_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let frame = tokio::time::timeout(left, self.socket.next()).await.map_err(|_| Lost)?;
            let Some(Ok(frame)) = frame else { return Err(Lost) };
            let Message::Text(text) = frame else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { return Err(Lost) };
            if frame["id"] == id.as_str() {
                return Ok(if frame["ok"] == true {
                    Ok(frame["payload"].clone())
                } else {
                    Err(frame["error"].clone())
                });
            }
        }
    }
}

/// Keeps one connection, and makes a new one when it breaks.
pub struct Patient {
    port: u16,
    open: Option<Caller>,
    /// How often a call had to be repeated.
    pub repeats: u32,
}

impl Patient {
    pub fn new(port: u16) -> Self {
        Self { port, open: None, repeats: 0 }
    }

    /// The answer or refusal, however many connections it takes; None when `until` comes first.
    pub async fn call(
        &mut self,
        method: &str,
        params: &Value,
        until: Instant,
    ) -> Option<Result<Value, Value>> {
        let mut tries = 0_u32;
        while Instant::now() < until {
            if tries > 0 {
                self.repeats += 1;
                wait::pause(Duration::from_millis(20)).await;
            }
            tries += 1;
            if self.open.is_none() {
                self.open = Caller::connect(self.port).await.ok();
            }
            let Some(caller) = &mut self.open else { continue };
            match caller.call(method, params.clone()).await {
                Ok(answer) => return Some(answer),
                Err(Lost) => self.open = None,
            }
        }
        None
    }
}
