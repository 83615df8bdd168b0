//! Runs by the id that clients know: what is under way, and for a while what has ended.

use super::{RunOutcome, RunProgress};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// Ended runs that `agent.wait` and repeated keys can still ask for; the journal answers for older ones.
const ENDED_RUNS_MAX: usize = 1000;

/// Registry of runs. Owned by the core's thread.
#[derive(Default)]
pub struct RunTable {
    by_client_id: HashMap<String, Entry>,
    ended: VecDeque<String>,
}

struct Entry {
    session_key: String,
    progress: watch::Sender<RunProgress>,
}

impl RunTable {
    /// Registers a run id; a known one keeps its followers.
    pub fn open(&mut self, client_run_id: &str, session_key: &str) -> watch::Sender<RunProgress> {
        let entry = self.by_client_id.entry(client_run_id.to_owned()).or_insert_with(|| Entry {
            session_key: session_key.to_owned(),
            progress: watch::Sender::new(RunProgress::default()),
        });
        entry.progress.clone()
    }

    pub fn follow(&self, client_run_id: &str) -> Option<watch::Receiver<RunProgress>> {
        self.by_client_id.get(client_run_id).map(|entry| entry.progress.subscribe())
    }

    pub fn session_of(&self, client_run_id: &str) -> Option<&str> {
        self.by_client_id.get(client_run_id).map(|entry| entry.session_key.as_str())
    }

    /// The run has ended: its followers learn how, and it may be forgotten later.
    pub fn end(&mut self, client_run_id: &str, outcome: &Arc<RunOutcome>) {
        let Some(entry) = self.by_client_id.get(client_run_id) else { return };
        if entry.progress.borrow().outcome.is_some() {
            return;
        }
        entry.progress.send_modify(|progress| progress.outcome = Some(outcome.clone()));
        self.ended.push_back(client_run_id.to_owned());
        while self.ended.len() > ENDED_RUNS_MAX {
            if let Some(oldest) = self.ended.pop_front() {
                self.by_client_id.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_learn_the_outcome_and_old_runs_are_forgotten() {
        let mut table = RunTable::default();
        table.open("first", "s");
        let follower = table.follow("first").unwrap();
        let outcome = Arc::new(RunOutcome { text: "done".into(), ..RunOutcome::default() });
        table.end("first", &outcome);
        assert_eq!(follower.borrow().outcome.as_ref().unwrap().text, "done");
        for n in 0..ENDED_RUNS_MAX {
            let id = format!("run-{n}");
            table.open(&id, "s");
            table.end(&id, &outcome);
        }
        assert!(table.follow("first").is_none());
        assert!(table.follow("run-0").is_some());
    }

    #[test]
    fn a_known_id_keeps_its_followers() {
        let mut table = RunTable::default();
        table.open("a", "s");
        let follower = table.follow("a").unwrap();
        table.open("a", "s").send_modify(|progress| progress.started_ms = Some(7));
        assert_eq!(follower.borrow().started_ms, Some(7));
    }
}
