//! Pure: the answers of a chat completion, whole and as a stream (OpenAI API, chat completion object and chunk).

use crate::scheduler::RunOutcome;
use bytes::Bytes;
use serde_json::{Value, json};

/// What all parts of one answer have in common.
#[derive(Debug, Clone)]
pub struct Completion {
    /// `chatcmpl_<uuid>`.
    pub id: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// As the client wrote it.
    pub model: String,
    /// Add a chunk with the usage.
    pub include_usage: bool,
}

/// What `text` has beyond what was sent. A text that begins anew (the model broke off, the agent died) repeats what was
/// sent or follows it: a stream takes nothing back.
pub fn news(sent: &str, text: &str) -> Option<String> {
    match text.strip_prefix(sent) {
        Some("") => None,
        Some(new) => Some(new.to_owned()),
        None if sent.starts_with(text) => None,
        None => Some(format!("\n\n{text}")),
    }
}

/// The visible answer of a run.
pub fn text_of(outcome: &RunOutcome) -> String {
    let joined = outcome.payloads.join("\n\n");
    let text = if outcome.text.trim().is_empty() { joined } else { outcome.text.clone() };
    if text.trim().is_empty() { "No response from OpenClaw.".to_owned() } else { text }
}

fn finish_reason(outcome: &RunOutcome) -> &'static str {
    if outcome.stop_reason.as_deref() == Some("length") { "length" } else { "stop" }
}

fn usage(outcome: &RunOutcome) -> Value {
    let u = &outcome.usage;
    let prompt = u.input + u.cache_read + u.cache_write;
    json!({ "prompt_tokens": prompt, "completion_tokens": u.output, "total_tokens": prompt + u.output })
}

impl Completion {
    /// The body of an answer without streaming.
    pub fn whole(&self, outcome: &RunOutcome) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text_of(outcome) },
                "finish_reason": finish_reason(outcome),
            }],
            "usage": usage(outcome),
        })
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    /// The first chunk.
    pub fn role(&self) -> Bytes {
        let choices = json!([{ "index": 0, "delta": { "role": "assistant" }, "finish_reason": null }]);
        data(&self.chunk(choices)).into()
    }

    /// A chunk with text.
    pub fn content(&self, text: &str) -> Bytes {
        self.content_text(text).into()
    }

    fn content_text(&self, text: &str) -> String {
        data(&self.chunk(json!([{ "index": 0, "delta": { "content": text }, "finish_reason": null }])))
    }

    /// The end of a stream; `rest` is text that was not streamed.
    pub fn end(&self, outcome: &RunOutcome, rest: Option<&str>) -> Bytes {
        let mut out = rest.map(|text| self.content_text(text)).unwrap_or_default();
        let reason = finish_reason(outcome);
        out.push_str(&data(&self.chunk(json!([{ "index": 0, "delta": {}, "finish_reason": reason }]))));
        if self.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(outcome);
            out.push_str(&data(&chunk));
        }
        out.push_str("data: [DONE]\n\n");
        out.into()
    }

    /// The end of a stream that failed.
    pub fn failure(&self, message: &str) -> Bytes {
        let error = data(&json!({ "error": { "message": message, "type": "api_error" } }));
        format!("{error}data: [DONE]\n\n").into()
    }
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}
