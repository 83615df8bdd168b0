//! Where an interrupted run goes on. PURE: the branch of the transcript in, the plan out.
//!
//! | last record of the run | plan |
//! |---|---|
//! | no turn-start | as new |
//! | turn-start, user message | call the model |
//! | assistant message with calls, no intent | run them |
//! | intent, no result, effect read or idempotent | run it again |
//! | intent, no result, any other effect | answer `interrupted, outcome unknown` |
//! | all results | call the model |
//! | answer without calls | write the final record |
//! | final record | send it again, no model call |

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::{Disposition, Turn};
use crate::session::entry::{Entry, TOOL_INTENT, TURN_FINAL, TURN_START};
use crate::session::message::{AssistantMessage, Message, StopReason, ToolCall};

/// C3: `openclaw.turn-start`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnStart {
    pub run_id: String,
    pub client_run_id: String,
    pub attempt: u32,
    /// Journal sequences of the messages that this run answers.
    pub inputs: Vec<i64>,
    pub started_ms: i64,
}

/// C5: `openclaw.tool-intent`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolIntent {
    pub run_id: String,
    pub call_id: String,
    pub tool: String,
    /// `read`, `idempotent` or `write`.
    pub effect: String,
    /// First 16 hex digits of the SHA-256 of the arguments.
    pub args_hash: String,
}

/// C7: `openclaw.turn-final`; `body` is the run's final message as it is sent, so that it can be sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnFinal {
    pub run_id: String,
    pub attempt: u32,
    pub body: Value,
}

/// See the module head.
#[derive(Clone, Debug)]
pub enum Resume {
    Fresh,
    /// The run goes on; `turn` knows with what.
    Continue {
        turn: Turn,
        started_ms: i64,
        /// Calls whose outcome is not known, for the note to the model.
        uncertain: Vec<String>,
    },
    Replay(TurnFinal),
}

/// What to do with a run when its transcript looks like this.
pub fn plan(branch: &[&Entry], run_id: &str) -> Resume {
    let Some((started_ms, rest)) = after_start(branch, run_id) else { return Resume::Fresh };
    let finals = rest.iter().rev().find_map(|entry| of_run::<TurnFinal>(entry, TURN_FINAL, run_id));
    if let Some(record) = finals {
        return Resume::Replay(record);
    }
    let (turn, uncertain) = open_turn(rest, run_id);
    Resume::Continue { turn, started_ms, uncertain }
}

fn open_turn(rest: &[&Entry], run_id: &str) -> (Turn, Vec<String>) {
    let last = rest.iter().rposition(|entry| assistant(entry).is_some());
    let Some((message, after)) = last.and_then(|at| {
        let (head, after) = rest.split_at_checked(at + 1)?;
        Some((assistant(head.last()?)?, after))
    }) else {
        return (Turn::default(), Vec::new());
    };
    let user_followed = after.iter().any(|entry| matches!(entry.body.message(), Some(Message::User(_))));
    let calls = match message.stop_reason {
        // Half an answer counts as none: the model is asked again.
        StopReason::Error | StopReason::Aborted => return (Turn::default(), Vec::new()),
        _ => message.tool_calls(),
    };
    if calls.is_empty() {
        return (if user_followed { Turn::default() } else { Turn::answered() }, Vec::new());
    }
    let mut open: Vec<(ToolCall, Disposition)> = Vec::new();
    for call in calls {
        if after.iter().any(|entry| answers(entry, &call.id)) {
            continue;
        }
        let intent = after
            .iter()
            .filter_map(|entry| of_run::<ToolIntent>(entry, TOOL_INTENT, run_id))
            .find(|intent| intent.call_id == call.id);
        let disposition = match intent {
            Some(intent) if !matches!(intent.effect.as_str(), "read" | "idempotent") => {
                Disposition::Interrupted
            }
            _ => Disposition::Run,
        };
        open.push((call, disposition));
    }
    let uncertain = open
        .iter()
        .filter(|(_, disposition)| *disposition == Disposition::Interrupted)
        .map(|(call, _)| call.id.clone())
        .collect();
    (Turn::resumed(open), uncertain)
}

/// The assistant messages that a run has written so far, oldest first.
pub fn answers_of(branch: &[&Entry], run_id: &str) -> Vec<(String, AssistantMessage)> {
    let Some((_, rest)) = after_start(branch, run_id) else { return Vec::new() };
    rest.iter()
        .filter_map(|entry| assistant(entry).map(|message| (entry.id.clone(), message.clone())))
        .collect()
}

/// The parent to branch from when the branch ends in a user message that no run is answering any more.
pub fn orphan_parent(branch: &[&Entry]) -> Option<Option<String>> {
    let at = branch.iter().rposition(|entry| entry.body.message().is_some())?;
    let (before, _) = branch.split_at_checked(at + 1)?;
    let start = before
        .iter()
        .rposition(|entry| !matches!(entry.body.message(), Some(Message::User(_))))
        .map_or(0, |at| at + 1);
    let first = before.get(start)?;
    Some(first.parent_id.clone())
}

/// Start time, and the entries behind the run's first turn-start. A turn can be longer than what of a transcript is in
/// memory: then its start is gone, and what follows the last record of another run is its own.
fn after_start<'a, 'b>(branch: &'a [&'b Entry], run_id: &str) -> Option<(i64, &'a [&'b Entry])> {
    let cut = branch.first().is_some_and(|oldest| oldest.parent_id.is_some());
    let start = |entry: &Entry| of_run::<TurnStart>(entry, TURN_START, run_id);
    let first = branch.iter().enumerate().find_map(|(at, entry)| Some((at, start(entry)?)));
    match first {
        // The start of a resumed attempt names no messages; in a whole branch the true one is before it.
        Some((at, first)) if !cut || !first.inputs.is_empty() => {
            Some((first.started_ms, branch.get(at + 1..)?))
        }
        found if cut => {
            let begun = branch.iter().find(|entry| owner(entry).is_some_and(|id| id == run_id))?;
            let foreign = branch.iter().rposition(|entry| owner(entry).is_some_and(|id| id != run_id));
            let started_ms = found.map_or_else(|| begun.at_ms(), |(_, start)| start.started_ms);
            Some((started_ms, branch.get(foreign.map_or(0, |at| at + 1)..)?))
        }
        _ => None,
    }
}

/// The run that a commit record belongs to.
fn owner(entry: &Entry) -> Option<&str> {
    let data = [TURN_START, TOOL_INTENT, TURN_FINAL].iter().find_map(|kind| entry.body.custom_data(kind));
    data?.get("runId")?.as_str()
}

fn of_run<T: serde::de::DeserializeOwned>(entry: &Entry, custom_type: &str, run_id: &str) -> Option<T> {
    let data = entry.body.custom_data(custom_type)?;
    if data.get("runId")?.as_str()? != run_id {
        return None;
    }
    T::deserialize(data).ok()
}

fn assistant(entry: &Entry) -> Option<&AssistantMessage> {
    match entry.body.message() {
        Some(Message::Assistant(message)) => Some(message),
        _ => None,
    }
}

fn answers(entry: &Entry, call_id: &str) -> bool {
    matches!(entry.body.message(), Some(Message::ToolResult(result)) if result.tool_call_id == call_id)
}

#[cfg(test)]
mod tests;
