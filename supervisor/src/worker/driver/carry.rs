//! A worker's task hands its worker to the next program image, or takes one over from the image before.

use super::running::Running;
use super::{Driver, random};
use crate::upgrade::fds::{Kept, Taken};
use crate::worker::carry::{CarriedProcess, CarriedWorker};
use crate::worker::exit::ExitClass;
use crate::worker::lifecycle::{Event, Signal, Then};
use crate::worker::process::Signals;
use crate::worker::reaper::Exit;
use crate::worker::suspects::Suspects;
use crate::worker::{WorkerEvent, WorkerEventKind};
use proto::runtime::link::LinkEvent;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

/// A worker falls silent within this. One that does not is carried all the same: its link is cut between two bytes, and
/// what it sends meanwhile waits in the kernel.
const QUIET_WITHIN: Duration = Duration::from_millis(500);

/// A worker of another image, with the end that the reaper will tell.
pub(in crate::worker) struct Adopted {
    pub carried: CarriedWorker,
    pub exited: Option<oneshot::Receiver<Exit>>,
    pub fds: Taken,
}

impl Driver {
    /// Asks the worker to fall silent and hands on everything that it said before. Nothing is begun after this.
    pub(super) async fn fall_quiet(&mut self) {
        if self.running.as_ref().is_some_and(|running| running.link.pause().is_ok()) {
            self.until_paused().await;
        }
        // What came before the `Paused` is ours to hand on; what a worker that goes on sends is carried with its link.
        while let Some(event) = self.running.as_mut().and_then(|running| running.events.as_mut()?.try_recv())
        {
            self.on_link_or_end(event).await;
            self.hand_on().await;
        }
        self.hand_on().await;
        self.quiet = true;
    }

    async fn until_paused(&mut self) {
        let end = tokio::time::Instant::now() + QUIET_WITHIN;
        loop {
            self.hand_on().await;
            let Some(events) = self.running.as_mut().and_then(|running| running.events.as_mut()) else {
                return;
            };
            match timeout_at(end, events.recv()).await {
                Ok(Some(LinkEvent::Paused)) => return,
                Ok(Some(event)) => self.on_link_or_end(event).await,
                Ok(None) | Err(_) => {
                    tracing::warn!(worker = %self.spec.id, "does not fall silent; it is carried over as it is");
                    return;
                }
            }
        }
    }

    async fn on_link_or_end(&mut self, event: LinkEvent) {
        if matches!(event, LinkEvent::Closed { .. })
            && let Some(running) = &mut self.running
        {
            running.events = None;
        }
        self.on_link(event).await;
    }

    async fn hand_on(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            if self.home.events.send(event).await.is_err() {
                self.pending.clear();
            }
        }
    }

    /// Ends the task; its worker stays. `ends`: it is told to end, and nothing that it says is heard any more.
    pub(super) async fn freeze(mut self, ends: bool) -> (CarriedWorker, Kept) {
        let mut kept = Kept::default();
        self.slot.set_link(None);
        if ends {
            if let Some(running) = &mut self.running {
                running.events = None;
            }
            self.step(Event::Stop { then: Then::Restart }).await;
        }
        let status = self.slot.status();
        let process = match self.running.take() {
            Some(running) => Some(running.freeze(&mut kept).await),
            None => None,
        };
        let left = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let carried = CarriedWorker {
            id: self.spec.id.clone(),
            life: self.life.clone(),
            deadline_ms: left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            epoch: self.epoch,
            fingerprint: self.spec.fingerprint,
            why: status.why,
            since_ms: status.since_ms,
            last_crash: status.last_crash,
            sandbox: status.sandbox,
            log: self.ring.lines(),
            suspects: self.suspects.carry(self.home.now_ms()),
            process,
        };
        (carried, kept)
    }

    /// Goes on with a worker of the image before.
    pub(super) async fn take_over(&mut self, adopted: Adopted) {
        let Adopted { carried, exited, fds } = adopted;
        let (kind, now) = (self.spec.id.kind(), Instant::now());
        self.life = carried.life.adopted(kind, self.spec.keep_warm);
        self.epoch = carried.epoch;
        self.deadline = carried.deadline_ms.map(|ms| now + Duration::from_millis(ms));
        self.suspects = Suspects::restore(carried.suspects, self.home.now_ms());
        carried.log.into_iter().for_each(|line| self.ring.push(line));
        let (state, restarts) = (self.life.state(), self.life.restarts().total());
        let held = self.home.held.contains(&self.spec.id);
        self.slot.change(|status| {
            (status.state, status.restarts, status.since_ms) = (state, restarts, carried.since_ms);
            (status.why, status.last_crash, status.epoch) = (carried.why, carried.last_crash, carried.epoch);
            (status.sandbox, status.held) = (carried.sandbox, held);
        });
        if let Some(process) = carried.process {
            self.take_over_process(process, exited, fds).await;
        }
        // The configuration may be another one than the worker's.
        let wanted = self.spec.clone();
        self.spec.fingerprint = carried.fingerprint;
        self.on_update(wanted).await;
    }

    async fn take_over_process(
        &mut self,
        process: CarriedProcess,
        exited: Option<oneshot::Receiver<Exit>>,
        fds: Taken,
    ) {
        let (pid, epoch) = (process.pid, process.epoch);
        let exited = exited.unwrap_or_else(|| oneshot::channel().1);
        let surroundings = (&self.ring, &self.home.groups);
        match Running::adopt(&self.spec, process, fds, exited, surroundings).await {
            Ok(running) => {
                let outdated = running.is_outdated(&self.spec);
                self.slot.change(|status| (status.pid, status.outdated) = (Some(pid), outdated));
                if self.life.state().is_up() {
                    self.slot.set_link(Some((epoch, running.link.clone())));
                }
                if let Err(refusal) = running.link.resume() {
                    tracing::info!(worker = %self.spec.id, %refusal, "its link ended during the upgrade");
                }
                self.running = Some(running);
            }
            Err(error) => {
                tracing::error!(worker = %self.spec.id, pid, %error, "cannot be spoken to after the upgrade; started anew");
                if let Ok(signals) = Signals::of_child(pid) {
                    signals.send(Signal::Kill);
                }
                let class = ExitClass::KilledOutside;
                self.pending.push_back(WorkerEvent {
                    worker: self.spec.id.clone(),
                    epoch,
                    kind: WorkerEventKind::Down { class },
                });
                self.step(Event::Exited { class, random: random() }).await;
            }
        }
    }
}
