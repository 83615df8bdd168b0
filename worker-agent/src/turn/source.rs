//! What a run needs of models: a chain to try, facts about each, a stream of events. The real one is
//! `provider::Models`; tests have a scripted one.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::provider::auth::Pin;
use crate::provider::cooldown::Rest;
use crate::provider::select::{ModelRef, SelectError};
use serde_json::Value;

use crate::provider::{EventStream, ModelRequest, Models, ProviderError, Reason, RetryBudget, ThinkingLevel};

/// What the run has to know of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFacts {
    pub provider: String,
    pub id: String,
    /// Api kind, as transcripts record it.
    pub api: String,
    /// Tokens.
    pub context_window: u64,
    /// Longest reply that may be asked for, in tokens. 0 = not known.
    pub reply_tokens_max: u64,
    pub reasoning: bool,
    /// `params.thinking` of the model's own settings.
    pub thinking: Option<ThinkingLevel>,
    pub reads_images: bool,
    /// Where the key came from.
    pub key_source: Option<String>,
    /// Id of the auth profile, when the key came from one.
    pub profile: Option<String>,
}

impl ModelFacts {
    /// `provider/id`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.provider, self.id)
    }
}

/// See the module head.
pub trait ModelSource: Send + Sync {
    /// Models to try, in order. `requested` is the override of the run or the session.
    fn chain(&self, requested: Option<&str>) -> Result<Vec<ModelRef>, SelectError>;

    fn facts(&self, wanted: &ModelRef) -> Result<ModelFacts, SelectError>;

    /// Why a model should be passed over for now: every key of its provider rests.
    fn resting(&self, _wanted: &ModelRef) -> Option<Rest> {
        None
    }

    /// The same models, used with the auth profile of one session. `None`: keys are of no concern here.
    fn with_pin(&self, _pin: Pin) -> Option<Arc<dyn ModelSource>> {
        None
    }

    /// Whether a person may switch to this model, and its full name.
    fn permitted(&self, text: &str) -> Result<ModelRef, SelectError>;

    /// One reply, with its repetitions.
    fn stream(
        &self,
        wanted: &ModelRef,
        request: ModelRequest,
        budget: &RetryBudget,
        cancel: CancellationToken,
    ) -> EventStream;
}

impl ModelSource for Models {
    fn chain(&self, requested: Option<&str>) -> Result<Vec<ModelRef>, SelectError> {
        Models::chain(self, requested)
    }

    fn facts(&self, wanted: &ModelRef) -> Result<ModelFacts, SelectError> {
        let selected = self.select(wanted)?;
        let model = &selected.model;
        Ok(ModelFacts {
            provider: model.provider.clone(),
            id: model.id.clone(),
            api: model.api.clone(),
            context_window: u64::from(model.context_window),
            reply_tokens_max: u64::from(model.max_tokens),
            reasoning: model.reasoning,
            thinking: selected.params.get("thinking").and_then(Value::as_str).and_then(ThinkingLevel::parse),
            reads_images: model.reads_images(),
            key_source: selected.key_source.clone(),
            profile: selected.profile().map(str::to_owned),
        })
    }

    fn resting(&self, wanted: &ModelRef) -> Option<Rest> {
        Models::resting(self, wanted)
    }

    fn with_pin(&self, pin: Pin) -> Option<Arc<dyn ModelSource>> {
        Some(Arc::new(self.pinned(pin)))
    }

    fn permitted(&self, text: &str) -> Result<ModelRef, SelectError> {
        Models::permitted(self, text)
    }

    fn stream(
        &self,
        wanted: &ModelRef,
        request: ModelRequest,
        budget: &RetryBudget,
        cancel: CancellationToken,
    ) -> EventStream {
        match self.select(wanted) {
            Ok(selected) => Models::stream(self, &selected, request, budget, cancel),
            Err(error) => {
                let error = ProviderError::new(
                    Reason::ModelNotFound,
                    &wanted.provider,
                    &wanted.id,
                    error.to_string(),
                );
                Box::pin(futures_util::stream::once(async move { Err(error) }))
            }
        }
    }
}
