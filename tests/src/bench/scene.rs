//! Gateways as the parts need them.

use super::Options;
use super::listener::Listener;
use super::model::{Model, Pace};
use crate::gateway::{Builder, TestGateway};
use crate::telegram_server::TelegramServer;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Steps of waiting for a start: fine against what is measured (100 ms), coarse against the work of asking.
pub const POLL: Duration = Duration::from_millis(1);

/// A gateway whose model is `model`, with room for `concurrent` runs.
pub fn with_model(options: &Options, model: &Model, concurrent: usize) -> Builder {
    Builder::default().bin(&options.bin).config(json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.url(), "apiKey": "sk-bench", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 200_000, "maxTokens": 4000}],
        }}},
        "agents": {"defaults": {"model": {"primary": "double/m1"}, "maxConcurrent": concurrent}},
    }))
}

/// A gateway with the default agent warm and one Telegram account, not yet waited for.
pub fn with_channel(options: &Options, telegram: &TelegramServer) -> Builder {
    Builder::default().bin(&options.bin).without_waiting().config(json!({
        "channels": {"telegram": {
            "enabled": true, "botToken": telegram.token(), "apiRoot": telegram.api_root(), "dmPolicy": "open",
            "allowFrom": ["*"],
        }},
    }))
}

/// How long a start took, from the moment at which the process was made.
#[derive(Debug, Clone, Copy)]
pub struct Startup {
    /// `/readyz` answers 200.
    pub ready: Duration,
    /// Also: the agent's worker can take a turn and the channel polls its network.
    pub warm: Duration,
}

/// Waits until everything of [`with_channel`] is up.
pub async fn warm(
    gateway: &TestGateway,
    telegram: &TelegramServer,
    began: Instant,
) -> anyhow::Result<Startup> {
    let deadline = began + crate::wait::PATIENCE;
    let mut ready = None;
    let mut listener = None;
    loop {
        if Instant::now() > deadline {
            anyhow::bail!("the gateway did not come up; its log:\n{}", gateway.log());
        }
        if ready.is_none() {
            let answer = crate::http::get(gateway.port, "/readyz", None).await;
            ready = answer.is_ok_and(|answer| answer.status == 200).then(|| began.elapsed());
        }
        if ready.is_some() && listener.is_none() {
            listener = Some(Listener::open(gateway.port).await?);
        }
        if let (Some(ready), Some(listener)) = (ready, &mut listener)
            && telegram.is_polled()
            && agent_is_ready(&listener.call("workers.list", json!({})).await?)
        {
            return Ok(Startup { ready, warm: began.elapsed() });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn agent_is_ready(listed: &Value) -> bool {
    let mut rows = listed["workers"].as_array().into_iter().flatten();
    rows.any(|row| row["id"] == "agent:main" && row["state"] == "ready")
}

/// A model at the usual pace: ten pieces, 10 ms apart.
pub async fn usual_model() -> std::io::Result<Model> {
    Model::start(Pace { pieces: 10, pause: Duration::from_millis(10) }).await
}
