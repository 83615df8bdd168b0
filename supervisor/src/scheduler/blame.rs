//! Which run is to blame when an agent's worker dies by its own doing.
//!
//! One that was alone with the worker: its death counts against it, three of them set its message aside. Of several nobody
//! is counted, since most of them are innocent: they go on one after the other, and nothing new begins beside them, so
//! that the next death names one. [`runs`] has the rules; [`Blame`] waits by them.

mod runs;

pub use runs::CarriedRecord;

use proto::wire::Id;
use runs::Runs;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What is known of one agent's runs. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedBlame {
    pub agent_id: String,
    pub records: Vec<CarriedRecord>,
}

/// Runs of one agent that wait since one of its runs is alone with its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AloneWait {
    pub agent_id: String,
    /// The one that is alone, or is next to be.
    pub run_id: Id,
    pub waiting: usize,
    /// The others go on after this at the latest, unless there are more that have to be alone.
    pub at_most_ms: u64,
}

impl std::fmt::Display for AloneWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { agent_id, run_id, waiting, at_most_ms } = self;
        let (noun, minutes) =
            (if *waiting == 1 { "run waits" } else { "runs wait" }, at_most_ms.div_ceil(60_000));
        write!(
            f,
            "agent:{agent_id}: {waiting} {noun} – its worker died with several runs under way; to find which one does it, run {run_id} has it alone for at most {minutes} min"
        )
    }
}

/// One run that waits; it is counted until this is dropped.
struct Waiting<'a>(&'a RefCell<HashMap<String, usize>>, &'a str);

impl<'a> Waiting<'a> {
    fn begin(counts: &'a RefCell<HashMap<String, usize>>, agent_id: &'a str) -> Self {
        *counts.borrow_mut().entry(agent_id.to_owned()).or_default() += 1;
        Self(counts, agent_id)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut counts = self.0.borrow_mut();
        if let Some(count) = counts.get_mut(self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(self.1);
            }
        }
    }
}

/// All agents' runs. Lives on the core's thread.
#[derive(Default)]
pub struct Blame {
    agents: RefCell<HashMap<String, Runs>>,
    waiting: RefCell<HashMap<String, usize>>,
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
        self.agents.borrow().get(agent_id).is_none_or(|runs| runs.is_calm())
    }

    /// Agents whose runs wait, and for what.
    pub fn waits(&self) -> Vec<AloneWait> {
        let (agents, now) = (self.agents.borrow(), Instant::now());
        let waiting = self.waiting.borrow();
        let wait = |(agent_id, count): (&String, &usize)| {
            let (run_id, left) = agents.get(agent_id)?.turn_of(now)?;
            let at_most_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            Some(AloneWait { agent_id: agent_id.clone(), run_id, waiting: *count, at_most_ms })
        };
        waiting.iter().filter_map(wait).collect()
    }

    /// What the next program image has to know of this agent's runs; those that workers have tell it by themselves.
    pub fn carry(&self) -> Vec<CarriedBlame> {
        let agents = self.agents.borrow();
        let carried = agents
            .iter()
            .map(|(agent_id, runs)| CarriedBlame { agent_id: agent_id.clone(), records: runs.carry() });
        carried.filter(|carried| !carried.records.is_empty()).collect()
    }

    /// Goes on where the image before was. Call before its runs are taken over.
    pub fn restore(&self, carried: Vec<CarriedBlame>) {
        for CarriedBlame { agent_id, records } in carried {
            self.change(&agent_id, |runs| runs.restore(records, Instant::now()));
        }
    }

    /// Waits until the run may start. Dropping the future gives nothing up: the run's end does.
    pub async fn turn(&self, agent_id: &str, run_id: Id) {
        let mut counted = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let waits = match self.agents.borrow_mut().get_mut(agent_id) {
                Some(runs) => runs.waits(run_id, Instant::now()),
                None => None,
            };
            let Some(until) = waits else { return };
            counted.get_or_insert_with(|| Waiting::begin(&self.waiting, agent_id));
            // Both end the same: it is asked again.
            let _late = tokio::time::timeout_at(until, changed).await;
        }
    }
}

#[cfg(test)]
mod tests;
