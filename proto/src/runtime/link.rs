//! Drives one link: a Unix stream on one side, [`LinkHandle`] and [`LinkEvents`] on the other.
//!
//! All rules are in [`crate::wire::state`]; here are the socket, the waiters and the clock. One task per link reads,
//! writes and ticks. Handles never touch the socket: they put messages into the bounded outbox under a short lock and
//! wake the task, so that nobody waits for a peer that does not read.
//!
//! Heartbeats stay inside: the supervisor's end pings, the worker's end answers with its [`Vitals`].

mod carry;
mod driver;
mod shared;

use crate::wire::agent::{AgentToSup, SupToAgent};
use crate::wire::channel::{ChannelToSup, SupToChannel};
use crate::wire::control::{LinkControl, Pong};
use crate::wire::frame::{Flags, FrameError};
use crate::wire::handshake::{SupHandshake, WorkerHandshake, WorkerKind};
use crate::wire::lossy::Lossy;
use crate::wire::state::{Answer, Known, LinkRules, Outgoing, Seen, SendRefusal, Side, Tally, Violation};
use crate::wire::{Wire, WireError};
use bytes::Bytes;
pub use carry::{CarriedLink, FrozenLink, thaw};
use shared::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// Bounds of a link and the heartbeat's periods.
#[derive(Clone, Debug, Default)]
pub struct LinkLimits {
    pub rules: LinkRules,
    /// Period and silence limit in milliseconds; `None` takes the defaults.
    pub heartbeat_ms: Option<(u64, u64)>,
}

impl LinkLimits {
    /// The supervisor's end of a link to a worker of this kind.
    pub fn supervisor(kind: WorkerKind) -> Self {
        Self::knowing(match kind {
            WorkerKind::Agent => known::<AgentToSup, WorkerHandshake>,
            WorkerKind::Channel => known::<ChannelToSup, WorkerHandshake>,
        })
    }

    /// The end of a worker of this kind.
    pub fn worker(kind: WorkerKind) -> Self {
        Self::knowing(match kind {
            WorkerKind::Agent => known::<SupToAgent, SupHandshake>,
            WorkerKind::Channel => known::<SupToChannel, SupHandshake>,
        })
    }

    fn knowing(known: fn(u16) -> Known) -> Self {
        Self { rules: LinkRules { known, ..LinkRules::default() }, heartbeat_ms: None }
    }
}

fn has<M: Wire>(code: u16) -> bool {
    M::registry().iter().any(|(known, ..)| *known == code)
}

fn known<M: Wire, H: Wire>(code: u16) -> Known {
    if has::<M>(code) || has::<H>(code) || has::<LinkControl>(code) {
        return Known::Yes;
    }
    let foreign = has::<AgentToSup>(code)
        || has::<SupToAgent>(code)
        || has::<ChannelToSup>(code)
        || has::<SupToChannel>(code)
        || has::<SupHandshake>(code)
        || has::<WorkerHandshake>(code);
    if foreign { Known::Foreign } else { Known::No }
}

/// Why a link ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// End of file or reset. `unfinished_bytes` is not 0 when the peer stopped inside a frame.
    #[error("the peer is gone ({unfinished_bytes} bytes of an unfinished frame)")]
    PeerGone { unfinished_bytes: usize },
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    #[error("the peer broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("closed on this side")]
    Local,
    #[error("the socket failed: {0}")]
    Io(String),
}

impl CloseReason {
    /// The peer did something that no correct peer does.
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Violation(_) | Self::Frame(_))
    }
}

/// What comes from a link. Taking a message gives its credit back to the peer.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// `corr` is not 0 when the peer waits for a reply under it.
    Message { code: u16, corr: u64, flags: Flags, payload: Bytes },
    /// The peer wants its request to end; it still gets exactly one reply.
    Cancel { corr: u64 },
    /// Three pings without an answer.
    Suspect,
    /// 30 s without an answer.
    Hung,
    /// It answers again.
    Recovered,
    /// The worker is quiet (answer to [`LinkHandle::pause`]).
    Paused,
    /// Last event of every link.
    Closed { why: CloseReason },
}

/// A request without a result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    NotSent(#[from] SendRefusal),
    #[error("no answer within the deadline")]
    TimedOut,
    #[error("the request was cancelled")]
    Cancelled,
    #[error("the link closed before the answer")]
    Closed,
    #[error(transparent)]
    Refused(WireError),
}

/// What a worker tells of itself in each pong. Cheap to update from anywhere.
#[derive(Debug, Default)]
pub struct Vitals {
    inflight: AtomicU32,
    queue: AtomicU32,
    progress_ms: AtomicU64,
}

impl Vitals {
    /// Runs or sends under way.
    pub fn set_inflight(&self, count: u32) {
        self.inflight.store(count, Ordering::Relaxed);
    }

    /// Items that wait for this worker.
    pub fn set_queue(&self, count: u32) {
        self.queue.store(count, Ordering::Relaxed);
    }
}

/// Starts the driver task on the current runtime.
pub fn spawn(stream: UnixStream, side: Side, limits: LinkLimits) -> (LinkHandle, LinkEvents) {
    let shared = Arc::new(Shared::new(side, limits));
    tokio::spawn(driver::drive(stream, shared.clone(), Default::default(), Default::default()));
    (LinkHandle { shared: shared.clone() }, LinkEvents { shared })
}

/// Sends on a link. Cloneable; dropping it does not close the link.
#[derive(Clone)]
pub struct LinkHandle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkHandle").field("tally", &self.tally()).finish_non_exhaustive()
    }
}

impl LinkHandle {
    /// Queues a message or refuses it, at once. The supervisor uses nothing else.
    pub fn try_send(&self, message: impl Into<Outgoing>) -> Result<(), SendRefusal> {
        let message = message.into();
        self.shared.write(|link| link.state.send(message))
    }

    /// Waits for room: back-pressure for the producer. For workers.
    pub async fn send(&self, message: impl Into<Outgoing>) -> Result<(), SendRefusal> {
        let message = message.into();
        self.shared.when_room(|link| link.state.send(message.clone())).await
    }

    /// Queues a message that may be merged with its successor while it waits (one slot per run and kind).
    /// A message of the same type that is not lossy is sent like [`Self::try_send`].
    pub fn send_lossy<M: Lossy>(&self, message: M) -> Result<(), SendRefusal> {
        self.shared.write(|link| link.state.send_lossy(message))
    }

    /// Asks and waits for the one terminal answer: its code and payload, parts already joined. Dropping the future
    /// cancels the request.
    pub async fn request(
        &self,
        message: impl Into<Outgoing>,
        deadline_ms: u64,
    ) -> Result<(u16, Bytes), RequestError> {
        self.start_request(message, deadline_ms)?.answer().await
    }

    /// Like [`Self::request`] in two steps, for callers that need the corr or must not wait for room.
    pub fn start_request(
        &self,
        message: impl Into<Outgoing>,
        deadline_ms: u64,
    ) -> Result<PendingRequest, SendRefusal> {
        let message = message.into();
        let (sender, receiver) = oneshot::channel();
        let now_ms = self.shared.now_ms();
        let corr = self.shared.write(|link| {
            let corr = link.state.request(message, deadline_ms, now_ms)?;
            link.waiters.insert(corr, sender);
            Ok::<_, SendRefusal>(corr)
        })?;
        self.shared.wake_ticker();
        Ok(PendingRequest { shared: self.shared.clone(), corr, receiver, done: false })
    }

    /// Answers a request. Refused when it was answered before, or when the outbox has no room (try again, or let the
    /// peer's deadline pass).
    pub fn reply(&self, corr: u64, message: impl Into<Outgoing>) -> Result<(), SendRefusal> {
        let message = message.into();
        self.shared.write(|link| link.state.reply(corr, message))
    }

    /// Waits for room first. For workers.
    pub async fn reply_when_room(&self, corr: u64, message: impl Into<Outgoing>) -> Result<(), SendRefusal> {
        let message = message.into();
        self.shared.when_room(|link| link.state.reply(corr, message.clone())).await
    }

    pub fn reply_error(&self, corr: u64, error: WireError) -> Result<(), SendRefusal> {
        self.shared.write(|link| link.state.reply_error(corr, error))
    }

    /// Asks the peer to end a request of ours; its waiter gets the outcome.
    pub fn cancel(&self, corr: u64) {
        let now_ms = self.shared.now_ms();
        self.shared.write(|link| link.state.cancel(corr, now_ms));
    }

    /// Asks the worker to fall silent; [`LinkEvent::Paused`] follows.
    pub fn pause(&self) -> Result<(), SendRefusal> {
        self.shared.write(|link| link.state.pause())
    }

    pub fn resume(&self) -> Result<(), SendRefusal> {
        self.shared.write(|link| link.state.resume())
    }

    /// Waits until all that is queued has been handed to the kernel, or the link is closed.
    pub async fn flush(&self) {
        self.shared.flushed().await;
    }

    /// Ends the link: what may still go is written for at most a second, waiters get `Closed`.
    pub fn close(&self) {
        self.shared.close(CloseReason::Local);
    }

    /// Ends the link because a payload of the peer was not acceptable.
    pub fn violation(&self, why: Violation) {
        self.shared.close(why.into());
    }

    /// Returns when the peer broke the protocol; never otherwise. For a consumer that is too busy to take events.
    pub async fn violated(&self) -> CloseReason {
        self.shared.ended().await;
        match self.shared.read(|link| link.closed.clone()) {
            Some(why) if why.is_violation() => why,
            _ => std::future::pending().await,
        }
    }

    /// What this end tells of itself in pongs.
    pub fn vitals(&self) -> &Vitals {
        &self.shared.vitals
    }

    /// Something moved forward (a model token, a tool, a delivery).
    pub fn progressed(&self) {
        self.shared.vitals.progress_ms.store(self.shared.now_ms(), Ordering::Relaxed);
    }

    /// The peer's last pong and its age in milliseconds.
    pub fn last_pong(&self) -> Option<(Pong, u64)> {
        self.shared.last_pong()
    }

    pub fn tally(&self) -> Tally {
        self.shared.read(|link| link.state.tally())
    }

    /// Headers of the last frames received, for a crash report.
    pub fn last_frames(&self) -> Vec<Seen> {
        self.shared.read(|link| link.state.seen().copied().collect())
    }

    /// The same, for a thread that must not wait.
    pub fn try_last_frames(&self) -> Option<Vec<Seen>> {
        self.shared.try_read(|link| link.state.seen().copied().collect())
    }

    /// Bytes in the buffers of this end.
    pub fn buffered_bytes(&self) -> u64 {
        self.shared.read(|link| link.state.buffered_bytes())
    }

    pub fn is_closed(&self) -> bool {
        self.shared.read(|link| link.closed.is_some())
    }
}

/// A request under way. Dropping it cancels the request.
#[derive(Debug)]
pub struct PendingRequest {
    shared: Arc<Shared>,
    corr: u64,
    receiver: oneshot::Receiver<Answer>,
    done: bool,
}

impl PendingRequest {
    pub fn corr(&self) -> u64 {
        self.corr
    }

    pub async fn answer(mut self) -> Result<(u16, Bytes), RequestError> {
        let answer = (&mut self.receiver).await.unwrap_or(Answer::Closed);
        self.done = true;
        match answer {
            Answer::Ok { code, payload } => Ok((code, payload)),
            Answer::Refused(error) => Err(RequestError::Refused(error)),
            Answer::TimedOut => Err(RequestError::TimedOut),
            Answer::Cancelled => Err(RequestError::Cancelled),
            Answer::Closed => Err(RequestError::Closed),
        }
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        if !self.done {
            let now_ms = self.shared.now_ms();
            self.shared.write(|link| {
                link.waiters.remove(&self.corr);
                link.state.abandon(self.corr, now_ms);
            });
        }
    }
}

/// The receiving end of a link. Dropping it closes the link.
#[derive(Debug)]
pub struct LinkEvents {
    shared: Arc<Shared>,
}

impl LinkEvents {
    /// The next event; `None` after `Closed`. Safe to use in `select!`: an event is taken only when it is returned.
    pub async fn recv(&mut self) -> Option<LinkEvent> {
        self.shared.next_event().await
    }

    /// Like [`Self::recv`] without waiting; `None` also when there is nothing now.
    pub fn try_recv(&mut self) -> Option<LinkEvent> {
        self.shared.pop_event().flatten()
    }
}

impl Drop for LinkEvents {
    fn drop(&mut self) {
        self.shared.close(CloseReason::Local);
    }
}

#[cfg(test)]
mod tests;
