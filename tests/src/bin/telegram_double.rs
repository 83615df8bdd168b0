//! The Telegram server of the tests as a program, for clients that are not written in Rust:
//! `telegram_double --port 8081 [--token 1:abc]`. Prints one JSON line with its address when it listens.
//! Control calls: see `harness::telegram_server`.

use harness::telegram_server::{TOKEN, TelegramServer};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (mut port, mut token) = (0u16, TOKEN.to_owned());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| anyhow::anyhow!("{arg} needs a value"))?;
        match arg.as_str() {
            "--port" => port = value.parse()?,
            "--token" => token = value,
            other => anyhow::bail!("unknown argument {other}; known are --port and --token"),
        }
    }
    let server = TelegramServer::start_on(port, &token).await;
    println!("{}", serde_json::json!({"apiRoot": server.api_root(), "token": server.token()}));
    std::future::pending().await
}
