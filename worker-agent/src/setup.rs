//! What this agent is configured to be, as meant: made once from the supervisor's configuration and again after each
//! change. A run keeps the one it began with. The strict reading of the same sections is `config`'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use proto::wire::handshake::{SecretMap, WorkerConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::prompt::bootstrap::Caps;
use crate::prompt::skills::SkillSettings;
use crate::provider::models::Models;
use crate::session::compaction;
use crate::session::reset::ResetSettings;
use crate::tool::config::{AgentToolsConfig, ToolSettings, ToolsConfig, keep_built_keys};

/// See the module head.
pub struct Setup {
    pub agent_id: String,
    pub version: String,
    pub paths: Paths,
    pub config: Value,
    pub models: Models,
    pub tools: ToolsConfig,
    pub agent_tools: AgentToolsConfig,
    pub tool_settings: Arc<ToolSettings>,
    /// The whole environment of a tool's process.
    pub tool_env: Arc<BTreeMap<String, String>>,
    pub agent: AgentSettings,
    pub reset: ResetSettings,
    pub skills: SkillSettings,
    pub zone: TimeZone,
}

/// Folders of this agent; all absolute.
#[derive(Clone, Debug)]
pub struct Paths {
    pub state: PathBuf,
    pub workspace: PathBuf,
    pub home: PathBuf,
    pub sessions: PathBuf,
    pub agent: PathBuf,
}

/// What `agents` says of this agent outside of models and tools: its own block before the defaults.
#[derive(Clone, Debug, Default)]
pub struct AgentSettings {
    pub name: Option<String>,
    pub identity: Identity,
    pub caps: Option<Caps>,
    pub thinking_default: Option<String>,
    pub verbose_default: Option<String>,
    pub repo_root: Option<String>,
    pub time_zone: Option<String>,
    pub heartbeat_prompt: Option<String>,
    /// Names of the skills that this agent may see; None: all.
    pub skills: Option<Vec<String>>,
    /// Alias and reference.
    pub aliases: Vec<(String, String)>,
    pub owners: Vec<String>,
    pub context_tokens: Option<u64>,
    pub compaction: compaction::Settings,
}

/// `identity` of an agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Identity {
    pub name: Option<String>,
    pub theme: Option<String>,
    pub emoji: Option<String>,
    pub avatar: Option<String>,
}

impl Setup {
    /// `config_json` that is not JSON counts as empty: the supervisor has validated it before.
    pub fn new(agent_id: &str, worker: &WorkerConfig, secrets: &SecretMap) -> Self {
        let config: Value = serde_json::from_str(&worker.config_json).unwrap_or_default();
        let state = PathBuf::from(&worker.paths.state_dir);
        let paths = Paths {
            workspace: PathBuf::from(&worker.paths.workspace),
            home: PathBuf::from(&worker.paths.home),
            sessions: state.join("agents").join(agent_id).join("sessions"),
            agent: state.join("agents").join(agent_id).join("agent"),
            state,
        };
        let own = own_block(&config, agent_id);
        let tools: ToolsConfig = built(config.get("tools"), "tools");
        let agent_tools: AgentToolsConfig = built(own.get("tools"), "agents.list[].tools");
        let agent = AgentSettings::read(&config, &own);
        let main = paths.state.join("agents").join("main").join("agent");
        let models = Models::open(
            agent_id,
            &config,
            secrets.0.clone(),
            &paths.agent,
            (agent_id != "main").then_some(main.as_path()),
        );
        let zone = agent
            .time_zone
            .as_deref()
            .and_then(|name| TimeZone::get(name).ok())
            .unwrap_or_else(TimeZone::system);
        Self {
            agent_id: agent_id.to_owned(),
            version: worker.version.clone(),
            models,
            tool_settings: Arc::new(ToolSettings::resolve(&tools, &agent_tools)),
            tools,
            agent_tools,
            tool_env: Arc::new(worker.tool_env.clone()),
            agent,
            reset: lenient(config.get("session")),
            skills: lenient(config.get("skills")),
            zone,
            paths,
            config,
        }
    }

    /// `display` of a path in the workspace.
    pub fn workspace_text(&self) -> String {
        self.paths.workspace.display().to_string()
    }

    /// IANA name of the zone, if it has one.
    pub fn zone_name(&self) -> Option<&str> {
        self.zone.iana_name()
    }

    /// Directories in which programs of skills are looked for.
    pub fn path_dirs(&self) -> Vec<PathBuf> {
        self.tool_env.get("PATH").map(|path| path.split(':').map(PathBuf::from).collect()).unwrap_or_default()
    }

    /// `agents.defaults.skipBootstrap`: the workspace gets no starting files.
    pub fn skips_seeding(&self) -> bool {
        self.config.pointer("/agents/defaults/skipBootstrap").and_then(Value::as_bool).unwrap_or(false)
    }

    /// What the user calls this agent: configured, else from `IDENTITY.md`. Blocks.
    pub fn identity(&self) -> Identity {
        let from_file = std::fs::read_to_string(self.paths.workspace.join("IDENTITY.md")).ok();
        let from_file = from_file.as_deref().map(identity_of).unwrap_or_default();
        let own = &self.agent.identity;
        Identity {
            name: own.name.clone().or(self.agent.name.clone()).or(from_file.name),
            theme: own.theme.clone().or(from_file.theme),
            emoji: own.emoji.clone().or(from_file.emoji),
            avatar: own.avatar.clone().or(from_file.avatar),
        }
    }
}

impl AgentSettings {
    fn read(config: &Value, own: &Value) -> Self {
        let defaults = config.pointer("/agents/defaults").cloned().unwrap_or_default();
        let text = |block: &Value, key: &str| block.get(key).and_then(Value::as_str).map(str::to_owned);
        let chars = |key: &str| {
            let value = own.get(key).or_else(|| defaults.get(key));
            value.and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok())
        };
        let models = defaults.get("models").and_then(Value::as_object);
        let aliases = models.into_iter().flatten().filter_map(|(reference, entry)| {
            Some((entry.get("alias")?.as_str()?.to_owned(), reference.clone()))
        });
        let strings = |value: Option<&Value>| -> Option<Vec<String>> {
            let items = value?.as_array()?;
            Some(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
        };
        Self {
            name: text(own, "name"),
            identity: lenient(own.get("identity")),
            caps: Some(Caps::resolve(chars("bootstrapMaxChars"), chars("bootstrapTotalMaxChars"))),
            thinking_default: text(own, "thinkingDefault").or_else(|| text(&defaults, "thinkingDefault")),
            verbose_default: text(&defaults, "verboseDefault"),
            repo_root: text(&defaults, "repoRoot"),
            time_zone: text(&defaults, "userTimezone"),
            heartbeat_prompt: [own, &defaults]
                .iter()
                .find_map(|block| block.pointer("/heartbeat/prompt")?.as_str())
                .map(str::to_owned),
            skills: strings(own.get("skills")),
            aliases: aliases.collect(),
            owners: strings(config.pointer("/commands/ownerAllowFrom")).unwrap_or_default(),
            context_tokens: defaults.get("contextTokens").and_then(Value::as_u64),
            compaction: lenient(defaults.get("compaction")),
        }
    }
}

/// The block of one agent in `agents.list` or `agents.entries`.
pub fn own_block(config: &Value, agent_id: &str) -> Value {
    let list = config.pointer("/agents/list").and_then(Value::as_array);
    let listed = list.into_iter().flatten().find(|agent| {
        agent.get("id").and_then(Value::as_str).is_some_and(|id| id.trim().eq_ignore_ascii_case(agent_id))
    });
    let entry = || config.pointer("/agents/entries").and_then(|entries| entries.get(agent_id));
    listed.or_else(entry).cloned().unwrap_or_default()
}

fn lenient<T: DeserializeOwned + Default>(value: Option<&Value>) -> T {
    value.and_then(|value| T::deserialize(value).ok()).unwrap_or_default()
}

/// A tools block without the keys that are accepted but not built yet.
fn built<T: DeserializeOwned + Default>(value: Option<&Value>, place: &str) -> T {
    let Some(value) = value else { return T::default() };
    let (kept, _) = keep_built_keys(value);
    T::deserialize(kept).unwrap_or_else(|error| {
        tracing::error!(place, %error, "tool settings not readable: no tool is offered until they are");
        // A deny list that cannot be read must not become "everything is allowed".
        T::deserialize(serde_json::json!({"deny": ["*"]})).unwrap_or_default()
    })
}

/// `Name:`, `Emoji:`, … lines of `IDENTITY.md`; template hints in parentheses or underscores are no values.
fn identity_of(text: &str) -> Identity {
    let mut identity = Identity::default();
    for line in text.lines() {
        let line = line.trim_start_matches(['-', '*', ' ']);
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim_matches(['*', ' ', '_']);
        if value.is_empty() || value.starts_with('(') {
            continue;
        }
        let field = match key.trim_matches(['*', ' ']).to_ascii_lowercase().as_str() {
            "name" => &mut identity.name,
            "emoji" => &mut identity.emoji,
            "creature" | "vibe" | "theme" => &mut identity.theme,
            "avatar" => &mut identity.avatar,
            _ => continue,
        };
        field.get_or_insert_with(|| value.to_owned());
    }
    identity
}

/// A path of the agent's workspace that a client may name: no folders, no way out.
pub fn workspace_file(workspace: &Path, name: &str) -> Option<PathBuf> {
    let known = crate::prompt::bootstrap::FILES.iter().chain(crate::prompt::bootstrap::MEMORY_FILES);
    known.copied().find(|known| *known == name).map(|name| workspace.join(name))
}
