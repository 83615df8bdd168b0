//! U7: this image takes up what the one before left. Nothing here reads or writes a link or a client's socket before all
//! that can fail is done.

use super::state::State;
use super::{fds, image};
use crate::front::carry::CarriedFront;
use crate::gateway::restart::LastRestart;
use crate::journal::CarriedOver;
use crate::lock::{Held, HostLock};
use crate::scheduler::shared::now_ms;
use crate::worker::WorkerSpec;
use proto::wire::handshake::{WorkerId, WorkerKind};
use std::collections::HashSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

impl State {
    /// How the replacement went, of which this state is the trace; `None` at an ordinary start.
    pub fn outcome(&self) -> Option<LastRestart> {
        let why = image::rolled_back();
        (self.upgrades > 0).then(|| LastRestart {
            at_ms: now_ms(),
            ok: why.is_none(),
            reason: self.reason.clone(),
            from_build: self.from_build.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            why,
        })
    }

    /// The public listeners, still bound.
    ///
    /// # Errors
    /// A descriptor is not there.
    pub fn take_listeners(&self) -> io::Result<Vec<TcpListener>> {
        self.listeners.iter().map(|number| fds::take(*number).map(TcpListener::from)).collect()
    }

    /// # Errors
    /// The descriptor is not there.
    pub fn take_control(&self) -> io::Result<Option<UnixListener>> {
        self.control.map(|number| fds::take(number).map(UnixListener::from)).transpose()
    }

    /// Clients and their sockets.
    ///
    /// # Errors
    /// A descriptor is not there.
    pub fn take_front(&mut self) -> io::Result<(Vec<OwnedFd>, CarriedFront)> {
        let sockets = self.front_fds.iter().map(|number| fds::take(*number)).collect::<io::Result<_>>()?;
        Ok((sockets, std::mem::take(&mut self.front)))
    }

    /// # Errors
    /// A descriptor is not there.
    pub fn take_instance_lock(&self) -> io::Result<Held> {
        Held::adopt(&self.locks.instance)
    }

    /// # Errors
    /// A descriptor is not there.
    pub fn take_host_lock(&self) -> io::Result<Option<HostLock>> {
        self.locks.host.as_ref().map(HostLock::adopt).transpose()
    }

    /// The lock of one workspace, if the image before had it.
    ///
    /// # Errors
    /// The descriptor is not there.
    pub fn take_workspace_lock(&self, path: &Path) -> io::Result<Option<Held>> {
        self.locks.workspaces.iter().find(|lock| lock.path == path).map(Held::adopt).transpose()
    }

    /// Leaves out runs and deliveries whose worker does not go on, and says what does.
    pub fn keep_only(&mut self, specs: &[WorkerSpec]) -> CarriedOver {
        let wanted: HashSet<&WorkerId> = specs.iter().map(|spec| &spec.id).collect();
        let workers = &self.workers;
        let goes_on = |worker: &WorkerId, epoch: Option<u64>| {
            wanted.contains(worker) && (epoch.is_none() || workers.epoch_of(worker) == epoch)
        };
        self.runs.retain(|run| goes_on(&WorkerId::agent(&run.agent_id), run.epoch));
        self.accounts.retain(|account| goes_on(&crate::delivery::worker_of(&account.account), account.epoch));
        let unknown = |worker: &WorkerId| {
            !self.accounts.iter().any(|account| crate::delivery::worker_of(&account.account) == *worker)
        };
        self.unsettled = self
            .workers
            .workers
            .iter()
            .filter(|worker| worker.id.kind() == WorkerKind::Channel && worker.is_up() && unknown(&worker.id))
            .map(|worker| worker.id.clone())
            .collect();
        CarriedOver {
            runs: self.runs.iter().map(|run| run.run_id).collect(),
            accounts: self.accounts.iter().map(|account| account.account.clone()).collect(),
        }
    }
}
