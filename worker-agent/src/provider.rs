//! Model calls: one trait for every api kind, and the catalogue, keys, error classes and retries around it.
//! A turn asks `Models` for a selection and a stream of events. Not here: what a turn does with a tool call,
//! which model comes next after a failure (the turn), or transcripts.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use tokio_util::sync::CancellationToken;

mod anthropic_messages;
pub mod auth;
pub mod catalog;
pub mod cooldown;
mod demo;
mod exchange;
pub mod failure;
mod google_generative_ai;
pub mod http;
pub mod model;
pub mod models;
mod ollama;
mod openai_completions;
mod openai_responses;
pub mod proxies;
pub mod retry;
pub mod retry_after;
pub mod select;
pub mod settings;
mod sse;
pub mod thinking;
pub mod types;

pub use failure::{ProviderError, Reason};
pub use http::Http;
pub use model::{Endpoint, Model};
pub use models::Models;
pub use retry::RetryBudget;
pub use thinking::ThinkingLevel;
pub use types::{ModelRequest, ProviderEvent, ToolSpec};

/// The events of one reply. Ends with one `Done` or one error. Dropping it closes the connection.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<ProviderEvent, ProviderError>> + Send>>;

/// One way of talking to a model server ("api kind"). An implementation sends exactly one request per call
/// and never repeats it: repeating is `retry`'s alone, so that the bound on requests holds.
pub trait Provider: Send + Sync {
    /// The `api` value of the config, for instance `openai-completions`.
    fn kind(&self) -> &'static str;

    /// Starts the call when the stream is first polled. Ends with `Reason::Cancelled` soon after `cancel`.
    fn stream(&self, call: Call, cancel: CancellationToken) -> EventStream;
}

/// One request to one model: what to say, which model, where it is.
#[derive(Debug, Clone)]
pub struct Call {
    pub model: Arc<Model>,
    pub endpoint: Arc<Endpoint>,
    pub request: Arc<ModelRequest>,
    pub http: Http,
}

/// Every api kind.
pub fn all() -> &'static [&'static dyn Provider] {
    &[
        &openai_completions::OpenAiCompletions,
        &openai_responses::OpenAiResponses,
        &anthropic_messages::AnthropicMessages,
        &google_generative_ai::GoogleGenerativeAi,
        &ollama::Ollama,
        &demo::Demo,
    ]
}

/// The api kind of this name.
pub fn by_kind(kind: &str) -> Option<&'static dyn Provider> {
    all().iter().copied().find(|p| p.kind() == kind)
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
