//! The gateway process from its flags to its end.

use super::channel_board::ChannelBoard;
use super::provision::Provisioner;
use super::pump::Pump;
use super::restart::Restarts;
use super::sd_notify::Notify;
use super::{About, Handles, logging, port_owner, stop};
use crate::config::startup::{self, AuthPlan, BindFacts, GeneratedToken, Overrides, StartPlan};
use crate::config::{ConfigHandle, Environment, Secret, StartPolicy};
use crate::delivery::Delivery;
use crate::exit_code;
use crate::front::accept::{self, BindError, Front};
use crate::front::control::Control;
use crate::front::settings::{AuthEnvironment, Settings};
use crate::front::shared::{Paths as FrontPaths, Phase, Shared as FrontShared};
use crate::journal::{Journal, JournalHandle, OpenOptions, Recovered};
use crate::lock::{self, Held, HostLock, LockError, OwnerNote};
use crate::paths::Paths;
use crate::router::dispatch::Intake;
use crate::router::pairing::PairingStore;
use crate::scheduler::core::Core;
use crate::scheduler::lanes::Limits;
use crate::scheduler::shared::{Shared, now_ms, now_us};
use crate::scheduler::{COMMANDS_MAX, LaneGate, Scheduler};
use crate::worker::{Workers, WorkersConfig};
use proto::wire::Id;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

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
    instance: Held,
    host: Option<HostLock>,
    _workspaces: Vec<Held>,
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
    /// When an earlier start of this process gave way to this one.
    restarted_ms: Option<i64>,
}

/// How a run of the gateway ended.
pub enum End {
    Stopped,
    /// Replace this process by a new start of the same executable.
    Restart,
}

/// Runs the gateway until it is told to stop.
pub fn run(options: Options, process_env: Environment, paths: Paths) -> Result<u8, Refused> {
    stop::hold_restart_signals();
    hide_from_own_user();
    let prepared = prepare(options, process_env, paths)?;
    let (log, service) = (prepared.log.clone(), prepared.options.service);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(|error| refused(format!("cannot start: {error}"), exit_code::FAILURE))?;
    let local = tokio::task::LocalSet::new();
    let end = local.block_on(&runtime, serve(prepared));
    drop(local);
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    log.flush();
    match end {
        Ok(End::Stopped) => Ok(exit_code::OK),
        Ok(End::Restart) => Err(stop::exec_again(service)),
        Err(refusal) => Err(refusal),
    }
}

/// The environment may hold secrets, and tools run as the same user: nobody but root may look into this process.
fn hide_from_own_user() {
    if let Err(error) = proto::runtime::sys::not_dumpable() {
        tracing::warn!(%error, "other processes of this user can read this one's memory");
    }
}

fn refused(message: impl Into<String>, exit_code: u8) -> Refused {
    Refused { message: message.into(), exit_code }
}

fn prepare(options: Options, process_env: Environment, paths: Paths) -> Result<Prepared, Refused> {
    let notify = Notify::new(&process_env);
    let restarted_ms = process_env.get(stop::RESTARTED_AT_MS).and_then(|text| text.parse().ok());
    proto::runtime::failpoint::arm(process_env.get("OPENCLAW_FAILPOINTS").unwrap_or_default());
    super::last_words::install(paths.state_dir.join("crash"));
    lock::create_private_dir(&paths.state_dir).map_err(|error| {
        refused(format!("state directory {}: {error}", paths.state_dir.display()), exit_code::FAILURE)
    })?;
    let instance =
        lock::lock_instance(&paths.state_dir).map_err(|error| lock_refusal(&error, options.service))?;
    let cwd = std::env::current_dir().ok().filter(|_| !options.service);
    let state_dir_given = process_env.get("OPENCLAW_STATE_DIR").is_some();
    let runtime_dir = process_env.get("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    let level =
        options.log_level.clone().or_else(|| process_env.get("OPENCLAW_LOG_LEVEL").map(str::to_owned));
    let env = crate::config::handle::load_env(process_env, &paths, cwd.as_deref());
    let policy = StartPolicy { service: options.service, use_last_good: options.use_last_good };
    let bad_config = if options.service { exit_code::CONFIG } else { exit_code::FAILURE };
    let config = ConfigHandle::start(paths.clone(), env, policy)
        .map_err(|error| refused(error.to_string(), bad_config))?;
    let snapshot = config.current();
    let file = logging::file_of(&snapshot.logging, &paths.logs_dir(), |text| paths.expand(text));
    let log = logging::start(&snapshot.logging, file, level.as_deref())
        .map_err(|error| refused(format!("log file: {error}"), exit_code::FAILURE))?;
    let state = config.state();
    if state.state == "invalid" {
        for error in &state.errors {
            tracing::error!("config INVALID: {error}");
        }
        tracing::error!("running {} instead of the file; fix it and restart", state.source);
    }
    let plan = startup::plan(&snapshot, &options.overrides, &paths, &facts()).map_err(|refusal| {
        if let Some(text) = &refusal.log {
            tracing::error!("{text}");
        }
        let text = refusal.log.as_ref().map_or_else(String::new, |text| format!("{text}\n"));
        refused(format!("{text}{}", refusal.message), refusal.exit_code(options.service))
    })?;
    for warning in
        snapshot.file.findings.warnings.iter().map(ToString::to_string).chain(plan.warnings.clone())
    {
        tracing::warn!("{warning}");
    }
    tracing::debug!(port = plan.port, source = plan.port_source.name(), "port chosen");
    save_token(&config, &plan.auth);
    let named = paths.profile.is_some() || (state_dir_given && plan.port != crate::config::PORT_DEFAULT);
    let host = if named {
        None
    } else {
        let locked = lock::lock_host(runtime_dir.as_deref(), &paths.state_dir);
        Some(locked.map_err(|error| lock_refusal(&error, options.service))?)
    };
    let workspaces = lock_workspaces(&config, options.service)?;
    let locks = Locks { instance, host, _workspaces: workspaces };
    Ok(Prepared { options, paths, config, plan, locks, log, notify, restarted_ms })
}

fn facts() -> BindFacts {
    BindFacts {
        loopback: TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_ok(),
        tailnet: None,
        in_container: std::path::Path::new("/.dockerenv").exists(),
    }
}

/// The text that operators of the original know, with the owner where it is known.
fn lock_refusal(error: &LockError, service: bool) -> Refused {
    let code = if service { exit_code::TEMPORARY } else { exit_code::FAILURE };
    let hints = match error {
        LockError::StateDir { .. } | LockError::Host { .. } => {
            "\nIf the gateway is supervised, stop it with: openclaw gateway stop\nTip: openclaw gateway stop"
        }
        LockError::Workspace { .. } | LockError::Io { .. } => "",
    };
    refused(format!("Gateway failed to start: {error}{hints}"), code)
}

fn save_token(config: &ConfigHandle, auth: &AuthPlan) {
    let Some(token) = auth.token.as_ref().filter(|_| auth.generated != GeneratedToken::No) else { return };
    let saved = auth.generated == GeneratedToken::Save && {
        let _writing = config.lock();
        let before = config.on_disk();
        let mut values = before.parsed.clone();
        let patch = serde_json::json!({"gateway": {"auth": {"mode": "token", "token": token.expose()}}});
        crate::config::merge_patch(&mut values, &patch);
        let new = crate::config::handle::NewText::Values(values);
        let written = config.change(&before, new, crate::config::handle::Allow::default(), now_ms());
        match written {
            Ok(changed) => config.activate(changed.file).is_ok(),
            Err(error) => {
                tracing::error!(%error, "generated token not saved");
                false
            }
        }
    };
    if saved {
        tracing::info!("{}", startup::auth::TOKEN_SAVED);
    } else {
        tracing::warn!("{}", startup::auth::TOKEN_IN_MEMORY);
    }
}

fn lock_workspaces(config: &ConfigHandle, service: bool) -> Result<Vec<Held>, Refused> {
    let snapshot = config.current();
    let paths = config.paths();
    let state = paths.state_dir.display().to_string();
    let mut dirs: Vec<std::path::PathBuf> = snapshot
        .view
        .agents
        .list
        .iter()
        .map(|agent| paths.expand(&snapshot.view.agents.workspace_of(&agent.id, &state)))
        .collect();
    dirs.sort();
    dirs.dedup();
    let mut held = Vec::new();
    for dir in dirs {
        std::fs::create_dir_all(&dir).map_err(|error| {
            refused(format!("workspace {} cannot be created: {error}", dir.display()), exit_code::FAILURE)
        })?;
        held.push(lock::lock_workspace(&dir).map_err(|error| lock_refusal(&error, service))?);
    }
    Ok(held)
}

/// Everything that the runtimes own.
async fn serve(prepared: Prepared) -> Result<End, Refused> {
    let started = Instant::now();
    let signals = stop::Signals::receive()
        .map_err(|error| refused(format!("signals cannot be received: {error}"), exit_code::FAILURE))?;
    let bounded = tokio::task::spawn_local(stop::bound_start());
    let Prepared { options, paths, config, plan, locks, log, notify, restarted_ms } = prepared;
    let fatal = |error: String| refused(format!("Gateway failed to start: {error}"), exit_code::FAILURE);
    let (journal, recovered) = open_journal(&paths, &options).await.map_err(fatal)?;
    let listeners = bind(&plan, &options)?;
    let port =
        listeners.first().and_then(|listener| listener.local_addr().ok()).map_or(plan.port, |a| a.port());
    let boot_id = Id::now();
    note_owner(&locks, &paths, port, &boot_id);

    let (workers, events) =
        start_workers(&paths, &journal, boot_id).map_err(|error| fatal(error.to_string()))?;
    let about = Arc::new(about(boot_id, started, port, options.service));
    let front_paths = FrontPaths {
        state_dir: paths.state_dir.clone(),
        config_path: paths.config_file.clone(),
        log_file: log.file.clone(),
    };
    let settings = watch::Sender::new(Arc::new(settings(&config, &plan, &options)));
    let (front, fanned) = FrontShared::open(front_paths, settings.subscribe(), &about)
        .map_err(|error| fatal(error.to_string()))?;
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let pairing = PairingStore::new(&paths.credentials_dir);
    let handles = Handles {
        scheduler: Scheduler::new(commands),
        front,
        about,
        config: config.clone(),
        journal: journal.clone(),
        workers: workers.clone(),
        channels: ChannelBoard::default(),
        pairing: pairing.clone(),
        restarts: Restarts::new(restarted_ms),
    };
    let core = build_core(&handles);
    tokio::task::spawn_local(core.clone().serve(inbox));
    let pump = Pump {
        core: core.clone(),
        intake: Intake::new(core.clone(), pairing),
        board: handles.channels.clone(),
    };
    tokio::task::spawn_local(pump.run(events));
    crate::takeover::run(&handles).await;

    let control = Control::open(&paths).map_err(|error| fatal(error.to_string()))?;
    let front = Front::start(handles.clone(), listeners, Some(control), fanned)
        .map_err(|error| fatal(error.to_string()))?;
    let provisioner =
        Provisioner::new(config.clone(), journal.clone()).map_err(|error| fatal(error.to_string()))?;
    config.use_workers(provisioner.programs());
    workers.apply(provisioner.specs());
    resume(&core, recovered).await;
    tokio::task::spawn_local(super::sentinel::tell(handles.clone()));
    let locks = Rc::new(locks);
    tokio::task::spawn_local(super::housekeeping::run(core, locks.clone()));
    config.mark_good("start", now_ms());
    ready(&handles, &plan, &notify, options.welcome);
    // After ready: what a worker refuses is shown, and costs the start nothing.
    tokio::task::spawn_blocking(move || config.check_active());
    bounded.abort();
    let end = stop::until_told(&handles, signals).await;
    stop::stop(&handles, front, &end, &notify).await;
    drop(settings);
    drop(locks);
    Ok(end)
}

fn about(boot_id: Id, started: Instant, port: u16, service: bool) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        boot_id: boot_id.to_string(),
        started,
        started_ms: now_ms(),
        port,
        service,
    }
}

/// The journal, as the last start left it and as this one goes on from it.
async fn open_journal(paths: &Paths, options: &Options) -> Result<(JournalHandle, Recovered), String> {
    let mut open = OpenOptions::new(paths.state_dir.join("journal"));
    open.unsafe_fs = options.unsafe_fs;
    let opened = tokio::task::spawn_blocking(move || JournalHandle::open(open)).await;
    let (journal, warnings) =
        opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let recovered = journal.recover(now_us()).await.map_err(|error| error.to_string())?;
    Ok((journal, recovered))
}

fn bind(plan: &StartPlan, options: &Options) -> Result<Vec<TcpListener>, Refused> {
    let code = if options.service { exit_code::TEMPORARY } else { exit_code::FAILURE };
    let mut listeners = Vec::new();
    for address in &plan.bind.required {
        let bound = accept::bind(*address, plan.port).map_err(|error| {
            let mut message = format!("Gateway failed to start: {error}");
            if matches!(error, BindError::InUse(_)) {
                let owner = port_owner::of(plan.port);
                message.push_str(&lock::owner_hint(owner.as_ref().map(|owner| owner.pid), Some(plan.port)));
                message.push_str(&format!("\nPort {} is already in use.", plan.port));
                if let Some(owner) = owner {
                    message.push_str(&format!("\n- pid {}: {} ({address}:{})", owner.pid, owner.command, plan.port));
                }
                message.push_str("\n- Gateway already running locally. Stop it (openclaw gateway stop) or use a different port.");
            }
            refused(message, code)
        })?;
        listeners.extend(bound);
    }
    Ok(listeners)
}

fn note_owner(locks: &Locks, paths: &Paths, port: u16, boot_id: &Id) {
    let note = OwnerNote {
        pid: std::process::id(),
        port,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.to_string(),
        state_dir: paths.state_dir.display().to_string(),
        config_path: paths.config_file.display().to_string(),
        started_at_ms: now_ms(),
    };
    locks.instance.note(&note);
    if let Some(host) = &locks.host {
        host.note(&note);
    }
}

fn start_workers(
    paths: &Paths,
    journal: &JournalHandle,
    boot_id: Id,
) -> std::io::Result<(Workers, mpsc::Receiver<crate::worker::WorkerEvent>)> {
    let journal = journal.clone();
    Workers::start(WorkersConfig {
        boot_id,
        crash_dir: paths.state_dir.join("crash"),
        next_epoch: Arc::new(move |worker| {
            let journal = journal.clone();
            Box::pin(async move { journal.next_epoch(worker.0).await.map_err(|error| error.to_string()) })
        }),
        adopt_orphans: true,
    })
}

/// What the public side needs of the configuration, with the secrets that were decided at start.
fn settings(config: &ConfigHandle, plan: &StartPlan, options: &Options) -> Settings {
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let env = AuthEnvironment {
        mode: Some(plan.auth.mode.name().to_owned()),
        token_override: expose(&plan.auth.token),
        password_override: expose(&plan.auth.password),
        token: None,
        password: None,
    };
    for secret in [&plan.auth.token, &plan.auth.password, &options.overrides.token].into_iter().flatten() {
        proto::runtime::telemetry::hide([secret.expose()]);
    }
    let mut settings = Settings::from_config(&config.current().config, &env);
    settings.control_ui.origins.allowed.clone_from(&plan.allowed_origins);
    settings
}

fn build_core(handles: &Handles) -> Core {
    let config = handles.config.current();
    let limits = Limits { main: config.view.agents.max_concurrent as usize, ..Limits::default() };
    Core::new(Rc::new(Shared {
        config: handles.config.clone(),
        journal: handles.journal.clone(),
        workers: handles.workers.clone(),
        fanout: handles.front.fanout.clone(),
        delivery: Delivery::new(handles.journal.clone(), handles.workers.clone()),
        lanes: LaneGate::new(limits),
        runs: Default::default(),
        owners: Default::default(),
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

fn ready(handles: &Handles, plan: &StartPlan, notify: &Notify, welcome: Option<fn(&StartPlan)>) {
    handles.front.set_phase(Phase::Ready);
    let (port, pid) = (handles.about.port, handles.about.pid);
    if let Some(model) = &handles.config.current().view.agents.model.primary {
        tracing::info!("agent model: {model}");
    }
    tracing::info!("listening on ws://{}:{port} (PID {pid})", plan.bind.host());
    tracing::info!("log file: {}", handles.front.paths.log_file.display());
    tracing::info!(ms = u64::try_from(handles.about.started.elapsed().as_millis()).unwrap_or(0), "ready");
    notify.send("READY=1\nSTATUS=ready");
    if let Some(welcome) = welcome {
        welcome(plan);
    }
}
