//! One line of a transcript: the header, and the entries of the tree below it (session format version 3).
//! Only shapes and (de)serialisation; which entry follows which is `transcript`'s business.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::message::{Content, Message};

/// The format version that we write. Versions 1 (a plain list) and 2 are read.
pub const FORMAT_VERSION: u32 = 3;

/// Our commit records, all of `type:"custom"`, so that the original skips them.
pub const TURN_START: &str = "openclaw.turn-start";
pub const TOOL_INTENT: &str = "openclaw.tool-intent";
pub const TURN_FINAL: &str = "openclaw.turn-final";
/// `{maxChars}`: longer results of tools before it are cut to this for the model.
pub const RESULT_LIMIT: &str = "openclaw.result-limit";
/// Written when a prompt could not be answered.
pub const PROMPT_ERROR: &str = "openclaw:prompt-error";

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    #[serde(rename = "type")]
    pub kind: HeaderKind,
    #[serde(default = "version_one")]
    pub version: u32,
    pub id: String,
    #[serde(default)]
    pub timestamp: String,
    #[serde(default)]
    pub cwd: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_session: Option<String>,
}

/// The tag of a header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderKind {
    Session,
}

fn version_one() -> u32 {
    1
}

/// Any line after the header. `id` is 8 hex characters, `parent_id` names the entry before it in its branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: String,
    pub parent_id: Option<String>,
    /// ISO 8601 in UTC with milliseconds.
    pub timestamp: String,
    pub body: Body,
}

/// What an entry says. A kind that we do not know is kept and skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Body {
    Message {
        message: Message,
    },
    ModelChange {
        provider: String,
        model_id: String,
    },
    ThinkingLevelChange {
        thinking_level: String,
    },
    Compaction {
        summary: String,
        #[serde(default)]
        first_kept_entry_id: String,
        #[serde(default)]
        tokens_before: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
    },
    BranchSummary {
        #[serde(default)]
        from_id: String,
        summary: String,
    },
    Custom {
        custom_type: String,
        #[serde(default)]
        data: Value,
    },
    CustomMessage {
        custom_type: String,
        content: Content,
        #[serde(default)]
        display: bool,
    },
    Label {
        #[serde(default)]
        target_id: String,
        #[serde(default)]
        label: Option<String>,
    },
    SessionInfo {
        #[serde(default)]
        name: Option<String>,
    },
    #[serde(untagged)]
    Other(Map<String, Value>),
}

impl Body {
    pub fn custom(custom_type: &str, data: Value) -> Self {
        Self::Custom { custom_type: custom_type.to_owned(), data }
    }

    /// The data of a custom entry of the given type.
    pub fn custom_data(&self, wanted: &str) -> Option<&Value> {
        match self {
            Self::Custom { custom_type, data } if custom_type == wanted => Some(data),
            _ => None,
        }
    }

    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message { message } => Some(message),
            _ => None,
        }
    }
}

impl Entry {
    /// When it was written, milliseconds since the epoch; 0 when the line does not say.
    pub fn at_ms(&self) -> i64 {
        self.timestamp.parse::<Timestamp>().map_or(0, Timestamp::as_millisecond)
    }

    /// Reads one line. `fallback_id` names entries of version 1, which had none.
    pub fn parse(line: &[u8], fallback: &Fallback<'_>) -> Option<Self> {
        let mut map: Map<String, Value> = serde_json::from_slice(line).ok()?;
        map.get("type")?.as_str()?;
        let take = |map: &mut Map<String, Value>, key: &str| match map.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let id = take(&mut map, "id").unwrap_or_else(|| fallback.id.clone());
        let had_parent = map.contains_key("parentId");
        let parent_id = take(&mut map, "parentId");
        let parent_id = if had_parent { parent_id } else { fallback.parent.map(str::to_owned) };
        let timestamp = take(&mut map, "timestamp").unwrap_or_default();
        let body = serde_json::from_value(Value::Object(map.clone())).unwrap_or(Body::Other(map));
        Some(Self { id, parent_id, timestamp, body })
    }

    /// The line as it goes to the file, with its newline.
    pub fn to_line(&self) -> Vec<u8> {
        let mut map = Map::new();
        let Ok(Value::Object(mut body)) = serde_json::to_value(&self.body) else { return Vec::new() };
        map.insert("type".into(), body.shift_remove("type").unwrap_or(Value::Null));
        map.insert("id".into(), self.id.clone().into());
        map.insert("parentId".into(), self.parent_id.clone().into());
        map.insert("timestamp".into(), self.timestamp.clone().into());
        map.extend(body);
        line_of(&Value::Object(map))
    }
}

/// What an entry without id and parent gets: versions before 2 were a plain list.
pub struct Fallback<'a> {
    pub id: String,
    pub parent: Option<&'a str>,
}

impl Header {
    pub fn new(session_id: &str, cwd: &str, now_ms: i64) -> Self {
        Self {
            kind: HeaderKind::Session,
            version: FORMAT_VERSION,
            id: session_id.to_owned(),
            timestamp: iso(now_ms),
            cwd: cwd.to_owned(),
            parent_session: None,
        }
    }

    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    pub fn to_line(&self) -> Vec<u8> {
        serde_json::to_value(self).map(|value| line_of(&value)).unwrap_or_default()
    }
}

fn line_of(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Unix milliseconds as ISO 8601 in UTC, three decimals, `Z`.
pub fn iso(now_ms: i64) -> String {
    let at = Timestamp::from_millisecond(now_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}
