//! Workers that go on while the supervisor's program image is replaced: what is known of each, as plain data.
//!
//! They stay children of this process, their links stay open and they run on; nobody reads or writes in between. Fields
//! are only ever added: the release before and the release after read this too.

use super::lifecycle::Lifecycle;
use super::process::BinaryId;
use super::reaper::Exit;
use super::registry::LastCrash;
use super::sandbox::Sandbox;
use super::suspects::CarriedSuspects;
use proto::runtime::link::CarriedLink;
use proto::wire::handshake::WorkerId;
use serde::{Deserialize, Serialize};

/// All workers of one gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedWorkers {
    /// Milliseconds since the workers' clock began; the times of each life are on it.
    pub clock_ms: u64,
    pub workers: Vec<CarriedWorker>,
}

/// One worker, running or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedWorker {
    pub id: WorkerId,
    pub life: Lifecycle,
    /// Until the lifecycle's next deadline.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Of the present or the last start.
    pub epoch: u64,
    /// Of the configuration that it has.
    pub fingerprint: u64,
    #[serde(default)]
    pub why: Option<String>,
    /// Unix milliseconds of the last change of its state.
    #[serde(default)]
    pub since_ms: i64,
    #[serde(default)]
    pub last_crash: Option<LastCrash>,
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
    /// Its last lines, for a crash report.
    #[serde(default)]
    pub log: Vec<String>,
    /// Input of the network that may be what kills it.
    #[serde(default)]
    pub suspects: CarriedSuspects,
    #[serde(default)]
    pub process: Option<CarriedProcess>,
}

/// The process of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedProcess {
    pub pid: u32,
    pub epoch: u64,
    pub greeted: bool,
    #[serde(default)]
    pub ready: String,
    /// Unix milliseconds.
    pub started_ms: i64,
    /// The end that was seen and not yet worked off.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// `None`: the link had ended before.
    #[serde(default)]
    pub link: Option<CarriedSocket>,
    /// Standard output and standard error, as far as they are open.
    #[serde(default)]
    pub outputs: Vec<CarriedOutput>,
    #[serde(default)]
    pub binary: BinaryId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedSocket {
    /// Number of the descriptor.
    pub fd: i32,
    pub state: CarriedLink,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedOutput {
    /// Number of the descriptor.
    pub fd: i32,
    /// Start of a line without its end.
    #[serde(default, with = "serde_bytes")]
    pub line: Vec<u8>,
}

impl CarriedWorkers {
    /// Workers that have a process, with its start.
    pub fn living(&self) -> Vec<(WorkerId, u64)> {
        let start = |carried: &CarriedWorker| Some((carried.id.clone(), carried.process.as_ref()?.epoch));
        self.workers.iter().filter_map(start).collect()
    }

    /// Start of the process of a worker that goes on.
    pub fn epoch_of(&self, worker: &WorkerId) -> Option<u64> {
        let found = self.workers.iter().find(|carried| carried.id == *worker)?;
        found.process.as_ref().map(|process| process.epoch)
    }
}

impl CarriedWorker {
    /// It took work when it was frozen.
    pub fn is_up(&self) -> bool {
        self.process.is_some() && self.life.state().is_up()
    }

    /// Numbers of its descriptors.
    pub fn fds(&self) -> Vec<i32> {
        let Some(process) = &self.process else { return Vec::new() };
        let link = process.link.iter().map(|link| link.fd);
        link.chain(process.outputs.iter().map(|output| output.fd)).collect()
    }
}
