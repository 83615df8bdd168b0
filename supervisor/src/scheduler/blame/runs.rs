//! The rules of [`Blame`](super::Blame) for the runs of one agent. Time is a parameter.
//!
//! A death that one run had for itself counts against it. A death that several shared counts against nobody: each of them
//! becomes a suspect, and they go on one after the other. A suspect has the worker to itself for a time that doubles with
//! every death that it shared, so that one that needs an hour to kill its worker is alone with it in the end too.

use proto::wire::Id;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use tokio::time::{Duration, Instant};

/// Time alone after the first shared death: most that kill their worker do so within seconds, and a run may well wait for
/// another run of its own agent (1 min).
pub const ALONE_MS_MIN: u64 = 60_000;
/// Doublings of it: 64 min, longer than an interrupted run is gone on with
/// (`RUN_RESUME_AGE_US_MAX`, 60 min).
const DOUBLINGS_MAX: u32 = 6;
/// A suspect that has not begun so long after its turn came has lost it: its worker does not come up, or another run that
/// began meanwhile does not end. Far longer than a worker's longest back-off (60 s) and start (5 min).
pub const BEGIN_MS_MAX: u64 = 300_000;

/// What is remembered of a run, until its end, whose worker died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Record {
    /// Deaths of its worker with nothing beside it.
    counted: u32,
    /// Deaths of its worker with others beside it.
    shared: u32,
    /// Times alone that it lived through.
    lived: u32,
}

impl Record {
    fn alone(self) -> Duration {
        Duration::from_millis(ALONE_MS_MIN << self.shared.saturating_sub(1).min(DOUBLINGS_MAX))
    }

    /// Known killers first, then those with the most deaths that no time alone has spoken for: whoever is tested and lives
    /// keeps that number, and it grows for all others, so that nobody is overlooked for ever.
    fn order(self) -> (u32, u32) {
        (u32::MAX - self.counted, u32::MAX - self.shared.saturating_sub(self.lived))
    }
}

/// One record on its way to the next program image. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedRecord {
    pub run_id: Id,
    pub counted: u32,
    pub shared: u32,
    pub lived: u32,
    /// It waits for its time alone, or has it; in the order of the list.
    pub suspect: bool,
}

/// Whose turn it is to be alone is the first suspect's.
#[derive(Clone, Copy, Debug)]
struct Turn {
    since: Instant,
    /// A worker has it, and nothing else: its time runs.
    began: bool,
}

/// One agent's runs.
#[derive(Debug, Default)]
pub struct Runs {
    /// Those that a worker has, each with the start (epoch) of that worker.
    running: HashMap<Id, u64>,
    records: BTreeMap<Id, Record>,
    /// Wait for their time alone. The first has its turn.
    suspects: Vec<Id>,
    turn: Option<Turn>,
}

impl Runs {
    pub fn begins(&mut self, run_id: Id, epoch: u64, now: Instant) {
        self.pass(now);
        self.running.insert(run_id, epoch);
        let first = self.suspects.first() == Some(&run_id) && self.is_alone(run_id);
        if first && !self.turn.is_some_and(|turn| turn.began) {
            self.turn = Some(Turn { since: now, began: true });
        }
    }

    pub fn ends(&mut self, run_id: Id, now: Instant) {
        self.pass(now);
        self.running.remove(&run_id);
        self.records.remove(&run_id);
        let was_first = self.suspects.first() == Some(&run_id);
        self.suspects.retain(|suspect| *suspect != run_id);
        if was_first {
            self.next_turn(now);
        }
    }

    /// `true` when the death counts against the run that was there.
    pub fn died(&mut self, epoch: u64, own_fault: bool, now: Instant) -> bool {
        self.pass(now);
        let there: Vec<Id> =
            self.running.iter().filter(|(_, of)| **of == epoch).map(|(run_id, _)| *run_id).collect();
        self.running.retain(|_, of| *of != epoch);
        if !own_fault || there.is_empty() {
            // It could not show what it does: its time alone begins anew.
            if self.suspects.first().is_some_and(|first| there.contains(first)) {
                self.next_turn(now);
            }
            return false;
        }
        if let [only] = there.as_slice() {
            self.records.entry(*only).or_default().counted += 1;
            // It has shown what it does: the others get their turn before it.
            if let Some(at) = self.suspects.iter().position(|suspect| suspect == only) {
                self.suspects.remove(at);
                self.suspects.push(*only);
            }
        } else {
            for run_id in &there {
                self.records.entry(*run_id).or_default().shared += 1;
                if !self.suspects.contains(run_id) {
                    self.suspects.push(*run_id);
                }
            }
            self.sort();
        }
        self.next_turn(now);
        there.len() == 1
    }

    /// `None`: it may start. Otherwise when to ask again at the latest.
    pub fn waits(&mut self, run_id: Id, now: Instant) -> Option<Instant> {
        self.pass(now);
        let (first, turn) = (*self.suspects.first()?, self.turn?);
        (first != run_id || !self.is_alone(run_id)).then(|| self.ends_at(first, turn))
    }

    /// Whose turn it is, and how long others wait for it at the most.
    pub fn turn_of(&self, now: Instant) -> Option<(Id, Duration)> {
        let (first, turn) = (*self.suspects.first()?, self.turn?);
        Some((first, self.ends_at(first, turn).saturating_duration_since(now)))
    }

    /// Nobody has, or waits for, a time alone.
    pub fn is_calm(&self) -> bool {
        self.suspects.is_empty()
    }

    pub fn carry(&self) -> Vec<CarriedRecord> {
        let waits = self.suspects.iter().map(|run_id| (run_id, true));
        let others = self.records.keys().filter(|run_id| !self.suspects.contains(run_id));
        let record = |(run_id, suspect): (&Id, bool)| {
            let Record { counted, shared, lived } = self.record(*run_id);
            CarriedRecord { run_id: *run_id, counted, shared, lived, suspect }
        };
        waits.chain(others.map(|run_id| (run_id, false))).map(record).collect()
    }

    /// A time alone begins anew: with the worker that has the run, as soon as [`Runs::begins`] says so.
    pub fn restore(&mut self, carried: Vec<CarriedRecord>, now: Instant) {
        for CarriedRecord { run_id, counted, shared, lived, suspect } in carried {
            self.records.insert(run_id, Record { counted, shared, lived });
            if suspect {
                self.suspects.push(run_id);
            }
        }
        self.next_turn(now);
    }

    fn record(&self, run_id: Id) -> Record {
        self.records.get(&run_id).copied().unwrap_or_default()
    }

    fn is_alone(&self, run_id: Id) -> bool {
        self.running.keys().all(|other| *other == run_id)
    }

    /// Identifiers grow with time: of equals the oldest goes on first.
    fn sort(&mut self) {
        let mut suspects = std::mem::take(&mut self.suspects);
        suspects.sort_by_key(|run_id| (self.record(*run_id).order(), *run_id));
        self.suspects = suspects;
    }

    fn next_turn(&mut self, now: Instant) {
        self.turn = (!self.suspects.is_empty()).then_some(Turn { since: now, began: false });
    }

    fn ends_at(&self, first: Id, turn: Turn) -> Instant {
        let limit = if turn.began { self.record(first).alone() } else { Duration::from_millis(BEGIN_MS_MAX) };
        turn.since + limit
    }

    /// What time alone has changed.
    fn pass(&mut self, now: Instant) {
        while let (Some(first), Some(turn)) = (self.suspects.first().copied(), self.turn) {
            if self.ends_at(first, turn) > now {
                return;
            }
            if turn.began {
                // It lives: all others go on beside it.
                self.records.entry(first).or_default().lived += 1;
                self.suspects.clear();
            } else {
                self.suspects.remove(0);
            }
            self.next_turn(now);
        }
    }
}
