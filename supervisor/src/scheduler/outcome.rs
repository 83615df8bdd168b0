//! From a worker's `RunFinal` to what the journal keeps and what clients are told. Pure.

use super::{RunOutcome, stored::StoredRun};
use crate::delivery::answers::Answers;
use crate::delivery::classes;
use crate::journal::{FinishRun, InboundEnd, NewOutbox, OnUnknown, RunState, UsageDelta};
use proto::wire::agent::{OutPart, RunError, RunFinal, RunStatus, Target};
use proto::wire::channel::OutboundItem;
use proto::wire::{Id, decode_payload, encode_payload};
use serde_json::Value;

/// An answer that could not be delivered for this long is of no use any more (1 h).
pub const OUTBOX_TTL_US: i64 = 3600 * 1_000_000;
/// Time that a channel worker has for one delivery.
const SEND_DEADLINE_MS: u64 = 60_000;

/// What clients are told.
pub fn outcome_of(run: &RunFinal) -> RunOutcome {
    let mut payloads: Vec<String> = run.parts.iter().map(|part| part.text.clone()).collect();
    payloads.retain(|text| !text.is_empty());
    if payloads.is_empty() && !run.text.is_empty() {
        payloads.push(run.text.clone());
    }
    RunOutcome {
        status: run.status,
        text: run.text.clone(),
        payloads,
        error: run.error.clone(),
        stop_reason: run.stop_reason.clone(),
        usage: run.usage.clone(),
        meta: serde_json::from_str(&run.meta_json).unwrap_or(Value::Null),
        started_ms: run.started_ms,
        ended_ms: run.ended_ms,
    }
}

/// The outcome of a run that ended in an earlier life of the gateway, from its journal row.
pub fn stored_outcome(outcome: &[u8]) -> Option<RunOutcome> {
    decode_payload::<RunFinal>(0, outcome).ok().map(|run| outcome_of(&run))
}

/// Kind of the error that ends a run whose agent died by its own doing each time it worked on it. Only the supervisor
/// gives it.
pub const POISONED: &str = "poisoned";
/// Kind of the error that ends a run which was interrupted too long ago to go on.
pub const INTERRUPTED: &str = "interrupted";

fn state_of(run: &RunFinal) -> RunState {
    match (run.status, run.error.as_ref().map(|error| error.kind.as_str())) {
        (RunStatus::Ok, _) => RunState::Final,
        (RunStatus::Error, Some(POISONED)) => RunState::Poisoned,
        (RunStatus::Error, Some(INTERRUPTED)) => RunState::Abandoned,
        (RunStatus::Error, _) => RunState::Failed,
        (RunStatus::Aborted, _) => RunState::Cancelled,
        (RunStatus::Timeout, _) => RunState::TimedOut,
    }
}

/// One outbox row. The same run and part always give the same row.
pub fn outbox_row(run_id: &Id, spec: &StoredRun, part: &OutPart, now_us: i64) -> Option<NewOutbox> {
    let to = part.to.as_ref().or(spec.deliver_to.as_ref())?;
    if part.text.trim().is_empty() && part.media.is_empty() {
        return None;
    }
    // What goes to another chat answers nothing there unless it says so.
    let current = spec.reply_to.as_deref().filter(|_| part.to.is_none());
    Some(row_to(run_id, Some(*run_id), to, part, current, now_us))
}

/// A row for any origin (a run, or the message that a note answers). `reply_to`: the message that started it.
pub fn row_to(
    origin: &Id,
    run_id: Option<Id>,
    to: &Target,
    part: &OutPart,
    reply_to: Option<&str>,
    now_us: i64,
) -> NewOutbox {
    let out_id = Id::derived(origin, "part", part.part);
    let class = classes::send_class(&to.channel);
    let Answers { reply_to, reply_reason } = Answers::of(part.reply_to.as_deref(), reply_to, part.part);
    let item = OutboundItem {
        out_id,
        chat: to.chat.clone(),
        thread: to.thread.clone(),
        text: part.text.clone(),
        media: part.media.clone(),
        reply_to,
        reply_reason,
        idem_key: out_id.to_string(),
        prior: None,
        two_phase: classes::two_phase(&to.channel),
        maybe_dup: false,
        deadline_ms: SEND_DEADLINE_MS,
    };
    NewOutbox {
        out_id,
        run_id,
        part: part.part,
        account: format!("{}:{}", to.channel, to.account),
        chat: chat_key(to),
        body: encode_payload(&item),
        idem_key: item.idem_key.clone(),
        class,
        // The operator's choice is read each time the row is handed to a worker.
        on_unknown: OnUnknown::Resend,
        prior_ext: None,
        created_us: now_us,
        expires_us: now_us + OUTBOX_TTL_US,
    }
}

/// Order is kept within a chat and its thread.
pub fn chat_key(to: &Target) -> String {
    match &to.thread {
        Some(thread) => format!("{}#{thread}", to.chat),
        None => to.chat.clone(),
    }
}

/// Everything that the end of a run commits.
pub fn finish(
    run_id: Id,
    agent_id: &str,
    spec: &StoredRun,
    run: &RunFinal,
    day: String,
    now_us: i64,
) -> FinishRun {
    let usage = &run.usage;
    let used = usage.input + usage.output + usage.cache_read + usage.cache_write > 0;
    let state = state_of(run);
    FinishRun {
        run_id,
        state,
        ended_us: now_us,
        outcome: encode_payload(run),
        outbox: run.parts.iter().filter_map(|part| outbox_row(&run_id, spec, part, now_us)).collect(),
        // A poison message is kept: a person may look at it, and try it again with a mended agent.
        inbound: if state == RunState::Poisoned { InboundEnd::Dead } else { InboundEnd::Done },
        session: run.session.clone(),
        usage: used.then(|| UsageDelta {
            day,
            agent: agent_id.to_owned(),
            provider: usage.provider.clone(),
            model: usage.model.clone(),
            input: usage.input,
            output: usage.output,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            cost_micros: usage.cost_micros,
        }),
    }
}

/// A run that ends without its worker (aborted while it waited, poisoned, too old, worker not startable).
pub fn ended_here(
    run_id: Id,
    attempt: u32,
    status: RunStatus,
    kind: &str,
    text: &str,
    now_ms: i64,
) -> RunFinal {
    let failed = status == RunStatus::Error;
    RunFinal {
        run_id,
        attempt,
        status,
        error: failed.then(|| RunError {
            kind: kind.to_owned(),
            message: text.to_owned(),
            ..RunError::default()
        }),
        stop_reason: (!failed).then(|| kind.to_owned()),
        parts: if failed {
            // Numbered behind everything that the worker may have said.
            vec![OutPart { part: NOTE_PART, text: text.to_owned(), ..OutPart::default() }]
        } else {
            Vec::new()
        },
        started_ms: now_ms,
        ended_ms: now_ms,
        ..RunFinal::default()
    }
}

/// The end of a message that was taken out of the queue: no run ever had it.
pub fn dropped(now_ms: i64) -> RunFinal {
    ended_here(Id::NIL, 0, RunStatus::Aborted, "rpc", "", now_ms)
}

/// Part number of the one note that the supervisor itself may add to a run.
const NOTE_PART: u32 = 10_000;
/// Part number of the note that replies went out of date. It marks the row: its own expiry makes no further note.
pub const EXPIRY_NOTE_PART: u32 = 10_001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_parts_still_has_its_text_as_payload() {
        let run = RunFinal { text: "hello".into(), ..RunFinal::default() };
        assert_eq!(outcome_of(&run).payloads, ["hello"]);
    }

    #[test]
    fn the_same_part_makes_the_same_row_and_an_empty_one_makes_none() {
        let spec = StoredRun {
            deliver_to: Some(Target {
                channel: "telegram".into(),
                account: "default".into(),
                chat: "7".into(),
                thread: None,
            }),
            ..StoredRun::default()
        };
        let run_id = Id([1; 16]);
        let part = OutPart { part: 0, text: "hi".into(), ..OutPart::default() };
        let (first, second) = (outbox_row(&run_id, &spec, &part, 5), outbox_row(&run_id, &spec, &part, 9));
        assert_eq!(first.unwrap().out_id, second.unwrap().out_id);
        assert!(outbox_row(&run_id, &spec, &OutPart::default(), 5).is_none());
    }

    #[test]
    fn only_a_poison_message_becomes_a_dead_letter() {
        let run_id = Id([1; 16]);
        let ended = |status, kind| {
            let run = ended_here(run_id, 3, status, kind, "why", 0);
            let finish = finish(run_id, "main", &StoredRun::default(), &run, String::new(), 0);
            (finish.state, finish.inbound)
        };
        assert_eq!(ended(RunStatus::Error, POISONED), (RunState::Poisoned, InboundEnd::Dead));
        assert_eq!(ended(RunStatus::Error, INTERRUPTED), (RunState::Abandoned, InboundEnd::Done));
        assert_eq!(ended(RunStatus::Error, "agent-unavailable"), (RunState::Failed, InboundEnd::Done));
        assert_eq!(ended(RunStatus::Aborted, POISONED), (RunState::Cancelled, InboundEnd::Done));
    }

    #[test]
    fn a_stored_outcome_reads_back() {
        let run = RunFinal { text: "x".into(), status: RunStatus::Timeout, ..RunFinal::default() };
        let outcome = stored_outcome(&encode_payload(&run)).unwrap();
        assert_eq!((outcome.text.as_str(), outcome.status), ("x", RunStatus::Timeout));
    }
}
