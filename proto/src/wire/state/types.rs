//! The vocabulary of a link's end: bounds, what goes in, what comes out, why something is refused.

use super::limits;
use crate::wire::WireError;
use crate::wire::control::{Ping, Pong};
use crate::wire::frame::{Flags, Frame};
use crate::wire::registry::{Class, DecodeError, Wire};
use bytes::Bytes;

/// Which end of the link this is. The supervisor opens odd corrs, the worker even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Supervisor,
    Worker,
}

impl Side {
    pub(super) fn owns(self, corr: u64) -> bool {
        (corr % 2 == 1) == (self == Side::Supervisor)
    }
}

/// What a code means to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Yes,
    /// It exists, but the peer is not the one who may send it.
    Foreign,
    /// A newer peer's message.
    No,
}

/// Bounds of one link; the defaults are those of [`limits`].
#[derive(Clone, Debug)]
pub struct LinkRules {
    pub window_bytes: u64,
    pub durable_queue_max: usize,
    pub control_queue_max: usize,
    pub requests_max: usize,
    pub part_bytes: usize,
    pub result_bytes_max: usize,
    pub cancel_grace_ms: u64,
    pub known: fn(u16) -> Known,
}

impl Default for LinkRules {
    fn default() -> Self {
        Self {
            window_bytes: limits::LINK_WINDOW_BYTES as u64,
            durable_queue_max: limits::DURABLE_QUEUE_MAX,
            control_queue_max: limits::CONTROL_QUEUE_MAX,
            requests_max: limits::REQUESTS_IN_FLIGHT_MAX,
            part_bytes: limits::RESULT_PART_BYTES,
            result_bytes_max: limits::RESULT_BYTES_MAX,
            cancel_grace_ms: limits::CANCEL_GRACE_MS,
            known: |_| Known::Yes,
        }
    }
}

/// A message on its way into the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    pub code: u16,
    pub class: Class,
    pub flags: Flags,
    pub payload: Bytes,
}

impl Outgoing {
    pub fn of<M: Wire>(message: &M) -> Self {
        Self {
            code: message.code(),
            class: message.class(),
            flags: Flags::NONE,
            payload: message.encode().into(),
        }
    }

    /// The peer must answer with an error when it does not know this message.
    #[must_use]
    pub fn must_understand(mut self) -> Self {
        self.flags = self.flags.with(Flags::MUST_UNDERSTAND);
        self
    }

    pub(super) fn frame(self, corr: u64) -> Frame {
        Frame { code: self.code, class: self.class, flags: self.flags, corr, payload: self.payload }
    }
}

impl<M: Wire> From<&M> for Outgoing {
    fn from(message: &M) -> Self {
        Self::of(message)
    }
}

/// The message was not taken. Nothing of it will be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefusal {
    #[error("the link is closed")]
    Closed,
    #[error("the link's queue is full: the peer does not keep up")]
    Full,
    #[error("a message of {bytes} bytes does not fit a frame: pass it by file or as a result in parts")]
    TooLarge { bytes: usize },
    #[error("too many requests wait for an answer on this link")]
    TooManyRequests,
    #[error("request {corr} is not open: it was answered, cancelled or never made")]
    NotOpen { corr: u64 },
}

/// The peer broke a rule of the link. It cannot be trusted to keep any other: the link closes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("peer sent {over} bytes more than its credit")]
    CreditOverrun { over: u64 },
    #[error("peer gave back more credit than it held")]
    CreditForged,
    #[error("corr {corr} was used before")]
    ReplayedCorr { corr: u64 },
    #[error("corr {corr} belongs to the other side")]
    WrongCorr { corr: u64 },
    #[error("request {corr} was answered twice")]
    SecondTerminal { corr: u64 },
    #[error("too many requests wait for us")]
    RequestFlood,
    #[error("too many control frames wait for us")]
    ControlFlood,
    #[error("result under corr {corr} is larger than {max} bytes")]
    ResultTooLarge { corr: u64, max: usize },
    #[error("message {code:#06x} is not the peer's to send")]
    WrongDirection { code: u16 },
    #[error("frame after `Paused`")]
    FrameDuringPause,
    #[error("frame's class does not fit its message {code:#06x}")]
    WrongClass { code: u16 },
    #[error(transparent)]
    Payload(#[from] DecodeError),
}

/// How one of our requests ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Ok { code: u16, payload: Bytes },
    Refused(WireError),
    TimedOut,
    Cancelled,
    Closed,
}

/// What the driver has to do after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Resolve the request's waiter.
    Answered {
        corr: u64,
        answer: Answer,
    },
    /// Answer with [`LinkState::pong`].
    Ping(Ping),
    Pong(Pong),
    /// The peer is quiet; its state may be taken over.
    Paused,
}

/// What the consumer of the link gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    Message {
        code: u16,
        corr: u64,
        flags: Flags,
        payload: Bytes,
    },
    /// The peer wants request `corr` to end; it still gets its one answer.
    Cancel {
        corr: u64,
    },
}

/// Counters that show in a worker's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub frames_in: u64,
    pub frames_out: u64,
    pub unknown_ignored: u64,
    pub late_answers: u64,
    pub lossy_merged: u64,
    pub lossy_dropped: u64,
}

/// Header of a frame, kept for crash reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub code: u16,
    pub corr: u64,
    pub flags: Flags,
    pub bytes: usize,
}
