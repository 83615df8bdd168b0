//! What is wrong outside: models that are missing or silent, a disk that is full. A clear word, and nothing lost.

use super::recovery::model_config;
use harness::executables;
use harness::gateway::{TestGateway, free_port};
use harness::model_server::{ModelServer, Reply, Script};
use harness::small_disk::SmallDisk;
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

/// Room for the journal, a few transcripts and the log.
const DISK_BYTES: u64 = 12 << 20;

#[tokio::test]
async fn an_unknown_provider_is_named_with_those_that_exist() {
    let gateway = TestGateway::builder()
        .config(json!({"agents": {"defaults": {"model": {"primary": "nobody/nothing"}}}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let end = client.chat("main", "hello").await;
    assert_eq!(end["state"], "error", "{end}");
    let text = end["errorMessage"].as_str().expect("a text");
    assert!(
        text.contains("nobody") && text.contains("demo"),
        "names the provider and the known ones: {text}"
    );
    // The agent is not harmed: with a model it answers.
    let patch = json!({"key": "main", "model": "demo/demo"});
    client.call("sessions.patch", patch).await.expect("patched");
    let end = client.chat("main", "hello again").await;
    assert_eq!(end["state"], "final", "{end}");
}

#[tokio::test]
async fn a_model_server_that_is_not_there_is_tried_as_often_as_configured_and_then_named() {
    let port = free_port();
    let gateway = TestGateway::builder()
        .config(json!({
            "models": {"mode": "merge", "providers": {"gone": {
                "baseUrl": format!("http://127.0.0.1:{port}/v1"), "apiKey": "sk-test",
                "api": "openai-completions", "models": [{"id": "m1", "name": "m1"}],
            }}},
            "agents": {"defaults": {
                "model": {"primary": "gone/m1"}, "retry": {"maxRetries": 1, "minDelayMs": 10},
            }},
        }))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let end = client.chat("main", "hello").await;
    assert_eq!(end["state"], "error", "{end}");
    let text = end["errorMessage"].as_str().expect("a text");
    assert!(text.contains("gone/m1"), "{text}");
    assert!(!text.contains("sk-test"));
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    let users = history["messages"].as_array().expect("messages").iter().filter(|m| m["role"] == "user");
    assert_eq!(users.count(), 1, "what the user said is kept: {history}");
}

/// A clock that was wrong and is set right: what the gateway lists of a session goes on, and does not stay in the future.
#[tokio::test]
async fn an_agents_clock_that_is_set_back_stops_neither_runs_nor_the_list_of_sessions() {
    let gateway = TestGateway::builder()
        .bin(executables::with_failpoints())
        .env("OPENCLAW_FAILPOINTS", "ag.clock=40*return(skew(3600))->off")
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let now_ms = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        i64::try_from(since.as_millis()).expect("a time of this millennium")
    };
    let updated = async |client: &mut WsClient| {
        let listed = client.call("sessions.list", json!({})).await.expect("sessions");
        let rows = listed["sessions"].as_array().into_iter().flatten();
        rows.filter(|row| row["key"] == "agent:main:main")
            .find_map(|row| row["updatedAt"].as_i64())
            .unwrap_or(0)
    };
    assert_eq!(client.chat("main", "in the future").await["state"], "final");
    assert!(updated(&mut client).await > now_ms() + 1_800_000, "its clock is an hour ahead");
    for nth in 0..100 {
        let end = client.chat("main", &format!("message {nth}")).await;
        assert_eq!(end["state"], "final", "{end}");
        if updated(&mut client).await < now_ms() + 1_800_000 {
            return;
        }
    }
    panic!("the list still shows the time before the clock was set");
}

#[tokio::test]
async fn a_full_disk_refuses_new_messages_by_name_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let gateway = TestGateway::builder().state_dir(disk.path()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    assert_eq!(client.chat("main", "before").await["state"], "final");
    let filler = disk.fill();
    let refused = wait::until("a refusal", async || {
        let key = uuid::Uuid::new_v4().to_string();
        let params = json!({"sessionKey": "main", "message": "no room", "idempotencyKey": key});
        client.call("chat.send", params).await.err()
    })
    .await;
    assert_eq!(refused["code"], "UNAVAILABLE", "{refused}");
    assert_eq!(refused["retryable"], true, "{refused}");
    let text = refused["message"].as_str().expect("a text");
    assert!(text.contains("disk is full") || text.contains("No space"), "{text}");
    let status = gateway.cli(&["status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("journal"), "status tells: {status}");
    std::fs::remove_file(filler).expect("room again");
    let accepted = wait::until("the journal writes again", async || {
        let params = json!({"sessionKey": "main", "message": "after", "idempotencyKey": "after"});
        client.call("chat.send", params).await.ok()
    })
    .await;
    assert_eq!(accepted["status"], "started", "{accepted}");
    assert_eq!(client.chat_end("after").await["state"], "final");
    assert_every_line_is_json(&gateway);
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_told_until_the_reserve_is_back() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let mut gateway = TestGateway::builder().state_dir(disk.path()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    assert_eq!(client.chat("main", "before").await["state"], "final");
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(0));
    let reserve = disk.path().join("journal/reserve.bin");
    let filler = disk.fill();
    wait::until("the reserve is given up", async || {
        let key = uuid::Uuid::new_v4().to_string();
        let params = json!({"sessionKey": "main", "message": "no room", "idempotencyKey": key});
        let _answer = client.call("chat.send", params).await;
        (!reserve.exists()).then_some(())
    })
    .await;
    let told = |args: &[&str], code: i32| {
        let output = gateway.cli(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code() == Some(code)).then_some(text)
    };
    // Some room, but less than what would be worth a reserve.
    std::fs::write(&filler, vec![b'x'; DISK_BYTES as usize - (1 << 20)]).ok();
    let status = wait::until("status tells", async || told(&["status", "--check"], 2)).await;
    let place = disk.path().join("journal").display().to_string();
    for part in ["the disk is nearly full", "free at", place.as_str(), "free some space"] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let health = told(&["health", "--check"], 2).expect("health tells too");
    assert!(health.contains("DEGRADED") && health.contains("nearly full"), "{health}");

    // No room at all, and nothing to give up: a start says so.
    assert!(gateway.terminate().success());
    let _filled = disk.fill();
    gateway.start_again();
    let code = gateway.wait_exit().code();
    let log = gateway.log();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("the disk is full") && log.contains(&place) && log.contains("free some space"),
        "{log}"
    );

    std::fs::remove_file(filler).expect("room again");
    gateway.restart().await;
    wait::until("all is well", async || {
        (gateway.cli(&["status", "--check"]).status.code() == Some(0)).then_some(())
    })
    .await;
    assert!(reserve.exists());
}

#[tokio::test]
async fn a_run_that_meets_a_full_disk_ends_in_an_answer() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let reply = Reply {
        text: "one two three four five six seven eight nine ten".into(),
        chunk_chars: 2,
        delay_ms: 40,
        ..Reply::default()
    };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let gateway = TestGateway::builder().state_dir(disk.path()).config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    let filler = disk.fill();
    wait::until("the model has said everything", async || (model.answered() == 1).then_some(())).await;
    std::fs::remove_file(filler).expect("room again");
    let end = client.chat_end("k").await;
    assert_eq!(end["state"], "final", "{end}");
    assert_eq!(chat_text(&end), "one two three four five six seven eight nine ten");
    assert_every_line_is_json(&gateway);
}

fn assert_every_line_is_json(gateway: &TestGateway) {
    let dir = gateway.state_dir().join("agents/main/sessions");
    for entry in std::fs::read_dir(dir).expect("sessions").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(entry.path()).expect("a transcript");
            for line in text.lines() {
                let _entry: Value = serde_json::from_str(line).expect("every line is JSON");
            }
        }
    }
}

/// A journal that is made in the last corner of a disk could take no message.
#[tokio::test]
async fn a_first_start_on_a_disk_that_is_nearly_full_says_where_space_is_needed() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else { return };
    let mut gateway = TestGateway::builder().state_dir(disk.path()).start().await;
    assert!(gateway.terminate().success());
    std::fs::remove_dir_all(disk.path().join("journal")).expect("a new beginning");
    let filler = disk.fill();
    let file = std::fs::File::options().write(true).open(&filler).expect("the filler");
    let bytes = file.metadata().expect("its size").len();
    file.set_len(bytes - (300 << 10)).expect("some room again");
    gateway.start_again();
    assert_eq!(gateway.wait_exit().code(), Some(1));
    let log = gateway.log();
    let place = disk.path().join("journal").display().to_string();
    for part in ["the disk is full", place.as_str(), "needs 1 MiB", "free some space"] {
        assert!(log.contains(part), "{part} in {log}");
    }
}
