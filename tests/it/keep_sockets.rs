//! Clients stay connected while the gateway's program image is replaced.

use crate::upgrade::replaced;
use harness::gateway::{TOKEN, TestGateway};
use harness::model_server::{ModelServer, Reply, Script};
use harness::upgrade_load::{Load, Size, WORDS};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_five_runs_and_three_bots_do_not_notice_a_replacement() {
    let mut load = Load::start(Size::default(), None).await;
    for _ in 0..2 {
        load.upgrade().await;
    }
    let report = load.finish().await;
    println!("{report}");
    assert_eq!(report.wrong(), 0, "{report}");
    assert!(report.count("runs complete") >= 5 && report.count("messages answered once") >= 3, "{report}");
}

fn slow() -> Script {
    let reply = Reply { text: WORDS.to_owned(), chunk_chars: 2, delay_ms: 30, ..Reply::default() };
    Script { otherwise: reply, ..Script::default() }
}

/// What waits on one connection goes on: both answers of `agent`, `agent.wait`, subscriptions, presence.
#[tokio::test]
async fn calls_that_wait_are_answered_by_the_next_image() {
    let model = ModelServer::start(slow()).await;
    let gateway = TestGateway::builder().config(crate::recovery::model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.call("sessions.subscribe", json!({})).await.expect("subscribed");
    let agent = client.send("agent", json!({"message": "count", "idempotencyKey": "k"})).await;
    assert_eq!(client.response(&agent).await.expect("accepted")["status"], "accepted");
    let waiting = client.send("agent.wait", json!({"runId": "k", "timeoutMs": 60_000})).await;
    client.event_where("chat", |p| p["state"] == "delta").await;
    gateway.signal(Signal::SIGUSR1);
    let outcome = client.response(&agent).await.expect("the outcome");
    assert_eq!(outcome.pointer("/result/payloads/0/text"), Some(&json!(WORDS)), "{outcome}");
    assert_eq!(client.response(&waiting).await.expect("waited")["status"], "ok");
    let info = replaced(&gateway, 1).await;
    assert_eq!(info["upgrades"], 1);
    client.chat("other", "again").await;
    client.event("sessions.changed").await;
    let gaps = client.seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert_eq!(gaps, 0, "{:?}", client.seen);
}

/// `gateway.restart.keepSockets: false`, and a token that was changed meanwhile: everybody connects again.
#[tokio::test]
async fn clients_are_closed_when_they_are_not_to_be_kept_or_would_not_be_let_in() {
    let off = json!({"gateway": {"restart": {"keepSockets": false}}});
    let gateway = TestGateway::builder().config(off).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    gateway.signal(Signal::SIGUSR1);
    let told = client.event("shutdown").await;
    assert_eq!(told["payload"], json!({"reason": "gateway restarting", "restartExpectedMs": 1500}));
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1012, "service restart"));

    let gateway =
        TestGateway::builder().config(json!({"gateway": {"reload": {"mode": "off"}}})).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let text = std::fs::read_to_string(gateway.config_path()).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["gateway"]["auth"]["token"] = json!("another-token-0123456789");
    std::fs::write(gateway.config_path(), config.to_string()).expect("writable");
    gateway.signal(Signal::SIGUSR1);
    client.event("shutdown").await;
    assert_eq!(client.closed().await.code, 1012);
}

/// A stream over HTTP cannot be carried: it ends with an error event, and its run goes on.
#[tokio::test]
async fn an_http_stream_ends_with_an_error_event_and_its_run_goes_on() {
    let reply = Reply { text: WORDS.to_owned(), chunk_chars: 1, delay_ms: 60, ..Reply::default() };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let gateway = TestGateway::builder().config(crate::recovery::model_config(&model)).start().await;
    let body =
        json!({"model": "openclaw", "stream": true, "messages": [{"role": "user", "content": "count"}]});
    let port = gateway.port;
    let asked = tokio::spawn(async move {
        harness::http::post_json(port, "/v1/chat/completions", Some(TOKEN), &body).await
    });
    wait::until("the model is asked", async || (!model.book().is_empty()).then_some(())).await;
    gateway.signal(Signal::SIGUSR1);
    let answer = asked.await.expect("the client").expect("an answer");
    assert!(answer.text().contains("the gateway restarts"), "{}", answer.text());
    wait::until("the whole reply was fetched", async || (model.answered() > 0).then_some(())).await;
    replaced(&gateway, 1).await;
}
