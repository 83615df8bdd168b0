//! Trying a configuration before anybody depends on it: each agent that would get it as a process beside the running one
//! (without its sessions, which only one process may open), each channel account by asking its network who it is.

use super::{Refused, Reloader};
use crate::config::plan::{ConfigPlan, WorkerAction, WorkerChange};
use crate::config::{ConfigSnapshot, Issue};
use crate::gateway::provision::Provisioner;
use crate::worker::{Output, ProvideError, run_to_end, worker_env};
use proto::wire::handshake::WorkerId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A start takes 50 ms; a network's answer is bounded below this.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Processes that are tried at once.
const AT_ONCE: usize = 4;

/// One process to be tried.
struct Canary {
    worker: WorkerId,
    /// It replaces one that works: a network that is silent now is a reason to wait.
    replaces: bool,
    input: String,
}

impl Reloader {
    /// Tries the configuration out.
    pub(super) async fn try_out(
        &self,
        after: &Arc<ConfigSnapshot>,
        plan: &ConfigPlan,
    ) -> Result<(), Refused> {
        let mut canaries = Vec::new();
        for WorkerChange { id, action } in &plan.workers {
            let wanted = match action {
                WorkerAction::Start | WorkerAction::Restart => true,
                WorkerAction::Told => id.agent_id().is_some(),
                WorkerAction::Stop | WorkerAction::Kept => false,
            };
            if wanted {
                let given = match self.parts.provisioner.provide(after, id).await {
                    Ok(given) => given,
                    // Secrets that are newly missing were refused before: this worker did not run with what runs either.
                    Err(ProvideError::Config(_)) => continue,
                    Err(why) => return Err(Refused::tried(Issue::new("", format!("{id}: {why}")))),
                };
                let input = json!({"agentId": id.agent_id(), "workerId": id, "config": given.config,
                    "secrets": given.secrets});
                let replaces = *action == WorkerAction::Restart;
                canaries.push(Canary { worker: id.clone(), replaces, input: input.to_string() });
            }
        }
        let env = after.env().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = Arc::new(worker_env(&env.collect()));
        let mut errors = Vec::new();
        while !canaries.is_empty() {
            let rest = canaries.split_off(canaries.len().min(AT_ONCE));
            let batch = canaries.into_iter().map(|canary| {
                let (binary, flag) = program(&self.parts.provisioner, &canary.worker);
                let env = env.clone();
                tokio::task::spawn_blocking(move || {
                    let ran = run_to_end(&binary, &[flag], &env, canary.input.as_bytes(), ANSWER_WITHIN);
                    verdict(&canary, ran).map_err(|why| (canary.worker, why))
                })
            });
            for asked in batch.collect::<Vec<_>>() {
                match asked.await {
                    Ok(Ok(())) => {}
                    Ok(Err((worker, why))) => errors.push(self.blamed(after, plan, &worker, &why)),
                    Err(error) => errors.push(Issue::new("", error.to_string())),
                }
            }
            canaries = rest;
        }
        if errors.is_empty() { Ok(()) } else { Err(Refused { errors, rolled_back: true }) }
    }

    /// The error at the first changed key that concerns this worker.
    fn blamed(&self, after: &ConfigSnapshot, plan: &ConfigPlan, worker: &WorkerId, why: &str) -> Issue {
        let section = match worker.account() {
            Some((channel, _)) => format!("channels.{channel}"),
            None => "agents".to_owned(),
        };
        let own = plan.changes.iter().find(|change| change.path.starts_with(&section));
        let path = own.or(plan.changes.first()).map_or("", |change| change.path.as_str());
        let issue = Issue::new(path, format!("{worker} would not work with it: {why}"));
        after.file.placed(issue.hint("the process that runs keeps its configuration; correct the file"))
    }
}

fn program(provisioner: &Provisioner, worker: &WorkerId) -> (Arc<crate::worker::Binary>, &'static str) {
    match worker.account() {
        Some(_) => (provisioner.channel(), "--probe"),
        None => (provisioner.agent(), "--canary"),
    }
}

fn verdict(canary: &Canary, ran: std::io::Result<Output>) -> Result<(), String> {
    let output = ran.map_err(|error| error.to_string())?;
    let Ok(answer) = serde_json::from_slice::<Value>(&output.stdout) else {
        let said = String::from_utf8_lossy(&output.stderr);
        // The last words of a panic are advice for whoever debugs it.
        let said = said.lines().rfind(|line| !line.starts_with("note: ")).unwrap_or_default().to_owned();
        let ended = output
            .code
            .map_or_else(|| "it was killed by a signal".to_owned(), |code| format!("exit code {code}"));
        return Err(format!("a try of it died ({ended}) {said}").trim_end().to_owned());
    };
    let why = answer["error"].as_str().unwrap_or("no reason given").to_owned();
    match answer["ok"] == true {
        true => Ok(()),
        // A network that is down says nothing about the configuration, and a new account has nothing to lose.
        false if canary.worker.account().is_some() && answer["refused"] == false && !canary.replaces => {
            tracing::warn!(worker = %canary.worker, why, "not known whether the account works; it is started");
            Ok(())
        }
        false => Err(why),
    }
}
