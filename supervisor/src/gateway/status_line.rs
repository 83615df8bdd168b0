//! One line for `systemctl status`: workers, runs, configuration. Written only for a service manager that listens.

use super::Handles;
use super::sd_notify::Notify;
use crate::front::shared::Phase;
use crate::worker::{State, WorkerStatus};
use tokio::time::{Duration, MissedTickBehavior};

/// How often the line is made anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Workers that are named; the others are counted.
const NAMED_MAX: usize = 3;

/// Runs for the life of the gateway, unless nobody listens.
pub async fn run(handles: Handles, notify: Notify) {
    if !notify.is_listening() {
        return;
    }
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if handles.front.phase() == Phase::Ready {
            let runs = handles.scheduler.status().await.active.len();
            // As the reloader found it last: it looks whenever the file changes.
            notify.status(&line(&handles.workers.status(), runs, &handles.config.last_line()));
        } else {
            notify.flush();
        }
    }
}

/// `3/4 workers ready (channel:telegram:main needsLogin); 2 runs; config ok`.
pub fn line(workers: &[WorkerStatus], runs: usize, config: &str) -> String {
    let wanted: Vec<_> =
        workers.iter().filter(|worker| worker.held || worker.state != State::Disabled).collect();
    // An agent without work has no process, and needs none.
    let ready = |worker: &&&WorkerStatus| matches!(worker.state, State::Ready | State::Idle);
    let well = wanted.iter().filter(ready).count();
    let others: Vec<_> = wanted.iter().filter(|worker| !ready(worker)).collect();
    let mut named: Vec<String> = others.iter().take(NAMED_MAX).map(|worker| named(worker)).collect();
    if others.len() > NAMED_MAX {
        named.push(format!("{} more", others.len() - NAMED_MAX));
    }
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let noun = if runs == 1 { "run" } else { "runs" };
    format!("{well}/{} workers ready{named}; {runs} {noun}; config {config}", wanted.len())
}

fn named(worker: &WorkerStatus) -> String {
    format!("{} {}", worker.id.0, worker.state_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_is_named() {
        let mut workers =
            vec![WorkerStatus::example("main", State::Ready), WorkerStatus::example("idle", State::Idle)];
        workers.push(WorkerStatus::example("off", State::Disabled));
        assert_eq!(line(&workers, 1, "ok"), "2/2 workers ready; 1 run; config ok");
        workers.extend(["a", "b", "c", "d"].map(|name| WorkerStatus::example(name, State::Backoff)));
        assert_eq!(
            line(&workers, 0, "INVALID since 10:22 – why"),
            "2/6 workers ready (agent:a backoff, agent:b backoff, agent:c backoff, 1 more); 0 runs; config INVALID since 10:22 – why"
        );
    }
}
