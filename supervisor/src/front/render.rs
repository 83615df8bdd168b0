//! Pure: the shapes of events in wire protocols 3 and 4, and the 150 ms throttle of protocol 3.
//!
//! Input are the core's protocol-neutral events; output are payloads with the name and the audience.

use super::limits::{CHAT_DELTA_INTERVAL_MS, RUNS_RENDERED_MAX};
use super::scope;
use crate::events::{ChatEventOut, ChatState, GatewayEvent, RunData, RunEventOut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Which connections get an event, on top of its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// All.
    All,
    /// Those with capability `tool-events` that take part in this run or session.
    Participants {
        /// `runId`.
        run_id: Arc<str>,
        /// `sessionKey`.
        session_key: Arc<str>,
    },
    /// Those that called `sessions.subscribe`.
    SessionSubscribers,
    /// Those that called `sessions.messages.subscribe` for this key.
    MessageSubscribers(String),
}

/// An event in the shapes of both protocols; `None` = that protocol does not know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Event name.
    pub name: &'static str,
    /// Payload for protocol 3.
    pub v3: Option<Value>,
    /// Payload for protocol 4.
    pub v4: Option<Value>,
    /// Scope that a connection needs.
    pub scope: Option<&'static str>,
    /// Who gets it.
    pub audience: Audience,
    /// May be left out for a slow reader.
    pub droppable: bool,
    /// Carries `stateVersion`.
    pub versioned: bool,
}

impl Rendered {
    fn plain(name: &'static str, payload: Value) -> Self {
        Self {
            name,
            v3: Some(payload.clone()),
            v4: Some(payload),
            scope: None,
            audience: Audience::All,
            droppable: false,
            versioned: false,
        }
    }

    fn read(name: &'static str, v3: Option<Value>, v4: Value) -> Self {
        Self { v3, v4: Some(v4), scope: Some(scope::READ), ..Self::plain(name, Value::Null) }
    }
}

/// State of the runs that are being rendered.
#[derive(Default)]
pub struct Renderer {
    runs: HashMap<Arc<str>, RunState>,
    /// Sessions whose `verboseLevel` is `full`: protocol 3 shows tool results only there.
    verbose: HashMap<String, bool>,
}

#[derive(Default)]
struct RunState {
    /// Protocol 3: when the last delta left.
    last_delta_ms: Option<u64>,
    /// Protocol 3: the delta that waits.
    waiting: Option<Value>,
    /// Protocol 3: text of the current message.
    message_text: Option<Arc<str>>,
}

/// What a renderer goes on with after an in-place restart: fields are only added.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RendererState {
    runs: Vec<CarriedRun>,
    /// Sessions whose `verboseLevel` is `full`.
    verbose: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CarriedRun {
    run_id: String,
    last_delta_ms: Option<u64>,
    message_text: Option<String>,
}

impl From<&Renderer> for RendererState {
    /// Deltas that wait are to be told before.
    fn from(renderer: &Renderer) -> Self {
        let runs = renderer.runs.iter().map(|(run_id, state)| CarriedRun {
            run_id: run_id.to_string(),
            last_delta_ms: state.last_delta_ms,
            message_text: state.message_text.as_deref().map(str::to_owned),
        });
        Self { runs: runs.collect(), verbose: renderer.verbose.keys().cloned().collect() }
    }
}

impl From<RendererState> for Renderer {
    fn from(state: RendererState) -> Self {
        let runs = state.runs.into_iter().map(|run| {
            let message_text = run.message_text.map(Arc::from);
            (run.run_id.into(), RunState { last_delta_ms: run.last_delta_ms, waiting: None, message_text })
        });
        Self { runs: runs.collect(), verbose: state.verbose.into_iter().map(|key| (key, true)).collect() }
    }
}

impl Renderer {
    /// Render one event. `presence` gives the current list when it is needed.
    pub fn render(
        &mut self,
        event: GatewayEvent,
        now_ms: u64,
        presence: impl FnOnce() -> Value,
    ) -> Vec<Rendered> {
        match event {
            GatewayEvent::Run(run) => self.run(run),
            GatewayEvent::Chat(chat) => self.chat(chat, now_ms),
            GatewayEvent::SessionChanged { session_key, agent_id, reason, run_id, row } => {
                self.note_verbose(&session_key, &row);
                vec![session_changed(&session_key, &agent_id, &reason, run_id.as_deref(), &row, now_ms)]
            }
            GatewayEvent::SessionMessage { session_key, agent_id, message, message_id } => {
                let payload = json!({ "sessionKey": session_key, "agentId": agent_id, "message": message, "messageId": message_id });
                vec![Rendered {
                    audience: Audience::MessageSubscribers(session_key),
                    ..Rendered::read("session.message", None, payload)
                }]
            }
            GatewayEvent::Presence => {
                let payload = json!({ "presence": presence() });
                vec![Rendered {
                    versioned: true,
                    droppable: true,
                    ..Rendered::read("presence", Some(payload.clone()), payload)
                }]
            }
            GatewayEvent::Health(payload) => {
                vec![Rendered { versioned: true, droppable: true, ..Rendered::plain("health", payload) }]
            }
            GatewayEvent::ConfigChanged(payload) => vec![Rendered::read("config.changed", None, payload)],
            GatewayEvent::Shutdown { reason, restart_expected_ms } => {
                vec![shutdown(reason, restart_expected_ms)]
            }
            GatewayEvent::Other { event, payload, scope } => {
                vec![Rendered { scope, ..Rendered::plain(event, payload) }]
            }
        }
    }

    /// Deltas of protocol 3 whose wait is over.
    pub fn due(&mut self, now_ms: u64) -> Vec<Rendered> {
        let mut out = Vec::new();
        for run in self.runs.values_mut() {
            let due = run.last_delta_ms.is_none_or(|t| now_ms.saturating_sub(t) >= CHAT_DELTA_INTERVAL_MS);
            if due && let Some(payload) = run.waiting.take() {
                run.last_delta_ms = Some(now_ms);
                out.push(v3_delta(payload));
            }
        }
        out
    }

    /// When [`Renderer::due`] has something next.
    pub fn next_due_ms(&self) -> Option<u64> {
        let waiting = self.runs.values().filter(|r| r.waiting.is_some());
        waiting.map(|r| r.last_delta_ms.unwrap_or(0).saturating_add(CHAT_DELTA_INTERVAL_MS)).min()
    }

    fn run(&mut self, run: RunEventOut) -> Vec<Rendered> {
        let mut out = Vec::new();
        let ends = matches!(&run.data, RunData::Tool(_)) || is_end(&run.data);
        // The text before a tool call or the end must not arrive after it.
        if ends && let Some(payload) = self.runs.get_mut(&run.run_id).and_then(|r| r.waiting.take()) {
            out.push(v3_delta(payload));
        }
        let verbose = self.verbose.get(&*run.session_key).copied().unwrap_or(false);
        out.push(render_run(&run, verbose));
        out
    }

    fn chat(&mut self, chat: ChatEventOut, now_ms: u64) -> Vec<Rendered> {
        let ChatState::Delta { message_text, .. } = &chat.state else {
            let state = self.runs.remove(&chat.run_id).unwrap_or_default();
            let mut out: Vec<Rendered> = state.waiting.map(v3_delta).into_iter().collect();
            out.push(chat_end(&chat, state.message_text.as_deref()));
            return out;
        };
        if self.runs.len() >= RUNS_RENDERED_MAX && !self.runs.contains_key(&chat.run_id) {
            self.runs.clear();
        }
        let (v3, v4) = (chat_delta_v3(&chat, message_text), chat_delta_v4(&chat));
        let state = self.runs.entry(chat.run_id.clone()).or_default();
        state.message_text = Some(message_text.clone());
        let mut out = vec![Rendered { droppable: true, ..Rendered::read("chat", None, v4) }];
        let ready = state.last_delta_ms.is_none_or(|t| now_ms.saturating_sub(t) >= CHAT_DELTA_INTERVAL_MS);
        if ready {
            state.last_delta_ms = Some(now_ms);
            state.waiting = None;
            out.push(v3_delta(v3));
        } else {
            state.waiting = Some(v3);
        }
        out
    }

    fn note_verbose(&mut self, session_key: &str, row: &Value) {
        if self.verbose.len() >= RUNS_RENDERED_MAX {
            self.verbose.clear();
        }
        let full = row["verboseLevel"] == "full";
        if full {
            self.verbose.insert(session_key.to_owned(), true);
        } else {
            self.verbose.remove(session_key);
        }
    }
}

fn is_end(data: &RunData) -> bool {
    matches!(data, RunData::Lifecycle(v) if matches!(v["phase"].as_str(), Some("end" | "error")))
}

fn v3_delta(payload: Value) -> Rendered {
    Rendered { v4: None, droppable: true, ..Rendered::read("chat", Some(payload), Value::Null) }
}

fn shutdown(reason: &'static str, restart_expected_ms: Option<u64>) -> Rendered {
    let v3 = json!({ "reason": reason, "restartExpectedMs": restart_expected_ms });
    let v4 = match restart_expected_ms {
        Some(ms) => json!({ "reason": reason, "restartExpectedMs": ms }),
        None => json!({ "reason": reason }),
    };
    Rendered { v3: Some(v3), v4: Some(v4), ..Rendered::plain("shutdown", Value::Null) }
}

fn session_changed(
    session_key: &str,
    agent_id: &str,
    reason: &str,
    run_id: Option<&str>,
    row: &Value,
    now_ms: u64,
) -> Rendered {
    let mut payload = Map::new();
    payload.insert("sessionKey".into(), session_key.into());
    payload.insert("agentId".into(), agent_id.into());
    payload.insert("reason".into(), reason.into());
    if let Some(run_id) = run_id {
        payload.insert("runId".into(), run_id.into());
    }
    payload.insert("ts".into(), now_ms.into());
    if !row.is_null() {
        payload.insert("session".into(), row.clone());
    }
    Rendered {
        audience: Audience::SessionSubscribers,
        ..Rendered::read("sessions.changed", None, Value::Object(payload))
    }
}

fn render_run(run: &RunEventOut, verbose: bool) -> Rendered {
    let (stream, data): (&str, Value) = match &run.data {
        RunData::Assistant { text, delta, message } => (
            "assistant",
            json!({ "text": &**text, "delta": &**delta, "itemId": format!("{}:{message}", run.run_id) }),
        ),
        RunData::Thinking { text, delta } => ("thinking", json!({ "text": &**text, "delta": &**delta })),
        RunData::Tool(data) => ("tool", data.clone()),
        RunData::Lifecycle(data) => ("lifecycle", data.clone()),
        RunData::Other { stream, data } => (stream, data.clone()),
    };
    let v3 = v3_data(&run.data, stream, &data, verbose).map(|data| {
        json!({ "runId": &*run.run_id, "stream": stream, "data": data, "sessionKey": &*run.session_key,
            "seq": run.seq, "ts": run.ts_ms })
    });
    let mut v4 = json!({ "runId": &*run.run_id, "stream": stream, "data": data, "sessionKey": &*run.session_key,
        "agentId": &*run.agent_id, "seq": run.seq, "ts": run.ts_ms, "isHeartbeat": false });
    if let (RunData::Lifecycle(_), Some(session_id), Some(map)) =
        (&run.data, &run.session_id, v4.as_object_mut())
    {
        map.insert("sessionId".into(), (&**session_id).into());
    }
    let audience = match run.data {
        RunData::Tool(_) => {
            Audience::Participants { run_id: run.run_id.clone(), session_key: run.session_key.clone() }
        }
        _ => Audience::All,
    };
    let droppable = matches!(run.data, RunData::Assistant { .. } | RunData::Thinking { .. });
    Rendered { audience, droppable, ..Rendered::read("agent", v3, v4) }
}

/// `data` as protocol 3 knows it; `None` for streams and phases that it does not know.
fn v3_data(kind: &RunData, stream: &str, data: &Value, verbose: bool) -> Option<Value> {
    let mut data = data.clone();
    match kind {
        RunData::Assistant { .. } => {
            data.as_object_mut()?.shift_remove("itemId");
        }
        RunData::Tool(_) if !verbose => {
            let map = data.as_object_mut()?;
            map.shift_remove("result");
            map.shift_remove("partialResult");
        }
        RunData::Lifecycle(_) if !matches!(data["phase"].as_str(), Some("start" | "end" | "error")) => {
            return None;
        }
        RunData::Other { .. } if stream != "compaction" => return None,
        _ => {}
    }
    Some(data)
}

fn chat_head(chat: &ChatEventOut, state: &str, with_agent: bool) -> Map<String, Value> {
    let mut head = Map::new();
    head.insert("runId".into(), (&*chat.run_id).into());
    head.insert("sessionKey".into(), (&*chat.session_key).into());
    if with_agent {
        head.insert("agentId".into(), (&*chat.agent_id).into());
    }
    head.insert("seq".into(), chat.seq.into());
    head.insert("state".into(), state.into());
    head
}

fn message(text: &str, ts_ms: i64) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "timestamp": ts_ms })
}

fn chat_delta_v3(chat: &ChatEventOut, text: &str) -> Value {
    let mut payload = chat_head(chat, "delta", false);
    payload.insert("message".into(), message(text, chat.ts_ms));
    Value::Object(payload)
}

fn chat_delta_v4(chat: &ChatEventOut) -> Value {
    let mut payload = chat_head(chat, "delta", true);
    if let ChatState::Delta { run_text, delta, replace, .. } = &chat.state {
        payload.insert("deltaText".into(), (&**delta).into());
        if *replace {
            payload.insert("replace".into(), true.into());
        }
        payload.insert("message".into(), message(run_text, chat.ts_ms));
    }
    Value::Object(payload)
}

fn chat_end(chat: &ChatEventOut, last_message: Option<&str>) -> Rendered {
    let state = match &chat.state {
        ChatState::Aborted { .. } => "aborted",
        ChatState::Error { .. } => "error",
        _ => "final",
    };
    let (mut v3, mut v4) = (chat_head(chat, state, false), chat_head(chat, state, true));
    let texts = |v3: &mut Map<String, Value>, v4: &mut Map<String, Value>, text: &str| {
        // Protocol 3 shows the last message of a run only.
        let last = last_message.filter(|l| !l.is_empty() && text.ends_with(*l)).unwrap_or(text);
        v3.insert("message".into(), message(last, chat.ts_ms));
        v4.insert("message".into(), message(text, chat.ts_ms));
    };
    match &chat.state {
        ChatState::Final { text, stop_reason } => {
            if let Some(reason) = stop_reason {
                v4.insert("stopReason".into(), reason.as_str().into());
            }
            if let Some(text) = text {
                texts(&mut v3, &mut v4, text);
            }
        }
        ChatState::Aborted { text, stop_reason } => {
            v3.insert("stopReason".into(), stop_reason.as_str().into());
            v4.insert("stopReason".into(), stop_reason.as_str().into());
            if let Some(text) = text {
                texts(&mut v3, &mut v4, text);
            }
        }
        ChatState::Error { message, kind, provider, model } => {
            v3.insert("errorMessage".into(), message.as_str().into());
            v4.insert("errorMessage".into(), message.as_str().into());
            if let Some(kind) = kind {
                v4.insert("errorKind".into(), error_kind(kind).into());
                v4.insert("errorDetail".into(), error_detail(kind, provider.as_deref(), model.as_deref()));
            }
        }
        ChatState::Delta { .. } => {}
    }
    Rendered::read("chat", Some(Value::Object(v3)), Value::Object(v4))
}

/// Our failure classes in the closed list of protocol 4.
fn error_kind(kind: &str) -> &'static str {
    match kind {
        "refusal" => "refusal",
        "timeout" => "timeout",
        "rate_limit" => "rate_limit",
        "overflow" | "context_length" => "context_length",
        _ => "unknown",
    }
}

fn error_detail(kind: &str, provider: Option<&str>, model: Option<&str>) -> Value {
    let mut detail = Map::new();
    for (key, value) in [("provider", provider), ("model", model), ("failoverReason", Some(kind))] {
        if let Some(value) = value {
            detail.insert(key.into(), value.into());
        }
    }
    Value::Object(detail)
}

#[cfg(test)]
mod tests;
