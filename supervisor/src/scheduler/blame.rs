//! Which run is to blame when an agent's worker dies by its own doing.
//!
//! One that was alone with the worker: its death counts against it, three of them set its message aside. Of several nobody
//! is counted, since most of them are innocent: they go on one after the other, and nothing new begins beside them, so
//! that the next death names one. Time is a parameter of the rules; [`Blame`] waits by them.

use proto::wire::Id;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// A suspect has its worker to itself for so long; then all others go on beside it. A run may well wait for another run
/// of its own agent, and most that kill their worker do so within seconds (1 min).
const ALONE_MS_MAX: u64 = 60_000;

/// One agent's runs.
#[derive(Debug, Default)]
struct Runs {
    /// Those that a worker has, each with the start (epoch) of that worker.
    running: HashMap<Id, u64>,
    /// Were with their worker when it died. The first has the worker to itself.
    suspects: VecDeque<Id>,
    /// When the first suspect's time alone is over.
    until: Option<Instant>,
}

impl Runs {
    fn begins(&mut self, run_id: Id, epoch: u64, now: Instant) {
        self.running.insert(run_id, epoch);
        if self.suspects.front() == Some(&run_id) {
            self.next_turn(now);
        }
    }

    fn ends(&mut self, run_id: Id, now: Instant) {
        self.running.remove(&run_id);
        let was_first = self.suspects.front() == Some(&run_id);
        self.suspects.retain(|suspect| *suspect != run_id);
        if was_first {
            self.next_turn(now);
        }
    }

    /// `true` when the death counts against the run that was there.
    fn died(&mut self, epoch: u64, own_fault: bool, now: Instant) -> bool {
        let mut there: Vec<Id> =
            self.running.iter().filter(|(_, of)| **of == epoch).map(|(run_id, _)| *run_id).collect();
        self.running.retain(|_, of| *of != epoch);
        if !own_fault {
            return false;
        }
        // Identifiers grow with time: the oldest goes on first.
        there.sort_unstable();
        match there.as_slice() {
            [only] => {
                // It has shown what it does: the others get their turn before it.
                if let Some(at) = self.suspects.iter().position(|suspect| suspect == only) {
                    self.suspects.remove(at);
                    self.suspects.push_back(*only);
                }
            }
            several => {
                for run_id in several {
                    if !self.suspects.contains(run_id) {
                        self.suspects.push_back(*run_id);
                    }
                }
            }
        }
        self.next_turn(now);
        there.len() == 1
    }

    fn next_turn(&mut self, now: Instant) {
        self.until = Some(now + Duration::from_millis(ALONE_MS_MAX));
    }

    /// `None`: it may start. Otherwise when to ask again at the latest.
    fn waits(&mut self, run_id: Id, now: Instant) -> Option<Instant> {
        let first = *self.suspects.front()?;
        let until = self.until.unwrap_or(now);
        if until <= now {
            self.suspects.clear();
            return None;
        }
        let alone = self.running.keys().all(|other| *other == run_id);
        (first != run_id || !alone).then_some(until)
    }
}

/// All agents' runs. Lives on the core's thread.
#[derive(Default)]
pub struct Blame {
    agents: RefCell<HashMap<String, Runs>>,
    changed: Notify,
}

impl Blame {
    fn change<T>(&self, agent_id: &str, change: impl FnOnce(&mut Runs) -> T) -> T {
        let result = change(self.agents.borrow_mut().entry(agent_id.to_owned()).or_default());
        self.changed.notify_waiters();
        result
    }

    /// A worker has the run.
    pub fn begins(&self, agent_id: &str, run_id: Id, epoch: u64) {
        self.change(agent_id, |runs| runs.begins(run_id, epoch, Instant::now()));
    }

    /// The run has ended, whether a worker had it or not.
    pub fn ends(&self, agent_id: &str, run_id: Id) {
        self.change(agent_id, |runs| runs.ends(run_id, Instant::now()));
    }

    /// The worker is dead. `true` when that counts against the one run that it had.
    pub fn died(&self, agent_id: &str, epoch: u64, own_fault: bool) -> bool {
        self.change(agent_id, |runs| runs.died(epoch, own_fault, Instant::now()))
    }

    /// Nothing stands in the way of another run of this agent.
    pub fn is_calm(&self, agent_id: &str) -> bool {
        self.agents.borrow().get(agent_id).is_none_or(|runs| runs.suspects.is_empty())
    }

    /// Waits until the run may start. Dropping the future gives nothing up: the run's end does.
    pub async fn turn(&self, agent_id: &str, run_id: Id) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waits = match self.agents.borrow_mut().get_mut(agent_id) {
                Some(runs) => runs.waits(run_id, Instant::now()),
                None => None,
            };
            let Some(until) = waits else { return };
            // Both end the same: it is asked again.
            let _late = tokio::time::timeout_at(until, changed).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Id = Id([1; 16]);
    const B: Id = Id([2; 16]);
    const NEW: Id = Id([3; 16]);

    fn minute(n: u64) -> Duration {
        Duration::from_millis(n * ALONE_MS_MAX)
    }

    #[test]
    fn one_that_was_alone_is_counted_and_nobody_has_to_wait() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        runs.begins(A, 1, now);
        assert!(runs.died(1, true, now));
        assert_eq!((runs.waits(A, now), runs.waits(NEW, now)), (None, None));
        runs.begins(A, 2, now);
        assert!(!runs.died(2, false, now), "killed from outside");
        assert!(!runs.died(2, true, now), "nothing was there");
    }

    #[test]
    fn of_several_nobody_is_counted_and_they_go_on_one_after_the_other() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        runs.begins(B, 1, now);
        runs.begins(A, 1, now);
        assert!(!runs.died(1, true, now));
        assert!(
            runs.waits(A, now).is_none() && runs.waits(B, now).is_some() && runs.waits(NEW, now).is_some()
        );
        runs.begins(A, 2, now);
        assert!(runs.died(2, true, now), "now it is known");
        assert!(runs.waits(A, now).is_some() && runs.waits(B, now).is_none(), "the innocent goes first");
        runs.begins(B, 3, now);
        runs.ends(B, now);
        assert!(runs.waits(A, now).is_none() && runs.waits(NEW, now).is_some());
        runs.begins(A, 3, now);
        assert!(runs.died(3, true, now));
        runs.ends(A, now);
        assert!(runs.waits(NEW, now).is_none(), "calm again");
    }

    #[test]
    fn a_suspect_that_lives_lets_the_others_go_on_after_a_while() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        runs.begins(A, 1, now);
        runs.begins(B, 1, now);
        runs.died(1, true, now);
        runs.begins(A, 2, now + minute(1) / 2);
        assert!(runs.waits(NEW, now + minute(1)).is_some(), "its time begins with it");
        assert!(runs.waits(NEW, now + minute(2)).is_none() && runs.waits(B, now + minute(2)).is_none());
    }

    #[test]
    fn a_run_that_the_next_worker_has_already_is_not_there_when_the_last_one_is_reported_dead() {
        let (mut runs, now) = (Runs::default(), Instant::now());
        runs.begins(A, 1, now);
        runs.begins(B, 2, now);
        assert!(runs.died(1, true, now));
        runs.begins(A, 2, now);
        assert!(!runs.died(2, true, now), "both were");
    }
}
