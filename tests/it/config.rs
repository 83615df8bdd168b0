//! The configuration while a gateway runs, before it starts, and from the command line.

use harness::executables;
use harness::gateway::{TOKEN, TestGateway};
use harness::wait;
use harness::ws_client::{Device, WsClient, cli_params};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

const HIDDEN: &str = "__OPENCLAW_REDACTED__";

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_owned()
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn file(gateway: &TestGateway) -> String {
    fs::read_to_string(gateway.config_path()).expect("the config")
}

async fn config(client: &mut WsClient) -> Value {
    client.call("config.get", json!({})).await.expect("config.get")
}

/// Succeeds in printing exactly this.
fn prints(gateway: &TestGateway, args: &[&str], wanted: &str) {
    let output = gateway.cli(args);
    assert_eq!((stdout(&output).as_str(), output.status.code()), (wanted, Some(0)), "{args:?}: {output:?}");
}

/// Fails with exactly this.
fn refuses(gateway: &TestGateway, args: &[&str], wanted: &str) {
    let output = gateway.cli(args);
    assert_eq!((stderr(&output).as_str(), output.status.code()), (wanted, Some(1)), "{args:?}: {output:?}");
}

#[tokio::test]
async fn what_is_read_can_be_saved_and_the_secrets_stay() {
    let gateway = TestGateway::start().await;
    for (protocol, colour) in [(3, "#112233"), (4, "#445566")] {
        let mut client = WsClient::cli(gateway.port, protocol).await;
        let shown = config(&mut client).await;
        assert!(!shown.to_string().contains(TOKEN), "{shown}");
        assert_eq!(shown["config"]["gateway"]["auth"]["token"], HIDDEN);
        let raw = shown["raw"].as_str().expect("raw");
        let raw = format!("{{\n  // by hand\n  ui: {{seamColor: '{colour}'}}, {}", &raw[1..]);
        let raw =
            if protocol == 3 { raw } else { shown["raw"].as_str().expect("raw").replace("#112233", colour) };
        let params = json!({"raw": raw, "baseHash": shown["hash"]});
        let saved = client.call("config.set", params).await.expect("saved");
        assert_eq!((&saved["ok"], &saved["config"]["ui"]["seamColor"]), (&json!(true), &json!(colour)));
        assert!(saved.get("restart").is_none() && !saved.to_string().contains(TOKEN), "{saved}");
        let text = file(&gateway);
        assert!(text.contains(TOKEN) && text.contains("// by hand") && text.contains(colour), "{text}");
        let shown = wait::until("it runs", async || {
            let shown = config(&mut client).await;
            (shown["active"]["state"] == "ok").then_some(shown)
        })
        .await;
        assert_eq!(saved.get("hash"), (protocol == 4).then_some(&shown["hash"]));
        if protocol == 4 {
            let event = client.event("config.changed").await;
            assert_eq!(
                (&event["payload"]["path"], &event["payload"]["hash"]),
                (&json!(gateway.config_path()), &shown["hash"])
            );
        } else {
            assert!(client.events.iter().all(|event| event["event"] != "config.changed"));
        }
    }
}

#[tokio::test]
async fn refused_writes_say_why_and_change_nothing() {
    let gateway = TestGateway::start().await;
    let before = file(&gateway);
    let mut client = WsClient::cli(gateway.port, 4).await;
    let hash = config(&mut client).await["hash"].clone();
    let rows = [
        (json!({"raw": "{}"}), "config base hash required; re-run config.get and retry"),
        (
            json!({"raw": "{}", "baseHash": "old"}),
            "config changed since last load; re-run config.get and retry",
        ),
        (json!({"raw": "{bad json", "baseHash": hash}), "SyntaxError: JSON5: invalid character 'j' at 1:6"),
        (json!({"raw": "[]", "baseHash": hash}), "config.patch raw must be an object"),
        (
            json!({"raw": "{gateway: {prot: 1}}", "baseHash": hash}),
            "invalid config: gateway: Unrecognized key: \"prot\"",
        ),
    ];
    for (params, wanted) in rows {
        let error = client.call("config.patch", params).await.expect_err(wanted);
        assert_eq!((&error["code"], &error["message"]), (&json!("INVALID_REQUEST"), &json!(wanted)));
        if wanted.starts_with("invalid config") {
            assert_eq!(error["details"]["issues"][0]["hint"], "did you mean \"port\"?");
        }
    }
    // Type and key are right; only the agent's own program knows that there is no such provider.
    let raw = "{agents: {defaults: {model: {primary: 'nowhere/x'}}}}";
    for method in ["config.patch", "config.set", "config.apply"] {
        let error = client.call(method, json!({"raw": raw, "baseHash": hash})).await.expect_err(method);
        assert_eq!(error["details"]["issues"][0]["path"], "agents.defaults.model.primary", "{error}");
    }
    let error =
        client.call("config.schema.lookup", json!({"path": "gateway.nope"})).await.expect_err("no path");
    assert_eq!(error["message"], "config schema path not found: gateway.nope");
    assert_eq!(file(&gateway), before);
}

#[tokio::test]
async fn the_earlier_protocol_may_write_three_times_a_minute() {
    let gateway = TestGateway::start().await;
    let device = Device::new();
    let connect = async || {
        let mut params = cli_params(3);
        let mut client = WsClient::open(gateway.port).await.expect("the gateway answers");
        params["device"] = device.proof(&params, &client.nonce(), TOKEN);
        client.connect(params).await.expect("hello");
        client
    };
    let mut client = connect().await;
    for method in ["config.patch", "config.apply", "config.patch"] {
        let error = client.call(method, json!({"raw": "{}"})).await.expect_err("no hash");
        assert_eq!(error["code"], "INVALID_REQUEST", "{error}");
    }
    // Another socket of the same device is no way round.
    let mut client = connect().await;
    let error = client.call("config.apply", json!({"raw": "{}"})).await.expect_err("too often");
    assert_eq!((&error["code"], &error["retryable"]), (&json!("UNAVAILABLE"), &json!(true)));
    assert_eq!(error["details"], json!({"method": "config.apply", "limit": "3 per 60s"}));
    let wait_ms = error["retryAfterMs"].as_u64().expect("a time");
    let wanted = format!("rate limit exceeded for config.apply; retry after {}s", wait_ms.div_ceil(1000));
    assert_eq!(error["message"], wanted);
    let error = client.call("config.set", json!({"raw": "{}"})).await.expect_err("no hash");
    assert_eq!(error["code"], "INVALID_REQUEST", "a save is not limited: {error}");
}

#[tokio::test]
async fn a_patch_restarts_the_gateway_and_the_connection_goes_on() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let before = client.call("system.info", json!({"gateway": true})).await.expect("system.info");
    let hash = config(&mut client).await["hash"].clone();
    let raw = "{gateway: {tailscale: {resetOnExit: true}}}";
    let params = json!({"raw": raw, "baseHash": hash, "restartDelayMs": 100});
    let patched = client.call("config.patch", params).await.expect("patched");
    assert_eq!(patched["restart"]["delayMs"], 100);
    // The same socket: the key that needs a restart runs now.
    let shown = wait::until("the new image runs it", async || {
        let shown = config(&mut client).await;
        let runs = shown["active"]["activeHash"] == patched["hash"];
        (runs && shown["active"]["state"] == "ok").then_some(shown)
    })
    .await;
    assert_eq!(shown["config"]["gateway"]["tailscale"]["resetOnExit"], true);
    let after = client.call("system.info", json!({"gateway": true})).await.expect("system.info");
    assert_eq!(after["pid"], before["pid"]);
    assert!(client.events.iter().all(|event| event["event"] != "shutdown"), "{:?}", client.events);
}

#[tokio::test]
async fn a_patch_restarts_the_gateway_and_says_so_where_connections_are_not_kept() {
    let closes = json!({"gateway": {"restart": {"keepSockets": false}}});
    let gateway = TestGateway::builder().config(closes).start().await;
    let mut client = WsClient::cli(gateway.port, 3).await;
    let hash = config(&mut client).await["hash"].clone();
    let raw = "{gateway: {tailscale: {resetOnExit: true}}}";
    let params =
        json!({"raw": raw, "baseHash": hash, "restartDelayMs": 100, "note": "n", "sessionKey": "main"});
    let patched = client.call("config.patch", params).await.expect("patched");
    let restart = json!({"ok": true, "pid": gateway.pid(), "signal": "SIGUSR1", "delayMs": 100,
        "reason": "config.patch", "mode": "emit", "coalesced": false, "cooldownMsApplied": 0});
    assert_eq!(patched["restart"], restart);
    assert_eq!(patched["sentinel"]["payload"]["message"], "n");
    assert!(patched["sentinel"].get("persisted").is_none(), "{patched}");
    let told = client.event("shutdown").await;
    assert_eq!(told["payload"], json!({"reason": "gateway restarting", "restartExpectedMs": 1500}));
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1012, "service restart"));
    gateway.ready().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let info = client.call("system.info", json!({"gateway": true})).await.expect("system.info");
    assert_eq!(info["pid"], gateway.pid());
    let shown = config(&mut client).await;
    assert_eq!(
        (&shown["active"]["state"], &shown["config"]["gateway"]["tailscale"]["resetOnExit"]),
        (&json!("ok"), &json!(true))
    );
    let params = json!({"raw": raw, "baseHash": shown["hash"]});
    let again = client.call("config.patch", params).await.expect("nothing to do");
    assert_eq!((&again["changedPaths"], &again["restart"]), (&json!([]), &Value::Null));
}

#[tokio::test]
async fn a_patch_typed_without_params_reads_a_text_and_fetches_the_hash() {
    let gateway = TestGateway::start().await;
    let path = gateway.home.path().join("patch.json5");
    fs::write(&path, "{gateway: {tailscale: {resetOnExit: true}}}").expect("a file");
    let path = path.display().to_string();
    let output = gateway.cli(&["gateway", "call", "config.patch", "--file", &path, "--json"]);
    let answer = document(&output);
    assert_eq!(
        (&answer["changedPaths"], &answer["restart"]["delayMs"]),
        (&json!(["gateway.tailscale.resetOnExit"]), &json!(2000))
    );
    let mut typed = Command::new(executables::openclaw())
        .args(["gateway", "config.patch", "--json"])
        .env_clear()
        .env("HOME", gateway.home.path())
        .env("OPENCLAW_STATE_DIR", gateway.state_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = typed.stdin.take().expect("a pipe");
    stdin.write_all(b"{gateway: {tailscale: {resetOnExit: false}}}").expect("read");
    drop(stdin);
    let answer = document(&typed.wait_with_output().expect("ends"));
    assert_eq!(
        (&answer["config"]["gateway"]["tailscale"]["resetOnExit"], &answer["plan"]["decision"]),
        (&json!(false), &json!("restart"))
    );
}

#[tokio::test]
async fn commands_read_and_change_the_file_of_a_running_gateway() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    prints(&gateway, &["config", "file"], &gateway.config_path().display().to_string());
    prints(&gateway, &["config", "get", "gateway.auth.token"], HIDDEN);
    prints(&gateway, &["config", "get", "gateway.mode", "--json"], "\"local\"");
    prints(
        &gateway,
        &["config", "get", "gateway.http.endpoints.chatCompletions"],
        "{\n  \"enabled\": true\n}",
    );
    refuses(&gateway, &["config", "get", "gateway.nope"], "Config path not found: gateway.nope");
    let updated = "Updated ui.seamColor.";
    prints(&gateway, &["config", "set", "ui.seamColor", "#123456"], updated);
    // The owner of the file wrote it: its clients know.
    client.event("config.changed").await;
    prints(&gateway, &["config", "get", "ui.seamColor"], "#123456");
    let wrong = "Error: Config validation failed: gateway.port: expected integer, got \"many\"";
    refuses(&gateway, &["config", "set", "gateway.port", "many"], wrong);
    let unknown = gateway.cli(&["config", "set", "agents.defaults.model.primary", "nowhere/x"]);
    let said = stderr(&unknown);
    assert!(said.starts_with("Error: Config validation failed: agents.defaults.model.primary: "), "{said}");
    refuses(
        &gateway,
        &["config", "set", "ui.seamColor", "#fff", "--strict-json"],
        "Error: Failed to parse JSON5 value: SyntaxError: JSON5: invalid character '#' at 1:1",
    );
    let removed = "Removed ui.seamColor.";
    prints(&gateway, &["config", "unset", "ui.seamColor"], removed);
    client.event("config.changed").await;
    refuses(&gateway, &["config", "unset", "ui.seamColor"], "Config path not found: ui.seamColor");
    assert!(file(&gateway).contains(TOKEN) && !file(&gateway).contains("seamColor"), "{}", file(&gateway));
}

#[tokio::test]
async fn commands_work_while_no_gateway_runs() {
    let mut gateway = TestGateway::builder().config(json!({"browser": {"enabled": true}})).start().await;
    assert!(gateway.terminate().success());
    prints(
        &gateway,
        &["config", "set", "channels.telegram.allowFrom", "[1, '2']"],
        "Updated channels.telegram.allowFrom.",
    );
    prints(&gateway, &["config", "get", "channels.telegram.allowFrom[1]"], "2");
    let said = stderr(&gateway.cli(&["config", "set", "agents.defaults.model.primary", "nowhere/x"]));
    assert!(said.starts_with("Error: Config validation failed: agents.defaults.model.primary: "), "{said}");
    let valid = document(&gateway.cli(&["config", "validate", "--json"]));
    assert_eq!((&valid["valid"], &valid["knownNotBuilt"]), (&json!(true), &json!(["browser"])));
    let schema = document(&gateway.cli(&["config", "schema"]));
    let about = &schema["properties"]["agents"]["properties"]["defaults"]["properties"]["maxConcurrent"];
    assert!(schema["title"] == "OpenClawConfig" && about.is_object(), "{about}");

    fs::write(gateway.config_path(), "{\n  gateway: {prot: 1},\n}").expect("write");
    let output = gateway.cli(&["config", "validate"]);
    let wanted = format!(
        "Config invalid\nFile: {}\nProblem:\n  - openclaw.json:2:13 gateway: Unrecognized key: \"prot\" (did you mean \"port\"?)\n\nRun: openclaw doctor --fix",
        gateway.config_path().display()
    );
    assert_eq!((stderr(&output), output.status.code()), (wanted.clone(), Some(78)));
    let output = gateway.cli(&["config", "validate", "--json"]);
    assert_eq!((&document(&output)["valid"], output.status.code()), (&json!(false), Some(78)));
    refuses(&gateway, &["config", "get", "gateway.port"], &wanted);
    prints(
        &gateway,
        &["config", "unset", "gateway.prot"],
        "Removed gateway.prot. Restart the gateway to apply.",
    );
    let output = gateway.cli(&["config", "validate"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// The file is kept as the last good one, which happens right after the first start.
async fn kept_as_good(gateway: &TestGateway) {
    let kept = gateway.state_dir().join("config/last-good.json");
    let wanted = file(gateway);
    wait::until("it is kept", async || (fs::read_to_string(&kept).ok()? == wanted).then_some(())).await;
}

/// A key that nobody knows, on line 3.
const BROKEN: &str = "{\n  \"gateway\": {\n    \"prot\": 1\n  }\n}\n";
const PLACE: &str = "openclaw.json:3:5 gateway: Unrecognized key: \"prot\" (did you mean \"port\"?)";

#[tokio::test]
async fn an_invalid_file_stops_a_start_by_hand() {
    let mut gateway = TestGateway::start().await;
    kept_as_good(&gateway).await;
    gateway.terminate();
    fs::write(gateway.config_path(), BROKEN).expect("write");
    gateway.start_again();
    assert_eq!(gateway.wait_exit().code(), Some(1));
    let log = gateway.log();
    assert!(log.contains(PLACE) && log.contains("add --use-last-good"), "{log}");
}

#[tokio::test]
async fn the_last_good_config_stands_in_when_asked_and_for_a_service() {
    for flag in ["--use-last-good", "--service"] {
        let mut gateway = TestGateway::builder().arg(flag).start().await;
        kept_as_good(&gateway).await;
        gateway.terminate();
        fs::write(gateway.config_path(), BROKEN).expect("write");
        gateway.restart().await;
        let shown = stdout(&gateway.cli(&["status"]));
        assert!(shown.contains("INVALID") && shown.contains("running lastGood"), "{flag}: {shown}");
        let mut client = WsClient::cli(gateway.port, 4).await;
        let shown = config(&mut client).await;
        assert_eq!(
            (&shown["valid"], &shown["config"], &shown["raw"]),
            (&json!(false), &json!({}), &Value::Null)
        );
        assert_eq!(
            (&shown["active"]["state"], &shown["active"]["source"]),
            (&json!("invalid"), &json!("lastGood"))
        );
        assert_eq!(shown["issues"][0]["message"], "Unrecognized key: \"prot\"");
        client.chat("main", "hello").await;
        assert_eq!(file(&gateway), BROKEN, "{flag}: the file is its owner's");
    }
}

#[tokio::test]
async fn a_service_without_a_last_good_config_says_that_a_restart_does_not_help() {
    let start =
        TestGateway::builder().arg("--service").file(".openclaw/openclaw.json", BROKEN).without_waiting();
    let mut gateway = start.start().await;
    assert_eq!(gateway.wait_exit().code(), Some(78));
    assert!(gateway.log().contains(PLACE), "{}", gateway.log());
}

#[tokio::test]
async fn known_keys_without_effect_are_accepted_and_named() {
    let gateway = TestGateway::builder().config(json!({"browser": {"enabled": true}})).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let shown = config(&mut client).await;
    assert_eq!((&shown["valid"], &shown["knownNotBuilt"]), (&json!(true), &json!(["browser"])));
    let schema = client.call("config.schema", json!({})).await.expect("config.schema");
    assert_eq!(schema["schema"]["properties"]["browser"]["x-built"], false);
    let described =
        &schema["schema"]["properties"]["channels"]["properties"]["telegram"]["properties"]["botToken"];
    assert!(
        described["description"].is_string(),
        "the channel's program describes its own keys: {described}"
    );
    let port = client.call("config.schema.lookup", json!({"path": "gateway.port"})).await.expect("lookup");
    assert_eq!((&port["path"], &port["reloadKind"]), (&json!("gateway.port"), &json!("restart")));
}

#[tokio::test]
async fn a_section_that_a_worker_refuses_is_shown_and_stops_nobody() {
    let gateway = TestGateway::builder()
        .config(json!({"agents": {"list": [{"id": "main"}, {"id": "other", "model": "nowhere/x"}]}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let shown = wait::until("the agent's program is asked", async || {
        let shown = config(&mut client).await;
        // The verdict may come while one answer is being made.
        (shown["active"]["state"] == "invalid" && shown["warnings"][0].is_object()).then_some(shown)
    })
    .await;
    assert_eq!(
        (&shown["valid"], &shown["warnings"][0]["path"]),
        (&json!(true), &json!("agents.list.1.model"))
    );
    // A change is refused for what it brings, not for what was there.
    let updated = "Updated ui.seamColor.";
    prints(&gateway, &["config", "set", "ui.seamColor", "#123456"], updated);
    client.chat("main", "hello").await;
}
