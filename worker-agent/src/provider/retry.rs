//! Repeating a failed request to the same model. The decision is a pure function; the driver below it owns the
//! waiting and the only place where a request is ever repeated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::{ProviderError, Reason};
use super::thinking::{self, ThinkingLevel};
use super::types::ProviderEvent;
use super::{EventStream, Model};

/// How the wait grows from one repetition to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    #[default]
    Exponential,
    Linear,
    Fixed,
    /// Repeat at once (a vendor's `Retry-After` still counts).
    None,
}

/// `agents.defaults.retry`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryPolicy {
    /// Bound of repeated requests to one model in one turn; 0 switches repeating off.
    pub max_retries: u32,
    pub backoff: Backoff,
    /// Wait before the first repetition.
    pub min_delay_ms: u64,
    /// Longest wait; a vendor that asks for more gets no further request.
    pub max_delay_ms: u64,
    /// Share of the wait, 0 to 1, by which it is spread at random, so that many sessions do not come back at once.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            backoff: Backoff::Exponential,
            min_delay_ms: 2000,
            max_delay_ms: 60_000,
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Reads the config's object; a value that does not fit leaves the defaults.
    pub fn from_config(value: Option<&Value>) -> Self {
        value.and_then(|v| Self::deserialize(v).ok()).unwrap_or_default()
    }

    /// The wait before repetition `n` (from 1), before jitter.
    pub fn base_delay(&self, n: u32) -> Duration {
        let ms = match self.backoff {
            Backoff::None => 0,
            Backoff::Fixed => self.min_delay_ms,
            Backoff::Linear => self.min_delay_ms.saturating_mul(u64::from(n)),
            Backoff::Exponential => {
                let factor = 1_u64.checked_shl(n.saturating_sub(1)).unwrap_or(u64::MAX);
                self.min_delay_ms.saturating_mul(factor)
            }
        };
        Duration::from_millis(ms.min(self.max_delay_ms))
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Retry { wait: Duration },
    Stop(Stop),
}

/// Why a failed request is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The same request would fail again.
    Pointless,
    /// The turn's repetitions for this model are used up.
    Exhausted,
    /// The vendor asks for a longer wait than `maxDelayMs`.
    WaitTooLong,
}

/// The rule. `used` counts the turn's repetitions so far for this model; `unit` is a random number in 0..1.
pub fn decide(
    policy: &RetryPolicy,
    reason: Reason,
    asked: Option<Duration>,
    used: u32,
    unit: f64,
) -> Decision {
    if !reason.retryable() {
        return Decision::Stop(Stop::Pointless);
    }
    if used >= policy.max_retries {
        return Decision::Stop(Stop::Exhausted);
    }
    let longest = Duration::from_millis(policy.max_delay_ms);
    if asked.is_some_and(|wait| wait > longest) {
        return Decision::Stop(Stop::WaitTooLong);
    }
    let jitter = policy.jitter.clamp(0.0, 1.0);
    let spread = 1.0 + jitter * (unit.clamp(0.0, 1.0) * 2.0 - 1.0);
    let own = policy.base_delay(used.saturating_add(1)).mul_f64(spread).min(longest);
    Decision::Retry { wait: asked.map_or(own, |wait| wait.max(own)) }
}

/// The repetitions of one turn, per model. Made once per turn and shared by all its model calls.
#[derive(Debug, Clone, Default)]
pub struct RetryBudget(Arc<Mutex<HashMap<String, u32>>>);

impl RetryBudget {
    /// Repetitions used so far for this `provider/model`.
    pub fn used(&self, reference: &str) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(reference).copied().unwrap_or(0)
    }

    fn spend(&self, reference: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(reference.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
    }
}

/// What may differ from one attempt to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    pub level: ThinkingLevel,
    /// Which of the provider's keys, from 0.
    pub key: usize,
}

type Start = Box<dyn Fn(Variant) -> EventStream + Send + Sync>;

/// Told how each request ended: the number of its key, and the failure if it was one.
pub type Ended = Box<dyn Fn(usize, Option<Reason>) + Send + Sync>;

/// One model call with its repetitions.
struct Attempts {
    start: Start,
    model: Arc<Model>,
    policy: RetryPolicy,
    budget: RetryBudget,
    cancel: CancellationToken,
    variant: Variant,
    /// Number of keys.
    keys: usize,
    ended: Ended,
    current: Option<EventStream>,
    wait: Option<Duration>,
    /// Requests sent for this call.
    sent: u32,
    /// Something was handed to the caller since the last restart.
    dirty: bool,
    over: bool,
}

/// The rules and bounds of one call's repetitions.
pub struct Bounds {
    pub policy: RetryPolicy,
    pub budget: RetryBudget,
    /// Number of keys that the provider may be called with, at least 1.
    pub keys: usize,
    pub level: ThinkingLevel,
    pub ended: Ended,
}

/// Streams the events of the first attempt that ends well, with a `Restart` before each repetition.
pub fn with_retries(
    start: impl Fn(Variant) -> EventStream + Send + Sync + 'static,
    model: Arc<Model>,
    bounds: Bounds,
    cancel: CancellationToken,
) -> EventStream {
    let attempts = Attempts {
        start: Box::new(start),
        model,
        policy: bounds.policy,
        budget: bounds.budget,
        cancel,
        variant: Variant { level: bounds.level, key: 0 },
        keys: bounds.keys,
        ended: bounds.ended,
        current: None,
        wait: None,
        sent: 0,
        dirty: false,
        over: false,
    };
    Box::pin(stream::unfold(attempts, |mut attempts| async move {
        let event = attempts.next().await?;
        Some((event, attempts))
    }))
}

impl Attempts {
    async fn next(&mut self) -> Option<Result<ProviderEvent, ProviderError>> {
        if self.over {
            return None;
        }
        if let Some(wait) = self.wait.take() {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => {
                    self.over = true;
                    return Some(Err(self.error(Reason::Cancelled, "")));
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
        let stream = match self.current.as_mut() {
            Some(stream) => stream,
            None => {
                self.sent = self.sent.saturating_add(1);
                self.current.insert((self.start)(self.variant))
            }
        };
        Some(match stream.next().await {
            Some(Ok(event)) => {
                self.over = matches!(event, ProviderEvent::Done { .. });
                if self.over {
                    (self.ended)(self.variant.key, None);
                }
                self.dirty |= !matches!(event, ProviderEvent::Usage(_));
                Ok(event)
            }
            Some(Err(error)) => self.failed(error),
            None => {
                let error = self.error(Reason::Truncated, "the stream ended without a result");
                self.failed(error)
            }
        })
    }

    fn failed(&mut self, error: ProviderError) -> Result<ProviderEvent, ProviderError> {
        // Dropping the stream closes the broken connection before the wait.
        self.current = None;
        (self.ended)(self.variant.key, Some(error.reason));
        let reference = self.model.reference();
        let used = self.budget.used(&reference);
        let wait = match decide(&self.policy, error.reason, error.retry_after, used, random_unit()) {
            _ if self.cancel.is_cancelled() => None,
            Decision::Stop(Stop::Exhausted) => None,
            _ if used < self.policy.max_retries && self.other_variant(&error) => Some(Duration::ZERO),
            Decision::Retry { wait } => Some(wait),
            Decision::Stop(_) => None,
        };
        let Some(wait) = wait else {
            self.over = true;
            return Err(error);
        };
        self.budget.spend(&reference);
        self.wait = Some(wait);
        let message = error.to_string();
        tracing::info!(model = reference, reason = ?error.reason, wait_ms = wait.as_millis() as u64, "repeating the model call");
        let discard = std::mem::take(&mut self.dirty);
        let attempt = self.sent.saturating_add(1);
        Ok(ProviderEvent::Restart { attempt, wait, reason: error.reason, message, discard })
    }

    /// Whether another key or thinking level may cure what repeating as it was would not: then it is chosen.
    fn other_variant(&mut self, error: &ProviderError) -> bool {
        let next = self.variant.key.saturating_add(1);
        match error.reason {
            Reason::RateLimit | Reason::Billing | Reason::Auth | Reason::AuthPermanent
                if next < self.keys =>
            {
                self.variant.key = next;
                true
            }
            Reason::Format => match thinking::after_refusal(self.variant.level, &error.detail) {
                Some(level) => {
                    self.variant.level = level;
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    fn error(&self, reason: Reason, detail: &str) -> ProviderError {
        ProviderError::new(reason, &self.model.provider, &self.model.id, detail)
    }
}

/// A random number in 0..1; the middle when the system has no randomness to give.
fn random_unit() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
