//! What a person sets by words in a chat: for the session, or for one message.

use super::{asked, scene};
use harness::model_server::{Entry, ModelServer, Reply, Script};
use harness::telegram_server::TelegramServer;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

async fn say(client: &mut WsClient, text: &str) -> String {
    chat_text(&client.chat("main", text).await)
}

fn effort(request: &Entry) -> &Value {
    &request.body["reasoning_effort"]
}

#[tokio::test]
async fn the_model_is_chosen_by_name_number_or_for_one_message() {
    let (_gateway, model, mut client) = scene(vec![], Reply::text("yes")).await;
    let list = say(&mut client, "/model list").await;
    assert!(list.contains("1. double/m1") && list.contains("2. double/m2"), "{list}");
    let mut models = Vec::new();
    for text in
        ["a", "/model double/m2", "b", "/model double/m1 c", "d", "/model default", "e", "/model 2", "f"]
    {
        let answer = say(&mut client, text).await;
        assert_eq!(answer == "yes", !text.starts_with("/model") || text.ends_with(" c"), "{text}: {answer}");
        models.extend(
            asked(&model)
                .iter()
                .skip(models.len())
                .map(|entry| entry.body["model"].clone())
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(models, ["m1", "m2", "m1", "m2", "m1", "m2"], "a b c d e f");
    let heard = super::users(&asked(&model)[2]);
    assert!(heard.last().is_some_and(|text| text.ends_with("] c") || text == "c"), "{heard:?}");
    let shown = say(&mut client, "/model").await;
    assert!(shown.contains("Model: double/m2") && shown.contains("Default: double/m1"), "{shown}");
    assert!(say(&mut client, "/model nobody/m1").await.starts_with("⚠️"));
    assert!(say(&mut client, "/model 99").await.contains("there is no model 99"));
    assert!(say(&mut client, "/models double").await.contains("double/m2"));
    assert!(say(&mut client, "/models nobody").await.contains("no provider \"nobody\""));
    assert_eq!(asked(&model).len(), 6, "commands ask no model");
}

#[tokio::test]
async fn thinking_is_set_for_the_session_or_for_one_message() {
    let (_gateway, model, mut client) = scene(vec![], Reply::text("yes")).await;
    say(&mut client, "/think high").await;
    say(&mut client, "why?").await;
    say(&mut client, "and /t:minimal now?").await;
    say(&mut client, "again").await;
    say(&mut client, "/think reset").await;
    say(&mut client, "last").await;
    let entries = asked(&model);
    let efforts: Vec<&Value> = entries.iter().map(effort).collect();
    assert_eq!(efforts[..3], [&json!("high"), &json!("minimal"), &json!("high")], "{efforts:?}");
    assert_ne!(efforts[3], "high");
    assert!(say(&mut client, "/think").await.contains("Options: off, minimal"));
    assert!(say(&mut client, "/think hardly").await.contains("not an option"));
    let who = say(&mut client, "/whoami").await;
    assert!(who.contains("Session: agent:main:main") && who.contains("Owner: yes"), "{who}");
}

#[tokio::test]
async fn what_was_spent_is_told() {
    let reply = Reply { input_tokens: 1_500, output_tokens: 20, ..Reply::text("yes") };
    let (_gateway, _model, mut client) = scene(vec![], reply).await;
    assert!(say(&mut client, "/usage cost").await.contains("Nothing was spent"));
    say(&mut client, "a").await;
    say(&mut client, "b").await;
    let spent = say(&mut client, "/usage cost").await;
    assert!(spent.contains("This session: 2 answers, 3.0k in / 40 out"), "{spent}");
    assert!(say(&mut client, "/usage").await.contains("off (default)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_can_have_a_line_with_the_tokens_below_each_answer() {
    const ANN: i64 = 7001;
    let reply = Reply { input_tokens: 1_500, output_tokens: 20, ..Reply::text("yes") };
    let model = ModelServer::start(Script { otherwise: reply, ..Script::default() }).await;
    let server = TelegramServer::start().await;
    let telegram = json!({
        "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
    });
    let config = json!({"channels": {"telegram": telegram}});
    let _gateway = super::builder(&model).config(config).start().await;
    let patience = std::time::Duration::from_secs(120);
    for (text, answer) in
        [("/usage full", "Usage line set to full"), ("hello", "yes\n\nUsage: 1.5k in / 20 out · double/m1")]
    {
        server.push_text(ANN, ANN, text);
        let shown =
            |server: &TelegramServer| server.visible_texts(ANN).iter().any(|text| text.contains(answer));
        server.wait_for(answer, patience, shown).await;
    }
}
