//! Why a model call failed: a small closed set of reasons, how a vendor's answer is put into it, and the
//! sentence for people. Pure. Whether and when to repeat is `retry`; which model comes next is the turn's.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// Longest piece of a vendor's own words that is shown; the rest adds nothing for a reader.
const DETAIL_CHARS_MAX: usize = 600;
/// Billing words count only in short messages: long ones are documents or pages that mention money in passing.
const BILLING_CHARS_MAX: usize = 512;

/// Class of a failed model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    RateLimit,
    Overloaded,
    Billing,
    /// The key was refused; another profile may work.
    Auth,
    /// The key is revoked or was never valid.
    AuthPermanent,
    /// No key is configured: nothing was sent.
    MissingKey,
    Timeout,
    /// Could not connect, or the connection broke.
    Connection,
    /// The stream ended without its end mark.
    Truncated,
    /// The vendor failed (5xx).
    Server,
    /// The vendor refused the shape of the request.
    Format,
    ModelNotFound,
    ContextOverflow,
    /// The vendor's filter withheld the reply.
    ContentFilter,
    /// The answer was not in the vendor's own protocol.
    Malformed,
    /// The caller stopped the call.
    Cancelled,
}

impl Reason {
    #[cfg(test)]
    pub const ALL: [Reason; 16] = [
        Self::RateLimit,
        Self::Overloaded,
        Self::Billing,
        Self::Auth,
        Self::AuthPermanent,
        Self::MissingKey,
        Self::Timeout,
        Self::Connection,
        Self::Truncated,
        Self::Server,
        Self::Format,
        Self::ModelNotFound,
        Self::ContextOverflow,
        Self::ContentFilter,
        Self::Malformed,
        Self::Cancelled,
    ];

    /// The failure class under which cooldowns and the client's `reason` fields know it.
    pub fn class(self) -> &'static str {
        match self {
            Self::RateLimit | Self::Overloaded => "rate_limit",
            Self::Billing => "billing",
            Self::Auth | Self::MissingKey => "auth",
            Self::AuthPermanent => "auth_permanent",
            Self::Timeout | Self::Connection | Self::Truncated | Self::Server => "timeout",
            Self::Format | Self::ContentFilter | Self::Malformed => "format",
            Self::ModelNotFound => "model_not_found",
            Self::ContextOverflow => "context_overflow",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the same request to the same model may succeed a little later.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimit
                | Self::Overloaded
                | Self::Timeout
                | Self::Connection
                | Self::Truncated
                | Self::Server
                | Self::Malformed
        )
    }

    /// Whether another model of the fallback list should be tried. An overflow would only repeat there (it is
    /// cured by compaction), and a stop by the user ends the chain.
    pub fn falls_back(self) -> bool {
        !matches!(self, Self::ContextOverflow | Self::Cancelled)
    }

    fn headline(self) -> &'static str {
        match self {
            Self::RateLimit => "rate limit reached",
            Self::Overloaded => "the provider is overloaded",
            Self::Billing => "no credit left, or a payment is due",
            Self::Auth => "the API key was refused",
            Self::AuthPermanent => "the API key is invalid or revoked",
            Self::MissingKey => "no API key found",
            Self::Timeout => "LLM request timed out",
            Self::Connection => "the connection to the server failed",
            Self::Truncated => "the reply broke off before its end",
            Self::Server => "the provider failed",
            Self::Format => "the request was refused",
            Self::ModelNotFound => "unknown model",
            Self::ContextOverflow => "the conversation is too long for this model",
            Self::ContentFilter => "the provider's content filter withheld the reply",
            Self::Malformed => "the server's answer is not in the expected format",
            Self::Cancelled => "the request was stopped",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::RateLimit | Self::Overloaded => {
                "try again in a moment, or add another model to agents.defaults.model.fallbacks"
            }
            Self::Billing => "top up the account with the provider, or choose another model",
            Self::Auth | Self::AuthPermanent => {
                "check the key in the environment, in models.providers.<id>.apiKey or in auth-profiles.json"
            }
            Self::MissingKey => "set the provider's key and restart, or choose another model",
            Self::Timeout => "try again; agents.defaults.timeoutSeconds bounds the whole run",
            Self::Connection => "check that the server runs and that models.providers.<id>.baseUrl is right",
            Self::Truncated | Self::Server | Self::Malformed => "try again, or choose another model",
            Self::Format => "check the model's api and compat settings, or start afresh with /new",
            Self::ModelNotFound => {
                "check the model's name and the provider's baseUrl; `openclaw models list` shows the known models"
            }
            Self::ContextOverflow => "start afresh with /new, or choose a model with a larger window",
            Self::ContentFilter => "rephrase the message, or choose another model",
            Self::Cancelled => "send the message again to repeat it",
        }
    }
}

/// A failed model call. Its text is complete for a user: which model, what happened, the vendor's words, the remedy.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.sentence())]
pub struct ProviderError {
    pub reason: Reason,
    pub provider: String,
    pub model: String,
    /// HTTP status, or the vendor's status inside a stream.
    pub status: Option<u16>,
    /// The least time that the vendor asked us to wait.
    pub retry_after: Option<Duration>,
    /// The vendor's own words or the cause, shortened, secrets removed.
    pub detail: String,
}

impl ProviderError {
    pub fn new(reason: Reason, provider: &str, model: &str, detail: impl AsRef<str>) -> Self {
        Self {
            reason,
            provider: provider.to_owned(),
            model: model.to_owned(),
            status: None,
            retry_after: None,
            detail: shortened(detail.as_ref()),
        }
    }

    fn sentence(&self) -> String {
        let mut out = format!("{}/{}: {}", self.provider, self.model, self.reason.headline());
        if let Some(status) = self.status {
            out.push_str(&format!(" (HTTP {status})"));
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(self.detail.trim_end_matches(['.', ' ']));
        }
        if let Some(wait) = self.retry_after {
            out.push_str(&format!("; it asks to wait {} s", wait.as_secs_f64().ceil()));
        }
        out.push_str(". ");
        out.push_str(&capitalised(self.reason.remedy()));
        out.push('.');
        out
    }
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// At most 600 characters on one line.
pub fn shortened(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= DETAIL_CHARS_MAX {
        return flat;
    }
    let mut out: String = flat.chars().take(DETAIL_CHARS_MAX.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// The class of an answer with this status (`None` inside a stream) and these words (message, type and code).
pub fn classify(status: Option<u16>, words: &str) -> Reason {
    let text = words.to_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|n| text.contains(n));
    if is_overflow(status, &text) {
        return Reason::ContextOverflow;
    }
    if status == Some(402) || (words.chars().count() <= BILLING_CHARS_MAX && has(BILLING)) {
        return Reason::Billing;
    }
    if matches!(status, None | Some(400 | 401 | 403)) && has(AUTH_PERMANENT) {
        return Reason::AuthPermanent;
    }
    match status {
        Some(401 | 403) => return Reason::Auth,
        Some(404) => return Reason::ModelNotFound,
        Some(408) => return Reason::Timeout,
        Some(429) => return Reason::RateLimit,
        Some(529) => return Reason::Overloaded,
        Some(502 | 504) => return Reason::Server,
        _ => {}
    }
    if has(OVERLOADED) {
        return Reason::Overloaded;
    }
    if has(RATE_LIMIT) || has_word(&text, "tpm") {
        return Reason::RateLimit;
    }
    if status.is_some_and(|s| s >= 500) {
        return Reason::Server;
    }
    if has(MODEL_NOT_FOUND) {
        return Reason::ModelNotFound;
    }
    if has(AUTH) {
        return Reason::Auth;
    }
    if has(TIMEOUT) {
        return Reason::Timeout;
    }
    if has(CONTENT_FILTER) {
        return Reason::ContentFilter;
    }
    match status {
        // The request was accepted: what fails later is the vendor's fault unless it says otherwise.
        None if !has(REQUEST) => Reason::Server,
        _ => Reason::Format,
    }
}

const BILLING: &[&str] = &[
    "insufficient credit",
    "insufficient balance",
    "insufficient_quota",
    "credit balance",
    "payment required",
    "plans & billing",
    "billing hard limit",
    "requires more credits",
];
const AUTH_PERMANENT: &[&str] = &[
    "revoked",
    "deactivated",
    "invalid api key",
    "incorrect api key",
    "invalid x-api-key",
    "invalid_api_key",
    "api key not valid",
];
const AUTH: &[&str] = &[
    "unauthorized",
    "authentication_error",
    "permission_error",
    "invalid token",
    "expired token",
    "token has expired",
    "forbidden",
    "no api key",
    "no auth credentials",
];
const OVERLOADED: &[&str] = &["overloaded", "high demand", "at capacity", "over capacity"];
const RATE_LIMIT: &[&str] = &[
    "rate limit",
    "rate_limit",
    "rate-limit",
    "too many requests",
    "quota exceeded",
    "exceeded your current quota",
    "resource exhausted",
    "resource_exhausted",
    "usage limit",
    "tokens per minute",
    "cooling down",
];
const MODEL_NOT_FOUND: &[&str] = &[
    "unknown model",
    "model not found",
    "model_not_found",
    "not_found_error",
    "not a valid model",
    "invalid model",
    "model does not exist",
    "no such model",
    "no endpoints found",
];
const TIMEOUT: &[&str] = &["timed out", "timeout", "deadline exceeded", "etimedout", "econnreset"];
const CONTENT_FILTER: &[&str] = &["content_filter", "content filter", "content management policy"];
const REQUEST: &[&str] = &["invalid_request", "bad request", "bad_request", "invalid request", "validation"];
const OVERFLOW: &[&str] = &[
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "context length exceeded",
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "exceeds the context",
    "exceed context",
    "exceeds the available context",
    "request_too_large",
    "too many tokens",
    "input token count",
    "model_context_window_exceeded",
    "reduce the length of the messages",
];

fn is_overflow(status: Option<u16>, text: &str) -> bool {
    if has_word(text, "tpm") || text.contains("per minute") || text.contains("reasoning is mandatory") {
        return false;
    }
    if matches!(status, Some(401..=403 | 404 | 408 | 429)) {
        return false;
    }
    OVERFLOW.iter().any(|n| text.contains(n)) || (status == Some(413) && text.contains("too large"))
}

/// Whether the lower-case text has the word with no letter or digit on either side.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|w| w == word)
}

/// What a vendor's error body says: the message for people, and all words (type and code too) for `classify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorWords {
    pub message: String,
    pub all: String,
    /// A status inside the body, as OpenRouter sends it in a stream.
    pub status: Option<u16>,
    /// The wait that the body asks for.
    pub retry_after: Option<Duration>,
}

/// Reads an error body of any of the known shapes; text that is not JSON is taken as it is (HTML without its tags).
pub fn vendor_words(body: &str) -> VendorWords {
    match serde_json::from_str::<Value>(body) {
        Ok(value) => vendor_words_of(&value),
        Err(_) => {
            let plain = without_tags(body);
            VendorWords { message: plain.clone(), all: plain, status: None, retry_after: None }
        }
    }
}

/// The same for a parsed body or a stream's error event.
pub fn vendor_words_of(value: &Value) -> VendorWords {
    // Google's OpenAI-compatible endpoint wraps the object in an array.
    let value = value.get(0).unwrap_or(value);
    let error = match value.get("error") {
        Some(inner @ (Value::Object(_) | Value::String(_))) => inner,
        _ => value,
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut message = match error {
        Value::String(plain) => plain.clone(),
        _ => [text("message"), text("detail"), text("error")]
            .into_iter()
            .find(|t| !t.is_empty())
            .unwrap_or_default(),
    };
    if let Some(raw) = error.pointer("/metadata/raw") {
        let raw = raw.as_str().map(str::to_owned).unwrap_or_else(|| raw.to_string());
        if !raw.is_empty() && !message.contains(&raw) {
            message = format!("{message} ({raw})");
        }
    }
    if message.is_empty() && !value.is_null() {
        message = value.to_string();
    }
    let code = error.get("code").cloned().unwrap_or(Value::Null);
    let status = code.as_u64().and_then(|c| u16::try_from(c).ok()).filter(|c| (400..600).contains(c));
    let code_text = code.as_str().unwrap_or_default();
    let all = format!("{message} {} {} {code_text}", text("type"), text("status"));
    VendorWords { message, all, status, retry_after: super::retry_after::in_error(error) }
}

fn without_tags(body: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in body.chars().take(DETAIL_CHARS_MAX.saturating_mul(4)) {
        match c {
            '<' => inside = true,
            '>' if inside => {
                inside = false;
                out.push(' ');
            }
            _ if !inside => out.push(c),
            _ => {}
        }
    }
    if out.trim().is_empty() { body.chars().take(DETAIL_CHARS_MAX).collect() } else { out }
}

#[cfg(test)]
mod tests;
