//! What was received and not yet taken by the consumer, and the peer's credit.

use super::carry::{CarriedInbox, CarriedItem};
use super::{Delivery, Violation};
use crate::wire::frame::Flags;
use crate::wire::limits::{CONTROL_INBOX_BYTES_MAX, CONTROL_INBOX_MAX};
use std::collections::VecDeque;

/// Credit goes back in pieces of at least this share of the window: fewer frames, and never so late that a full frame
/// of the peer has to wait for it (7/8 of two frames is more than one).
const GRANT_SHARE: u64 = 8;

pub(super) struct Inbox {
    items: VecDeque<(Delivery, u64)>,
    window: u64,
    /// Charged and not yet given back.
    held: u64,
    /// Taken over, waiting to be worth a credit frame.
    owed: u64,
    /// Charged and still in `items`.
    waiting: u64,
    control: usize,
    control_bytes: usize,
}

impl Inbox {
    pub(super) fn new(window: u64) -> Self {
        Self { items: VecDeque::new(), window, held: 0, owed: 0, waiting: 0, control: 0, control_bytes: 0 }
    }

    pub(super) fn carry(&self) -> CarriedInbox {
        let item = |(delivery, charge): &(Delivery, u64)| match delivery {
            Delivery::Message { code, corr, flags, payload } => CarriedItem {
                code: *code,
                corr: *corr,
                flags: flags.0,
                payload: payload.to_vec(),
                charge: *charge,
                ..CarriedItem::default()
            },
            Delivery::Cancel { corr } => {
                CarriedItem { cancel: true, corr: *corr, charge: *charge, ..CarriedItem::default() }
            }
        };
        CarriedInbox { items: self.items.iter().map(item).collect(), held: self.held, owed: self.owed }
    }

    /// Bounds were kept when the items came.
    pub(super) fn restore(&mut self, carried: CarriedInbox) {
        for item in carried.items {
            let CarriedItem { cancel, code, corr, flags, payload, charge } = item;
            let delivery = if cancel {
                Delivery::Cancel { corr }
            } else {
                Delivery::Message { code, corr, flags: Flags(flags), payload: payload.into() }
            };
            if charge == 0 {
                self.control += 1;
                self.control_bytes += size(&delivery);
            }
            self.waiting += charge;
            self.items.push_back((delivery, charge));
        }
        (self.held, self.owed) = (carried.held, carried.owed);
    }

    pub(super) fn charge(&mut self, bytes: u64) -> Result<(), Violation> {
        self.held += bytes;
        if self.held > self.window {
            return Err(Violation::CreditOverrun { over: self.held - self.window });
        }
        Ok(())
    }

    pub(super) fn taken(&mut self, bytes: u64) {
        self.owed += bytes;
    }

    pub(super) fn push(&mut self, item: Delivery, charge: u64) -> Result<(), Violation> {
        if charge == 0 {
            self.control += 1;
            self.control_bytes += size(&item);
            if self.control > CONTROL_INBOX_MAX || self.control_bytes > CONTROL_INBOX_BYTES_MAX {
                return Err(Violation::ControlFlood);
            }
        }
        self.waiting += charge;
        self.items.push_back((item, charge));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Delivery> {
        let (item, charge) = self.items.pop_front()?;
        if charge == 0 {
            self.control -= 1;
            self.control_bytes -= size(&item);
        }
        self.waiting -= charge;
        self.taken(charge);
        Some(item)
    }

    pub(super) fn owes_credit(&self) -> bool {
        self.owed >= self.window / GRANT_SHARE
    }

    /// Credit that is worth a frame now; it counts as given back.
    pub(super) fn grant(&mut self) -> Option<u64> {
        if !self.owes_credit() {
            return None;
        }
        let bytes = std::mem::take(&mut self.owed);
        self.held -= bytes;
        Some(bytes)
    }

    /// The frame could not go yet.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.owed += bytes;
        self.held += bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.waiting + self.control_bytes as u64
    }
}

fn size(item: &Delivery) -> usize {
    match item {
        Delivery::Message { payload, .. } => payload.len(),
        Delivery::Cancel { .. } => 0,
    }
}
