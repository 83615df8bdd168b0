//! The log as clients read it, and the families that have little to say: cron, heartbeat, wake.

use harness::gateway::{TOKEN, TestGateway};
use harness::model_server::{ModelServer, Script};
use harness::wait;
use harness::ws_client::WsClient;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::recovery::model_config;

fn printed(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_tail_goes_on_where_it_stopped_and_holds_no_secret() {
    let mut gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let tail = client.call("logs.tail", json!({"limit": 500})).await.expect("a tail");
    assert_eq!(tail["file"], gateway.state_dir().join("logs/gateway.log").display().to_string());
    let lines: Vec<Value> = tail["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| serde_json::from_str(line.as_str().expect("text")).expect("each line is JSON"))
        .collect();
    assert!(lines.iter().any(|line| line["message"] == "ready"), "{lines:#?}");
    assert_eq!((&tail["truncated"], &tail["reset"]), (&json!(false), &json!(false)));
    assert!(!tail.to_string().contains(TOKEN));

    let cursor = tail["cursor"].clone();
    let next = json!({"cursor": cursor});
    client.call("channels.pairing.revoke", json!({"channel": "x", "id": "1"})).await.expect("answered");
    let last = client.call("logs.tail", json!({"limit": 1})).await.expect("a tail");
    assert_eq!(last["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["truncated"], true);
    let after = client.call("logs.tail", next).await.expect("a tail");
    assert!(after["cursor"].as_u64() >= cursor.as_u64(), "{after}");
    assert!(!after.to_string().contains("\"ready\""), "nothing twice: {after}");
    let refused = client.call("logs.tail", json!({"limit": 5001})).await.expect_err("too many");
    assert_eq!(refused["message"], "invalid logs.tail params: at /limit: must be <= 5000");

    std::fs::write(gateway.state_dir().join("logs/gateway.log"), "").expect("the log can be emptied");
    let fresh = client.call("logs.tail", json!({"cursor": cursor})).await.expect("a tail");
    assert_eq!(fresh["reset"], true, "{fresh}");
    assert!(gateway.terminate().success());
}

#[tokio::test]
async fn the_command_line_prints_follows_and_ends_with_the_gateway() {
    let mut gateway = TestGateway::start().await;
    let plain = printed(&gateway.cli(&["logs", "--plain", "--limit", "1000"]));
    assert!(
        plain.lines().all(|line| line.starts_with('{')) && plain.contains("\"message\":\"ready\""),
        "{plain}"
    );
    let few = printed(&gateway.cli(&["logs", "--limit", "3"]));
    assert_eq!(few.lines().count(), 3, "as many as were asked for, and no notice: {few}");
    let human = printed(&gateway.cli(&["logs"]));
    assert!(human.lines().any(|line| line.contains(" INFO  [gateway] ready")), "{human}");
    let json = printed(&gateway.cli(&["logs", "--json"]));
    let rows: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows[0]["type"], "meta");
    assert!(rows[1..].iter().all(|row| row["type"] == "log" && row["raw"].is_string()), "{rows:#?}");

    let mut following = Command::new(harness::executables::openclaw())
        .args(["logs", "--follow", "--interval", "100", "--plain", "--wait", "120"])
        .env_clear()
        .env("HOME", gateway.home.path())
        .env("OPENCLAW_STATE_DIR", gateway.state_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command line can be started");
    let mut lines = BufReader::new(following.stdout.take().expect("its output")).lines();
    let seen = tokio::task::spawn_blocking(move || {
        let first = lines.next();
        (first, lines)
    });
    let (first, lines) = seen.await.expect("a line");
    assert!(first.is_some_and(|line| line.is_ok()));
    let restarted = gateway.cli(&["restart"]);
    assert!(restarted.status.success(), "{restarted:?}");
    let seen = tokio::task::spawn_blocking(move || {
        let mut lines = lines.map_while(Result::ok).skip_while(|line| !line.contains("giving way"));
        (lines.find(|line| line.contains("\"message\":\"ready\"")), lines)
    });
    let (ready, lines) = seen.await.expect("it goes on after the restart");
    assert!(ready.is_some(), "it ended with the restart");
    // A start anew: who follows waits for it.
    assert!(gateway.terminate().success());
    gateway.restart().await;
    let seen = tokio::task::spawn_blocking(move || {
        let mut lines = lines;
        lines.find(|line| line.contains("\"message\":\"ready\""))
    });
    assert!(seen.await.expect("lines").is_some(), "it ended with the gateway");
    following.kill().expect("our own child");
    following.wait().expect("our own child");

    let mut following = gateway
        .command(&["logs", "--follow", "--wait", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line can be started");
    let mut shown = BufReader::new(following.stdout.take().expect("its output"));
    shown.read_line(&mut String::new()).expect("a line");
    assert!(gateway.terminate().success());
    tokio::task::spawn_blocking(move || shown.lines().count()).await.expect("it ends");
    let ended = following.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("The gateway went away"), "{said}");
    let gone = gateway.cli(&["logs"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&gone.stderr)
            .contains("Gateway not reachable. Is it running and accessible?")
    );
}

#[tokio::test]
async fn cron_and_heartbeat_answer_in_both_protocols() {
    let gateway = TestGateway::start().await;
    for protocol in [3, 4] {
        let mut client = WsClient::cli(gateway.port, protocol).await;
        let status = client.call("cron.status", json!({})).await.expect("a status");
        assert_eq!((&status["jobs"], &status["nextWakeAtMs"]), (&json!(0), &Value::Null));
        assert!(status["storePath"].as_str().is_some_and(|path| path.ends_with("cron/jobs.json")));
        let params = json!({"includeDisabled": true, "limit": 200, "offset": 0});
        let list = client.call("cron.list", params).await.expect("a list");
        let wanted =
            json!({"jobs": [], "total": 0, "offset": 0, "limit": 200, "hasMore": false, "nextOffset": null});
        let mut without = list.clone();
        let revision = without.as_object_mut().and_then(|page| page.remove("snapshotRevision"));
        assert_eq!((without, revision.is_some()), (wanted, protocol == 4));
        assert_eq!(client.call("last-heartbeat", json!({})).await.expect("none"), Value::Null);
        let set = client.call("set-heartbeats", json!({"enabled": false})).await.expect("set");
        assert_eq!(set, json!({"ok": true, "enabled": false}));
        let refused = client.call("set-heartbeats", json!({})).await.expect_err("a flag is missing");
        assert_eq!(
            refused["message"],
            "invalid set-heartbeats params: must have required property 'enabled'"
        );
    }
}

#[tokio::test]
async fn a_system_event_reaches_the_next_prompt_also_over_a_restart() {
    let model = ModelServer::start(Script::default()).await;
    let mut gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let later = json!({"mode": "next-heartbeat", "text": "the kettle boils"});
    assert_eq!(client.call("wake", later).await.expect("kept"), json!({"ok": true}));
    gateway.kill9();
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "anything new?").await;
    let prompt = model.book()[0].body.to_string();
    let told = line_that_ends_with(&prompt, "the kettle boils");
    assert!(told.starts_with("System: [20") && told.contains(" UTC] "), "{told}");
    client.chat("main", "and now?").await;
    let requests = model.book();
    let second = requests[1].body["messages"].as_array().and_then(|all| all.last()).cloned();
    assert!(!second.expect("a message").to_string().contains("kettle"), "told once");

    client.call("wake", json!({"mode": "now", "text": "the door bell"})).await.expect("accepted");
    let started =
        async || model.book().into_iter().find(|request| request.body.to_string().contains("the door bell"));
    wait::until("a turn by itself", started).await;
    let refused = client.call("wake", json!({"mode": "soon", "text": "x"})).await.expect_err("no such mode");
    assert_eq!(
        refused["message"],
        "invalid wake params: at /mode: must be equal to one of the allowed values"
    );
}

/// The line of a JSON text (its line breaks are escaped) that ends with `end`.
fn line_that_ends_with(json: &str, end: &str) -> String {
    let upto = json.find(end).map_or("", |at| &json[..at + end.len()]);
    let start = upto.rfind("\\n").map_or(0, |at| at + 2).max(upto.rfind('"').map_or(0, |at| at + 1));
    upto[start..].to_owned()
}
