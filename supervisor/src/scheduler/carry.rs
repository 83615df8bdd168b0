//! Runs that go on while the supervisor's program image is replaced, as plain data. What waits is in the journal and is not
//! here. Fields are only ever added: the release before and the release after read this too.

pub use super::blame::CarriedBlame;
use proto::wire::Id;
use serde::{Deserialize, Serialize};

/// The run of one session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedRun {
    pub session_key: String,
    pub agent_id: String,
    pub run_id: Id,
    /// [`super::stored::StoredRun`], encoded as in the journal.
    #[serde(with = "serde_bytes")]
    pub spec: Vec<u8>,
    /// Start of the worker that has it; `None` while none has.
    pub epoch: Option<u64>,
    /// The worker's final word, which the journal could not take yet.
    pub ended: Option<serde_bytes::ByteBuf>,
    pub attempt: u32,
    pub seqs: Vec<i64>,
    /// Messages that joined it under way, which the journal still holds as waiting.
    pub unclaimed: Vec<i64>,
    pub client_ids: Vec<String>,
    /// Unix milliseconds.
    pub started_ms: i64,
    /// As clients were told, Unix milliseconds.
    pub told_started_ms: Option<i64>,
    /// Until the worker must have ended it.
    pub deadline_ms: Option<u64>,
    pub abort: Option<CarriedAbort>,
    pub draft: Option<Id>,
    pub voice: CarriedVoice,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedAbort {
    pub why: String,
    /// Until the run is ended without its worker.
    pub left_ms: u64,
}

/// What clients were told of a run so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedVoice {
    pub session_id: Option<String>,
    /// Of the last event.
    pub seq: u64,
    pub attempt: u32,
    pub before: String,
    pub message: u32,
    pub current: String,
    pub thinking: String,
    /// JSON of the lifecycle event that is held back.
    pub ending: Option<String>,
    pub replace: bool,
}
