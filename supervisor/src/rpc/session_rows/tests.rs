use super::*;

fn row(key: &str, entry: Value) -> (SessionRow, Value) {
    let row = SessionRow {
        key: key.to_owned(),
        agent_id: "main".to_owned(),
        session_id: "5a6c48cb-6dc9".to_owned(),
        updated_ms: 1_000,
        entry_json: entry.to_string(),
        ..SessionRow::default()
    };
    (row, entry)
}

fn defaults() -> Defaults {
    Defaults { provider: Some("mock".into()), model: Some("mock-1".into()), context_tokens: Some(128_000) }
}

#[test]
fn keys_and_chat_types_tell_the_kind() {
    let none = json!({});
    assert_eq!(kind("global", &none), "global");
    assert_eq!(kind("unknown", &none), "unknown");
    assert_eq!(kind("agent:main:main", &none), "direct");
    assert_eq!(kind("agent:main:telegram:group:-1", &none), "group");
    assert_eq!(kind("agent:main:x", &json!({"chatType": "channel"})), "group");
    assert!(is_job_run("agent:main:cron:j:run:1") && !is_job_run("agent:main:cron:j"));
}

#[test]
fn the_sessions_own_model_comes_before_the_last_one_and_the_agents() {
    let of = |entry: Value| {
        let (provider, model) = model_of(&entry, &defaults());
        format!("{}/{}", provider.unwrap_or_default(), model.unwrap_or_default())
    };
    assert_eq!(of(json!({})), "mock/mock-1");
    assert_eq!(of(json!({"modelProvider": "a", "model": "b"})), "a/b");
    assert_eq!(of(json!({"modelProvider": "a", "model": "b", "modelOverride": "c/d/e"})), "c/d/e");
    assert_eq!(of(json!({"providerOverride": "c", "modelOverride": "d"})), "c/d");
}

#[test]
fn rows_of_both_protocols() {
    let entry = json!({
        "sessionId": "5a6c48cb-6dc9", "label": "l", "totalTokens": 100, "contextTokens": 1000, "verboseLevel": null,
        "derivedTitle": "first words", "systemPromptReport": "bulky",
    });
    let (row, entry) = row("agent:main:main", entry);
    let mut style = Style { protocol: 3, now_ms: 2_000, ..Style::default() };
    assert_eq!(
        list_row(&row, &entry, &defaults(), &style),
        json!({
            "key": "agent:main:main", "kind": "direct", "label": "l", "totalTokens": 100, "updatedAt": 1_000,
            "sessionId": "5a6c48cb-6dc9", "modelProvider": "mock", "model": "mock-1", "contextTokens": 1_000,
        })
    );
    style.protocol = 4;
    style.titles = true;
    style.active.insert("agent:main:main".to_owned());
    let later = list_row(&row, &entry, &defaults(), &style);
    assert_eq!(later["derivedTitle"], "first words");
    assert_eq!((&later["isMain"], &later["classification"]), (&json!(true), &json!("main")));
    assert_eq!((&later["hasActiveRun"], &later["status"]), (&json!(true), &json!("running")));

    let shown = status_row(&row, &defaults(), 3, 2_500);
    assert_eq!(
        (&shown["age"], &shown["remainingTokens"], &shown["percentUsed"]),
        (&json!(1_500), &json!(900), &json!(10))
    );
    assert_eq!(shown["flags"], json!(["id:5a6c48cb-6dc9"]));
    assert_eq!(shown.get("selectedModel"), None);
    assert_eq!(status_row(&row, &defaults(), 4, 0)["selectedModel"], "mock/mock-1");
}

#[test]
fn a_model_alias_stands_for_its_key() {
    let config = json!({"agents": {"defaults": {"models": {"a/b": {"alias": "fast"}}}},
        "models": {"providers": {"a": {"models": [{"id": "b", "contextWindow": 5}]}}}});
    assert_eq!(unaliased(&config, "fast"), "a/b");
    assert_eq!(unaliased(&config, "c/d"), "c/d");
    assert_eq!(context_window(&config, "a", "b"), Some(5));
    assert_eq!(context_window(&config, "x", "b"), None);
}
