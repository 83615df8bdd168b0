//! Lines of Ollama's chat → events. Tool calls come whole, without ids. Pure.

use std::collections::VecDeque;

use serde_json::Value;

use crate::provider::exchange::{self, Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{ProviderEvent, StopReason, Usage};

/// More tool calls in one reply are a loop.
const CALLS_MAX: usize = 128;

#[derive(Default)]
pub struct Decode {
    calls: usize,
    thinking: bool,
    stop: StopReason,
    done: bool,
}

impl Decoder for Decode {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let line = exchange::json_of(frame)?;
        if line.get("error").is_some_and(|e| !e.is_null()) {
            return Err(Fault::said(&line));
        }
        let message = &line["message"];
        let text = |field: &str| message.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (thinking, content) = (text("thinking"), text("content"));
        if !thinking.is_empty() {
            self.thinking = true;
            out.push_back(ProviderEvent::ThinkingDelta { text: thinking, signature: None });
        }
        if !content.is_empty() {
            self.close_thinking(out);
            out.push_back(ProviderEvent::TextDelta { text: content });
        }
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            self.tool_call(call, out)?;
        }
        if line["done"] == true {
            self.done = true;
            self.stop = if line["done_reason"] == "length" { StopReason::Length } else { StopReason::Stop };
            let number = |field: &str| line.get(field).and_then(Value::as_u64).unwrap_or(0);
            // A prompt that was cached as a whole is not counted by Ollama.
            let (input, output) = (number("prompt_eval_count"), number("eval_count"));
            let total_tokens = input.saturating_add(output);
            out.push_back(ProviderEvent::Usage(Usage { input, output, total_tokens, ..Usage::default() }));
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.done
    }

    fn finish(&mut self, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if !self.done {
            return Err(exchange::truncated("\"done\": true"));
        }
        self.close_thinking(out);
        let stop_reason = match self.stop {
            StopReason::Stop if self.calls > 0 => StopReason::ToolUse,
            other => other,
        };
        out.push_back(ProviderEvent::Done { stop_reason });
        Ok(())
    }
}

impl Decode {
    fn close_thinking(&mut self, out: &mut VecDeque<ProviderEvent>) {
        if std::mem::take(&mut self.thinking) {
            let signature = Some("thinking".to_owned());
            out.push_back(ProviderEvent::ThinkingDelta { text: String::new(), signature });
        }
    }

    fn tool_call(&mut self, call: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if self.calls >= CALLS_MAX {
            return Err(Fault::new(
                Reason::Malformed,
                format!("more than {CALLS_MAX} tool calls in one reply"),
            ));
        }
        self.close_thinking(out);
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        let name = call.pointer("/function/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let arguments = match call.pointer("/function/arguments") {
            Some(Value::String(text)) => exchange::arguments(text),
            Some(object @ Value::Object(_)) => object.clone(),
            _ => exchange::arguments(""),
        };
        let given = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = given.map_or_else(|| format!("call_{}", uuid::Uuid::now_v7().simple()), str::to_owned);
        out.push_back(ProviderEvent::ToolCallStart { index, id: id.clone(), name: name.clone() });
        out.push_back(ProviderEvent::ToolCallDelta { index, json: arguments.to_string() });
        out.push_back(ProviderEvent::ToolCallEnd { index, id, name, arguments, thought_signature: None });
        Ok(())
    }
}
