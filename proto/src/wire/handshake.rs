//! The first frames of a link: `Bootstrap` before anything else, then `Hello`, `Welcome` or `Reject`, `Ready`.

use super::isolation::{Policy, Tier};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerKind {
    Agent,
    Channel,
}

/// `agent:<agent id>` or `channel:<channel>:<account>`; unique in one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub String);

impl WorkerId {
    pub fn agent(agent_id: &str) -> Self {
        Self(format!("agent:{agent_id}"))
    }
    pub fn channel(channel: &str, account: &str) -> Self {
        Self(format!("channel:{channel}:{account}"))
    }
    pub fn kind(&self) -> WorkerKind {
        if self.0.starts_with("channel:") { WorkerKind::Channel } else { WorkerKind::Agent }
    }
    /// The agent id of an agent worker.
    pub fn agent_id(&self) -> Option<&str> {
        self.0.strip_prefix("agent:")
    }
    /// Channel and account of a channel worker.
    pub fn account(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("channel:")?.split_once(':')
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a worker confines itself before it starts threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    Require,
    #[default]
    BestEffort,
    Off,
}

/// Written by the supervisor before the worker reads anything else; holds no secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub worker_id: WorkerId,
    pub kind: WorkerKind,
    /// Fencing term: one per start of a worker, never reused.
    pub epoch: u64,
    pub proto_min: u16,
    pub proto_max: u16,
    #[serde(default)]
    pub isolation: Isolation,
    /// What the worker may reach. `None` (tests of a worker alone): no rules for files and ports.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// One per start of the supervisor.
    pub boot_id: super::Id,
    /// Failpoints of a test build, in the syntax of the `fail` crate; empty otherwise.
    #[serde(default)]
    pub failpoints: String,
    /// Proxies by the variable that names them (`HTTPS_PROXY`, `no_proxy`): here and not in the environment, since an
    /// address may carry a password.
    #[serde(default, skip_serializing_if = "SecretMap::is_empty")]
    pub proxies: SecretMap,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub proto_min: u16,
    pub proto_max: u16,
    pub build: String,
    pub worker_id: WorkerId,
    pub epoch: u64,
    pub pid: u32,
    #[serde(default)]
    pub caps: u64,
    /// What the worker says of its own confinement; the supervisor checks /proc as well.
    #[serde(default)]
    pub sandbox: SandboxReport,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SandboxReport {
    #[serde(default)]
    pub no_new_privs: bool,
    #[serde(default)]
    pub dumpable: bool,
    #[serde(default)]
    pub landlock_abi: u32,
    #[serde(default)]
    pub seccomp: bool,
    /// What all of it comes to.
    #[serde(default)]
    pub tier: Tier,
    /// The canaries of the policy were tried and none opened; `None`: there was none to try.
    #[serde(default)]
    pub canary_refused: Option<bool>,
    /// Rules that this kernel cannot keep, in words.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// Secrets for one worker, by name (`provider:openrouter`, `botToken`). Never printed.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretMap(pub BTreeMap<String, String>);

impl SecretMap {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for SecretMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The supervisor accepts: negotiated version, limits, configuration and the secrets that this worker needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    pub proto: u16,
    #[serde(default)]
    pub caps: u64,
    #[serde(default)]
    pub limits: LinkLimitsWire,
    pub config: WorkerConfig,
    pub secrets: SecretMap,
    /// Channel workers: what the journal remembers of the network's position, by scope (Telegram: `updates` →
    /// `<bot id>:<first update id that is not stored>`; without the bot's id it is taken for the current bot's).
    #[serde(default)]
    pub cursors: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLimitsWire {
    pub frame_bytes_max: u32,
    pub window_bytes: u32,
    pub ping_ms: u32,
}

impl Default for LinkLimitsWire {
    fn default() -> Self {
        Self {
            frame_bytes_max: super::limits::FRAME_BYTES_MAX as u32,
            window_bytes: super::limits::LINK_WINDOW_BYTES as u32,
            ping_ms: super::limits::PING_MS as u32,
        }
    }
}

/// What a worker needs to know. `config_json` is the resolved configuration cut down to the sections of its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerConfig {
    pub config_json: String,
    pub paths: WorkerPaths,
    /// Scrubbed environment that tool children may see; made by [`super::tool_env::choose`].
    #[serde(default)]
    pub tool_env: BTreeMap<String, String>,
    /// Release of the gateway, as `--version` prints it.
    pub version: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerPaths {
    pub state_dir: String,
    /// Agent: its workspace. Channel: empty.
    #[serde(default)]
    pub workspace: String,
    pub config_path: String,
    pub home: String,
}

/// [`Reject::code`]: the process is less confined than it must be. Only its configuration, or the host's, changes that.
pub const REJECT_ISOLATION: &str = "ISOLATION";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    pub code: String,
    pub reason: String,
}

/// The worker can take work (agent: transcripts reachable; channel: logged in and receiving).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    #[serde(default)]
    pub detail: String,
}

wire_enum! {
    /// Supervisor → any worker, before the link is up.
    pub enum SupHandshake {
        0x0001 Control Bootstrap(Bootstrap),
        0x0002 Control Welcome(Welcome),
        0x0003 Control Reject(Reject),
    }
}

wire_enum! {
    /// Any worker → supervisor, before the link is up.
    pub enum WorkerHandshake {
        0x0011 Control Hello(Hello),
        0x0012 Control Ready(Ready),
    }
}
