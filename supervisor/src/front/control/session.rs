//! One local command: hello, calls, followed events.

use crate::front::caller::Caller;
use crate::front::frame::{Body, ErrorShape};
use crate::front::outq::{Out, OutQueue};
use crate::front::secret::Secret;
use crate::gateway::Handles;
use crate::rpc;
use bytes::BytesMut;
use proto::wire::admin::{CtlCall, CtlEvent, CtlHello, CtlReply, CtlRequest, CtlResponse, CtlWelcome};
use proto::wire::frame::{Flags, Frame, FrameDecoder};
use proto::wire::{Wire, WireError};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// From the open socket to the hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Frames waiting to be written; handlers wait for room.
const FRAMES_MAX: usize = 256;
/// Calls of one command at once.
const CALLS_MAX: usize = 16;

/// Serve one connection to its end.
pub async fn serve(gw: Handles, stream: UnixStream, token: Arc<Secret>) {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => {}
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "control socket: another user was refused");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "control socket: peer is unknown");
            return;
        }
    }
    let (read, write) = stream.into_split();
    let (frames, source) = mpsc::channel(FRAMES_MAX);
    let writer = tokio::spawn(write_all(write, source));
    let mut read = Reading { read, decoder: FrameDecoder::default() };
    let session = Session::greet(gw, &mut read, &token, frames).await;
    if let Some(session) = session {
        session.run(read).await;
    }
    // The writer ends when the last sender is gone: what is queued still leaves.
    let _gone = tokio::time::timeout(HELLO_TIMEOUT, writer).await;
}

async fn write_all(mut write: OwnedWriteHalf, mut source: mpsc::Receiver<Frame>) {
    let mut buffer = BytesMut::new();
    while let Some(frame) = source.recv().await {
        buffer.clear();
        if let Err(error) = frame.encode(&mut buffer) {
            tracing::error!(%error, "control socket: frame not sent");
            continue;
        }
        if write.write_all(&buffer).await.is_err() {
            return;
        }
    }
}

struct Reading {
    read: OwnedReadHalf,
    decoder: FrameDecoder,
}

impl Reading {
    /// The next frame; `None` at the end, or when the peer sends nonsense.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "control socket: malformed frame");
                    return None;
                }
            }
            if self.read.read_buf(self.decoder.room()).await.ok()? == 0 {
                return None;
            }
        }
    }
}

fn frame(corr: u64, message: &CtlResponse) -> Frame {
    Frame {
        code: message.code(),
        class: message.class(),
        flags: Flags::IS_RESPONSE,
        corr,
        payload: message.encode().into(),
    }
}

struct Session {
    gw: Handles,
    caller: Arc<Caller>,
    frames: mpsc::Sender<Frame>,
    following: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.gw.front.fanout.leave(&self.caller.conn_id);
        if let Some(following) = &self.following {
            following.abort();
        }
    }
}

impl Session {
    async fn greet(
        gw: Handles,
        read: &mut Reading,
        token: &Secret,
        frames: mpsc::Sender<Frame>,
    ) -> Option<Self> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, read.next()).await.ok()??;
        let hello = match CtlRequest::decode(first.code, &first.payload) {
            Ok(CtlRequest::Hello(hello)) => hello,
            _ => return refuse(&frames, first.corr, WireError::invalid("first message must be hello")).await,
        };
        let CtlHello { token: offered, build, protocol } = hello;
        if !token.matches(&offered) {
            tracing::warn!(build = %build, "control socket: wrong token");
            let error =
                WireError::new("FORBIDDEN", "control token mismatch (the gateway was restarted; try again)");
            return refuse(&frames, first.corr, error).await;
        }
        let welcome = CtlWelcome { build: gw.about.version.clone(), pid: gw.about.pid };
        frames.send(frame(first.corr, &CtlResponse::Welcome(welcome))).await.ok()?;
        let protocol = if protocol == 3 { 3 } else { 4 };
        let caller = Arc::new(Caller::local_operator(uuid::Uuid::new_v4().to_string(), protocol, "cli"));
        Some(Self { gw, caller, frames, following: None })
    }

    async fn run(mut self, mut read: Reading) {
        let places = Arc::new(tokio::sync::Semaphore::new(CALLS_MAX));
        while let Some(next) = read.next().await {
            match CtlRequest::decode(next.code, &next.payload) {
                Ok(CtlRequest::Call(call)) => {
                    let Ok(place) = places.clone().acquire_owned().await else { return };
                    let (gw, caller, frames) = (self.gw.clone(), self.caller.clone(), self.frames.clone());
                    tokio::spawn(async move {
                        answer(gw, caller, frames, next.corr, call).await;
                        drop(place);
                    });
                }
                Ok(CtlRequest::Follow(follow)) => self.follow(next.corr, follow.events),
                Ok(CtlRequest::Hello(_)) => {}
                Err(error) if next.flags.has(Flags::MUST_UNDERSTAND) => {
                    let _: Option<()> =
                        refuse(&self.frames, next.corr, WireError::invalid(error.to_string())).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Events go out under the corr of the latest `Follow`.
    fn follow(&mut self, corr: u64, events: Vec<String>) {
        if let Some(old) = self.following.take() {
            old.abort();
        }
        let out = Arc::new(OutQueue::new(self.gw.front.fanout.budget()));
        let conn_id = &self.caller.conn_id;
        self.gw.front.fanout.join(self.caller.clone(), out.clone());
        self.gw.front.fanout.follow_sessions(conn_id, true);
        self.following = Some(tokio::spawn(forward(out, self.frames.clone(), corr, events)));
    }
}

async fn forward(out: Arc<OutQueue>, frames: mpsc::Sender<Frame>, corr: u64, events: Vec<String>) {
    let wanted = |name: &str| events.is_empty() || events.iter().any(|e| e == "*" || e == name);
    while let Some(item) = out.pop().await {
        let Out::Event(event, _) = item else { return };
        if !wanted(event.name) {
            continue;
        }
        let payload_json = String::from_utf8_lossy(&event.payload).into_owned();
        let event = CtlResponse::Event(CtlEvent { event: event.name.to_owned(), payload_json });
        if frames.send(frame(corr, &event)).await.is_err() {
            return;
        }
    }
}

async fn refuse<T>(frames: &mpsc::Sender<Frame>, corr: u64, error: WireError) -> Option<T> {
    let _gone = frames.send(frame(corr, &CtlResponse::Refused(error))).await;
    None
}

async fn answer(gw: Handles, caller: Arc<Caller>, frames: mpsc::Sender<Frame>, corr: u64, call: CtlCall) {
    let busy = gw.front.lot.begin(rpc::at_restart(&call.method));
    let text = if call.params_json.trim().is_empty() { "{}" } else { call.params_json.as_str() };
    let result = match serde_json::from_str::<Value>(text) {
        Ok(Value::Null) => {
            rpc::dispatch(&gw, &caller, &call.method, Value::Object(serde_json::Map::new())).await
        }
        Ok(params) => rpc::dispatch(&gw, &caller, &call.method, params).await,
        Err(error) => Err(ErrorShape::invalid(format!("params are not JSON: {error}"))),
    };
    let (first, then) = match result {
        Ok(reply) => (Ok(reply.body), reply.then),
        Err(error) => (Err(error), None),
    };
    let more = then.is_some();
    if frames.send(reply(corr, &call.method, first, more)).await.is_err() {
        return;
    }
    drop(busy);
    if let Some(then) = then {
        let second = then.await;
        let _gone = frames.send(reply(corr, &call.method, second, false)).await;
    }
}

fn reply(corr: u64, method: &str, result: Result<Body, ErrorShape>, more: bool) -> Frame {
    let made = match result {
        Ok(body) => CtlReply { ok_json: Some(body.to_text()), error: None, more },
        Err(error) => CtlReply { ok_json: None, error: Some(error.into()), more: false },
    };
    let whole = frame(corr, &CtlResponse::Reply(made));
    if whole.payload.len() + 64 < proto::wire::limits::FRAME_BYTES_MAX {
        return whole;
    }
    let text = format!("the answer of {method} is too large for the control socket; ask for less");
    let error = Some(WireError::new("UNAVAILABLE", text));
    frame(corr, &CtlResponse::Reply(CtlReply { ok_json: None, error, more: false }))
}
