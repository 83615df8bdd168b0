//! Everything that is not as it should be, in words for an operator. One list for `status`, `health` and `system.info`.

use crate::config::ConfigState;
use crate::gateway::Handles;
use crate::journal::{Integrity, Journal, JournalStats};
use crate::scheduler::AloneWait;
use crate::worker::{State, WorkerStatus};

/// The list now. Empty means that all is well.
pub async fn now(gw: &Handles) -> Vec<String> {
    let config = gw.config.clone();
    let state = tokio::task::spawn_blocking(move || config.state()).await;
    let stats = gw.journal.stats().await;
    let workers = gw.workers.status();
    let waits = gw.scheduler.status().await.waits;
    match (state, stats) {
        (Ok(state), Ok(stats)) => problems(&state, &stats, &workers, &waits),
        (Err(error), _) => vec![format!("config: not read – {error}")],
        (_, Err(error)) => vec![format!("journal: {error}")],
    }
}

/// The rule behind [`now`].
pub fn problems(
    config: &ConfigState,
    journal: &JournalStats,
    workers: &[WorkerStatus],
    waits: &[AloneWait],
) -> Vec<String> {
    let mut found = Vec::new();
    if config.diverges() {
        found.push(format!("config: {}", config.line()));
    }
    if let Some(why) = &journal.readonly {
        found.push(format!("journal: readonly – {why}"));
    }
    if let Some(lack) = &journal.reserve_lack {
        found.push(format!("journal: {lack}"));
    }
    if let Integrity::Bad(why) = &journal.integrity {
        found.push(format!("journal: damaged – {why}"));
    }
    found.extend(workers.iter().filter(|worker| worker.held || !is_well(worker.state)).map(|worker| {
        let why = worker.why.as_ref().map(|why| format!(" – {why}")).unwrap_or_default();
        format!("{}: {}{why}", worker.id.0, worker.state_name())
    }));
    found.extend(waits.iter().map(ToString::to_string));
    found
}

/// Working, not wanted now, or on its way.
fn is_well(state: State) -> bool {
    match state {
        State::Disabled
        | State::Idle
        | State::Starting
        | State::Ready
        | State::Draining
        | State::Stopping => true,
        State::Degraded
        | State::Suspect
        | State::NeedsLogin
        | State::Dumping
        | State::Aborting
        | State::Killing
        | State::Stuck
        | State::Backoff
        | State::Quarantined => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(state: State, why: Option<&str>) -> WorkerStatus {
        WorkerStatus { why: why.map(str::to_owned), ..WorkerStatus::example("main", state) }
    }

    #[test]
    fn every_kind_of_trouble_is_named() {
        let mut config = ConfigState {
            state: "ok",
            active_hash: String::new(),
            file_hash: String::new(),
            source: "file",
            errors: vec!["gateway.port: expected a number".to_owned()],
            pending: Vec::new(),
            since_ms: None,
            settling: false,
        };
        let mut journal = JournalStats::default();
        let well = [worker(State::Idle, None), worker(State::Ready, Some("said long ago"))];
        assert_eq!(problems(&config, &journal, &well, &[]), [""; 0]);
        config.state = "invalid";
        journal.readonly = Some("no space left".to_owned());
        journal.integrity = Integrity::Bad("page 3".to_owned());
        journal.reserve_lack = Some(crate::journal::disk::Lack {
            dir: "/s".into(),
            free_bytes: 3 << 20,
            wanted_bytes: 256 << 20,
        });
        let held = WorkerStatus { held: true, ..worker(State::Disabled, Some("by an operator")) };
        let waits = [AloneWait {
            agent_id: "main".into(),
            run_id: proto::wire::Id([7; 16]),
            waiting: 2,
            at_most_ms: 61_000,
        }];
        let ill = [worker(State::Quarantined, Some("died 5 times")), worker(State::NeedsLogin, None), held];
        assert_eq!(
            problems(&config, &journal, &ill, &waits),
            [
                "config: INVALID – gateway.port: expected a number; running what was read before (?)",
                "journal: readonly – no space left",
                "journal: the disk is nearly full: 3.0 MiB free at /s, and the journal goes without its reserve; free some space: from 256.0 MiB on it is taken again by itself",
                "journal: damaged – page 3",
                "agent:main: quarantined – died 5 times",
                "agent:main: needsLogin",
                "agent:main: stopped – by an operator",
                "agent:main: 2 runs wait – its worker died with several runs under way; to find which one does it, run 07070707-0707-0707-0707-070707070707 has it alone for at most 2 min",
            ]
        );
    }
}
