//! One end of a link as a pure machine: what may be sent, what was received, who owes whom an answer.
//!
//! ```text
//!            send, request, reply, send_lossy                    received
//!                     │                                             │
//!                 ┌───▼────┐  control > credit > pong     ┌─────────▼─────────┐
//!   next_frame ◄──┤ outbox ├  > durable and lossy,        │ violation? credit │──► Effect (answers, pings)
//!                 └────────┘    in order, with credit     └─────────┬─────────┘
//!                                                                 inbox ──► next_delivery (takes over: gives credit back)
//! ```
//!
//! Rules that hold at every moment: credit is never negative; a request gets exactly one terminal frame; every buffer is
//! bounded; after `Paused` nothing but control arrives; a frame that breaks a rule closes the link. No IO and no clock in
//! here: time is a parameter in milliseconds of any monotonic clock.

mod calls;
mod carry;
mod inbox;
mod outbox;
mod types;

use super::control::{Cancel, Credit, LinkControl, Pause, Paused, Ping, Pong, Resume};
use super::frame::{Flags, Frame};
use super::limits;
use super::lossy::{Lossy, SlotOf};
use super::registry::{Class, DecodeError, Wire};
use super::{WireError, decode_payload};
use calls::{Asks, Calls, Settled};
pub use carry::CarriedBooks;
use inbox::Inbox;
use outbox::Outbox;
use std::collections::VecDeque;
pub use types::{
    Answer, Delivery, Effect, Known, LinkRules, Outgoing, Seen, SendRefusal, Side, Tally, Violation,
};

pub(crate) const PART: u16 = 0x0028;
pub(crate) const ERROR: u16 = 0x0029;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Open,
    /// We asked the peer to pause.
    Asked,
    /// It confirmed.
    Quiet,
    /// The peer asked us.
    Told,
}

/// See the module's head.
pub struct LinkState {
    side: Side,
    rules: LinkRules,
    outbox: Outbox,
    inbox: Inbox,
    calls: Calls,
    asks: Asks,
    hold: Hold,
    /// `Pause` frames of ours without a `Paused`. Only the last one's answer means silence: a `Resume` may have crossed it.
    pauses: u32,
    closed: bool,
    tally: Tally,
    seen: VecDeque<Seen>,
}

/// Credit that a frame costs.
pub(crate) fn charge(frame: &Frame) -> u64 {
    match frame.class {
        Class::Control => 0,
        Class::Durable | Class::Lossy => frame.wire_bytes().max(limits::FRAME_CHARGE_BYTES_MIN) as u64,
    }
}

impl LinkState {
    pub fn new(side: Side, rules: LinkRules) -> Self {
        // Less than two frames could stall: one in flight, and the credit of a consumed one not yet worth a frame.
        let window = rules.window_bytes.max(2 * limits::FRAME_BYTES_MAX as u64);
        let rules = LinkRules { window_bytes: window, ..rules };
        Self {
            side,
            outbox: Outbox::new(&rules),
            inbox: Inbox::new(window),
            calls: Calls::new(side),
            asks: Asks::default(),
            hold: Hold::Open,
            pauses: 0,
            closed: false,
            tally: Tally::default(),
            seen: VecDeque::new(),
            rules,
        }
    }

    pub fn tally(&self) -> Tally {
        Tally { lossy_merged: self.outbox.merged(), lossy_dropped: self.outbox.dropped(), ..self.tally }
    }

    /// The last frames received, oldest first.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.seen.iter()
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Credit that is left for sending, bytes.
    pub fn credit_bytes(&self) -> u64 {
        self.outbox.credit()
    }

    /// Bytes in all buffers of this end.
    pub fn buffered_bytes(&self) -> u64 {
        self.outbox.bytes() + self.inbox.bytes() + self.calls.parts_bytes()
    }

    /// Requests of ours without an answer.
    pub fn requests_waiting(&self) -> usize {
        self.calls.len()
    }

    /// Nothing waits to be written.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty()
    }

    // --- sending ---

    /// Queues a message that belongs to no request.
    pub fn send(&mut self, message: Outgoing) -> Result<(), SendRefusal> {
        self.open()?;
        self.outbox.push(message.frame(0))
    }

    /// Queues a request; its answer comes as [`Effect::Answered`] under the returned corr.
    pub fn request(&mut self, message: Outgoing, deadline_ms: u64, now_ms: u64) -> Result<u64, SendRefusal> {
        self.open()?;
        if self.calls.len() >= self.rules.requests_max {
            return Err(SendRefusal::TooManyRequests);
        }
        let corr = self.calls.next_corr();
        self.outbox.push(message.must_understand().frame(corr))?;
        self.calls.start(corr, now_ms.saturating_add(deadline_ms));
        Ok(corr)
    }

    /// Answers a request of the peer. The first answer counts.
    pub fn reply(&mut self, corr: u64, message: Outgoing) -> Result<(), SendRefusal> {
        self.open()?;
        if !self.asks.is_open(corr) {
            return Err(SendRefusal::NotOpen { corr });
        }
        let failed = if message.code == ERROR { Flags::ERROR } else { Flags::NONE };
        let flags = message.flags.with(Flags::IS_RESPONSE).with(Flags::END_STREAM).with(failed);
        let frame = Frame { class: Class::Durable, flags, ..message.frame(corr) };
        self.outbox.push_result(frame, &self.rules)?;
        self.asks.close(corr);
        Ok(())
    }

    pub fn reply_error(&mut self, corr: u64, error: WireError) -> Result<(), SendRefusal> {
        self.reply(corr, Outgoing::of(&LinkControl::Error(error)))
    }

    /// Asks the peer to end a request of ours. Its waiter gets the terminal frame, or `Cancelled` after the grace.
    pub fn cancel(&mut self, corr: u64, now_ms: u64) {
        if self.calls.cancel(corr, now_ms + self.rules.cancel_grace_ms) {
            self.outbox.push_cancel(corr);
        }
    }

    /// The waiter of a request is gone: like [`Self::cancel`], and nobody is told the outcome.
    pub fn abandon(&mut self, corr: u64, now_ms: u64) {
        if self.calls.abandon(corr, now_ms + self.rules.cancel_grace_ms) {
            self.outbox.push_cancel(corr);
        }
    }

    /// Queues a message that may be merged with its successor. Another message of the same type is sent as it is.
    pub fn send_lossy<M: Lossy>(&mut self, message: M) -> Result<(), SendRefusal> {
        self.open()?;
        match message.key() {
            Some(key) => {
                self.outbox.push_lossy(key, Box::new(SlotOf(message)));
                Ok(())
            }
            None => self.outbox.push(Outgoing::of(&message).frame(0)),
        }
    }

    pub fn ping(&mut self, ping: Ping) {
        self.outbox.put_ping(Outgoing::of(&LinkControl::Ping(ping)).frame(0));
    }

    pub fn pong(&mut self, pong: Pong) {
        self.outbox.put_pong(Outgoing::of(&LinkControl::Pong(pong)).frame(0));
    }

    /// Asks the worker to fall silent; ends with [`Effect::Paused`] or the link's end.
    pub fn pause(&mut self) -> Result<(), SendRefusal> {
        self.open()?;
        if self.hold == Hold::Open {
            self.outbox.push(Outgoing::of(&LinkControl::Pause(Pause {})).frame(0))?;
            self.hold = Hold::Asked;
            self.pauses += 1;
        }
        Ok(())
    }

    pub fn resume(&mut self) -> Result<(), SendRefusal> {
        self.open()?;
        if matches!(self.hold, Hold::Asked | Hold::Quiet) {
            self.outbox.push(Outgoing::of(&LinkControl::Resume(Resume {})).frame(0))?;
            self.hold = Hold::Open;
        }
        Ok(())
    }

    /// The next frame to write, `None` when there is none that may go now.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if self.closed {
            return None;
        }
        let frame = match self.inbox.grant() {
            Some(bytes) if !self.outbox.has_control() => {
                Outgoing::of(&LinkControl::Credit(Credit { bytes })).frame(0)
            }
            grant => {
                if let Some(bytes) = grant {
                    self.inbox.give_back(bytes);
                }
                self.outbox.next(self.hold == Hold::Open)?
            }
        };
        self.tally.frames_out += 1;
        Some(frame)
    }

    /// Taken-over bytes are worth a credit frame.
    pub fn owes_credit(&self) -> bool {
        self.inbox.owes_credit()
    }

    // --- receiving ---

    /// Takes one frame from the peer.
    pub fn received(&mut self, frame: Frame, now_ms: u64) -> Result<Vec<Effect>, Violation> {
        if self.closed {
            return Ok(Vec::new());
        }
        self.note(&frame);
        let charge = charge(&frame);
        self.inbox.charge(charge)?;
        if charge > 0 && self.hold == Hold::Quiet {
            return Err(Violation::FrameDuringPause);
        }
        if frame.flags.has(Flags::IS_RESPONSE) {
            self.inbox.taken(charge);
            return self.response(frame);
        }
        match (self.rules.known)(frame.code) {
            Known::Foreign => return Err(Violation::WrongDirection { code: frame.code }),
            Known::No => return self.unknown(frame, charge),
            Known::Yes => {}
        }
        if LinkControl::registry().iter().any(|(code, ..)| *code == frame.code) {
            self.inbox.taken(charge);
            return self.control(frame, now_ms);
        }
        self.ask(&frame)?;
        let Frame { code, corr, flags, payload, .. } = frame;
        self.inbox.push(Delivery::Message { code, corr, flags, payload }, charge)?;
        Ok(Vec::new())
    }

    /// The next item for the consumer. Taking it gives its credit back to the peer.
    pub fn next_delivery(&mut self) -> Option<Delivery> {
        self.inbox.pop()
    }

    /// Deadlines of requests, in both directions.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let (settled, cancels) = self.calls.expire(now_ms, self.rules.cancel_grace_ms);
        for corr in cancels {
            self.outbox.push_cancel(corr);
        }
        // The peer stopped waiting for these: one terminal frame closes its books, a later answer is refused.
        for corr in self.asks.overdue(now_ms) {
            let _ = self.reply_error(corr, WireError::new("CANCELLED", "request was cancelled"));
        }
        settled.into_iter().map(|(corr, answer)| Effect::Answered { corr, answer }).collect()
    }

    /// Ends the link: waiters get `Closed`, nothing more is sent. What was received can still be taken.
    pub fn close(&mut self) -> Vec<Effect> {
        self.closed = true;
        self.outbox.clear();
        let corrs = self.calls.close();
        corrs.into_iter().map(|corr| Effect::Answered { corr, answer: Answer::Closed }).collect()
    }

    /// Drops what was received and not taken.
    pub fn forget_received(&mut self) {
        while self.inbox.pop().is_some() {}
    }

    fn open(&self) -> Result<(), SendRefusal> {
        if self.closed { Err(SendRefusal::Closed) } else { Ok(()) }
    }

    fn note(&mut self, frame: &Frame) {
        self.tally.frames_in += 1;
        if self.seen.len() >= limits::HEADERS_KEPT_MAX {
            self.seen.pop_front();
        }
        let bytes = frame.payload.len();
        self.seen.push_back(Seen { code: frame.code, corr: frame.corr, flags: frame.flags, bytes });
    }

    /// Books a request of the peer, so that it gets exactly one answer.
    fn ask(&mut self, frame: &Frame) -> Result<(), Violation> {
        if frame.corr == 0 {
            return Ok(());
        }
        if self.side.owns(frame.corr) {
            return Err(Violation::WrongCorr { corr: frame.corr });
        }
        self.asks.open(frame.corr, frame.class, 2 * self.rules.requests_max)
    }

    fn unknown(&mut self, frame: Frame, charge: u64) -> Result<Vec<Effect>, Violation> {
        self.inbox.taken(charge);
        self.tally.unknown_ignored += 1;
        if frame.flags.has(Flags::MUST_UNDERSTAND) && frame.corr != 0 {
            self.ask(&frame)?;
            let text = format!("message {:#06x} is not known to this build", frame.code);
            let _ = self.reply_error(frame.corr, WireError::new("UNSUPPORTED", text));
        }
        Ok(Vec::new())
    }

    fn response(&mut self, frame: Frame) -> Result<Vec<Effect>, Violation> {
        let corr = frame.corr;
        if !self.side.owns(corr) {
            return Err(Violation::WrongCorr { corr });
        }
        match self.calls.answer(frame, self.rules.result_bytes_max)? {
            Settled::More => Ok(Vec::new()),
            Settled::Late => {
                self.tally.late_answers += 1;
                Ok(Vec::new())
            }
            Settled::Silent => Ok(Vec::new()),
            Settled::Done(answer) => Ok(vec![Effect::Answered { corr, answer }]),
        }
    }

    fn control(&mut self, frame: Frame, now_ms: u64) -> Result<Vec<Effect>, Violation> {
        if frame.class != Class::Control {
            // Parts, errors and `Done` exist only as answers.
            return Err(Violation::WrongClass { code: frame.code });
        }
        match LinkControl::decode(frame.code, &frame.payload)? {
            LinkControl::Ping(ping) => return Ok(vec![Effect::Ping(ping)]),
            LinkControl::Pong(pong) => return Ok(vec![Effect::Pong(pong)]),
            LinkControl::Credit(Credit { bytes }) => self.outbox.credited(bytes)?,
            LinkControl::Cancel(Cancel {}) => {
                if self.asks.cancel(frame.corr, now_ms + self.rules.cancel_grace_ms) {
                    self.inbox.push(Delivery::Cancel { corr: frame.corr }, 0)?;
                }
            }
            LinkControl::Pause(Pause {}) if self.side == Side::Worker => {
                if self.hold != Hold::Told {
                    self.hold = Hold::Told;
                    self.outbox.put_paused();
                }
            }
            LinkControl::Resume(Resume {}) if self.side == Side::Worker => self.hold = Hold::Open,
            LinkControl::Paused(Paused {}) if self.pauses > 0 => {
                self.pauses -= 1;
                if self.pauses == 0 && self.hold == Hold::Asked {
                    self.hold = Hold::Quiet;
                    return Ok(vec![Effect::Paused]);
                }
            }
            LinkControl::Pause(_) | LinkControl::Paused(_) | LinkControl::Resume(_) => {
                return Err(Violation::WrongDirection { code: frame.code });
            }
            LinkControl::Part(_) | LinkControl::Error(_) | LinkControl::Done(_) => {
                return Err(Violation::WrongClass { code: frame.code });
            }
        }
        Ok(Vec::new())
    }
}

/// Reads the error of a terminal frame; a malformed one is still an answer.
fn wire_error(payload: &[u8]) -> Result<WireError, DecodeError> {
    decode_payload(ERROR, payload)
}

#[cfg(test)]
mod tests;
