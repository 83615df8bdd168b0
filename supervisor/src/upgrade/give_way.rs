//! U2 to U5: this image comes to rest and leaves everything to the next one.

use super::blob;
use super::budget::{self, Budget};
use super::fds::Kept;
use super::image::Next;
use super::locks::CarriedLocks;
use super::state::State;
use crate::front::accept::Front;
use crate::front::carry::Frozen;
use crate::gateway::Handles;
use crate::gateway::sd_notify::Notify;
use crate::gateway::start::Locks;
use crate::gateway::stop::{self, Signals};
use crate::journal::Journal;
use crate::scheduler::core::Core;
use crate::scheduler::shared::Pace;
use proto::runtime::failpoint;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Every wait of the way to the exec is over well within this many seconds ([`budget`]); otherwise the kernel ends the
/// process, and the next start recovers.
pub const GIVE_WAY_SECONDS: u32 = 40;

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

/// There is no state for the next image.
pub struct Failed {
    pub error: io::Error,
    /// Somebody asked for a stop meanwhile; nobody else will see it.
    pub stop_asked: bool,
}

/// Brings everything to rest. There is no way back but an exec. Told to stop meanwhile, the next image stops; this one ends
/// when it takes too long to get there.
///
/// # Errors
/// Descriptors or memory for the state could not be had: an exec without it must follow, or the end when it was asked for.
pub async fn give_way(
    parts: Parts<'_>,
    front: Front,
    target: PathBuf,
    reason: String,
) -> Result<Next, Failed> {
    let mut told = false;
    let mut parts = parts;
    match leave_all(&mut parts, &mut told, front, target, reason).await {
        Ok(next) => Ok(next),
        Err(error) => Err(Failed { error, stop_asked: parts.signals.hold().await || told }),
    }
}

async fn leave_all(
    parts: &mut Parts<'_>,
    told: &mut bool,
    front: Front,
    target: PathBuf,
    reason: String,
) -> Result<Next, io::Error> {
    let Parts { handles, core, locks, notify, runtime_token, signals } = parts;
    nix::unistd::alarm::set(GIVE_WAY_SECONDS);
    notify.send("STATUS=restarting in place");
    let resting = rest(handles, core, front);
    tokio::pin!(resting);
    let rested = tokio::select! {
        biased;
        rested = &mut resting => rested?,
        () = signals.stop() => {
            *told = true;
            stop::force_after();
            resting.await?
        }
    };
    let own = std::fs::File::open("/proc/self/exe")?;
    let Rested { mut state, mut kept, frozen, begin } = rested;
    state.reason = reason;
    state.runtime_token = runtime_token.take();
    state.locks = locks.carry(&mut kept)?;
    leave_front(&mut state, frozen, &mut kept);
    // From here on a signal waits for the next image; what came before is seen now.
    *told |= signals.hold().await;
    state.stop_asked = *told;
    let (workers, runs) = (state.workers.workers.len(), state.runs.len());
    let memory = blob::write(&state).map_err(io::Error::other)?;
    failpoint::hit("sv.up.state_written");
    let connections = state.front_fds.len();
    let all_ms = begin.elapsed().as_millis();
    tracing::info!(workers, runs, connections, all_ms, "giving way to the next image");
    notify.send("WATCHDOG=1");
    Ok(Next { state: memory, kept, own: own.into(), path: target })
}

/// Everything at rest.
struct Rested {
    state: State,
    kept: Kept,
    frozen: Frozen,
    /// When it began.
    begin: Instant,
}

async fn rest(handles: &Handles, core: &Core, front: Front) -> Result<Rested, io::Error> {
    let begin = Instant::now();
    let front = tokio::task::spawn_blocking(move || {
        front.hold();
        front
    });
    let front = front.await.map_err(io::Error::other)?;
    // Whoever waits for these ends with this image.
    crate::worker::end_claimed();
    let held_ms = begin.elapsed().as_millis();
    let budget = Budget::begin(Instant::now());
    let until = |limit: Duration| budget.until(Instant::now(), limit);
    if timeout_at(until(budget::PACE), handles.scheduler.stop()).await.is_err() {
        core.shared().pace.set(Pace::Stopping);
    }
    core.settle(until(budget::SETTLE)).await;
    handles.workers.fall_quiet(until(budget::QUIET)).await;
    if !handles.workers.fence(until(budget::FENCE)).await {
        tracing::warn!("what workers said last is not worked off; it is asked for again");
    }
    let (runs, unsettled) = core.freeze(until(budget::RUNS)).await;
    // What the sessions handed on at their end is on its way to the deliveries.
    tokio::task::yield_now().await;
    let accounts = core.shared().delivery.freeze(until(budget::ACCOUNTS)).await;
    let (workers, kept) = handles.workers.freeze(&unsettled, until(budget::WORKERS)).await;
    failpoint::hit("sv.up.paused");
    let quiet_ms = begin.elapsed().as_millis();
    let frozen = tokio::task::spawn_blocking(move || front.freeze()).await.map_err(io::Error::other)?;
    match timeout_at(until(budget::JOURNAL), handles.journal.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "journal not closed; the next image reads its log"),
        Err(_) => tracing::warn!("journal not closed in time; the next image reads its log"),
    }
    tracing::info!(held_ms, quiet_ms, all_ms = begin.elapsed().as_millis(), "at rest");
    let state = State {
        pid: std::process::id(),
        from_build: handles.about.version.clone(),
        started_ms: handles.about.started_ms,
        uptime_ms: u64::try_from(handles.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        upgrades: handles.restarts.upgrades() + 1,
        channels: handles.channels.carry(),
        workers,
        runs,
        blame: core.shared().blame.carry(),
        accounts,
        ..State::default()
    };
    Ok(Rested { state, kept, frozen, begin })
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
