//! What an operator asks of a running gateway, and what it says in words that can be acted on.

use harness::gateway::{TestGateway, merge};
use harness::model_server::{ModelServer, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use serde_json::{Value, json};

use crate::recovery::model_config;

const CHANNEL: &str = "channel:telegram:default";

async fn with_telegram(server: &TelegramServer, model: &ModelServer) -> TestGateway {
    let mut config = model_config(model);
    let telegram = json!({
        "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
    });
    merge(&mut config, &json!({"channels": {"telegram": telegram}}));
    TestGateway::builder().config(config).start().await
}

fn printed(gateway: &TestGateway, args: &[&str]) -> String {
    let output = gateway.cli(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn worker(gateway: &TestGateway, id: &str) -> Value {
    let listed: Value =
        serde_json::from_str(&printed(gateway, &["workers", "--json"])).expect("one document");
    let mut rows = listed["workers"].as_array().into_iter().flatten();
    rows.find(|row| row["id"] == id).cloned().unwrap_or_default()
}

async fn state(gateway: &TestGateway, id: &str, state: &str) {
    wait::until(&format!("{id} is {state}"), async || (worker(gateway, id)["state"] == state).then_some(()))
        .await;
}

fn pid_and_upgrades(gateway: &TestGateway) -> (u32, Value) {
    let info = printed(gateway, &["gateway", "call", "system.info", "--json"]);
    let info: Value = serde_json::from_str(&info).expect("one document");
    (gateway.pid(), info["upgrades"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_was_stopped_stays_stopped_until_it_is_started() {
    let (server, model) = (TelegramServer::start().await, ModelServer::start(Script::default()).await);
    let mut gateway = with_telegram(&server, &model).await;
    state(&gateway, CHANNEL, "ready").await;
    let told = printed(&gateway, &["workers", "stop", CHANNEL]);
    assert!(told.contains("stays stopped") && told.contains("workers start"), "{told}");
    state(&gateway, CHANNEL, "stopped").await;

    // A new configuration, a restart in place, a stop and a start, a kill.
    let config = std::fs::read_to_string(gateway.config_path()).expect("the configuration");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["channels"]["telegram"]["textChunkLimit"] = json!(1000);
    std::fs::write(gateway.config_path(), config.to_string()).expect("written");
    wait::until("it is applied", async || gateway.log().contains("textChunkLimit").then_some(())).await;
    let before = pid_and_upgrades(&gateway);
    let output = gateway.cli(&["restart"]);
    assert!(output.status.success(), "{output:?}");
    let after = pid_and_upgrades(&gateway);
    assert_eq!(before.0, after.0);
    assert_ne!(before.1, after.1, "a restart in place");
    still_stopped(&gateway);
    assert!(gateway.terminate().success());
    gateway.restart().await;
    still_stopped(&gateway);
    gateway.kill9();
    gateway.restart().await;
    still_stopped(&gateway);

    printed(&gateway, &["workers", "start", CHANNEL]);
    state(&gateway, CHANNEL, "ready").await;
    assert_eq!(gateway.cli(&["status", "--check"]).status.code(), Some(0));
    assert!(gateway.terminate().success());
    gateway.restart().await;
    state(&gateway, CHANNEL, "ready").await;
    // `restart` ends a stop too.
    printed(&gateway, &["workers", "stop", CHANNEL]);
    state(&gateway, CHANNEL, "stopped").await;
    printed(&gateway, &["workers", "restart", CHANNEL]);
    state(&gateway, CHANNEL, "ready").await;
}

fn still_stopped(gateway: &TestGateway) {
    assert!(gateway.workers("openclaw-channel").is_empty(), "it runs");
    let output = gateway.cli(&["status", "--check"]);
    let status = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{status}");
    assert!(status.contains(&format!("! {CHANNEL}: stopped – by an operator")), "{status}");
    assert!(!status.contains("All well"), "{status}");
}

#[tokio::test]
async fn what_a_worker_says_stands_in_the_log_field_by_field() {
    let gateway = TestGateway::start().await;
    state(&gateway, "agent:main", "ready").await;
    let dump = printed(&gateway, &["workers", "dump", "agent:main"]);
    assert!(!dump.contains("null") && !dump.contains("{\"") && !dump.contains(",0,"), "{dump}");
    let lines = printed(&gateway, &["logs", "--plain", "--limit", "1000"]);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_workers: Vec<Value> = lines.filter(|line| line["subsystem"] == "worker").collect();
    assert!(!of_workers.is_empty());
    for line in of_workers {
        assert!(line.get("rest").is_none() && line.get("fields_of_worker").is_none(), "{line}");
    }
}

#[tokio::test]
async fn a_reply_of_an_earlier_gateway_is_shown_with_its_text_and_account() {
    let left = json!({
        "id": "x", "channel": "telegram", "to": "7", "accountId": "", "payloads": [{"text": "never\nsent"}],
    });
    let gateway =
        TestGateway::builder().file(".openclaw/delivery-queue/left.json", &left.to_string()).start().await;
    let list: Value =
        serde_json::from_str(&printed(&gateway, &["dead-letters", "--json"])).expect("one document");
    let letter = &list["deadLetters"][0];
    assert_eq!((&letter["kind"], &letter["account"]), (&json!("imported"), &json!("telegram:default")));
    let id = letter["id"].as_u64().expect("a number").to_string();
    let shown = printed(&gateway, &["dead-letters", "show", &id]);
    assert!(shown.contains("never\n  sent"), "{shown}");
    let at = shown.lines().find(|line| line.starts_with("at ")).expect("when");
    assert!(at.contains("20") && at.ends_with('Z'), "{at}");
}
