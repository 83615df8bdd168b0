//! The Telegram double behaves towards a client that others wrote.

use harness::npm_clients;
use harness::telegram_server::TelegramServer;

#[tokio::test]
async fn grammy_can_talk_to_the_telegram_double() {
    let server = TelegramServer::start().await;
    let Some(said) = npm_clients::run("grammy.mjs", &[&server.api_root(), server.token()]).await else {
        return;
    };
    assert_eq!(said, "ok");
}
