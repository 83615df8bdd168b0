//! The wire as it was recorded of the original: hello, refusals, closes, events and HTTP answers.
//!
//! `data/hello-v3.json` and `data/hello-v4.json` hold the keys of a recorded hello with the type of each value,
//! without the parts that no client needs.

mod http;
mod limits;
mod refusals;

use harness::gateway::{TOKEN, TestGateway};
use harness::wait;
use harness::ws_client::{Device, WsClient, chat_text, cli_params};
use serde_json::{Value, json};

/// What `ours` lacks of the recorded shape.
fn lacks(recorded: &Value, ours: &Value, place: &str) -> Vec<String> {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            let keys = recorded.iter().map(|(key, shape)| match ours.get(key) {
                Some(value) => lacks(shape, value, &format!("{place}/{key}")),
                None => vec![format!("{place} lacks {key}")],
            });
            keys.flatten().collect()
        }
        (Value::Array(recorded), Value::Array(ours)) => match recorded.first() {
            Some(shape) => ours.iter().flat_map(|item| lacks(shape, item, &format!("{place}[]"))).collect(),
            None => Vec::new(),
        },
        (Value::String(kind), value) => {
            let is = match value {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "another",
            };
            if is == kind { Vec::new() } else { vec![format!("{place} must be a {kind}: {value}")] }
        }
        _ => vec![format!("{place} is of another kind: {ours}")],
    }
}

/// A connection with its own device.
async fn with_device(gateway: &TestGateway, protocol: u64, device: &Device) -> WsClient {
    let mut client = WsClient::open(gateway.port).await.expect("the gateway answers");
    let mut params = cli_params(protocol);
    params["device"] = device.proof(&params, &client.nonce(), TOKEN);
    client.connect(params).await.expect("hello");
    client
}

#[tokio::test]
async fn hello_has_every_recorded_key() {
    let gateway = TestGateway::start().await;
    for (protocol, recorded) in
        [(3, include_str!("../data/hello-v3.json")), (4, include_str!("../data/hello-v4.json"))]
    {
        let client = with_device(&gateway, protocol, &Device::new()).await;
        let recorded: Value = serde_json::from_str(recorded).expect("JSON");
        assert_eq!(lacks(&recorded, &client.hello, ""), Vec::<String>::new(), "protocol {protocol}");
        assert_eq!(client.hello["protocol"], protocol);
        let policy = &client.hello["policy"];
        assert_eq!(
            (policy["maxPayload"].as_u64(), policy["maxBufferedBytes"].as_u64()),
            (Some(26_214_400), Some(52_428_800))
        );
        assert_eq!(policy["tickIntervalMs"], 30_000);
        assert!(client.challenge["payload"]["capabilities"].is_null(), "{}", client.challenge);
        assert!(client.challenge.get("seq").is_none(), "{}", client.challenge);
    }
}

#[tokio::test]
async fn the_protocol_is_the_highest_that_both_speak() {
    let gateway = TestGateway::start().await;
    for (min, max, spoken) in [(3, 3, 3), (3, 4, 4), (4, 4, 4), (1, 99, 4)] {
        let mut client = WsClient::open(gateway.port).await.expect("open");
        let mut params = cli_params(4);
        params["minProtocol"] = min.into();
        params["maxProtocol"] = max.into();
        let hello = client.connect(params).await.expect("hello");
        assert_eq!(hello["protocol"], spoken, "{min}..{max}");
    }
}

#[tokio::test]
async fn a_device_keeps_its_token_and_comes_back_with_it_alone() {
    let gateway = TestGateway::start().await;
    let device = Device::new();
    let first = with_device(&gateway, 4, &device).await;
    let second = with_device(&gateway, 4, &device).await;
    let token = first.hello["auth"]["deviceToken"].as_str().expect("a device token");
    assert_eq!(second.hello["auth"]["deviceToken"], token);
    for key in ["token", "deviceToken"] {
        let mut client = WsClient::open(gateway.port).await.expect("open");
        let mut params = cli_params(4);
        params["auth"] = json!({key: token});
        params["device"] = device.proof(&params, &client.nonce(), token);
        client.connect(params).await.expect("hello by device token");
    }
}

#[tokio::test]
async fn a_client_that_closes_gets_a_close_frame() {
    let gateway = TestGateway::start().await;
    for protocol in [3, 4] {
        let mut client = WsClient::cli(gateway.port, protocol).await;
        assert_ne!(client.close().await.code, 1006, "protocol {protocol}");
    }
    let mut early = WsClient::open(gateway.port).await.expect("open");
    assert_ne!(early.close().await.code, 1006, "before hello");
}

#[tokio::test]
async fn events_are_counted_per_connection_from_one() {
    let gateway = TestGateway::start().await;
    let mut first = WsClient::cli(gateway.port, 4).await;
    first.chat("main", "hello").await;
    let mut clients = [WsClient::cli(gateway.port, 3).await, WsClient::cli(gateway.port, 4).await];
    first.chat("main", "again").await;
    for client in &mut clients {
        client.event_where("chat", |payload| payload["state"] == "final").await;
    }
    let [three, four] = &mut clients;
    for client in [&mut first, three, four] {
        let mut numbers: Vec<u64> = client.seen.clone();
        numbers.dedup();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn presence_and_health_are_told_with_their_versions() {
    let gateway = TestGateway::start().await;
    let mut watcher = WsClient::cli(gateway.port, 4).await;
    let mut page = cli_params(4);
    page["client"] = json!({"id": "gateway-client", "mode": "ui", "version": "9.9", "platform": "linux"});
    let mut other = WsClient::open(gateway.port).await.expect("open");
    page["device"] = Device::new().proof(&page, &other.nonce(), TOKEN);
    other.connect(page).await.expect("hello");
    let shown = |payload: &Value| payload["presence"].to_string().contains("9.9");
    let event = watcher.event_where("presence", shown).await;
    assert!(event["stateVersion"]["presence"].as_u64().is_some_and(|version| version > 0), "{event}");
    let list = watcher.call("system-presence", json!({})).await.expect("presence");
    assert!(list.as_array().expect("a bare array").iter().any(|row| row["version"] == "9.9"), "{list}");
    // Protocol 3 is told the state of health after each connect.
    let mut three = WsClient::cli(gateway.port, 3).await;
    let health = three.event("health").await;
    assert_eq!(health["payload"]["ok"], true, "{health}");
    assert!(health["stateVersion"]["health"].as_u64().is_some(), "{health}");
}

#[tokio::test]
async fn the_end_is_announced_and_closed_with_1012() {
    let mut gateway = TestGateway::start().await;
    let mut clients = [WsClient::cli(gateway.port, 3).await, WsClient::cli(gateway.port, 4).await];
    assert!(gateway.terminate().success());
    for client in &mut clients {
        let shutdown = client.event("shutdown").await;
        assert_eq!(shutdown["payload"]["reason"], "gateway stopping", "{shutdown}");
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (1012, "service restart"));
    }
}

#[tokio::test]
async fn a_client_dropped_in_mid_run_finds_everything_when_it_returns() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params =
        json!({"sessionKey": "main", "message": "run: sleep 1 && echo slept", "idempotencyKey": "drop"});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("agent", |payload| payload["data"]["phase"] == "start").await;
    drop(client);
    let mut back = WsClient::cli(gateway.port, 4).await;
    assert!(back.hello["snapshot"]["health"]["ok"].as_bool().is_some_and(|ok| ok));
    let end = back.chat_end("drop").await;
    assert!(chat_text(&end).contains("slept"), "{end}");
    assert_eq!(back.seen.first(), Some(&1));
    let history = back.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    assert!(history.to_string().contains("slept"), "{history}");
    wait::until("the session is listed", async || {
        let listed = back.call("sessions.list", json!({})).await.ok()?;
        listed.to_string().contains("agent:main:main").then_some(())
    })
    .await;
}
