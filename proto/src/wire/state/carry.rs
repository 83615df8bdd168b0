//! The books of one end of a link as plain data, so that another program image can go on with the same peer.
//!
//! Read by the release before and the release after: fields are only added, and a missing one has its default.

use super::{Hold, LinkRules, LinkState, Side};
use crate::wire::frame::{Flags, Frame, FrameDecoder};
use crate::wire::{Class, WireError};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// One end of a link. `Default` is a link on which nothing ever went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedBooks {
    /// What the peer takes for our window, bytes.
    pub window_bytes: u64,
    /// `Pause` was sent and not taken back.
    pub paused: bool,
    /// `Pause` frames without their `Paused`.
    pub pauses: u32,
    pub outbox: CarriedOutbox,
    pub inbox: CarriedInbox,
    pub calls: CarriedCalls,
    pub asks: CarriedAsks,
}

/// What waits to be written: whole frames as they go on the wire, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedOutbox {
    #[serde(with = "serde_bytes")]
    pub control: Vec<u8>,
    pub cancels: Vec<u64>,
    #[serde(with = "serde_bytes")]
    pub entries: Vec<u8>,
    pub results: Vec<CarriedResult>,
    /// Bytes that the peer still takes.
    pub credit: u64,
}

/// A long result of which parts are still to go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedResult {
    /// The terminal frame, as it goes on the wire.
    #[serde(with = "serde_bytes")]
    pub last: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub rest: Vec<u8>,
}

/// What was received and not taken, and the peer's credit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedInbox {
    pub items: Vec<CarriedItem>,
    /// Charged to the peer and not given back, bytes.
    pub held: u64,
    /// Taken over, waiting to be worth a credit frame.
    pub owed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedItem {
    /// A wish to end request `corr`; the other fields mean nothing then.
    pub cancel: bool,
    pub code: u16,
    pub corr: u64,
    pub flags: u8,
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    pub charge: u64,
}

/// Our requests. Their waiters do not survive, so late answers are taken in silence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedCalls {
    pub next: u64,
    pub open: Vec<u64>,
    pub done: Vec<u64>,
}

/// The peer's requests that were not answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedAsks {
    pub open: Vec<u64>,
    /// Highest corr per class.
    pub last: Vec<u64>,
}

/// Puts frames behind each other. What does not fit a frame is in no outbox.
pub(super) fn join<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for frame in frames {
        let fits = frame.encode(&mut bytes).is_ok();
        debug_assert!(fits, "a frame over the limit in the outbox");
    }
    bytes.to_vec()
}

/// Takes them apart again. Damaged bytes end the list: the state that they come from has a checksum.
pub(super) fn split(bytes: &[u8]) -> Vec<Frame> {
    let mut decoder = FrameDecoder::default();
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().ok().flatten()).collect()
}

/// The terminal frame of a long result has no payload of its own.
pub(super) fn terminal(bytes: &[u8]) -> Frame {
    let none = Frame { code: 0, class: Class::Durable, flags: Flags::NONE, corr: 0, payload: Bytes::new() };
    split(bytes).pop().unwrap_or(none)
}

impl LinkState {
    /// What another image needs to go on. Pings and pongs are left out: the heartbeat starts anew.
    pub fn carry(&self) -> CarriedBooks {
        CarriedBooks {
            window_bytes: self.rules.window_bytes,
            paused: matches!(self.hold, Hold::Asked | Hold::Quiet),
            pauses: self.pauses,
            outbox: self.outbox.carry(),
            inbox: self.inbox.carry(),
            calls: self.calls.carry(),
            asks: self.asks.carry(),
        }
    }

    /// Goes on where another image stopped. Requests of the peer that nobody will answer any more are refused at once,
    /// those that still wait in the inbox excepted.
    pub fn restore(side: Side, rules: LinkRules, books: CarriedBooks, now_ms: u64) -> Self {
        let rules = LinkRules { window_bytes: books.window_bytes, ..rules };
        let mut state = Self::new(side, rules);
        let late_until_ms = now_ms.saturating_add(state.rules.cancel_grace_ms);
        state.pauses = books.pauses;
        if books.paused {
            state.hold = if books.pauses == 0 { Hold::Quiet } else { Hold::Asked };
        }
        let waiting: Vec<u64> = books.inbox.items.iter().filter(|i| !i.cancel).map(|i| i.corr).collect();
        let unanswered: Vec<u64> =
            books.asks.open.iter().copied().filter(|corr| !waiting.contains(corr)).collect();
        state.outbox.restore(books.outbox);
        state.inbox.restore(books.inbox);
        state.calls.restore(books.calls, late_until_ms);
        state.asks.restore(books.asks);
        for corr in unanswered {
            let error = WireError::unavailable("the gateway was restarted in between; ask again");
            // A full outbox leaves it open: the peer's own deadline closes it.
            let _full = state.reply_error(corr, error);
        }
        state
    }
}
