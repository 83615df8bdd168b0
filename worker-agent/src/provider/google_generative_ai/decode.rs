//! Chunks of a `streamGenerateContent` call → events. Takes a list of chunks or one whole answer too. Pure.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::provider::exchange::{self, Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{ProviderEvent, StopReason, Usage};

/// More tool calls in one reply are a loop.
const CALLS_MAX: usize = 128;
/// Begins the ids that we give to calls without one; they are not sent back.
pub const OWN_ID_PREFIX: &str = "gcall_";

#[derive(Default)]
pub struct Decode {
    calls: usize,
    stop: Option<StopReason>,
}

impl Decoder for Decode {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        match exchange::json_of(frame)? {
            // What comes when the server was not asked for events.
            Value::Array(chunks) => chunks.iter().try_for_each(|chunk| self.chunk(chunk, out)),
            chunk => self.chunk(&chunk, out),
        }
    }

    /// There is no end mark: some models say why they stop in every chunk, so that only the end of the body ends.
    fn ended(&self) -> bool {
        false
    }

    fn finish(&mut self, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let stop_reason = match self.stop {
            None => return Err(exchange::truncated("finishReason")),
            Some(StopReason::Stop) if self.calls > 0 => StopReason::ToolUse,
            Some(other) => other,
        };
        out.push_back(ProviderEvent::Done { stop_reason });
        Ok(())
    }
}

impl Decode {
    fn chunk(&mut self, chunk: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            return Err(Fault::said(chunk));
        }
        if let Some(reason) = chunk.pointer("/promptFeedback/blockReason").and_then(Value::as_str) {
            return Err(Fault::new(Reason::ContentFilter, format!("promptFeedback.blockReason {reason}")));
        }
        let candidate = chunk.pointer("/candidates/0").unwrap_or(&Value::Null);
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array);
        for part in parts.into_iter().flatten() {
            self.part(part, out)?;
        }
        if let Some(usage) = chunk.get("usageMetadata").filter(|u| u.is_object()) {
            out.push_back(ProviderEvent::Usage(usage_of(usage)));
        }
        if let Some(reason) = candidate.get("finishReason").and_then(Value::as_str) {
            self.stop = stop_reason(reason, candidate)?.or(self.stop);
        }
        Ok(())
    }

    fn part(&mut self, part: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let text_of = |field: &str| part.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        let signature = text_of("thoughtSignature").map(str::to_owned);
        if let Some(function) = part.get("functionCall").filter(|f| f.is_object()) {
            return self.call(function, signature, out);
        }
        let text = text_of("text").unwrap_or_default().to_owned();
        if part["thought"] == true {
            if !text.is_empty() || signature.is_some() {
                out.push_back(ProviderEvent::ThinkingDelta { text, signature });
            }
            return Ok(());
        }
        if !text.is_empty() {
            out.push_back(ProviderEvent::TextDelta { text });
        }
        // The signature of a text may come after it, with an empty part of its own.
        if let Some(signature) = signature {
            out.push_back(ProviderEvent::TextEnd { signature });
        }
        Ok(())
    }

    /// Calls come whole; ids only from newer models.
    fn call(
        &mut self,
        function: &Value,
        thought_signature: Option<String>,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<(), Fault> {
        if self.calls >= CALLS_MAX {
            let detail = format!("more than {CALLS_MAX} tool calls in one reply");
            return Err(Fault::new(Reason::Malformed, detail));
        }
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        let text = |field: &str| function.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, mut id) = (text("name"), text("id"));
        if id.is_empty() {
            id = format!("{OWN_ID_PREFIX}{}", uuid::Uuid::now_v7().simple());
        }
        let arguments = match function.get("args") {
            Some(args @ Value::Object(_)) => args.clone(),
            None | Some(Value::Null) => json!({}),
            Some(other) => exchange::arguments(&other.to_string()),
        };
        out.push_back(ProviderEvent::ToolCallStart { index, id: id.clone(), name: name.clone() });
        out.push_back(ProviderEvent::ToolCallDelta { index, json: arguments.to_string() });
        out.push_back(ProviderEvent::ToolCallEnd { index, id, name, arguments, thought_signature });
        Ok(())
    }
}

fn stop_reason(reason: &str, candidate: &Value) -> Result<Option<StopReason>, Fault> {
    let said = candidate.get("finishMessage").and_then(Value::as_str).unwrap_or_default();
    let fault = |class| Err(Fault::new(class, format!("finishReason {reason} {said}").trim_end().to_owned()));
    match reason {
        "FINISH_REASON_UNSPECIFIED" => Ok(None),
        "STOP" => Ok(Some(StopReason::Stop)),
        "MAX_TOKENS" => Ok(Some(StopReason::Length)),
        // The model wrote a call that cannot be read, or called what it was not offered: another try may do.
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MALFORMED_RESPONSE" => {
            fault(Reason::Malformed)
        }
        "MISSING_THOUGHT_SIGNATURE" => fault(Reason::Format),
        "OTHER" => fault(Reason::Server),
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" => {
            fault(Reason::ContentFilter)
        }
        _ if reason.starts_with("IMAGE_") || reason == "NO_IMAGE" => fault(Reason::ContentFilter),
        // Proxies that translate from another vendor say FUNCTION_CALL and the like.
        _ => Ok(Some(StopReason::Stop)),
    }
}

/// The prompt holds what was read from a cache; thoughts are counted beside the answer.
fn usage_of(usage: &Value) -> Usage {
    let number = |field: &str| usage.get(field).and_then(Value::as_u64).unwrap_or(0);
    let prompt = number("promptTokenCount").saturating_add(number("toolUsePromptTokenCount"));
    let cache_read = number("cachedContentTokenCount").min(prompt);
    let output = number("candidatesTokenCount").saturating_add(number("thoughtsTokenCount"));
    Usage {
        input: prompt.saturating_sub(cache_read),
        output,
        cache_read,
        total_tokens: prompt.saturating_add(output),
        ..Usage::default()
    }
}
