//! `sessions.*`, `agents.*` and what else an agent is asked about.

use harness::gateway::TestGateway;
use harness::wait;
use harness::ws_client::WsClient;
use serde_json::{Value, json};

const SIDE: &str = "agent:main:side";

/// A gateway whose agent has talked in its main session and in one beside it.
async fn two_sessions() -> (TestGateway, WsClient) {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    assert_eq!(client.chat("main", "first words of the main one").await["state"], "final");
    assert_eq!(client.chat("side", "a side matter").await["state"], "final");
    (gateway, client)
}

fn keys(list: &Value) -> Vec<&str> {
    list["sessions"].as_array().expect("rows").iter().filter_map(|row| row["key"].as_str()).collect()
}

fn message(error: &Value) -> &str {
    error["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn the_list_is_filtered_paged_and_told_in_both_protocols() {
    let (gateway, mut client) = two_sessions().await;
    let all = client.call("sessions.list", json!({"someLaterKey": 1})).await.expect("list");
    assert_eq!(keys(&all), [SIDE, "agent:main:main"], "newest first: {all}");
    assert_eq!((&all["count"], &all["totalCount"], &all["hasMore"]), (&json!(2), &json!(2), &json!(false)));
    assert_eq!((&all["nextOffset"], &all["limitApplied"]), (&Value::Null, &json!(100)));
    assert_eq!(
        (&all["defaults"]["modelProvider"], &all["defaults"]["model"]),
        (&json!("demo"), &json!("demo"))
    );
    let row = &all["sessions"][1];
    assert_eq!(
        (&row["kind"], &row["isMain"], &row["hasActiveRun"]),
        (&json!("direct"), &json!(true), &json!(false))
    );
    assert!(row["sessionId"].is_string() && row["updatedAt"].is_i64(), "{row}");
    assert!(row.get("derivedTitle").is_none() && row.get("lastMessagePreview").is_none(), "{row}");

    let page = client.call("sessions.list", json!({"limit": 1})).await.expect("list");
    assert_eq!((keys(&page), &page["nextOffset"], &page["hasMore"]), (vec![SIDE], &json!(1), &json!(true)));
    let page = client.call("sessions.list", json!({"limit": 1, "offset": 1})).await.expect("list");
    assert_eq!((keys(&page), &page["hasMore"]), (vec!["agent:main:main"], &json!(false)));
    for (filter, want) in [
        (json!({"search": "SIDE"}), vec![SIDE]),
        (json!({"agentId": "nobody"}), vec![]),
        (json!({"label": "none"}), vec![]),
        (json!({"spawnedBy": "agent:main:main"}), vec![]),
        (json!({"activeMinutes": 5, "agentId": "Main"}), vec![SIDE, "agent:main:main"]),
    ] {
        let found = client.call("sessions.list", filter.clone()).await.expect("list");
        assert_eq!(keys(&found), want, "{filter}");
    }
    let titled = json!({"includeDerivedTitles": true, "includeLastMessage": true});
    let titled = client.call("sessions.list", titled).await.expect("list");
    assert_eq!(titled["sessions"][1]["derivedTitle"], "first words of the main one", "{titled}");
    assert!(titled["sessions"][1]["lastMessagePreview"].is_string(), "{titled}");
    let refused = client.call("sessions.list", json!({"limit": 0})).await.expect_err("a limit of nothing");
    assert!(message(&refused).contains("/limit"), "{refused}");

    let mut older = WsClient::cli(gateway.port, 3).await;
    let list = older.call("sessions.list", json!({})).await.expect("list");
    assert_eq!(list["path"], "(multiple)");
    let names: Vec<&String> = list.as_object().expect("an object").keys().collect();
    assert_eq!(names.len(), 5, "only what the earlier release sends: {names:?}");
    assert!(list["sessions"][0].get("hasActiveRun").is_none(), "{list}");
}

#[tokio::test]
async fn a_patched_session_is_found_by_its_label_and_id() {
    let (gateway, mut client) = two_sessions().await;
    client.call("sessions.subscribe", json!({})).await.expect("subscribed");
    let patch = json!({"key": "side", "label": "work", "thinkingLevel": "low"});
    let patched = client.call("sessions.patch", patch).await.expect("patched");
    assert_eq!((&patched["key"], &patched["entry"]["label"]), (&json!(SIDE), &json!("work")), "{patched}");
    client.event_where("sessions.changed", |payload| payload["reason"] == "patch").await;
    let list = client.call("sessions.list", json!({"label": "work"})).await.expect("list");
    assert_eq!((keys(&list), &list["sessions"][0]["thinkingLevel"]), (vec![SIDE], &json!("low")));

    let taken = client.call("sessions.patch", json!({"key": "main", "label": "work"})).await;
    assert!(message(&taken.expect_err("a label is one session's")).contains("label already in use: work"));
    let id = patched["entry"]["sessionId"].as_str().expect("an id").to_owned();
    for params in [json!({"label": "work"}), json!({"sessionId": id}), json!({"key": "side"})] {
        let found = client.call("sessions.resolve", params.clone()).await.expect("found");
        assert_eq!(
            (&found["ok"], &found["key"], &found["agentId"]),
            (&json!(true), &json!(SIDE), &json!("main")),
            "{params}"
        );
    }
    for (params, why) in [
        (json!({}), "Either key, sessionId, or label is required"),
        (json!({"key": "a", "label": "b"}), "Provide either key, sessionId, or label (not multiple)"),
        (json!({"label": "play"}), "No session found with label: play"),
        (json!({"key": "nowhere"}), "No session found: agent:main:nowhere"),
    ] {
        let refused = client.call("sessions.resolve", params).await.expect_err("not found");
        assert_eq!(message(&refused), why);
    }
    let missing = json!({"key": "nowhere", "allowMissing": true});
    assert_eq!(client.call("sessions.resolve", missing).await.expect("asked for"), json!({"ok": false}));
    let mut older = WsClient::cli(gateway.port, 3).await;
    let found = older.call("sessions.resolve", json!({"label": "work"})).await.expect("found");
    assert_eq!(found, json!({"ok": true, "key": SIDE}));

    let described = client.call("sessions.describe", json!({"key": "side"})).await.expect("described");
    assert_eq!(described["session"]["label"], "work", "{described}");
    let cleared = json!({"key": "side", "label": null});
    client.call("sessions.patch", cleared).await.expect("cleared");
    let list = client.call("sessions.list", json!({"label": "work"})).await.expect("list");
    assert_eq!(keys(&list), [""; 0]);
}

#[tokio::test]
async fn a_reset_session_begins_anew_and_forgets_what_waited() {
    let gateway = TestGateway::builder()
        .config(json!({"messages": {"queue": {"mode": "followup", "debounceMs": 0}}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "remember this").await;
    let before = client.call("sessions.list", json!({})).await.expect("list");
    let send = |key: &str, text: &str| json!({"sessionKey": "main", "message": text, "idempotencyKey": key});
    client.call("chat.send", send("long", "run: sleep 30")).await.expect("accepted");
    client.event_where("agent", |payload| payload["data"]["phase"] == "start").await;
    client.call("chat.send", send("waits", "never to be answered")).await.expect("accepted");

    let reset = client.call("sessions.reset", json!({"key": "main", "reason": "new"})).await.expect("reset");
    let id = reset["entry"]["sessionId"].as_str().expect("an id");
    assert_ne!(Some(id), before["sessions"][0]["sessionId"].as_str());
    assert_eq!(client.chat_end("long").await["state"], "aborted");
    let list = client.call("sessions.list", json!({"includeDerivedTitles": true})).await.expect("list");
    assert_eq!((list["sessions"][0]["sessionId"].as_str(), &list["count"]), (Some(id), &json!(1)), "{list}");
    assert_ne!(list["sessions"][0]["derivedTitle"], "remember this", "{list}");
    assert_eq!(client.chat("main", "and now?").await["state"], "final");
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    let text = history["messages"].to_string();
    assert!(text.contains("and now?") && !text.contains("remember") && !text.contains("never"), "{history}");
    let refused = client.call("sessions.reset", json!({"key": "main", "reason": "bored"})).await;
    assert!(message(&refused.expect_err("an unknown reason")).contains("/reason"));
}

#[tokio::test]
async fn sessions_are_deleted_compacted_and_looked_into() {
    let (_gateway, mut client) = two_sessions().await;
    client.call("sessions.subscribe", json!({})).await.expect("subscribed");
    let keys_asked = json!(["side", "agent:main:main", "nowhere", "agent:nobody:main"]);
    let preview =
        client.call("sessions.preview", json!({"keys": keys_asked, "limit": 5})).await.expect("preview");
    let rows = preview["previews"].as_array().expect("rows");
    let shown: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["key"].as_str().unwrap_or(""), row["status"].as_str().unwrap_or("")))
        .collect();
    let want =
        [("side", "ok"), ("agent:main:main", "ok"), ("nowhere", "missing"), ("agent:nobody:main", "missing")];
    assert_eq!(shown, want, "in the order asked: {preview}");
    assert!(rows[0]["items"].to_string().contains("a side matter"), "{preview}");
    assert!(rows[1]["items"].to_string().contains("first words"), "{preview}");
    let got = client.call("sessions.get", json!({"key": "side"})).await.expect("messages");
    assert_eq!(got["messages"].as_array().map(Vec::len), Some(2), "{got}");

    let compacted =
        client.call("sessions.compact", json!({"key": "side", "maxLines": 1})).await.expect("compact");
    assert_eq!((&compacted["compacted"], &compacted["kept"]), (&json!(true), &json!(1)), "{compacted}");

    let refused = client.call("sessions.delete", json!({"key": "main"})).await.expect_err("the main session");
    assert_eq!(message(&refused), "Cannot delete the main session (agent:main:main).");
    let deleted = client.call("sessions.delete", json!({"key": "side"})).await.expect("deleted");
    assert_eq!((&deleted["ok"], &deleted["deleted"]), (&json!(true), &json!(true)), "{deleted}");
    assert_eq!(deleted["archived"].as_array().map(Vec::len), Some(1), "{deleted}");
    client.event_where("sessions.changed", |payload| payload["reason"] == "delete").await;
    let list = client.call("sessions.list", json!({})).await.expect("list");
    assert_eq!(keys(&list), ["agent:main:main"]);
    let again = client.call("sessions.delete", json!({"key": "side"})).await.expect("nothing to do");
    assert_eq!(again["deleted"], false, "{again}");
}

#[tokio::test]
async fn an_agent_tells_what_it_is_and_has() {
    let gateway = TestGateway::builder()
        .config(json!({"agents": {"list": [{"id": "main", "default": true, "identity": {"name": "Robin", "emoji": "🐦"}}, {"id": "sales"}]}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let list = client.call("agents.list", json!({})).await.expect("agents");
    assert_eq!((&list["defaultId"], &list["scope"]), (&json!("main"), &json!("per-sender")), "{list}");
    assert_eq!(list["agents"][0]["identity"]["name"], "Robin");
    for row in list["agents"].as_array().expect("rows") {
        assert_eq!(row["model"]["primary"], "demo/demo", "the page locks its composer without: {row}");
        assert!(row["workspace"].as_str().is_some_and(|path| path.starts_with('/')), "{row}");
    }
    let mut older = WsClient::cli(gateway.port, 3).await;
    let older_list = older.call("agents.list", json!({})).await.expect("agents");
    assert_eq!(older_list["agents"][1], json!({"id": "sales"}));
    assert!(gateway.workers("sales").is_empty(), "a list starts nobody");

    let who = client.call("agent.identity.get", json!({"sessionKey": "main"})).await.expect("identity");
    assert_eq!((&who["agentId"], &who["name"]), (&json!("main"), &json!("Robin")), "{who}");
    let models = client.call("models.list", json!({"view": "configured"})).await.expect("models");
    let rows = models["models"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["provider"] == "demo" && row["id"] == "demo"), "{models}");
    let tools = client.call("tools.catalog", json!({"agentId": "main"})).await.expect("tools");
    assert!(tools["groups"].to_string().contains("\"exec\"") && tools["profiles"].is_array(), "{tools}");
    let skills = client.call("skills.status", json!({})).await.expect("skills");
    assert!(skills["skills"].is_array() && skills["workspaceDir"].is_string(), "{skills}");
    for method in ["agent.identity.get", "models.list", "agents.files.list"] {
        let refused = client.call(method, json!({"agentId": "nobody"})).await.expect_err("no such agent");
        assert_eq!(message(&refused), "unknown agent id \"nobody\"");
    }
}

#[tokio::test]
async fn workspace_files_go_round_and_stay_inside() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let set = json!({"agentId": "main", "name": "SOUL.md", "content": "be kind\n"});
    let set = client.call("agents.files.set", set).await.expect("written");
    assert_eq!((&set["ok"], &set["file"]["missing"]), (&json!(true), &json!(false)), "{set}");
    let got =
        client.call("agents.files.get", json!({"agentId": "main", "name": "SOUL.md"})).await.expect("read");
    assert_eq!(got["file"]["content"], "be kind\n", "{got}");
    assert_eq!(std::fs::read_to_string(gateway.workspace().join("SOUL.md")).expect("on disk"), "be kind\n");
    let list = client.call("agents.files.list", json!({"agentId": "main"})).await.expect("list");
    assert!(list["files"].as_array().expect("rows").iter().any(|row| row["name"] == "SOUL.md"), "{list}");
    for name in ["../openclaw.json", "/etc/passwd", "x/../../openclaw.json", "notes.md"] {
        for (method, params) in [
            ("agents.files.get", json!({"agentId": "main", "name": name})),
            ("agents.files.set", json!({"agentId": "main", "name": name, "content": "x"})),
        ] {
            let refused = client.call(method, params).await.expect_err("outside of the workspace");
            assert!(message(&refused).contains("unsupported file"), "{method} {name}: {refused}");
        }
    }
}

#[tokio::test]
async fn an_agent_that_hangs_is_named_and_lists_still_answer() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    assert_eq!(client.chat("main", "hello").await["state"], "final");
    let worker = gateway.worker("openclaw-agent").await;
    let id = nix::unistd::Pid::from_raw(i32::try_from(worker).expect("a pid"));
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGSTOP).expect("our own worker");
    let list = client.call("sessions.list", json!({})).await.expect("needs no worker");
    assert_eq!(keys(&list), ["agent:main:main"]);
    assert!(client.call("agents.list", json!({})).await.is_ok());
    let refused = client.call("models.list", json!({})).await.expect_err("nobody answers");
    assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
    assert!(message(&refused).starts_with("agent \"main\" does not answer: "), "{refused}");
    wait::until("a new worker answers", async || {
        let answered = client.call("models.list", json!({})).await;
        answered.is_ok().then_some(())
    })
    .await;
}
