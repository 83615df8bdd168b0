//! U2 to U5: this image comes to rest and leaves everything to the next one.

use super::blob;
use super::fds::Kept;
use super::image::Next;
use super::locks::CarriedLocks;
use super::state::State;
use crate::front::accept::Front;
use crate::front::carry::Frozen;
use crate::gateway::Handles;
use crate::gateway::sd_notify::Notify;
use crate::gateway::start::Locks;
use crate::gateway::stop::Signals;
use crate::journal::Journal;
use crate::scheduler::core::Core;
use proto::runtime::failpoint;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

/// Every wait of the way to the exec, each with a bound of its own, is over within this many seconds; otherwise the kernel
/// ends the process, and the next start recovers.
const GIVE_WAY_SECONDS: u32 = 40;

/// What gives way.
pub struct Parts<'a> {
    pub handles: &'a Handles,
    pub core: &'a Core,
    pub locks: &'a Locks,
    pub notify: &'a Notify,
    /// A token that is in no file.
    pub runtime_token: Option<String>,
    pub signals: Signals,
}

/// Brings everything to rest. There is no way back but an exec.
///
/// # Errors
/// Descriptors or memory for the state could not be had: an exec without it must follow.
pub async fn give_way(
    parts: Parts<'_>,
    front: Front,
    target: PathBuf,
    reason: String,
) -> Result<Next, io::Error> {
    let Parts { handles, core, locks, notify, runtime_token, mut signals } = parts;
    let begin = Instant::now();
    nix::unistd::alarm::set(GIVE_WAY_SECONDS);
    notify.send("STATUS=restarting in place");
    let front = tokio::task::spawn_blocking(move || {
        front.hold();
        front
    });
    let front = front.await.map_err(io::Error::other)?;
    let held_ms = begin.elapsed().as_millis();
    handles.scheduler.stop().await;
    core.settle().await;
    handles.workers.fall_quiet().await;
    handles.workers.fence().await;
    let runs = core.freeze().await;
    // What the sessions handed on at their end is on its way to the deliveries.
    tokio::task::yield_now().await;
    let accounts = core.shared().delivery.freeze().await;
    let (workers, mut kept) = handles.workers.freeze().await;
    failpoint::hit("sv.up.paused");
    let quiet_ms = begin.elapsed().as_millis();
    let frozen = tokio::task::spawn_blocking(move || front.freeze()).await.map_err(io::Error::other)?;
    if let Err(error) = handles.journal.close().await {
        tracing::warn!(%error, "journal not closed; the next image reads its log");
    }
    let own = std::fs::File::open("/proc/self/exe")?;
    let mut state = State {
        pid: std::process::id(),
        from_build: handles.about.version.clone(),
        started_ms: handles.about.started_ms,
        uptime_ms: u64::try_from(handles.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        upgrades: handles.restarts.upgrades() + 1,
        reason,
        stop_asked: false,
        runtime_token,
        locks: locks.carry(&mut kept)?,
        channels: handles.channels.carry(),
        workers,
        runs,
        accounts,
        ..State::default()
    };
    leave_front(&mut state, frozen, &mut kept);
    state.stop_asked = signals.stop_asked();
    let (workers, runs) = (state.workers.workers.len(), state.runs.len());
    let memory = blob::write(&state).map_err(io::Error::other)?;
    failpoint::hit("sv.up.state_written");
    let connections = state.front_fds.len();
    let all_ms = begin.elapsed().as_millis();
    tracing::info!(workers, runs, connections, held_ms, quiet_ms, all_ms, "giving way to the next image");
    notify.send("WATCHDOG=1");
    Ok(Next { state: memory, kept, own: own.into(), path: target })
}

fn leave_front(state: &mut State, frozen: Frozen, kept: &mut Kept) {
    let Frozen { listeners, control, fds, state: front } = frozen;
    state.listeners = listeners.into_iter().map(|listener| kept.keep(listener.into())).collect();
    state.control = control.map(|control| kept.keep(OwnedFd::from(control.into_listener())));
    state.front_fds = fds.into_iter().map(|fd| kept.keep(fd)).collect();
    state.front = front;
}

impl Locks {
    fn carry(&self, kept: &mut Kept) -> io::Result<CarriedLocks> {
        let workspaces = self.workspaces.iter().map(|held| held.carry(kept)).collect::<io::Result<_>>()?;
        Ok(CarriedLocks {
            instance: self.instance.carry(kept)?,
            host: self.host.as_ref().map(|host| host.carry(kept)).transpose()?,
            workspaces,
        })
    }
}
