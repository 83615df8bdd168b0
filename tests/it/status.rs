//! `status`, `health` and `usage.*`, on the wire and on the command line.

use harness::gateway::{TOKEN, TestGateway};
use harness::model_server::{ModelServer, Reply, Script};
use harness::wait;
use harness::ws_client::{WsClient, cli_params};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A status must come in this time, whatever the workers do.
const STATUS_MAX: Duration = Duration::from_millis(50);

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A client with the scope to look at things and no other.
async fn reader(port: u16) -> WsClient {
    let mut params = cli_params(4);
    params["scopes"] = json!(["operator.read"]);
    params["auth"] = json!({"token": TOKEN});
    let mut client = WsClient::open(port).await.expect("the gateway answers");
    client.connect(params).await.expect("hello");
    client
}

#[tokio::test]
async fn status_and_health_in_the_recorded_shapes() {
    let gateway = TestGateway::start().await;
    let mut older = WsClient::cli(gateway.port, 3).await;
    older.chat("main", "hello").await;
    let mut later = WsClient::cli(gateway.port, 4).await;
    for (protocol, client) in [(3, &mut older), (4, &mut later)] {
        let status = client.call("status", json!({})).await.expect("status");
        assert_eq!(status["heartbeat"]["defaultAgentId"], "main");
        assert_eq!(names(&status["heartbeat"]["agents"][0]), ["agentId", "enabled", "every", "everyMs"]);
        assert!(status["channelSummary"].is_array() && status["queuedSystemEvents"].is_array());
        let sessions = &status["sessions"];
        assert_eq!(names(sessions), ["byAgent", "count", "defaults", "paths", "recent"]);
        assert_eq!(
            (&sessions["count"], &sessions["defaults"]["model"]),
            (&json!(1), &json!("demo")),
            "{status}"
        );
        let row = &sessions["recent"][0];
        assert_eq!((&row["key"], &row["kind"]), (&json!("agent:main:main"), &json!("direct")), "{row}");
        assert!(row["age"].is_i64() && row["flags"].is_array(), "{row}");
        assert_eq!(sessions["byAgent"][0]["count"], 1);
        assert_eq!(status.get("runtimeVersion").is_some(), protocol == 4);
        assert_eq!(status["degraded"], json!([]), "{status}");

        let health = client.call("health", json!({"probe": true})).await.expect("health");
        assert_eq!(
            names(&health),
            [
                "agents",
                "channelLabels",
                "channelOrder",
                "channels",
                "defaultAgentId",
                "durationMs",
                "heartbeatSeconds",
                "ok",
                "sessions",
                "ts"
            ]
        );
        assert_eq!((&health["ok"], &health["heartbeatSeconds"]), (&json!(true), &json!(1800)));
        let agent = &health["agents"][0];
        assert_eq!(names(agent), ["agentId", "heartbeat", "isDefault", "sessions"]);
        assert_eq!(
            names(&agent["heartbeat"]),
            ["ackMaxChars", "enabled", "every", "everyMs", "prompt", "target"]
        );
        assert_eq!(
            (&health["sessions"]["count"], &health["sessions"]["recent"][0]["key"]),
            (&json!(1), &json!("agent:main:main"))
        );
        assert!(
            health["sessions"]["path"]
                .as_str()
                .is_some_and(|path| path.ends_with("agents/main/sessions/sessions.json"))
        );
    }
}

#[tokio::test]
async fn who_may_only_look_sees_neither_paths_nor_changes_anything() {
    let gateway = TestGateway::start().await;
    let mut admin = WsClient::cli(gateway.port, 4).await;
    admin.chat("main", "hello").await;
    let mut client = reader(gateway.port).await;
    let status = client.call("status", json!({})).await.expect("status");
    let sessions = &status["sessions"];
    assert_eq!((&sessions["paths"], &sessions["recent"]), (&json!([]), &json!([])), "{status}");
    assert_eq!(sessions["defaults"], json!({"model": null, "contextTokens": null}));
    assert_eq!(sessions["byAgent"][0]["path"], "[redacted]");
    assert_eq!(sessions["count"], 1);
    assert!(!status.to_string().contains(&gateway.state_dir().display().to_string()), "{status}");
    for method in ["sessions.list", "agents.list", "health", "usage.cost", "models.list"] {
        assert!(client.call(method, json!({})).await.is_ok(), "{method}");
    }
    for method in
        ["sessions.patch", "sessions.reset", "sessions.delete", "sessions.compact", "agents.files.set"]
    {
        let refused =
            client.call(method, json!({"key": "main", "agentId": "main"})).await.expect_err("refused");
        assert_eq!(refused["message"], "missing scope: operator.admin", "{method}");
    }
}

#[tokio::test]
async fn a_runs_tokens_are_added_to_its_day() {
    let reply = Reply { input_tokens: 123, output_tokens: 45, ..Reply::text("counted") };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let gateway = TestGateway::builder().config(crate::recovery::model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let empty = client.call("usage.cost", json!({"days": 7})).await.expect("usage");
    assert_eq!(empty["daily"].as_array().map(Vec::len), Some(7), "days without use are listed: {empty}");
    assert_eq!(empty["totals"]["totalTokens"], 0);
    assert_eq!(client.chat("main", "count me").await["state"], "final");

    let cost = client.call("usage.cost", json!({})).await.expect("usage");
    assert_eq!(
        (&cost["days"], &cost["totals"]["input"], &cost["totals"]["output"]),
        (&json!(30), &json!(123), &json!(45)),
        "{cost}"
    );
    let last = cost["daily"].as_array().and_then(|days| days.last()).expect("today");
    assert_eq!(last["totalTokens"], 168, "{cost}");
    let mut older = WsClient::cli(gateway.port, 3).await;
    let used = older.call("usage.cost", json!({"days": 30})).await.expect("usage");
    assert_eq!(used["daily"].as_array().map(Vec::len), Some(1), "only days with use: {used}");
    let sessions = client.call("sessions.usage", json!({})).await.expect("usage");
    assert_eq!(sessions["totals"]["totalTokens"], 168, "{sessions}");
    assert_eq!(sessions["aggregates"]["byAgent"][0]["agentId"], "main", "{sessions}");
    assert_eq!(sessions["sessions"][0]["key"], "agent:main:main", "{sessions}");
    let quota = client.call("usage.status", json!({})).await.expect("usage");
    assert_eq!(quota["providers"], json!([]));
    let refused = client.call("usage.cost", json!({"startDate": "yesterday"})).await.expect_err("no date");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("/startDate")), "{refused}");
}

#[tokio::test]
async fn status_answers_at_once_while_every_worker_hangs() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "hello").await;
    let worker = gateway.worker("openclaw-agent").await;
    kill(Pid::from_raw(i32::try_from(worker).expect("a pid")), Signal::SIGSTOP).expect("our own worker");
    for method in ["status", "health", "workers.list", "system.info", "sessions.list"] {
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            client.call(method, json!({})).await.expect("an answer");
            best = best.min(began.elapsed());
        }
        assert!(best < STATUS_MAX, "{method} took {best:?}");
    }
    wait::until("the hanging worker is reported", async || {
        let status = client.call("status", json!({})).await.expect("status");
        let told = status["degraded"].to_string();
        told.contains("agent:main").then_some(())
    })
    .await;
    wait::until("--check exits with 2", async || {
        let code = gateway.cli(&["status", "--check"]).status.code();
        (code == Some(2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_command_line_shows_status_health_sessions_and_models() {
    let gateway = TestGateway::start().await;
    assert!(gateway.cli(&["agent", "--message", "hello"]).status.success());
    let status = gateway.cli(&["status"]);
    let text = stdout(&status);
    assert_eq!(status.status.code(), Some(0));
    for part in ["Dashboard", "reachable", "Agents", "demo", "agent:main:main", "All well."] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(0));
    let deep: Value =
        serde_json::from_slice(&gateway.cli(&["status", "--deep", "--json"]).stdout).expect("JSON");
    for key in ["heartbeat", "channelSummary", "sessions", "os", "gateway", "agents", "health", "workers"] {
        assert!(!deep[key].is_null(), "{key}: {deep}");
    }
    assert_eq!((&deep["agents"]["totalSessions"], &deep["gateway"]["reachable"]), (&json!(1), &json!(true)));

    let text = stdout(&gateway.cli(&["health"]));
    for part in ["Gateway Health: OK", "Agents: main (default)", "Session store (main):", "(1 entries)"] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let health: Value = serde_json::from_slice(&gateway.cli(&["health", "--json"]).stdout).expect("JSON");
    assert_eq!((&health["ok"], &health["sessions"]["count"]), (&json!(true), &json!(1)), "{health}");
    let text = stdout(&gateway.cli(&["sessions"]));
    assert!(text.contains("Sessions listed: 1") && text.contains("agent:main:main"), "{text}");
    let sessions: Value = serde_json::from_slice(&gateway.cli(&["sessions", "--json"]).stdout).expect("JSON");
    assert_eq!((&sessions["count"], &sessions["sessions"][0]["kind"]), (&json!(1), &json!("direct")));
    assert!(sessions["sessions"][0].get("systemPromptReport").is_none(), "{sessions}");
    let models: Value =
        serde_json::from_slice(&gateway.cli(&["models", "list", "--json"]).stdout).expect("JSON");
    assert_eq!(
        (&models["models"][0]["key"], &models["models"][0]["tags"][0]),
        (&json!("demo/demo"), &json!("default"))
    );
    assert!(stdout(&gateway.cli(&["models", "status"])).contains("demo/demo"));
}

#[tokio::test]
async fn an_invalid_file_is_told_and_a_stopped_gateway_too() {
    let mut gateway = TestGateway::start().await;
    let good = std::fs::read_to_string(gateway.config_path()).expect("the config");
    std::fs::write(gateway.config_path(), r#"{"gateway": {"port": "many"}}"#).expect("an edit");
    let text = stdout(&gateway.cli(&["status"]));
    assert!(text.contains("! config: INVALID") && text.contains("gateway.port"), "{text}");
    assert_eq!(gateway.cli(&["status"]).status.code(), Some(0));
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(2));
    // Callers in quick succession share a snapshot.
    wait::until("health reports it too", async || {
        let code = gateway.cli(&["health", "--check"]).status.code();
        (code == Some(2)).then_some(())
    })
    .await;
    std::fs::write(gateway.config_path(), good).expect("mended");
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(0));

    assert!(gateway.terminate().success());
    let stopped = gateway.cli(&["status"]);
    assert!(stdout(&stopped).contains("unreachable"), "{}", stdout(&stopped));
    assert_eq!(stopped.status.code(), Some(0));
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(2));
    assert_eq!(gateway.cli(&["health"]).status.code(), Some(1));
    assert!(gateway.cli(&["sessions"]).status.success());
}
