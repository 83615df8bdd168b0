//! Api kind `google-generative-ai`: `POST <base>/models/<model>:streamGenerateContent?alt=sse` (Gemini API reference,
//! "Generating content"). Repeated prefixes are cached by the vendor itself, without a mark of ours.

pub(super) mod decode;
mod request;
mod schema;

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::exchange::{self, Plan};
use super::sse::Framing;
use super::{Call, EventStream, Provider};

/// The version of the API that has thinking and tools.
const VERSION: &str = "v1beta";

pub struct GoogleGenerativeAi;

impl Provider for GoogleGenerativeAi {
    fn kind(&self) -> &'static str {
        "google-generative-ai"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let plan = Plan {
            url: url(&call.endpoint.base_url, &call.model.id),
            headers: headers(&call),
            body: request::body(&call),
            framing: Framing::Events,
            decoder: Box::new(decode::Decode::default()),
        };
        exchange::run(call, plan, cancel)
    }
}

/// Base URLs are written with and without the version, or as that of the vendor's OpenAI-compatible door.
fn url(base_url: &str, model: &str) -> String {
    let base = base_url.strip_suffix("/openai").unwrap_or(base_url);
    let versioned = base.rsplit('/').next().is_some_and(|last| {
        let mut letters = last.chars();
        letters.next() == Some('v') && letters.next().is_some_and(|c| c.is_ascii_digit())
    });
    let base = if versioned { base.to_owned() } else { format!("{base}/{VERSION}") };
    let family =
        if model.starts_with("models/") || model.starts_with("tunedModels/") { "" } else { "models/" };
    format!("{base}/{family}{model}:streamGenerateContent?alt=sse")
}

/// The key goes into a header: in the query it would stand in the logs of every proxy.
fn headers(call: &Call) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::from([("accept".to_owned(), "text/event-stream".to_owned())]);
    if let Some(key) = &call.endpoint.key {
        if call.endpoint.bearer {
            headers.insert("authorization".to_owned(), format!("Bearer {}", key.expose()));
        } else {
            headers.insert("x-goog-api-key".to_owned(), key.expose().to_owned());
        }
    }
    headers
}

#[cfg(test)]
mod tests;
