//! A message in, a streamed answer out, the transcript on disk.

use harness::gateway::TestGateway;
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

#[tokio::test]
async fn a_chat_message_is_answered_and_written_down() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let answer = client.chat("main", "hello there").await;
    assert_eq!(answer["state"], "final", "{answer}");
    assert!(chat_text(&answer).contains("hello there"), "{answer}");

    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    let roles: Vec<&str> =
        history["messages"].as_array().expect("messages").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant"], "asked on final, history shows the turn: {history}");

    let sessions = client.call("sessions.list", json!({})).await.expect("sessions");
    assert!(
        sessions["sessions"].as_array().expect("rows").iter().any(|row| row["key"] == "agent:main:main"),
        "{sessions}"
    );
    let dir = gateway.state_dir().join("agents/main/sessions");
    let transcripts: Vec<_> = std::fs::read_dir(&dir)
        .expect("sessions directory")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    assert_eq!(transcripts.len(), 1);
    let text = std::fs::read_to_string(transcripts[0].path()).expect("a transcript");
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSONL")).collect();
    assert_eq!(entries[0]["type"], "session");
    assert!(entries.iter().filter(|entry| entry["type"] == "message").count() >= 2);
}

#[tokio::test]
async fn deltas_come_before_the_final_and_run_events_are_numbered_without_gaps() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let key = "run-1";
    let params = json!({"sessionKey": "main", "message": "run: echo out-of-the-tool", "idempotencyKey": key});
    let started = client.call("chat.send", params).await.expect("accepted");
    assert_eq!((started["runId"].as_str(), started["status"].as_str()), (Some(key), Some("started")));
    let mut numbers = Vec::new();
    let mut streams = Vec::new();
    let end = loop {
        client.pump().await.expect("open");
        let mut ended = None;
        while let Some(event) = client.events.pop_front() {
            let payload = &event["payload"];
            if event["event"] == "agent" && payload["runId"] == key {
                numbers.push(payload["seq"].as_u64().expect("a number"));
                let phase = payload["data"]["phase"].as_str().unwrap_or("").to_owned();
                streams.push(format!("{}:{phase}", payload["stream"].as_str().unwrap_or("")));
            }
            if event["event"] == "chat" && payload["runId"] == key && payload["state"] == "final" {
                ended = Some(payload.clone());
            }
        }
        if let Some(end) = ended {
            break end;
        }
    };
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(streams.first().map(String::as_str), Some("lifecycle:start"));
    assert_eq!(streams.last().map(String::as_str), Some("lifecycle:end"));
    let tool: Vec<&String> = streams.iter().filter(|stream| stream.starts_with("tool:")).collect();
    assert!(
        tool.contains(&&"tool:start".to_owned()) && tool.contains(&&"tool:result".to_owned()),
        "{streams:?}"
    );
    assert!(chat_text(&end).contains("out-of-the-tool"), "{end}");
}

#[tokio::test]
async fn a_repeated_key_starts_nothing_also_after_a_restart() {
    let mut gateway = TestGateway::start().await;
    let params = json!({"sessionKey": "main", "message": "once", "idempotencyKey": "same"});
    {
        let mut client = WsClient::cli(gateway.port, 4).await;
        client.call("chat.send", params.clone()).await.expect("accepted");
        client.chat_end("same").await;
        let again = client.call("chat.send", params.clone()).await.expect("known");
        assert_eq!(again["status"], "ok", "{again}");
    }
    assert!(gateway.terminate().success());
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let again = client.call("chat.send", params).await.expect("known after the restart");
    assert_eq!(again["status"], "ok", "{again}");
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(2), "{history}");
}

#[tokio::test]
async fn agent_answers_twice_under_one_id() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 3).await;
    let id = client.send("agent", json!({"message": "hi", "idempotencyKey": "a1"})).await;
    let accepted = client.response(&id).await.expect("accepted");
    assert_eq!((accepted["status"].as_str(), accepted["runId"].as_str()), (Some("accepted"), Some("a1")));
    let done = client.response(&id).await.expect("done");
    assert_eq!(done["status"], "ok", "{done}");
    assert!(done["result"]["payloads"][0]["text"].as_str().is_some_and(|text| text.contains("hi")), "{done}");
    let waited = client.call("agent.wait", json!({"runId": "a1", "timeoutMs": 0})).await.expect("known run");
    assert_eq!(waited["status"], "ok", "{waited}");
}

#[tokio::test]
async fn an_aborted_run_keeps_its_partial_answer() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "run: sleep 30", "idempotencyKey": "long"});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("agent", |payload| payload["data"]["phase"] == "start").await;
    let answer =
        client.call("chat.abort", json!({"sessionKey": "main", "runId": "long"})).await.expect("abort");
    assert_eq!((answer["aborted"].as_bool(), answer["runIds"][0].as_str()), (Some(true), Some("long")));
    let end = client.chat_end("long").await;
    assert_eq!(end["state"], "aborted", "{end}");
}

#[tokio::test]
async fn the_command_line_talks_to_an_agent() {
    let gateway = TestGateway::start().await;
    let output = gateway.cli(&["agent", "--message", "run: uname -a"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Linux"), "{text}");
    let status = gateway.cli(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("one JSON document");
    assert_eq!(status["gateway"]["reachable"], true, "{status}");
    wait::until("the agent worker is listed", async || {
        let listed = gateway.cli(&["status"]);
        String::from_utf8_lossy(&listed.stdout).contains("agent:main").then_some(())
    })
    .await;
}

#[tokio::test]
async fn messages_to_a_busy_session_are_answered_in_order() {
    let gateway = TestGateway::builder()
        .config(json!({"messages": {"queue": {"mode": "followup", "debounceMs": 0}}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for n in 0..5 {
        let params = json!({"sessionKey": "main", "message": format!("message number {n}"), "idempotencyKey": format!("m{n}")});
        client.call("chat.send", params).await.expect("accepted");
    }
    let history = wait::until("five answers", async || {
        let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
        (history["messages"].as_array().map(Vec::len) == Some(10)).then_some(history)
    })
    .await;
    let messages = history["messages"].as_array().expect("messages");
    for (n, pair) in messages.chunks(2).enumerate() {
        assert_eq!(pair[0]["role"], "user");
        assert!(pair[0].to_string().contains(&format!("message number {n}")), "{}", pair[0]);
        assert_eq!(pair[1]["role"], "assistant");
    }
}
