//! Messages that take their agent down: set aside after three deaths of its own, with one note; all others go on.

use std::time::Duration;

use harness::gateway::TestGateway;
use harness::gateway::merge;
use harness::model_server::{Fault, ModelServer, Reply, Rule, Script};
use harness::telegram_server::{self, TelegramServer};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::recovery::model_config;

/// Deaths after which a message is to blame.
const DEATHS: u32 = 3;
/// A death of its own doing. Not SIGSEGV: sent from outside, the runtime's handler for stack overflows swallows the first.
const DEADLY: Signal = Signal::SIGILL;
const PATIENCE: Duration = Duration::from_secs(120);
const ANN: i64 = 7001;

/// A model that falls silent over a message with this word so many times, and answers it then.
fn silent_over(word: &str, times: u32) -> Script {
    let stall = Reply::text("never to be seen").with_fault(Fault::Stall { after: 1 });
    let rule = Rule { contains: Some(word.to_owned()), times: Some(times), reply: stall, ..Rule::default() };
    Script { rules: vec![rule], ..Script::default() }
}

/// Requests that named this word.
fn asked(model: &ModelServer, word: &str) -> usize {
    model.book().iter().filter(|entry| entry.body["messages"].to_string().contains(word)).count()
}

/// Waits until the model has been asked so often about the word, and gives the agent's process the signal.
async fn strike(gateway: &TestGateway, model: &ModelServer, word: &str, nth: usize, signal: Signal) {
    wait::until("the model is asked", async || (asked(model, word) >= nth).then_some(())).await;
    let pid = gateway.worker("openclaw-agent").await;
    kill(Pid::from_raw(pid as i32), signal).expect("our own process");
}

async fn agent(gateway: &TestGateway) -> Value {
    let mut client = WsClient::cli(gateway.port, 4).await;
    let listed = client.call("workers.list", json!({})).await.expect("a list");
    listed["workers"][0].clone()
}

fn command(gateway: &TestGateway, args: &[&str]) -> Value {
    let output = gateway.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_kills_its_agent_is_set_aside_and_can_be_tried_again() {
    let model = ModelServer::start(silent_over("poison", DEATHS)).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "poison", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    for nth in 1..=DEATHS as usize {
        strike(&gateway, &model, "poison", nth, Signal::SIGABRT).await;
    }
    let end = client.chat_end("k").await;
    assert_eq!(end["state"], "error", "{end}");
    assert!(end.to_string().contains("set aside"), "{end}");

    let next = client.chat("main", "good day").await;
    assert!(chat_text(&next).contains("good day"), "{next}");
    let worker = agent(&gateway).await;
    assert_eq!(
        (&worker["state"], &worker["why"]),
        (&json!("ready"), &Value::Null),
        "not its fault: {worker}"
    );

    let letters = command(&gateway, &["dead-letters"]);
    assert_eq!(letters["count"], 1, "{letters}");
    let id = letters["deadLetters"][0]["id"].to_string();
    let shown = command(&gateway, &["dead-letters", "show", &id]);
    assert_eq!(shown["message"]["text"], "poison", "{shown}");
    let seen = asked(&model, "poison");
    command(&gateway, &["dead-letters", "retry", &id]);
    wait::until("the message is answered after all", async || {
        let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
        let answers = history["messages"].as_array()?.iter().filter(|message| message["role"] == "assistant");
        let said = |answer: &Value| answer["content"].to_string().contains("poison");
        answers.into_iter().any(said).then_some(())
    })
    .await;
    assert!(asked(&model, "poison") > seen);
    assert_eq!(command(&gateway, &["dead-letters"])["count"], 0);
    let refused = gateway.cli(&["dead-letters", "discard", &id]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no dead letter"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_messages_only_the_one_that_kills_is_set_aside() {
    // One death with both in flight, which counts against nobody; then as many as it takes.
    let mut script = silent_over("poison", DEATHS + 1);
    script.rules.extend(silent_over("patience", 1).rules);
    let model = ModelServer::start(script).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for (session, word) in [("main", "poison"), ("other", "patience")] {
        let params = json!({"sessionKey": session, "message": word, "idempotencyKey": word});
        client.call("chat.send", params).await.expect("accepted");
    }
    wait::until("both are under way", async || (asked(&model, "patience") >= 1).then_some(())).await;
    strike(&gateway, &model, "poison", 1, DEADLY).await;
    strike(&gateway, &model, "poison", 2, DEADLY).await;
    let end = client.chat_end("patience").await;
    assert_eq!((&end["state"], chat_text(&end).contains("patience")), (&json!("final"), true), "{end}");
    for nth in 3..=DEATHS as usize + 1 {
        strike(&gateway, &model, "poison", nth, DEADLY).await;
    }
    let end = client.chat_end("poison").await;
    assert!(end["state"] == "error" && end.to_string().contains("set aside"), "{end}");
    let letters = command(&gateway, &["dead-letters"]);
    assert_eq!(letters["count"], 1, "{letters}");
    assert_eq!(asked(&model, "patience"), 2, "the death of both, and once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killer_from_outside_never_makes_a_message_poison() {
    let rounds = DEATHS + 2;
    let model = ModelServer::start(silent_over("patience", rounds)).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "patience", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    for nth in 1..=rounds as usize {
        strike(&gateway, &model, "patience", nth, Signal::SIGKILL).await;
    }
    let end = client.chat_end("k").await;
    assert_eq!((&end["state"], chat_text(&end).contains("patience")), (&json!("final"), true), "{end}");
    assert_eq!(command(&gateway, &["dead-letters"])["count"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_on_a_network_is_told_once_and_the_next_message_is_answered() {
    let model = ModelServer::start(silent_over("poison", DEATHS)).await;
    let server = TelegramServer::start().await;
    let mut config = model_config(&model);
    merge(
        &mut config,
        &json!({"channels": {"telegram": {
            "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
        }}, "messages": {"queue": {"mode": "followup", "debounceMs": 0}}}),
    );
    let gateway = TestGateway::builder().config(config).start().await;
    server.push_text(ANN, ANN, "poison");
    for nth in 1..=DEATHS as usize {
        strike(&gateway, &model, "poison", nth, DEADLY).await;
    }
    let notes = |server: &TelegramServer| {
        server.visible_texts(ANN).iter().filter(|text| text.contains("set aside")).count()
    };
    server.wait_for("the note", PATIENCE, |server| notes(server) > 0).await;
    server.push_text(ANN, ANN, "good day");
    let answered = |server: &TelegramServer| {
        server.visible_texts(ANN).iter().any(|text| text.contains("You said") && text.contains("good day"))
    };
    server.wait_for("the next answer", PATIENCE, answered).await;
    assert_eq!(notes(&server), 1, "{:?}", server.visible_texts(ANN));
    assert_eq!(command(&gateway, &["dead-letters"])["deadLetters"][0]["kind"], "inbound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_kills_its_channel_is_kept_unread_and_the_others_are_answered() {
    let model = ModelServer::start(Script::default()).await;
    let server = TelegramServer::start().await;
    let mut config = model_config(&model);
    merge(
        &mut config,
        &json!({"channels": {"telegram": {
            "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
        }}, "messages": {"queue": {"mode": "followup", "debounceMs": 0}}}),
    );
    let gateway = TestGateway::builder().config(config).start().await;
    // Reading it takes for ever: time to let the worker die over it.
    server.fault("getFile", 100, telegram_server::Fault::HangBefore);
    let person = json!({"id": ANN, "is_bot": false, "first_name": "Ann"});
    let photo = json!([{"file_id": "f", "file_unique_id": "u", "width": 9, "height": 9, "file_size": 9}]);
    server.push_update(json!({"message": {
        "message_id": 900, "date": 1_795_000_000, "from": person, "chat": {"id": ANN, "type": "private"},
        "photo": photo, "caption": "look at this",
    }}));
    for nth in 1..=DEATHS as usize {
        wait::until("the file is asked for", async || (server.calls("getFile").len() >= nth).then_some(()))
            .await;
        let pid = gateway.worker("openclaw-channel").await;
        kill(Pid::from_raw(pid as i32), DEADLY).expect("our own process");
    }
    let letter = wait::until("the letter", async || {
        command(&gateway, &["dead-letters"])["deadLetters"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(letter["kind"], "inbound", "{letter}");
    let id = letter["id"].to_string();
    let shown = command(&gateway, &["dead-letters", "show", &id]);
    assert!(shown["message"]["text"].as_str().is_some_and(|raw| raw.contains("look at this")), "{shown}");
    server.heal();
    server.push_text(ANN, ANN, "good day");
    let answered = |server: &TelegramServer| {
        server.visible_texts(ANN).iter().any(|text| text.contains("You said") && text.contains("good day"))
    };
    server.wait_for("the next answer", PATIENCE, answered).await;
    assert_eq!(server.calls("getFile").len(), DEATHS as usize, "it is not read again");
    let refused = gateway.cli(&["dead-letters", "retry", &id]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("could not read it"), "{refused:?}");
    command(&gateway, &["dead-letters", "discard", &id]);
}
