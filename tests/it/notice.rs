//! The owner hears of a configuration that does not run: once for each content, in the chat and in the main session.

use std::time::Duration;

use harness::gateway::{TestGateway, merge};
use harness::model_server::{ModelServer, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use harness::ws_client::WsClient;
use serde_json::{Value, json};

use crate::recovery::model_config;
use crate::reload::{put, settled, settles_fast, state};

const PATIENCE: Duration = Duration::from_secs(120);
/// The chat of the owner: in private it has the user's id.
const OWNER: i64 = 42;

fn notices(server: &TelegramServer) -> Vec<String> {
    let texts = server.visible_texts(OWNER).into_iter();
    texts.filter(|text| text.contains("The configuration file is not what runs")).collect()
}

async fn until_invalid(client: &mut WsClient) -> Value {
    state(client, "the file is invalid", |active| active["state"] == "invalid").await
}

#[tokio::test]
async fn the_owner_is_told_once_of_a_file_that_does_not_run() {
    let (server, model) = (TelegramServer::start().await, ModelServer::start(Script::default()).await);
    let mut config = model_config(&model);
    merge(&mut config, &settles_fast());
    merge(
        &mut config,
        &json!({
            "channels": {"telegram": {"botToken": server.token(), "apiRoot": server.api_root(), "allowFrom": [OWNER], "streaming": "off"}},
            "commands": {"ownerAllowFrom": [format!("telegram:{OWNER}"), "signal:+4912345"]},
        }),
    );
    let gateway = TestGateway::builder().config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    // A bot may write only to who wrote to it before.
    server.push_text(OWNER, OWNER, "hello");
    let answered =
        |server: &TelegramServer| server.visible_texts(OWNER).iter().any(|t| t.contains("You said"));
    server.wait_for("the owner's chat", PATIENCE, answered).await;
    let good = std::fs::read_to_string(gateway.config_path()).expect("the config");
    let bad = good.replace("\"telegram\"", "\"telegramm\"");
    assert_ne!(good, bad);
    put(&gateway, &bad);
    until_invalid(&mut client).await;
    server.wait_for("the owner is told", PATIENCE, |server| notices(server).len() == 1).await;
    assert!(notices(&server)[0].contains("INVALID"), "{:?}", notices(&server));
    // The same content again, and another wrong one at once after it.
    put(&gateway, &good);
    settled(&gateway, &mut client).await;
    put(&gateway, &bad);
    until_invalid(&mut client).await;
    put(&gateway, &bad.replace("\"double/m1\"", "17"));
    let other = |active: &Value| active["errors"].to_string().contains("model");
    state(&mut client, "another fault is shown", other).await;
    let told = |entry: &harness::model_server::Entry| {
        let messages = entry.body["messages"].as_array().cloned().unwrap_or_default();
        // The double repeats what it is told.
        let said = messages.iter().filter(|message| message["role"] == "user").map(Value::to_string);
        said.map(|text| text.matches("The configuration file is not what runs").count()).sum::<usize>()
    };
    put(&gateway, &good);
    settled(&gateway, &mut client).await;
    let asked = wait::until("the main session is told that it is over", async || {
        client.chat("main", "what was it?").await;
        let asked = model.book().pop()?;
        asked.body["messages"].to_string().contains("is what runs again").then_some(asked)
    })
    .await;
    assert_eq!(told(&asked), 1, "the main session is told once: {}", asked.body["messages"]);
    assert_eq!(notices(&server).len(), 1, "{:?}", notices(&server));
}
