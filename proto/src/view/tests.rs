use super::*;
use serde_json::json;

#[test]
fn empty_config_has_one_implicit_agent_and_the_documented_defaults() {
    let view = ConfigView::from_value(&json!({}));
    assert_eq!(view.agents.default_id(), "main");
    assert_eq!((view.agents.max_concurrent, view.agents.timeout_seconds), (4, 600));
    assert_eq!(view.agents.workspace_of("main", "/s"), "/s/workspace");
    assert_eq!(view.messages.queue.cap, 20);
    assert_eq!(view.messages.queue.mode_for("telegram"), QueueMode::Collect);
    assert!(view.commands.restart && view.cron.enabled && !view.hooks.enabled);
}

#[test]
fn wrong_types_read_as_absent_and_spare_their_neighbours() {
    let view = ConfigView::from_value(&json!({
        "agents": {"defaults": {"maxConcurrent": "many", "workspace": "/w"}, "list": [5, {"id": "Ops Team"}]},
        "messages": {"queue": {"mode": "nope", "byChannel": {"telegram": "interrupt", "x": 4}}},
        "bindings": ["junk", {"agentId": "ops", "match": {"channel": "telegram", "peer": {"kind": "dm", "id": 42}}}],
    }));
    assert_eq!(view.agents.max_concurrent, 4);
    assert_eq!(view.agents.default_id(), "ops-team");
    assert_eq!(view.agents.workspace_of("ops-team", "/s"), "/w");
    assert_eq!(view.agents.workspace_of("other", "/s"), "/s/workspace-other");
    assert_eq!(view.messages.queue.mode_for("telegram"), QueueMode::Interrupt);
    assert_eq!(view.messages.queue.mode_for("x"), QueueMode::Collect);
    let peer = view.bindings[0].matches.peer.clone().expect("peer");
    assert_eq!((peer.kind, peer.id.as_str()), (PeerKind::Direct, "42"));
}

#[test]
fn entries_of_the_later_release_are_agents_too() {
    let view = ConfigView::from_value(&json!({"agents": {
        "defaults": {"model": "a/b"},
        "entries": {"main": {}, "ops": {"default": true, "model": {"primary": "c/d", "fallbacks": ["e/f"]}}},
    }}));
    assert_eq!(view.agents.default_id(), "ops");
    assert_eq!(view.agents.model_of("main").primary.as_deref(), Some("a/b"));
    assert_eq!(view.agents.model_of("ops").fallbacks, ["e/f"]);
}

#[test]
fn an_account_inherits_what_it_does_not_say() {
    let view = ConfigView::from_value(&json!({"channels": {
        "defaults": {"groupPolicy": "open"},
        "telegram": {
            "dmPolicy": "allowlist", "allowFrom": [7, "8"],
            "groups": {"*": {"requireMention": false, "topics": {"3": {"requireMention": true}}}},
            "accounts": {"Work": {"dmPolicy": "open", "allowFrom": ["*"], "enabled": false}, "home": {}},
        },
    }}));
    let telegram = &view.channels["telegram"];
    assert_eq!(view.channels.len(), 1);
    assert_eq!(telegram.active().map(|(id, _)| id).collect::<Vec<_>>(), ["home"]);
    assert_eq!(telegram.default_account, "home");
    let home = &telegram.accounts["home"];
    assert_eq!((home.dm_policy, home.group_policy()), (DmPolicy::Allowlist, GroupPolicy::Open));
    assert_eq!(home.allow_from, ["7", "8"]);
    assert!(!home.require_mention("-1", None) && home.require_mention("-1", Some("3")));
    assert_eq!(telegram.accounts["work"].dm_policy, DmPolicy::Open);
    let plain = ConfigView::from_value(&json!({"channels": {"telegram": {}}}));
    assert_eq!(plain.channels["telegram"].default_account, "default");
    assert_eq!(plain.channels["telegram"].accounts["default"].group_policy(), GroupPolicy::Allowlist);
}
