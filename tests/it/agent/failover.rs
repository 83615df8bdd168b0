//! Keys that are refused: which one is used instead, for how long the other rests, and what outlives a restart.

use super::{asked, builder, for_model, history, scene_with, send};
use harness::gateway::TestGateway;
use harness::model_server::{Fault, ModelServer, Reply, Script};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

const PROFILES: &str = "agents/main/agent/auth-profiles.json";

fn profiles(keys: &[(&str, &str)]) -> String {
    let of = |key: &str| json!({"type": "api_key", "provider": "double", "key": key});
    let all: serde_json::Map<String, Value> =
        keys.iter().map(|(id, key)| ((*id).to_owned(), of(key))).collect();
    json!({"version": 1, "profiles": all, "note": "kept"}).to_string()
}

fn stored(gateway: &TestGateway) -> Value {
    let text = std::fs::read(gateway.state_dir().join(PROFILES)).expect("the profiles");
    serde_json::from_slice(&text).expect("JSON")
}

/// Keys of the requests so far.
fn keys(model: &ModelServer) -> Vec<String> {
    asked(model).iter().map(|entry| entry.headers["authorization"].replacen("Bearer ", "", 1)).collect()
}

#[tokio::test]
async fn a_refused_key_rests_the_next_one_answers_and_stays_with_the_session_over_a_restart() {
    let script = Script { key: Some("good".to_owned()), otherwise: Reply::text("fine"), ..Script::default() };
    let model = ModelServer::start(script).await;
    let mut gateway = builder(&model)
        .config(json!({"models": {"providers": {"double": {"apiKey": null}}}, "auth": {"order": {"double": ["double:bad", "double:good"]}}}))
        .file(&format!(".openclaw/{PROFILES}"), &profiles(&[("double:bad", "bad"), ("double:good", "good")]))
        .start()
        .await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let end = client.chat("main", "hello").await;
    assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "fine"), "{end}");
    assert_eq!(keys(&model), ["bad", "good"]);
    let rests = async || stored(&gateway)["usageStats"]["double:bad"]["cooldownUntil"].as_f64();
    wait::until("the rest is written", rests).await;
    let after = stored(&gateway);
    assert_eq!(after["note"], "kept");
    let stats = &after["usageStats"]["double:bad"];
    assert_eq!((&stats["errorCount"], &stats["failureCounts"]["auth"]), (&json!(1), &json!(1)), "{after}");
    let seconds =
        (stats["cooldownUntil"].as_f64().unwrap() - stats["lastFailureAt"].as_f64().unwrap()) / 1000.0;
    assert_eq!(seconds, 60.0);

    client.chat("main", "again").await;
    assert_eq!(keys(&model), ["bad", "good", "good"]);
    gateway.kill9();
    gateway.restart().await;
    let mut client = WsClient::with_tools(gateway.port).await;
    client.chat("main", "and again").await;
    client.chat("other", "a new session").await;
    assert_eq!(keys(&model), ["bad", "good", "good", "good", "good"]);
    let sessions = std::fs::read_to_string(gateway.state_dir().join("agents/main/sessions/sessions.json"));
    let sessions: Value = serde_json::from_str(&sessions.expect("sessions.json")).expect("JSON");
    let main = &sessions["agent:main:main"];
    assert_eq!(
        (&main["authProfileOverride"], &main["authProfileOverrideSource"]),
        (&json!("double:good"), &json!("auto"))
    );
}

#[tokio::test]
async fn a_key_without_credit_is_disabled_for_hours_and_its_model_passed_over() {
    let broke = Reply::fault(Fault::Status { status: 402, body: "insufficient credits".to_owned() });
    let script =
        Script { rules: vec![for_model("m1", broke)], otherwise: Reply::text("fine"), ..Script::default() };
    let model = ModelServer::start(script).await;
    let gateway = builder(&model)
        .config(json!({
            "models": {"providers": {
                "double": {"apiKey": null},
                "spare": {"baseUrl": model.openai_url(), "apiKey": "other", "api": "openai-completions", "models": [{"id": "m2"}]},
            }},
            "agents": {"defaults": {"model": {"primary": "double/m1", "fallbacks": ["spare/m2"]}}},
        }))
        .file(&format!(".openclaw/{PROFILES}"), &profiles(&[("double:only", "poor")]))
        .start()
        .await;
    let mut client = WsClient::with_tools(gateway.port).await;
    for text in ["hello", "again"] {
        let end = client.chat("main", text).await;
        assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "fine"), "{end}");
    }
    assert_eq!(keys(&model), ["poor", "other", "other"], "the second message does not ask the poor one");
    let disabled =
        async || (stored(&gateway)["usageStats"]["double:only"]["disabledReason"] == "billing").then_some(());
    wait::until("it is written", disabled).await;
    let stats = stored(&gateway)["usageStats"]["double:only"].clone();
    let hours =
        (stats["disabledUntil"].as_f64().unwrap() - stats["lastFailureAt"].as_f64().unwrap()) / 3_600_000.0;
    assert_eq!(hours, 5.0, "{stats}");
}

#[tokio::test]
async fn a_resting_model_is_asked_all_the_same_when_nobody_else_is_there() {
    let broke = Reply::fault(Fault::Status { status: 402, body: "insufficient credits".to_owned() });
    let once = harness::model_server::Rule { times: Some(1), reply: broke, ..Default::default() };
    let script = Script { rules: vec![once], otherwise: Reply::text("paid"), ..Script::default() };
    let model = ModelServer::start(script).await;
    let gateway = builder(&model)
        .config(json!({"models": {"providers": {"double": {"apiKey": null}}}}))
        .file(&format!(".openclaw/{PROFILES}"), &profiles(&[("double:only", "key")]))
        .start()
        .await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let end = client.chat("main", "hello").await;
    assert!(end["errorMessage"].as_str().is_some_and(|text| text.contains("no credit left")), "{end}");
    let end = client.chat("main", "I have paid").await;
    assert_eq!(chat_text(&end), "paid", "{end}");
    let healed =
        async || stored(&gateway)["usageStats"]["double:only"].get("disabledUntil").is_none().then_some(());
    wait::until("the reply frees the key", healed).await;
}

#[tokio::test]
async fn when_all_models_fail_each_is_told_with_its_cause() {
    let rules = vec![
        for_model("m1", Reply::fault(Fault::RateLimit { retry_after: Some("3600".to_owned()) })),
        for_model("m2", Reply::fault(Fault::NoModel)),
    ];
    let config =
        json!({"agents": {"defaults": {"model": {"primary": "double/m1", "fallbacks": ["double/m2"]}}}});
    let (_gateway, model, mut client) = scene_with(rules, Reply::text("unused"), config).await;
    let end = client.chat("main", "hello").await;
    let told = end["errorMessage"].as_str().unwrap_or_default();
    for word in ["All 2 models failed", "double/m1: rate limit reached", "double/m2: unknown model"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(asked(&model).len(), 2);
}

#[tokio::test]
async fn agents_of_the_keyed_map_have_their_own_model() {
    let config = json!({"agents": {"entries": {"main": {}, "helper": {"model": "double/m2"}}}});
    let (_gateway, model, mut client) = scene_with(vec![], Reply::text("fine"), config).await;
    send(&mut client, "agent:helper:main", "hello", "k1").await;
    let told = async || (history(&mut client, "agent:helper:main").await.len() == 2).then_some(());
    wait::until("an answer", told).await;
    assert_eq!(asked(&model)[0].body["model"], "m2");
}
