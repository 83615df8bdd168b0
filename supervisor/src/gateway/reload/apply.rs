//! Making a judged configuration the one that runs: locks and addresses first, since they can be refused, then one switch
//! that everybody sees, then the workers.

use super::trial::Trial;
use super::{Candidate, Parts, Reloader};
use crate::config::plan::ConfigPlan;
use crate::config::startup::StartPlan;
use crate::config::{ConfigSnapshot, Issue};
use crate::front::outq::CloseWith;
use crate::front::ws::AUTH_CHANGED;
use crate::gateway::{fd_store, start};
use crate::lock;
use crate::paths::Paths;
use proto::runtime::failpoint;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the agents of a configuration work.
pub(super) fn workspaces(config: &ConfigSnapshot, paths: &Paths) -> Vec<PathBuf> {
    let agents = config.view.agents.list.iter();
    agents.map(|agent| crate::config::plan::workspace(config, paths, &agent.id)).collect()
}

impl Reloader {
    /// Applies it and watches it from now on.
    pub(super) async fn apply(&mut self, candidate: Candidate, plan: &ConfigPlan) -> Result<(), Issue> {
        let Candidate { snapshot, start } = candidate;
        let (before, start_before) = (self.parts.gw.config.current(), self.parts.plan.clone());
        let seconds = snapshot.gateway.reload.settle_seconds;
        let touched = plan.touched().cloned().collect();
        let workers = &self.parts.gw.workers;
        let trial =
            Trial::new(workers, before, Some(start_before), touched, "reload", seconds).changing(plan);
        self.switch(snapshot, start).await?;
        let earlier = self.trial.take();
        self.start_trial(trial.after(earlier));
        Ok(())
    }

    /// Makes a snapshot and its start plan the ones that run. On an error nothing has changed.
    pub(super) async fn switch(
        &mut self,
        snapshot: Arc<ConfigSnapshot>,
        start: StartPlan,
    ) -> Result<(), Issue> {
        self.lock_workspaces(&snapshot)?;
        let moves = start.port != self.parts.plan.port || start.bind != self.parts.plan.bind;
        if moves {
            self.rebind(&snapshot, &start).await?;
        }
        failpoint::hit("sv.cfg.mid_apply");
        let parts = &mut self.parts;
        let auth_changed = start.auth.mode != parts.plan.auth.mode
            || start.auth.token != parts.plan.auth.token
            || start.auth.password != parts.plan.auth.password;
        parts.plan = start;
        parts.gw.config.switch_to(snapshot.clone());
        parts.settings.send_replace(Arc::new(start::settings(&snapshot, &parts.plan)));
        parts.lanes.set_limits(start::limits(&snapshot));
        parts.log.set_levels(&snapshot.logging);
        parts.gw.workers.apply(parts.provisioner.specs());
        if auth_changed {
            let with = CloseWith::new(1008, AUTH_CHANGED);
            parts.gw.front.fanout.close_where(&with, |caller| caller.ip.is_some());
        }
        let config = parts.gw.config.clone();
        tokio::task::spawn_blocking(move || config.check_active());
        Ok(())
    }

    /// A workspace that is new belongs to nobody else from now on. Those that are no longer used stay ours until the end
    /// of the process: the agent's last run may still write there.
    fn lock_workspaces(&mut self, snapshot: &ConfigSnapshot) -> Result<(), Issue> {
        for dir in workspaces(snapshot, self.parts.gw.config.paths()) {
            if self.workspaces.contains_key(&dir) {
                continue;
            }
            let failed = |error: String| {
                let issue = Issue::new("agents", format!("workspace {}: {error}", dir.display()));
                snapshot.file.placed(issue.hint("name a folder that this gateway alone may write"))
            };
            std::fs::create_dir_all(&dir).map_err(|error| failed(error.to_string()))?;
            let held = lock::lock_workspace(&dir).map_err(|error| failed(error.to_string()))?;
            self.workspaces.insert(dir, Some(held));
        }
        Ok(())
    }

    /// Binds the new address before the old one is given up.
    async fn rebind(&self, snapshot: &ConfigSnapshot, start: &StartPlan) -> Result<(), Issue> {
        let Parts { rebinder, notify, gw, .. } = &self.parts;
        let bound = rebinder.bind(&start.bind.required, start.port).map_err(|error| {
            let key = if start.port == self.parts.plan.port { "gateway.bind" } else { "gateway.port" };
            let issue = Issue::new(key, error.to_string());
            snapshot.file.placed(issue.hint("choose another one; the gateway goes on listening where it was"))
        })?;
        fd_store::forget(notify);
        fd_store::store(notify, &bound);
        if !rebinder.switch(bound).await {
            return Err(Issue::new("gateway.port", "the gateway is stopping"));
        }
        gw.about.set_port(start.port);
        tracing::info!("listening on ws://{}:{}", start.bind.host(), start.port);
        Ok(())
    }
}
