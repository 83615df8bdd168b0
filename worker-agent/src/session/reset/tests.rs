use super::*;
use serde_json::json;

fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn at(text: &str) -> i64 {
    text.parse::<jiff::Zoned>().unwrap().timestamp().as_millisecond()
}

fn rule(value: Value) -> Rule {
    serde_json::from_value(value).unwrap()
}

#[test]
fn the_daily_boundary_is_local_and_lies_in_the_past() {
    let evening = at("2026-02-01T23:00[Europe/Berlin]");
    let daily = Rule::default();
    assert_eq!(stale(&daily, evening, at("2026-02-02T03:59[Europe/Berlin]"), &zone()), None);
    assert_eq!(stale(&daily, evening, at("2026-02-02T04:01[Europe/Berlin]"), &zone()), Some(Stale::Daily));
    // The night in which clocks go forward has no 02:30.
    let spring = rule(json!({"mode": "daily", "atHour": 2}));
    let before = at("2026-03-28T23:00[Europe/Berlin]");
    assert_eq!(stale(&spring, before, at("2026-03-29T03:30[Europe/Berlin]"), &zone()), Some(Stale::Daily));
}

#[test]
fn idle_and_both_and_none() {
    let minute = 60_000;
    let now = at("2026-02-02T12:00[Europe/Berlin]");
    let idle = rule(json!({"mode": "idle"}));
    assert_eq!(stale(&idle, now - 60 * minute, now, &zone()), None);
    assert_eq!(stale(&idle, now - 61 * minute, now, &zone()), Some(Stale::Idle));
    let both = rule(json!({"mode": "daily", "idleMinutes": 10}));
    assert_eq!(stale(&both, now - 11 * minute, now, &zone()), Some(Stale::Idle));
    assert_eq!(stale(&rule(json!({"mode": "none", "idleMinutes": 1})), 0, now, &zone()), None);
}

#[test]
fn the_most_special_rule_wins() {
    let settings: ResetSettings = serde_json::from_value(json!({
        "dmScope": "main",
        "reset": {"mode": "daily", "atHour": 5},
        "resetByType": {"group": {"mode": "idle", "idleMinutes": 7}, "dm": {"mode": "none"}},
        "resetByChannel": {"discord": {"mode": "idle", "idleMinutes": 9}},
    }))
    .unwrap();
    let minutes = |key: &str, channel| settings.rule(key, channel).idle_minutes;
    assert_eq!(minutes("agent:main:telegram:group:1", Some("telegram")), Some(7));
    assert_eq!(minutes("agent:main:telegram:group:1", Some("discord")), Some(9));
    assert_eq!(settings.rule("agent:main:main", None).mode, Some(Mode::None));
    assert_eq!(settings.rule("agent:main:x:group:1:topic:2", None).at_hour, Some(5));
    let legacy: ResetSettings = serde_json::from_value(json!({"idleMinutes": 3})).unwrap();
    assert_eq!(legacy.rule("agent:main:main", None).mode, Some(Mode::Idle));
}

#[test]
fn triggers_stand_alone_or_before_a_space() {
    let settings = ResetSettings::default();
    assert_eq!(settings.trigger("/NEW"), Some(Trigger { is_new: true, rest: "" }));
    assert_eq!(
        settings.trigger(" /reset  hello there"),
        Some(Trigger { is_new: false, rest: "hello there" })
    );
    assert_eq!(settings.trigger("/newer"), None);
    assert_eq!(settings.trigger("say /new"), None);
}

#[test]
fn what_a_reset_keeps() {
    let old = SessionEntry(
        json!({"sessionId": "a", "updatedAt": 1, "label": "L", "thinkingLevel": "high", "modelOverride": "m",
            "totalTokens": 5, "memoryFlushAt": 3, "lastChannel": "telegram", "compactionCount": 4})
        .as_object()
        .unwrap()
        .clone(),
    );
    insta::assert_json_snapshot!("asked", next_entry(&old, "b", true, 9).0);
    insta::assert_json_snapshot!("expired", next_entry(&old, "b", false, 9).0);
}
