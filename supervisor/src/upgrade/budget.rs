//! How long each step of the way to the exec may take, and all of them together. What is not done by then is left out and
//! settled by the next image; nothing is lost by it but time.

use std::time::Duration;
use tokio::time::Instant;

/// Every wait of the way to the exec is over by then. A gateway that is told to stop meanwhile is not held up by it.
const ALL: Duration = Duration::from_secs(25);
/// A step whose time is up already still takes what is ready.
const LEAST: Duration = Duration::from_millis(200);

/// The core takes the order between two commands; one may be for a session that is in the middle of a step.
pub const PACE: Duration = Duration::from_secs(2);
/// A session answers between two of its steps; the longest is a message that it offers to its running turn (5 s).
pub const SETTLE: Duration = Duration::from_secs(7);
/// A worker's task that is in the middle of a start answers after it: journal and configuration within 5 s each.
pub const QUIET: Duration = Duration::from_secs(11);
/// The intakes get 2 s to store what they hold; every other event is worked off at once.
pub const FENCE: Duration = Duration::from_secs(4);
/// A session that settled answers at once. One that did not gets a last chance.
pub const RUNS: Duration = Duration::from_secs(3);
/// An account's task waits for the journal, or for one question to the network (15 s), which is asked again.
pub const ACCOUNTS: Duration = Duration::from_secs(3);
/// Workers' tasks that are quiet answer at once.
pub const WORKERS: Duration = Duration::from_secs(3);
/// The last batch and a sync; a slow disk needs seconds. The log of one that was not closed is read by the next image.
pub const JOURNAL: Duration = Duration::from_secs(5);

/// What all steps have together.
pub struct Budget {
    end: Instant,
}

impl Budget {
    pub fn begin(now: Instant) -> Self {
        Self { end: now + ALL }
    }

    /// Until when a step that begins now may take, which may take so long at most.
    pub fn until(&self, now: Instant, limit: Duration) -> Instant {
        (now + limit).min(self.end).max(now + LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::give_way::GIVE_WAY_SECONDS;

    #[test]
    fn all_steps_end_well_before_the_alarm() {
        let begin = Instant::now();
        let budget = Budget::begin(begin);
        assert_eq!(budget.until(begin, PACE), begin + PACE);
        let mut now = begin;
        for step in [PACE, SETTLE, QUIET, FENCE, RUNS, ACCOUNTS, WORKERS, JOURNAL] {
            now = budget.until(now, step);
        }
        // Before the first step the clients are held (3 s), after the last waits they are taken apart (1 s).
        let all = now - begin + Duration::from_secs(4);
        assert!(all * 5 <= Duration::from_secs(GIVE_WAY_SECONDS.into()) * 4, "{all:?}");
    }
}
