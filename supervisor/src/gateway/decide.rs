//! Which configuration a start goes on with: the file, or the last good one where the file is valid and the start cannot
//! live with it (an address that is taken, a folder that cannot be made, a log file that cannot be written).

use super::fd_store::Kept;
use super::journald::Journald;
use super::logging;
use super::start::{Options, Refused, lock_refusal, refused};
use crate::config::startup::{self, AuthPlan, GeneratedToken, StartPlan};
use crate::config::verdict;
use crate::config::{ConfigHandle, Issue};
use crate::exit_code;
use crate::front::accept;
use crate::lock::{self, Held};
use crate::scheduler::shared::now_ms;
use crate::upgrade::state::State;

/// What the decision needs beside the configuration.
pub struct Ground<'a> {
    pub options: &'a Options,
    /// Listeners that the service manager or the image before kept open.
    pub kept: &'a Kept,
    pub carried: Option<&'a State>,
    /// This process ran a gateway before this start.
    pub restarted: bool,
}

/// A configuration that can be started with.
pub struct Decided {
    pub plan: StartPlan,
    pub workspaces: Vec<Held>,
}

/// Starts the log where the configuration wants it.
///
/// # Errors
/// The file cannot be written, nor that of the last good configuration.
pub fn start_log(
    config: &ConfigHandle,
    level: Option<&str>,
    journal: Option<Journald>,
) -> std::io::Result<logging::Log> {
    let paths = config.paths();
    let file = || logging::file_of(&config.current().logging, &paths.logs_dir(), |text| paths.expand(text));
    if let Err(error) = logging::try_file(&file()) {
        let why = format!("{}: {error}", file().display());
        config.fall_back(vec![Issue::new("logging.file", why).hint("name a file that can be written")]);
    }
    logging::start(&config.current().logging, file(), level, journal)
}

/// An error for each reason why the file is not what runs.
pub fn say_what_runs(config: &ConfigHandle) {
    let state = config.state();
    if state.state == "invalid" {
        for error in &state.errors {
            tracing::error!(event = "config.invalid", "config INVALID: {error}");
        }
        tracing::error!("running {} instead of the file; fix it and restart", state.source);
    }
}

/// Plans the start; with the last good configuration when it cannot be done with the file and that is allowed.
///
/// # Errors
/// The first thing that stands in the way, as printed.
pub fn decide(config: &ConfigHandle, ground: &Ground<'_>) -> Result<Decided, Refused> {
    match attempt(config, ground) {
        Ok(decided) => Ok(decided),
        Err((refusal, key)) => {
            let first = refusal.message.lines().next().unwrap_or_default().to_owned();
            let why = Issue::new(key, first).hint("correct the file; the gateway takes it up by itself");
            if !config.fall_back(vec![why]) {
                return Err(refusal);
            }
            say_what_runs(config);
            attempt(config, ground).map_err(|(refusal, _)| refusal)
        }
    }
}

/// With the key that is to blame.
fn attempt(config: &ConfigHandle, ground: &Ground<'_>) -> Result<Decided, (Refused, &'static str)> {
    let snapshot = config.current();
    let options = ground.options;
    let planned = startup::plan(&snapshot, &options.overrides, config.paths(), &verdict::start_facts());
    let plan = planned.map_err(|refusal| {
        if let Some(text) = &refusal.log {
            tracing::error!("{text}");
        }
        let text = refusal.log.as_ref().map_or_else(String::new, |text| format!("{text}\n"));
        (refused(format!("{text}{}", refusal.message), refusal.exit_code(options.service)), "gateway")
    })?;
    for warning in &snapshot.file.findings.warnings {
        tracing::warn!("{warning}");
    }
    let known = |warning: &&String| ground.restarted && *warning == startup::IN_CONTAINER;
    for warning in plan.warnings.iter().filter(|warning| !known(warning)) {
        tracing::warn!("{warning}");
    }
    // Only where another address would help: else the bind itself says who has it.
    if config.may_fall_back() && ground.carried.is_none() {
        for ip in plan.bind.required.iter().filter(|ip| !ground.kept.has(**ip, plan.port)) {
            let taken =
                |error: accept::BindError| (refused(error.to_string(), exit_code::TEMPORARY), "gateway.port");
            accept::bind(*ip, plan.port).map(drop).map_err(taken)?;
        }
    }
    let workspaces =
        lock_workspaces(config, options.service, ground.carried).map_err(|refusal| (refusal, "agents"))?;
    Ok(Decided { plan, workspaces })
}

pub fn save_token(config: &ConfigHandle, auth: &AuthPlan) {
    let Some(token) = auth.token.as_ref().filter(|_| auth.generated != GeneratedToken::No) else { return };
    let saved = auth.generated == GeneratedToken::Save && {
        let _writing = config.lock();
        let before = config.on_disk();
        let mut values = before.parsed.clone();
        let patch = serde_json::json!({"gateway": {"auth": {"mode": "token", "token": token.expose()}}});
        crate::config::merge_patch(&mut values, &patch);
        let new = crate::config::handle::NewText::Values(values);
        let written = config.change(&before, new, crate::config::handle::Allow::default(), now_ms());
        match written {
            Ok(changed) => config.activate(changed.file).is_ok(),
            Err(error) => {
                tracing::error!(%error, "generated token not saved");
                false
            }
        }
    };
    if saved {
        tracing::info!("{}", startup::auth::TOKEN_SAVED);
    } else {
        tracing::warn!("{}", startup::auth::TOKEN_IN_MEMORY);
    }
}

fn lock_workspaces(
    config: &ConfigHandle,
    service: bool,
    carried: Option<&State>,
) -> Result<Vec<Held>, Refused> {
    let snapshot = config.current();
    let paths = config.paths();
    let state = paths.state_dir.display().to_string();
    let mut dirs: Vec<std::path::PathBuf> = snapshot
        .view
        .agents
        .list
        .iter()
        .map(|agent| paths.expand(&snapshot.view.agents.workspace_of(&agent.id, &state)))
        .collect();
    dirs.sort();
    dirs.dedup();
    let mut held = Vec::new();
    for dir in dirs {
        std::fs::create_dir_all(&dir).map_err(|error| {
            refused(format!("workspace {} cannot be created: {error}", dir.display()), exit_code::FAILURE)
        })?;
        let taken = carried.and_then(|state| state.take_workspace_lock(&dir).ok().flatten());
        held.push(match taken {
            Some(taken) => taken,
            None => lock::lock_workspace(&dir).map_err(|error| lock_refusal(&error, service))?,
        });
    }
    Ok(held)
}
