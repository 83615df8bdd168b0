//! What the core tells the clients. Protocol-neutral: the front renders each event once per wire protocol.
//!
//! Not here: sockets, `seq` of a connection, scopes of a connection.

use serde_json::Value;
use std::sync::Arc;

/// One event on its way out.
#[derive(Clone, Debug)]
pub enum GatewayEvent {
    /// Event `agent`.
    Run(RunEventOut),
    /// Event `chat`.
    Chat(ChatEventOut),
    /// Event `sessions.changed` (protocol 4, subscribers only).
    SessionChanged {
        session_key: String,
        agent_id: String,
        reason: String,
        run_id: Option<String>,
        row: Value,
    },
    /// Event `session.message` (protocol 4, subscribers of that session only).
    SessionMessage { session_key: String, agent_id: String, message: Value, message_id: String },
    /// The presence list changed; the front reads it from its own table.
    Presence,
    /// Event `health` with the payload of method `health`.
    Health(Value),
    /// Event `config.changed` (protocol 4): a write reached the file.
    ConfigChanged(Value),
    /// Event `heartbeat`.
    /// Event `shutdown`: `gateway stopping` or `gateway restarting`.
    Shutdown { reason: &'static str, restart_expected_ms: Option<u64> },
    /// Any other event: name, payload, scope that a connection needs to see it.
    Other { event: &'static str, payload: Value, scope: Option<&'static str> },
}

/// One event of a run, already numbered.
#[derive(Clone, Debug)]
pub struct RunEventOut {
    /// The `runId` that clients know.
    pub run_id: Arc<str>,
    pub session_key: Arc<str>,
    pub agent_id: Arc<str>,
    pub session_id: Option<Arc<str>>,
    /// Counts the events of this run from 1.
    pub seq: u64,
    pub ts_ms: i64,
    pub data: RunData,
}

#[derive(Clone, Debug)]
pub enum RunData {
    /// Stream `assistant`: the current message's whole text, and what is new.
    Assistant { text: Arc<str>, delta: Arc<str>, message: u32 },
    /// Stream `thinking`.
    Thinking { text: Arc<str>, delta: Arc<str> },
    /// Stream `tool`: goes to connections with capability `tool-events` that take part in the run.
    Tool(Value),
    /// Stream `lifecycle`.
    Lifecycle(Value),
    /// Any other stream.
    Other { stream: String, data: Value },
}

/// One `chat` event.
#[derive(Clone, Debug)]
pub struct ChatEventOut {
    pub run_id: Arc<str>,
    pub session_key: Arc<str>,
    pub agent_id: Arc<str>,
    /// `seq` of the run event that it comes from.
    pub seq: u64,
    pub ts_ms: i64,
    pub state: ChatState,
}

#[derive(Clone, Debug)]
pub enum ChatState {
    /// `message_text`: the current assistant message alone (protocol 3); `run_text`: all messages of the run joined by a
    /// blank line (protocol 4); `delta`: what is new in `run_text`; `replace`: the text shown before is void.
    Delta {
        message_text: Arc<str>,
        run_text: Arc<str>,
        delta: Arc<str>,
        replace: bool,
    },
    /// `text` is `None` for a queued or silent run.
    Final {
        text: Option<Arc<str>>,
        stop_reason: Option<String>,
    },
    Aborted {
        text: Option<Arc<str>>,
        stop_reason: String,
    },
    Error {
        message: String,
        kind: Option<String>,
        provider: Option<String>,
        model: Option<String>,
    },
}
