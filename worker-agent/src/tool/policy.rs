//! Which tools a run is offered: a pure function of names, configured lists and facts about the run.
//!
//! Every step can only take tools away. Inside a step `deny` wins, an empty `allow` admits everything, patterns are
//! case-insensitive with `*`, `group:<section>` stands for its names, and `exec` admits `apply_patch` too.
//! An `allow` that names nothing known is ignored with a warning, so that a typo cannot disable every tool.
//!
//! No IO, no clock; nothing here runs a tool.

use std::collections::BTreeMap;

use super::{
    catalog::{KNOWN, Profile},
    config::{AgentToolsConfig, ApplyPatchSettings, ToolLists, ToolsConfig},
};

/// Tools that only the owner of the gateway may have used for him.
pub const OWNER_ONLY: &[&str] = &["cron", "gateway", "whatsapp_login"];

/// What sub-agents never get unless `tools.subagents.tools` adds it.
const SUBAGENT_DENY: &[&str] = &[
    "gateway",
    "agents_list",
    "whatsapp_login",
    "session_status",
    "cron",
    "memory_search",
    "memory_get",
    "sessions_send",
];
/// What sub-agents at the deepest level do not get on top of that: they may not start others.
const SUBAGENT_LEAF_DENY: &[&str] = &["sessions_list", "sessions_history", "sessions_spawn"];

/// Providers whose models were trained on the patch format.
const APPLY_PATCH_PROVIDERS: &[&str] = &["openai", "openai-codex"];

/// One step of the pipeline, already reduced to two lists of patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The configuration key that it comes from, for warnings and `doctor`.
    pub source: String,
    /// None: everything.
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// Is the run a sub-agent's, and at the end of the line?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Depth {
    #[default]
    Main,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "sub-agents that start others come with sessions_spawn")
    )]
    Subagent,
    /// May not spawn further ones.
    SubagentLeaf,
}

/// The facts of one run that the policy depends on.
#[derive(Debug, Clone, Default)]
pub struct RunFacts<'a> {
    pub provider: &'a str,
    /// Without the provider.
    pub model: &'a str,
    pub sender_is_owner: bool,
    pub depth: Depth,
    /// `channels.<ch>.groups.<id>.tools` (or `toolsBySender`) that applies, if any.
    pub group: Option<&'a ToolLists>,
    /// `tools.subagents.tools`, if any.
    pub subagents: Option<&'a ToolLists>,
}

/// What the pipeline decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Decision {
    /// In the order in which the names were given.
    pub allowed: Vec<String>,
    /// Removed name → the step that removed it (the first one).
    pub removed: BTreeMap<String, String>,
    /// Lists that were ignored and patterns that name nothing.
    pub warnings: Vec<String>,
}

/// Lower-case, trimmed, aliases replaced.
pub fn normalise(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    match lower.as_str() {
        "bash" | "shell" => "exec".to_owned(),
        "apply-patch" | "applypatch" => "apply_patch".to_owned(),
        _ => lower,
    }
}

/// The names that a profile admits; none for no restriction.
pub fn profile_names(profile: Profile) -> Option<Vec<String>> {
    if profile == Profile::Full {
        return None;
    }
    let admitted = KNOWN.iter().filter(|known| known.profiles().contains(&profile));
    Some(admitted.map(|known| known.name.to_owned()).collect())
}

/// Replaces groups by their names and normalises the rest. `group:openclaw` is everything built in except files and processes.
pub fn expand(patterns: &[String]) -> Vec<String> {
    let mut names = Vec::new();
    for pattern in patterns {
        let name = normalise(pattern);
        if name.is_empty() {
            continue;
        }
        match name.strip_prefix("group:") {
            Some("openclaw") => names.extend(
                KNOWN.iter().filter(|k| !["fs", "runtime"].contains(&k.section)).map(|k| k.name.to_owned()),
            ),
            Some(section) if KNOWN.iter().any(|k| k.section == section) => {
                names.extend(KNOWN.iter().filter(|k| k.section == section).map(|k| k.name.to_owned()));
            }
            _ => names.push(name),
        }
    }
    names
}

/// Does `name` match `pattern`, in which `*` stands for any run of characters? Both normalised.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut rest, mut first) = (name, true);
    let mut parts = pattern.split('*').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        if first {
            let Some(tail) = rest.strip_prefix(part) else { return false };
            if last {
                return tail.is_empty();
            }
            rest = tail;
            first = false;
        } else if last {
            return rest.ends_with(part);
        } else {
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
    }
    true
}

fn any_matches(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

impl Step {
    /// A step of plain lists. `also_allow` without `allow` adds to "everything".
    pub fn lists(
        source: impl Into<String>,
        allow: Option<&Vec<String>>,
        also_allow: Option<&Vec<String>>,
        deny: Option<&Vec<String>>,
    ) -> Self {
        let allow = allow.filter(|list| !list.is_empty()).map(|list| {
            let mut both = list.clone();
            both.extend(also_allow.into_iter().flatten().cloned());
            both
        });
        Self { source: source.into(), allow, deny: deny.cloned().unwrap_or_default() }
    }

    /// A step that admits a profile and what is added to it.
    pub fn profile(source: impl Into<String>, profile: Profile, also_allow: Option<&Vec<String>>) -> Self {
        let allow = profile_names(profile).map(|mut names| {
            names.extend(also_allow.into_iter().flatten().cloned());
            names
        });
        Self { source: source.into(), allow, deny: Vec::new() }
    }

    fn denying(source: &str, names: &[&str]) -> Self {
        Self { source: source.to_owned(), allow: None, deny: names.iter().map(|n| (*n).to_owned()).collect() }
    }
}

/// The steps of one run, in order: profile, provider's profile, global lists, provider's lists, agent's lists,
/// agent's provider lists, group, sub-agent, owner.
pub fn steps(
    global: &ToolsConfig,
    agent: &AgentToolsConfig,
    agent_id: &str,
    run: &RunFacts<'_>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let agent_key = |key: &str| format!("agents.list[{agent_id}].tools.{key}");
    if let Some(profile) = agent.profile {
        let also = agent.also_allow.as_ref().or(global.also_allow.as_ref());
        steps.push(Step::profile(agent_key("profile"), profile, also));
    } else if let Some(profile) = global.profile {
        let also = agent.also_allow.as_ref().or(global.also_allow.as_ref());
        steps.push(Step::profile("tools.profile", profile, also));
    }
    let global_provider = provider_lists(global.by_provider.as_ref(), run);
    let agent_provider = provider_lists(agent.by_provider.as_ref(), run);
    let with_profile = |lists: Option<(&String, &ToolLists)>, key: String| {
        let (name, lists) = lists?;
        let profile = lists.profile?;
        Some(Step::profile(format!("{key}.{name}.profile"), profile, lists.also_allow.as_ref()))
    };
    let by_agent = with_profile(agent_provider, agent_key("byProvider"));
    steps.extend(by_agent.or_else(|| with_profile(global_provider, "tools.byProvider".to_owned())));

    steps.push(Step::lists("tools", global.allow.as_ref(), global.also_allow.as_ref(), global.deny.as_ref()));
    steps.extend(global_provider.map(|(name, lists)| of_lists(format!("tools.byProvider.{name}"), lists)));
    steps.push(Step::lists(
        format!("agents.list[{agent_id}].tools"),
        agent.allow.as_ref(),
        agent.also_allow.as_ref(),
        agent.deny.as_ref(),
    ));
    let agent_lists = agent_provider.map(|(name, l)| of_lists(agent_key(&format!("byProvider.{name}")), l));
    steps.extend(agent_lists);
    steps.extend(run.group.map(|lists| of_lists("group tools".to_owned(), lists)));
    steps.extend(subagent_steps(run));
    if !run.sender_is_owner {
        steps.push(Step::denying("owner only", OWNER_ONLY));
    }
    steps
}

fn of_lists(source: String, lists: &ToolLists) -> Step {
    Step::lists(source, lists.allow.as_ref(), lists.also_allow.as_ref(), lists.deny.as_ref())
}

/// `provider/model` is more specific than `provider`.
fn provider_lists<'a>(
    lists: Option<&'a BTreeMap<String, ToolLists>>,
    run: &RunFacts<'_>,
) -> Option<(&'a String, &'a ToolLists)> {
    let full = format!("{}/{}", run.provider, run.model).to_lowercase();
    let by_key = |wanted: &str| lists?.iter().find(|(key, _)| key.trim().to_lowercase() == wanted);
    by_key(&full).or_else(|| by_key(&run.provider.to_lowercase()))
}

fn subagent_steps(run: &RunFacts<'_>) -> Vec<Step> {
    let mut denied: Vec<&str> = match run.depth {
        Depth::Main => return Vec::new(),
        Depth::Subagent => SUBAGENT_DENY.to_vec(),
        Depth::SubagentLeaf => [SUBAGENT_DENY, SUBAGENT_LEAF_DENY].concat(),
    };
    let added: Vec<String> = run
        .subagents
        .map(|lists| {
            expand(
                &[lists.allow.clone(), lists.also_allow.clone()]
                    .into_iter()
                    .flatten()
                    .flatten()
                    .collect::<Vec<_>>(),
            )
        })
        .unwrap_or_default();
    denied.retain(|name| !any_matches(&added, name));
    let mut steps = vec![Step::denying("sub-agent", &denied)];
    steps.extend(run.subagents.map(|lists| of_lists("tools.subagents.tools".to_owned(), lists)));
    steps
}

/// Runs the pipeline over `names`.
pub fn decide(names: &[&str], steps: &[Step]) -> Decision {
    let mut decision = Decision::default();
    let mut left: Vec<&str> = names.to_vec();
    for step in steps {
        let deny = expand(&step.deny);
        let mut allow = step.allow.as_deref().map(expand).filter(|list| !list.is_empty());
        warn_unknown(step, names, &mut decision.warnings);
        if let Some(list) = &allow
            && !list.iter().any(|pattern| names_something(pattern, names))
        {
            decision.warnings.push(format!(
                "{}.allow names no known tool and is ignored: {}",
                step.source,
                list.join(", ")
            ));
            allow = None;
        }
        left.retain(|name| {
            let keep = !any_matches(&deny, name) && admits(allow.as_deref(), name);
            if !keep {
                decision.removed.insert((*name).to_owned(), step.source.clone());
            }
            keep
        });
    }
    decision.allowed = left.into_iter().map(str::to_owned).collect();
    decision
}

fn admits(allow: Option<&[String]>, name: &str) -> bool {
    let Some(allow) = allow else { return true };
    any_matches(allow, name) || (name == "apply_patch" && any_matches(allow, "exec"))
}

fn names_something(pattern: &str, names: &[&str]) -> bool {
    names.iter().any(|name| matches(pattern, name)) || KNOWN.iter().any(|k| matches(pattern, k.name))
}

fn warn_unknown(step: &Step, names: &[&str], warnings: &mut Vec<String>) {
    for (list, patterns) in [("allow", step.allow.as_deref().unwrap_or_default()), ("deny", &step.deny)] {
        let unknown: Vec<String> = expand(patterns)
            .into_iter()
            .filter(|p| !names_something(p, names) && !OWNER_ONLY.contains(&p.as_str()))
            .collect();
        if !unknown.is_empty() {
            warnings.push(format!("{}.{list}: unknown tool name: {}", step.source, unknown.join(", ")));
        }
    }
}

/// Is `apply_patch` offered at all? Only when enabled, to models trained on the format, and to those listed if any are.
pub fn apply_patch_offered(settings: &ApplyPatchSettings, provider: &str, model: &str) -> bool {
    let provider = provider.to_lowercase();
    let model = model.to_lowercase();
    let full = format!("{provider}/{model}");
    settings.enabled
        && APPLY_PATCH_PROVIDERS.contains(&provider.as_str())
        && (settings.allow_models.is_empty()
            || settings.allow_models.iter().any(|m| {
                let m = m.trim().to_lowercase();
                m == model || m == full
            }))
}

#[cfg(test)]
mod tests;
