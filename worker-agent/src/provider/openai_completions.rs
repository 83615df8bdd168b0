//! Api kind `openai-completions`: `POST <base>/chat/completions` with `stream: true` (OpenAI API reference, "Chat"),
//! as spoken by OpenRouter, Groq, xAI, Moonshot, DeepSeek, LM Studio, llama.cpp, vLLM and many others.

mod compat;
pub(super) mod decode;
mod request;

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::exchange::{self, Plan};
use super::sse::Framing;
use super::{Call, EventStream, Provider};

/// How OpenRouter's lists name the app that sends a request.
const OPENROUTER_REFERER: &str = "https://openclaw.ai";
const OPENROUTER_TITLE: &str = "OpenClaw";

pub struct OpenAiCompletions;

impl Provider for OpenAiCompletions {
    fn kind(&self) -> &'static str {
        "openai-completions"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let plan = Plan {
            url: format!("{}/chat/completions", call.endpoint.base_url),
            headers: headers(&call),
            body: request::body(&call),
            framing: Framing::Events,
            decoder: Box::new(decode::Decode::default()),
        };
        exchange::run(call, plan, cancel)
    }
}

fn headers(call: &Call) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([("accept".to_owned(), "text/event-stream".to_owned())]);
    if let Some(key) = &call.endpoint.key {
        headers.insert("authorization".to_owned(), format!("Bearer {}", key.expose()));
    }
    if compat::is_openrouter(call) {
        headers.insert("http-referer".to_owned(), OPENROUTER_REFERER.to_owned());
        headers.insert("x-title".to_owned(), OPENROUTER_TITLE.to_owned());
    }
    headers
}

#[cfg(test)]
mod tests;
