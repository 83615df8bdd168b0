//! Sizes, and readers that do not read.

use harness::gateway::TestGateway;
use harness::ws_client::{Closed, WsClient};
use serde_json::json;

const BEFORE_HELLO_BYTES_MAX: usize = 65_536;
const FRAME_BYTES_MAX: usize = 26_214_400;

/// A request of exactly so many bytes.
fn request_of(bytes: usize) -> String {
    let empty = json!({"type": "req", "id": "big", "method": "health", "params": {"pad": ""}}).to_string();
    empty.replace(r#""pad":"""#, &format!(r#""pad":"{}""#, "x".repeat(bytes - empty.len())))
}

#[tokio::test]
async fn frames_before_hello_are_small() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::open(gateway.port).await.expect("open");
    client.send_unwelcome(request_of(BEFORE_HELLO_BYTES_MAX + 1)).await;
    assert_eq!(client.closed().await, Closed { code: 1009, reason: String::new() });
    let mut client = WsClient::open(gateway.port).await.expect("open");
    client.send_unwelcome(request_of(BEFORE_HELLO_BYTES_MAX)).await;
    let error = client.response("big").await.expect_err("read, and not a connect");
    assert_eq!(error["message"], "invalid handshake: first request must be connect");
}

#[tokio::test]
async fn frames_after_hello_may_be_large_but_not_larger() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.send_unwelcome(request_of(FRAME_BYTES_MAX)).await;
    client.response("big").await.expect("health");
    client.send_unwelcome(request_of(FRAME_BYTES_MAX + 1)).await;
    assert_eq!(client.closed().await, Closed { code: 1009, reason: String::new() });
}

#[tokio::test]
async fn nothing_that_a_client_says_after_hello_closes_its_socket() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.send_raw("{not json").await;
    client.send_raw("[]").await;
    let error = client.response("invalid").await.expect_err("a request needs an id");
    assert!(error["message"].as_str().is_some_and(|m| m.starts_with("invalid request frame: ")), "{error}");
    client.send_raw(r#"{"type":"req","id":"mine"}"#).await;
    let error = client.response("mine").await.expect_err("a request needs a method");
    assert!(error["message"].as_str().is_some_and(|m| m.starts_with("invalid request frame: ")), "{error}");
    let error = client.call("no.such", json!({})).await.expect_err("unknown");
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("INVALID_REQUEST"), Some("unknown method: no.such"))
    );
    let error = client.call("connect", json!({})).await.expect_err("too late");
    assert_eq!(error["message"], "connect is only valid as the first request");
    let error = client.call("chat.send", json!({})).await.expect_err("no params");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("invalid chat.send params: ") && message.contains("must have required property"),
        "{error}"
    );
    // Params may be left out, ids may come twice, order is free.
    for _ in 0..2 {
        client.send_raw(r#"{"type":"req","id":"twice","method":"health"}"#).await;
    }
    for _ in 0..2 {
        assert_eq!(client.response("twice").await.expect("health")["ok"], true);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_hurts_nobody() {
    let gateway = TestGateway::start().await;
    let mut deaf = WsClient::cli(gateway.port, 4).await;
    let mut other = WsClient::cli(gateway.port, 4).await;
    // Refusals repeat the name. More of them than its queue (8192) and the kernel's buffers (a few MB) hold.
    let name = "x".repeat(2_000);
    for _ in 0..20_000 {
        deaf.send(&name, json!({})).await;
    }
    let answer = other.chat("main", "still there").await;
    assert_eq!(answer["state"], "final", "{answer}");
    assert_eq!(deaf.closed().await, Closed { code: 1008, reason: "slow consumer".to_owned() });
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_after_fifteen_seconds() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::open(gateway.port).await.expect("open");
    let opened = std::time::Instant::now();
    assert_eq!(client.closed().await, Closed { code: 1000, reason: String::new() });
    let waited = opened.elapsed().as_secs();
    assert!((14..25).contains(&waited), "{waited} s");
}
