//! What `chat.history` and `sessions.preview` show of a transcript. The file is read once for its tree, then only the
//! entries that are shown; nothing is kept. The branch is walked from the leaf to the root, across compactions.
//!
//! Everything after reading is pure: entry values in, message values out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::entry::{Body, Entry, Fallback, TURN_FINAL, TURN_START};
use super::message::{Content, Message};
use super::{disk, visible};

/// Messages that one answer holds at most (wire protocol, `chat.history.limit`).
pub const MESSAGES_MAX: usize = 1000;
/// Messages when the caller names no number.
pub const MESSAGES_DEFAULT: usize = 200;
/// One text, thought or argument string is cut to this.
const STRING_CHARS_MAX: usize = 12_000;
const STRING_CUT: &str = "\n...(truncated)...";
/// A message above this is replaced by a placeholder.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// All messages together, counted from the newest.
const TOTAL_BYTES_MAX: usize = 6 * 1024 * 1024;

/// A message on the branch, with the run that made it.
pub struct Shown {
    pub entry: Entry,
    /// Number of this message in its conversation, from 1.
    pub seq: usize,
    /// The client's run id, for answers and tool results.
    pub run_id: Option<String>,
}

/// Where a line lies and whom it follows.
struct Link {
    id: String,
    parent: Option<String>,
    offset: u64,
    len: usize,
    shown: bool,
    run: Run,
}

enum Run {
    Same,
    Starts(String),
    Ends,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(rename = "parentId", default, borrow)]
    parent: Option<Option<Cow<'a, str>>>,
    #[serde(rename = "customType", borrow)]
    custom_type: Option<Cow<'a, str>>,
    data: Option<PeekData>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PeekData {
    #[serde(rename_all = "camelCase")]
    Start {
        client_run_id: String,
    },
    Other(serde::de::IgnoredAny),
}

/// The newest `limit` messages of the branch, oldest first, and how many there are in all. A missing file is empty.
pub fn read(path: &Path, limit: usize) -> io::Result<(Vec<Shown>, usize)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let links = links(&file)?;
    let branch = branch(&links);
    let total = branch.iter().filter(|(link, _)| link.shown).count();
    let mut shown = Vec::new();
    let mut bytes = 0;
    let mut seq = total;
    for (link, run_id) in branch.into_iter().rev().filter(|(link, _)| link.shown) {
        bytes += link.len.min(MESSAGE_BYTES_MAX);
        if shown.len() >= limit || bytes > TOTAL_BYTES_MAX * 2 {
            break;
        }
        let mut line = vec![0; link.len];
        file.read_exact_at(&mut line, link.offset)?;
        let fallback = Fallback { id: link.id.clone(), parent: None };
        if let Some(entry) = Entry::parse(&line, &fallback) {
            shown.push(Shown { entry, seq, run_id });
        }
        seq -= 1;
    }
    shown.reverse();
    Ok((shown, total))
}

fn links(file: &File) -> io::Result<Vec<Link>> {
    let mut links: Vec<Link> = Vec::new();
    disk::scan_lines(file, |line| {
        let Ok(peek) = serde_json::from_slice::<Peek<'_>>(line.bytes) else { return };
        if peek.kind == "session" {
            return;
        }
        let id = peek.id.map_or_else(|| format!("{:08x}", links.len() + 1), Cow::into_owned);
        let parent = match peek.parent {
            Some(parent) => parent.map(Cow::into_owned),
            None => links.last().map(|link| link.id.clone()),
        };
        let run = match (peek.custom_type.as_deref(), peek.data) {
            (Some(TURN_START), Some(PeekData::Start { client_run_id })) => Run::Starts(client_run_id),
            (Some(TURN_FINAL), _) => Run::Ends,
            _ => Run::Same,
        };
        let shown = matches!(&*peek.kind, "message" | "compaction");
        links.push(Link { id, parent, offset: line.offset, len: line.bytes.len(), shown, run });
    })?;
    Ok(links)
}

/// The links from the root to the leaf, each with the run that it belongs to.
fn branch(links: &[Link]) -> Vec<(&Link, Option<String>)> {
    let by_id: HashMap<&str, usize> =
        links.iter().enumerate().map(|(at, link)| (link.id.as_str(), at)).collect();
    let mut path = Vec::new();
    let mut at = links.len().checked_sub(1);
    while let Some(link) = at.and_then(|at| links.get(at)) {
        path.push(link);
        // A parent always lies before its child: a file that says otherwise must not loop.
        let parent = link.parent.as_deref().and_then(|parent| by_id.get(parent)).copied();
        at = parent.filter(|parent| Some(*parent) < at);
    }
    let mut run: Option<String> = None;
    let walk = path.into_iter().rev().map(|link| {
        match &link.run {
            Run::Starts(id) => run = Some(id.clone()),
            Run::Ends => run = None,
            Run::Same => {}
        }
        (link, run.clone())
    });
    walk.collect()
}

/// The messages as a client of protocol 3 or 4 sees them.
pub fn project(shown: &[Shown], protocol: u8) -> Vec<Value> {
    let mut messages: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for item in shown.iter().rev() {
        let Some(message) = project_one(item, protocol) else { continue };
        let message = fit(message);
        bytes += message.to_string().len();
        if bytes > TOTAL_BYTES_MAX {
            break;
        }
        messages.push(message);
    }
    messages.reverse();
    messages
}

fn project_one(item: &Shown, protocol: u8) -> Option<Value> {
    let message = match &item.entry.body {
        Body::Compaction { .. } => {
            let at = item.entry.timestamp.parse::<jiff::Timestamp>().ok();
            return Some(json!({
                "role": "system",
                "content": [{"type": "text", "text": "Compaction"}],
                "timestamp": at.map_or(0, |at| at.as_millisecond()),
                "__openclaw": {"kind": "compaction", "id": item.entry.id},
            }));
        }
        Body::Message { message } => message.clone(),
        _ => return None,
    };
    let silent = matches!(&message, Message::Assistant(answer)
        if answer.tool_calls().is_empty() && answer.content.text().trim() == visible::SILENT_TOKEN);
    if silent {
        return None;
    }
    let mut value = serde_json::to_value(message_for(message, protocol)).ok()?;
    let map = value.as_object_mut()?;
    map.shift_remove("details");
    map.shift_remove("provenance");
    if protocol < 4 {
        map.shift_remove("usage");
        map.shift_remove("idempotencyKey");
    }
    if let Some(Value::Array(blocks)) = map.get_mut("content") {
        blocks.iter_mut().for_each(sanitise_block);
    } else if let Some(Value::String(text)) = map.get_mut("content") {
        cut(text);
    }
    if protocol >= 4 {
        let mark = mark(item, map);
        map.insert("__openclaw".into(), mark);
    }
    Some(value)
}

/// `__openclaw` of protocol 4: what a client needs to match its own bubbles with stored messages.
fn mark(item: &Shown, map: &Map<String, Value>) -> Value {
    let mut mark = Map::new();
    mark.insert("id".into(), item.entry.id.clone().into());
    if let Some(run_id) = item.run_id.as_ref().filter(|_| map.get("role") != Some(&json!("user"))) {
        mark.insert("runId".into(), run_id.clone().into());
    }
    if let Some(key) = map.get("idempotencyKey") {
        mark.insert("idempotencyKey".into(), key.clone());
    }
    if let Ok(at) = item.entry.timestamp.parse::<jiff::Timestamp>() {
        mark.insert("recordTimestampMs".into(), at.as_millisecond().into());
    }
    mark.insert("seq".into(), item.seq.into());
    Value::Object(mark)
}

/// The user's own words, as one text block for protocol 3 and as plain text for protocol 4.
fn message_for(message: Message, protocol: u8) -> Message {
    let Message::User(mut user) = message else { return message };
    user.content = match user.content {
        Content::Text(text) => {
            let words = visible::user_text(&text).to_owned();
            if protocol >= 4 {
                Content::Text(words)
            } else {
                Content::Blocks(vec![super::message::Block::text(words)])
            }
        }
        Content::Blocks(blocks) => Content::Blocks(
            blocks
                .into_iter()
                .map(|block| match block {
                    super::message::Block::Text { text, .. } => {
                        super::message::Block::text(visible::user_text(&text))
                    }
                    other => other,
                })
                .collect(),
        ),
    };
    Message::User(user)
}

fn sanitise_block(block: &mut Value) {
    let Some(map) = block.as_object_mut() else { return };
    for signature in ["thinkingSignature", "textSignature", "thoughtSignature"] {
        map.shift_remove(signature);
    }
    if map.get("type").and_then(Value::as_str) == Some("image")
        && let Some(Value::String(data)) = map.shift_remove("data")
    {
        map.insert("omitted".into(), true.into());
        // Base64 holds three bytes in four characters.
        map.insert("bytes".into(), (data.len() / 4 * 3).into());
    }
    map.values_mut().for_each(cut_strings);
}

fn cut_strings(value: &mut Value) {
    match value {
        Value::String(text) => cut(text),
        Value::Array(items) => items.iter_mut().for_each(cut_strings),
        Value::Object(map) => map.values_mut().for_each(cut_strings),
        _ => {}
    }
}

fn cut(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(STRING_CHARS_MAX) {
        text.truncate(at);
        text.push_str(STRING_CUT);
    }
}

fn fit(message: Value) -> Value {
    if message.to_string().len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let mut mark = message.get("__openclaw").and_then(Value::as_object).cloned().unwrap_or_default();
    mark.insert("truncated".into(), true.into());
    mark.insert("reason".into(), "oversized".into());
    json!({
        "role": message.get("role").cloned().unwrap_or_default(),
        "content": [{"type": "text", "text": "[message too large to show; it is whole in the transcript]"}],
        "timestamp": message.get("timestamp").cloned().unwrap_or_default(),
        "__openclaw": mark,
    })
}

/// Up to `limit` lines of `sessions.preview`: role and text, cut to `max_chars`.
pub fn preview(shown: &[Shown], limit: usize, max_chars: usize) -> Vec<Value> {
    let mut items: Vec<Value> = shown
        .iter()
        .rev()
        .filter_map(|item| {
            let message = item.entry.body.message()?;
            let (role, text) = match message {
                Message::User(user) => ("user", visible::user_text(&user.content.text()).to_owned()),
                Message::Assistant(answer) => ("assistant", visible::answer_text(&answer.content.text())?),
                Message::ToolResult(_) => return None,
            };
            let text = text.trim();
            if text.is_empty() {
                return None;
            }
            let cut = match text.char_indices().nth(max_chars) {
                Some(_) => text.chars().take(max_chars.saturating_sub(3)).collect::<String>() + "...",
                None => text.to_owned(),
            };
            Some(json!({"role": role, "text": cut}))
        })
        .take(limit)
        .collect();
    items.reverse();
    items
}

#[cfg(test)]
mod tests;
