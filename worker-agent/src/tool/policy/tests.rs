use proptest::prelude::*;
use serde_json::json;

use super::*;

fn names() -> Vec<&'static str> {
    KNOWN.iter().map(|known| known.name).collect()
}

fn lists(value: serde_json::Value) -> ToolsConfig {
    serde_json::from_value(value).unwrap()
}

fn allowed(global: &ToolsConfig, agent: &AgentToolsConfig, run: &RunFacts<'_>) -> Vec<String> {
    decide(&names(), &steps(global, agent, "main", run)).allowed
}

fn owner() -> RunFacts<'static> {
    RunFacts { provider: "openai", model: "gpt-5", sender_is_owner: true, ..RunFacts::default() }
}

#[test]
fn profile_by_tool_table() {
    let mut table = format!("{:<18}{:<9}{:<9}{:<11}{}\n", "tool", "minimal", "coding", "messaging", "full");
    for name in names() {
        let mark = |profile: Profile| {
            let global = ToolsConfig { profile: Some(profile), ..ToolsConfig::default() };
            let allowed = allowed(&global, &AgentToolsConfig::default(), &owner());
            if allowed.iter().any(|n| n == name) { "yes" } else { "-" }
        };
        let [minimal, coding, messaging, full] = Profile::ALL.map(mark);
        table.push_str(&format!("{name:<18}{minimal:<9}{coding:<9}{messaging:<11}{full}\n"));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("profile_by_tool", table);
    });
}

#[test]
fn steps_come_in_order_and_only_take_away() {
    let global = lists(json!({
        "profile": "coding", "alsoAllow": ["message"], "deny": ["Process"],
        "byProvider": {"openai": {"deny": ["write"]}, "openai/gpt-5": {"profile": "full", "deny": ["edit"]}}
    }));
    let agent: AgentToolsConfig =
        serde_json::from_value(json!({"allow": ["group:fs", "bash", "message"]})).unwrap();
    let decision = decide(&names(), &steps(&global, &agent, "main", &owner()));
    assert_eq!(
        decision.allowed,
        ["read", "write", "apply_patch", "grep", "find", "ls", "exec", "message"],
        "the model's entry hides the provider's, which alone denies write"
    );
    assert_eq!(decision.removed.get("process").map(String::as_str), Some("tools"));
    assert_eq!(decision.removed.get("edit").map(String::as_str), Some("tools.byProvider.openai/gpt-5"));
    assert_eq!(decision.removed.get("browser").map(String::as_str), Some("tools.profile"));
    assert_eq!(decision.removed.get("cron").map(String::as_str), Some("agents.list[main].tools"));
}

#[test]
fn an_agent_profile_replaces_the_global_one() {
    let global = lists(json!({"profile": "minimal"}));
    let agent: AgentToolsConfig = serde_json::from_value(json!({"profile": "messaging"})).unwrap();
    assert_eq!(
        allowed(&global, &agent, &owner()),
        ["message", "sessions_list", "sessions_history", "sessions_send", "session_status"]
    );
}

#[test]
fn an_allow_list_of_unknown_names_is_ignored_with_a_warning() {
    let global = lists(json!({"allow": ["raed", "my_plugin_*"]}));
    let decision = decide(&names(), &steps(&global, &AgentToolsConfig::default(), "main", &owner()));
    assert_eq!(decision.allowed.len(), KNOWN.len());
    assert!(decision.warnings.iter().any(|w| w.contains("tools.allow") && w.contains("ignored")));

    let one_typo = lists(json!({"allow": ["raed", "ls"]}));
    let decision = decide(&names(), &steps(&one_typo, &AgentToolsConfig::default(), "main", &owner()));
    assert_eq!(decision.allowed, ["ls"]);
    assert_eq!(decision.warnings, ["tools.allow: unknown tool name: raed"]);
}

#[test]
fn strangers_lose_owner_only_tools_and_sub_agents_their_set() {
    let none = (ToolsConfig::default(), AgentToolsConfig::default());
    let stranger = RunFacts { sender_is_owner: false, ..owner() };
    let left = allowed(&none.0, &none.1, &stranger);
    assert!(!left.iter().any(|n| n == "cron" || n == "gateway"));

    let parent = allowed(&none.0, &none.1, &RunFacts { depth: Depth::Subagent, ..owner() });
    assert!(parent.iter().any(|n| n == "sessions_spawn") && !parent.iter().any(|n| n == "cron"));
    let leaf = RunFacts { depth: Depth::SubagentLeaf, ..owner() };
    let left = allowed(&none.0, &none.1, &leaf);
    assert!(!left.iter().any(|n| n == "sessions_spawn" || n == "session_status"));
    let more = ToolLists { also_allow: Some(vec!["session_status".into()]), ..ToolLists::default() };
    let left = allowed(&none.0, &none.1, &RunFacts { subagents: Some(&more), ..leaf });
    assert!(left.iter().any(|n| n == "session_status"));
}

#[test]
fn apply_patch_is_for_models_that_know_it() {
    let mut settings = ApplyPatchSettings { enabled: true, workspace_only: true, allow_models: Vec::new() };
    assert!(apply_patch_offered(&settings, "openai", "gpt-5"));
    assert!(!apply_patch_offered(&settings, "anthropic", "claude"));
    settings.allow_models = vec!["OpenAI/gpt-5".into()];
    assert!(apply_patch_offered(&settings, "openai", "gpt-5"));
    assert!(!apply_patch_offered(&settings, "openai", "gpt-4"));
    settings.enabled = false;
    assert!(!apply_patch_offered(&settings, "openai", "gpt-5"));
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(names()).prop_map(str::to_owned),
        prop::sample::select(vec![
            "group:fs",
            "group:runtime",
            "group:openclaw",
            "*",
            "sess*",
            "*_*",
            "BASH",
            ""
        ])
        .prop_map(str::to_owned),
        "[a-z_*]{0,8}",
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (prop::option::of(prop::collection::vec(pattern(), 0..4)), prop::collection::vec(pattern(), 0..4))
        .prop_map(|(allow, deny)| Step { source: "s".into(), allow, deny })
}

proptest! {
    #[test]
    fn deny_wins_order_is_kept_and_the_same_comes_out_twice(steps in prop::collection::vec(step(), 0..5)) {
        let names = names();
        let decision = decide(&names, &steps);
        prop_assert_eq!(&decision, &decide(&names, &steps));
        for step in &steps {
            let denied = expand(&step.deny);
            prop_assert!(!decision.allowed.iter().any(|name| any_matches(&denied, name)));
        }
        let positions: Vec<_> = decision.allowed.iter().map(|a| names.iter().position(|n| n == a)).collect();
        prop_assert!(positions.is_sorted());
        prop_assert_eq!(decision.allowed.len() + decision.removed.len(), names.len());
        for extra in 0..steps.len() {
            let fewer = decide(&names, &steps[..extra]);
            prop_assert!(decision.allowed.iter().all(|name| fewer.allowed.contains(name)));
        }
    }

    #[test]
    fn a_pattern_matches_as_a_glob_does(pattern in "[ab*]{0,6}", name in "[ab]{0,6}") {
        let regex = format!("^{}$", pattern.replace('*', ".*"));
        prop_assert_eq!(matches(&pattern, &name), regex::Regex::new(&regex).unwrap().is_match(&name));
    }
}
