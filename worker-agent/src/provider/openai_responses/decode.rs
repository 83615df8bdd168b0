//! Events of a Responses stream → events. Takes a whole `response` object too, for servers that ignore
//! `stream: true`. Pure.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use crate::provider::exchange::{self, Decoder, Fault};
use crate::provider::failure::Reason;
use crate::provider::sse::Frame;
use crate::provider::types::{ProviderEvent, StopReason, Usage};

/// More tool calls in one reply are a loop, not a plan; it also bounds what a hostile server makes us keep.
const CALLS_MAX: usize = 128;
/// Longest arguments of one call: a `write` of a large file; the frame bounds do not limit the sum.
const ARGUMENTS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What of a reasoning item is kept to be sent back; other fields (`status`) are refused in a request.
const REASONING_FIELDS: [&str; 5] = ["type", "id", "summary", "content", "encrypted_content"];

#[derive(Default)]
pub struct Decode {
    calls: Vec<Pending>,
    /// Items that were seen to their end.
    items: usize,
    /// Something of the present text or thought has been handed out.
    said: bool,
    thought: bool,
    /// Texts that are complete: a further one is set off from them.
    texts: usize,
    stop: Option<StopReason>,
    done: bool,
}

struct Pending {
    output_index: Option<u64>,
    item_id: String,
    id: String,
    name: String,
    arguments: String,
    over: bool,
}

impl Decoder for Decode {
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        if frame.data.trim() == "[DONE]" {
            return Ok(());
        }
        let event = exchange::json_of(frame)?;
        if event["object"] == "response" {
            return self.close(&event, out);
        }
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let kind = event.get("type").and_then(Value::as_str).unwrap_or(&frame.event);
        match kind {
            "response.output_item.added" => self.added(&event, out)?,
            "response.output_text.delta" | "response.refusal.delta" => self.say(text("delta"), out),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.think(text("delta"), out);
            }
            // The parts of a summary are paragraphs.
            "response.reasoning_summary_part.added" if self.thought => self.think("\n\n", out),
            "response.function_call_arguments.delta" => self.arguments(&event, text("delta"), out)?,
            "response.output_item.done" => {
                let at = event.get("output_index").and_then(Value::as_u64);
                self.item(at, event.get("item").unwrap_or(&Value::Null), out)?;
            }
            "response.completed" | "response.incomplete" | "response.done" => {
                self.close(event.get("response").unwrap_or(&Value::Null), out)?;
            }
            "response.failed" => return Err(Fault::said(event.get("response").unwrap_or(&event))),
            "error" => return Err(Fault::said(&event)),
            // Progress that we do not show, and what the API may add.
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
            return Err(exchange::truncated("response.completed"));
        }
        let stop_reason = match self.stop.unwrap_or_default() {
            StopReason::Stop if self.calls.iter().any(|c| c.over) => StopReason::ToolUse,
            other => other,
        };
        out.push_back(ProviderEvent::Done { stop_reason });
        Ok(())
    }
}

impl Decode {
    fn say(&mut self, text: &str, out: &mut VecDeque<ProviderEvent>) {
        if text.is_empty() {
            return;
        }
        if !self.said && self.texts > 0 {
            out.push_back(ProviderEvent::TextDelta { text: "\n\n".to_owned() });
        }
        self.said = true;
        out.push_back(ProviderEvent::TextDelta { text: text.to_owned() });
    }

    fn think(&mut self, text: &str, out: &mut VecDeque<ProviderEvent>) {
        if !text.is_empty() {
            self.thought = true;
            out.push_back(ProviderEvent::ThinkingDelta { text: text.to_owned(), signature: None });
        }
    }

    fn added(&mut self, event: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let item = event.get("item").unwrap_or(&Value::Null);
        if item["type"] == "function_call" {
            self.start_call(event.get("output_index").and_then(Value::as_u64), item, out)?;
        }
        Ok(())
    }

    fn start_call(
        &mut self,
        output_index: Option<u64>,
        item: &Value,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<usize, Fault> {
        if self.calls.len() >= CALLS_MAX {
            let detail = format!("more than {CALLS_MAX} tool calls in one reply");
            return Err(Fault::new(Reason::Malformed, detail));
        }
        let text = |field: &str| item.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (item_id, name, mut id) = (text("id"), text("name"), text("call_id"));
        if id.is_empty() {
            id = format!("call_{}", uuid::Uuid::now_v7().simple());
        }
        // Both ids are needed to send the call back; the original writes them in this form too.
        let id = if item_id.is_empty() { id } else { format!("{id}|{item_id}") };
        let index = self.calls.len();
        out.push_back(ProviderEvent::ToolCallStart { index, id: id.clone(), name: name.clone() });
        self.calls.push(Pending { output_index, item_id, id, name, arguments: String::new(), over: false });
        Ok(index)
    }

    /// The call of an event, by its place in the output, by its item's id, or the last one where a server leaves out
    /// both.
    fn position(&self, output_index: Option<u64>, item_id: &str) -> Option<usize> {
        let open = |call: &Pending| !call.over;
        let by_index = |call: &Pending| output_index.is_some() && call.output_index == output_index;
        let by_id = |call: &Pending| !item_id.is_empty() && call.item_id == item_id;
        let unnamed = output_index.is_none() && item_id.is_empty();
        self.calls
            .iter()
            .rposition(|c| open(c) && by_index(c))
            .or_else(|| self.calls.iter().rposition(|c| open(c) && (by_id(c) || unnamed)))
    }

    fn arguments(
        &mut self,
        event: &Value,
        piece: &str,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<(), Fault> {
        let item_id = event.get("item_id").and_then(Value::as_str).unwrap_or_default();
        let at = self.position(event.get("output_index").and_then(Value::as_u64), item_id);
        let Some((index, call)) = at.and_then(|at| self.calls.get_mut(at).map(|call| (at, call))) else {
            return Ok(());
        };
        if call.arguments.len().saturating_add(piece.len()) > ARGUMENTS_BYTES_MAX {
            let detail = format!("the arguments of a tool call are longer than {ARGUMENTS_BYTES_MAX} bytes");
            return Err(Fault::new(Reason::Malformed, detail));
        }
        if !piece.is_empty() {
            call.arguments.push_str(piece);
            out.push_back(ProviderEvent::ToolCallDelta { index, json: piece.to_owned() });
        }
        Ok(())
    }

    /// A complete item: closes what was streamed of it, or stands for it where nothing was.
    fn item(
        &mut self,
        output_index: Option<u64>,
        item: &Value,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<(), Fault> {
        self.items = self.items.saturating_add(1);
        match item["type"].as_str().unwrap_or_default() {
            "reasoning" => self.reasoning(item, out),
            "message" => self.message(item, out),
            "function_call" => self.call(output_index, item, out)?,
            _ => {}
        }
        Ok(())
    }

    fn reasoning(&mut self, item: &Value, out: &mut VecDeque<ProviderEvent>) {
        if !std::mem::take(&mut self.thought) {
            let text = |field: &str| texts_of(item, field, "\n\n");
            let (summary, content) = (text("summary"), text("content"));
            self.think(if summary.is_empty() { &content } else { &summary }, out);
            self.thought = false;
        }
        let mut kept = Map::new();
        for field in REASONING_FIELDS {
            if let Some(value) = item.get(field).filter(|v| !v.is_null()) {
                kept.insert(field.to_owned(), value.clone());
            }
        }
        // The one field that a request must have even when it is empty.
        kept.entry("summary").or_insert_with(|| json!([]));
        let signature = Some(Value::Object(kept).to_string());
        out.push_back(ProviderEvent::ThinkingDelta { text: String::new(), signature });
    }

    fn message(&mut self, item: &Value, out: &mut VecDeque<ProviderEvent>) {
        if !self.said {
            let text = texts_of(item, "content", "");
            self.say(&text, out);
        }
        if !std::mem::take(&mut self.said) {
            return;
        }
        self.texts = self.texts.saturating_add(1);
        let text = |field: &str| item.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
        let signature = match (text("id"), text("phase")) {
            (Some(id), None) => id.to_owned(),
            (Some(id), Some(phase)) => json!({ "v": 1, "id": id, "phase": phase }).to_string(),
            (None, _) => return,
        };
        out.push_back(ProviderEvent::TextEnd { signature });
    }

    fn call(
        &mut self,
        output_index: Option<u64>,
        item: &Value,
        out: &mut VecDeque<ProviderEvent>,
    ) -> Result<(), Fault> {
        let item_id = item.get("id").and_then(Value::as_str).unwrap_or_default();
        let index = match self.position(output_index, item_id) {
            Some(index) => index,
            None => self.start_call(output_index, item, out)?,
        };
        let Some(call) = self.calls.get_mut(index) else { return Ok(()) };
        // Cut by the length of the reply: a call without its whole arguments must not run.
        if item["status"] == "incomplete" {
            return Ok(());
        }
        let said = item.get("arguments").and_then(Value::as_str).unwrap_or_default();
        if call.arguments.is_empty() && !said.is_empty() {
            out.push_back(ProviderEvent::ToolCallDelta { index, json: said.to_owned() });
        }
        let text = if said.is_empty() { std::mem::take(&mut call.arguments) } else { said.to_owned() };
        call.arguments = String::new();
        call.over = true;
        let (id, name, arguments) = (call.id.clone(), call.name.clone(), exchange::arguments(&text));
        out.push_back(ProviderEvent::ToolCallEnd { index, id, name, arguments, thought_signature: None });
        Ok(())
    }

    /// The response as a whole: its counts, how it ended, and its items when none came before.
    fn close(&mut self, response: &Value, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault> {
        let status = response["status"].as_str().unwrap_or("completed");
        if status == "failed" || response.get("error").is_some_and(|e| !e.is_null()) {
            return Err(Fault::said(response));
        }
        if self.items == 0 {
            let items = response.get("output").and_then(Value::as_array).map(Vec::as_slice);
            for (index, item) in items.unwrap_or_default().iter().enumerate() {
                self.item(u64::try_from(index).ok(), item, out)?;
            }
        }
        if let Some(usage) = response.get("usage").filter(|u| u.is_object()) {
            out.push_back(ProviderEvent::Usage(usage_of(usage)));
        }
        let why = response.pointer("/incomplete_details/reason").and_then(Value::as_str).unwrap_or_default();
        self.stop = Some(match (status, why) {
            (_, "content_filter") => {
                return Err(Fault::new(Reason::ContentFilter, "incomplete_details.reason content_filter"));
            }
            ("incomplete", _) => StopReason::Length,
            ("cancelled", _) => return Err(Fault::new(Reason::Server, "the response was cancelled there")),
            _ => StopReason::Stop,
        });
        self.done = true;
        Ok(())
    }
}

/// The texts of an item's parts.
fn texts_of(item: &Value, field: &str, between: &str) -> String {
    let parts = item.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |part: &Value| {
        let text = part.get("text").or_else(|| part.get("refusal")).and_then(Value::as_str);
        text.filter(|t| !t.is_empty()).map(str::to_owned)
    };
    parts.iter().filter_map(text).collect::<Vec<_>>().join(between)
}

/// The input holds what was read from a cache, the output holds the reasoning.
fn usage_of(usage: &Value) -> Usage {
    let number = |pointer: &str| usage.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let input = number("/input_tokens");
    let cache_read = number("/input_tokens_details/cached_tokens").min(input);
    let output = number("/output_tokens");
    Usage {
        input: input.saturating_sub(cache_read),
        output,
        cache_read,
        total_tokens: input.saturating_add(output),
        ..Usage::default()
    }
}
