//! Events of a Messages stream → events. Pure.

use std::collections::VecDeque;

use serde_json::Value;

use super::request::REDACTED_MARK;
use crate::provider::exchange::{self, Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{ProviderEvent, StopReason, Usage};

/// More blocks in one reply are a loop; it also bounds what a hostile server makes us keep.
const BLOCKS_MAX: usize = 512;
/// Longest arguments of one call: a `write` of a large file; the frame bounds do not limit the sum.
const ARGUMENTS_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub struct Decode {
    /// Open blocks by the vendor's index.
    open: Vec<(u64, Open)>,
    blocks: usize,
    /// Tool calls so far: numbers the next one.
    calls: usize,
    usage: Usage,
    stop: Option<StopReason>,
    done: bool,
}

enum Open {
    Text,
    Thinking { signature: String },
    Tool { index: usize, id: String, name: String, start: Value, json: String },
}

impl Decoder for Decode {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let event = exchange::json_of(frame)?;
        let kind = event.get("type").and_then(Value::as_str).unwrap_or(&frame.event);
        match kind {
            "message_start" => self.count(event.pointer("/message/usage"), out),
            "content_block_start" => self.start(&event, out)?,
            "content_block_delta" => self.delta(&event, out)?,
            "content_block_stop" => self.stop(&event, out),
            "message_delta" => {
                self.count(event.get("usage"), out);
                if let Some(reason) = event.pointer("/delta/stop_reason").and_then(Value::as_str) {
                    self.stop = Some(stop_reason(reason)?);
                }
            }
            "message_stop" => self.done = true,
            "error" => return Err(Fault::said(&event)),
            // Pings, and what the API may add.
            _ if event.get("error").is_some_and(|e| !e.is_null()) => return Err(Fault::said(&event)),
            _ => {}
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.done
    }

    fn finish(&mut self, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if !self.done {
            return Err(exchange::truncated("message_stop"));
        }
        let stop_reason = match self.stop.unwrap_or_default() {
            StopReason::Stop if self.calls > 0 => StopReason::ToolUse,
            other => other,
        };
        out.push_back(ProviderEvent::Done { stop_reason });
        Ok(())
    }
}

impl Decode {
    fn count(&mut self, usage: Option<&Value>, out: &mut VecDeque<ProviderEvent>) {
        let Some(usage) = usage.filter(|u| u.is_object()) else { return };
        // Each event repeats only what it knows; the numbers are running totals.
        let take = |field: &str, old: u64| usage.get(field).and_then(Value::as_u64).unwrap_or(old);
        let all = &mut self.usage;
        all.input = take("input_tokens", all.input);
        all.output = take("output_tokens", all.output);
        all.cache_read = take("cache_read_input_tokens", all.cache_read);
        all.cache_write = take("cache_creation_input_tokens", all.cache_write);
        all.total_tokens = all.prompt().saturating_add(all.output);
        out.push_back(ProviderEvent::Usage(*all));
    }

    fn start(&mut self, event: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        self.blocks = self.blocks.saturating_add(1);
        if self.blocks > BLOCKS_MAX {
            return Err(Fault::new(Reason::Malformed, format!("more than {BLOCKS_MAX} blocks in one reply")));
        }
        let block = &event["content_block"];
        let text = |field: &str| block.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let open = match block["type"].as_str().unwrap_or_default() {
            "thinking" => {
                think(text("thinking"), None, out);
                Open::Thinking { signature: text("signature") }
            }
            "redacted_thinking" => Open::Thinking { signature: format!("{REDACTED_MARK}{}", text("data")) },
            "tool_use" => {
                let (index, id, name) = (self.calls, text("id"), text("name"));
                self.calls = self.calls.saturating_add(1);
                out.push_back(ProviderEvent::ToolCallStart { index, id: id.clone(), name: name.clone() });
                Open::Tool { index, id, name, start: block["input"].clone(), json: String::new() }
            }
            _ => {
                say(text("text"), out);
                Open::Text
            }
        };
        self.open.push((index_of(event), open));
        Ok(())
    }

    fn delta(&mut self, event: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let at = index_of(event);
        let delta = &event["delta"];
        let text = |field: &str| delta.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let open = self.open.iter_mut().find(|(index, _)| *index == at).map(|(_, open)| open);
        match (delta["type"].as_str().unwrap_or_default(), open) {
            ("text_delta", _) => say(text("text"), out),
            ("thinking_delta", _) => think(text("thinking"), None, out),
            ("signature_delta", Some(Open::Thinking { signature })) => signature.push_str(&text("signature")),
            ("input_json_delta", Some(Open::Tool { index, json, .. })) => {
                let piece = text("partial_json");
                if json.len().saturating_add(piece.len()) > ARGUMENTS_BYTES_MAX {
                    let detail =
                        format!("the arguments of a tool call are longer than {ARGUMENTS_BYTES_MAX} bytes");
                    return Err(Fault::new(Reason::Malformed, detail));
                }
                json.push_str(&piece);
                if !piece.is_empty() {
                    out.push_back(ProviderEvent::ToolCallDelta { index: *index, json: piece });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn stop(&mut self, event: &Value, out: &mut VecDeque<ProviderEvent>) {
        let at = index_of(event);
        let Some(found) = self.open.iter().position(|(index, _)| *index == at) else { return };
        match self.open.swap_remove(found).1 {
            Open::Thinking { signature } => {
                out.push_back(ProviderEvent::ThinkingDelta {
                    text: String::new(),
                    signature: Some(signature),
                });
            }
            Open::Tool { index, id, name, start, json } => {
                // Without deltas the whole input stood in the start event.
                let arguments =
                    if json.is_empty() && start.is_object() { start } else { exchange::arguments(&json) };
                out.push_back(ProviderEvent::ToolCallEnd {
                    index,
                    id,
                    name,
                    arguments,
                    thought_signature: None,
                });
            }
            Open::Text => {}
        }
    }
}

fn index_of(event: &Value) -> u64 {
    event.get("index").and_then(Value::as_u64).unwrap_or(0)
}

fn say(text: String, out: &mut VecDeque<ProviderEvent>) {
    if !text.is_empty() {
        out.push_back(ProviderEvent::TextDelta { text });
    }
}

fn think(text: String, signature: Option<String>, out: &mut VecDeque<ProviderEvent>) {
    if !text.is_empty() {
        out.push_back(ProviderEvent::ThinkingDelta { text, signature });
    }
}

fn stop_reason(reason: &str) -> Result<StopReason, Fault> {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Ok(StopReason::Length),
        "tool_use" => Ok(StopReason::ToolUse),
        "refusal" => Err(Fault::new(Reason::ContentFilter, "stop_reason refusal")),
        _ => Ok(StopReason::Stop),
    }
}
