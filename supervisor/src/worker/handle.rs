//! The handle that the rest of the supervisor holds. Nothing here waits for a worker unless its name says so.

mod carry;

pub(super) use carry::Waiting;

use super::carry::CarriedWorkers;
use super::cgroup::Groups;
use super::driver::{Driver, Home};
use super::held::Held;
use super::leftovers::{self, Ledger};
use super::lifecycle::{State, Then};
use super::reaper::Reaper;
use super::registry::{Command, Dump, DumpView, Registry, Slot, WorkerStatus};
use super::restart::Quarantine;
use super::spec::WorkerSpec;
use super::{EVENTS_MAX, WorkerEvent};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use proto::runtime::link::RequestError;
use proto::wire::handshake::WorkerId;
use proto::wire::state::{Outgoing, SendRefusal};
use proto::wire::{Id, Lossy, Wire};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Verbs that wait for one worker's task; more mean that it is stuck.
const COMMANDS_MAX: usize = 256;
/// Longest wait for a start: two full back-offs of an agent.
const ENSURE_MAX: Duration = Duration::from_secs(60);
/// Time that a worker gets to finish its work when an operator or its configuration restarts it.
pub(super) const DRAIN_MS: u64 = 60_000;
/// Longest wait for what a worker says of itself: its guard thread answers in milliseconds, if at all.
const DUMP_MAX: Duration = Duration::from_secs(1);
/// How often [`Workers::stop_all`] and [`Workers::dump`] look.
const STOP_POLL: Duration = Duration::from_millis(10);

/// Hands out the fencing term of each start; the numbers never repeat, over restarts of the gateway too.
pub type NextEpoch = Arc<dyn Fn(WorkerId) -> BoxFuture<'static, Result<u64, String>> + Send + Sync>;

/// What all workers have in common.
pub struct WorkersConfig {
    pub boot_id: Id,
    /// `<state>/crash`.
    pub crash_dir: PathBuf,
    pub next_epoch: NextEpoch,
    /// Workers that an operator stopped for good; see [`Workers::hold`].
    pub held: BTreeSet<WorkerId>,
    /// This process is a subreaper: end what dead workers leave behind.
    pub adopt_orphans: bool,
}

/// Why a message did not go to a worker.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no worker {0}")]
    Unknown(WorkerId),
    #[error("worker {0} is not running")]
    NotUp(WorkerId),
    #[error("worker {0} was restarted meanwhile")]
    OtherEpoch(WorkerId),
    #[error("worker {worker} does not take it: {source}")]
    Link { worker: WorkerId, source: SendRefusal },
    #[error("worker {worker}: {source}")]
    Request { worker: WorkerId, source: RequestError },
    #[error("worker {0} has too many commands waiting")]
    Busy(WorkerId),
}

/// Why a worker did not come up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnsureError {
    #[error("it is not configured")]
    Unknown,
    #[error("it is disabled or was stopped")]
    Stopped,
    #[error("it is quarantined ({})", .0.text())]
    Quarantined(Quarantine),
    #[error("it has to be logged in again")]
    NeedsLogin,
    #[error("its last process cannot be killed")]
    Stuck,
    #[error("it is not ready within {} s", ENSURE_MAX.as_secs())]
    TimedOut,
    #[error("too many callers wait for it")]
    Busy,
    #[error("the gateway is being restarted")]
    Replaced,
}

impl EnsureError {
    /// Trying again soon is of no use.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::TimedOut | Self::Busy | Self::Replaced)
    }

    pub(super) fn of(state: State, quarantine: Option<Quarantine>) -> Self {
        match (state, quarantine) {
            (State::Quarantined, Some(why)) => Self::Quarantined(why),
            (State::NeedsLogin, _) => Self::NeedsLogin,
            (State::Stuck, _) => Self::Stuck,
            _ => Self::Stopped,
        }
    }
}

/// Cloneable handle to all workers, usable from any thread.
#[derive(Clone)]
pub struct Workers {
    registry: Arc<Registry>,
    home: Arc<Home>,
    runtime: Handle,
}

impl Workers {
    /// Must be called on the core runtime, which runs on a thread that never ends.
    /// `carried`: workers of the image before; [`Workers::apply`] takes them over.
    pub fn start(
        config: WorkersConfig,
        carried: CarriedWorkers,
    ) -> std::io::Result<(Self, mpsc::Receiver<WorkerEvent>)> {
        let runtime = Handle::current();
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        if config.adopt_orphans {
            proto::runtime::sys::adopt_orphans()?;
        }
        let noted = config.crash_dir.with_file_name("workers.json");
        leftovers::sweep(&noted);
        let groups = match config.crash_dir.parent().filter(|_| config.adopt_orphans) {
            Some(state_dir) => Groups::prepare(state_dir, &carried.living()),
            None => Groups::none(),
        };
        let reaper = Reaper::start(&runtime, config.adopt_orphans, Ledger::new(noted))?;
        let registry = Arc::new(Registry::default());
        let waiting = Waiting::new(carry::expect(&reaper, carried.workers)?);
        let now = Instant::now();
        let started = now.checked_sub(Duration::from_millis(carried.clock_ms)).unwrap_or(now);
        let (held, named) = (Held::new(config.held.clone()), registry.clone());
        let home = Arc::new(Home { config, reaper, events, started, registry: named, waiting, groups, held });
        Ok((Self { registry, home, runtime }, receiver))
    }

    /// Makes the wanted set true: new ones appear, missing ones stop, changed ones are told or restarted.
    pub fn apply(&self, specs: Vec<WorkerSpec>) {
        let wanted: BTreeSet<WorkerId> = specs.iter().map(|spec| spec.id.clone()).collect();
        for (id, slot) in self.registry.all() {
            if !wanted.contains(&id) {
                self.command(&id, &slot, Command::Remove);
            }
        }
        for spec in specs {
            match self.registry.get(&spec.id) {
                Some(slot) if !slot.commands.is_closed() => {
                    let id = spec.id.clone();
                    self.command(&id, &slot, Command::Update(Box::new(spec)));
                }
                _ => self.add(spec),
            }
        }
    }

    fn add(&self, spec: WorkerSpec) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let slot = Arc::new(Slot::new(Driver::first_status(&spec), sender));
        self.registry.insert(spec.id.clone(), slot.clone());
        let adopted = self.home.waiting.take(&spec.id);
        self.runtime.spawn(Driver::new(spec, self.home.clone(), slot, commands, adopted).run());
    }

    fn command(&self, worker: &WorkerId, slot: &Slot, command: Command) -> bool {
        let sent = slot.commands.try_send(command).is_ok();
        if !sent {
            tracing::error!(%worker, "worker's task does not take commands");
        }
        sent
    }

    /// Starts the worker if need be and waits until it takes work; returns its epoch.
    pub async fn ensure_started(&self, worker: WorkerId) -> Result<u64, EnsureError> {
        let slot = self.registry.get(&worker).ok_or(EnsureError::Unknown)?;
        let (sender, receiver) = oneshot::channel();
        slot.commands.try_send(Command::Ensure(sender)).map_err(|_| EnsureError::Busy)?;
        match tokio::time::timeout(ENSURE_MAX, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(EnsureError::Stopped),
            Err(_) => Err(EnsureError::TimedOut),
        }
    }

    /// Epoch of a worker that takes work right now.
    pub fn ready_epoch(&self, worker: &WorkerId) -> Option<u64> {
        let slot = self.registry.get(worker)?;
        slot.status().state.is_up().then(|| slot.link().map(|(epoch, _)| epoch)).flatten()
    }

    fn up(&self, worker: &WorkerId) -> Result<(u64, proto::runtime::link::LinkHandle, Arc<Slot>), Refusal> {
        let slot = self.registry.get(worker).ok_or_else(|| Refusal::Unknown(worker.clone()))?;
        let (epoch, link) = slot.link().ok_or_else(|| Refusal::NotUp(worker.clone()))?;
        slot.sent_ms.store(self.home.now_ms(), Ordering::Relaxed);
        Ok((epoch, link, slot))
    }

    /// Queues a message for a worker that is up, or refuses it at once. Lossy messages are merged while they wait.
    /// Returns the epoch that it goes to.
    pub fn try_send<M: Lossy>(&self, worker: &WorkerId, message: M) -> Result<u64, Refusal> {
        let (epoch, link, _) = self.up(worker)?;
        link.send_lossy(message).map_err(|source| Refusal::Link { worker: worker.clone(), source })?;
        Ok(epoch)
    }

    /// Answers a request of a worker ([`super::WorkerEventKind::Message`] with a corr). `LinkControl::Error` refuses it.
    pub fn try_reply<M: Wire>(
        &self,
        worker: &WorkerId,
        epoch: u64,
        corr: u64,
        message: M,
    ) -> Result<(), Refusal> {
        let (now, link, _) = self.up(worker)?;
        if now != epoch {
            return Err(Refusal::OtherEpoch(worker.clone()));
        }
        link.reply(corr, Outgoing::of(&message))
            .map_err(|source| Refusal::Link { worker: worker.clone(), source })
    }

    /// Asks a worker that is up and waits for its answer: code and payload.
    pub async fn request<M: Wire>(
        &self,
        worker: &WorkerId,
        message: M,
        deadline_ms: u64,
    ) -> Result<(u16, Bytes), Refusal> {
        let (_, link, _) = self.up(worker)?;
        let failed = |source| Refusal::Request { worker: worker.clone(), source };
        link.request(Outgoing::of(&message), deadline_ms).await.map_err(failed)
    }

    fn verb(&self, worker: &WorkerId, command: Command) -> Result<(), Refusal> {
        let slot = self.registry.get(worker).ok_or_else(|| Refusal::Unknown(worker.clone()))?;
        if self.command(worker, &slot, command) { Ok(()) } else { Err(Refusal::Busy(worker.clone())) }
    }

    /// Drains, then starts again; also ends a quarantine and a stop.
    pub fn restart(&self, worker: &WorkerId) -> Result<(), Refusal> {
        if self.home.held.release(worker) {
            return self.start_one(worker);
        }
        self.verb(worker, Command::Drain { deadline_ms: DRAIN_MS, then: Then::Restart })
    }

    /// Stops now. It starts again when somebody wants it.
    pub fn stop(&self, worker: &WorkerId) -> Result<(), Refusal> {
        self.verb(worker, Command::Stop { then: Then::Idle })
    }

    /// Stops now, until [`Workers::restart`], [`Workers::start_one`] or [`Workers::retry`] is called: neither a new
    /// configuration nor work that waits for it starts it. Whoever calls it keeps this for the next image and the next start.
    pub fn hold(&self, worker: &WorkerId) -> Result<(), Refusal> {
        self.home.held.hold(worker);
        self.verb(worker, Command::Stop { then: Then::Disable })
    }

    /// Starts one that rests, and ends what [`Workers::retry`] ends.
    pub fn start_one(&self, worker: &WorkerId) -> Result<(), Refusal> {
        self.retry(worker)?;
        // Nobody waits for it; its state shows.
        let (ready, _) = oneshot::channel();
        self.verb(worker, Command::Ensure(ready))
    }

    /// Ends quarantine, back-off, the wait for a login and a stop.
    pub fn retry(&self, worker: &WorkerId) -> Result<(), Refusal> {
        self.home.held.release(worker);
        self.verb(worker, Command::Retry)
    }

    /// A message that was set aside caused the worker's last crashes: they are not held against it.
    pub fn blame_message(&self, worker: &WorkerId) {
        if let Err(refusal) = self.verb(worker, Command::MessageBlamed) {
            tracing::info!(%worker, %refusal, "its last crashes stay counted");
        }
    }

    /// What is known of a worker; it is asked to print its own view, which is waited for a second.
    pub async fn dump(&self, worker: &WorkerId) -> Result<DumpView, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.verb(worker, Command::Dump(reply))?;
        let Ok(Dump { mut view, ring, from_line }) = answer.await else {
            return Err(Refusal::Busy(worker.clone()));
        };
        let asked = Instant::now();
        while view.process.is_some() && asked.elapsed() < DUMP_MAX {
            view.said = ring.since(from_line);
            if view.said.iter().any(|line| line.contains(proto::runtime::dump::END)) {
                break;
            }
            tokio::time::sleep(STOP_POLL).await;
        }
        Ok(view)
    }

    /// The worker has been given this piece of work (for reports: what it did when it died).
    pub fn work_begins(&self, worker: &WorkerId, what: String) {
        if let Some(slot) = self.registry.get(worker) {
            slot.begin(what);
        }
    }

    pub fn work_ends(&self, worker: &WorkerId, what: &str) {
        if let Some(slot) = self.registry.get(worker) {
            slot.finish(what);
        }
    }

    /// Processes that were left to us by a worker that died, and reaped.
    pub fn strays(&self) -> u64 {
        self.home.reaper.strays()
    }

    /// Whether workers have control groups of their own, for people.
    pub fn groups(&self) -> String {
        self.home.groups.text()
    }

    /// All workers, from memory.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.registry.all().into_iter().map(|(_, slot)| slot.status()).collect()
    }

    pub fn status_of(&self, worker: &WorkerId) -> Option<WorkerStatus> {
        self.registry.get(worker).map(|slot| slot.status())
    }

    /// Stops every worker and waits until all are gone, at most `limit`. With `drain_ms` they may finish their work.
    /// Returns those that are still there. The events' receiver must go on receiving.
    pub async fn stop_all(&self, drain_ms: Option<u64>, limit: Duration) -> Vec<WorkerId> {
        for (id, slot) in self.registry.all() {
            let then = Then::Disable;
            self.command(
                &id,
                &slot,
                match drain_ms {
                    Some(deadline_ms) => Command::Drain { deadline_ms, then },
                    None => Command::Stop { then },
                },
            );
        }
        let begin = Instant::now();
        loop {
            let left: Vec<_> = self.registry.all().into_iter().filter(|(_, slot)| !is_gone(slot)).collect();
            if left.is_empty() || begin.elapsed() > limit {
                return left.into_iter().map(|(id, _)| id).collect();
            }
            tokio::time::sleep(STOP_POLL).await;
        }
    }
}

fn is_gone(slot: &Slot) -> bool {
    let status = slot.status();
    status.pid.is_none() && status.state == State::Disabled
}
