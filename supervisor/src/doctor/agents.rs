//! Agents: where they work, and whether their models can be asked.

use super::{Finding, Severity};
use crate::config::model_choice::key_names;
use crate::config::{ConfigDisk, ConfigSnapshot};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Largest file of auth profiles that is read; the agents' own limit is not below it.
const PROFILES_BYTES_MAX: u64 = 1 << 20;

pub fn examine(disk: &ConfigDisk, snapshot: &ConfigSnapshot) -> Vec<Finding> {
    let mut found = workspaces(disk, snapshot);
    found.extend(models(disk, snapshot));
    found
}

fn workspaces(disk: &ConfigDisk, snapshot: &ConfigSnapshot) -> Vec<Finding> {
    let agents = &snapshot.view.agents;
    let state = disk.paths.state_dir.display().to_string();
    let mut users: BTreeMap<PathBuf, Vec<&str>> = BTreeMap::new();
    for agent in &agents.list {
        let workspace = disk.paths.expand(&agents.workspace_of(&agent.id, &state));
        users.entry(workspace).or_default().push(&agent.id);
    }
    let mut found = Vec::new();
    for (workspace, agents) in users {
        let place = workspace.display();
        if agents.len() > 1 {
            let message = format!("the agents {} share this workspace and its memory", agents.join(", "));
            let shared =
                Finding::new("agent.shared_workspace", Severity::Warning, place.to_string(), message);
            found.push(shared.remedy("give each its own: agents.list[].workspace"));
        }
        if !workspace.is_dir() {
            let message =
                format!("the workspace of {} does not exist; the next start creates it", agents.join(", "));
            found.push(Finding::new("agent.no_workspace", Severity::Note, place, message));
        }
    }
    found
}

fn models(disk: &ConfigDisk, snapshot: &ConfigSnapshot) -> Vec<Finding> {
    let agents = &snapshot.view.agents;
    let config = disk.paths.config_file.display();
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for agent in &agents.list {
        let choice = agents.model_of(&agent.id);
        let Some(primary) = &choice.primary else {
            let message = format!("agent {} has no model", agent.id);
            let unset = Finding::new("model.unset", Severity::Warning, config.to_string(), message);
            found.push(unset.remedy(
                "openclaw up, or openclaw config set agents.defaults.model.primary <provider/model>",
            ));
            continue;
        };
        for reference in std::iter::once(primary).chain(&choice.fallbacks) {
            let Some((provider, _)) = reference.split_once('/') else { continue };
            let provider = provider.to_lowercase();
            let names = key_names(&provider);
            if names.is_empty()
                || has_key(disk, snapshot, &agent.id, &provider, names)
                || !told.insert(reference)
            {
                continue;
            }
            let message = format!(
                "{reference}: no key for {provider} in the environment, the config or the auth profiles"
            );
            let missing =
                Finding::new("model.no_key", Severity::Warning, format!("agent:{}", agent.id), message);
            let env_file = disk.paths.state_dir.join(".env");
            found.push(missing.remedy(format!("put {}=… into {}", names.join(" or "), env_file.display())));
        }
    }
    found
}

fn has_key(
    disk: &ConfigDisk,
    snapshot: &ConfigSnapshot,
    agent: &str,
    provider: &str,
    names: &[&str],
) -> bool {
    let in_env = names.iter().any(|name| snapshot.env().get(name).is_some());
    let configured =
        snapshot.config.pointer("/models/providers").and_then(|all| all.get(provider)?.get("apiKey"));
    let profiles = || {
        let dir = |id: &str| {
            let own = snapshot.view.agents.get(id).and_then(|agent| agent.agent_dir.as_deref());
            own.map_or_else(
                || disk.paths.state_dir.join("agents").join(id).join("agent"),
                |dir| disk.paths.expand(dir),
            )
        };
        [agent, snapshot.view.agents.default_id()].iter().any(|id| has_profile(dir(id), provider))
    };
    in_env || configured.is_some() || profiles()
}

/// Whether the `auth-profiles.json` of an agent names the provider.
fn has_profile(agent_dir: PathBuf, provider: &str) -> bool {
    let path = agent_dir.join("auth-profiles.json");
    let small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= PROFILES_BYTES_MAX);
    let file: Value = small
        .then(|| fs::read(&path).ok())
        .flatten()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut profiles = file["profiles"].as_object().into_iter().flatten();
    profiles.any(|(_, profile)| {
        profile["provider"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(provider))
    })
}
