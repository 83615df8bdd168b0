//! The `isolation` section (how far workers must be confined) and the `isolation` block of an agent (what its commands may
//! reach), as written and as meant.
//!
//! Network is off for commands unless an agent has it: a model that reads untrusted text and can both read files and open
//! connections can carry anything out, and the refusal names the key. Not here: what follows for one worker (`worker::sandbox`).

use proto::wire::handshake::Isolation;
use proto::wire::isolation::Tier;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Memory of one command with everything that it starts: enough for a build of a middling project.
pub const MEMORY_MB_DEFAULT: u64 = 2048;
/// Processor time of each process of a command. Seconds.
pub const CPU_SECONDS_DEFAULT: u64 = 600;
/// Processes of one command: a parallel build needs some dozens.
pub const PROCESSES_DEFAULT: u64 = 256;

/// `isolation` as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IsolationFile {
    /// `require`: a worker that cannot be confined as far as `min` does not start. `bestEffort`: it starts with what the
    /// host gives, and `status --deep` shows it. `off`: resource limits only.
    pub mode: Option<Mode>,
    /// `T2`: files and system calls. `T3`: system calls only. `T0`: nothing.
    pub min: Option<MinTier>,
}

/// `isolation.mode` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    Require,
    BestEffort,
    Off,
}

/// A tier that can be asked for. Not T1: this gateway does not offer it, and no worker would ever start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum MinTier {
    T0,
    T2,
    T3,
}

/// `isolation` as meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Isolation,
    pub min: Tier,
}

/// `agents.list[].isolation` over `agents.defaults.isolation`, as meant. Paths as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Both lists together.
    pub read_only: Vec<String>,
    pub read_write: Vec<String>,
    /// Names of variables that commands get besides the usual ones; both lists together.
    pub env: Vec<String>,
    pub network: bool,
    pub memory_mb: u64,
    pub cpu_seconds: u64,
    pub processes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AgentFile {
    read_only: Vec<String>,
    read_write: Vec<String>,
    env: Vec<String>,
    network: Option<bool>,
    memory_mb: Option<u64>,
    cpu: Option<u64>,
    processes: Option<u64>,
}

fn read<T: serde::de::DeserializeOwned + Default>(value: Option<&Value>) -> T {
    value.and_then(|value| serde_json::from_value(value.clone()).ok()).unwrap_or_default()
}

impl Settings {
    /// Of a validated configuration.
    #[must_use]
    pub fn of(config: &Value) -> Self {
        let file: IsolationFile = read(config.get("isolation"));
        let min = match file.min {
            Some(MinTier::T0) => Tier::T0,
            Some(MinTier::T3) => Tier::T3,
            Some(MinTier::T2) | None => Tier::T2,
        };
        let mode = match file.mode {
            Some(Mode::Require) | None => Isolation::Require,
            Some(Mode::BestEffort) => Isolation::BestEffort,
            Some(Mode::Off) => Isolation::Off,
        };
        Self { mode, min }
    }
}

impl AgentSettings {
    /// `own`: the agent's entry.
    #[must_use]
    pub fn of(config: &Value, own: Option<&Value>) -> Self {
        let defaults: AgentFile = read(config.pointer("/agents/defaults/isolation"));
        let own: AgentFile = read(own.and_then(|own| own.get("isolation")));
        let both = |mut first: Vec<String>, second: Vec<String>| {
            first.extend(second);
            first
        };
        let positive = |own: Option<u64>, default: Option<u64>, built_in: u64| {
            own.or(default).filter(|value| *value > 0).unwrap_or(built_in)
        };
        Self {
            read_only: both(defaults.read_only, own.read_only),
            read_write: both(defaults.read_write, own.read_write),
            env: both(defaults.env, own.env),
            network: own.network.or(defaults.network).unwrap_or(false),
            memory_mb: positive(own.memory_mb, defaults.memory_mb, MEMORY_MB_DEFAULT),
            cpu_seconds: positive(own.cpu, defaults.cpu, CPU_SECONDS_DEFAULT),
            processes: positive(own.processes, defaults.processes, PROCESSES_DEFAULT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn strict_unless_told_otherwise() {
        assert_eq!(Settings::of(&json!({})), Settings { mode: Isolation::Require, min: Tier::T2 });
        let loose = json!({"isolation": {"mode": "bestEffort", "min": "T3"}});
        assert_eq!(Settings::of(&loose), Settings { mode: Isolation::BestEffort, min: Tier::T3 });
    }

    #[test]
    fn an_agents_own_block_stands_before_the_defaults_and_paths_add_up() {
        let config = json!({"agents": {"defaults": {"isolation": {
            "readOnly": ["~/repos"], "memoryMb": 512, "network": true
        }}}});
        let own = json!({"isolation": {"readOnly": ["/data"], "network": false, "cpu": 5}});
        let settings = AgentSettings::of(&config, Some(&own));
        assert_eq!(settings.read_only, ["~/repos", "/data"]);
        assert_eq!((settings.network, settings.memory_mb, settings.cpu_seconds), (false, 512, 5));
        assert_eq!(settings.processes, PROCESSES_DEFAULT);
    }
}
