//! Messages that come while an agent is busy, several agents, and how many run at once.

use super::{agent, asked, history, scene_with, send, slow, users, when};
use harness::gateway::command_line;
use harness::model_server::{Entry, Reply, State};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

fn queue(mode: &str, debounce_ms: u64) -> Value {
    json!({"messages": {"queue": {"mode": mode, "debounceMs": debounce_ms}}})
}

/// The terminal event of another run than these.
async fn other_end(client: &mut WsClient, known: &[&str]) -> Value {
    let event = client
        .event_where("chat", |payload| {
            payload["state"] == "final"
                && payload["message"].is_object()
                && !known.contains(&payload["runId"].as_str().unwrap_or(""))
        })
        .await;
    event["payload"].clone()
}

#[tokio::test]
async fn collect_makes_one_turn_of_what_came_meanwhile() {
    let rules = vec![when("long", slow(&"word ".repeat(30)))];
    let (_gateway, model, mut client) = scene_with(rules, Reply::default(), queue("collect", 50)).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    for (key, text) in [("b", "first"), ("c", "second"), ("d", "third")] {
        let sent = send(&mut client, "main", text, key).await;
        assert_eq!(sent["status"], "started", "{sent}");
    }
    client.chat_end("a").await;
    let merged = other_end(&mut client, &["a"]).await;
    let said = chat_text(&merged);
    assert!(said.contains("[Queued messages while agent was busy]"), "{said}");
    for (n, text) in ["first", "second", "third"].iter().enumerate() {
        assert!(said.contains(&format!("---\nQueued #{}\n{text}", n + 1)), "{said}");
    }
    assert_eq!(asked(&model).len(), 2, "one turn for all three");
    for key in ["b", "c", "d"] {
        let done = client.call("agent.wait", json!({"runId": key, "timeoutMs": 0})).await.expect("known");
        assert_eq!(done["status"], "ok", "{key}: {done}");
    }
}

/// A row of the journal holds less than these together.
#[tokio::test]
async fn waiting_messages_that_do_not_fit_into_one_turn_get_several() {
    let rules = vec![when("long", slow(&"word ".repeat(30)))];
    let (_gateway, model, mut client) = scene_with(rules, Reply::text("heard"), queue("collect", 50)).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    for n in 1..=6 {
        let text = format!("mark-{n} {}", "x".repeat(90_000));
        send(&mut client, "main", &text, &format!("q{n}")).await;
    }
    for n in 1..=6 {
        let done = json!({"runId": format!("q{n}"), "timeoutMs": 60_000});
        let done = client.call("agent.wait", done).await.expect("known");
        assert_eq!(done["status"], "ok", "q{n}: {done}");
    }
    let last = asked(&model).pop().expect("requests");
    let heard = users(&last).concat();
    let times = |n: i32| heard.matches(&format!("mark-{n} ")).count();
    assert_eq!((1..=6).map(times).collect::<Vec<_>>(), [1; 6], "each once");
}

#[tokio::test]
async fn a_command_among_waiting_messages_is_still_a_command() {
    for mode in ["collect", "steer"] {
        let rules = vec![when("long", slow(&"word ".repeat(30)))];
        let (_gateway, model, mut client) = scene_with(rules, Reply::default(), queue(mode, 0)).await;
        send(&mut client, "main", "long", "a").await;
        client.event_where("chat", |payload| payload["state"] == "delta").await;
        send(&mut client, "main", "/status", "s").await;
        send(&mut client, "main", "first", "b").await;
        let card = chat_text(&client.chat_end("s").await);
        assert!(card.contains("Model: double/m1"), "{mode}: {card}");
        let done = client.call("agent.wait", json!({"runId": "b"})).await.expect("known");
        assert_eq!(done["status"], "ok", "{mode}: {done}");
        let heard: Vec<String> = asked(&model).iter().flat_map(users).collect();
        assert!(heard.iter().any(|text| text.contains("first")), "{mode}: {heard:?}");
        assert!(!heard.iter().any(|text| text.contains("/status")), "{mode}: {heard:?}");
    }
}

#[tokio::test]
async fn a_queue_that_overflows_says_what_it_dropped() {
    let rules = vec![when("long", slow(&"word ".repeat(40)))];
    let config =
        json!({"messages": {"queue": {"mode": "collect", "debounceMs": 50, "cap": 2, "drop": "summarize"}}});
    let (_gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    for n in 1..=4 {
        send(&mut client, "main", &format!("message {n}"), &format!("q{n}")).await;
    }
    other_end(&mut client, &["a"]).await;
    let said = users(&asked(&model)[1]).pop().expect("a message");
    assert!(said.contains("Dropped 2 message"), "{said}");
    assert!(said.contains("- message 1") && said.contains("- message 2"), "{said}");
    assert!(said.contains("agent was busy]\n\n[Queue overflow]"), "{said}");
    assert!(said.contains("Queued #1\nmessage 3") && said.contains("Queued #2\nmessage 4"), "{said}");
}

#[tokio::test]
async fn a_steering_message_is_answered_in_the_same_run() {
    let rules = vec![
        when(
            "go",
            Reply::call("exec", json!({"command": "touch running; while [ ! -e on ]; do sleep 0.05; done"})),
        ),
        when("left", Reply::text("I turn left")),
    ];
    let (gateway, model, mut client) = scene_with(rules, Reply::default(), queue("steer", 0)).await;
    send(&mut client, "main", "go", "a").await;
    wait::until("the tool runs", async || gateway.workspace().join("running").exists().then_some(())).await;
    send(&mut client, "main", "turn left", "b").await;
    std::fs::write(gateway.workspace().join("on"), "").expect("a file");
    let end = client.chat_end("a").await;
    assert!(chat_text(&end).contains("I turn left"), "{end}");
    assert_eq!(asked(&model).len(), 2);
    let known = client.call("agent.wait", json!({"runId": "b", "timeoutMs": 20_000})).await.expect("known");
    assert_eq!(known["status"], "ok", "{known}");
}

#[tokio::test]
async fn an_interrupting_message_ends_the_run_and_is_answered() {
    let rules = vec![when("long", slow(&"word ".repeat(400)))];
    let (_gateway, _model, mut client) = scene_with(rules, Reply::default(), queue("interrupt", 0)).await;
    send(&mut client, "main", "long", "a").await;
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    send(&mut client, "main", "short", "b").await;
    assert_eq!(client.chat_end("a").await["state"], "aborted");
    let end = other_end(&mut client, &["a"]).await;
    assert!(chat_text(&end).contains("short"), "{end}");
}

/// The most completions that were under way at the same time so far.
fn running(book: &[Entry]) -> usize {
    book.iter().filter(|entry| entry.path.ends_with("completions") && entry.state == State::Answering).count()
}

#[tokio::test]
async fn no_more_runs_than_allowed_over_all_agents() {
    let config = json!({"agents": {
        "defaults": {"maxConcurrent": 2},
        "list": [{"id": "main", "default": true}, {"id": "second"}],
    }});
    let (_gateway, model, mut client) = scene_with(vec![], slow("a b c d e f g h i j k l"), config).await;
    let sessions = ["agent:main:a", "agent:main:b", "agent:second:a", "agent:second:b", "agent:second:c"];
    let mut keys = Vec::new();
    for (n, session) in sessions.iter().enumerate() {
        let key = format!("k{n}");
        send(&mut client, session, "hello", &key).await;
        keys.push(key);
    }
    let mut most = 0;
    model
        .wait_for("all answered", |book| {
            most = most.max(running(book));
            book.iter().filter(|entry| entry.state == State::Answered).count() == sessions.len()
        })
        .await;
    assert_eq!(most, 2);
    for key in keys {
        assert_eq!(client.chat_end(&key).await["state"], "final");
    }
}

#[tokio::test]
async fn a_second_agent_starts_when_it_is_asked_and_has_its_own_place() {
    let config = json!({"agents": {"list": [{"id": "main", "default": true}, {"id": "second"}]}});
    let (gateway, model, mut client) = scene_with(vec![], Reply::default(), config).await;
    // Checks of the configuration run the same program for a moment.
    let workers = async |wanted: usize| {
        wait::until(&format!("{wanted} agents run"), async || {
            let pids = gateway.workers("openclaw-agent").into_iter();
            let workers = pids.filter(|pid| !command_line(*pid).contains("--")).count();
            (workers == wanted).then_some(())
        })
        .await;
    };
    workers(1).await;
    let done = agent(&mut client, json!({"message": "hello", "agentId": "second", "idempotencyKey": "s"}));
    assert_eq!(done.await.expect("done")["status"], "ok");
    workers(2).await;
    let system = super::system(&asked(&model)[0]);
    assert!(system.contains("agent=second") && system.contains("workspace-second"), "{system}");
    assert!(gateway.state_dir().join("agents/second/sessions/sessions.json").exists());
    assert_eq!(history(&mut client, "main").await.len(), 0, "nothing of it in the other agent");
    let refused = client
        .call("agent", json!({"message": "x", "agentId": "nobody", "idempotencyKey": "n"}))
        .await
        .expect_err("unknown");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("nobody")), "{refused}");
}
