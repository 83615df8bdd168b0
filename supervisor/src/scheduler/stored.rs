//! What the journal keeps of a message and of a run, so that a restart can build the same `StartRun` again.
//!
//! MessagePack maps; a field is only ever added, with `#[serde(default)]`.

use super::TurnRequest;
use proto::wire::agent::{DeliveryPlan, Origin, RunInput, RunOverrides, RunSpec, Target};
use proto::wire::{Id, decode_payload, encode_payload};
use serde::{Deserialize, Serialize};

/// Code given to decode errors of stored bodies; no frame has it.
const STORED: u16 = 0;

/// Body of an inbound row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredTurn {
    pub input: RunInput,
    #[serde(default)]
    pub overrides: RunOverrides,
    pub origin: Origin,
    #[serde(default)]
    pub deliver_to: Option<Target>,
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    #[serde(default)]
    pub lane: String,
    /// Empty for messages of a network: their run gets an id of its own.
    #[serde(default)]
    pub client_run_id: String,
    /// Reply to this message of the network.
    #[serde(default)]
    pub reply_to: Option<String>,
}

impl StoredTurn {
    pub fn of(request: &TurnRequest) -> Self {
        Self {
            input: request.input.clone(),
            overrides: request.overrides.clone(),
            origin: request.origin.clone(),
            deliver_to: request.deliver_to.clone(),
            timeout_ms: request.timeout_ms,
            lane: request.lane.clone(),
            client_run_id: request.idempotency_key.clone(),
            reply_to: None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        encode_payload(self)
    }

    /// `None` for a body that retention has dropped or that another release wrote in a way that we cannot read.
    pub fn decode(body: &[u8]) -> Option<Self> {
        decode_payload(STORED, body).ok()
    }
}

/// Spec of a run row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoredRun {
    pub client_run_id: String,
    pub inputs: Vec<RunInput>,
    #[serde(default)]
    pub overrides: RunOverrides,
    pub origin: Origin,
    #[serde(default)]
    pub deliver_to: Option<Target>,
    /// Active time in all; 0 = no limit.
    pub timeout_ms: u64,
    #[serde(default)]
    pub lane: String,
    #[serde(default)]
    pub reply_to: Option<String>,
    #[serde(default)]
    pub blocks: bool,
    /// The final reply streams into a placeholder of the chat.
    #[serde(default)]
    pub draft: bool,
}

/// What a start of a run knows besides its stored spec.
pub struct Attempt<'a> {
    pub run_id: Id,
    pub session_key: &'a str,
    pub agent_id: &'a str,
    pub attempt: u32,
    pub resumes: u32,
    pub active_ms_used: u64,
    pub texts_done: Vec<String>,
    pub system_events: Vec<String>,
}

impl StoredRun {
    pub fn encode(&self) -> Vec<u8> {
        encode_payload(self)
    }

    pub fn decode(body: &[u8]) -> Option<Self> {
        decode_payload(STORED, body).ok()
    }

    /// The same for a single message, once the journal has numbered it.
    pub fn of_message(mut self, seq: i64) -> Self {
        for input in &mut self.inputs {
            input.inbound_seq = seq;
        }
        self
    }

    pub fn start(&self, at: Attempt<'_>) -> RunSpec {
        RunSpec {
            run_id: at.run_id,
            client_run_id: self.client_run_id.clone(),
            session_key: at.session_key.to_owned(),
            agent_id: at.agent_id.to_owned(),
            attempt: at.attempt,
            resumes: at.resumes,
            inputs: self.inputs.clone(),
            overrides: self.overrides.clone(),
            origin: self.origin.clone(),
            active_ms_left: self.active_ms_left(at.active_ms_used),
            parts_done: u32::try_from(at.texts_done.len()).unwrap_or(u32::MAX),
            texts_done: at.texts_done,
            delivery: DeliveryPlan { blocks: self.blocks, deliver: self.deliver_to.is_some() },
            system_events: at.system_events,
        }
    }

    /// 0 means no limit, so a spent budget leaves one millisecond.
    pub fn active_ms_left(&self, used_ms: u64) -> u64 {
        if self.timeout_ms == 0 { 0 } else { self.timeout_ms.saturating_sub(used_ms).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_is_not_mistaken_for_no_limit() {
        let run = StoredRun { timeout_ms: 600_000, ..StoredRun::default() };
        assert_eq!(run.active_ms_left(700_000), 1);
        assert_eq!(run.active_ms_left(100_000), 500_000);
        assert_eq!(StoredRun::default().active_ms_left(5), 0);
    }

    #[test]
    fn a_stored_turn_survives_the_journal_and_a_dropped_body_is_none() {
        let turn = StoredTurn { client_run_id: "k".into(), timeout_ms: Some(5), ..StoredTurn::default() };
        assert_eq!(StoredTurn::decode(&turn.encode()), Some(turn));
        assert_eq!(StoredTurn::decode(&[]), None);
    }
}
