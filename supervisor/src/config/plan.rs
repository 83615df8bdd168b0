//! What a change of the configuration would do, before it is done: each changed key with what it needs, each worker with
//! what happens to it. Pure: two snapshots in, a plan out.

use super::gateway::ReloadMode;
use super::isolation::Settings;
use super::reach::{self, Reach, reach};
use super::read::sha256_hex;
use super::{ConfigSnapshot, worker_config};
use crate::paths::Paths;
use crate::worker::sandbox::{self, Place};
use proto::wire::handshake::WorkerId;
use proto::wire::isolation::Policy;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Channels for which an adapter exists.
const BUILT_CHANNELS: [&str; 1] = ["telegram"];

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Dotted; `agents.list.1.model` for an item of a list.
    pub path: String,
    #[serde(serialize_with = "class")]
    pub class: Reach,
}

fn class<S: serde::Serializer>(reach: &Reach, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reach.class())
}

/// What happens to one worker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerAction {
    Start,
    /// It finishes what it has and is replaced.
    Restart,
    /// It is told and keeps its process.
    Told,
    Stop,
    /// Nothing.
    Kept,
}

/// One worker in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerChange {
    pub id: WorkerId,
    pub action: WorkerAction,
}

/// The difference between two configurations and its consequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigPlan {
    pub changes: Vec<Change>,
    pub workers: Vec<WorkerChange>,
}

/// What a reload mode makes of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing differs.
    Nothing,
    /// All of it, in the running gateway.
    Apply,
    /// Only keys that are hot; the rest waits for a restart.
    ApplyHot,
    /// All of it by a restart.
    Restart,
    /// None of it until somebody restarts the gateway.
    Wait,
}

impl ConfigPlan {
    /// Compares two configurations. `paths` says where agents' workspaces lie.
    #[must_use]
    pub fn of(before: &ConfigSnapshot, after: &ConfigSnapshot, paths: &Paths) -> Self {
        let mut found = Vec::new();
        differences(&before.file.resolved, &after.file.resolved, "", &mut found);
        found.retain(|path| path != "meta" && !path.starts_with("meta."));
        let changes = found.into_iter().map(|path| Change { class: reach(&path), path }).collect();
        let (old, new) = (worker_ids(before), worker_ids(after));
        let all: BTreeSet<&WorkerId> = old.iter().chain(&new).collect();
        let action = |id: &WorkerId| match (old.contains(id), new.contains(id)) {
            (false, _) => WorkerAction::Start,
            (true, false) => WorkerAction::Stop,
            (true, true) => {
                let (old, new) = (Prints::of(before, paths, id), Prints::of(after, paths, id));
                match () {
                    () if old.process != new.process => WorkerAction::Restart,
                    () if old.told != new.told => WorkerAction::Told,
                    () => WorkerAction::Kept,
                }
            }
        };
        let workers = all.into_iter().map(|id| WorkerChange { id: id.clone(), action: action(id) }).collect();
        Self { changes, workers }
    }

    /// Changed keys that need this.
    pub fn paths(&self, wanted: Reach) -> impl Iterator<Item = &str> {
        self.changes.iter().filter(move |change| change.class == wanted).map(|change| change.path.as_str())
    }

    fn needs(&self, wanted: Reach) -> bool {
        self.paths(wanted).next().is_some()
    }

    #[must_use]
    pub fn rebinds(&self) -> bool {
        self.needs(Reach::Rebind)
    }

    /// Workers whose process or settings change.
    pub fn touched(&self) -> impl Iterator<Item = &WorkerId> {
        let touched =
            |worker: &&WorkerChange| !matches!(worker.action, WorkerAction::Kept | WorkerAction::Stop);
        self.workers.iter().filter(touched).map(|worker| &worker.id)
    }

    /// Whether anything has to happen beyond reading new values.
    fn only_hot(&self) -> bool {
        self.changes.iter().all(|change| matches!(change.class, Reach::Hot | Reach::None))
    }

    /// What the mode makes of it.
    #[must_use]
    pub fn decide(&self, mode: ReloadMode) -> Decision {
        if self.changes.is_empty() {
            return Decision::Nothing;
        }
        if self.changes.iter().all(|change| change.class == Reach::None) {
            return Decision::Apply;
        }
        match mode {
            ReloadMode::Off => Decision::Wait,
            _ if self.only_hot() => Decision::Apply,
            ReloadMode::Hot if self.needs(Reach::Hot) => Decision::ApplyHot,
            ReloadMode::Hot => Decision::Wait,
            ReloadMode::Restart => Decision::Restart,
            ReloadMode::Hybrid if self.needs(Reach::Restart) => Decision::Restart,
            ReloadMode::Hybrid => Decision::Apply,
        }
    }

    /// For clients and the command line.
    #[must_use]
    pub fn to_value(&self, mode: ReloadMode) -> Value {
        let decision = match self.decide(mode) {
            Decision::Nothing => "nothing",
            Decision::Apply => "apply",
            Decision::ApplyHot => "applyHot",
            Decision::Restart => "restart",
            Decision::Wait => "wait",
        };
        json!({
            "changes": self.changes, "workers": self.workers, "decision": decision,
            "listener": if self.rebinds() { "rebind" } else { "kept" },
            "restart": self.decide(mode) == Decision::Restart,
        })
    }
}

/// Every worker that a configuration wants.
#[must_use]
pub fn worker_ids(config: &ConfigSnapshot) -> Vec<WorkerId> {
    let agents = config.view.agents.list.iter().map(|agent| WorkerId::agent(&agent.id));
    let accounts = config.view.channels.iter().filter(|(name, _)| BUILT_CHANNELS.contains(&name.as_str()));
    let channels = accounts.flat_map(|(name, channel)| {
        channel.active().map(|(account, _)| WorkerId::channel(name, account)).collect::<Vec<_>>()
    });
    agents.chain(channels).collect()
}

/// Names what a worker was started with and what it was told, the same in every process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prints {
    /// Changes when the process must be replaced: its settings, its environment, or what it may reach. Those rules are put
    /// in force at the start of a process and never loosened.
    pub process: u64,
    /// Changes when it must be told.
    pub told: u64,
}

impl Prints {
    #[must_use]
    pub fn of(config: &ConfigSnapshot, paths: &Paths, id: &WorkerId) -> Self {
        let (config_json, secrets) = worker_config(config, id);
        let value: Value = serde_json::from_str(&config_json).unwrap_or_default();
        let env = config.env().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = crate::worker::worker_env(&env.collect());
        let rules =
            format!("{:?} {:?}", policy_with(config, paths, id, &value), Settings::of(&config.config));
        let process = match (id.account(), id.agent_id()) {
            (Some((channel, _)), _) => json!([channel_part(&value, channel), secrets.0, env, rules]),
            (None, agent) => {
                let agent = agent.unwrap_or_default();
                json!([agent_part(&value, agent), workspace(config, paths, agent), env, rules])
            }
        };
        Self {
            process: print(&process.to_string()),
            told: print(&json!([config_json, secrets.0]).to_string()),
        }
    }
}

/// What one worker may reach.
#[must_use]
pub fn policy(config: &ConfigSnapshot, paths: &Paths, id: &WorkerId) -> Policy {
    let (section, _) = worker_config(config, id);
    policy_with(config, paths, id, &serde_json::from_str(&section).unwrap_or_default())
}

fn policy_with(config: &ConfigSnapshot, paths: &Paths, id: &WorkerId, section: &Value) -> Policy {
    let agent = id.agent_id();
    let workspace = agent.map(|agent| workspace(config, paths, agent));
    let place = Place {
        worker: id,
        home: &paths.home,
        state_dir: &paths.state_dir,
        config_file: &paths.config_file,
        workspace: workspace.as_deref(),
        env: config.env(),
    };
    let own = agent.and_then(|agent| super::own_entry(&config.config, agent));
    sandbox::policy(&place, &config.config, section, own)
}

/// Where an agent works, as its worker is told.
#[must_use]
pub fn workspace(config: &ConfigSnapshot, paths: &Paths, agent: &str) -> std::path::PathBuf {
    let state = paths.state_dir.display().to_string();
    paths.expand(&config.view.agents.workspace_of(agent, &state))
}

/// The first eight bytes of the digest.
fn print(text: &str) -> u64 {
    u64::from_str_radix(sha256_hex(text.as_bytes()).get(..16).unwrap_or_default(), 16).unwrap_or_default()
}

fn channel_part(config: &Value, channel: &str) -> Value {
    let section = config.pointer("/channels").and_then(|all| all.get(channel)).unwrap_or(&Value::Null);
    reach::part(section, &format!("channels.{channel}"), Reach::Channel)
}

/// Its own block and the defaults; the other agents' blocks do not concern it.
fn agent_part(config: &Value, agent: &str) -> Value {
    let mut out = Map::new();
    for (name, section) in config.as_object().into_iter().flatten().filter(|(name, _)| *name != "agents") {
        out.insert(name.clone(), reach::part(section, name, Reach::Agent));
    }
    let defaults = config.pointer("/agents/defaults").unwrap_or(&Value::Null);
    out.insert("defaults".to_owned(), reach::part(defaults, "agents.defaults", Reach::Agent));
    let own = super::worker::own_entry(config, agent).unwrap_or(&Value::Null);
    out.insert("own".to_owned(), reach::part(own, "agents.list.*", Reach::Agent));
    Value::Object(out)
}

/// Dotted paths that differ, into the items of lists of objects too.
fn differences(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    if before == after {
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
                let (old, new) = (old.get(key), new.get(key));
                differences(old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), &below(key), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).all(Value::is_object) => {
            for index in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(index), new.get(index));
                let at = below(&index.to_string());
                differences(old.unwrap_or(&Value::Null), new.unwrap_or(&Value::Null), &at, found);
            }
        }
        // A section that comes or goes is its keys: each has a reach of its own.
        (Value::Object(map), Value::Null) | (Value::Null, Value::Object(map)) if !map.is_empty() => {
            for (key, value) in map {
                let (old, new) = if before.is_null() { (&Value::Null, value) } else { (value, &Value::Null) };
                differences(old, new, &below(key), found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests;
