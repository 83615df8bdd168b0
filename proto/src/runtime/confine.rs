//! What a worker takes away from itself before it has a thread.
//!
//! ```text
//! limits → folders of its own → no_new_privs → capabilities → Landlock → seccomp → not dumpable → prove it on a canary
//! ```
//! Order matters: folders are made while that is still allowed; `dumpable` comes late, since it closes /proc/self to
//! ourselves as well. What may be reached is decided elsewhere ([`crate::wire::isolation`]); here it is enforced.

pub mod attributes;
pub mod landlock;
pub mod places;
pub mod seccomp;

use super::sys;
use crate::wire::handshake::{Bootstrap, Isolation, SandboxReport, WorkerKind};
use crate::wire::isolation::{Policy, Tier, ToolPolicy};
use landlock::{ABI_PORTS, ABI_SCOPES, Ports, Rules};
use nix::sys::signal::Signal;
use places::{Place, Right};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;

/// Connections of one account, and files.
const CHANNEL_OPEN_FILES_MAX: u64 = 1024;
/// Several sessions with their tools' pipes.
const AGENT_OPEN_FILES_MAX: u64 = 4096;
/// A channel worker holds one account's messages in flight.
const CHANNEL_DATA_MB_MAX: u64 = 512;
/// An agent worker holds the transcripts of its active sessions.
const AGENT_DATA_MB_MAX: u64 = 1024;
/// Under memory pressure the kernel takes agents (with their commands) before channels, and the supervisor last.
const CHANNEL_OOM_SCORE: &str = "200";
const AGENT_OOM_SCORE: &str = "300";

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot confine this process: {step} failed ({source}); with isolation.mode \"bestEffort\" it would start anyway"
)]
pub struct ConfineError {
    step: &'static str,
    source: io::Error,
}

/// Confines the calling process. A limit that cannot be set is fatal under [`Isolation::Require`]; what the kernel lacks shows in
/// the report, by which the supervisor decides before it hands out a secret.
pub fn confine(bootstrap: &Bootstrap) -> Result<SandboxReport, ConfineError> {
    let (kind, isolation) = (bootstrap.kind, bootstrap.isolation);
    let need = |step: &'static str, result: io::Result<()>| match result {
        Err(source) if isolation == Isolation::Require => Err(ConfineError { step, source }),
        _ => Ok(()),
    };
    need("blocking signals", block_signals())?;
    need("the limit on core files", sys::no_core_files())?;
    let default = default_policy(kind);
    let policy = bootstrap.policy.as_ref().unwrap_or(&default);
    need("the limit on open files", sys::open_files_max(policy.open_files))?;
    need("making its folders", make_folders(policy))?;
    let mut report = SandboxReport { dumpable: true, ..SandboxReport::default() };
    if isolation == Isolation::Off {
        return Ok(report);
    }
    need("the limit on memory", sys::data_bytes_max(policy.memory_mb.saturating_mul(1024 * 1024)))?;
    let score = if kind == WorkerKind::Agent { AGENT_OOM_SCORE } else { CHANNEL_OOM_SCORE };
    // A host whose own score is higher keeps it: lowering needs a right that a service does not have.
    let _kept_as_it_was = sys::oom_score(score);
    let privs = sys::no_new_privs();
    report.no_new_privs = *privs.as_ref().unwrap_or(&false);
    need("no_new_privs", privs.map(drop))?;
    need("dropping capabilities", sys::drop_capabilities())?;
    if bootstrap.policy.is_some() {
        match worker_rules(policy).and_then(Rules::enforce) {
            Ok(abi) => report.landlock_abi = abi,
            Err(error) => report.missing.push(format!("Landlock: {error}")),
        }
    }
    report.missing.extend(missing(report.landlock_abi, policy));
    // Started before the filters, which it must not have.
    let keeper = policy.tool.as_ref().map(attributes::Keeper::start).transpose();
    let seccomp = seccomp::enforce_worker(policy.ports.is_none());
    report.seccomp = seccomp.is_ok();
    if let Err(error) = seccomp {
        report.missing.push(format!("seccomp: {error}"));
    }
    let attributes = match keeper {
        Ok(Some(keeper)) => keeper.take_over(),
        Ok(None) => attributes::refuse(),
        Err(error) => Err(error),
    };
    if let Err(error) = attributes {
        report.missing.push(format!("modes and times of files are not ruled: {error}"));
    }
    let dumpable = sys::not_dumpable();
    report.dumpable = *dumpable.as_ref().unwrap_or(&true);
    need("dumpable", dumpable.map(drop))?;
    report.canary_refused = probe(&policy.canaries);
    if report.landlock_abi > 0 && report.canary_refused == Some(false) {
        report.missing.push(OWN_FILES_OPEN.to_owned());
    }
    report.tier = tier(&report);
    Ok(report)
}

/// What a report says is missing when a rule opens what no worker may see. Another kernel does not help then.
pub const OWN_FILES_OPEN: &str = "the gateway's own files can be read: the workspace, or a path of isolation.readOnly or readWrite, contains them";

fn default_policy(kind: WorkerKind) -> Policy {
    let (open_files, memory_mb) = match kind {
        WorkerKind::Agent => (AGENT_OPEN_FILES_MAX, AGENT_DATA_MB_MAX),
        WorkerKind::Channel => (CHANNEL_OPEN_FILES_MAX, CHANNEL_DATA_MB_MAX),
    };
    Policy { open_files, memory_mb, ..Policy::default() }
}

/// The limits of a worker's own process, by kind: open files, and memory in MiB.
pub fn worker_limits(kind: WorkerKind) -> (u64, u64) {
    let policy = default_policy(kind);
    (policy.open_files, policy.memory_mb)
}

/// What a report is worth.
fn tier(report: &SandboxReport) -> Tier {
    let files = report.landlock_abi > 0 && report.canary_refused != Some(false);
    match (report.no_new_privs && report.seccomp, files) {
        (true, true) => Tier::T2,
        (true, false) => Tier::T3,
        (false, _) => Tier::T0,
    }
}

fn missing(abi: u32, policy: &Policy) -> Vec<String> {
    let mut missing = Vec::new();
    if abi == 0 {
        missing.push("files are not ruled: Landlock is not in force".to_owned());
    } else {
        if abi < ABI_PORTS && policy.ports.is_some() {
            missing.push(format!("ports are not ruled: Landlock version {abi} of {ABI_PORTS}"));
        }
        if abi < ABI_SCOPES {
            missing.push(format!(
                "signals and abstract sockets are not ruled: Landlock version {abi} of {ABI_SCOPES}"
            ));
        }
    }
    missing
}

fn make_folders(policy: &Policy) -> io::Result<()> {
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    for folder in &policy.read_write {
        // Its owner reports what cannot be made: a workspace on a read-only disk is no reason not to start.
        let _reported_by_its_owner = private.create(folder);
    }
    if !policy.temp.is_empty() {
        match fs::remove_dir_all(&policy.temp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => private.create(&policy.temp)?,
        }
    }
    Ok(())
}

fn own_places(read_write: &[String], read_only: &[String], temp: &str) -> impl Iterator<Item = Place> {
    let writes =
        read_write.iter().map(String::as_str).chain(std::iter::once(temp)).filter(|path| !path.is_empty());
    let writes: Vec<Place> = writes.map(|path| Place::new(path, Right::ReadWrite)).collect();
    writes
        .into_iter()
        .chain(read_only.iter().map(|path| Place::new(path, Right::ReadOnly)).collect::<Vec<_>>())
}

fn worker_rules(policy: &Policy) -> io::Result<Rules> {
    let etc = places::etc_names();
    let root = rustix::process::geteuid().is_root();
    let mut places = places::for_worker(root, etc.iter().map(String::as_str));
    // The worker starts itself again as the launcher of a command.
    places.push(Place::new("/proc/self/exe", Right::ReadOnly));
    places.extend(own_places(&policy.read_write, &policy.read_only, &policy.temp));
    let ports = policy.ports.clone().map_or(Ports::Any, Ports::Only);
    Rules::prepare(&places, &ports)
}

/// The rules of a command or a file tool, ready to be enforced.
pub fn tool_rules(policy: &ToolPolicy) -> io::Result<Rules> {
    let etc = places::etc_names();
    let mut places = places::for_tool(etc.iter().map(String::as_str));
    places.extend(own_places(&policy.read_write, &policy.read_only, &policy.temp));
    let ports = if policy.network { Ports::Any } else { Ports::Only(Vec::new()) };
    Rules::prepare(&places, &ports)
}

/// Confines the process of a command, which is about to become it by exec. Fails when a rule that the host keeps for the
/// worker cannot be kept here.
pub fn confine_tool(policy: &ToolPolicy) -> io::Result<()> {
    tool_rules(policy)?.enforce()?;
    let sockets = if policy.network { seccomp::Sockets::Network } else { seccomp::Sockets::None };
    seccomp::enforce_tool(sockets)
}

/// Tries to open the canaries. True: none opens. `None`: there is none.
fn probe(canaries: &[String]) -> Option<bool> {
    let tried = canaries.iter().filter_map(|canary| match fs::File::open(canary) {
        Ok(_) => Some(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(true),
        Err(_) => None,
    });
    tried.reduce(|all, refused| all && refused)
}

/// The signal that follows the supervisor's death. An agent gets the chance to kill its tools first.
pub fn parent_death_signal(kind: WorkerKind) -> Signal {
    match kind {
        WorkerKind::Agent => Signal::SIGTERM,
        WorkerKind::Channel => Signal::SIGKILL,
    }
}

/// SIGXFSZ would kill at a file size limit, where the write's error is enough. The rest is read by the guard thread.
/// (SIGPIPE is ignored by the standard library from the start.)
fn block_signals() -> io::Result<()> {
    sys::block(&[Signal::SIGXFSZ])?;
    sys::block(&super::shutdown::GUARDED)
}
