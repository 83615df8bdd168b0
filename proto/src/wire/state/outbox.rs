//! What waits to be written. Control overtakes; durable and lossy frames keep their order among each other, so that a
//! tool event never stands before the text that led to it.

use super::carry::{self, CarriedOutbox, CarriedResult};
use super::{LinkRules, Outgoing, PART, SendRefusal, Violation, charge};
use crate::wire::control::{Cancel, LinkControl, Part, Paused};
use crate::wire::frame::{Flags, Frame};
use crate::wire::limits::{
    FRAME_BYTES_MAX, FRAME_HEADER_BYTES, LOSSY_QUEUE_BYTES_MAX, LOSSY_SLOT_BYTES_MAX, LOSSY_SLOTS_MAX,
    RESULTS_BYTES_MAX,
};
use crate::wire::lossy::Slot;
use crate::wire::registry::Class;
use bytes::Bytes;
use std::collections::VecDeque;

enum Entry {
    Durable(Frame),
    Lossy { key: Vec<u8>, slot: Box<dyn Slot> },
}

/// A result that goes out as parts.
struct LongResult {
    last: Frame,
    rest: Bytes,
}

#[derive(Default)]
struct Counts {
    durable: usize,
    durable_bytes: u64,
    slots: usize,
    lossy_bytes: usize,
    result_bytes: usize,
    merged: u64,
    dropped: u64,
}

pub(super) struct Outbox {
    control: VecDeque<Frame>,
    cancels: VecDeque<u64>,
    /// One place each: a peer that asks faster than it reads gets the newest answer only.
    ping: Option<Frame>,
    pong: Option<Frame>,
    /// Every `Pause` is answered by one `Paused`.
    paused: u32,
    entries: VecDeque<Entry>,
    results: VecDeque<LongResult>,
    result_turn: bool,
    counts: Counts,
    credit: u64,
    rules: LinkRules,
}

impl Outbox {
    pub(super) fn new(rules: &LinkRules) -> Self {
        Self {
            control: VecDeque::new(),
            cancels: VecDeque::new(),
            ping: None,
            pong: None,
            paused: 0,
            entries: VecDeque::new(),
            results: VecDeque::new(),
            result_turn: false,
            counts: Counts::default(),
            credit: rules.window_bytes,
            rules: rules.clone(),
        }
    }

    pub(super) fn credit(&self) -> u64 {
        self.credit
    }

    pub(super) fn merged(&self) -> u64 {
        self.counts.merged
    }

    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped
    }

    pub(super) fn bytes(&self) -> u64 {
        self.counts.durable_bytes + (self.counts.lossy_bytes + self.counts.result_bytes) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.has_control() && self.entries.is_empty() && self.results.is_empty()
    }

    pub(super) fn has_control(&self) -> bool {
        !self.control.is_empty() || !self.cancels.is_empty() || self.paused > 0
    }

    /// Lossy slots go along as the frames that they would have become.
    pub(super) fn carry(&self) -> CarriedOutbox {
        let entries: Vec<Frame> = self
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Durable(frame) => frame.clone(),
                Entry::Lossy { slot, .. } => slot.outgoing().frame(0),
            })
            .collect();
        let result = |long: &LongResult| CarriedResult {
            last: carry::join(std::iter::once(&long.last)),
            rest: long.rest.to_vec(),
        };
        CarriedOutbox {
            control: carry::join(self.control.iter()),
            cancels: self.cancels.iter().copied().collect(),
            entries: carry::join(entries.iter()),
            results: self.results.iter().map(result).collect(),
            credit: self.credit,
        }
    }

    /// Bounds do not apply: all of it was in an outbox before.
    pub(super) fn restore(&mut self, carried: CarriedOutbox) {
        self.control.extend(carry::split(&carried.control));
        self.cancels.extend(carried.cancels);
        for frame in carry::split(&carried.entries) {
            self.counts.durable += 1;
            self.counts.durable_bytes += charge(&frame);
            self.entries.push_back(Entry::Durable(frame));
        }
        for result in carried.results {
            self.counts.result_bytes += result.rest.len();
            let last = carry::terminal(&result.last);
            self.results.push_back(LongResult { last, rest: result.rest.into() });
        }
        self.credit = carried.credit.min(self.rules.window_bytes);
    }

    pub(super) fn clear(&mut self) {
        *self = Self { credit: self.credit, ..Self::new(&self.rules) };
    }

    pub(super) fn credited(&mut self, bytes: u64) -> Result<(), Violation> {
        let credit = self.credit.saturating_add(bytes);
        if credit > self.rules.window_bytes {
            return Err(Violation::CreditForged);
        }
        self.credit = credit;
        Ok(())
    }

    pub(super) fn push(&mut self, frame: Frame) -> Result<(), SendRefusal> {
        let bytes = FRAME_HEADER_BYTES + frame.payload.len();
        if bytes > FRAME_BYTES_MAX {
            return Err(SendRefusal::TooLarge { bytes });
        }
        if frame.class == Class::Control {
            if self.control.len() >= self.rules.control_queue_max {
                return Err(SendRefusal::Full);
            }
            self.control.push_back(frame);
            return Ok(());
        }
        let cost = charge(&frame);
        if self.counts.durable >= self.rules.durable_queue_max
            || self.counts.durable_bytes + cost > self.rules.window_bytes
        {
            return Err(SendRefusal::Full);
        }
        self.counts.durable += 1;
        self.counts.durable_bytes += cost;
        self.entries.push_back(Entry::Durable(frame));
        Ok(())
    }

    /// Queues a terminal frame, cut into parts when it is large.
    pub(super) fn push_result(&mut self, frame: Frame, rules: &LinkRules) -> Result<(), SendRefusal> {
        let bytes = frame.payload.len();
        if bytes <= rules.part_bytes {
            return self.push(frame);
        }
        if bytes > rules.result_bytes_max {
            return Err(SendRefusal::TooLarge { bytes });
        }
        if self.counts.result_bytes + bytes > RESULTS_BYTES_MAX {
            return Err(SendRefusal::Full);
        }
        self.counts.result_bytes += bytes;
        let rest = frame.payload.clone();
        self.results.push_back(LongResult { last: Frame { payload: Bytes::new(), ..frame }, rest });
        Ok(())
    }

    pub(super) fn push_cancel(&mut self, corr: u64) {
        self.cancels.push_back(corr);
    }

    pub(super) fn put_ping(&mut self, frame: Frame) {
        self.ping = Some(frame);
    }

    pub(super) fn put_pong(&mut self, frame: Frame) {
        self.pong = Some(frame);
    }

    pub(super) fn put_paused(&mut self) {
        self.paused += 1;
    }

    /// Merges with a waiting message of the same key, unless a durable one stands between them.
    pub(super) fn push_lossy(&mut self, key: Vec<u8>, mut newer: Box<dyn Slot>) {
        let weight = newer.weight();
        if self.counts.lossy_bytes + weight > LOSSY_QUEUE_BYTES_MAX || weight > FRAME_BYTES_MAX / 2 {
            self.counts.dropped += 1;
            return;
        }
        for entry in self.entries.iter_mut().rev() {
            let Entry::Lossy { key: held, slot } = entry else { break };
            if *held != key {
                continue;
            }
            if slot.weight() + weight > LOSSY_SLOT_BYTES_MAX {
                break;
            }
            let before = slot.weight();
            match slot.absorb(newer) {
                None => {
                    self.counts.lossy_bytes = self.counts.lossy_bytes - before + slot.weight();
                    self.counts.merged += 1;
                    return;
                }
                Some(back) => newer = back,
            }
        }
        if self.counts.slots >= LOSSY_SLOTS_MAX {
            self.counts.dropped += 1;
            return;
        }
        self.counts.slots += 1;
        self.counts.lossy_bytes += weight;
        self.entries.push_back(Entry::Lossy { key, slot: newer });
    }

    /// The next frame; `flowing` is false while the link is paused.
    pub(super) fn next(&mut self, flowing: bool) -> Option<Frame> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        if let Some(corr) = self.cancels.pop_front() {
            return Some(Outgoing::of(&LinkControl::Cancel(Cancel {})).frame(corr));
        }
        if let Some(frame) = self.pong.take().or_else(|| self.ping.take()) {
            return Some(frame);
        }
        if self.paused > 0 {
            self.paused -= 1;
            return Some(Outgoing::of(&LinkControl::Paused(Paused {})).frame(0));
        }
        if !flowing {
            return None;
        }
        self.result_turn = !self.result_turn;
        let frame = if self.result_turn {
            self.next_part().or_else(|| self.next_entry())
        } else {
            self.next_entry().or_else(|| self.next_part())
        }?;
        self.credit -= charge(&frame);
        Some(frame)
    }

    fn next_entry(&mut self) -> Option<Frame> {
        let frame = match self.entries.front()? {
            Entry::Durable(frame) if charge(frame) <= self.credit => frame.clone(),
            Entry::Durable(_) => return None,
            Entry::Lossy { slot, .. } => {
                // Encoding may differ from the weight: the real frame decides.
                let frame = slot.outgoing().frame(0);
                if charge(&frame) > self.credit {
                    return None;
                }
                frame
            }
        };
        match self.entries.pop_front()? {
            Entry::Durable(frame) => {
                self.counts.durable -= 1;
                self.counts.durable_bytes -= charge(&frame);
            }
            Entry::Lossy { slot, .. } => {
                self.counts.slots -= 1;
                self.counts.lossy_bytes -= slot.weight();
            }
        }
        Some(frame)
    }

    fn next_part(&mut self) -> Option<Frame> {
        let front = self.results.front_mut()?;
        if front.rest.is_empty() {
            if charge(&front.last) > self.credit {
                return None;
            }
            return self.results.pop_front().map(|result| result.last);
        }
        let take = front.rest.len().min(self.rules.part_bytes);
        let part = Part { bytes: front.rest.slice(..take).to_vec() };
        let message = Outgoing::of(&LinkControl::Part(part));
        let frame = Frame { flags: Flags::IS_RESPONSE, ..message.frame(front.last.corr) };
        debug_assert_eq!(frame.code, PART);
        if charge(&frame) > self.credit {
            return None;
        }
        front.rest = front.rest.slice(take..);
        self.counts.result_bytes -= take;
        Some(frame)
    }
}
