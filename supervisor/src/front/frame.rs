//! The JSON messages of a client's socket: reading requests, writing responses and events (wire protocols 3 and 4).
//!
//! Not here: what a method means. Unknown keys are ignored, since released clients send keys that the
//! published schema lacks.

use bytes::Bytes;
use proto::wire::WireError;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// A request, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the client; repeated in the response.
    pub id: String,
    /// Method name.
    pub method: String,
    /// `params`, `{}` when absent.
    pub params: Value,
}

/// Why a message is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Not JSON at all.
    NotJson,
    /// JSON, but not a request; with the id when there was one, and what is wrong.
    NotRequest {
        /// For the response.
        id: Option<String>,
        /// After `invalid request frame: `.
        why: String,
    },
}

/// Read one message.
///
/// # Errors
/// See [`Unreadable`].
pub fn read_request(text: &[u8]) -> Result<Request, Unreadable> {
    if too_deep(text) {
        return Err(Unreadable::NotJson);
    }
    let value: Value = serde_json::from_slice(text).map_err(|_| Unreadable::NotJson)?;
    let refuse = |id: Option<String>, why: &str| Unreadable::NotRequest { id, why: why.to_owned() };
    let Value::Object(mut map) = value else {
        return Err(refuse(None, "at root: must be object"));
    };
    let id = map.get("id").and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
    if map.get("type").and_then(Value::as_str) != Some("req") {
        return Err(refuse(id, "at /type: must be equal to constant"));
    }
    let Some(id) = id else {
        return Err(refuse(None, "must have required property 'id'"));
    };
    let method = map.get("method").and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
    let Some(method) = method else {
        return Err(refuse(Some(id), "must have required property 'method'"));
    };
    let params = match map.remove("params") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(params) => params,
    };
    Ok(Request { id, method, params })
}

/// Whether the nesting exceeds the limit, looking at brackets outside of strings.
fn too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > super::limits::JSON_DEPTH_MAX {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// `error` of a response.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ErrorShape {
    /// `INVALID_REQUEST`, `UNAVAILABLE`, `NOT_PAIRED`, `FORBIDDEN`, …
    pub code: Cow<'static, str>,
    /// For people.
    pub message: String,
    /// For programs.
    pub details: Option<Value>,
    /// The same call may succeed later.
    pub retryable: bool,
    /// When to try again.
    pub retry_after_ms: Option<u64>,
}

impl ErrorShape {
    /// An error without details.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let code = Cow::Borrowed(code);
        Self { code, message: message.into(), details: None, retryable: false, retry_after_ms: None }
    }

    /// `INVALID_REQUEST`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("INVALID_REQUEST", message)
    }

    /// `UNAVAILABLE`, worth a retry.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retryable: true, ..Self::new("UNAVAILABLE", message) }
    }

    /// Add details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// The JSON object.
    pub fn to_json(&self) -> Value {
        let mut error = Map::new();
        error.insert("code".into(), self.code.as_ref().into());
        error.insert("message".into(), self.message.clone().into());
        if let Some(details) = &self.details {
            error.insert("details".into(), details.clone());
        }
        if self.retryable {
            error.insert("retryable".into(), true.into());
        }
        if let Some(ms) = self.retry_after_ms {
            error.insert("retryAfterMs".into(), ms.into());
        }
        Value::Object(error)
    }
}

impl From<WireError> for ErrorShape {
    fn from(error: WireError) -> Self {
        Self {
            code: Cow::Owned(error.code),
            message: error.message,
            details: error.details_json.and_then(|text| serde_json::from_str(&text).ok()),
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

impl From<ErrorShape> for WireError {
    fn from(error: ErrorShape) -> Self {
        Self {
            code: error.code.into_owned(),
            message: error.message,
            details_json: error.details.map(|d| d.to_string()),
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

/// Payload of a successful response: a value, or JSON text that a worker already made.
#[derive(Debug, Clone)]
pub enum Body {
    /// Made here.
    Json(Value),
    /// Checked JSON text, passed on as it is.
    Raw(Box<RawValue>),
}

impl Body {
    /// As a value; a raw text is parsed.
    pub fn into_value(self) -> Value {
        match self {
            Self::Json(value) => value,
            Self::Raw(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
        }
    }

    /// As JSON text.
    pub fn to_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Raw(raw) => raw.get().to_owned(),
        }
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

/// Text of a response.
pub fn write_response(id: &str, result: Result<&Body, &ErrorShape>) -> String {
    let id = Value::from(id);
    match result {
        Ok(Body::Json(value)) => format!(r#"{{"type":"res","id":{id},"ok":true,"payload":{value}}}"#),
        Ok(Body::Raw(raw)) => format!(r#"{{"type":"res","id":{id},"ok":true,"payload":{}}}"#, raw.get()),
        Err(error) => format!(r#"{{"type":"res","id":{id},"ok":false,"error":{}}}"#, error.to_json()),
    }
}

/// Versions of the two lists that clients cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateVersion {
    /// Of the presence list.
    pub presence: u64,
    /// Of the health snapshot.
    pub health: u64,
}

impl StateVersion {
    /// The JSON object.
    pub fn to_json(self) -> Value {
        json!({ "presence": self.presence, "health": self.health })
    }
}

/// Text of an event: the shared payload between a head and the tail that belongs to one socket.
pub fn write_event(name: &str, payload: &Bytes, seq: Option<u64>, version: Option<StateVersion>) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 128);
    out.extend_from_slice(br#"{"type":"event","event":""#);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(br#"","payload":"#);
    out.extend_from_slice(payload);
    if let Some(seq) = seq {
        out.extend_from_slice(format!(r#","seq":{seq}"#).as_bytes());
    }
    if let Some(v) = version {
        let text = format!(r#","stateVersion":{{"presence":{},"health":{}}}"#, v.presence, v.health);
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
    out
}

/// A close frame's reason cut to what fits, at a character border (RFC 6455 5.5).
pub fn close_reason(text: &str) -> &str {
    let max = super::limits::CLOSE_REASON_BYTES_MAX;
    text.get(..text.floor_char_boundary(max)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
