//! Api kind `ollama`: Ollama's own `POST <base>/api/chat`, a stream of JSON lines (Ollama API reference, "Generate a
//! chat completion"). Its OpenAI-compatible door cuts prompts silently; this one lets us set the context.

pub(super) mod decode;
mod request;

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::exchange::{self, Plan};
use super::sse::Framing;
use super::{Call, EventStream, Provider};

pub struct Ollama;

impl Provider for Ollama {
    fn kind(&self) -> &'static str {
        "ollama"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let mut headers = BTreeMap::from([("accept".to_owned(), "application/x-ndjson".to_owned())]);
        if let Some(key) = &call.endpoint.key {
            headers.insert("authorization".to_owned(), format!("Bearer {}", key.expose()));
        }
        let plan = Plan {
            url: url(&call.endpoint.base_url),
            headers,
            body: request::body(&call),
            framing: Framing::JsonLines,
            decoder: Box::new(decode::Decode::default()),
        };
        exchange::run(call, plan, cancel)
    }
}

/// People write the base URL of the OpenAI-compatible door too.
fn url(base_url: &str) -> String {
    let base = ["/v1", "/api"].iter().find_map(|end| base_url.strip_suffix(end)).unwrap_or(base_url);
    format!("{base}/api/chat")
}

#[cfg(test)]
mod tests;
