//! One WebSocket: challenge, `connect`, then requests in and responses and events out (wire protocols 3 and 4).
//!
//! The reading half runs here, the writing half in a task of its own, so that a slow reader never keeps
//! its own requests from being read, nor anybody else's events from being sent.

pub mod greet;

use super::caller::Caller;
use super::connect::Client;
use super::fanout::now_ms;
use super::frame::{self, Unreadable};
use super::frame_io::FrameIo;
use super::limits::{
    CLOSE_TIMEOUT, FRAME_BYTES_BEFORE_HELLO_MAX, FRAME_BYTES_MAX, PING_INTERVAL, REQUESTS_OUTSTANDING_MAX,
    SILENCE_MAX, WRITE_TIMEOUT, WRONG_ROLE_CALLS_MAX,
};
use super::net::Peer;
use super::outq::{CloseWith, Encoded, Out, OutQueue};
use super::presence::Arrival;
use super::slots::Slot;
use crate::events::GatewayEvent;
use crate::gateway::Handles;
use crate::rpc::{self, RpcError};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// A socket that can carry a WebSocket.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

type Socket<S> = WebSocketStream<FrameIo<S>>;

/// What is known of a socket before it said anything.
pub struct Arrived<S> {
    /// The upgraded socket.
    pub io: S,
    /// Bytes read behind the upgrade request.
    pub unread: Bytes,
    /// Who is calling.
    pub peer: Peer,
    /// Head of the upgrade request.
    pub headers: hyper::HeaderMap,
    /// Its place among the connections.
    pub slot: Arc<Slot>,
}

fn config(max: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
}

/// Serve one socket to its end.
pub async fn serve<S: Io>(gw: Handles, arrived: Arrived<S>) {
    let Arrived { io, unread, peer, headers, slot } = arrived;
    let io = FrameIo::new(io, &unread, FRAME_BYTES_BEFORE_HELLO_MAX);
    let before_hello = config(FRAME_BYTES_BEFORE_HELLO_MAX);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(before_hello)).await;
    let greeted = match greet::greet(&gw, &mut socket, &peer, &headers).await {
        Ok(greeted) => greeted,
        Err(greet::NotGreeted { response, close }) => {
            refuse(socket, response, close).await;
            return;
        }
    };
    slot.authenticated();
    // Whole frames come out of the wrapper one by one, so nothing is lost in the library's buffer.
    let mut io = socket.into_inner();
    io.set_payload_bytes_max(FRAME_BYTES_MAX);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config(FRAME_BYTES_MAX))).await;
    let caller = Arc::new(greeted.caller);
    let out = Arc::new(OutQueue::new(gw.front.fanout.budget()));
    out.push_text(greeted.response);
    if caller.protocol < 4 {
        tell_health(&gw, &out);
    }
    let here = Here::arrive(&gw, &caller, out.clone());
    let (sink, stream) = socket.split();
    let mut writer = tokio::spawn(write_all(sink, out.clone()));
    let reader = Reader { gw, caller, out: out.clone(), wrong_role: Arc::default() };
    let mut reading = std::pin::pin!(reader.read_all(stream));
    tokio::select! {
        () = &mut reading => out.cut(CloseWith::new(1000, "")),
        _ = &mut writer => {
            drop(here);
            // Read on until the peer closes too: a reset could overtake what was just sent.
            let _gone = tokio::time::timeout(CLOSE_TIMEOUT, reading).await;
            return;
        }
    }
    // The close frame still has to leave.
    if tokio::time::timeout(CLOSE_TIMEOUT, &mut writer).await.is_err() {
        writer.abort();
    }
}

async fn refuse<S: Io>(mut socket: Socket<S>, response: Option<String>, close: CloseWith) {
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

/// Takes a connection out of every list when it ends, however it ends.
struct Here {
    gw: Handles,
    caller: Arc<Caller>,
}

impl Here {
    fn arrive(gw: &Handles, caller: &Arc<Caller>, out: Arc<OutQueue>) -> Self {
        gw.front.fanout.join(caller.clone(), out);
        let here = Self { gw: gw.clone(), caller: caller.clone() };
        let changed = here.with_arrival(|presence, arrival, now| presence.arrive(arrival, now));
        here.tell(changed);
        here
    }

    fn with_arrival<T>(&self, act: impl FnOnce(&super::presence::Presence, &Arrival<'_>, i64) -> T) -> T {
        let caller = &self.caller;
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
        self.gw.front.fanout.leave(&self.caller.conn_id);
        let changed = self.with_arrival(|presence, arrival, now| presence.leave(arrival, now));
        self.tell(changed);
        let Client { id, mode, .. } = &self.caller.client;
        tracing::debug!(conn = %self.caller.conn_id, client = %id, mode = %mode, "client disconnected");
    }
}

async fn write_all<S: Io>(mut sink: SplitSink<Socket<S>, Message>, out: Arc<OutQueue>) {
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.reset();
    loop {
        let message = tokio::select! {
            item = out.pop() => match item {
                Some(Out::Text(text)) => utf8(text),
                Some(Out::Event(event, seq)) => {
                    utf8(frame::write_event(event.name, &event.payload, Some(seq), event.version).into())
                }
                Some(Out::Close(with)) => {
                    let close = sink.send(Message::Close(Some(close_frame(&with))));
                    let _gone = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
                    return;
                }
                None => return,
            },
            _ = ping.tick() => Some(Message::Ping(Bytes::new())),
        };
        let Some(message) = message else { continue };
        let sent = tokio::time::timeout(WRITE_TIMEOUT, sink.send(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn utf8(text: Bytes) -> Option<Message> {
    match Utf8Bytes::try_from(text) {
        Ok(text) => Some(Message::Text(text)),
        Err(_) => {
            tracing::error!("a message for a client was not UTF-8; left out");
            None
        }
    }
}

struct Reader {
    gw: Handles,
    caller: Arc<Caller>,
    out: Arc<OutQueue>,
    wrong_role: Arc<AtomicU32>,
}

impl Reader {
    async fn read_all<S: Io>(self, mut stream: SplitStream<Socket<S>>) {
        let places = Arc::new(Semaphore::new(REQUESTS_OUTSTANDING_MAX));
        loop {
            let message = match tokio::time::timeout(SILENCE_MAX, stream.next()).await {
                Ok(Some(message)) => message,
                Ok(None) | Err(_) => return,
            };
            let text = match message {
                Ok(Message::Text(text)) => Bytes::from(text),
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Close(_)) => {
                    // The answer to a close frame leaves with the next read (RFC 6455 5.5.1).
                    let _answered = tokio::time::timeout(CLOSE_TIMEOUT, stream.next()).await;
                    return;
                }
                Ok(_) => continue,
                Err(error) => {
                    if is_oversize(&error) {
                        self.out.cut(CloseWith::new(1009, ""));
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    return;
                }
            };
            // Nobody would hear the answer.
            if self.out.is_closing() {
                continue;
            }
            // Waiting here leaves further requests in the socket.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            self.take(&text, place);
        }
    }

    fn take(&self, text: &[u8], place: tokio::sync::OwnedSemaphorePermit) {
        let request = match frame::read_request(text) {
            Ok(request) => request,
            Err(Unreadable::NotJson) => return,
            Err(Unreadable::NotRequest { id, why }) => {
                let error = RpcError::invalid(format!("invalid request frame: {why}"));
                let id = id.unwrap_or_else(|| "invalid".to_owned());
                self.out.push_text(frame::write_response(&id, Err(&error)));
                return;
            }
        };
        let (gw, caller, out) = (self.gw.clone(), self.caller.clone(), self.out.clone());
        let wrong_role = self.wrong_role.clone();
        tokio::spawn(async move {
            answer(&gw, &caller, &out, request, &wrong_role).await;
            drop(place);
        });
    }
}

async fn answer(
    gw: &Handles,
    caller: &Arc<Caller>,
    out: &OutQueue,
    request: frame::Request,
    wrong_role: &AtomicU32,
) {
    let frame::Request { id, method, params } = request;
    let began = std::time::Instant::now();
    let run = AssertUnwindSafe(rpc::dispatch(gw, caller, &method, params)).catch_unwind();
    let result = run.await.unwrap_or_else(|_| Err(crashed(&method)));
    if let Err(error) = &result
        && rpc::is_wrong_role(error)
    {
        if wrong_role.fetch_add(1, Ordering::Relaxed) >= WRONG_ROLE_CALLS_MAX {
            out.close(CloseWith::new(1008, "repeated unauthorized calls"));
        }
    } else {
        wrong_role.store(0, Ordering::Relaxed);
    }
    let ms = began.elapsed().as_millis();
    match result {
        Ok(reply) => {
            tracing::debug!(conn = %caller.conn_id, %method, ms, "answered");
            out.push_text(frame::write_response(&id, Ok(&reply.body)));
            gw.front.fanout.relieve();
            if let Some(then) = reply.then {
                let run = AssertUnwindSafe(then).catch_unwind();
                let second = run.await.unwrap_or_else(|_| Err(crashed(&method)));
                out.push_text(frame::write_response(&id, second.as_ref()));
            }
        }
        Err(error) => {
            tracing::debug!(conn = %caller.conn_id, %method, ms, code = %error.code, error = %error.message, "refused");
            out.push_text(frame::write_response(&id, Err(&error)));
        }
    }
}

fn crashed(method: &str) -> RpcError {
    tracing::error!(method, "method handler panicked");
    RpcError::unavailable(format!("internal error in {method}; see the gateway log"))
}

/// Whether a read failed because the message is too large.
fn is_oversize(error: &WsError) -> bool {
    matches!(error, WsError::Capacity(CapacityError::MessageTooLong { .. }))
}
