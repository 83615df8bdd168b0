//! What became of each run, step by step, for those who ask why a reply was late, doubled or missing.
//!
//! The journal notes every change of a run and of a delivery when it is committed, the scheduler what a worker tells of its
//! turn. The steps stand in files beside the journal, one JSON object a line, written by a thread of their own without a sync:
//! nobody waits for them, and nothing depends on them. They hold no texts of messages.

pub mod book;
pub mod timeline;

use proto::wire::Id;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The gateway itself, as the one who did something.
pub const GATEWAY: &str = "gateway";

/// One step of a run, as it stands in the file. New words of `what` are only ever added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Unix microseconds, by the journal's clock.
    pub at_us: i64,
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub run_id: Id,
    /// [`GATEWAY`], or the worker that did it.
    pub by: String,
    /// `claimed`, `started`, `model`, `leased` …; see [`timeline::sentence`].
    pub what: String,
    /// Facts of this step.
    #[serde(flatten)]
    pub detail: Map<String, Value>,
}

impl Step {
    /// `detail`: an object.
    pub fn new(run_id: Id, by: &str, what: &str, detail: Value) -> Self {
        let detail = match detail {
            Value::Object(detail) => detail,
            _ => Map::new(),
        };
        Self { at_us: crate::clock::now_us(), run_id, by: by.to_owned(), what: what.to_owned(), detail }
    }
}

fn as_text<S: Serializer>(id: &Id, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

fn from_text<'de, D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
    let text = String::deserialize(from)?;
    Id::parse(&text).ok_or_else(|| serde::de::Error::custom("not an id"))
}
