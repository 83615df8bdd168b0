//! What all sessions share. Lives on the core's thread; no cell is borrowed across an `await`.

use super::blame::Blame;
use super::lane_gate::LaneGate;
use super::runs::RunTable;
use super::{ActiveRun, SchedulerStatus};
pub use crate::clock::{now_ms, now_us};
use crate::config::ConfigHandle;
use crate::delivery::Delivery;
use crate::front::fanout::Fanout;
use crate::journal::JournalHandle;
use crate::worker::Workers;
use proto::wire::Id;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// How much is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    #[default]
    Normal,
    /// Nothing new; what is under way goes on to its end, also over the death of a worker.
    Draining,
    /// Nothing at all.
    Stopping,
}

pub struct Shared {
    pub config: ConfigHandle,
    pub journal: JournalHandle,
    pub workers: Workers,
    pub fanout: Fanout,
    pub delivery: Delivery,
    pub lanes: Rc<LaneGate>,
    pub runs: RefCell<RunTable>,
    /// Session of each run that a worker has.
    pub owners: RefCell<HashMap<Id, String>>,
    /// Which run a worker's death counts against.
    pub blame: Blame,
    pub board: RefCell<Board>,
    pub pace: Cell<Pace>,
}

impl Shared {
    pub fn now_ms(&self) -> i64 {
        now_ms()
    }

    /// Milliseconds of a clock that nobody sets, for the pure rules: how long a message has been quiet, say.
    pub fn now(&self) -> u64 {
        crate::clock::steady_ms()
    }

    pub fn now_us(&self) -> i64 {
        now_us()
    }

    pub fn draining(&self) -> bool {
        self.pace.get() != Pace::Normal
    }

    /// The workers are being stopped: what a run has written stays, and the next start goes on with it.
    pub fn stopping(&self) -> bool {
        self.pace.get() == Pace::Stopping
    }
}

/// Today in the host's time zone, `YYYY-MM-DD`.
pub fn today() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d").to_string()
}

/// What each session does, for `status`: written by the sessions, read without asking them.
#[derive(Default)]
pub struct Board {
    rows: BTreeMap<String, (Option<ActiveRun>, usize)>,
}

impl Board {
    pub fn post(&mut self, session_key: &str, active: Option<ActiveRun>, queued: usize) {
        if active.is_none() && queued == 0 {
            self.rows.remove(session_key);
        } else {
            self.rows.insert(session_key.to_owned(), (active, queued));
        }
    }

    pub fn status(&self, draining: bool) -> SchedulerStatus {
        SchedulerStatus {
            active: self.rows.values().filter_map(|(active, _)| active.clone()).collect(),
            queued: self.rows.values().map(|(_, queued)| queued).sum(),
            draining,
            waits: Vec::new(),
        }
    }
}
