use proto::view::ConfigView;
use serde_json::{Value, json};

use super::*;

fn account(keys: Value) -> AccountView {
    let view = ConfigView::from_value(&json!({ "channels": { "telegram": keys } }));
    view.channels["telegram"].accounts["default"].clone()
}

fn dm(keys: Value, sender: &str, paired: &[&str]) -> &'static str {
    let paired: Vec<String> = paired.iter().map(ToString::to_string).collect();
    let access = direct(&account(keys), "telegram", sender, &paired);
    match access {
        Access::Allow(Reason::DmOpen) => "open",
        Access::Allow(Reason::DmAllowlisted) => "allow",
        Access::Challenge => "challenge",
        Access::Block(Reason::DmDisabled) => "disabled",
        Access::Block(Reason::DmNotAllowlisted) => "block",
        other => panic!("{other:?}"),
    }
}

#[test]
fn direct_messages() {
    assert_eq!(dm(json!({}), "1", &[]), "challenge", "pairing is the default");
    assert_eq!(dm(json!({}), "1", &["1"]), "allow");
    assert_eq!(dm(json!({}), "1", &["*"]), "challenge", "a store cannot open the door to all");
    assert_eq!(dm(json!({ "allowFrom": [1] }), "1", &[]), "allow");
    assert_eq!(dm(json!({ "dmPolicy": "allowlist", "allowFrom": ["1"] }), "2", &["2"]), "block");
    assert_eq!(dm(json!({ "dmPolicy": "allowlist", "allowFrom": ["telegram:1"] }), "1", &[]), "allow");
    assert_eq!(dm(json!({ "dmPolicy": "open", "allowFrom": ["*"] }), "2", &[]), "open");
    assert_eq!(dm(json!({ "dmPolicy": "disabled", "allowFrom": ["1"] }), "1", &["1"]), "disabled");
    assert_eq!(dm(json!({ "allowFrom": ["@name"] }), "1", &[]), "challenge", "names do not count");
}

fn code(keys: Value, chat: &str, topic: Option<&str>, sender: &str) -> &'static str {
    match group(Some(&account(keys)), "telegram", chat, topic, sender) {
        Access::Allow(reason) | Access::Block(reason) => reason.code(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups() {
    let (yes, no) = ("group_policy_allowed", "group_policy_not_allowlisted");
    assert_eq!(code(json!({}), "-1", None, "1"), "group_policy_empty_allowlist", "closed by default");
    assert_eq!(code(json!({ "allowFrom": ["1"] }), "-1", None, "1"), yes, "falls back to allowFrom");
    assert_eq!(code(json!({ "allowFrom": ["1"], "groupAllowFrom": ["2"] }), "-1", None, "1"), no);
    assert_eq!(code(json!({ "groupPolicy": "open" }), "-1", None, "9"), yes);
    assert_eq!(code(json!({ "groupPolicy": "open", "groups": { "-2": {} } }), "-1", None, "9"), no);
    assert_eq!(code(json!({ "groupPolicy": "open", "groups": { "*": {} } }), "-1", None, "9"), yes);
    let disabled = "group_policy_disabled";
    assert_eq!(
        code(json!({ "groupPolicy": "disabled", "groupAllowFrom": ["*"] }), "-1", None, "1"),
        disabled
    );
    let off = json!({ "groupPolicy": "open", "groups": { "-1": { "enabled": false }, "*": {} } });
    assert_eq!(code(off, "-1", None, "1"), disabled);
    assert_eq!(group(None, "telegram", "-1", None, "1"), Access::Block(Reason::GroupEmptyAllowlist));
}

#[test]
fn topics_override_their_group() {
    let keys = json!({
        "groupAllowFrom": ["1"],
        "groups": { "-1": {
            "allowFrom": ["2"],
            "topics": { "5": { "allowFrom": ["3"] }, "6": { "groupPolicy": "open" }, "7": { "enabled": false } },
        } },
    });
    let allowed = |topic, sender| code(keys.clone(), "-1", topic, sender) == "group_policy_allowed";
    assert!(allowed(None, "2") && !allowed(None, "1"));
    assert!(allowed(Some("5"), "3") && !allowed(Some("5"), "2"));
    assert!(allowed(Some("6"), "9"));
    assert!(!allowed(Some("7"), "2"));
    assert!(allowed(Some("8"), "2"), "a topic without a row follows its group");
}

#[test]
fn the_gate() {
    let quiet = Mention { required: true, detectable: true, ..Mention::default() };
    assert!(!addressed(quiet));
    for open in [
        Mention { required: false, ..quiet },
        Mention { detectable: false, ..quiet },
        Mention { mentioned: true, ..quiet },
        Mention { reply_to_bot: true, ..quiet },
        Mention { authorised_command: true, ..quiet },
        Mention { always: true, ..quiet },
    ] {
        assert!(addressed(open), "{open:?}");
    }
    let allowed = Access::Allow(Reason::GroupAllowed);
    assert_eq!(group_message(allowed, quiet), Access::NotAddressed);
    let blocked = Access::Block(Reason::GroupDisabled);
    assert_eq!(
        group_message(blocked, Mention { mentioned: true, ..quiet }),
        blocked,
        "a mention opens no closed group"
    );
}

#[test]
fn senders_are_found_by_id() {
    let found = |entry: &str, channel: &str, sender: &str| listed(&[entry.to_owned()], channel, sender);
    for (entry, channel, sender) in [
        ("123", "telegram", "123"),
        (" TG:123 ", "telegram", "123"),
        ("telegram:user:123", "telegram", "123"),
        ("+49 (151) 123-45", "whatsapp", "+4915112345"),
        ("U01ABC", "slack", "u01abc"),
        ("@alice:example.org", "matrix", "@alice:example.org"),
    ] {
        assert_eq!(found(entry, channel, sender), Some(Match::Id), "{entry}");
    }
    for (entry, channel, sender) in [
        ("discord:123", "telegram", "123"),
        ("1234", "telegram", "123"),
        ("", "telegram", ""),
        ("123", "telegram", ""),
        ("+", "whatsapp", ""),
        ("@alice:evil.org", "matrix", "@alice:example.org"),
    ] {
        assert_eq!(found(entry, channel, sender), None, "{entry}");
    }
    assert_eq!(found("*", "telegram", ""), Some(Match::Wildcard));
    assert_eq!(listed(&["*".into(), "1".into()], "telegram", "1"), Some(Match::Id));
}

#[test]
fn commands_and_owners() {
    let commands = |value: Value| ConfigView::from_value(&json!({ "commands": value })).commands;
    let lists = ["*".to_owned(), "1".to_owned()];
    let facts = |sender| CommandFacts {
        channel: "telegram",
        sender,
        allowed: true,
        owner_only: false,
        allow_from: &lists,
    };
    let plain = commands(json!({}));
    assert!(may_command(&plain, facts("2")), "whoever passed the door");
    assert!(!may_command(&plain, CommandFacts { allowed: false, ..facts("2") }));
    assert!(is_owner(&plain, facts("1")), "named in allowFrom");
    assert!(!is_owner(&plain, facts("2")), "a wildcard makes nobody an owner");
    assert!(!may_command(&plain, CommandFacts { owner_only: true, ..facts("2") }));
    assert!(may_command(&plain, CommandFacts { owner_only: true, ..facts("1") }));
    let open = commands(json!({ "useAccessGroups": false }));
    assert!(may_command(&open, CommandFacts { allowed: false, ..facts("2") }));
    let own = commands(
        json!({ "allowFrom": { "telegram": [2], "*": ["3"] }, "ownerAllowFrom": ["telegram:9", "*"] }),
    );
    assert!(may_command(&own, CommandFacts { allowed: false, ..facts("2") }));
    assert!(!may_command(&own, facts("1")), "the list is the only source");
    assert!(may_command(&own, CommandFacts { channel: "slack", ..facts("3") }));
    assert!(is_owner(&own, facts("9")) && !is_owner(&own, facts("1")) && !is_owner(&own, facts("8")));
}
