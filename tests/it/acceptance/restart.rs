//! Signals and restarts: what they announce, what they leave, what they never do.

use harness::gateway::{TOKEN, TestGateway};
use harness::model_server::{ModelServer, Script};
use harness::ws_client::WsClient;
use harness::{http, wait};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

use crate::recovery::model_config;

#[tokio::test]
async fn a_stop_is_quick_and_orderly() {
    let mut gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 3).await;
    let asked = std::time::Instant::now();
    gateway.signal(Signal::SIGTERM);
    let told = client.event("shutdown").await;
    assert_eq!(told["payload"], json!({"reason": "gateway stopping", "restartExpectedMs": null}));
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_restart_signal_without_permission_is_ignored() {
    let gateway = TestGateway::builder().config(json!({"commands": {"restart": false}})).start().await;
    gateway.signal(Signal::SIGUSR1);
    let wanted = "SIGUSR1 restart ignored (not authorized; commands.restart=false or use gateway tool).";
    wait::until("the warning", async || gateway.log().contains(wanted).then_some(())).await;
    WsClient::cli(gateway.port, 4).await.chat("main", "still there?").await;
}

/// The default of SIGUSR1 is to kill: one that comes while a start is under way must wait for its end.
#[tokio::test]
async fn restart_signals_at_any_moment_do_not_kill() {
    let mut gateway = TestGateway::start().await;
    let mut sent = 0;
    while sent < 200 {
        gateway.signal(Signal::SIGUSR1);
        sent += 1;
        // Spread over several starts and stops: each answer takes as long as the gateway lets it.
        let _answer = http::get(gateway.port, "/healthz", None).await;
    }
    gateway.ready().await;
    WsClient::cli(gateway.port, 4).await.chat("main", "still there?").await;
    assert_eq!(gateway.terminate().code(), Some(0));
}

#[tokio::test]
async fn asking_twice_restarts_once_and_the_next_one_waits() {
    let config = json!({"gateway": {"restart": {"keepSockets": false}}});
    let gateway = TestGateway::builder().config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let first = client.call("gateway.restart", json!({"delayMs": 500})).await.expect("planned");
    let second = client.call("gateway.restart", json!({"delayMs": 900})).await.expect("joined");
    assert_eq!((&first["coalesced"], &second["coalesced"]), (&json!(false), &json!(true)), "{second}");
    client.event("shutdown").await;
    assert_eq!(client.closed().await.code, 1012);
    gateway.ready().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let third = client.call("gateway.restart", json!({})).await.expect("planned");
    assert!(third["cooldownMsApplied"].as_u64().is_some_and(|ms| ms > 0), "{third}");
}

#[tokio::test]
async fn who_asked_for_a_change_learns_how_it_went_and_references_stay() {
    let model = ModelServer::start(Script::default()).await;
    let gateway = TestGateway::builder()
        .config(model_config(&model))
        .config(json!({"env": {"vars": {"COLOUR": "#112233"}}, "ui": {"seamColor": "${COLOUR}"}}))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let hash = client.call("config.get", json!({})).await.expect("config")["hash"].clone();
    let raw = "{agents:{defaults:{maxConcurrent:3}},gateway:{tailscale:{resetOnExit:true}}}";
    let params = json!({"raw": raw, "baseHash": hash, "restartDelayMs": 0, "note": "three at once now",
        "sessionKey": "main"});
    client.call("config.patch", params).await.expect("patched");
    let note = gateway.state_dir().join("restart-sentinel.json");
    wait::until("the note is taken", async || (!note.exists()).then_some(())).await;
    assert!(fs::read_to_string(gateway.config_path()).expect("the config").contains("${COLOUR}"));
    client.chat("main", "how did it go?").await;
    let prompt = model.book()[0].body.to_string();
    let told = "Gateway restart config-patch ok (config.patch)";
    assert!(prompt.contains(told) && prompt.contains("three at once now"), "{prompt}");
}

/// A rotated secret opens nothing any more, and its sockets are gone.
#[tokio::test]
async fn an_old_token_ends_with_its_rotation() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let hash = client.call("config.get", json!({})).await.expect("config")["hash"].clone();
    let raw = "{gateway:{auth:{token:'another-token-0123456789'}}}";
    let patched = client.call("config.patch", json!({"raw": raw, "baseHash": hash})).await.expect("patched");
    assert!(patched["restart"].is_null(), "a secret is rotated in the running gateway: {patched}");
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1008, "gateway auth changed"));
    for (token, wanted) in [(TOKEN, 401), ("another-token-0123456789", 200)] {
        let answer = http::get(gateway.port, "/v1/models", Some(token)).await.expect("an answer");
        assert_eq!(answer.status, wanted, "{token}");
    }
    let log = fs::read_to_string(gateway.state_dir().join("logs/gateway.log")).unwrap_or_default();
    assert!(!log.contains("another-token-0123456789") && !log.contains(TOKEN), "{log}");
}
