//! The task of one worker: takes one event, steps the lifecycle, carries out its actions.

mod carry;
mod messages;
mod running;

pub(super) use carry::Adopted;

use super::cgroup::Groups;
use super::crash_report::{self, PongLine};
use super::exit::{End, ExitClass, classify};
use super::handle::{DRAIN_MS, EnsureError, Waiting, WorkersConfig};
use super::held::{self, Held};
use super::lifecycle::{Action, Event, Lifecycle, Signal, State, Then};
use super::output::Ring;
use super::proc_view;
use super::reaper::{Exit, Reaper};
use super::registry::{Command, Dump, DumpView, LastCrash, Registry, Slot, WorkerStatus};
use super::restart::Quarantine;
use super::spec::WorkerSpec;
use super::suspects::Suspects;
use super::{WorkerEvent, WorkerEventKind};
use proto::runtime::link::LinkEvent;
use proto::wire::agent::{ConfigDelta, SupToAgent};
use proto::wire::channel::SupToChannel;
use proto::wire::handshake::WorkerKind;
use proto::wire::state::Outgoing;
use running::{Running, StartFailure, Told};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Callers that wait for one worker to come up.
const WAITERS_MAX: usize = 1024;
/// Look at memory, idleness and the OOM counter this often.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// What every worker's task needs from its surroundings.
pub(super) struct Home {
    pub config: WorkersConfig,
    pub reaper: Reaper,
    pub events: mpsc::Sender<WorkerEvent>,
    pub started: Instant,
    pub registry: Arc<Registry>,
    /// Workers of the image before that have no task yet.
    pub waiting: Waiting,
    pub groups: Groups,
    pub held: Held,
}

impl Home {
    /// Milliseconds of CLOCK_MONOTONIC since the workers began.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Unix milliseconds.
fn wall_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}

enum Step {
    Command(Option<Command>),
    Link(LinkEvent),
    Exit(Exit),
    Told,
    Deadline,
    Housekeeping,
}

pub(super) struct Driver {
    spec: WorkerSpec,
    life: Lifecycle,
    home: Arc<Home>,
    slot: Arc<Slot>,
    commands: mpsc::Receiver<Command>,
    running: Option<Running>,
    deadline: Option<Instant>,
    waiters: Vec<oneshot::Sender<Result<u64, EnsureError>>>,
    /// Events for the core, in order. While there are any, the link is not read.
    pending: VecDeque<WorkerEvent>,
    ring: Ring,
    /// Input of the network that may be what kills the worker.
    suspects: Suspects,
    epoch: u64,
    removed: bool,
    /// To be taken over from the image before.
    adopted: Option<Adopted>,
    /// The next image goes on: only commands are taken any more.
    quiet: bool,
}

impl Driver {
    pub fn first_status(spec: &WorkerSpec) -> WorkerStatus {
        WorkerStatus::new(spec.id.clone(), State::Idle, wall_ms())
    }

    /// `adopted`: its worker as the image before left it.
    pub fn new(
        spec: WorkerSpec,
        home: Arc<Home>,
        slot: Arc<Slot>,
        commands: mpsc::Receiver<Command>,
        adopted: Option<Adopted>,
    ) -> Self {
        let life = Lifecycle::new(spec.id.kind(), spec.keep_warm);
        Self {
            spec,
            life,
            home,
            slot,
            commands,
            running: None,
            deadline: None,
            waiters: Vec::new(),
            pending: VecDeque::new(),
            ring: Ring::default(),
            suspects: Suspects::default(),
            epoch: 0,
            removed: false,
            adopted,
            quiet: false,
        }
    }

    /// Runs until the worker is removed and gone.
    pub async fn run(mut self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if let Some(adopted) = self.adopted.take() {
            self.take_over(adopted).await;
        } else if self.home.held.contains(&self.spec.id) {
            self.step(Event::Disable).await;
        } else if self.spec.keep_warm {
            self.step(Event::Want).await;
        }
        loop {
            let step = self.next(&mut housekeeping).await;
            match step {
                Step::Command(Some(Command::Freeze { ends, reply })) => {
                    // Nobody waits for it any more: the exec comes without this worker.
                    let _late = reply.send(self.freeze(ends).await);
                    return;
                }
                Step::Command(Some(command)) => self.on_command(command).await,
                Step::Command(None) => return,
                Step::Link(event) => self.on_link(event).await,
                Step::Exit(exit) => self.on_exit(exit),
                Step::Deadline => {
                    self.deadline = None;
                    self.step(Event::Deadline).await;
                }
                Step::Housekeeping => self.housekeeping().await,
                Step::Told => {}
            }
            self.finish_if_over().await;
            if self.removed && self.running.is_none() && self.pending.is_empty() {
                self.home.registry.remove(&self.spec.id);
                return;
            }
        }
    }

    async fn next(&mut self, housekeeping: &mut tokio::time::Interval) -> Step {
        if self.quiet {
            return Step::Command(self.commands.recv().await);
        }
        let listening = self.pending.is_empty();
        let deadline = self.deadline;
        let (events, pending) = (&self.home.events, &mut self.pending);
        tokio::select! {
            command = self.commands.recv() => Step::Command(command),
            permit = events.reserve(), if !listening => {
                match (permit, pending.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    // The core is gone: nobody is to be told any more.
                    _ => pending.clear(),
                }
                Step::Told
            }
            told = running::next(&mut self.running, listening) => match told {
                Told::Link(event) => Step::Link(event),
                Told::Exit(exit) => Step::Exit(exit),
            },
            () = sleep_until(deadline), if deadline.is_some() => Step::Deadline,
            _ = housekeeping.tick() => Step::Housekeeping,
        }
    }

    /// Steps the lifecycle until it has nothing more to do, and shows the result.
    async fn step(&mut self, event: Event) {
        let mut event = Some(event);
        while let Some(now) = event.take() {
            let before = self.life.state();
            let actions = self.life.on(now, self.home.now_ms());
            if self.life.state() != before {
                self.show_state();
            }
            for action in actions {
                if let Some(next) = self.carry_out(action).await {
                    event = Some(next);
                    break;
                }
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn => match running::start(&self.spec, &self.home, &self.ring).await {
                Ok(running) => {
                    self.epoch = running.epoch;
                    let (pid, epoch) = (running.pid, running.epoch);
                    self.slot.change(|status| {
                        (status.pid, status.epoch, status.outdated) = (Some(pid), epoch, false);
                    });
                    tracing::info!(worker = %self.spec.id, pid, epoch, "worker started");
                    self.running = Some(running);
                }
                Err(failure) => return Some(self.start_failed(&failure)),
            },
            Action::SendDrain { deadline_ms } => {
                self.tell(running::drain_message(&self.spec.id, deadline_ms))
            }
            Action::SendShutdown => self.tell(running::shutdown_message(&self.spec.id)),
            Action::Signal(signal) => {
                if let Some(running) = &mut self.running {
                    tracing::info!(worker = %self.spec.id, pid = running.pid, ?signal, "signalling the worker");
                    running.signal(signal);
                }
            }
            Action::Deadline { after_ms } => {
                self.deadline = Some(Instant::now() + Duration::from_millis(after_ms));
            }
            Action::NoDeadline => self.deadline = None,
            Action::Up => self.on_up(),
            Action::RefuseWaiters => {
                let error = EnsureError::of(self.life.state(), self.life.quarantine());
                for waiter in self.waiters.drain(..) {
                    let _ = waiter.send(Err(error.clone()));
                }
            }
        }
        None
    }

    fn start_failed(&mut self, failure: &StartFailure) -> Event {
        let why = failure.to_string();
        if let StartFailure::Config(why) = failure {
            // The quarantine that follows says it.
            self.slot.change(|status| status.why = Some(why.clone()));
            return Event::Unconfigured;
        }
        tracing::error!(worker = %self.spec.id, error = why, "worker could not be started");
        self.slot.change(|status| status.why = Some(why));
        Event::SpawnFailed
    }

    fn tell(&mut self, message: Outgoing) {
        if let Some(running) = &self.running
            && let Err(refusal) = running.link.try_send(message)
        {
            tracing::info!(worker = %self.spec.id, %refusal, "worker does not take a command; its deadline decides");
        }
    }

    fn on_up(&mut self) {
        let Some(running) = &mut self.running else { return };
        self.slot.set_link(Some((running.epoch, running.link.clone())));
        running.work_at = Instant::now();
        let ready = std::mem::take(&mut running.ready);
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(Ok(running.epoch));
        }
        self.life.unwant();
        self.emit(WorkerEventKind::Up { ready });
    }

    fn emit(&mut self, kind: WorkerEventKind) {
        self.pending.push_back(WorkerEvent { worker: self.spec.id.clone(), epoch: self.epoch, kind });
    }

    fn show_state(&mut self) {
        let (state, restarts) = (self.life.state(), self.life.restarts().total());
        let held = self.home.held.contains(&self.spec.id);
        let often = self.life.restarts().is_degraded(self.home.now_ms()).then(|| "restarts often".to_owned());
        let shown = self.slot.status();
        let quarantine = self.life.quarantine().map(|why| {
            let told = shown.why.filter(|_| why == Quarantine::Config);
            match shown.sandbox.and_then(|sandbox| sandbox.refused).or(told) {
                Some(told) if !told.starts_with(why.text()) => format!("{}: {told}", why.text()),
                Some(told) => told,
                None => why.text().to_owned(),
            }
        });
        self.slot.change(|status| {
            status.state = state;
            status.restarts = restarts;
            status.since_ms = wall_ms();
            if std::mem::replace(&mut status.held, held) && !held {
                status.why = None;
            }
            let silent = (state == State::Suspect).then(|| "does not answer".to_owned());
            if held {
                status.why = Some(held::why(&status.id));
            } else if let Some(why) = quarantine.or(silent).or(often) {
                status.why = Some(why);
            } else if state == State::Ready {
                status.why = None;
            }
        });
        self.emit(WorkerEventKind::State(state));
    }

    // --- events ---

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Ensure(waiter) if self.quiet => {
                let _gone = waiter.send(Err(EnsureError::Replaced));
            }
            _ if self.quiet => {}
            Command::Ensure(waiter) => self.on_ensure(waiter).await,
            Command::Drain { deadline_ms, then } => self.step(Event::Drain { deadline_ms, then }).await,
            Command::Stop { then } => self.step(Event::Stop { then }).await,
            Command::Retry => {
                self.step(Event::Enable).await;
                self.step(Event::Fixed).await;
            }
            Command::MessageBlamed => self.step(Event::MessageBlamed).await,
            Command::Dump(reply) => self.on_dump(reply),
            Command::Update(spec) => self.on_update(*spec).await,
            Command::Quiet(reply) => {
                self.fall_quiet().await;
                let _gone = reply.send(());
            }
            Command::Freeze { .. } => {}
            Command::Remove => {
                self.removed = true;
                self.step(Event::Disable).await;
            }
        }
    }

    fn on_dump(&mut self, reply: oneshot::Sender<Dump>) {
        let mut view =
            DumpView { log: self.ring.lines(), in_flight: self.slot.in_flight(), ..DumpView::default() };
        let from_line = self.ring.total();
        if let Some(running) = &mut self.running {
            view.process = Some(proc_view::look(running.pid));
            view.last_pong = running.link.last_pong().map(PongLine::of);
            view.frames = crash_report::frames(&running.link.last_frames());
            running.signal(Signal::Dump);
        }
        let _gone = reply.send(Dump { view, ring: self.ring.clone(), from_line });
    }

    async fn on_ensure(&mut self, waiter: oneshot::Sender<Result<u64, EnsureError>>) {
        if self.life.state().is_up() {
            let _ = waiter.send(Ok(self.epoch));
            return;
        }
        if self.waiters.len() >= WAITERS_MAX {
            self.waiters.retain(|waiter| !waiter.is_closed());
        }
        if self.waiters.len() >= WAITERS_MAX {
            let _ = waiter.send(Err(EnsureError::Busy));
            return;
        }
        self.waiters.push(waiter);
        self.step(Event::Want).await;
    }

    async fn on_update(&mut self, spec: WorkerSpec) {
        self.removed = false;
        let replaced =
            spec.fingerprint != self.spec.fingerprint || spec.binary.path() != self.spec.binary.path();
        let changed = replaced || spec.told != self.spec.told;
        let warm = spec.keep_warm;
        self.spec = spec;
        self.life.set_permanent(warm);
        if self.home.held.contains(&self.spec.id) {
            // It gets what is new when it is started again.
            self.step(Event::Disable).await;
            return;
        }
        self.step(Event::Enable).await;
        if changed && self.life.is_alive() {
            let told = !replaced && self.tell_config().await;
            if !told {
                self.step(Event::Drain { deadline_ms: DRAIN_MS, then: Then::Restart }).await;
            }
        } else if changed {
            self.step(Event::Fixed).await;
        }
        if warm && self.life.state() == State::Idle {
            self.step(Event::Want).await;
        }
    }

    /// True when the worker got its new configuration.
    async fn tell_config(&mut self) -> bool {
        let Some(running) = self.running.as_ref().filter(|_| self.life.state().is_up()) else { return false };
        let Ok(provision) = running::provision(&self.spec).await else { return false };
        let delta = ConfigDelta { config: provision.config, secrets: provision.secrets };
        let message = match self.spec.id.kind() {
            WorkerKind::Agent => Outgoing::of(&SupToAgent::ConfigDelta(delta)),
            WorkerKind::Channel => Outgoing::of(&SupToChannel::ConfigDelta(delta)),
        };
        running.link.try_send(message).is_ok()
    }

    fn on_exit(&mut self, exit: Exit) {
        if let Some(running) = &mut self.running {
            running.exited(exit);
        }
    }

    /// The end is complete when the process is reaped and its link read to the end (or given up).
    async fn finish_if_over(&mut self) {
        if !self.running.as_ref().is_some_and(Running::is_over) || !self.pending.is_empty() {
            return;
        }
        let Some(mut running) = self.running.take() else { return };
        let Some(exit) = running.exit else { return };
        self.slot.set_link(None);
        let class = classify(End {
            ended: exit.ended,
            asked: self.life.end_is_asked(),
            killed_for: self.life.killed_for(),
            oom: running.oom_kills_since(),
        });
        self.slot.change(|status| (status.pid, status.rss_kb, status.inflight) = (None, 0, 0));
        if class == ExitClass::Asked {
            tracing::info!(worker = %self.spec.id, pid = running.pid, ended = %exit.ended, "worker stopped");
        } else {
            self.report(&running, exit, class);
        }
        running.end_group();
        self.slot.clear_in_flight();
        let poison = self.suspects.died(class.own_fault(), self.home.now_ms());
        self.emit(WorkerEventKind::Down { class });
        self.step(Event::Exited { class, random: random() }).await;
        if poison {
            tracing::error!(worker = %self.spec.id, "a message of the network killed the worker each time; it is set aside");
            self.step(Event::MessageBlamed).await;
        }
    }

    fn report(&mut self, running: &Running, exit: Exit, class: ExitClass) {
        let ended = running.how_it_ended(exit, class);
        tracing::error!(event = "worker.crash", worker = %self.spec.id, pid = running.pid, epoch = running.epoch, ended, %class, "worker died");
        let mut report = running.crash_report(&self.spec.id, exit, class, self.life.killed_for());
        report.log = self.ring.lines();
        report.in_flight = self.slot.in_flight();
        report.in_flight.extend(self.suspects.now().iter().map(|id| format!("update {id}")));
        report.config_hash = format!("{:016x}", self.spec.fingerprint);
        let crash = LastCrash { at_ms: report.ended_ms, class, ended, report: report.file_name() };
        self.slot.change(|status| status.last_crash = Some(crash));
        let folder = self.home.config.crash_dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = crash_report::write(&folder, &report) {
                tracing::warn!(%error, folder = %folder.display(), "crash report not written");
            }
        });
    }

    async fn housekeeping(&mut self) {
        let Some(running) = &mut self.running else { return };
        running.look_at_oom();
        running.give_up_link_if_dead();
        let Some((pong, _)) = running.link.last_pong() else { return };
        self.slot.change(|status| {
            (status.rss_kb, status.inflight) = (pong.rss_kb, pong.inflight);
            (status.queue, status.lag_ms) = (pong.queue, pong.lag_ms);
        });
        let sent_ms = self.slot.sent_ms.load(Ordering::Relaxed);
        let quiet_ms =
            (running.work_at.elapsed().as_millis() as u64).min(self.home.now_ms().saturating_sub(sent_ms));
        let idle = pong.inflight == 0 && pong.queue == 0;
        if idle && self.spec.idle_stop_ms.is_some_and(|limit_ms| quiet_ms >= limit_ms) {
            self.step(Event::IdleTooLong).await;
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
