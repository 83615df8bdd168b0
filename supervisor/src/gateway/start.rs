//! The gateway process from its flags to its end.

mod goes_on;
mod listen;

use super::channel_board::ChannelBoard;
use super::decide::{self, Decided, Ground};
use super::fd_store::Kept;
use super::journald::Journald;
use super::provision::Provisioner;
use super::pump::{self, Pump};
use super::reload::{self, Reloader};
use super::restart::Restarts;
use super::sd_notify::{MANAGER_VARIABLES, Notify};
use super::{About, Handles, logging, stop, watchdog};
use crate::config::startup::{Overrides, StartPlan};
use crate::config::{ConfigHandle, ConfigSnapshot, Environment, Secret, StartPolicy};
use crate::delivery::Delivery;
use crate::exit_code;
use crate::front::fanout;
use crate::front::settings::{AuthEnvironment, Settings};
use crate::front::shared::{Paths as FrontPaths, Phase, Shared as FrontShared};
use crate::journal::{Journal, JournalHandle, OpenOptions, Recovered};
use crate::lock::{self, Held, HostLock, LockError, OwnerNote};
use crate::paths::Paths;
use crate::router::dispatch::Intake;
use crate::router::pairing::PairingStore;
use crate::scheduler::core::Core;
use crate::scheduler::lanes::Limits;
use crate::scheduler::shared::{Shared, now_ms};
use crate::scheduler::{COMMANDS_MAX, LaneGate, Scheduler};
use crate::upgrade::give_way::Parts;
use crate::upgrade::state::State;
use crate::upgrade::{fds, image, rolling};
use crate::worker::carry::CarriedWorkers;
use crate::worker::{Workers, WorkersConfig};
use proto::wire::Id;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc, watch};

/// Flags of `openclaw gateway`, checked for form.
#[derive(Default)]
pub struct Options {
    pub overrides: Overrides,
    pub service: bool,
    pub use_last_good: bool,
    pub unsafe_fs: bool,
    pub log_level: Option<String>,
    /// Printed once the gateway is ready (`openclaw up`).
    pub welcome: Option<fn(&StartPlan)>,
}

/// Why the gateway did not start, as printed, and the exit code that says so.
#[derive(Debug)]
pub struct Refused {
    pub message: String,
    pub exit_code: u8,
}

/// What is held for the life of the process, in the order in which it is given back.
pub struct Locks {
    pub instance: Held,
    pub host: Option<HostLock>,
    pub workspaces: Vec<Held>,
}

impl Locks {
    pub fn displaced(&self) -> bool {
        self.instance.displaced()
    }
}

/// Everything before the runtimes start.
struct Prepared {
    options: Options,
    paths: Paths,
    config: ConfigHandle,
    plan: StartPlan,
    locks: Locks,
    log: logging::Log,
    notify: Notify,
    /// Listeners that the service manager kept over the end of an earlier process.
    kept: Kept,
    /// When an earlier start of this process gave way to this one.
    restarted_ms: Option<i64>,
    /// What the program image before left, when this start replaces it.
    carried: Option<State>,
}

/// How a run of the gateway ended.
pub enum End {
    Stopped,
    /// Replace this process by a new start of the same executable, which recovers from the journal.
    Restart,
    /// Replace this program image while everything goes on.
    Replace(Box<image::Next>),
}

/// Runs the gateway until it is told to stop.
pub fn run(options: Options, process_env: Environment, paths: Paths) -> Result<u8, Refused> {
    stop::hold_restart_signals();
    fds::make_room();
    let notify = Notify::new(&process_env);
    let told = notify.clone();
    let say_why = move |refusal: &Refused| {
        told.send(&format!("STATUS={}", refusal.message.lines().next().unwrap_or_default()));
    };
    let prepared = prepare(options, process_env, paths, notify).inspect_err(&say_why)?;
    let (log, service) = (prepared.log.clone(), prepared.options.service);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .on_thread_start(stop::leave_signals_to_main)
        .build()
        .map_err(|error| refused(format!("cannot start: {error}"), exit_code::FAILURE))?;
    let local = tokio::task::LocalSet::new();
    let end = local.block_on(&runtime, async {
        let end = serve(prepared).await;
        if end.is_err() && image::is_pending() && stop::was_asked_at_start().await {
            image::stop_after_roll_back();
        }
        end
    });
    drop(local);
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    log.flush();
    match end {
        Ok(End::Stopped) => Ok(exit_code::OK),
        Ok(End::Restart) => Err(stop::exec_again(service)),
        Ok(End::Replace(next)) => Err(stop::failed(service, &image::exec(*next))),
        Err(refusal) => Err(refusal).inspect_err(say_why),
    }
}

pub(super) fn refused(message: impl Into<String>, exit_code: u8) -> Refused {
    Refused { message: message.into(), exit_code }
}

fn prepare(
    mut options: Options,
    mut process_env: Environment,
    paths: Paths,
    notify: Notify,
) -> Result<Prepared, Refused> {
    let restarted_ms = process_env.get(stop::RESTARTED_AT_MS).and_then(|text| text.parse().ok());
    let carried = image::take_over().map_err(goes_on::lost)?;
    let kept = match &carried {
        Some(state) => Kept::of(state.take_listeners().map_err(goes_on::lost)?),
        None if restarted_ms.is_none() => Kept::take(&process_env),
        None => Kept::default(),
    };
    let journal = Journald::of_stderr(&process_env);
    process_env.forget(&MANAGER_VARIABLES);
    process_env.forget(&image::VARIABLES);
    proto::runtime::failpoint::arm(process_env.get("OPENCLAW_FAILPOINTS").unwrap_or_default());
    super::last_words::install(paths.state_dir.join("crash"));
    lock::create_private_dir(&paths.state_dir).map_err(|error| {
        refused(format!("state directory {}: {error}", paths.state_dir.display()), exit_code::FAILURE)
    })?;
    let instance = match &carried {
        Some(state) => state.take_instance_lock().map_err(goes_on::lost)?,
        None => {
            lock::lock_instance(&paths.state_dir).map_err(|error| lock_refusal(&error, options.service))?
        }
    };
    let cwd = std::env::current_dir().ok().filter(|_| !options.service);
    let state_dir_given = process_env.get("OPENCLAW_STATE_DIR").is_some();
    let runtime_dir = process_env.get("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    let level =
        options.log_level.clone().or_else(|| process_env.get("OPENCLAW_LOG_LEVEL").map(str::to_owned));
    let env = crate::config::load_env(process_env, &paths, cwd.as_deref());
    let restarted = restarted_ms.is_some() || carried.is_some();
    let policy = StartPolicy { service: options.service, use_last_good: options.use_last_good, restarted };
    let bad_config = if options.service { exit_code::CONFIG } else { exit_code::FAILURE };
    let config = ConfigHandle::start(paths.clone(), env, policy)
        .map_err(|error| refused(error.to_string(), bad_config))?;
    let log = decide::start_log(&config, level.as_deref(), journal)
        .map_err(|error| refused(format!("log file: {error}"), exit_code::FAILURE))?;
    decide::say_what_runs(&config);
    goes_on::keep_token(carried.as_ref(), &config.current(), &mut options.overrides);
    config.use_overrides(options.overrides.clone());
    let ground = Ground { options: &options, kept: &kept, carried: carried.as_ref(), restarted };
    let Decided { plan, workspaces } = decide::decide(&config, &ground)?;
    tracing::debug!(port = plan.port, source = plan.port_source.name(), "port chosen");
    decide::save_token(&config, &plan.auth);
    let named = paths.profile.is_some() || (state_dir_given && plan.port != crate::config::PORT_DEFAULT);
    let taken = carried.as_ref().map(State::take_host_lock).transpose().map_err(goes_on::lost)?.flatten();
    let host = if named {
        None
    } else if taken.is_some() {
        taken
    } else {
        let locked = lock::lock_host(runtime_dir.as_deref(), &paths.state_dir);
        Some(locked.map_err(|error| lock_refusal(&error, options.service))?)
    };
    let locks = Locks { instance, host, workspaces };
    Ok(Prepared { options, paths, config, plan, locks, log, notify, kept, restarted_ms, carried })
}

/// The text that operators of the original know, with the owner where it is known.
pub(super) fn lock_refusal(error: &LockError, service: bool) -> Refused {
    let code = if service { exit_code::TEMPORARY } else { exit_code::FAILURE };
    let hints = match error {
        LockError::StateDir { .. } | LockError::Host { .. } => {
            "\nIf the gateway is supervised, stop it with: openclaw gateway stop\nTip: openclaw gateway stop"
        }
        LockError::Workspace { .. } | LockError::Io { .. } | LockError::Command { .. } => "",
    };
    refused(format!("Gateway failed to start: {error}{hints}"), code)
}

/// Everything that the runtimes own.
async fn serve(prepared: Prepared) -> Result<End, Refused> {
    let started = Instant::now();
    let mut signals = stop::Signals::receive()
        .map_err(|error| refused(format!("signals cannot be received: {error}"), exit_code::FAILURE))?;
    let bounded = tokio::task::spawn_local(stop::bound_start());
    let Prepared { options, paths, config, plan, locks, log, notify, kept, restarted_ms, carried } = prepared;
    let mut carried = carried.unwrap_or_default();
    let replaces = image::is_pending();
    let fatal = |error: String| refused(format!("Gateway failed to start: {error}"), exit_code::FAILURE);
    let recovering = notify.recovering();
    let journal = open_journal(&paths, &options).await.map_err(fatal)?;
    let provisioner =
        Provisioner::new(config.clone(), journal.clone()).map_err(|error| fatal(error.to_string()))?;
    config.use_workers(provisioner.programs());
    let recovered =
        goes_on::recover(&journal, replaces.then(|| carried.keep_only(&provisioner.specs()))).await;
    let recovered = recovered.map_err(fatal)?;
    let kept = (kept, &notify);
    let (listeners, port) = listen::open(&plan, options.service, kept, (&journal, &recovered)).await?;
    let boot_id = note_owner(&locks, &paths, port);
    let workers = start_workers(&paths, &journal, boot_id, std::mem::take(&mut carried.workers)).await;
    let (workers, events) = workers.map_err(|error| fatal(error.to_string()))?;
    let about = Arc::new(about(boot_id, &carried, started, port, options.service));
    let (settings, front, fanned) = open_front(&paths, &log, &config, &plan, &about).map_err(&fatal)?;
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let handles = Handles {
        scheduler: Scheduler::new(commands),
        front,
        about,
        config: config.clone(),
        journal: journal.clone(),
        workers,
        channels: ChannelBoard::default(),
        pairing: PairingStore::new(&paths.credentials_dir),
        restarts: Restarts::new(restarted_ms, carried.upgrades, carried.outcome()),
    };
    let core = start_core(&handles, events);
    crate::takeover::run(&handles).await;
    let runtime_token = goes_on::runtime_token(&plan, &config.current(), &carried);
    let stop_asked = carried.stop_asked || image::is_to_stop();
    let front = goes_on::serve_clients(&handles, &paths, listeners, fanned, replaces.then_some(&mut carried))
        .map_err(&fatal)?;
    goes_on::go_on(&handles, &core, carried, provisioner.specs()).await;
    resume(&core, recovered).await;
    // Only now: a client's next message must not overtake what its session had begun.
    tokio::task::spawn_local(core.clone().serve(inbox));
    tokio::task::spawn_local(super::sentinel::tell(handles.clone()));
    let (locks, lanes) = (Rc::new(locks), core.shared().lanes.clone());
    tokio::task::spawn_local(super::housekeeping::run(core.clone(), locks.clone()));
    drop(recovering);
    ready(&handles, &plan, &notify, started, options.welcome);
    watchdog::attend(&notify, &handles, front.runtime());
    // After ready: what a worker refuses is shown, and costs the start nothing.
    tokio::task::spawn_blocking(move || config.check_active());
    let (rebinder, gw) = (front.rebinder(), handles.clone());
    let notify_of = notify.clone();
    let parts = reload::Parts { gw, provisioner, settings, plan, lanes, log, notify: notify_of, rebinder };
    let reloading = tokio::task::spawn_local(Reloader::new(parts).run());
    bounded.abort();
    let rolling = replaces.then(|| tokio::task::spawn_local(rolling::run(handles.clone())));
    let told = stop::until_told(&handles, &mut signals, stop_asked).await;
    reloading.abort();
    rolling.inspect(tokio::task::JoinHandle::abort);
    let parts =
        Parts { handles: &handles, core: &core, locks: &locks, notify: &notify, runtime_token, signals };
    let end = stop::end(parts, front, told).await;
    drop(locks);
    Ok(end)
}

/// The sender of the settings, what the public side shares with the rest, and the events on their way to it.
type OpenedFront = (watch::Sender<Arc<Settings>>, FrontShared, mpsc::Receiver<fanout::Item>);

/// What the public side shares with the rest.
fn open_front(
    paths: &Paths,
    log: &logging::Log,
    config: &ConfigHandle,
    plan: &StartPlan,
    about: &About,
) -> Result<OpenedFront, String> {
    let front_paths = FrontPaths {
        state_dir: paths.state_dir.clone(),
        config_path: paths.config_file.clone(),
        log_file: log.file.clone(),
    };
    let settings = watch::Sender::new(Arc::new(settings(&config.current(), plan)));
    let opened = FrontShared::open(front_paths, settings.subscribe(), about);
    let (front, fanned) = opened.map_err(|error| error.to_string())?;
    Ok((settings, front, fanned))
}

/// The core, and the task that hands it what workers say.
fn start_core(handles: &Handles, events: mpsc::Receiver<crate::worker::WorkerEvent>) -> Core {
    let core = build_core(handles);
    let pump = Pump {
        core: core.clone(),
        intake: Intake::new(core.clone(), handles.pairing.clone()),
        board: handles.channels.clone(),
        gw: handles.clone(),
        asks: Arc::new(Semaphore::new(pump::ASKS_MAX)),
    };
    tokio::task::spawn_local(pump.run(events));
    core
}

fn about(boot_id: Id, carried: &State, started: Instant, port: u16, service: bool) -> About {
    let up = std::time::Duration::from_millis(carried.uptime_ms);
    let started = started.checked_sub(up).unwrap_or(started);
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        boot_id: boot_id.to_string(),
        started,
        started_ms: if carried.started_ms == 0 { now_ms() } else { carried.started_ms },
        port_now: port.into(),
        service,
    }
}

/// The journal, as the last start left it and as this one goes on from it.
async fn open_journal(paths: &Paths, options: &Options) -> Result<JournalHandle, String> {
    let mut open = OpenOptions::new(paths.state_dir.join("journal"));
    open.unsafe_fs = options.unsafe_fs;
    let opened = tokio::task::spawn_blocking(move || JournalHandle::open(open)).await;
    let (journal, warnings) =
        opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(journal)
}

/// Writes into the locks who holds them. Gives the id of this start.
fn note_owner(locks: &Locks, paths: &Paths, port: u16) -> Id {
    let boot_id = Id::now();
    let note = OwnerNote {
        pid: std::process::id(),
        port,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.to_string(),
        state_dir: paths.state_dir.display().to_string(),
        config_path: paths.config_file.display().to_string(),
        started_at_ms: now_ms(),
        command: String::new(),
    };
    locks.instance.note(&note);
    if let Some(host) = &locks.host {
        host.note(&note);
    }
    boot_id
}

async fn start_workers(
    paths: &Paths,
    journal: &JournalHandle,
    boot_id: Id,
    carried: CarriedWorkers,
) -> std::io::Result<(Workers, mpsc::Receiver<crate::worker::WorkerEvent>)> {
    let (journal, handle) = (journal.clone(), journal);
    Workers::start(
        WorkersConfig {
            boot_id,
            crash_dir: paths.state_dir.join("crash"),
            next_epoch: Arc::new(move |worker| {
                let journal = journal.clone();
                Box::pin(async move { journal.next_epoch(worker.0).await.map_err(|error| error.to_string()) })
            }),
            adopt_orphans: true,
            held: crate::rpc::workers::held(handle).await,
        },
        carried,
    )
}

/// What the public side needs of the configuration, with the secrets that were decided at start.
pub(super) fn settings(config: &ConfigSnapshot, plan: &StartPlan) -> Settings {
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let env = AuthEnvironment {
        mode: Some(plan.auth.mode.name().to_owned()),
        token_override: expose(&plan.auth.token),
        password_override: expose(&plan.auth.password),
        token: None,
        password: None,
    };
    for secret in [&plan.auth.token, &plan.auth.password].into_iter().flatten() {
        proto::runtime::telemetry::hide([secret.expose()]);
    }
    let mut settings = Settings::from_config(&config.config, &env);
    settings.control_ui.origins.allowed.clone_from(&plan.allowed_origins);
    settings
}

/// Places in the lanes.
pub(super) fn limits(config: &ConfigSnapshot) -> Limits {
    let host = config.gateway.limits.max_runs.map(|runs| runs as usize);
    Limits { main: config.view.agents.max_concurrent as usize, host, ..Limits::default() }
}

fn build_core(handles: &Handles) -> Core {
    let limits = limits(&handles.config.current());
    Core::new(Rc::new(Shared {
        config: handles.config.clone(),
        journal: handles.journal.clone(),
        workers: handles.workers.clone(),
        fanout: handles.front.fanout.clone(),
        delivery: Delivery::new(handles.config.clone(), handles.journal.clone(), handles.workers.clone()),
        lanes: LaneGate::new(limits),
        runs: Default::default(),
        owners: Default::default(),
        blame: Default::default(),
        board: Default::default(),
        pace: Default::default(),
    }))
}

async fn resume(core: &Core, recovered: Recovered) {
    if !recovered.clean {
        let (runs, queued) =
            (recovered.interrupted.len() + recovered.pending.len(), recovered.queued_sessions.len());
        tracing::info!(runs, queued, "the last stop was not orderly; going on where it ended");
    }
    if let Err(error) = core.resume(recovered).await {
        tracing::error!(%error, "waiting messages could not be read; they stay in the journal");
    }
    if let Err(error) = core.shared().delivery.resume().await {
        tracing::error!(%error, "waiting replies could not be read; they stay in the journal");
    }
}

fn ready(
    handles: &Handles,
    plan: &StartPlan,
    notify: &Notify,
    started: Instant,
    welcome: Option<fn(&StartPlan)>,
) {
    handles.front.set_phase(Phase::Ready);
    let (port, pid) = (handles.about.port(), handles.about.pid);
    if let Some(model) = &handles.config.current().view.agents.model.primary {
        tracing::info!("agent model: {model}");
    }
    tracing::info!("listening on ws://{}:{port} (PID {pid})", plan.bind.host());
    tracing::info!("log file: {}", handles.front.paths.log_file.display());
    tracing::info!(ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(0), "ready");
    notify.send("READY=1\nSTATUS=ready");
    if let Some(welcome) = welcome {
        welcome(plan);
    }
}
