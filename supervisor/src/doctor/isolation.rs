//! How far workers and commands are confined, and which key opens what.

use super::{Finding, Gateway, Severity};
use crate::config::isolation::{AgentSettings, Settings};
use crate::config::verdict::opens_own_files;
use crate::config::{ConfigDisk, ConfigSnapshot, own_entry};
use crate::worker::sandbox::OTHER_FOLDER;
use proto::runtime::confine::OWN_FILES_OPEN;
use proto::wire::handshake::Isolation;
use serde_json::Value;

/// The keys of an agent, as remedies name them.
const KEYS: &str = "agents.list[].isolation (or agents.defaults.isolation): readOnly, readWrite, env, network, memoryMb, cpu, \
                    processes";

pub fn examine(disk: &ConfigDisk, snapshot: &ConfigSnapshot, gateway: &Gateway) -> Vec<Finding> {
    let mut found = mode(disk, snapshot);
    for agent in &snapshot.view.agents.list {
        found.extend(rules(disk, snapshot, &agent.id));
    }
    if let Gateway::Running(info) = gateway {
        found.extend(in_force(info));
        found.extend(groups(info));
    }
    found
}

fn mode(disk: &ConfigDisk, snapshot: &ConfigSnapshot) -> Vec<Finding> {
    let settings = Settings::of(&snapshot.config);
    let message = match settings.mode {
        Isolation::Require => return Vec::new(),
        Isolation::BestEffort => {
            "isolation.mode is bestEffort: a host that cannot confine workers runs them unconfined".to_owned()
        }
        Isolation::Off => "isolation.mode is off: an agent's commands can do what this user can".to_owned(),
    };
    let weak = Finding::new("isolation.mode", Severity::Warning, disk.paths.config_file.display(), message);
    vec![weak.remedy("openclaw config set isolation.mode require")]
}

/// What the commands of one agent may do, and paths that give away or give nothing.
fn rules(disk: &ConfigDisk, snapshot: &ConfigSnapshot, agent: &str) -> Vec<Finding> {
    let settings = AgentSettings::of(&snapshot.config, own_entry(&snapshot.config, agent));
    let place = format!("agent {agent}");
    let network = if settings.network { "on" } else { "off" };
    let message = format!(
        "commands: network {network}, {} MiB, {} s of processor time, {} processes; {} further paths to read, {} to write",
        settings.memory_mb,
        settings.cpu_seconds,
        settings.processes,
        settings.read_only.len(),
        settings.read_write.len()
    );
    let mut found =
        vec![Finding::new("isolation.rules", Severity::Note, place.clone(), message).remedy(KEYS)];
    let state = disk.paths.state_dir.display().to_string();
    let workspace = snapshot.view.agents.workspace_of(agent, &state);
    let given = settings.read_only.iter().chain(&settings.read_write).chain(std::iter::once(&workspace));
    for path in given {
        let real = disk.paths.expand(path);
        if opens_own_files(&real, &disk.paths) {
            let message =
                format!("{path} contains the gateway's own files, secrets included: it will not start");
            let open = Finding::new("isolation.open", Severity::Error, place.clone(), message);
            found.push(open.remedy(OTHER_FOLDER));
        } else if *path != workspace && !real.exists() {
            let message = format!("{path} does not exist, so it is not opened");
            let gone = Finding::new("isolation.missing", Severity::Warning, place.clone(), message);
            found.push(gone.remedy("create it and restart the agent's worker, or take it out of isolation"));
        }
    }
    found
}

/// Whether the service manager gave the gateway control groups, which hold what a worker starts together.
fn groups(info: &Value) -> Option<Finding> {
    let text = info["controlGroups"].as_str()?;
    let found = Finding::new("isolation.groups", Severity::Note, "control groups", text.to_owned());
    let remedy = "`openclaw service install` makes a service that has its own (Delegate=)";
    Some(if text.starts_with("none") { found.remedy(remedy) } else { found })
}

/// What the running workers have.
fn in_force(info: &Value) -> Vec<Finding> {
    let workers = info["isolation"].as_array().into_iter().flatten();
    let finding = |worker: &Value| {
        let text = |key: &str| worker[key].as_str().unwrap_or_default();
        let group = match text("controlGroup") {
            "" => String::new(),
            limits => format!("; control group: {limits}"),
        };
        let amiss: Vec<&str> =
            worker["amiss"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if amiss.is_empty() {
            return Finding::new(
                "isolation.worker",
                Severity::Note,
                text("id"),
                format!("confined: {}{group}", text("text")),
            );
        }
        let message = format!("confined: {}{group}; {}", text("text"), amiss.join("; "));
        let weak = Finding::new("isolation.worker", Severity::Warning, text("id"), message);
        weak.remedy(match amiss.contains(&OWN_FILES_OPEN) {
            true => OTHER_FOLDER,
            false => "a kernel with Landlock 6 (Linux 6.12) and seccomp keeps all rules",
        })
    };
    workers.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_weak_worker_is_a_warning_with_what_is_missing() {
        let info = json!({"isolation": [
            {"id": "agent:main", "tier": "T2", "text": "T2 (Landlock 7, seccomp)", "amiss": []},
            {"id": "channel:x:y", "tier": "T3", "text": "T3 (seccomp)", "amiss": ["files are not ruled"]},
        ]});
        let severities: Vec<Severity> = in_force(&info).iter().map(|finding| finding.severity).collect();
        assert!(matches!(severities[..], [Severity::Note, Severity::Warning]));
    }
}
