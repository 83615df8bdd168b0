//! A running worker on its way from one program image to the next.

use super::{Running, Since, oom_kills, provision};
use crate::upgrade::fds::{Kept, Taken};
use crate::worker::carry::{CarriedOutput, CarriedProcess, CarriedSocket};
use crate::worker::cgroup::Groups;
use crate::worker::output::{Follower, Ring};
use crate::worker::process::Signals;
use crate::worker::reaper::Exit;
use crate::worker::spec::WorkerSpec;
use proto::runtime::link::{self, CloseReason, LinkEvents, LinkHandle, LinkLimits};
use proto::runtime::telemetry;
use proto::wire::handshake::WorkerKind;
use proto::wire::state::Side;
use std::io;
use std::time::Instant;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

impl Running {
    /// Takes the process over into data. It goes on; nothing of it is read or written any more.
    pub(in crate::worker::driver) async fn freeze(mut self, kept: &mut Kept) -> CarriedProcess {
        // First: dropping the events would close the link.
        let frozen = self.link.freeze().await;
        let mut outputs = Vec::new();
        for follower in self.outputs.iter_mut().filter_map(Option::take) {
            if let Some((stream, line)) = follower.freeze().await
                && let Ok(fd) = stream.into_nonblocking_fd()
            {
                outputs.push(CarriedOutput { fd: kept.keep(fd), line });
            }
        }
        CarriedProcess {
            pid: self.pid,
            epoch: self.epoch,
            greeted: self.greeted,
            ready: self.ready,
            started_ms: self.since.wall_ms,
            exit: self.exit.or_else(|| self.exit_told.try_recv().ok()),
            link: frozen.map(|link| CarriedSocket { fd: kept.keep(link.socket), state: link.state }),
            outputs,
            binary: self.binary,
        }
    }

    /// Goes on with a process that another image started. `exit_told` is registered with the reaper already.
    ///
    /// # Errors
    /// Its descriptors are not there: the process cannot be spoken to.
    pub(in crate::worker::driver) async fn adopt(
        spec: &WorkerSpec,
        carried: CarriedProcess,
        mut fds: Taken,
        exit_told: oneshot::Receiver<Exit>,
        (ring, groups): (&Ring, &Groups),
    ) -> io::Result<Self> {
        let group = groups.find(&spec.id, carried.epoch);
        let provision = provision(spec).await;
        if let Ok(provision) = &provision {
            telemetry::hide(provision.secrets.0.values().map(String::as_str));
        }
        let mut outputs = [None, None];
        for (place, output) in outputs.iter_mut().zip(carried.outputs) {
            let stream = pipe::Receiver::from_owned_fd(fds.give(output.fd)?)?;
            *place = Some(Follower::start(spec.id.clone(), stream, ring.clone(), output.line));
        }
        let (link, events) = thaw(spec.id.kind(), carried.link, &mut fds)?;
        let oom = oom_kills();
        Ok(Self {
            epoch: carried.epoch,
            pid: carried.pid,
            link,
            signals: Signals::of_child(carried.pid)?,
            closed: events.is_none().then_some(CloseReason::PeerGone { unfinished_bytes: 0 }),
            events,
            exit: carried.exit,
            exit_at: carried.exit.map(|_| Instant::now()),
            before_kill: None,
            greeted: carried.greeted,
            ready: carried.ready,
            work_at: Instant::now(),
            exit_told,
            // A worker that was greeted has its secrets; another gets them with its greeting.
            provision: provision.ok().filter(|_| !carried.greeted),
            since: Since { wall_ms: carried.started_ms, oom: (oom, oom) },
            outputs,
            binary: carried.binary,
            group,
        })
    }

    /// Another release of its executable was installed since it started.
    pub(in crate::worker::driver) fn is_outdated(&self, spec: &WorkerSpec) -> bool {
        self.binary != spec.binary.id()
    }
}

fn thaw(
    kind: WorkerKind,
    carried: Option<CarriedSocket>,
    fds: &mut Taken,
) -> io::Result<(LinkHandle, Option<LinkEvents>)> {
    let limits = LinkLimits::supervisor(kind);
    let Some(CarriedSocket { fd, state }) = carried else {
        // It had ended before: a closed pair stands in its place until the process is reaped.
        let (ours, _closed) = tokio::net::UnixStream::pair()?;
        let (handle, _events) = link::spawn(ours, Side::Supervisor, limits);
        return Ok((handle, None));
    };
    let (handle, events) = link::thaw(fds.give(fd)?, Side::Supervisor, limits, state)?;
    Ok((handle, Some(events)))
}
