//! A changed configuration file takes effect, or does no harm.
//!
//! ```text
//! inotify, a write of ours ─► quiet for debounceMs ─► judge ─► plan ─► mode ─► canary, probe ─► apply ─► settle ─► last good
//!                                          │                              │                     │
//!                                       INVALID                      ROLLED_BACK            ROLLED_BACK
//! ```
//! One task on the core's thread; the file is read and programs are asked on blocking threads. What is refused or taken
//! back leaves the file as its owner wrote it, and everything that shows a state says so until they agree again
//! ([`announce`]). A key's reach is one row of `config/reach.rs`; what a change does is decided by `config::plan`.

mod announce;
mod apply;
mod canary;
mod judge;
mod notice;
mod trial;

use super::Handles;
use super::logging::Log;
use super::provision::Provisioner;
use super::sd_notify::Notify;
use crate::config::gateway::ReloadMode;
use crate::config::plan::{ConfigPlan, Decision};
use crate::config::startup::StartPlan;
use crate::config::verdict::Candidate;
use crate::config::watch::FileWatch;
use crate::config::{ConfigFile, ConfigSource, Issue, Reach, Trouble, missing_for};
use crate::front::rebind::Rebinder;
use crate::front::settings::Settings;
use crate::lock::Held;
use crate::scheduler::LaneGate;
use crate::scheduler::shared::now_ms;
use announce::Announced;
use notice::Noticed;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use trial::Trial;

/// A file that cannot be parsed may be half saved: it is read once more after this.
const HALF_SAVED: Duration = Duration::from_millis(200);
/// A file that is written all the time is read after so many times of `debounceMs`.
const DEBOUNCES_MAX: u32 = 20;
/// How often a new configuration is looked at while it settles.
const TRIAL_LOOK: Duration = Duration::from_millis(200);
/// How often nothing is done but to see whether an hour is over.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// What the reloader takes over from the start.
pub struct Parts {
    pub gw: Handles,
    pub provisioner: Provisioner,
    pub settings: watch::Sender<Arc<Settings>>,
    pub plan: StartPlan,
    pub lanes: Rc<LaneGate>,
    pub log: Log,
    pub notify: Notify,
    pub rebinder: Rebinder,
}

/// See the module head.
pub struct Reloader {
    parts: Parts,
    /// Workspaces that are locked; those of the start by the start.
    workspaces: BTreeMap<PathBuf, Option<Held>>,
    /// The content that was judged last.
    seen: Option<String>,
    trial: Option<Trial>,
    announced: Announced,
    noticed: Noticed,
}

/// Why a file does not run.
struct Refused {
    errors: Vec<Issue>,
    /// It was tried.
    rolled_back: bool,
}

impl Refused {
    fn invalid(errors: Vec<Issue>) -> Self {
        Self { errors, rolled_back: false }
    }

    fn tried(error: Issue) -> Self {
        Self { errors: vec![error], rolled_back: true }
    }
}

impl Reloader {
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let config = parts.gw.config.current();
        let held = apply::workspaces(&config, parts.gw.config.paths()).into_iter().map(|dir| (dir, None));
        Self {
            workspaces: held.collect(),
            seen: Some(parts.gw.config.known_on_disk().print()),
            trial: None,
            announced: Announced::default(),
            noticed: Noticed::default(),
            parts,
        }
    }

    /// Runs for the life of the gateway.
    pub async fn run(mut self) {
        let mut watch = FileWatch::new();
        watch.follow(&self.files());
        self.begin().await;
        let config = self.parts.gw.config.clone();
        loop {
            let pause = if self.trial.is_some() { TRIAL_LOOK } else { IDLE_LOOK };
            tokio::select! {
                () = watch.changed() => {}
                () = config.written() => {}
                () = tokio::time::sleep(pause) => {
                    self.look_at_trial().await;
                    self.announce().await;
                    continue;
                }
            }
            self.wait_for_quiet(&watch).await;
            self.evaluate().await;
            watch.follow(&self.files());
        }
    }

    /// A start with another file than the last good one is a trial too.
    async fn begin(&mut self) {
        let config = self.parts.gw.config.clone();
        let before = tokio::task::spawn_blocking(move || config.before_start()).await.ok().flatten();
        match before {
            Some(before) => {
                let config = self.parts.gw.config.current();
                let state = &self.parts.gw.config.paths().state_dir;
                // Who cannot start for want of a secret says so; the rest of the file is not to blame.
                let ids = self.parts.gw.workers.status().into_iter().map(|worker| worker.id);
                let touched = ids.filter(|id| missing_for(&config, id, state).is_empty()).collect();
                let seconds = self.parts.gw.config.current().gateway.reload.settle_seconds;
                self.start_trial(Trial::new(&self.parts.gw.workers, before, None, touched, "start", seconds));
            }
            None => self.parts.gw.config.mark_good("start", now_ms()),
        }
        self.announce().await;
    }

    fn start_trial(&mut self, trial: Trial) {
        self.parts.gw.config.set_settling(true);
        self.trial = Some(trial);
    }

    /// The file and what it includes, as read last.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.parts.gw.config.paths().config_file.clone()];
        files.extend(self.parts.gw.config.known_on_disk().source.files.iter().skip(1).cloned());
        files
    }

    async fn wait_for_quiet(&self, watch: &FileWatch) {
        let pause = Duration::from_millis(self.parts.gw.config.current().gateway.reload.debounce_ms);
        let end = Instant::now() + pause * DEBOUNCES_MAX;
        while Instant::now() < end && tokio::time::timeout(pause, watch.changed()).await.is_ok() {}
    }

    async fn read(&self) -> Option<Arc<ConfigFile>> {
        let config = self.parts.gw.config.clone();
        let read = move || config.on_disk();
        let file = tokio::task::spawn_blocking(read.clone()).await.ok()?;
        let half_saved = !file.source.exists || file.parsed.is_null();
        if !half_saved {
            return Some(file);
        }
        tokio::time::sleep(HALF_SAVED).await;
        tokio::task::spawn_blocking(read).await.ok()
    }

    async fn evaluate(&mut self) {
        let Some(file) = self.read().await else { return };
        let active = self.parts.gw.config.current();
        let known = self.seen.replace(file.print());
        if file.is_same(&active.file) {
            if active.source == ConfigSource::LastGood {
                self.adopt(&file);
            }
            self.parts.gw.config.set_trouble(None);
        } else if known != self.seen {
            match self.judge(&file).await {
                Ok(candidate) => {
                    if let Err(refused) = self.take(&file, candidate).await {
                        self.refuse(&file, refused).await;
                    }
                }
                Err(refused) => self.refuse(&file, refused).await,
            }
        }
        self.announce().await;
    }

    /// The file says what runs already: from now on it is what runs.
    fn adopt(&self, file: &Arc<ConfigFile>) {
        let config = &self.parts.gw.config;
        if config.activate(file.clone()).is_ok() && self.trial.is_none() {
            config.mark_good("reload", now_ms());
        }
    }

    async fn take(&mut self, file: &Arc<ConfigFile>, candidate: Candidate) -> Result<(), Refused> {
        let config = self.parts.gw.config.clone();
        let plan = ConfigPlan::of(&config.current(), &candidate.snapshot, config.paths());
        let mode = candidate.snapshot.gateway.reload.mode;
        let decision = plan.decide(mode);
        let paths: Vec<&str> = plan.changes.iter().map(|change| change.path.as_str()).collect();
        config.set_trouble(None);
        if !paths.is_empty() {
            tracing::info!("config change detected; evaluating reload ({})", paths.join(", "));
        }
        match decision {
            Decision::Nothing => {
                config.set_pending(Vec::new());
                self.adopt(file);
            }
            Decision::Apply => {
                self.try_out(&candidate.snapshot, &plan).await?;
                config.set_pending(Vec::new());
                self.apply(candidate, &plan).await.map_err(Refused::tried)?;
                tracing::info!("config hot reload applied ({})", paths.join(", "));
            }
            Decision::ApplyHot => self.apply_hot(candidate, &plan).await?,
            Decision::Restart => {
                self.try_out(&candidate.snapshot, &plan).await?;
                config.set_pending(pending(&plan, &[]));
                tracing::info!("config change requires gateway restart ({})", paths.join(", "));
                if !config.is_restart_planned(file) {
                    let restart = self.parts.gw.restarts.request(None, "config reload");
                    tracing::info!(delay_ms = restart.delay_ms, "restart planned");
                }
            }
            Decision::Wait => {
                config.set_pending(pending(&plan, &[Reach::None]));
                match mode {
                    ReloadMode::Off => tracing::warn!("config reload disabled (gateway.reload.mode=off)"),
                    _ => tracing::warn!(
                        "config reload requires gateway restart; hot mode ignoring ({})",
                        paths.join(", ")
                    ),
                }
            }
        }
        Ok(())
    }

    /// `hot`: the safe part of a mixed edit; the rest waits.
    async fn apply_hot(&mut self, candidate: Candidate, plan: &ConfigPlan) -> Result<(), Refused> {
        let config = self.parts.gw.config.clone();
        let left = pending(plan, &[Reach::None, Reach::Hot]);
        let Some(mixed) = config.mixed(&candidate.snapshot, plan) else {
            tracing::warn!("the hot part of this edit cannot stand alone; all of it waits for a restart");
            config.set_pending(pending(plan, &[Reach::None]));
            return Ok(());
        };
        let start = judge::start_plan(&self.parts, &mixed)
            .map_err(|refusal| Refused::invalid(vec![Issue::new("", refusal.message)]))?;
        let part = ConfigPlan::of(&config.current(), &mixed, config.paths());
        self.try_out(&mixed, &part).await?;
        config.set_pending(left.clone());
        self.apply(Candidate { snapshot: mixed, start }, &part).await.map_err(Refused::tried)?;
        tracing::warn!("config reload: waiting for a restart: {}", left.join(", "));
        Ok(())
    }

    /// Keeps the refused text with the reasons; the file stays as it is.
    async fn refuse(&mut self, file: &Arc<ConfigFile>, refused: Refused) {
        let Refused { errors, rolled_back } = refused;
        let config = self.parts.gw.config.clone();
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let why = if rolled_back { "taken back" } else { "invalid config" };
        tracing::error!("config reload skipped ({why}): {}", lines.join(", "));
        config.set_trouble(Some(Trouble { print: file.print(), rolled_back, errors: lines }));
        let text = file.source.raw.clone().unwrap_or_default();
        let kept = move || config.store().keep_rejected(&text, &errors, now_ms());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(kept).await {
            tracing::warn!(%error, "the refused config was not kept");
        }
    }
}

/// Changed keys that wait, but those of these classes.
fn pending(plan: &ConfigPlan, done: &[Reach]) -> Vec<String> {
    let waits = plan.changes.iter().filter(|change| !done.contains(&change.class));
    waits.map(|change| change.path.clone()).collect()
}
