//! What a run does next. PURE: the driver tells what happened and asks for the next step; nothing here reads a
//! clock, a file or a model.
//!
//! ```text
//!            ┌────────────── calls ──────────────┐
//!            v                                   │
//!  model ─ answered ─ no calls ─ nothing waits ─ finish
//!    ^         │                     │
//!    │       calls: run │ answer     waits: take the steering message
//!    └─────────┴─────────────────────┘
//! ```
//! Whatever happens, every tool call gets exactly one answer, the model is never called while a call is open,
//! and after a stop nothing new begins.

use std::collections::VecDeque;

use crate::session::message::ToolCall;

/// Model calls of one run. Time is the real limit; this one stops a model that calls tools without end while each
/// takes no time.
pub const MODEL_CALLS_MAX: u32 = 1000;

/// Why a run ends before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Aborted,
    TimedOut,
}

/// Why a call is answered without being run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synthetic {
    /// It had begun when the process died; what it did is not known.
    Interrupted,
    /// A message of the user came first.
    Skipped,
    /// The run was stopped.
    Stopped(Stop),
}

/// How an open call of an earlier attempt is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Run,
    Interrupted,
}

/// What the driver does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    CallModel,
    RunTool(ToolCall),
    AnswerTool(ToolCall, Synthetic),
    /// Write the oldest waiting message of the user.
    TakeSteer,
    Finish(End),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Answered,
    Stopped(Stop),
    /// The model could not be reached or refused.
    Failed,
    /// `MODEL_CALLS_MAX` was reached.
    TooManyCalls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    NeedModel,
    Answered,
    Failed,
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Turn {
    open: VecDeque<(ToolCall, Disposition)>,
    phase: Phase,
    stop: Option<Stop>,
    waiting: usize,
    model_calls: u32,
}

impl Default for Turn {
    fn default() -> Self {
        Self { open: VecDeque::new(), phase: Phase::NeedModel, stop: None, waiting: 0, model_calls: 0 }
    }
}

impl Turn {
    /// Goes on where an earlier attempt stopped: calls without a result first, then the model.
    pub fn resumed(open: Vec<(ToolCall, Disposition)>) -> Self {
        Self { open: open.into(), ..Self::default() }
    }

    /// The earlier attempt had its answer and lacked only the final record.
    pub fn answered() -> Self {
        Self { phase: Phase::Answered, ..Self::default() }
    }

    pub fn next(&self) -> Step {
        if let Some((call, disposition)) = self.open.front() {
            return match (disposition, self.stop) {
                (Disposition::Interrupted, _) => Step::AnswerTool(call.clone(), Synthetic::Interrupted),
                (_, Some(stop)) => Step::AnswerTool(call.clone(), Synthetic::Stopped(stop)),
                _ if self.waiting > 0 => Step::AnswerTool(call.clone(), Synthetic::Skipped),
                _ => Step::RunTool(call.clone()),
            };
        }
        match (self.stop, self.phase) {
            (_, Phase::Failed) => Step::Finish(End::Failed),
            (Some(stop), _) => Step::Finish(End::Stopped(stop)),
            _ if self.waiting > 0 => Step::TakeSteer,
            (None, Phase::Answered) => Step::Finish(End::Answered),
            (None, Phase::NeedModel) if self.model_calls >= MODEL_CALLS_MAX => {
                Step::Finish(End::TooManyCalls)
            }
            (None, Phase::NeedModel) => Step::CallModel,
        }
    }

    /// The model's message is on disk.
    pub fn model_answered(&mut self, calls: Vec<ToolCall>) {
        self.model_calls += 1;
        self.phase = if calls.is_empty() { Phase::Answered } else { Phase::NeedModel };
        self.open = calls.into_iter().map(|call| (call, Disposition::Run)).collect();
    }

    /// No model gave an answer.
    pub fn model_failed(&mut self) {
        self.model_calls += 1;
        self.phase = Phase::Failed;
    }

    /// The result of the foremost call is on disk.
    pub fn tool_answered(&mut self) {
        self.open.pop_front();
    }

    /// A message of the user waits.
    pub fn steered(&mut self) {
        self.waiting += 1;
    }

    /// The oldest waiting message is on disk.
    pub fn steer_taken(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        self.phase = Phase::NeedModel;
    }

    /// The first stop counts.
    pub fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
    }

    #[cfg(test)]
    pub fn stopped(&self) -> Option<Stop> {
        self.stop
    }
}

/// The result text of a call that was not run.
pub fn synthetic_text(why: Synthetic) -> &'static str {
    match why {
        Synthetic::Interrupted => {
            "interrupted, outcome unknown: the process ended while this call was running. It may or may not have \
             taken effect. Check the state before you repeat it."
        }
        Synthetic::Skipped => "Skipped due to queued user message.",
        Synthetic::Stopped(Stop::Aborted) => "Not run: the run was aborted.",
        Synthetic::Stopped(Stop::TimedOut) => "Not run: the run reached its time limit.",
    }
}

#[cfg(test)]
mod tests;
