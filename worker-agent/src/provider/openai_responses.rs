//! Api kind `openai-responses`: `POST <base>/responses` with `stream: true` (OpenAI API reference, "Responses"). Unlike
//! a chat completion it hands out a model's reasoning, encrypted, and takes it back: a model keeps its thoughts over
//! the calls of a turn although nothing is stored at the vendor.

pub(super) mod decode;
mod request;

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::exchange::{self, Plan};
use super::sse::Framing;
use super::{Call, EventStream, Provider};

pub struct OpenAiResponses;

impl Provider for OpenAiResponses {
    fn kind(&self) -> &'static str {
        "openai-responses"
    }

    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream {
        let plan = Plan {
            url: format!("{}/responses", call.endpoint.base_url),
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
    headers
}

#[cfg(test)]
mod tests;
