//! What a worker takes away from itself before it has a thread. Order matters: the parent's death signal first, since
//! everything after it takes time; `dumpable` last, since it closes /proc/self to ourselves as well.

use super::sys;
use crate::wire::handshake::{Isolation, SandboxReport, WorkerKind};
use nix::sys::signal::Signal;
use std::io;

/// Connections of one account, and files.
const CHANNEL_OPEN_FILES_MAX: u64 = 1024;
/// Several sessions with their tools' pipes.
const AGENT_OPEN_FILES_MAX: u64 = 4096;
/// A channel worker holds one account's messages in flight.
const CHANNEL_DATA_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// An agent worker holds the transcripts of its active sessions.
const AGENT_DATA_BYTES_MAX: u64 = 1024 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
#[error(
    "cannot confine this process: {step} failed ({source}); with isolation.mode \"bestEffort\" it would start anyway"
)]
pub struct ConfineError {
    step: &'static str,
    source: io::Error,
}

/// Confines the calling process. Each step that fails is fatal under [`Isolation::Require`], else it shows in the report.
pub fn confine(kind: WorkerKind, isolation: Isolation) -> Result<SandboxReport, ConfineError> {
    let (files, data) = match kind {
        WorkerKind::Agent => (AGENT_OPEN_FILES_MAX, AGENT_DATA_BYTES_MAX),
        WorkerKind::Channel => (CHANNEL_OPEN_FILES_MAX, CHANNEL_DATA_BYTES_MAX),
    };
    let need = |step: &'static str, result: io::Result<()>| match result {
        Err(source) if isolation == Isolation::Require => Err(ConfineError { step, source }),
        _ => Ok(()),
    };
    need("blocking signals", block_signals())?;
    need("the limit on core files", sys::no_core_files())?;
    need("the limit on open files", sys::open_files_max(files))?;
    let mut report = SandboxReport { dumpable: true, ..SandboxReport::default() };
    if isolation == Isolation::Off {
        return Ok(report);
    }
    need("the limit on memory", sys::data_bytes_max(data))?;
    let privs = sys::no_new_privs();
    report.no_new_privs = *privs.as_ref().unwrap_or(&false);
    need("no_new_privs", privs.map(drop))?;
    let dumpable = sys::not_dumpable();
    report.dumpable = *dumpable.as_ref().unwrap_or(&true);
    need("dumpable", dumpable.map(drop))?;
    Ok(report)
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
