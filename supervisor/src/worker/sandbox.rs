//! What one worker may reach, from the configuration (pure), and what the kernel says about a worker that claims to be
//! confined. The worker enforces ([`proto::runtime::confine`]); here it is decided and checked.

use super::spec::WorkerSpec;
use crate::config::Environment;
use crate::config::isolation::{AgentSettings, Settings};
use proto::runtime::confine::{OWN_FILES_OPEN, worker_limits};
use proto::runtime::sys;
use proto::wire::handshake::{SandboxReport, WorkerId, WorkerKind};
use proto::wire::isolation::{Policy, Tier, ToolPolicy};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// HTTPS, HTTP, DNS over TCP: a model's or network's own address, and what it redirects to.
const USUAL_PORTS: [u16; 3] = [443, 80, 53];
/// Where model servers of this machine listen when the configuration names no address (Ollama, LM Studio, llama.cpp, vLLM,
/// LiteLLM).
const LOCAL_MODEL_PORTS: [u16; 5] = [11434, 1234, 8080, 8000, 4000];
const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
/// Tool chains below the home folder that hold programs and no passwords.
const TOOL_CHAINS: [&str; 14] = [
    ".rustup",
    ".cargo/bin",
    ".cargo/env",
    ".cargo/registry",
    ".cargo/git",
    ".pyenv",
    ".nvm",
    ".volta",
    ".bun",
    ".deno",
    ".sdkman",
    ".local/bin",
    ".local/lib",
    "go/pkg",
];
/// A command that may not read these does not work at all: git stops at a file that exists and does not open.
const GIT_SETTINGS: [&str; 2] = [".gitconfig", ".config/git"];

/// Whom the rules are for, and where things lie.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub worker: &'a WorkerId,
    pub home: &'a Path,
    pub state_dir: &'a Path,
    pub config_file: &'a Path,
    /// Agents: its workspace.
    pub workspace: Option<&'a Path>,
    /// The supervisor's environment.
    pub env: &'a Environment,
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// `~` and relative paths of the configuration.
fn expand(path: &str, home: &Path, base: &Path) -> PathBuf {
    match path.trim().strip_prefix('~') {
        Some(rest) => home.join(rest.trim_start_matches('/')),
        None => base.join(path.trim()),
    }
}

/// The rules of a worker. `config`: the whole configuration; `section`: what the worker is told of it; `own`: an agent's
/// entry.
#[must_use]
pub fn policy(place: &Place<'_>, config: &Value, section: &Value, own: Option<&Value>) -> Policy {
    let kind = place.worker.kind();
    let (open_files, memory_mb) = worker_limits(kind);
    let mut policy = Policy {
        min: Settings::of(config).min,
        memory_mb,
        open_files,
        temp: text(&temp_dir(place.state_dir, place.worker)),
        canaries: vec![text(place.config_file), text(&place.state_dir.join("gateway.lock"))],
        ..Policy::default()
    };
    let mut ports = ports(section, place.env);
    match (place.worker.account(), place.worker.agent_id()) {
        (Some((channel, account)), _) => channel_rules(&mut policy, place, section, channel, account),
        (None, Some(agent)) => {
            ports.extend(LOCAL_MODEL_PORTS);
            agent_rules(&mut policy, place, config, own, agent);
        }
        (None, None) => {}
    }
    policy.read_only.extend(certificates(place.env));
    // A command never reaches further than its worker.
    let any_port = policy.tool.as_ref().is_some_and(|tool| tool.network);
    policy.ports = (!any_port).then(|| ports.into_iter().collect());
    policy
}

/// Temporary files of a worker and of its commands.
#[must_use]
pub fn temp_dir(state_dir: &Path, worker: &WorkerId) -> PathBuf {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    state_dir.join("tmp").join(worker.0.chars().map(safe).collect::<String>())
}

fn agent_rules(policy: &mut Policy, place: &Place<'_>, config: &Value, own: Option<&Value>, agent: &str) {
    let settings = AgentSettings::of(config, own);
    let (home, state) = (place.home, place.state_dir);
    let workspace = place.workspace.unwrap_or(Path::new(""));
    let base = place.config_file.parent().unwrap_or(state);
    let given = |paths: &[String]| -> Vec<String> {
        paths.iter().map(|path| text(&expand(path, home, base))).collect()
    };
    let mut shared =
        vec![text(&state.join("media")), text(&state.join("skills")), text(&home.join(".agents/skills"))];
    let extra = config.pointer("/skills/load/extraDirs").and_then(Value::as_array);
    let extra = extra.into_iter().flatten().filter_map(Value::as_str);
    shared.extend(extra.map(|dir| text(&expand(dir, home, workspace))));
    shared.extend(given(&settings.read_only));
    shared.extend(TOOL_CHAINS.iter().chain(&GIT_SETTINGS).map(|below| text(&home.join(below))));
    let path = place.env.get("PATH").unwrap_or_default();
    // What is on the PATH runs; a home folder on it does not open the home folder.
    let on_path = path
        .split(':')
        .filter(|dir| dir.starts_with('/') && !home.starts_with(dir) && !state.starts_with(dir));
    shared.extend(on_path.map(|dir| text(&chain_of(Path::new(dir)))));
    shared.sort();
    shared.dedup();
    let mut writes = vec![text(workspace)];
    writes.extend(given(&settings.read_write));
    policy.read_write.clone_from(&writes);
    policy.read_write.push(text(&state.join("agents").join(agent)));
    policy.read_write.push(text(&state.join("media/outbound")));
    policy.read_only.clone_from(&shared);
    if agent != "main" {
        // Keys that an agent without its own takes over.
        policy.read_only.push(text(&state.join("agents/main/agent/auth-profiles.json")));
    }
    policy.tool = Some(ToolPolicy {
        read_write: writes,
        read_only: shared,
        network: settings.network,
        memory_mb: settings.memory_mb,
        cpu_seconds: settings.cpu_seconds,
        processes: settings.processes,
        temp: policy.temp.clone(),
        key: "agents.list[].isolation".to_owned(),
    });
}

/// A folder of programs, or the tool chain that it belongs to: `~/.pyenv/shims` is nothing without `~/.pyenv`.
fn chain_of(folder: &Path) -> PathBuf {
    let chain = |part: &std::ffi::OsStr| TOOL_CHAINS.iter().any(|chain| part == *chain);
    let known = folder.ancestors().find(|above| above.file_name().is_some_and(chain));
    known.unwrap_or(folder).to_owned()
}

fn channel_rules(policy: &mut Policy, place: &Place<'_>, section: &Value, channel: &str, account: &str) {
    let state = place.state_dir;
    policy.read_write =
        vec![text(&state.join("media").join(format!("{channel}-{account}"))), text(&state.join("locks"))];
    policy.read_write.extend(account_lock_folders(place.env));
    policy.read_only = vec![text(&state.join("media"))];
    files_named(section, &mut |path| policy.read_only.push(text(&expand(path, place.home, state))));
}

/// Where accounts are locked for the whole host; the first that can be made is used.
fn account_lock_folders(env: &Environment) -> Vec<String> {
    let own = rustix::process::getuid().as_raw();
    let mut folders = vec!["/run/openclaw".to_owned(), format!("/tmp/openclaw-{own}")];
    folders.extend(env.get("XDG_RUNTIME_DIR").map(|dir| format!("{dir}/openclaw")));
    folders
}

/// Every file that a key names (`tokenFile`, …).
fn files_named(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match value.as_str() {
            Some(path) if key.ends_with("File") && !path.trim().is_empty() => found(path),
            _ => files_named(value, found),
        }),
        Value::Array(items) => items.iter().for_each(|item| files_named(item, found)),
        _ => {}
    }
}

fn certificates(env: &Environment) -> Vec<String> {
    ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(|name| env.get(name)).map(str::to_owned).collect()
}

/// The ports of every address that the worker is told, of proxies, and the usual ones.
fn ports(section: &Value, env: &Environment) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from(USUAL_PORTS);
    addresses(section, &mut ports);
    ports.extend(PROXY_VARIABLES.iter().filter_map(|name| env.get(name)).filter_map(port_of));
    ports
}

fn addresses(value: &Value, ports: &mut BTreeSet<u16>) {
    match value {
        Value::String(text) => ports.extend(port_of(text)),
        Value::Object(map) => map.values().for_each(|value| addresses(value, ports)),
        Value::Array(items) => items.iter().for_each(|item| addresses(item, ports)),
        _ => {}
    }
}

/// The port that an address names.
fn port_of(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit('@').next()?;
    host.rsplit_once(':')?.1.parse().ok()
}

/// What the kernel says of a process that claims to be confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub no_new_privs: bool,
    /// A filter of system calls is in force.
    pub seccomp: bool,
    /// Others of the same user cannot open its memory. `None`: not to be seen by root.
    pub closed: Option<bool>,
}

/// `Seccomp:` of a process with a filter.
const SECCOMP_FILTER: u64 = 2;

/// Looks at a process; `None` when it is gone or hidden.
#[must_use]
pub fn look(pid: u32) -> Option<Seen> {
    use std::os::unix::fs::MetadataExt;
    let folder = Path::new("/proc").join(pid.to_string());
    let status = folder.join("status");
    let own = rustix::process::getuid().as_raw();
    // The kernel gives the files of a process that is not dumpable to root.
    let owner = std::fs::metadata(folder.join("mem")).ok().map(|meta| meta.uid());
    Some(Seen {
        no_new_privs: sys::status_field(&status, "NoNewPrivs:")? == 1,
        seccomp: sys::status_field(&status, "Seccomp:")? == SECCOMP_FILTER,
        closed: (own != 0).then(|| owner == Some(0)),
    })
}

/// The tier that holds: the worker's own report, as far as the kernel does not contradict it. The second value says what
/// is amiss. PURE.
#[must_use]
pub fn verdict(report: &SandboxReport, seen: Option<Seen>) -> (Tier, Vec<String>) {
    let mut amiss = report.missing.clone();
    let Some(seen) = seen else {
        amiss.push("the process is not to be seen in /proc".to_owned());
        return (Tier::T0, amiss);
    };
    let mut tier = report.tier;
    for (holds, claim) in [
        (seen.no_new_privs, "no_new_privs is not in force in /proc"),
        (seen.seccomp, "no seccomp filter is in force in /proc"),
        (seen.closed != Some(false), "its memory is open to other processes of this user"),
    ] {
        if !holds {
            tier = Tier::T0;
            amiss.push(claim.to_owned());
        }
    }
    if report.canary_refused != Some(true) && tier > Tier::T3 {
        tier = Tier::T3;
        amiss.push("it did not prove that files are ruled".to_owned());
    }
    (tier, amiss)
}

/// What helps when a rule opens the gateway's own files.
pub const OTHER_FOLDER: &str = "name a folder that does not contain the state directory (agents.list[].workspace, isolation.readOnly, readWrite)";

/// How far a process is confined, as the kernel and the process say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    pub tier: Tier,
    /// For people, in one line.
    pub text: String,
    /// Rules that are not kept, in words.
    pub amiss: Vec<String>,
    /// Why the worker may not run like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl Sandbox {
    /// Checks a worker's own report against /proc.
    #[must_use]
    pub fn of(report: &SandboxReport, pid: u32, spec: &WorkerSpec) -> Self {
        let (tier, amiss) = verdict(report, look(pid));
        let tool = spec.policy.as_ref().and_then(|policy| policy.tool.as_ref());
        let text = describe(tier, report, spec.id.kind(), tool.is_some_and(|tool| tool.network));
        Self { tier, text, amiss, refused: None }
    }

    /// Why this is not enough, with the remedy.
    #[must_use]
    pub fn refusal(&self, min: Tier) -> String {
        let (tier, amiss) = (self.tier, self.amiss.join("; "));
        if self.amiss.iter().any(|missing| missing == OWN_FILES_OPEN) {
            return format!("isolation unavailable: {amiss}; {OTHER_FOLDER}");
        }
        format!(
            "isolation unavailable: tier {tier}, and isolation.min asks for {min} ({amiss}); run a kernel with Landlock and \
             seccomp (boot with lsm=landlock,… where Landlock is built in and not listed), or set isolation.min to \
             \"{tier}\", or isolation.mode to \"bestEffort\""
        )
    }
}

/// In one line for people: `T2 (Landlock 7, seccomp)`.
fn describe(tier: Tier, report: &SandboxReport, kind: WorkerKind, network: bool) -> String {
    let mut parts = Vec::new();
    if report.landlock_abi > 0 {
        parts.push(format!("Landlock {}", report.landlock_abi));
    }
    if report.seccomp {
        parts.push("seccomp".to_owned());
    }
    if kind == WorkerKind::Agent && tier >= Tier::T3 {
        parts.push(format!("commands {} network", if network { "with" } else { "without" }));
    }
    if parts.is_empty() { tier.to_string() } else { format!("{tier} ({})", parts.join(", ")) }
}

#[cfg(test)]
mod tests;
