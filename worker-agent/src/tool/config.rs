//! The `tools` section of the configuration: as written ([`ToolsConfig`], strict, everything optional) and as meant
//! ([`ToolSettings`], no option that means "default").
//!
//! Blast radius: a change of any key here replaces the agent's worker (`worker-agent`), between two runs.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalog::Profile;

/// `tools.exec.timeoutSec` when not set: half an hour covers a build, and nothing is forgotten for longer.
pub const EXEC_TIMEOUT_SECS: u64 = 1800;
/// `tools.exec.backgroundMs` when not set: after that long a command goes to the background and the model may go on.
pub const EXEC_YIELD_MS: u64 = 10_000;
/// Bounds of `tools.exec.backgroundMs` and of a call's `yieldMs`: below, every command would yield; above, a turn would hang.
pub const EXEC_YIELD_MS_RANGE: (u64, u64) = (10, 120_000);
/// `tools.exec.cleanupMs` when not set: how long a finished background session can still be read.
pub const EXEC_CLEANUP_MS: u64 = 30 * 60_000;
/// Bounds of `tools.exec.cleanupMs`.
pub const EXEC_CLEANUP_MS_RANGE: (u64, u64) = (60_000, 3 * 3_600_000);

/// Lists that allow and deny tools, as they appear at several places of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolLists {
    /// Start from this profile instead of the wider one.
    pub profile: Option<Profile>,
    /// Only these (names, `*` globs, `group:<section>`); empty: all.
    pub allow: Option<Vec<String>>,
    /// These too, on top of the profile or of `allow`.
    pub also_allow: Option<Vec<String>>,
    /// Never these; wins over every `allow`.
    pub deny: Option<Vec<String>>,
}

/// The `tools` section as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-class" = "worker-agent"))]
pub struct ToolsConfig {
    pub profile: Option<Profile>,
    pub allow: Option<Vec<String>>,
    pub also_allow: Option<Vec<String>>,
    pub deny: Option<Vec<String>>,
    /// Further lists for runs with a provider (`openai`) or one model (`openai/gpt-5`).
    pub by_provider: Option<BTreeMap<String, ToolLists>>,
    pub exec: Option<ExecConfig>,
    pub fs: Option<FsConfig>,
}

/// `tools.exec` as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-class" = "worker-agent"))]
pub struct ExecConfig {
    pub host: Option<ExecHost>,
    pub security: Option<ExecSecurity>,
    pub ask: Option<ExecAsk>,
    /// Directories put before PATH for every command.
    pub path_prepend: Option<Vec<String>>,
    /// After this many milliseconds a command goes to the background (10 to 120000).
    pub background_ms: Option<u64>,
    /// A command is killed after this many seconds.
    pub timeout_sec: Option<u64>,
    /// How many milliseconds a finished background session stays readable (1 min to 3 h).
    pub cleanup_ms: Option<u64>,
    /// Tell the session when a background command ends.
    pub notify_on_exit: Option<bool>,
    /// Tell it also when the command succeeded without output.
    pub notify_on_exit_empty_success: Option<bool>,
    pub apply_patch: Option<ApplyPatchConfig>,
}

/// Where commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecHost {
    Sandbox,
    Gateway,
    Node,
}

/// How far commands are trusted; ordered from strict to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExecSecurity {
    Deny,
    Allowlist,
    Full,
}

/// When a person is asked before a command runs; ordered from never to always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecAsk {
    Off,
    OnMiss,
    Always,
}

/// `tools.exec.applyPatch` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplyPatchConfig {
    /// Offer `apply_patch` to models that were trained on it.
    pub enabled: Option<bool>,
    /// Refuse paths outside of the workspace (true when not set).
    pub workspace_only: Option<bool>,
    /// Only for these models (`gpt-5` or `openai/gpt-5`); empty: all of the provider.
    pub allow_models: Option<Vec<String>>,
}

/// `tools.fs` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FsConfig {
    /// Refuse paths outside of the workspace for every file tool (false when not set).
    pub workspace_only: Option<bool>,
}

/// The `tools` block of one agent (`agents.list[].tools`), as far as it is built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-class" = "worker-agent"))]
pub struct AgentToolsConfig {
    pub profile: Option<Profile>,
    pub allow: Option<Vec<String>>,
    pub also_allow: Option<Vec<String>>,
    pub deny: Option<Vec<String>>,
    pub by_provider: Option<BTreeMap<String, ToolLists>>,
    pub exec: Option<ExecConfig>,
    pub fs: Option<FsConfig>,
}

/// `tools.exec` as meant.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecSettings {
    /// None: nothing was configured, and commands run on this host.
    pub host: Option<ExecHost>,
    pub security: Option<ExecSecurity>,
    pub ask: Option<ExecAsk>,
    pub path_prepend: Vec<PathBuf>,
    pub yield_ms: u64,
    pub timeout_secs: u64,
    pub cleanup_ms: u64,
    pub notify_on_exit: bool,
    pub notify_on_exit_empty_success: bool,
}

/// Everything the tools need to know of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSettings {
    pub exec: ExecSettings,
    pub apply_patch: ApplyPatchSettings,
    /// `tools.fs.workspaceOnly`.
    pub workspace_only: bool,
    /// `agents.defaults.imageMaxDimensionPx` is the owner's; larger images are described, not sent.
    pub image_bytes_max: u64,
}

/// `tools.exec.applyPatch` as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyPatchSettings {
    pub enabled: bool,
    pub workspace_only: bool,
    pub allow_models: Vec<String>,
}

/// A larger image costs more than it shows, and providers refuse it (5 MB is the smallest of their limits).
pub const IMAGE_BYTES_MAX: u64 = 5 * 1024 * 1024;

impl ToolSettings {
    /// The settings of one agent: its own `exec` and `fs` keys stand before the global ones, key by key.
    pub fn resolve(global: &ToolsConfig, agent: &AgentToolsConfig) -> Self {
        let empty = ExecConfig::default();
        let global_exec = global.exec.as_ref().unwrap_or(&empty);
        let agent_exec = agent.exec.as_ref().unwrap_or(&empty);
        let clamp = |value: u64, (low, high): (u64, u64)| value.clamp(low, high);
        let exec = ExecSettings {
            host: agent_exec.host.or(global_exec.host),
            security: agent_exec.security.or(global_exec.security),
            ask: agent_exec.ask.or(global_exec.ask),
            path_prepend: (agent_exec.path_prepend.as_ref().or(global_exec.path_prepend.as_ref()))
                .map(|dirs| dirs.iter().map(PathBuf::from).collect())
                .unwrap_or_default(),
            yield_ms: clamp(
                agent_exec.background_ms.or(global_exec.background_ms).unwrap_or(EXEC_YIELD_MS),
                EXEC_YIELD_MS_RANGE,
            ),
            timeout_secs: agent_exec
                .timeout_sec
                .or(global_exec.timeout_sec)
                .filter(|secs| *secs > 0)
                .unwrap_or(EXEC_TIMEOUT_SECS),
            cleanup_ms: clamp(
                agent_exec.cleanup_ms.or(global_exec.cleanup_ms).unwrap_or(EXEC_CLEANUP_MS),
                EXEC_CLEANUP_MS_RANGE,
            ),
            notify_on_exit: agent_exec.notify_on_exit.or(global_exec.notify_on_exit).unwrap_or(true),
            notify_on_exit_empty_success: agent_exec
                .notify_on_exit_empty_success
                .or(global_exec.notify_on_exit_empty_success)
                .unwrap_or(false),
        };
        let patch = agent_exec.apply_patch.clone().or(global_exec.apply_patch.clone()).unwrap_or_default();
        let fs_key = |fs: &Option<FsConfig>| fs.as_ref().and_then(|fs| fs.workspace_only);
        Self {
            exec,
            apply_patch: ApplyPatchSettings {
                enabled: patch.enabled.unwrap_or(false),
                workspace_only: patch.workspace_only.unwrap_or(true),
                allow_models: patch.allow_models.unwrap_or_default(),
            },
            workspace_only: fs_key(&agent.fs).or(fs_key(&global.fs)).unwrap_or(false),
            image_bytes_max: IMAGE_BYTES_MAX,
        }
    }
}

impl Default for ToolSettings {
    fn default() -> Self {
        Self::resolve(&ToolsConfig::default(), &AgentToolsConfig::default())
    }
}

/// Keeps of a `tools` value only the keys that the structs above know, so that keys of the original that are accepted
/// but not built yet do not stop a strict read. What was dropped is returned as dotted paths (for `doctor`).
pub fn keep_built_keys(tools: &Value) -> (Value, Vec<String>) {
    const TOP: [&str; 7] = ["profile", "allow", "alsoAllow", "deny", "byProvider", "exec", "fs"];
    const EXEC: [&str; 10] = [
        "host",
        "security",
        "ask",
        "pathPrepend",
        "backgroundMs",
        "timeoutSec",
        "cleanupMs",
        "notifyOnExit",
        "notifyOnExitEmptySuccess",
        "applyPatch",
    ];
    let mut dropped = Vec::new();
    let mut keep = |value: &Value, known: &[&str], prefix: &str| -> Value {
        let Value::Object(map) = value else { return value.clone() };
        let (kept, lost): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
            map.clone().into_iter().partition(|(key, _)| known.contains(&key.as_str()));
        dropped.extend(lost.keys().map(|key| format!("{prefix}{key}")));
        Value::Object(kept)
    };
    let mut kept = keep(tools, &TOP, "tools.");
    if let Some(exec) = tools.get("exec") {
        let exec = keep(exec, &EXEC, "tools.exec.");
        if let Some(map) = kept.as_object_mut() {
            map.insert("exec".to_owned(), exec);
        }
    }
    (kept, dropped)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn agent_keys_stand_before_global_ones() {
        let global: ToolsConfig = serde_json::from_value(
            json!({"exec": {"timeoutSec": 60, "backgroundMs": 1}, "fs": {"workspaceOnly": true}}),
        )
        .unwrap();
        let agent: AgentToolsConfig = serde_json::from_value(json!({"exec": {"timeoutSec": 5}})).unwrap();
        let settings = ToolSettings::resolve(&global, &agent);
        assert_eq!(settings.exec.timeout_secs, 5);
        assert_eq!(settings.exec.yield_ms, 10, "clamped to its lower bound");
        assert!(settings.workspace_only);
        assert!(settings.apply_patch.workspace_only);
    }

    #[test]
    fn unknown_keys_are_refused_and_known_ones_of_later_parts_dropped() {
        let written =
            json!({"profile": "coding", "web": {"search": {}}, "exec": {"node": "n1", "ask": "off"}});
        assert!(serde_json::from_value::<ToolsConfig>(written.clone()).is_err());
        let (kept, dropped) = keep_built_keys(&written);
        let config: ToolsConfig = serde_json::from_value(kept).unwrap();
        assert_eq!(config.profile, Some(Profile::Coding));
        assert_eq!(dropped, ["tools.web", "tools.exec.node"]);
    }
}
