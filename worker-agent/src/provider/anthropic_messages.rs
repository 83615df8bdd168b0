//! Api kind `anthropic-messages`: `POST <base>/v1/messages` with `stream: true` (Anthropic API, "Streaming messages").

pub(super) mod decode;
mod request;

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::exchange::{self, Plan};
use super::sse::Framing;
use super::{Call, EventStream, Provider};

/// The only published version of the API.
const VERSION: &str = "2023-06-01";
/// Tool arguments stream as they are written; thinking goes on between tool calls.
const BETAS: [&str; 2] = ["fine-grained-tool-streaming-2025-05-14", "interleaved-thinking-2025-05-14"];
/// Needed with an OAuth or set-up token instead of an API key.
const OAUTH_BETAS: [&str; 2] = ["claude-code-20250219", "oauth-2025-04-20"];
const TOKEN_PREFIX: &str = "sk-ant-oat";
const CONTEXT_1M_BETA: &str = "context-1m-2025-08-07";

pub struct AnthropicMessages;

impl Provider for AnthropicMessages {
    fn kind(&self) -> &'static str {
        "anthropic-messages"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let plan = Plan {
            url: url(&call.endpoint.base_url),
            headers: headers(&call),
            body: request::body(&call),
            framing: Framing::Events,
            decoder: Box::new(decode::Decode::default()),
        };
        exchange::run(call, plan, cancel)
    }
}

/// Base URLs are written with and without the version.
fn url(base_url: &str) -> String {
    let base = base_url.strip_suffix("/v1").unwrap_or(base_url);
    format!("{base}/v1/messages")
}

fn headers(call: &Call) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([
        ("accept".to_owned(), "text/event-stream".to_owned()),
        ("anthropic-version".to_owned(), VERSION.to_owned()),
    ]);
    // Set-up tokens are recognised wherever they were written, also as an `api_key`.
    let is_token = |key: &super::model::Secret| key.expose().starts_with(TOKEN_PREFIX);
    let bearer = call.endpoint.bearer || call.endpoint.key.as_ref().is_some_and(is_token);
    if let Some(key) = &call.endpoint.key {
        if bearer {
            headers.insert("authorization".to_owned(), format!("Bearer {}", key.expose()));
        } else {
            headers.insert("x-api-key".to_owned(), key.expose().to_owned());
        }
    }
    let params = &call.request.params;
    let mut betas: Vec<String> = BETAS.map(str::to_owned).to_vec();
    if bearer {
        betas.extend(OAUTH_BETAS.map(str::to_owned));
        headers.insert("x-app".to_owned(), "cli".to_owned());
    } else if params.get("context1m").and_then(Value::as_bool) == Some(true) {
        // Tokens are refused with this beta.
        betas.push(CONTEXT_1M_BETA.to_owned());
    }
    match params.get("anthropicBeta") {
        Some(Value::String(beta)) => betas.push(beta.clone()),
        Some(Value::Array(list)) => betas.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
        _ => {}
    }
    headers.insert("anthropic-beta".to_owned(), betas.join(","));
    headers
}

#[cfg(test)]
mod tests;
