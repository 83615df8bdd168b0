//! The way down: stop or restart, in bounded time.

use super::Handles;
use super::sd_notify::Notify;
use super::start::{End, Refused};
use crate::events::GatewayEvent;
use crate::exit_code;
use crate::front::accept::Front;
use crate::front::shared::Phase;
use crate::journal::Journal;
use crate::upgrade;
use crate::upgrade::give_way::{Failed, Parts};
use nix::sys::signal::{SigSet, Signal as Name};
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A stop that takes longer than this ends without the rest of the clean-up.
const FORCED_AFTER: Duration = Duration::from_secs(5);
/// What workers get of it to end by themselves.
const WORKERS_WITHIN: Duration = Duration::from_secs(3);

/// Variable that tells the next start of this process when it began: restarts keep a distance.
pub const RESTARTED_AT_MS: &str = "OPENCLAW_RESTARTED_AT_MS";

/// The signals that steer the gateway. Held from the first moment of a start, so that one that comes early waits for
/// the end of the start instead of killing the process.
pub struct Signals {
    term: Signal,
    int: Signal,
    usr1: Signal,
    usr2: Signal,
    hup: Signal,
    /// Standard input was a terminal at the start: its end (SIGHUP) ends the gateway.
    at_terminal: bool,
}

/// A stop was asked for before this start was over.
static ASKED_AT_START: AtomicBool = AtomicBool::new(false);

/// Time for the event loop to hear of a signal that was caught before it was held.
const CAUGHT_WITHIN: Duration = Duration::from_millis(5);

/// Keeps restart signals waiting while nobody receives them: their default is to kill. Survives an exec.
pub fn hold_restart_signals() {
    let restarts: SigSet = [Name::SIGUSR1, Name::SIGUSR2, Name::SIGHUP].into_iter().collect();
    if let Err(error) = restarts.thread_block() {
        tracing::warn!(%error, "a SIGUSR1 during the start would end the gateway");
    }
}

/// All signals that steer the gateway are taken by the main thread alone, so that it can leave them to the next image: the
/// first act of every thread of this process that lives as long.
pub fn leave_signals_to_main() {
    if let Err(error) = steering().thread_block() {
        tracing::warn!(%error, "a signal during a restart in place may be lost");
    }
}

fn steering() -> SigSet {
    [Name::SIGTERM, Name::SIGINT, Name::SIGUSR1, Name::SIGUSR2, Name::SIGHUP].into_iter().collect()
}

impl Signals {
    /// Begins to receive; signals held back until now are delivered.
    pub fn receive() -> std::io::Result<Self> {
        let signals = Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            usr1: signal(SignalKind::user_defined1())?,
            usr2: signal(SignalKind::user_defined2())?,
            hup: signal(SignalKind::hangup())?,
            at_terminal: std::io::stdin().is_terminal(),
        };
        steering().thread_unblock()?;
        Ok(signals)
    }

    /// Waits until somebody asks for a stop.
    pub async fn stop(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }

    /// From now on signals wait, over an exec too. True: a stop was asked for before, and nobody has seen it.
    pub async fn hold(&mut self) -> bool {
        leave_signals_to_main();
        tokio::time::timeout(CAUGHT_WITHIN, self.stop()).await.is_ok()
    }
}

/// Bounds a start that is told to stop and hangs. Aborted when the start is over.
pub async fn bound_start() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    ASKED_AT_START.store(true, Ordering::SeqCst);
    force_after();
}

/// After a start that failed: whether a stop was asked for meanwhile. From now on signals wait, over an exec too.
pub async fn was_asked_at_start() -> bool {
    leave_signals_to_main();
    // Lets the event loop hear of what was caught before.
    tokio::time::sleep(CAUGHT_WITHIN).await;
    ASKED_AT_START.load(Ordering::SeqCst)
}

/// What ends this image.
pub enum Told {
    Stop,
    /// Give way to the executable at this place; the reason.
    Restart(PathBuf, String),
}

/// Waits for a signal or a planned restart. A restart that the next executable could not carry out changes nothing.
/// `stop_asked`: the image before was told to stop while it gave way.
pub async fn until_told(handles: &Handles, signals: &mut Signals, stop_asked: bool) -> Told {
    if stop_asked {
        return Told::Stop;
    }
    loop {
        let (name, restart) = tokio::select! {
            biased;
            _ = signals.term.recv() => ("SIGTERM", false),
            _ = signals.int.recv() => ("SIGINT", false),
            _ = signals.hup.recv() => {
                if signals.at_terminal {
                    tracing::info!("the terminal is gone (SIGHUP); shutting down");
                    return Told::Stop;
                }
                tracing::info!("signal SIGHUP received: nothing to do, the configuration file is watched");
                continue;
            }
            _ = signals.usr1.recv() => ("SIGUSR1", true),
            _ = signals.usr2.recv() => ("SIGUSR2", true),
            () = handles.restarts.due() => ("restart request", true),
        };
        tracing::info!("signal {name} received");
        if !restart {
            tracing::info!("received {name}; shutting down");
            return Told::Stop;
        }
        if handles.config.current().view.commands.restart || name == "restart request" {
            let unplanned = (name != "restart request").then_some(name);
            let looked = tokio::select! {
                biased;
                () = signals.stop() => return Told::Stop,
                looked = upgrade::look_ahead(handles, unplanned) => looked,
            };
            match looked {
                Some((target, reason)) => return Told::Restart(target, reason),
                None => continue,
            }
        }
        tracing::warn!(
            "{name} restart ignored (not authorized; commands.restart=false or use gateway tool)."
        );
    }
}

/// Stops, or gives way to the next image.
pub async fn end(parts: Parts<'_>, front: Front, told: Told) -> End {
    let notify = parts.notify;
    match told {
        Told::Stop => {
            stop(parts.handles, front, parts.notify).await;
            End::Stopped
        }
        Told::Restart(target, reason) => {
            match upgrade::give_way::give_way(parts, front, target, reason).await {
                Ok(next) => End::Replace(Box::new(next)),
                Err(Failed { error, stop_asked }) => {
                    if stop_asked {
                        tracing::info!(%error, "cannot go on in place, and was told to stop; stopped");
                        return End::Stopped;
                    }
                    tracing::error!(%error, "cannot go on in place; starting again from the journal");
                    // The next image binds anew; a copy in the service manager's store would keep the address taken.
                    super::fd_store::forget(notify);
                    End::Restart
                }
            }
        }
    }
}

/// Clients first, so that they ask for nothing more; then workers, then the journal.
async fn stop(handles: &Handles, front: Front, notify: &Notify) {
    notify.send("STOPPING=1");
    force_after();
    crate::worker::end_claimed();
    handles.front.set_phase(Phase::Draining);
    handles.scheduler.stop().await;
    proto::runtime::failpoint::hit("sv.stop.draining");
    let told = GatewayEvent::Shutdown { reason: "gateway stopping", restart_expected_ms: None };
    handles.front.fanout.emit(told);
    if tokio::task::spawn_blocking(move || front.stop()).await.is_err() {
        tracing::error!("the front did not end cleanly");
    }
    let left = handles.workers.stop_all(None, WORKERS_WITHIN).await;
    for worker in left {
        tracing::error!(%worker, "did not end in time");
    }
    if let Err(error) = handles.journal.close().await {
        tracing::error!(%error, "journal not closed; the next start recovers");
    }
    tracing::info!("stopped");
}

/// Ends the process when the clean-up hangs: nothing that is accepted depends on it.
pub fn force_after() {
    let ended = std::thread::Builder::new().name("stop".into()).spawn(move || {
        leave_signals_to_main();
        std::thread::sleep(FORCED_AFTER);
        eprintln!("shutdown timed out; exiting without full cleanup");
        std::process::exit(i32::from(exit_code::OK));
    });
    if let Err(error) = ended {
        tracing::warn!(%error, "no thread to bound the stop");
    }
}

/// Replaces this process by a new start of the same executable with the same arguments: same process id, for service
/// managers and containers. Returns only when that failed.
pub fn exec_again(service: bool) -> Refused {
    let mut arguments = std::env::args_os();
    let name = arguments.next();
    let mut command = std::process::Command::new(upgrade::image::own());
    if let Some(name) = name {
        command.arg0(name);
    }
    leave_signals_to_main();
    let now_ms = crate::scheduler::shared::now_ms();
    command.args(arguments).env(RESTARTED_AT_MS, now_ms.to_string());
    upgrade::image::forget(&mut command);
    let error = command.exec();
    failed(service, &error)
}

pub fn failed(service: bool, error: &std::io::Error) -> Refused {
    let exit_code = if service { exit_code::TEMPORARY } else { exit_code::FAILURE };
    Refused { message: format!("cannot start again: {error}"), exit_code }
}
