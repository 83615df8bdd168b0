//! Who owes whom an answer: our requests ([`Calls`]) and the peer's ([`Asks`]).

use super::carry::{CarriedAsks, CarriedCalls};
use super::{Answer, PART, Side, Violation, wire_error};
use crate::wire::control::Part;
use crate::wire::decode_payload;
use crate::wire::frame::{Flags, Frame};
use crate::wire::limits::{DONE_CORRS_MAX, RESULTS_BYTES_MAX};
use crate::wire::registry::Class;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Until(u64),
    /// Cancel was sent; the waiter still wants the outcome.
    Cancelling(u64),
    /// Nobody waits; the entry only tells a late answer from a wrong one.
    Abandoned(u64),
}

struct Call {
    wait: Wait,
    parts: BytesMut,
}

/// What an answer frame did.
pub(super) enum Settled {
    More,
    Late,
    /// Terminal, but its waiter is gone.
    Silent,
    Done(Answer),
}

/// Our requests without a terminal frame.
pub(super) struct Calls {
    open: BTreeMap<u64, Call>,
    next: u64,
    done: VecDeque<u64>,
    parts_bytes: usize,
}

impl Calls {
    pub(super) fn new(side: Side) -> Self {
        let next = if side == Side::Supervisor { 1 } else { 2 };
        Self { open: BTreeMap::new(), next, done: VecDeque::new(), parts_bytes: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn parts_bytes(&self) -> u64 {
        self.parts_bytes as u64
    }

    /// The corr of the next request; it is used up only by [`Self::start`].
    pub(super) fn next_corr(&self) -> u64 {
        self.next
    }

    pub(super) fn start(&mut self, corr: u64, until_ms: u64) {
        self.next = corr + 2;
        self.open.insert(corr, Call { wait: Wait::Until(until_ms), parts: BytesMut::new() });
    }

    /// True when the peer has to be told.
    pub(super) fn cancel(&mut self, corr: u64, until_ms: u64) -> bool {
        match self.open.get_mut(&corr) {
            Some(call) if matches!(call.wait, Wait::Until(_)) => {
                call.wait = Wait::Cancelling(until_ms);
                true
            }
            _ => false,
        }
    }

    pub(super) fn abandon(&mut self, corr: u64, until_ms: u64) -> bool {
        let Some(call) = self.open.get_mut(&corr) else { return false };
        let told = !matches!(call.wait, Wait::Until(_));
        call.wait = Wait::Abandoned(until_ms);
        self.parts_bytes -= std::mem::take(&mut call.parts).len();
        !told
    }

    pub(super) fn answer(&mut self, frame: Frame, result_bytes_max: usize) -> Result<Settled, Violation> {
        let corr = frame.corr;
        let Some(call) = self.open.get_mut(&corr) else {
            if corr >= self.next {
                return Err(Violation::WrongCorr { corr });
            }
            if self.done.contains(&corr) {
                return Err(Violation::SecondTerminal { corr });
            }
            return Ok(Settled::Late);
        };
        if frame.code == PART && !frame.flags.has(Flags::END_STREAM) {
            let part: Part = decode_payload(PART, &frame.payload)?;
            if matches!(call.wait, Wait::Abandoned(_)) {
                return Ok(Settled::More);
            }
            let bytes = part.bytes.len();
            if call.parts.len() + bytes > result_bytes_max || self.parts_bytes + bytes > RESULTS_BYTES_MAX {
                return Err(Violation::ResultTooLarge { corr, max: result_bytes_max });
            }
            call.parts.extend_from_slice(&part.bytes);
            self.parts_bytes += bytes;
            return Ok(Settled::More);
        }
        let Some(call) = self.open.remove(&corr) else { return Ok(Settled::Late) };
        self.parts_bytes -= call.parts.len();
        self.remember(corr);
        if matches!(call.wait, Wait::Abandoned(_)) {
            return Ok(Settled::Silent);
        }
        Ok(Settled::Done(outcome(frame, call.parts.freeze())?))
    }

    fn remember(&mut self, corr: u64) {
        if self.done.len() >= DONE_CORRS_MAX {
            self.done.pop_front();
        }
        self.done.push_back(corr);
    }

    /// Requests whose time is up: those to answer, and those whose peer must be told.
    pub(super) fn expire(&mut self, now_ms: u64, grace_ms: u64) -> (Vec<(u64, Answer)>, Vec<u64>) {
        let (mut settled, mut cancels, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (&corr, call) in &mut self.open {
            match call.wait {
                Wait::Until(at) if at <= now_ms => {
                    settled.push((corr, Answer::TimedOut));
                    cancels.push(corr);
                    call.wait = Wait::Abandoned(now_ms + grace_ms);
                    self.parts_bytes -= std::mem::take(&mut call.parts).len();
                }
                Wait::Cancelling(at) if at <= now_ms => {
                    settled.push((corr, Answer::Cancelled));
                    gone.push(corr);
                }
                Wait::Abandoned(at) if at <= now_ms => gone.push(corr),
                _ => {}
            }
        }
        for corr in gone {
            if let Some(call) = self.open.remove(&corr) {
                self.parts_bytes -= call.parts.len();
            }
        }
        (settled, cancels)
    }

    pub(super) fn carry(&self) -> CarriedCalls {
        CarriedCalls {
            next: self.next,
            open: self.open.keys().copied().collect(),
            done: self.done.iter().copied().collect(),
        }
    }

    /// Nobody waits for the open ones any more.
    pub(super) fn restore(&mut self, carried: CarriedCalls, until_ms: u64) {
        self.next = self.next.max(carried.next);
        self.done.extend(carried.done);
        for corr in carried.open {
            self.open.insert(corr, Call { wait: Wait::Abandoned(until_ms), parts: BytesMut::new() });
        }
    }

    /// Forgets all; returns those that still have a waiter.
    pub(super) fn close(&mut self) -> Vec<u64> {
        self.parts_bytes = 0;
        let open = std::mem::take(&mut self.open);
        open.into_iter()
            .filter(|(_, call)| !matches!(call.wait, Wait::Abandoned(_)))
            .map(|(corr, _)| corr)
            .collect()
    }
}

fn outcome(frame: Frame, parts: Bytes) -> Result<Answer, Violation> {
    if frame.flags.has(Flags::ERROR) {
        return Ok(Answer::Refused(wire_error(&frame.payload)?));
    }
    let payload = if parts.is_empty() { frame.payload } else { parts };
    Ok(Answer::Ok { code: frame.code, payload })
}

/// The peer's requests that we have not answered.
#[derive(Default)]
pub(super) struct Asks {
    /// Corr → when a cancelled request is answered for its handler.
    open: BTreeMap<u64, Option<u64>>,
    /// Highest corr per class. Frames of one class keep their order, so a corr that does not rise is a replay.
    last: [u64; 3],
}

impl Asks {
    pub(super) fn open(&mut self, corr: u64, class: Class, max: usize) -> Result<(), Violation> {
        let last = match class {
            Class::Control => &mut self.last[0],
            Class::Durable => &mut self.last[1],
            Class::Lossy => &mut self.last[2],
        };
        if corr <= *last || self.open.contains_key(&corr) {
            return Err(Violation::ReplayedCorr { corr });
        }
        *last = corr;
        if self.open.len() >= max {
            return Err(Violation::RequestFlood);
        }
        self.open.insert(corr, None);
        Ok(())
    }

    pub(super) fn carry(&self) -> CarriedAsks {
        CarriedAsks { open: self.open.keys().copied().collect(), last: self.last.to_vec() }
    }

    pub(super) fn restore(&mut self, carried: CarriedAsks) {
        self.open.extend(carried.open.into_iter().map(|corr| (corr, None)));
        for (last, carried) in self.last.iter_mut().zip(carried.last) {
            *last = carried;
        }
    }

    pub(super) fn is_open(&self, corr: u64) -> bool {
        self.open.contains_key(&corr)
    }

    pub(super) fn close(&mut self, corr: u64) {
        self.open.remove(&corr);
    }

    /// True for the first cancel of an open request.
    pub(super) fn cancel(&mut self, corr: u64, until_ms: u64) -> bool {
        match self.open.get_mut(&corr) {
            Some(cancelled @ None) => {
                *cancelled = Some(until_ms);
                true
            }
            _ => false,
        }
    }

    pub(super) fn overdue(&self, now_ms: u64) -> Vec<u64> {
        self.open.iter().filter(|(_, at)| at.is_some_and(|at| at <= now_ms)).map(|(corr, _)| *corr).collect()
    }
}
