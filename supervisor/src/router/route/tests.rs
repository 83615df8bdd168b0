use proptest::prelude::*;
use proto::view::ConfigView;
use serde_json::{Value, json};

use super::*;

fn direct(peer: &str) -> Arrival<'_> {
    Arrival {
        channel: "telegram",
        account: "default",
        default_account: "default",
        kind: PeerKind::Direct,
        peer,
        sub: Sub::None,
        parent: None,
        guild: None,
        team: None,
        roles: &[],
    }
}

fn group(peer: &str) -> Arrival<'_> {
    Arrival { kind: PeerKind::Group, ..direct(peer) }
}

fn config(value: Value) -> ConfigView {
    ConfigView::from_value(&value)
}

fn resolve(arrival: &Arrival<'_>, config: &ConfigView) -> Route {
    route(arrival, &config.agents, &config.bindings, &config.session)
}

fn key(arrival: &Arrival<'_>, session: Value) -> String {
    resolve(arrival, &config(json!({ "session": session }))).session_key
}

#[test]
fn direct_messages_by_scope() {
    let account = Arrival { account: "Second", ..direct("Ab1") };
    let keys = ["main", "per-peer", "per-channel-peer", "per-account-channel-peer"]
        .map(|scope| key(&account, json!({ "dmScope": scope })));
    assert_eq!(
        keys,
        [
            "agent:main:main",
            "agent:main:direct:ab1",
            "agent:main:telegram:direct:ab1",
            "agent:main:telegram:second:direct:ab1"
        ]
    );
    assert_eq!(key(&account, json!({ "scope": "global" })), "global");
    let threaded = Arrival { sub: Sub::Thread("9"), ..direct("1") };
    assert_eq!(key(&threaded, json!({})), "agent:main:main:thread:9");
}

#[test]
fn groups_channels_topics_threads() {
    assert_eq!(key(&group("-100"), json!({})), "agent:main:telegram:group:-100");
    let topic = Arrival { sub: Sub::Topic("7"), ..group("-100") };
    assert_eq!(key(&topic, json!({})), "agent:main:telegram:group:-100:topic:7");
    let thread =
        Arrival { channel: "slack", kind: PeerKind::Channel, sub: Sub::Thread("171.5"), ..direct("C01ABC") };
    assert_eq!(key(&thread, json!({})), "agent:main:slack:channel:c01abc:thread:171.5");
}

#[test]
fn one_person_under_one_name() {
    let links =
        |scope: &str| json!({ "dmScope": scope, "identityLinks": { "Alice": ["telegram:123", "rawid"] } });
    assert_eq!(key(&direct("123"), links("per-peer")), "agent:main:direct:alice");
    assert_eq!(key(&direct("RAWID"), links("per-channel-peer")), "agent:main:telegram:direct:alice");
    assert_eq!(key(&direct("124"), links("per-peer")), "agent:main:direct:124");
    assert_eq!(key(&direct("123"), links("main")), "agent:main:main", "not in the shared session");
    let elsewhere = Arrival { channel: "discord", ..direct("123") };
    assert_eq!(key(&elsewhere, links("per-peer")), "agent:main:direct:123");
}

fn tiers() -> ConfigView {
    let bind = |agent: &str, matches: Value| json!({ "agentId": agent, "match": matches });
    let ids = ["main", "peer", "parent", "roles", "guild", "team", "account", "channel"];
    let list = ids.map(|id| json!({ "id": id }));
    config(json!({
        "agents": { "list": list },
        "bindings": [
            bind("channel", json!({ "channel": "discord", "accountId": "*" })),
            bind("account", json!({ "channel": "discord", "accountId": "work" })),
            bind("team", json!({ "channel": "discord", "accountId": "*", "teamId": "T" })),
            bind("guild", json!({ "channel": "discord", "accountId": "*", "guildId": "G" })),
            bind("roles", json!({ "channel": "discord", "accountId": "*", "guildId": "G", "roles": ["r1", "r2"] })),
            bind("parent", json!({ "channel": "discord", "accountId": "*", "peer": { "kind": "channel", "id": "P" } })),
            bind("peer", json!({ "channel": "discord", "accountId": "*", "peer": { "kind": "channel", "id": "C" } })),
        ],
    }))
}

#[test]
fn the_most_exact_tier_wins() {
    let config = tiers();
    let roles = ["r2".to_owned()];
    let full = Arrival {
        channel: "Discord",
        account: "work",
        kind: PeerKind::Channel,
        parent: Some((PeerKind::Channel, "p")),
        guild: Some("g"),
        team: Some("t"),
        roles: &roles,
        ..direct("c")
    };
    let steps = [
        full,
        Arrival { peer: "other", ..full },
        Arrival { peer: "other", parent: None, ..full },
        Arrival { peer: "other", parent: None, roles: &[], ..full },
        Arrival { peer: "other", parent: None, guild: None, ..full },
        Arrival { peer: "other", parent: None, guild: None, team: None, ..full },
        Arrival { peer: "other", parent: None, guild: None, team: None, account: "home", ..full },
        Arrival { channel: "telegram", ..full },
    ];
    let found: Vec<_> =
        steps.iter().map(|a| (resolve(a, &config).agent, resolve(a, &config).matched_by.name())).collect();
    let found: Vec<_> = found.iter().map(|(agent, by)| (agent.as_str(), *by)).collect();
    assert_eq!(
        found,
        [
            ("peer", "binding.peer"),
            ("parent", "binding.peer.parent"),
            ("roles", "binding.guild+roles"),
            ("guild", "binding.guild"),
            ("team", "binding.team"),
            ("account", "binding.account"),
            ("channel", "binding.channel"),
            ("main", "default"),
        ]
    );
}

#[test]
fn a_binding_without_account_means_the_default_one() {
    let config = config(json!({
        "agents": { "list": [{ "id": "main" }, { "id": "a" }] },
        "bindings": [{ "agentId": "a", "match": { "channel": "telegram" } }],
    }));
    assert_eq!(resolve(&direct("1"), &config).agent, "a");
    let second = Arrival { account: "second", ..direct("1") };
    assert_eq!(resolve(&second, &config).agent, "main");
    let named_default = Arrival { account: "second", default_account: "second", ..direct("1") };
    assert_eq!(resolve(&named_default, &config).agent, "a");
}

#[test]
fn every_constraint_counts_and_the_first_of_a_tier_wins() {
    let config = config(json!({
        "agents": { "list": [{ "id": "main" }, { "id": "a" }, { "id": "b" }] },
        "bindings": [
            { "agentId": "a", "match": { "channel": "telegram", "peer": { "kind": "group", "id": "-1" }, "guildId": "G" } },
            { "agentId": "b", "match": { "channel": "telegram", "peer": { "kind": "group", "id": -1 } } },
            { "agentId": "a", "match": { "channel": "telegram", "peer": { "kind": "group", "id": "-1" } } },
        ],
    }));
    assert_eq!(resolve(&group("-1"), &config).agent, "b", "the guild of the first does not hold");
    assert_eq!(resolve(&direct("-1"), &config).agent, "main", "another kind of peer");
}

#[test]
fn topics_inherit_from_their_group() {
    let config = config(json!({
        "agents": { "list": [{ "id": "main" }, { "id": "a" }, { "id": "b" }] },
        "bindings": [
            { "agentId": "a", "match": { "channel": "telegram", "peer": { "kind": "group", "id": "-1" } } },
            { "agentId": "b", "match": { "channel": "telegram", "peer": { "kind": "group", "id": "-1:topic:5" } } },
        ],
    }));
    let topic = |id| Arrival { sub: Sub::Topic(id), ..group("-1") };
    let five = resolve(&topic("5"), &config);
    assert_eq!((five.agent.as_str(), five.matched_by), ("b", MatchedBy::Peer));
    assert_eq!(five.session_key, "agent:b:telegram:group:-1:topic:5");
    let six = resolve(&topic("6"), &config);
    assert_eq!((six.agent.as_str(), six.matched_by), ("a", MatchedBy::PeerParent));
}

#[test]
fn an_unknown_agent_falls_back_and_is_named() {
    let config = config(json!({
        "agents": { "list": [{ "id": "x" }, { "id": "boss", "default": true }] },
        "bindings": [{ "agentId": "Gone", "match": { "channel": "telegram" } }],
    }));
    let route = resolve(&direct("1"), &config);
    assert_eq!((route.agent.as_str(), route.unknown_agent.as_deref()), ("boss", Some("gone")));
    assert_eq!(
        (route.session_key.as_str(), route.main_session_key.as_str()),
        ("agent:boss:main", "agent:boss:main")
    );
}

proptest! {
    #[test]
    fn keys_are_lower_case_and_under_their_agent(
        peer in "\\PC{0,20}",
        topic in "[A-Z0-9]{1,5}",
        kind in 0..3_usize,
        scope in 0..4_usize,
    ) {
        let kind = [PeerKind::Direct, PeerKind::Group, PeerKind::Channel][kind];
        let dm_scope = [DmScope::Main, DmScope::PerPeer, DmScope::PerChannelPeer, DmScope::PerAccountChannelPeer][scope];
        let arrival = Arrival { kind, sub: Sub::Topic(&topic), ..direct(&peer) };
        let session = SessionView { dm_scope, ..SessionView::default() };
        let route = route(&arrival, &config(json!({})).agents, &[], &session);
        prop_assert_eq!(route.session_key.to_lowercase(), route.session_key.clone());
        prop_assert!(route.session_key.starts_with("agent:main:"));
    }
}
