//! Completing an installation: directory, configuration, workspace. Only what is missing is written.

use super::super::invocation::{Failure, Invocation};
use super::super::output::now_ms;
use super::probe;
use crate::config::advice::{invalid_for_commands, last_good_line};
use crate::config::doctor::repair_modes;
use crate::config::gateway::Mode;
use crate::config::handle::{Allow, ChangeError, NewText};
use crate::config::model_choice::{self, ModelDecision};
use crate::config::startup::auth::generate_token;
use crate::config::{
    ConfigDisk, ConfigFile, ConfigSnapshot, ConfigSource, Environment, KeyPath, lines, load_env, merge_patch,
};
use crate::lock;
use crate::paths::Paths;
use crate::worker::{Binary, run_to_end};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Writing seven small files; longer means that the disk hangs.
const SEED_TIMEOUT: Duration = Duration::from_secs(20);

/// What was found and done.
pub struct Setup {
    /// One for each thing that was written; empty when all was there.
    pub lines: Vec<String>,
    pub decision: ModelDecision,
    /// Process, `.env` files and the file's own `env` section.
    pub env: Environment,
}

pub fn complete(invocation: &Invocation, wanted: Option<&str>) -> Result<Setup, Failure> {
    let paths = &invocation.paths;
    let mut done = Vec::new();
    let fresh = !paths.state_dir.is_dir();
    lock::create_private_dir(&paths.state_dir)
        .map_err(|error| Failure::new(format!("state directory {}: {error}", paths.state_dir.display())))?;
    if fresh {
        done.push(format!("state directory {} (mode 700)", paths.state_dir.display()));
    }
    // Given back before the gateway takes it for itself.
    let held = lock::lock_instance(&paths.state_dir).map_err(|error| Failure::new(error.to_string()))?;
    held.note_command("openclaw up");
    let cwd = std::env::current_dir().ok();
    let env = load_env(invocation.env.clone(), paths, cwd.as_deref());
    let disk = ConfigDisk::new(paths.clone(), env);
    let before = disk.read();
    let snapshot = snapshot(&before, paths)?;
    if snapshot.gateway.mode == Some(Mode::Remote) {
        return Err(Failure::new(format!(
            "gateway.mode is \"remote\" in {}: this machine uses another one's gateway. To run one here: openclaw config set gateway.mode local",
            paths.config_file.display()
        )));
    }
    let servers =
        if model_choice::needs_probe(&snapshot, wanted) { probe::servers(&snapshot) } else { Vec::new() };
    let decision = model_choice::choose(&snapshot, wanted, &servers);
    complete_config(&disk, &before, &snapshot, &decision, &mut done)?;
    repair_modes(&disk, &mut done);
    seed(invocation, &snapshot, &mut done)?;
    Ok(Setup { lines: done, decision, env: snapshot.env().clone() })
}

fn snapshot(file: &ConfigFile, paths: &Paths) -> Result<ConfigSnapshot, Failure> {
    ConfigSnapshot::new(Arc::new(file.clone()), ConfigSource::File).map_err(|issues| {
        let refused = invalid_for_commands(&file.source.path, &issues);
        let last_good = last_good_line(paths, &format!("{} up", super::command()));
        Failure::new([Some(refused), last_good].into_iter().flatten().collect::<Vec<_>>().join("\n"))
    })
}

fn complete_config(
    disk: &ConfigDisk,
    before: &ConfigFile,
    snapshot: &ConfigSnapshot,
    decision: &ModelDecision,
    done: &mut Vec<String>,
) -> Result<(), Failure> {
    let token = generate_token()
        .ok_or_else(|| Failure::new("no token can be made: the kernel gives no random numbers"))?;
    let patch = model_choice::setup_patch(snapshot, decision, token.expose());
    let mut values = if before.parsed.is_object() { before.parsed.clone() } else { json!({}) };
    merge_patch(&mut values, &patch);
    let path = disk.paths.config_file.display();
    let changed = disk.change(before, NewText::Values(values.clone()), Allow::default(), now_ms()).map_err(
        |error| {
            let why = match &error {
                ChangeError::Invalid(issues) => lines(issues),
                other => other.to_string(),
            };
            Failure::new(format!("config {path} was not changed: {why}"))
        },
    )?;
    if !before.source.exists {
        done.push(format!("config {path} (mode 600)"));
    }
    done.extend(changed.paths.iter().map(|path| shown(path, &values)));
    Ok(())
}

/// `gateway.mode = "local"`; a secret is not shown.
fn shown(path: &str, values: &Value) -> String {
    let value = KeyPath::parse(path).ok().and_then(|path| path.get(values).cloned());
    match value {
        Some(_) if crate::config::is_sensitive(path) => format!("{path} (generated)"),
        Some(value) => format!("{path} = {value}"),
        None => path.to_owned(),
    }
}

/// The files of the default agent's workspace. Their texts belong to the agent's program, so it writes them; the other
/// agents' come when they start.
fn seed(invocation: &Invocation, snapshot: &ConfigSnapshot, done: &mut Vec<String>) -> Result<(), Failure> {
    let agents = &snapshot.view.agents;
    if agents.skip_bootstrap {
        return Ok(());
    }
    let paths = &invocation.paths;
    let state = paths.state_dir.display().to_string();
    let workspace = paths.expand(&agents.workspace_of(agents.default_id(), &state)).display().to_string();
    let agent = Binary::find("openclaw-agent").map_err(|error| Failure::new(error.to_string()))?;
    let output = run_to_end(&agent, &["--seed-workspace", &workspace], &BTreeMap::new(), b"", SEED_TIMEOUT)
        .map_err(|error| Failure::new(format!("{}: {error}", agent.path().display())))?;
    if output.code != Some(0) {
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let written = String::from_utf8_lossy(&output.stdout);
    let names: Vec<&str> = written.lines().collect();
    if !names.is_empty() {
        done.push(format!("workspace {workspace}: {}", names.join(", ")));
    }
    Ok(())
}
