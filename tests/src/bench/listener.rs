//! A client that stamps what it gets: one connection, frames as raw text with the time of their arrival.

use crate::ws_client::{Socket, cli_params};
use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// Nothing that is measured stays silent for so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open connection of an operator, protocol 4.
pub struct Listener {
    socket: Socket,
    next_id: u32,
    /// `seq` of the last event: numbers of a connection have no gaps.
    seq: Option<u64>,
    /// Gaps in them, and steps back.
    pub breaks: u64,
}

/// One frame.
pub struct Arrival {
    pub at: Instant,
    pub text: String,
}

impl Listener {
    pub async fn open(port: u16) -> anyhow::Result<Self> {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/")).await?;
        let mut listener = Self { socket, next_id: 0, seq: None, breaks: 0 };
        let challenge = listener.next().await?;
        if !challenge.text.contains("connect.challenge") {
            bail!("expected a challenge, got {}", challenge.text);
        }
        listener.seq = None;
        listener.call("connect", cli_params(4)).await?;
        Ok(listener)
    }

    /// Sends a request; gives its id.
    pub async fn send(&mut self, method: &str, params: Value) -> anyhow::Result<String> {
        self.next_id += 1;
        let id = format!("b{}", self.next_id);
        let frame = json!({"type": "req", "id": id, "method": method, "params": params});
        self.socket.send(Message::text(frame.to_string())).await?;
        Ok(id)
    }

    /// One request and its answer's payload; events in between are dropped.
    pub async fn call(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let id = self.send(method, params).await?;
        loop {
            let arrival = self.next().await?;
            if !arrival.text.contains("\"res\"") {
                continue;
            }
            let mut frame: Value = serde_json::from_str(&arrival.text)?;
            if frame["id"] == id.as_str() {
                if frame["ok"] != true {
                    bail!("{method} was refused: {}", frame["error"]);
                }
                return Ok(frame["payload"].take());
            }
        }
    }

    /// The next frame of text.
    pub async fn next(&mut self) -> anyhow::Result<Arrival> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match frame.context("the gateway says nothing")?.context("the gateway closed")?? {
                Message::Text(text) => {
                    let at = Instant::now();
                    let text = text.as_str().to_owned();
                    self.check_order(&text);
                    return Ok(Arrival { at, text });
                }
                Message::Close(frame) => bail!("the gateway closed: {frame:?}"),
                _ => {}
            }
        }
    }

    fn check_order(&mut self, text: &str) {
        let Some(seq) = envelope_seq(text) else { return };
        if self.seq.is_some_and(|last| seq != last + 1) {
            self.breaks += 1;
        }
        self.seq = Some(seq);
    }
}

/// The connection's own number of an event: outside the payload, so before it or after it.
fn envelope_seq(text: &str) -> Option<u64> {
    let number = |rest: &str| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    if !text.starts_with(r#"{"type":"event""#) {
        return None;
    }
    let payload = text.find(r#""payload":"#)?;
    let (before, after) = text.split_at(payload);
    if let Some(at) = before.find(r#""seq":"#) {
        return number(&before[at + 6..]);
    }
    let last = after.rfind("},\"seq\":")?;
    number(&after[last + 8..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_envelope_is_not_that_of_the_payload() {
        let after = r#"{"type":"event","event":"chat","payload":{"seq":7,"message":{"seq":8}},"seq":12}"#;
        let before = r#"{"type":"event","event":"chat","seq":12,"payload":{"seq":7}}"#;
        let none = r#"{"type":"res","id":"x","ok":true,"payload":{"seq":7}}"#;
        assert_eq!([after, before, none].map(envelope_seq), [Some(12), Some(12), None]);
    }
}
