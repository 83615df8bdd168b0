//! Some four hundred configurations that must not run: a gateway that runs goes on as if nothing had happened, and a
//! service that starts becomes ready on what was good last.

mod corpus;

use corpus::{Bad, Corpus, Put};
use harness::gateway::TestGateway;
use harness::telegram_server::TelegramServer;
use harness::ws_client::WsClient;
use harness::{executables, wait};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use crate::reload::{put, settled};

/// A person who writes to the bot.
const ANN: i64 = 7001;
/// Fewer would not be what was promised.
const CASES_MIN: usize = 300;
/// A try of an agent or of an account may take 10 s each before it is given up.
const REFUSED_WITHIN: Duration = Duration::from_secs(25);
/// Cold starts: every family, and each special case of it.
const BOOTS_PER_FAMILY: usize = 8;

struct Scene {
    server: TelegramServer,
    gateway: TestGateway,
    client: WsClient,
    corpus: Corpus,
    /// A port of somebody else.
    _taken: TcpListener,
}

async fn scene(settle_seconds: u64) -> Scene {
    let server = TelegramServer::start().await;
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let config = json!({
        "gateway": {"reload": {"settleSeconds": settle_seconds, "debounceMs": 5}},
        "agents": {"list": [{"id": "main"}]},
        "channels": {"telegram": {"botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open",
            "allowFrom": ["*"]}},
    });
    let builder =
        TestGateway::builder().bin(executables::with_failpoints()).arg("--service").port_in_config();
    let gateway = builder.config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let base = fs::read_to_string(gateway.config_path()).expect("the config");
    let schema = gateway.cli(&["config", "schema"]);
    let schema: Value = serde_json::from_slice(&schema.stdout).expect("the schema");
    let port = taken.local_addr().expect("bound").port();
    let corpus = Corpus::new(&base, &schema, gateway.home.path(), server.token(), port);
    Scene { server, gateway, client, corpus, _taken: taken }
}

/// Puts a bad one in the place of the file.
fn break_file(gateway: &TestGateway, bad: &Bad) {
    match &bad.put {
        Put::Bytes(bytes) => {
            let temporary = gateway.state_dir().join("edited.tmp");
            fs::write(&temporary, bytes).expect("write");
            fs::rename(temporary, gateway.config_path()).expect("rename");
        }
        Put::Act(act) => {
            remove(gateway);
            act(&gateway.config_path());
        }
    }
}

fn remove(gateway: &TestGateway) {
    let path = gateway.config_path();
    drop(fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)));
}

/// How often the gateway said that it does not take a file over.
fn refusals(gateway: &TestGateway) -> usize {
    gateway.log().matches("config reload skipped (").count()
}

/// How often it said that the file does not run.
fn complaints(gateway: &TestGateway) -> usize {
    gateway.log().matches("config: INVALID since").count()
}

/// How often it said that all is well again.
fn acceptances(gateway: &TestGateway) -> usize {
    gateway.log().matches("config: the file is what runs").count()
}

/// Gives a running gateway all cases of these families; what it said of each.
async fn survives(families: &[&str]) -> Vec<String> {
    let mut scene = scene(0).await;
    let mut cases = scene.corpus.all();
    assert!(cases.len() >= CASES_MIN, "only {} cases", cases.len());
    cases.retain(|bad| families.contains(&bad.family));
    assert!(families.iter().all(|family| cases.iter().any(|bad| bad.family == *family)));
    let gateway = &scene.gateway;
    let processes = async || {
        [gateway.pid(), gateway.worker("agent:main").await, gateway.worker("channel:telegram").await]
    };
    let mut pids = processes().await;
    let (mut said, mut accepted) = (Vec::new(), Vec::<String>::new());
    for bad in &cases {
        let (before, told) = (refusals(gateway), complaints(gateway));
        break_file(gateway, bad);
        let refused = wait::within(REFUSED_WITHIN, async || (refusals(gateway) > before).then_some(())).await;
        if refused.is_none() {
            // Told at the end, with all others.
            accepted.push(bad.name.clone());
            put(gateway, &scene.corpus.base);
            settled(gateway, &mut scene.client).await;
            pids = processes().await;
            continue;
        }
        assert_eq!(processes().await, pids, "{}", bad.name);
        let shown = scene.client.call("config.get", json!({})).await.expect("it answers");
        let active = &shown["active"];
        assert!(matches!(active["state"].as_str(), Some("invalid" | "rolledBack")), "{}: {active}", bad.name);
        let error = scene.corpus.plain(active["errors"][0].as_str().unwrap_or_default());
        assert!(!error.is_empty(), "{}: no reason", bad.name);
        said.push(format!("{}\n    {} {error}", bad.name, active["state"].as_str().unwrap_or_default()));
        // Two that cannot be read for the same reason are one and the same to the gateway.
        if matches!(bad.put, Put::Act(_)) || bad.family == "bytes" {
            // It says all is well again only after it has said that it is not.
            let announced = async || (complaints(gateway) > told).then_some(());
            wait::until(&format!("{} is announced", bad.name), announced).await;
            let before = acceptances(gateway);
            remove(gateway);
            put(gateway, &scene.corpus.base);
            let seen = async || (acceptances(gateway) > before).then_some(());
            wait::until("the good one is seen", seen).await;
        }
    }
    assert!(accepted.is_empty(), "taken over: {accepted:#?}\n{}", gateway.log());
    scene.client.chat("main", "still there?").await;
    scene.server.push_text(ANN, ANN, "still there?");
    let answered = |server: &TelegramServer| !server.visible_texts(ANN).is_empty();
    scene.server.wait_for("an answer", Duration::from_secs(60), answered).await;
    put(gateway, &scene.corpus.base);
    settled(gateway, &mut scene.client).await;
    eprintln!("{} bad configurations, none did harm", cases.len());
    said
}

#[tokio::test]
async fn a_gateway_that_runs_is_not_hurt_by_texts_that_are_none() {
    survives(&["syntax", "cut", "bytes", "files"]).await;
}

#[tokio::test]
async fn a_gateway_that_runs_is_not_hurt_by_wrong_keys_and_types() {
    survives(&["unknown key", "wrong type"]).await;
}

#[tokio::test]
async fn a_gateway_that_runs_is_not_hurt_by_what_cannot_work() {
    let said = survives(&["semantics"]).await;
    insta::assert_snapshot!("refusals", said.join("\n"));
}

#[tokio::test]
async fn a_service_always_starts_on_what_was_good_last() {
    let Scene { server: _server, mut gateway, corpus, client, _taken } = scene(1).await;
    drop(client);
    let cases = corpus.sample(BOOTS_PER_FAMILY);
    for bad in &cases {
        gateway.kill9();
        break_file(&gateway, bad);
        gateway.start_again();
        wait::until(&format!("{} becomes ready", bad.name), async || {
            let answer = harness::http::get(gateway.port, "/readyz", None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        let mut client = WsClient::cli(gateway.port, 4).await;
        wait::until(&format!("{} gives way to the last good one", bad.name), async || {
            let shown = client.call("config.get", json!({})).await.expect("it answers");
            let active = &shown["active"];
            (active["source"] == "lastGood" && active["state"] != "ok").then_some(())
        })
        .await;
    }
    remove(&gateway);
    eprintln!("{} cold starts, all ready", cases.len());
}
