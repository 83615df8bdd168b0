//! One WebSocket: challenge, `connect`, then requests in and responses and events out (wire protocols 3 and 4).
//!
//! One task serves one socket. It never waits for a write before it reads on, so that a slow reader does not keep
//! its own requests from being read, nor anybody else's events from being sent.

pub mod greet;
pub mod live;
pub mod requests;

use super::carry::lot::Work;
use super::fanout::now_ms;
use super::frame;
use super::frame_io::FrameIo;
use super::limits::{CLOSE_TIMEOUT, FRAME_BYTES_BEFORE_HELLO_MAX, FRAME_BYTES_MAX};
use super::net::Peer;
use super::outq::{CloseWith, Encoded, OutQueue};
use super::presence::Arrival;
use super::slots::Slot;
use crate::events::GatewayEvent;
use crate::front::connect::Client;
use crate::front::fanout::Conn;
use crate::gateway::Handles;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use greet::Greeted;
use live::Live;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

/// Reason of the close when a client would have to prove itself anew.
pub const AUTH_CHANGED: &str = "gateway auth changed";

type Socket = WebSocketStream<FrameIo<TcpStream>>;

/// What is known of a socket before it said anything.
pub struct Arrived {
    /// The upgraded socket.
    pub io: TcpStream,
    /// Bytes read behind the upgrade request.
    pub unread: Bytes,
    /// Who is calling.
    pub peer: Peer,
    /// Head of the upgrade request.
    pub headers: hyper::HeaderMap,
    /// Its place among the connections.
    pub slot: Arc<Slot>,
}

async fn socket(io: FrameIo<TcpStream>, max: usize) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max))
        .max_frame_size(Some(max));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Serve one socket to its end.
pub async fn serve(gw: Handles, arrived: Arrived) {
    let Arrived { io, unread, peer, headers, slot } = arrived;
    let greeting = gw.front.lot.begin(Work::Greeting);
    let io = FrameIo::new(io, &unread, FRAME_BYTES_BEFORE_HELLO_MAX);
    let mut new = socket(io, FRAME_BYTES_BEFORE_HELLO_MAX).await;
    let greeted = match greet::greet(&gw, &mut new, &peer, &headers).await {
        Ok(greeted) => greeted,
        Err(greet::NotGreeted { response, close }) => {
            refuse(new, response, close).await;
            return;
        }
    };
    slot.authenticated();
    // Whole messages come out of the wrapper one by one, so nothing is lost in the library's buffer.
    let mut io = new.into_inner();
    io.set_payload_bytes_max(FRAME_BYTES_MAX);
    let conn = join(&gw, greeted);
    let here = Here::arrive(&gw, conn);
    let live = Live::new(gw, here, socket(io, FRAME_BYTES_MAX).await, slot);
    drop(greeting);
    live.run().await;
}

/// From here on the client is told events, and closed with the others.
fn join(gw: &Handles, greeted: Greeted) -> Arc<Conn> {
    let Greeted { caller, response, admission } = greeted;
    let out = Arc::new(OutQueue::new(gw.front.fanout.budget()));
    out.push_text(response);
    if caller.protocol < 4 {
        tell_health(gw, &out);
    }
    let conn = gw.front.fanout.join(Arc::new(caller), out);
    // Between the decision and this moment the rules may have changed: whoever closed the others did not see this one.
    if admission != gw.front.settings().admission_digest() {
        conn.out.close(CloseWith::new(1008, AUTH_CHANGED));
    }
    conn
}

async fn refuse(mut socket: Socket, response: Option<String>, close: CloseWith) {
    let goodbye = async {
        if let Some(text) = response {
            socket.send(Message::text(text)).await?;
        }
        // An error here is a peer that closed first; the answer to its close leaves with the next read.
        let _closed = socket.close(Some(close_frame(&close))).await;
        // Read on until the peer closes too: a reset could overtake what was just sent.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), WsError>(())
    };
    let _gone = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
}

/// Protocol 3 is told the state of health after each connect, protocol 4 reads it in hello.
fn tell_health(gw: &Handles, out: &OutQueue) {
    let payload = Bytes::from(gw.front.health().to_string());
    let version = Some(gw.front.fanout.versions());
    out.push_event(&Arc::new(Encoded { name: "health", payload, version, droppable: true }));
}

fn close_frame(with: &CloseWith) -> CloseFrame {
    CloseFrame { code: with.code.into(), reason: frame::close_reason(&with.reason).into() }
}

/// Takes a connection out of every list when it ends, however it ends; not when it is parked.
struct Here {
    gw: Handles,
    conn: Arc<Conn>,
    parked: bool,
}

impl Here {
    /// A client that said hello.
    fn arrive(gw: &Handles, conn: Arc<Conn>) -> Self {
        let here = Self::again(gw, conn);
        let changed = here.with_arrival(|presence, arrival, now| presence.arrive(arrival, now));
        here.tell(changed);
        here
    }

    /// A client that is in the lists already.
    fn again(gw: &Handles, conn: Arc<Conn>) -> Self {
        Self { gw: gw.clone(), conn, parked: false }
    }

    /// It stays in the lists.
    fn park(mut self) -> Arc<Conn> {
        self.parked = true;
        self.conn.clone()
    }

    fn with_arrival<T>(&self, act: impl FnOnce(&super::presence::Presence, &Arrival<'_>, i64) -> T) -> T {
        let caller = &self.conn.caller;
        let arrival = Arrival {
            client: &caller.client,
            device_id: caller.device_id.as_deref(),
            role: caller.role.as_str(),
            scopes: &caller.scopes,
            remote_ip: caller.ip.filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string()),
            conn_id: &caller.conn_id,
        };
        act(self.gw.front.fanout.presence(), &arrival, i64::try_from(now_ms()).unwrap_or(i64::MAX))
    }

    fn tell(&self, changed: bool) {
        if changed {
            self.gw.front.fanout.emit(GatewayEvent::Presence);
        }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if self.parked {
            return;
        }
        let caller = &self.conn.caller;
        self.gw.front.fanout.leave(&caller.conn_id);
        let changed = self.with_arrival(|presence, arrival, now| presence.leave(arrival, now));
        self.tell(changed);
        let Client { id, mode, .. } = &caller.client;
        tracing::debug!(conn = %caller.conn_id, client = %id, mode = %mode, "client disconnected");
    }
}

/// Whether a read failed because the message is too large.
fn is_oversize(error: &WsError) -> bool {
    matches!(error, WsError::Capacity(CapacityError::MessageTooLong { .. }))
}

#[cfg(test)]
mod tests;
