//! Models that fail: how often they are asked, who answers instead, what the user is told.

use super::{agent, asked, for_model, history, scene, scene_with, send, slow, then, when};
use harness::gateway::TOKEN;
use harness::http;
use harness::model_server::{Fault, Reply, Rule, State};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::json;
use std::time::Duration;

fn once(reply: Reply) -> Rule {
    Rule { times: Some(1), reply, ..Rule::default() }
}

#[tokio::test]
async fn a_model_is_asked_four_times_in_a_turn_and_then_the_user_hears_why() {
    let (_gateway, model, mut client) =
        scene(vec![], Reply::fault(Fault::Status { status: 500, body: "broken".to_owned() })).await;
    let end = client.chat("main", "hello").await;
    assert_eq!(end["state"], "error", "{end}");
    assert!(end["errorMessage"].as_str().is_some_and(|text| text.contains("double/m1")), "{end}");
    assert_eq!(asked(&model).len(), 4);
    // Said once in the conversation, and the next turn has its own four.
    client.chat("main", "again").await;
    assert_eq!(asked(&model).len(), 8);
}

#[tokio::test]
async fn a_model_that_failed_in_a_turn_is_not_asked_again_in_it() {
    let rules = vec![
        for_model("m1", Reply::fault(Fault::RateLimit { retry_after: None })),
        then("done"),
        when("", Reply::call("ls", json!({"path": "."}))),
    ];
    let config =
        json!({"agents": {"defaults": {"model": {"primary": "double/m1", "fallbacks": ["double/m2"]}}}});
    let (_gateway, model, mut client) = scene_with(rules, Reply::text("unused"), config).await;
    let end = client.chat("main", "look around").await;
    assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "done"), "{end}");
    let models: Vec<String> =
        asked(&model).iter().map(|entry| entry.body["model"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(models, ["m1", "m1", "m1", "m1", "m2", "m2"]);
    let told: Vec<_> = client
        .events
        .iter()
        .filter(|event| event["event"] == "agent" && event["payload"]["data"]["phase"] == "fallback")
        .collect();
    assert_eq!(told.len(), 1, "told once: {told:?}");
    let data = &told[0]["payload"]["data"];
    assert_eq!((&data["selectedModel"], &data["activeModel"]), (&json!("double/m1"), &json!("double/m2")));
    assert_eq!(data["reason"], "rate_limit");
}

#[tokio::test]
async fn the_pause_that_a_model_asks_for_is_kept() {
    let limited = once(Reply::fault(Fault::RateLimit { retry_after: Some("1".to_owned()) }));
    let (_gateway, model, mut client) = scene(vec![limited], Reply::default()).await;
    let end = client.chat("main", "hello").await;
    assert_eq!(end["state"], "final", "{end}");
    let entries = asked(&model);
    let pause = entries[1].at - entries[0].at;
    assert!((Duration::from_millis(950)..Duration::from_secs(5)).contains(&pause), "{pause:?}");

    // A longer one than the bound is not waited for.
    let long = Reply::fault(Fault::RateLimit { retry_after: Some("3600".to_owned()) });
    let (_gateway, model, mut client) = scene(vec![], long).await;
    let end = client.chat("main", "hello").await;
    assert_eq!((end["state"].as_str(), asked(&model).len()), (Some("error"), 1), "{end}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_asked_for_again_and_never_shown_as_an_answer() {
    for fault in [Fault::Truncate { after: 3 }, Fault::Disconnect { after: 3 }] {
        let broken = Reply { chunk_chars: 4, delay_ms: 30, ..Reply::text("a wrong beginning of it") };
        let rules = vec![once(broken.with_fault(fault.clone()))];
        let (_gateway, model, mut client) = scene(rules, Reply::text("the whole answer")).await;
        let end = client.chat("main", "hello").await;
        assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "the whole answer"));
        assert_eq!(asked(&model).len(), 2, "{fault:?}");
        let last = client
            .events
            .iter()
            .rev()
            .find(|event| event["event"] == "chat" && event["payload"]["state"] == "delta");
        let shown = last.expect("a delta")["payload"].to_string();
        assert!(!shown.contains("wrong"), "what broke off is void: {shown}");
        let messages = history(&mut client, "main").await;
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(!messages[1].to_string().contains("wrong"), "{messages:?}");
    }
}

#[tokio::test]
async fn a_completion_over_http_ends_with_the_whole_answer_when_a_stream_broke_off() {
    let broken = Reply { chunk_chars: 4, delay_ms: 30, ..Reply::text("a wrong beginning of it") };
    let rules = vec![once(broken.with_fault(Fault::Truncate { after: 3 }))];
    let (gateway, _model, _client) = scene(rules, Reply::text("the whole answer")).await;
    let body =
        json!({"model": "openclaw", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let answer =
        http::post_json(gateway.port, "/v1/chat/completions", Some(TOKEN), &body).await.expect("an answer");
    let text: String = answer
        .text()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(text.ends_with("the whole answer"), "{text}");
}

#[tokio::test]
async fn a_run_ends_with_its_time_and_leaves_the_model() {
    let (_gateway, model, mut client) = scene(vec![], slow(&"word ".repeat(2000))).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "t", "timeoutMs": 700});
    client.call("chat.send", params).await.expect("accepted");
    let end = client.chat_end("t").await;
    assert_eq!(
        (end["state"].as_str(), end["stopReason"].as_str()),
        (Some("aborted"), Some("timeout")),
        "{end}"
    );
    let waited = client.call("agent.wait", json!({"runId": "t", "timeoutMs": 0})).await.expect("known");
    assert_eq!(waited["status"], "timeout");
    assert!(waited["endedAt"].is_i64(), "{waited}");
    model.wait_for("the gateway leave", |book| book.iter().all(|e| e.state == State::LeftByClient)).await;
    // The partial answer is kept, with its mark.
    let messages = history(&mut client, "main").await;
    assert_eq!(messages.len(), 2, "{messages:?}");
    // The time counts over attempts: a model that never answers ends the run, too.
    let (_gateway, _model, mut client) = scene(vec![], Reply::fault(Fault::Stall { after: 0 })).await;
    let params = json!({"message": "count", "idempotencyKey": "t2", "timeout": 1});
    let done = agent(&mut client, params).await.expect("an answer");
    assert_eq!(done["summary"], "timeout", "{done}");
}

#[tokio::test]
async fn a_wait_ends_with_its_time_and_stops_nothing() {
    let (_gateway, _model, mut client) = scene(vec![], slow("one two three four five six")).await;
    send(&mut client, "main", "count", "w").await;
    let now = client.call("agent.wait", json!({"runId": "w", "timeoutMs": 0})).await.expect("an answer");
    assert_eq!(now, json!({"runId": "w", "status": "timeout"}));
    let done = client.call("agent.wait", json!({"runId": "w"})).await.expect("an answer");
    assert_eq!(done["status"], "ok", "{done}");
    assert!(done["startedAt"].as_i64() <= done["endedAt"].as_i64());
    let before = std::time::Instant::now();
    let unknown =
        client.call("agent.wait", json!({"runId": "nobody", "timeoutMs": 300})).await.expect("an answer");
    assert_eq!(unknown, json!({"runId": "nobody", "status": "timeout"}));
    assert!(before.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_known_key_is_answered_from_the_journal_by_a_warm_agent_too() {
    let (mut gateway, model, mut client) = scene(vec![], Reply::default()).await;
    send(&mut client, "main", "once", "same").await;
    client.chat_end("same").await;
    assert!(gateway.terminate().success());
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("agent:main:other", "wake up").await;
    let again = send(&mut client, "main", "once", "same").await;
    assert_eq!(again["status"], "ok", "{again}");
    let twice = agent(&mut client, json!({"message": "x", "idempotencyKey": "a"})).await.expect("done");
    assert_eq!(twice["status"], "ok");
    assert_eq!(asked(&model).len(), 3);
}

#[tokio::test]
async fn a_stop_during_the_pause_before_a_repetition_ends_the_run_at_once() {
    let limited = Reply::fault(Fault::RateLimit { retry_after: Some("50".to_owned()) });
    let (_gateway, model, mut client) = scene(vec![], limited).await;
    send(&mut client, "main", "hello", "p").await;
    model.wait_for("a request", |book| !book.is_empty()).await;
    let stopped = client.call("chat.abort", json!({"sessionKey": "main"})).await.expect("abort");
    assert_eq!(stopped["runIds"], json!(["p"]));
    let end = client.chat_end("p").await;
    assert_eq!(end["state"], "aborted", "{end}");
    wait::until("the session is idle", async || {
        let status = client.call("agent.wait", json!({"runId": "p", "timeoutMs": 0})).await.ok()?;
        status["endedAt"].is_i64().then_some(())
    })
    .await;
    assert_eq!(asked(&model).len(), 1);
}
