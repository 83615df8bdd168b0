//! States of a run, and whether an interrupted one may go on (PURE).
//!
//! ```text
//! Pending ─> Started ─> Final ─> Closed (everything delivered)
//!    │        │   ^
//!    │        v   │ attempt + 1
//!    │     Interrupted
//!    └────────┴───┴──> Cancelled | TimedOut | Failed | Poisoned | Abandoned
//! ```

use crate::journal::sql::{Illegal, int_enum};
use crate::journal::types::{RunCounts, RunTimes};

int_enum! {
    pub enum RunState {
        Pending = 0 "pending",
        Started = 1 "started",
        Interrupted = 2 "interrupted",
        Final = 3 "final",
        Closed = 4 "closed",
        Cancelled = 5 "cancelled",
        TimedOut = 6 "timed out",
        Failed = 7 "failed",
        Poisoned = 8 "poisoned",
        Abandoned = 9 "abandoned",
    }
}

/// Self-inflicted deaths of the worker with the same run in flight, after which the run is to blame.
pub const RUN_CRASHES_MAX: u32 = 3;
/// Wall-clock age after which nobody waits for an answer any more (60 min).
pub const RUN_RESUME_AGE_US_MAX: i64 = 60 * 60 * 1_000_000;

/// Who ended the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptCause {
    /// The worker died by its own doing: signal of its own, abort, out of memory, unasked exit. Counts against the run.
    SelfInflicted,
    /// It was killed from outside, or the supervisor was. Punishes nobody.
    Outside,
    /// We stopped it.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "workers that are stopped by hand are told apart in the next step")
    )]
    Stop,
}

impl InterruptCause {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfInflicted => "the agent's worker died by its own doing",
            Self::Outside => "the agent's worker or the gateway was ended from outside",
            Self::Stop => "the agent's worker was stopped",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEvent {
    Start,
    Interrupt,
    Finish,
    Cancel,
    TimeOut,
    Fail,
    Poison,
    Abandon,
    Close,
}

impl RunEvent {
    #[cfg(test)]
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Interrupt,
        Self::Finish,
        Self::Cancel,
        Self::TimeOut,
        Self::Fail,
        Self::Poison,
        Self::Abandon,
        Self::Close,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Interrupt => "interrupt",
            Self::Finish => "finish",
            Self::Cancel => "cancel",
            Self::TimeOut => "time out",
            Self::Fail => "fail",
            Self::Poison => "poison",
            Self::Abandon => "abandon",
            Self::Close => "close",
        }
    }
}

impl RunState {
    pub fn on(self, event: RunEvent) -> Result<Self, Illegal> {
        use RunEvent as E;
        use RunState as S;
        Ok(match (self, event) {
            (S::Pending | S::Interrupted, E::Start) => S::Started,
            (S::Started | S::Interrupted, E::Interrupt) => S::Interrupted,
            // A final can arrive for an attempt that was already written off: its transcript is complete, believe it.
            (S::Started | S::Interrupted, E::Finish) => S::Final,
            (S::Pending | S::Started | S::Interrupted, E::Cancel) => S::Cancelled,
            (S::Pending | S::Started | S::Interrupted, E::TimeOut) => S::TimedOut,
            (S::Pending | S::Started | S::Interrupted, E::Fail) => S::Failed,
            (S::Interrupted | S::Started, E::Poison) => S::Poisoned,
            (S::Pending | S::Interrupted, E::Abandon) => S::Abandoned,
            (S::Final | S::Closed, E::Close) => S::Closed,
            _ => return Err(Illegal { from: self.name(), event: event.name() }),
        })
    }

    /// Nothing more will be computed for it.
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Started | Self::Interrupted)
    }

    /// The event that ends a run in this state; `None` for states that are no end.
    pub const fn ending(self) -> Option<RunEvent> {
        Some(match self {
            Self::Final => RunEvent::Finish,
            Self::Cancelled => RunEvent::Cancel,
            Self::TimedOut => RunEvent::TimeOut,
            Self::Failed => RunEvent::Fail,
            Self::Poisoned => RunEvent::Poison,
            Self::Abandoned => RunEvent::Abandon,
            Self::Pending | Self::Started | Self::Interrupted | Self::Closed => return None,
        })
    }
}

/// What to do with an interrupted run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Resume,
    /// It took its worker down too often: end it, keep its messages as dead letters, say so.
    Poisoned,
    /// Too old: end it with one note to the user.
    Abandoned,
}

/// Interruptions from outside never count; only self-inflicted deaths and age do.
pub fn verdict(counts: RunCounts, times: RunTimes, now_us: i64) -> Verdict {
    if counts.crashes >= RUN_CRASHES_MAX {
        return Verdict::Poisoned;
    }
    let overdue = times.deadline_us.is_some_and(|deadline| now_us > deadline);
    if overdue || now_us.saturating_sub(times.created_us) > RUN_RESUME_AGE_US_MAX {
        return Verdict::Abandoned;
    }
    Verdict::Resume
}

#[cfg(test)]
mod tests;
