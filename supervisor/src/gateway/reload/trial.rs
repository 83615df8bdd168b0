//! Whether a new configuration works: everything that it touched is up and stays up for the settle window.

use super::{Issue, Reloader};
use crate::config::plan::ConfigPlan;
use crate::config::startup::StartPlan;
use crate::config::{ConfigSnapshot, Trouble};
use crate::scheduler::shared::now_ms;
use crate::worker::{State, WorkerStatus, Workers};
use proto::runtime::failpoint;
use proto::wire::handshake::{WorkerId, WorkerKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::time::{Duration, Instant};

/// A configuration that is new.
pub(super) struct Trial {
    /// What ran before, and comes back when it fails.
    before: Arc<ConfigSnapshot>,
    /// `None` after a start: the listener stays where it is.
    start_before: Option<StartPlan>,
    touched: BTreeSet<WorkerId>,
    /// Workers that were not well before; the new configuration is not to blame for them.
    ill_before: BTreeSet<WorkerId>,
    began_ms: i64,
    deadline: Instant,
    by: &'static str,
    /// Keys that the last change touched.
    changed: Vec<String>,
    /// Keys of changes before it that were accepted and had not settled: they go with it.
    unsettled: Vec<String>,
}

/// What the look at one worker says.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Well,
    /// On its way: not yet well.
    Waiting,
    Failed(String),
}

impl Trial {
    pub fn new(
        workers: &Workers,
        before: Arc<ConfigSnapshot>,
        start_before: Option<StartPlan>,
        touched: BTreeSet<WorkerId>,
        by: &'static str,
        settle_seconds: u64,
    ) -> Self {
        let ill = workers.status().into_iter().filter(|worker| is_ill(worker.state)).map(|worker| worker.id);
        Self {
            before,
            start_before,
            touched,
            ill_before: if by == "start" { BTreeSet::new() } else { ill.collect() },
            began_ms: now_ms(),
            deadline: Instant::now() + Duration::from_secs(settle_seconds),
            by,
            changed: Vec::new(),
            unsettled: Vec::new(),
        }
    }

    /// Names the keys that it changes.
    pub fn changing(self, plan: &ConfigPlan) -> Self {
        Self { changed: plan.changes.iter().map(|change| change.path.clone()).collect(), ..self }
    }

    /// A further change while the one before is still on trial: what comes back is what was good before both.
    pub fn after(self, earlier: Option<Self>) -> Self {
        let Some(earlier) = earlier else { return self };
        Self {
            before: earlier.before,
            start_before: earlier.start_before.or(self.start_before),
            touched: self.touched.into_iter().chain(earlier.touched).collect(),
            ill_before: earlier.ill_before,
            began_ms: earlier.began_ms,
            unsettled: [earlier.unsettled, earlier.changed].concat(),
            ..self
        }
    }

    /// Errors of workers that fail; none and `true` when all are well.
    fn look(&self, workers: &[WorkerStatus]) -> (Vec<String>, bool) {
        let mut errors = Vec::new();
        let mut well = true;
        let judged = workers
            .iter()
            .filter(|worker| self.touched.contains(&worker.id) && !self.ill_before.contains(&worker.id));
        for worker in judged {
            match look(worker, self.began_ms) {
                Look::Well => {}
                Look::Waiting => well = false,
                Look::Failed(why) => errors.push(format!("{} {why}", worker.id)),
            }
        }
        (errors, well)
    }
}

fn is_ill(state: State) -> bool {
    matches!(state, State::NeedsLogin | State::Quarantined | State::Stuck | State::Backoff | State::Degraded)
}

fn look(worker: &WorkerStatus, began_ms: i64) -> Look {
    let why = worker.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let crash = worker.last_crash.as_ref().filter(|crash| crash.at_ms >= began_ms && crash.class.own_fault());
    match (worker.state, crash) {
        (State::Quarantined, _) => Look::Failed(format!("is quarantined{why}")),
        (State::NeedsLogin, _) => Look::Failed(format!("was refused by its network{why}")),
        (State::Stuck, _) => Look::Failed("hangs and cannot be ended".to_owned()),
        (_, Some(crash)) => Look::Failed(format!("died ({})", crash.ended)),
        (State::Backoff, None) => Look::Failed(format!("does not start{why}")),
        (State::Starting | State::Stopping | State::Draining, None) => Look::Waiting,
        // A network that is down is no fault of the configuration: its credentials were asked for before.
        (State::Degraded, None) if worker.kind == WorkerKind::Channel => Look::Well,
        (State::Ready | State::Idle | State::Disabled, None) => Look::Well,
        _ => Look::Waiting,
    }
}

impl Reloader {
    /// Ends the trial when it is decided.
    pub(super) async fn look_at_trial(&mut self) {
        let Some(trial) = &self.trial else { return };
        let (errors, well) = trial.look(&self.parts.gw.workers.status());
        if !errors.is_empty() {
            self.roll_back(errors).await;
        } else if Instant::now() >= trial.deadline && well {
            let by = trial.by;
            self.trial = None;
            let config = self.parts.gw.config.clone();
            config.set_settling(false);
            let kept = tokio::task::spawn_blocking(move || config.mark_good(by, now_ms())).await;
            tracing::info!(by, ok = kept.is_ok(), "config has settled and is the last good one");
        }
    }

    /// Takes the new configuration back, in the gateway only: the file is its owner's.
    async fn roll_back(&mut self, mut errors: Vec<String>) {
        let Some(trial) = self.trial.take() else { return };
        if let (Some(first), false) = (errors.first_mut(), trial.unsettled.is_empty()) {
            let with_it = [trial.unsettled, trial.changed].concat();
            first.push_str(&format!("; all that had not settled is taken back: {}", with_it.join(", ")));
        }
        let config = self.parts.gw.config.clone();
        config.set_settling(false);
        let failed = config.current();
        tracing::error!(event = "config.rolledBack", "config ROLLED BACK: {}", errors.join("; "));
        failpoint::hit("sv.cfg.rollback");
        config.set_trouble(Some(Trouble {
            print: failed.file.print(),
            rolled_back: true,
            errors: errors.clone(),
        }));
        config.set_pending(Vec::new());
        let start = trial.start_before.unwrap_or_else(|| self.parts.plan.clone());
        if let Err(error) = self.switch(trial.before, start).await {
            tracing::error!("config rollback is not complete: {error}");
        }
        let issues: Vec<Issue> = errors.iter().map(|error| Issue::new("", error.clone())).collect();
        let text = failed.file.source.raw.clone().unwrap_or_default();
        let kept = move || config.store().keep_rejected(&text, &issues, now_ms());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(kept).await {
            tracing::warn!(%error, "the config that was taken back was not kept");
        }
        self.announce().await;
    }
}
