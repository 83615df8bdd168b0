//! All workers on their way from one program image to the next.

use super::{Command, Workers};
use crate::upgrade::fds::{Kept, Taken};
use crate::worker::carry::{CarriedWorker, CarriedWorkers};
use crate::worker::driver::Adopted;
use crate::worker::lifecycle::Signal;
use crate::worker::process::Signals;
use crate::worker::{WorkerEvent, WorkerEventKind};
use futures_util::future::join_all;
use proto::wire::handshake::WorkerId;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// Workers of the image before that no task has taken over yet.
#[derive(Default)]
pub(in crate::worker) struct Waiting(Mutex<Vec<Adopted>>);

impl Waiting {
    pub(super) fn new(adopted: Vec<Adopted>) -> Self {
        Self(Mutex::new(adopted))
    }

    pub(super) fn take(&self, worker: &WorkerId) -> Option<Adopted> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = waiting.iter().position(|adopted| adopted.carried.id == *worker)?;
        Some(waiting.swap_remove(place))
    }

    fn take_all(&self) -> Vec<Adopted> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Workers {
    /// Has every worker fall silent and everything that it said handed to the events' receiver. Nothing is started any
    /// more. There is no way back in this image.
    pub async fn fall_quiet(&self, until: Instant) {
        self.ask_all(until, |_, reply| Command::Quiet(reply)).await;
    }

    /// Waits until the events' receiver has worked off everything that was told so far. False: it has not by then.
    pub async fn fence(&self, until: Instant) -> bool {
        let (reached, passed) = oneshot::channel();
        let worker = WorkerId(String::new());
        let event = WorkerEvent { worker, epoch: 0, kind: WorkerEventKind::Fence(reached) };
        let worked_off = async {
            if self.home.events.send(event).await.is_ok() {
                let _gone = passed.await;
            }
        };
        timeout_at(until, worked_off).await.is_ok()
    }

    /// Ends every worker's task and gives what the next image needs; the processes run on, but for `unsettled` ones: what
    /// these do is not known to the next image, so they are told to end, and nothing is started beside them before.
    pub async fn freeze(&self, unsettled: &BTreeSet<WorkerId>, until: Instant) -> (CarriedWorkers, Kept) {
        self.home.reaper.hold();
        let (mut workers, mut kept) = (Vec::new(), Kept::default());
        let freeze = |worker: &WorkerId, reply| Command::Freeze { ends: unsettled.contains(worker), reply };
        for (worker, fds) in self.ask_all(until, freeze).await {
            workers.push(worker);
            kept.append(fds);
        }
        (CarriedWorkers { clock_ms: self.home.now_ms(), workers }, kept)
    }

    async fn ask_all<T>(
        &self,
        until: Instant,
        make: impl Fn(&WorkerId, oneshot::Sender<T>) -> Command,
    ) -> Vec<T> {
        let asked = self.registry.all().into_iter().filter_map(|(id, slot)| {
            let (reply, answer) = oneshot::channel();
            let command = make(&id, reply);
            self.command(&id, &slot, command).then_some((id, answer))
        });
        let answers = join_all(asked.map(async |(id, answer)| {
            match timeout_at(until, answer).await {
                Ok(Ok(answer)) => Some(answer),
                _ => {
                    tracing::error!(worker = %id, "its task does not answer; a worker that is not handed over ends");
                    None
                }
            }
        }));
        answers.await.into_iter().flatten().collect()
    }

    /// Ends workers of the image before that the configuration no longer has. Call after [`Workers::apply`].
    pub fn dismiss_unwanted(&self) {
        for Adopted { carried, .. } in self.home.waiting.take_all() {
            if let Some(process) = carried.process.filter(|process| process.exit.is_none()) {
                tracing::info!(worker = %carried.id, pid = process.pid, "no longer configured; ended");
                // Its link ends with this image's copy, which a worker takes for the end of its supervisor.
                if let Ok(signals) = Signals::of_child(process.pid) {
                    signals.send(Signal::Term);
                }
            }
        }
    }

    /// Running workers whose executable was replaced since they started.
    pub fn outdated(&self) -> BTreeSet<WorkerId> {
        self.status().into_iter().filter(|status| status.outdated).map(|status| status.id).collect()
    }
}

/// Registers the processes with the reaper before it looks for the first time, and takes up their descriptors.
pub(super) fn expect(
    reaper: &crate::worker::reaper::Reaper,
    workers: Vec<CarriedWorker>,
) -> std::io::Result<Vec<Adopted>> {
    let adopt = |carried: CarriedWorker| {
        let alive = carried.process.as_ref().filter(|process| process.exit.is_none());
        let exited = alive.map(|process| reaper.expect(process.pid));
        Ok(Adopted { exited, fds: Taken::all(carried.fds())?, carried })
    };
    workers.into_iter().map(adopt).collect()
}
