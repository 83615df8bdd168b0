//! Chunks of a chat completion → events. Takes a whole `chat.completion` object too, for servers that ignore
//! `stream: true`. Pure.

use std::collections::VecDeque;

use serde_json::Value;

use super::request::REASONING_FIELDS;
use crate::provider::exchange::{self, Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{ProviderEvent, StopReason, Usage};

/// More tool calls in one reply are a loop, not a plan; it also bounds what a hostile server makes us keep.
const CALLS_MAX: usize = 128;
/// Longest arguments of one call: a `write` of a large file; the frame bounds do not limit the sum.
const ARGUMENTS_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub struct Decode {
    calls: Vec<Pending>,
    /// Encrypted reasoning by the id of the call that it belongs to.
    encrypted: Vec<(String, String)>,
    finish: Option<StopReason>,
    done: bool,
    /// Field of the thoughts that are being streamed, to close them when something else begins.
    thinking: Option<&'static str>,
}

#[derive(Default)]
struct Pending {
    vendor_index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
    started: bool,
}

impl Decoder for Decode {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if frame.data.trim() == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk = exchange::json_of(frame)?;
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            return Err(Fault::said(&chunk));
        }
        let choice = chunk.pointer("/choices/0").unwrap_or(&Value::Null);
        let delta = choice.get("delta").or_else(|| choice.get("message")).unwrap_or(&Value::Null);
        self.reasoning(delta, out);
        self.text(delta, out);
        self.tool_calls(delta, out)?;
        let usage = [chunk.get("usage"), choice.get("usage")].into_iter().flatten().find(|u| u.is_object());
        if let Some(usage) = usage {
            out.push_back(ProviderEvent::Usage(usage_of(usage)));
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(stop_reason(reason, choice)?);
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.done
    }

    fn finish(&mut self, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if !self.done && self.finish.is_none() {
            return Err(exchange::truncated("finish_reason or [DONE]"));
        }
        self.close_thinking(out);
        let mut stop_reason = self.finish.unwrap_or_default();
        let mut complete = 0_usize;
        for (index, call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            if !call.started {
                continue;
            }
            let arguments = exchange::arguments(&call.arguments);
            // The reply was cut by its length: a call without its whole arguments must not run.
            if stop_reason == StopReason::Length && arguments.get("_raw").is_some() {
                continue;
            }
            let thought_signature =
                self.encrypted.iter().find(|(id, _)| *id == call.id).map(|(_, d)| d.clone());
            complete = complete.saturating_add(1);
            let (id, name) = (call.id, call.name);
            out.push_back(ProviderEvent::ToolCallEnd { index, id, name, arguments, thought_signature });
        }
        // Several servers say `stop` although they call tools, and some the reverse.
        stop_reason = match stop_reason {
            StopReason::Stop | StopReason::ToolUse if complete > 0 => StopReason::ToolUse,
            StopReason::ToolUse => StopReason::Stop,
            other => other,
        };
        out.push_back(ProviderEvent::Done { stop_reason });
        Ok(())
    }
}

impl Decode {
    fn reasoning(&mut self, delta: &Value, out: &mut VecDeque<ProviderEvent>) {
        for field in REASONING_FIELDS {
            let text = delta.get(field).and_then(Value::as_str).unwrap_or_default();
            if !text.is_empty() {
                self.thinking = Some(field);
                out.push_back(ProviderEvent::ThinkingDelta { text: text.to_owned(), signature: None });
                break;
            }
        }
        for detail in delta.get("reasoning_details").and_then(Value::as_array).into_iter().flatten() {
            let id = detail.get("id").and_then(Value::as_str).unwrap_or_default();
            if detail["type"] == "reasoning.encrypted" && !id.is_empty() && self.encrypted.len() < CALLS_MAX {
                self.encrypted.push((id.to_owned(), detail.to_string()));
            }
        }
    }

    fn text(&mut self, delta: &Value, out: &mut VecDeque<ProviderEvent>) {
        match delta.get("content") {
            Some(Value::String(text)) => self.say(text, out),
            // Mistral's form: a list of text and thinking parts.
            Some(Value::Array(parts)) => {
                for part in parts {
                    if let Some(text) = part.get("text").and_then(Value::as_str) {
                        self.say(text, out);
                    }
                    for thought in part.get("thinking").and_then(Value::as_array).into_iter().flatten() {
                        let text = thought.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
                        self.thinking = Some("thinking");
                        out.push_back(ProviderEvent::ThinkingDelta { text, signature: None });
                    }
                }
            }
            _ => {}
        }
        if let Some(text) = delta.get("refusal").and_then(Value::as_str) {
            self.say(text, out);
        }
    }

    fn say(&mut self, text: &str, out: &mut VecDeque<ProviderEvent>) {
        if !text.is_empty() {
            self.close_thinking(out);
            out.push_back(ProviderEvent::TextDelta { text: text.to_owned() });
        }
    }

    fn close_thinking(&mut self, out: &mut VecDeque<ProviderEvent>) {
        if let Some(field) = self.thinking.take() {
            out.push_back(ProviderEvent::ThinkingDelta {
                text: String::new(),
                signature: Some(field.to_owned()),
            });
        }
    }

    fn tool_calls(&mut self, delta: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
            self.tool_call(call.get("index").and_then(Value::as_u64), id, &call["function"], out)?;
        }
        // The form before `tool_calls`; one call at most, without an id.
        if let Some(function) = delta.get("function_call").filter(|f| f.is_object()) {
            self.tool_call(Some(0), "", function, out)?;
        }
        Ok(())
    }

    fn tool_call(
        &mut self,
        vendor_index: Option<u64>,
        id: &str,
        function: &Value,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<(), Fault> {
        let at = match self.position(vendor_index, id) {
            Some(at) => at,
            None if self.calls.len() >= CALLS_MAX => {
                return Err(Fault::new(
                    Reason::Malformed,
                    format!("more than {CALLS_MAX} tool calls in one reply"),
                ));
            }
            None => {
                self.calls.push(Pending { vendor_index, id: id.to_owned(), ..Pending::default() });
                self.calls.len().saturating_sub(1)
            }
        };
        self.close_thinking(out);
        let Some(call) = self.calls.get_mut(at) else { return Ok(()) };
        if call.name.is_empty() {
            call.name = function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        if !call.started && !call.name.is_empty() {
            call.started = true;
            if call.id.is_empty() {
                call.id = format!("call_{}", uuid::Uuid::now_v7().simple());
            }
            let (id, name) = (call.id.clone(), call.name.clone());
            out.push_back(ProviderEvent::ToolCallStart { index: at, id, name });
        }
        let piece = match function.get("arguments") {
            Some(Value::String(text)) => text.clone(),
            Some(object @ Value::Object(_)) => object.to_string(),
            _ => String::new(),
        };
        if call.arguments.len().saturating_add(piece.len()) > ARGUMENTS_BYTES_MAX {
            let detail = format!("the arguments of a tool call are longer than {ARGUMENTS_BYTES_MAX} bytes");
            return Err(Fault::new(Reason::Malformed, detail));
        }
        if !piece.is_empty() {
            call.arguments.push_str(&piece);
            out.push_back(ProviderEvent::ToolCallDelta { index: at, json: piece });
        }
        Ok(())
    }

    /// Which call a piece belongs to. By index, unless a new id shows that the server numbers every call 0; without
    /// an index by id, and without either it goes on with the last one.
    fn position(&self, vendor_index: Option<u64>, id: &str) -> Option<usize> {
        let by_id = || self.calls.iter().position(|c| c.id == id);
        match (vendor_index, id) {
            (Some(index), "") => self.calls.iter().rposition(|c| c.vendor_index == Some(index)),
            (Some(index), _) => by_id()
                .or_else(|| self.calls.iter().position(|c| c.vendor_index == Some(index) && c.id.is_empty())),
            (None, "") => self.calls.len().checked_sub(1),
            (None, _) => by_id(),
        }
    }
}

fn stop_reason(reason: &str, choice: &Value) -> Result<StopReason, Fault> {
    match reason {
        "length" | "max_tokens" => Ok(StopReason::Length),
        "tool_calls" | "function_call" => Ok(StopReason::ToolUse),
        "content_filter" => Err(Fault::new(Reason::ContentFilter, "finish_reason content_filter")),
        "error" => {
            let native = choice.get("native_finish_reason").and_then(Value::as_str).unwrap_or("error");
            Err(Fault::new(Reason::Server, format!("finish_reason {native}")))
        }
        _ => Ok(StopReason::Stop),
    }
}

/// OpenAI counts cached tokens into the prompt and reasoning into the completion; xAI adds reasoning on top, which
/// shows in the total.
fn usage_of(usage: &Value) -> Usage {
    let number = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let first = |pointers: &[&str]| pointers.iter().map(|p| number(p)).find(|n| *n > 0).unwrap_or(0);
    let prompt = number("/prompt_tokens");
    let cache_read =
        first(&["/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens", "/cached_tokens"])
            .min(prompt);
    let cache_write =
        number("/prompt_tokens_details/cache_write_tokens").min(prompt.saturating_sub(cache_read));
    let completion = number("/completion_tokens");
    let reasoning = number("/completion_tokens_details/reasoning_tokens");
    let on_top = reasoning > 0
        && number("/total_tokens") == prompt.saturating_add(completion).saturating_add(reasoning);
    let output = if on_top { completion.saturating_add(reasoning) } else { completion };
    Usage {
        input: prompt.saturating_sub(cache_read).saturating_sub(cache_write),
        output,
        cache_read,
        cache_write,
        total_tokens: prompt.saturating_add(output),
        ..Usage::default()
    }
}
