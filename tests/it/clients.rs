//! Clients that others wrote talk to the gateway, each frame of ours checked against the published shapes
//! (protocol 4: the schema of `@openclaw/gateway-protocol`; protocol 3: `clients/data/protocol3-types.txt`).

use harness::gateway::{TOKEN, TestGateway};
use harness::model_server::{ModelServer, Reply, Script};
use harness::npm_clients;
use harness::ws_client::WsClient;
use serde_json::{Value, json};

/// Runs a script against a gateway of its own; gives its line of results. `None` = skipped.
async fn results(script: &str, args: &[&str]) -> Option<Value> {
    let said = npm_clients::run(script, args).await?;
    let results: Value = serde_json::from_str(&said).expect("one JSON line");
    assert_eq!(results["ok"], true, "{results}");
    Some(results)
}

fn ws_url(gateway: &TestGateway) -> String {
    format!("ws://127.0.0.1:{}/", gateway.port)
}

#[tokio::test]
async fn the_reference_client_works_and_our_frames_fit_its_schema() {
    let gateway = TestGateway::start().await;
    let Some(results) = results("reference_client.mjs", &[&ws_url(&gateway), TOKEN]).await else { return };
    assert!(results["frames"].as_u64().is_some_and(|frames| frames > 100), "{results}");
}

#[tokio::test]
async fn protocol_3_clients_work_and_our_frames_have_its_shapes() {
    let gateway = TestGateway::start().await;
    let identity = gateway.home.path().to_string_lossy().into_owned();
    let Some(results) = results("protocol3.mjs", &[&ws_url(&gateway), TOKEN, &identity]).await else {
        return;
    };
    assert!(results["frames"].as_u64().is_some_and(|frames| frames > 60), "{results}");
}

#[tokio::test]
async fn the_openai_sdk_works() {
    let gateway = TestGateway::start().await;
    let url = gateway.url("");
    if results("openai_sdk.mjs", &[&url, TOKEN]).await.is_none() {
        return;
    }
    let mut client = WsClient::cli(gateway.port, 4).await;
    let steady = json!({"sessionKey": "agent:main:openai-user:steady"});
    let history = client.call("chat.history", steady).await.expect("history");
    let roles: Vec<&str> =
        history["messages"].as_array().expect("messages").iter().filter_map(|m| m["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"], "one user has one session: {history}");
    // The run whose client left sleeps for five minutes unless it was aborted; the lane is free only then.
    let answer = client.chat("agent:main:openai-user:leaver", "are you free").await;
    assert_eq!(answer["state"], "final", "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_client_does_not_notice_that_the_gateway_is_replaced_three_times() {
    let words: String = (1..=150).map(|n| format!("word{n} ")).collect();
    let reply = Reply { text: words.trim().to_owned(), chunk_chars: 3, delay_ms: 30, ..Reply::default() };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let gateway = TestGateway::builder().config(crate::recovery::model_config(&model)).start().await;
    let log = gateway.home.path().join("gateway-0.log").to_string_lossy().into_owned();
    let args = [&*ws_url(&gateway), TOKEN, &gateway.pid().to_string(), &log];
    let Some(results) = results("replaced_gateway.mjs", &args).await else { return };
    assert_eq!(results["text"], words.trim(), "{results}");
    assert_eq!(model.book().len(), 2, "each of the two runs asks once");
    println!("{results}");
}
