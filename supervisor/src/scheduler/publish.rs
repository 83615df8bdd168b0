//! What a run has said so far, and the numbered events that clients get of it.
//!
//! Numbers are given here, where events leave the core: the front never renumbers a run.

mod carry;

use crate::events::{ChatEventOut, ChatState, GatewayEvent, RunData, RunEventOut};
use crate::front::fanout::Fanout;
use proto::wire::agent::{Delta, DeltaKind, RunEvent, RunFinal, RunStatus};
use serde_json::{Value, json};
use std::sync::Arc;

/// Text of one run that is kept for its events. A model's answer is far below; a runaway one is cut here, its
/// transcript is not.
const RUN_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The public voice of one run.
pub struct Publisher {
    fanout: Fanout,
    run_id: Arc<str>,
    session_key: Arc<str>,
    agent_id: Arc<str>,
    session_id: Option<Arc<str>>,
    seq: u64,
    attempt: u32,
    /// Finished messages of this attempt, joined by a blank line.
    before: String,
    message: u32,
    /// The current message.
    current: String,
    thinking: String,
    /// `lifecycle` end or error, held until the journal knows the outcome.
    ending: Option<Value>,
    /// The clients were shown text that is void after a restart of the run.
    replace: bool,
    now_ms: fn() -> i64,
}

impl Publisher {
    pub fn new(fanout: Fanout, run_id: &str, session_key: &str, agent_id: &str, now_ms: fn() -> i64) -> Self {
        Self {
            fanout,
            run_id: run_id.into(),
            session_key: session_key.into(),
            agent_id: agent_id.into(),
            session_id: None,
            seq: 0,
            attempt: 0,
            before: String::new(),
            message: 0,
            current: String::new(),
            thinking: String::new(),
            ending: None,
            replace: false,
            now_ms,
        }
    }

    pub fn set_session_id(&mut self, session_id: &str) {
        self.session_id = Some(session_id.into());
    }

    /// All visible text of the run so far.
    pub fn text(&self) -> Arc<str> {
        self.run_text()
    }

    fn run_text(&self) -> Arc<str> {
        let [before, gap, current] = self.pieces();
        format!("{before}{gap}{current}").into()
    }

    /// The messages before, the newlines that are missing for one empty line, the message that is being written. Models
    /// end and begin their messages with empty lines of their own; what grew so far is never taken back.
    fn pieces(&self) -> [&str; 3] {
        let current = self.current.trim_start_matches('\n');
        let ends = self.before.len() - self.before.trim_end_matches('\n').len();
        let gap = match ends {
            _ if self.before.is_empty() || current.is_empty() => "",
            0 => "\n\n",
            1 => "\n",
            _ => "",
        };
        [self.before.as_str(), gap, current]
    }

    fn event(&mut self, data: RunData, ts_ms: i64) {
        self.seq += 1;
        self.fanout.emit(GatewayEvent::Run(RunEventOut {
            run_id: self.run_id.clone(),
            session_key: self.session_key.clone(),
            agent_id: self.agent_id.clone(),
            session_id: self.session_id.clone(),
            seq: self.seq,
            ts_ms,
            data,
        }));
    }

    fn chat(&self, state: ChatState) {
        self.fanout.emit(GatewayEvent::Chat(ChatEventOut {
            run_id: self.run_id.clone(),
            session_key: self.session_key.clone(),
            agent_id: self.agent_id.clone(),
            seq: self.seq,
            ts_ms: (self.now_ms)(),
            state,
        }));
    }

    /// Streamed text. Returns true when the visible text grew.
    pub fn delta(&mut self, delta: &Delta) -> bool {
        if delta.attempt < self.attempt {
            return false;
        }
        let now = (self.now_ms)();
        if delta.kind == DeltaKind::Thinking {
            self.thinking.push_str(&delta.text);
            let (text, delta) = (self.thinking.as_str().into(), delta.text.as_str().into());
            self.event(RunData::Thinking { text, delta }, now);
            return false;
        }
        if self.before.len() + self.current.len() + delta.text.len() > RUN_TEXT_BYTES_MAX {
            return false;
        }
        if delta.message > self.message {
            self.before = self.run_text().to_string();
            self.current.clear();
            self.message = delta.message;
        }
        let shown: usize = self.pieces().iter().map(|piece| piece.len()).sum();
        self.current.push_str(&delta.text);
        let text: Arc<str> = self.current.as_str().into();
        let piece = RunData::Assistant {
            text: text.clone(),
            delta: delta.text.as_str().into(),
            message: self.message,
        };
        self.event(piece, now);
        let replace = std::mem::take(&mut self.replace);
        let run_text = self.run_text();
        let delta = if replace { run_text.clone() } else { run_text.get(shown..).unwrap_or_default().into() };
        self.chat(ChatState::Delta { message_text: text, run_text, delta, replace });
        true
    }

    /// An event of the worker. The end of the run's life is held back until [`Publisher::end`].
    pub fn run_event(&mut self, event: &RunEvent) {
        if event.attempt < self.attempt {
            return;
        }
        let data: Value = serde_json::from_str(&event.data_json).unwrap_or_else(|_| json!({}));
        if event.stream == "discard" {
            self.discard(&data);
            return;
        }
        let data = match event.stream.as_str() {
            "lifecycle" => {
                if matches!(data.get("phase").and_then(Value::as_str), Some("end" | "error")) {
                    self.ending = Some(data);
                    return;
                }
                RunData::Lifecycle(data)
            }
            "tool" => RunData::Tool(data),
            _ => RunData::Other { stream: event.stream.clone(), data },
        };
        self.event(data, event.at_ms);
    }

    /// The model broke off in this message and is asked again: what was shown of it is void.
    fn discard(&mut self, data: &Value) {
        let is_current = data.get("message").and_then(Value::as_u64) == Some(self.message.into());
        if is_current && !self.current.is_empty() {
            self.current.clear();
            self.replace = true;
        }
    }

    /// The worker died and the run begins again: what was shown of it is void.
    pub fn restart(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.replace = !self.before.is_empty() || !self.current.is_empty();
        self.before.clear();
        self.current.clear();
        self.thinking.clear();
        self.message = 0;
        self.ending = None;
        self.event(RunData::Lifecycle(json!({"phase": "restart", "attempt": attempt})), (self.now_ms)());
    }

    /// The journal holds the outcome: lifecycle end, then the one terminal `chat` event.
    pub fn end(&mut self, run: &RunFinal) {
        let ending = self.ending.take().unwrap_or_else(|| match &run.error {
            Some(error) if run.status == RunStatus::Error => {
                json!({"phase": "error", "error": error.message, "startedAt": run.started_ms, "endedAt": run.ended_ms})
            }
            _ => json!({"phase": "end", "startedAt": run.started_ms, "endedAt": run.ended_ms}),
        });
        self.event(RunData::Lifecycle(ending), run.ended_ms);
        let text = (!run.text.is_empty()).then(|| Arc::from(run.text.as_str()));
        let state = match run.status {
            RunStatus::Ok => ChatState::Final { text, stop_reason: run.stop_reason.clone() },
            RunStatus::Aborted => {
                let stop_reason = run.stop_reason.clone().unwrap_or_else(|| "rpc".to_owned());
                let text = text.or_else(|| Some(self.run_text()).filter(|text| !text.is_empty()));
                ChatState::Aborted { text, stop_reason }
            }
            RunStatus::Timeout => ChatState::Aborted { text, stop_reason: "timeout".to_owned() },
            RunStatus::Error => {
                let error = run.error.clone().unwrap_or_default();
                ChatState::Error {
                    message: error.message,
                    kind: Some(error.kind).filter(|kind| !kind.is_empty()),
                    provider: error.provider,
                    model: error.model,
                }
            }
        };
        self.chat(state);
    }

    /// A message that waits in the queue is closed under its own id; its turn runs under another.
    pub fn queued(&self) {
        self.chat(ChatState::Final { text: None, stop_reason: None });
    }

    /// A command's reply: one final, no run events.
    pub fn command_reply(&mut self, run: &RunFinal) {
        let text = (!run.text.is_empty()).then(|| Arc::from(run.text.as_str()));
        self.chat(ChatState::Final { text, stop_reason: run.stop_reason.clone() });
    }
}

#[cfg(test)]
mod tests;
