//! One start of a worker: its process, its link, and what is known about both.

mod carry;

use super::{Home, wall_ms};
use crate::link::{self, Expected, HelloRefusal};
use crate::worker::cgroup::Group;
use crate::worker::cgroup::limits::Limits;
use crate::worker::crash_report::{self, CrashReport, PongLine};
use crate::worker::exit::{ExitClass, KilledFor};
use crate::worker::lifecycle::Signal;
use crate::worker::output::{Follower, Ring};
use crate::worker::proc_view::{self, ProcView};
use crate::worker::process::{self, BinaryId, Process, Signals};
use crate::worker::reaper::Exit;
use crate::worker::sandbox::Sandbox;
use crate::worker::spec::{ProvideError, Provision, WorkerSpec};
use proto::runtime::link::{CloseReason, LinkEvent, LinkEvents, LinkHandle, LinkLimits};
use proto::runtime::{sys, telemetry};
use proto::wire::agent::{Drain, Shutdown, SupToAgent};
use proto::wire::channel::SupToChannel;
use proto::wire::handshake::{Bootstrap, Hello, LinkLimitsWire, Welcome, WorkerId, WorkerKind};
use proto::wire::isolation::Tier;
use proto::wire::state::{Outgoing, Side};
use proto::wire::version;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a start needs from the journal and the configuration comes within this, or the start is tried later.
const PROVIDE_MAX: Duration = Duration::from_secs(5);
/// After the process ended its link is read to the end; a descendant that kept it open does not get longer.
const LINK_TAIL: Duration = Duration::from_secs(1);

/// Why a worker was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartFailure {
    #[error("its epoch could not be stored: {0}")]
    Epoch(String),
    #[error("its configuration could not be prepared: {0}")]
    Provision(String),
    /// No start helps until the configuration or the environment changes.
    #[error("{0}")]
    Config(String),
    #[error("{path} could not be run: {source}")]
    Spawn { path: String, source: io::Error },
}

pub(super) struct Running {
    pub epoch: u64,
    pub pid: u32,
    pub link: LinkHandle,
    pub events: Option<LinkEvents>,
    pub signals: Signals,
    pub closed: Option<CloseReason>,
    pub exit: Option<Exit>,
    pub greeted: bool,
    pub ready: String,
    /// Last sign of work.
    pub work_at: Instant,
    /// What the kernel said of it before the first signal that ends it.
    pub before_kill: Option<ProcView>,
    exit_told: oneshot::Receiver<Exit>,
    exit_at: Option<Instant>,
    provision: Option<Provision>,
    since: Since,
    /// Readers of standard output and standard error.
    outputs: [Option<Follower>; 2],
    /// The executable that it runs.
    binary: BinaryId,
    /// Where the host lets us have groups.
    group: Option<Group>,
}

struct Since {
    wall_ms: i64,
    /// OOM kills of the host as of the look before the last one and of the last one.
    oom: (u64, u64),
}

pub(super) async fn provision(spec: &WorkerSpec) -> Result<Provision, StartFailure> {
    match tokio::time::timeout(PROVIDE_MAX, (spec.provide)()).await {
        Ok(Ok(provision)) => Ok(provision),
        Ok(Err(ProvideError::Config(why))) => Err(StartFailure::Config(why)),
        Ok(Err(ProvideError::NotNow(why))) => Err(StartFailure::Provision(why)),
        Err(_) => Err(StartFailure::Provision(format!("not within {} s", PROVIDE_MAX.as_secs()))),
    }
}

pub(super) async fn start(spec: &WorkerSpec, home: &Home, ring: &Ring) -> Result<Running, StartFailure> {
    let epoch = match tokio::time::timeout(PROVIDE_MAX, (home.config.next_epoch)(spec.id.clone())).await {
        Ok(Ok(epoch)) => epoch,
        Ok(Err(why)) => return Err(StartFailure::Epoch(why)),
        Err(_) => return Err(StartFailure::Epoch(format!("not within {} s", PROVIDE_MAX.as_secs()))),
    };
    let provision = provision(spec).await?;
    telemetry::hide(provision.secrets.0.values().map(String::as_str));
    let bootstrap = Bootstrap {
        worker_id: spec.id.clone(),
        kind: spec.id.kind(),
        epoch,
        proto_min: version::PROTO_MIN,
        proto_max: version::PROTO_MAX,
        isolation: spec.isolation,
        policy: spec.policy.clone(),
        log_level: spec.log_level.clone(),
        boot_id: home.config.boot_id,
        // Only the first life ever dies on purpose: what follows shows that the worker comes back.
        failpoints: if epoch == 1 { spec.failpoints.clone() } else { String::new() },
        proxies: spec.proxies.clone(),
    };
    let group = home.groups.make(&spec.id, epoch, &Limits::of(&spec.id, spec.policy.as_ref()));
    let process = process::spawn(spec, &bootstrap, &home.reaper, group.as_ref())
        .map_err(|source| StartFailure::Spawn { path: spec.binary.path().display().to_string(), source })?;
    let Process { pid, stdout, stderr, link, exited, signals } = process;
    let outputs = [stdout, stderr]
        .map(|stream| Some(Follower::start(spec.id.clone(), stream, ring.clone(), Vec::new())));
    let limits = LinkLimits::supervisor(spec.id.kind());
    let (link, events) = proto::runtime::link::spawn(link, Side::Supervisor, limits);
    let oom = oom_kills();
    Ok(Running {
        epoch,
        pid,
        link,
        events: Some(events),
        signals,
        closed: None,
        exit: None,
        greeted: false,
        ready: String::new(),
        work_at: Instant::now(),
        before_kill: None,
        exit_told: exited,
        exit_at: None,
        provision: Some(provision),
        since: Since { wall_ms: wall_ms(), oom: (oom, oom) },
        outputs,
        binary: spec.binary.id(),
        group,
    })
}

/// What a start of a worker tells by itself.
pub(super) enum Told {
    Link(LinkEvent),
    Exit(Exit),
}

/// The next event of the link (while `listening`) or the end of the process; never returns when neither is to come.
pub(super) async fn next(running: &mut Option<Running>, listening: bool) -> Told {
    let Some(running) = running else { return std::future::pending().await };
    let tail = running.exit_at.map(|at| at + LINK_TAIL);
    let (reading, waiting) = (listening && running.events.is_some(), running.exit.is_none());
    let event = tokio::select! {
        event = link_event(&mut running.events), if reading => event,
        exit = &mut running.exit_told, if waiting => match exit {
            Ok(exit) => return Told::Exit(exit),
            Err(_) => return std::future::pending().await,
        },
        why = running.link.violated(), if !listening && running.events.is_some() => {
            Some(LinkEvent::Closed { why })
        }
        () = super::sleep_until(tail), if reading && tail.is_some() => None,
        else => return std::future::pending().await,
    };
    let event = event.unwrap_or(LinkEvent::Closed { why: CloseReason::Local });
    if matches!(event, LinkEvent::Closed { .. }) {
        running.events = None;
    }
    Told::Link(event)
}

async fn link_event(events: &mut Option<LinkEvents>) -> Option<LinkEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

impl Running {
    pub fn exited(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.exit_at = Some(Instant::now());
    }

    /// Reaped, and nothing more can come from the link.
    pub fn is_over(&self) -> bool {
        self.exit.is_some() && self.events.is_none()
    }

    /// Checks the greeting against the process that was started.
    pub fn welcome(
        &mut self,
        hello: &Hello,
        spec: &WorkerSpec,
        sandbox: &Sandbox,
    ) -> Result<Welcome, HelloRefusal> {
        let expected = Expected {
            worker: &spec.id,
            epoch: self.epoch,
            pid: self.pid,
            isolation: spec.isolation,
            sandbox,
            min: spec.policy.as_ref().map_or(Tier::T0, |policy| policy.min),
        };
        let proto = link::accept(hello, &expected)?;
        let Some(Provision { config, secrets, cursors }) = self.provision.take() else {
            return Err(HelloRefusal::Impostor("greeted twice"));
        };
        Ok(Welcome { proto, caps: 0, limits: LinkLimitsWire::default(), config, secrets, cursors })
    }

    /// Keeps two looks, so that a kill just before the last look still counts.
    pub fn look_at_oom(&mut self) {
        self.since.oom = (self.since.oom.1, oom_kills());
        if let Some(group) = &mut self.group {
            group.look_at_oom();
        }
    }

    /// In its own group where memory is counted there, else anywhere on the host.
    pub fn oom_kills_since(&self) -> bool {
        let own = self.group.as_ref().and_then(Group::oom_since);
        own.unwrap_or_else(|| oom_kills() > self.since.oom.0)
    }

    /// For people; with what ran out, where the kernel counts that for this worker alone.
    pub fn how_it_ended(&self, exit: Exit, class: ExitClass) -> String {
        let account = self.group.as_ref().filter(|_| class == ExitClass::OutOfMemory).map(Group::account);
        match account.and_then(|account| account.text()) {
            Some(text) => format!("{}: {text}", exit.ended),
            None => exit.ended.to_string(),
        }
    }

    /// It is reaped: whatever it left behind ends before another is started in its place.
    pub fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            group.end();
        }
    }

    /// Sends a signal; before the first one that is to end it, what the kernel knows of it is kept for the report.
    pub fn signal(&mut self, signal: Signal) {
        if matches!(signal, Signal::Quit | Signal::Abort | Signal::Kill) && self.before_kill.is_none() {
            self.before_kill = Some(proc_view::look(self.pid));
        }
        self.signals.send(signal);
        if signal == Signal::Kill
            && let Some(group) = &self.group
        {
            group.kill();
        }
    }

    /// A link that outlived its process by far has nothing more to say.
    pub fn give_up_link_if_dead(&mut self) {
        if self.exit_at.is_some_and(|at| at.elapsed() > LINK_TAIL) {
            self.events = None;
        }
    }

    pub fn crash_report(
        &self,
        worker: &WorkerId,
        exit: Exit,
        class: ExitClass,
        killed_for: Option<KilledFor>,
    ) -> CrashReport {
        CrashReport {
            worker: worker.to_string(),
            epoch: self.epoch,
            pid: self.pid,
            started_ms: self.since.wall_ms,
            ended_ms: wall_ms(),
            class,
            ended: exit.ended,
            killed_for,
            link: self.closed.as_ref().map(ToString::to_string),
            usage: exit.usage,
            last_pong: self.link.last_pong().map(PongLine::of),
            frames: crash_report::frames(&self.link.last_frames()),
            in_flight: Vec::new(),
            process: self.before_kill.clone(),
            group: self.group.as_ref().map(Group::account),
            config_hash: String::new(),
            build: env!("CARGO_PKG_VERSION"),
            log: Vec::new(),
        }
    }
}

/// Kills by the kernel's OOM killer on this host since boot (`oom_kill` of /proc/vmstat; 0 where there is none).
fn oom_kills() -> u64 {
    sys::status_field(Path::new("/proc/vmstat"), "oom_kill ").unwrap_or(0)
}

pub(super) fn drain_message(worker: &WorkerId, deadline_ms: u64) -> Outgoing {
    let drain = Drain { deadline_ms };
    match worker.kind() {
        WorkerKind::Agent => Outgoing::of(&SupToAgent::Drain(drain)),
        WorkerKind::Channel => Outgoing::of(&SupToChannel::Drain(drain)),
    }
}

pub(super) fn shutdown_message(worker: &WorkerId) -> Outgoing {
    let shutdown = Shutdown { reason: "stop".into() };
    match worker.kind() {
        WorkerKind::Agent => Outgoing::of(&SupToAgent::Shutdown(shutdown)),
        WorkerKind::Channel => Outgoing::of(&SupToChannel::Shutdown(shutdown)),
    }
}
