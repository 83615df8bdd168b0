//! What an attacker inside the gateway knows, and what it reports. Shared by the attacking program (`src/bin/probe`) and the tests
//! that place it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything an attacker could find out about its surroundings; given to it, so that no probe fails for lack of knowledge.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The attacking agent's workspace: the one place that is its own.
    pub workspace: PathBuf,
    /// The gateway's state directory, its home and the directory of its executables.
    pub state: PathBuf,
    pub home: PathBuf,
    pub bin: PathBuf,
    /// Files with secrets, by the name that probes use.
    pub files: BTreeMap<String, PathBuf>,
    pub supervisor: i32,
    /// The worker of the other agent.
    pub other_worker: i32,
    /// The worker of the Telegram account.
    pub channel_worker: i32,
    /// The worker that the attacker's commands come from; 0 when the attacker is that worker.
    pub own_worker: i32,
    pub gateway_port: u16,
    /// A listener and a UDP socket of the test on the loopback interface.
    pub tcp_port: u16,
    pub udp_port: u16,
    /// The gateway's control socket.
    pub control_socket: PathBuf,
    /// A listening socket of the test, in the place of a host's daemon (a container engine, a service manager).
    pub daemon_socket: PathBuf,
    /// The same without a file.
    pub abstract_socket: String,
    /// Values that may stand in no environment.
    pub secrets: Vec<String>,
    /// The id of the worker that a probe takes the place of; empty for the probes of tools.
    pub attacker: String,
}

impl Plan {
    /// A planted file; an unknown name is a mistake in the probe and shows as one.
    pub fn file(&self, name: &str) -> &Path {
        self.files.get(name).map_or(Path::new("/no-such-planted-file"), PathBuf::as_path)
    }
}

/// Who a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attacker {
    /// A command of the agent's `exec` tool.
    Tool,
    /// An agent worker that runs the attacker's code.
    Agent,
    /// A channel worker that does.
    Channel,
}

/// What became of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "got", content = "how", rename_all = "lowercase")]
pub enum Outcome {
    /// As it must be: the error.
    Refused(String),
    /// A hole: the evidence.
    Succeeded(String),
    /// What the probe attacks does not exist on this machine.
    Absent(String),
}

/// One line of a probe's output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// A line of `probe list <attacker>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub tries: String,
}

/// In front of every line that a probe prints, since other things may print to the same place.
pub const MARK: &str = "PROBE ";

/// The reports in a text, in their order. A log writes more behind each.
pub fn reports(text: &str) -> Vec<Report> {
    let lines = text.lines().filter_map(|line| line.split_once(MARK));
    let report = |json: &str| serde_json::Deserializer::from_str(json).into_iter().next()?.ok();
    lines.filter_map(|(_, json)| report(json)).collect()
}
