//! States of an accepted message (PURE).
//!
//! ```text
//! Received ─> Queued ─> Claimed ─> Done
//!     │          │         ├─> Queued   (run cancelled before its turn began)
//!     └──────────┴> Suppressed   └─> Dead ─> Queued (put back by hand)
//! ```

use crate::journal::sql::{Illegal, int_enum};

int_enum! {
    pub enum InboundState {
        Received = 0 "received",
        Queued = 1 "queued",
        Claimed = 2 "claimed",
        Done = 3 "done",
        Suppressed = 4 "suppressed",
        Dead = 5 "dead",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboundEvent {
    Enqueue,
    Suppress,
    Claim,
    Requeue,
    Finish,
    Kill,
    Revive,
}

impl InboundEvent {
    #[cfg(test)]
    pub const ALL: [Self; 7] =
        [Self::Enqueue, Self::Suppress, Self::Claim, Self::Requeue, Self::Finish, Self::Kill, Self::Revive];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Suppress => "suppress",
            Self::Claim => "claim",
            Self::Requeue => "requeue",
            Self::Finish => "finish",
            Self::Kill => "kill",
            Self::Revive => "revive",
        }
    }
}

impl InboundState {
    /// Repetitions of what is already so are allowed: a caller that did not hear the answer asks again.
    pub fn on(self, event: InboundEvent) -> Result<Self, Illegal> {
        use InboundEvent as E;
        use InboundState as S;
        Ok(match (self, event) {
            (S::Received | S::Queued, E::Enqueue) => S::Queued,
            (S::Received | S::Queued | S::Suppressed, E::Suppress) => S::Suppressed,
            (S::Received | S::Queued, E::Claim) => S::Claimed,
            (S::Claimed | S::Queued, E::Requeue) => S::Queued,
            (S::Claimed | S::Done, E::Finish) => S::Done,
            (S::Received | S::Queued | S::Claimed | S::Dead, E::Kill) => S::Dead,
            (S::Dead, E::Revive) => S::Queued,
            _ => return Err(Illegal { from: self.name(), event: event.name() }),
        })
    }
}

#[cfg(test)]
mod tests;
