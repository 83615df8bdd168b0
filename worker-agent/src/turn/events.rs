//! The events of one run on their way up, in the shape in which clients see them (wire protocol, event `agent`).

use std::sync::Arc;

use proto::runtime::dump;
use proto::wire::Id;
use proto::wire::agent::{AgentToSup, Delta, DeltaKind, RunEvent, RunStarted, RunStep};
use serde_json::{Map, Value, json};

use crate::agent::Upstream;
use crate::clock::now_ms;
use crate::session::message::ToolCall;
use crate::tool::{Block, ToolOutcome};

/// Longest text of a tool result in an event; the transcript has the whole.
const EVENT_TEXT_CHARS_MAX: usize = 8_000;

/// Speaks for one attempt of one run.
#[derive(Clone)]
pub struct Events {
    pub up: Arc<dyn Upstream>,
    pub run_id: Id,
    pub attempt: u32,
}

impl Events {
    pub async fn started(&self, session_id: &str, started_ms: i64) {
        self.up
            .send(AgentToSup::RunStarted(RunStarted {
                run_id: self.run_id,
                attempt: self.attempt,
                session_id: session_id.to_owned(),
                started_ms,
            }))
            .await;
        if self.attempt > 1 {
            self.lifecycle(json!({"phase": "restart", "attempt": self.attempt, "startedAt": started_ms}))
                .await;
        } else {
            self.lifecycle(json!({"phase": "start", "startedAt": started_ms})).await;
        }
    }

    pub async fn step(&self, step: u32, kind: &str, detail: String) {
        self.up.progressed();
        dump::step(&format!("run {}", self.run_id), &format!("step {step} {kind} {detail}"));
        let step = RunStep { run_id: self.run_id, step, kind: kind.to_owned(), detail };
        self.up.send(AgentToSup::RunStep(step)).await;
    }

    pub fn delta(&self, message: u32, kind: DeltaKind, text: String) {
        self.up.progressed();
        if !text.is_empty() {
            let delta = Delta { run_id: self.run_id, attempt: self.attempt, message, kind, text };
            self.up.send_lossy(AgentToSup::Delta(delta));
        }
    }

    pub async fn lifecycle(&self, data: Value) {
        self.event("lifecycle", data).await;
    }

    pub async fn compaction(&self, data: Value) {
        self.event("compaction", data).await;
    }

    /// What was shown of this message is void: the model broke off and is asked again.
    pub async fn discard(&self, message: u32) {
        self.event("discard", json!({"message": message})).await;
    }

    pub async fn tool_start(&self, call: &ToolCall) {
        let args = capped(Value::Object(call.arguments.clone()));
        self.event("tool", json!({"phase": "start", "name": call.name, "toolCallId": call.id, "args": args}))
            .await;
    }

    pub async fn tool_update(&self, call: &ToolCall, so_far: &ToolOutcome) {
        let data = json!({
            "phase": "update", "name": call.name, "toolCallId": call.id, "partialResult": result_value(so_far),
        });
        self.event("tool", data).await;
    }

    pub async fn tool_result(&self, call: &ToolCall, outcome: &ToolOutcome) {
        let mut data = Map::new();
        data.insert("phase".into(), "result".into());
        data.insert("name".into(), call.name.clone().into());
        data.insert("toolCallId".into(), call.id.clone().into());
        if let Some(meta) = &outcome.meta {
            data.insert("meta".into(), meta.clone().into());
        }
        data.insert("isError".into(), outcome.is_error.into());
        data.insert("result".into(), result_value(outcome));
        self.event("tool", Value::Object(data)).await;
    }

    async fn event(&self, stream: &str, data: Value) {
        self.up.progressed();
        let event = RunEvent {
            run_id: self.run_id,
            attempt: self.attempt,
            stream: stream.to_owned(),
            data_json: data.to_string(),
            at_ms: now_ms(),
        };
        self.up.send(AgentToSup::RunEvent(event)).await;
    }
}

fn result_value(outcome: &ToolOutcome) -> Value {
    let content: Vec<Value> = outcome
        .content
        .iter()
        .map(|block| match block {
            Block::Text { text } => json!({"type": "text", "text": cut(text)}),
            Block::Image { data, mime_type } => {
                json!({"type": "image", "mimeType": mime_type, "omitted": true, "bytes": data.len() / 4 * 3})
            }
        })
        .collect();
    match &outcome.details {
        Some(details) => json!({"content": content, "details": capped(details.clone())}),
        None => json!({"content": content}),
    }
}

fn capped(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) => *text = cut(text),
        Value::Array(items) => items.iter_mut().for_each(|item| *item = capped(item.take())),
        Value::Object(map) => map.values_mut().for_each(|item| *item = capped(item.take())),
        _ => {}
    }
    value
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(EVENT_TEXT_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}
