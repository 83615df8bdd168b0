//! What a run has ready before the model is asked: the tools that it is offered, its system prompt, and the report of
//! the prompt's size. Reads the workspace, so it runs on the blocking pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use proto::wire::agent::RunSpec;
use serde_json::json;

use crate::agent::{Active, Agent};
use crate::prompt::bootstrap::{self, Caps};
use crate::prompt::report::{Report, SkillSize, SkillSizes, ToolSize, ToolSizes};
use crate::prompt::runtime::{self, RuntimeFacts};
use crate::prompt::skills::{self, Skill, SkillSettings, Surroundings};
use crate::prompt::{self, Mode, PromptInput, ToolLine};
use crate::provider::{ThinkingLevel, ToolSpec, thinking};
use crate::session::store::SessionEntry;
use crate::setup::Setup;
use crate::tool::catalog;
use crate::tool::policy::{self, Depth, RunFacts};
use crate::tool::registry::Registry;

use super::request;
use super::source::ModelFacts;

/// See the module head.
#[derive(Clone)]
pub struct Prepared {
    pub system: String,
    pub registry: Registry,
    pub tools: Vec<ToolSpec>,
    pub thinking: ThinkingLevel,
    pub report: Report,
    /// Characters of prompt and tool schemas: what the window holds beside the conversation.
    pub fixed_chars: u64,
}

/// What the prompt has to know of a run.
#[derive(Clone)]
pub struct Occasion {
    pub session_key: String,
    pub entry: SessionEntry,
    pub facts: ModelFacts,
    pub default_model: Option<String>,
    /// None outside of a run (`/context` before the first turn).
    pub spec: Option<Arc<RunSpec>>,
}

/// Tools and prompt for one run with one model.
pub async fn prepare(agent: &Agent, active: &Active, occasion: Occasion) -> Prepared {
    let (registry, setup) = (agent.registry.clone(), active.setup.clone());
    let fallback = (registry.clone(), occasion.facts.clone());
    let built = tokio::task::spawn_blocking(move || build(&registry, &setup, &occasion)).await;
    built.unwrap_or_else(|error| {
        tracing::error!(%error, "the prompt could not be built; the run goes on without one");
        Prepared {
            system: String::new(),
            registry: fallback.0.only(&[]),
            tools: Vec::new(),
            thinking: ThinkingLevel::Off,
            report: Report::default(),
            fixed_chars: 0,
        }
    })
}

fn build(registry: &Registry, setup: &Setup, occasion: &Occasion) -> Prepared {
    let spec = occasion.spec.as_deref();
    let overrides = spec.map(|spec| &spec.overrides);
    let mode = Mode::of(overrides.and_then(|wish| wish.prompt_mode.as_deref()), &occasion.session_key);
    let registry = registry.only(&allowed(registry, setup, occasion));
    let definitions = registry.definitions();
    let specs = request::tools(&definitions);
    let level = thinking_level(setup, occasion);
    let (skills_text, skill_sizes) = skills_for(setup);
    let caps = setup.agent.caps.unwrap_or_else(|| Caps::resolve(None, None));
    let found = bootstrap::load(&setup.paths.workspace, bootstrap::is_reduced(&occasion.session_key));
    let (files, warnings) = bootstrap::fit(found, caps);
    for warning in warnings {
        tracing::info!(warning, "workspace file cut");
    }
    let reasoning = occasion.entry.str("reasoningLevel").unwrap_or("off").to_owned();
    let input = PromptInput {
        mode,
        tools: definitions
            .iter()
            .map(|tool| ToolLine {
                name: tool.name.to_owned(),
                summary: summary(tool.name, &tool.description),
            })
            .collect(),
        skills: skills_text.clone(),
        aliases: setup.agent.aliases.clone(),
        time_zone: setup.zone_name().map(str::to_owned),
        workspace: setup.workspace_text(),
        owners: setup.agent.owners.clone(),
        group: spec.is_some_and(|spec| matches!(spec.origin.chat_type.as_deref(), Some("group" | "channel"))),
        inbound_meta: spec.and_then(inbound_meta),
        extra: overrides.and_then(|wish| wish.extra_system_prompt.clone()),
        files: files.clone(),
        heartbeat_prompt: setup.agent.heartbeat_prompt.clone(),
        runtime: runtime::lines(&facts(setup, occasion, level, reasoning)),
    };
    let extra_chars = input.extra.as_ref().map_or(0, |text| text.chars().count());
    let prompt = prompt::build(&input);
    let report = Report {
        source: if spec.is_some() { "run" } else { "estimate" }.into(),
        generated_at: crate::clock::now_ms(),
        session_id: occasion.entry.session_id().unwrap_or_default().to_owned(),
        session_key: occasion.session_key.clone(),
        provider: occasion.facts.provider.clone(),
        model: occasion.facts.id.clone(),
        workspace_dir: setup.workspace_text(),
        skills: SkillSizes {
            prompt_chars: skills_text.chars().count(),
            entries: skill_sizes
                .into_iter()
                .map(|(name, block_chars)| SkillSize { name, block_chars })
                .collect(),
        },
        tools: tool_sizes(&specs, &input.tools),
        ..Report::default()
    }
    .measure(&prompt, &files, caps, extra_chars);
    let fixed_chars = (prompt.text.len() + report.tools.schema_chars) as u64;
    Prepared { system: prompt.text, registry, tools: specs, thinking: level, report, fixed_chars }
}

/// Names that the policy leaves.
fn allowed(registry: &Registry, setup: &Setup, occasion: &Occasion) -> Vec<String> {
    let spec = occasion.spec.as_deref();
    let run = RunFacts {
        provider: &occasion.facts.provider,
        model: &occasion.facts.id,
        sender_is_owner: spec.is_some_and(|spec| spec.origin.owner),
        depth: if occasion.session_key.contains(":subagent:") { Depth::SubagentLeaf } else { Depth::Main },
        group: None,
        subagents: None,
    };
    let steps = policy::steps(&setup.tools, &setup.agent_tools, &setup.agent_id, &run);
    let patch = policy::apply_patch_offered(&setup.tool_settings.apply_patch, run.provider, run.model);
    let names: Vec<&str> =
        registry.names().into_iter().filter(|name| patch || *name != "apply_patch").collect();
    let decision = policy::decide(&names, &steps);
    for warning in &decision.warnings {
        tracing::info!(warning, "tool policy");
    }
    decision.allowed
}

fn summary(name: &str, description: &str) -> String {
    match catalog::find(name) {
        Some(known) => known.summary.to_owned(),
        None => description.lines().next().unwrap_or_default().to_owned(),
    }
}

fn thinking_level(setup: &Setup, occasion: &Occasion) -> ThinkingLevel {
    let wish = occasion.spec.as_ref().and_then(|spec| spec.overrides.thinking.as_deref());
    let parsed = |wish: Option<&str>| wish.and_then(ThinkingLevel::parse);
    let wishes = [
        parsed(wish),
        parsed(occasion.entry.str("thinkingLevel")),
        occasion.facts.thinking,
        parsed(setup.agent.thinking_default.as_deref()),
    ];
    thinking::resolve(&wishes, occasion.facts.reasoning)
}

/// The skills list of this agent, and the size of each entry.
fn skills_for(setup: &Setup) -> (String, Vec<(String, usize)>) {
    let all = scan(setup);
    let around = surroundings(setup, &setup.tool_env, &setup.skills);
    let usable: Vec<&Skill> = all
        .iter()
        .filter(|skill| setup.agent.skills.as_ref().is_none_or(|names| names.contains(&skill.name)))
        .filter(|skill| !skill.disabled(&setup.skills) && skill.missing(&around).is_empty())
        .collect();
    skills::prompt(&usable, &setup.paths.home, setup.skills.limits)
}

/// Every skill that this agent can find. Blocks.
pub fn scan(setup: &Setup) -> Vec<Skill> {
    let paths = &setup.paths;
    let roots = skills::roots(&setup.skills, &paths.state, &paths.home, &paths.workspace);
    skills::scan(&roots, setup.skills.limits)
}

pub fn surroundings<'a>(
    setup: &'a Setup,
    env: &'a BTreeMap<String, String>,
    settings: &'a SkillSettings,
) -> Surroundings<'a> {
    Surroundings { path: setup.path_dirs(), env, config: &setup.config, settings }
}

/// Only what stays the same over the session, so that a provider's cache holds.
fn inbound_meta(spec: &RunSpec) -> Option<String> {
    let origin = &spec.origin;
    let chat = origin.chat.as_ref()?;
    let meta = json!({
        "schema": "openclaw.inbound_meta.v1",
        "chat_id": chat,
        "channel": origin.channel,
        "provider": origin.channel,
        "surface": origin.channel,
        "chat_type": origin.chat_type,
    });
    serde_json::to_string_pretty(&meta).ok()
}

fn facts(setup: &Setup, occasion: &Occasion, level: ThinkingLevel, reasoning: String) -> RuntimeFacts {
    let system = nix_name();
    let repo = setup.agent.repo_root.clone().or_else(|| {
        let mut dir = Some(setup.paths.workspace.as_path());
        while let Some(at) = dir {
            if at.join(".git").exists() {
                return Some(at.display().to_string());
            }
            dir = at.parent();
        }
        None
    });
    RuntimeFacts {
        agent: setup.agent_id.clone(),
        host: system.0,
        repo,
        os: system.1,
        arch: Some(std::env::consts::ARCH.to_owned()),
        version: setup.version.clone(),
        model: occasion.facts.reference(),
        default_model: occasion.default_model.clone(),
        shell: setup.tool_env.get("SHELL").map(|shell| shell.rsplit('/').next().unwrap_or(shell).to_owned()),
        channel: occasion
            .spec
            .as_ref()
            .map(|spec| spec.origin.channel.clone())
            .filter(|channel| !channel.is_empty()),
        capabilities: Vec::new(),
        thinking: level.as_str().to_owned(),
        reasoning,
    }
}

/// Host name, and system with release.
fn nix_name() -> (Option<String>, Option<String>) {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_str().ok().map(str::to_owned);
    let os =
        text(name.sysname()).zip(text(name.release())).map(|(system, release)| format!("{system} {release}"));
    (text(name.nodename()), os)
}

fn tool_sizes(specs: &[ToolSpec], lines: &[ToolLine]) -> ToolSizes {
    let entries: Vec<ToolSize> = specs
        .iter()
        .map(|tool| ToolSize {
            name: tool.name.clone(),
            summary_chars: lines
                .iter()
                .find(|line| line.name == tool.name)
                .map_or(0, |line| line.summary.chars().count()),
            schema_chars: tool.parameters.to_string().chars().count(),
            properties_count: tool
                .parameters
                .get("properties")
                .and_then(|properties| properties.as_object())
                .map_or(0, serde_json::Map::len),
        })
        .collect();
    ToolSizes { list_chars: 0, schema_chars: entries.iter().map(|tool| tool.schema_chars).sum(), entries }
}
