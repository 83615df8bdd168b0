//! The user message of a turn: context in front, the person's own words behind. PURE. `session::visible` takes all of
//! it away again for display; the two must agree.

use jiff::{Timestamp, tz::TimeZone};
use proto::wire::agent::RunInput;
use serde_json::{Map, Value};

use crate::session::visible::{self, CONTEXT_MARK, NOTE_START, SYSTEM_LINE};

/// Keys of `context_json` that have a block of their own, with their labels, in order.
const BLOCKS: &[(&str, &str)] = &[
    ("conversation", "Conversation info"),
    ("sender", "Sender"),
    ("threadStarter", "Thread starter"),
    ("reply", "Replied message"),
    ("forwarded", "Forwarded message"),
    ("history", "Chat history since the last reply"),
];

/// What stands in front of the words.
#[derive(Clone, Debug, Default)]
pub struct Front<'a> {
    pub system_events: &'a [String],
    /// A note of ours: the last run was aborted, this one was interrupted, …
    pub note: Option<&'a str>,
    pub zone: Option<&'a TimeZone>,
    pub stamp: bool,
}

/// The text of one user message made of all inputs of a run.
pub fn compose(inputs: &[RunInput], words: Option<&str>, front: &Front<'_>) -> String {
    let mut text = String::new();
    for input in inputs {
        text.push_str(&context_blocks(input));
    }
    for event in front.system_events {
        let line = event.strip_prefix(SYSTEM_LINE).unwrap_or(event).replace('\n', " ");
        text.push_str(&format!("{SYSTEM_LINE}{line}\n"));
    }
    if let Some(note) = front.note {
        text.push_str(&format!("{NOTE_START} {}\n\n", note.replace('\n', " ")));
    }
    let body = match words {
        Some(words) => words.to_owned(),
        None => body(inputs),
    };
    let media: Vec<String> = inputs.iter().flat_map(|input| &input.attachments).map(media_line).collect();
    for line in media {
        text.push_str(&line);
        text.push('\n');
    }
    if front.stamp && words.is_none() {
        let at = inputs.iter().map(|input| input.ts_ms).max().unwrap_or(0);
        text.push_str(&stamped(&body, at, front.zone));
    } else {
        text.push_str(&body);
    }
    text
}

/// One text as it is; several, which waited while the agent was busy, under numbered headings. An input without a
/// sequence is no message but a note on what was dropped.
fn body(inputs: &[RunInput]) -> String {
    match inputs {
        [] => return String::new(),
        [one] => return one.text.clone(),
        _ => {}
    }
    let (notes, messages): (Vec<&RunInput>, Vec<&RunInput>) =
        inputs.iter().partition(|input| input.inbound_seq == 0);
    let mut blocks = vec!["[Queued messages while agent was busy]".to_owned()];
    blocks.extend(notes.iter().map(|note| note.text.clone()));
    let numbered = messages.iter().enumerate();
    blocks.extend(numbered.map(|(at, input)| format!("---\nQueued #{}\n{}", at + 1, input.text)));
    blocks.join("\n\n")
}

fn media_line(media: &proto::wire::channel::MediaRef) -> String {
    let name = media.path.as_deref().or(media.name.as_deref()).unwrap_or("inline");
    format!("[media attached: {name} ({})]", media.mime)
}

fn context_blocks(input: &RunInput) -> String {
    let Some(Ok(context)) = input.context_json.as_deref().map(serde_json::from_str::<Map<String, Value>>)
    else {
        return String::new();
    };
    let block = |label: &str, value: &Value| {
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        format!("{label} {CONTEXT_MARK}\n```json\n{json}\n```\n\n")
    };
    let known: String =
        BLOCKS.iter().filter_map(|(key, label)| context.get(*key).map(|value| block(label, value))).collect();
    let rest: Map<String, Value> = context
        .iter()
        .filter(|(key, _)| BLOCKS.iter().all(|(known, _)| known != key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if rest.is_empty() {
        known
    } else {
        format!("{}{known}", block("Conversation info", &Value::Object(rest)))
    }
}

/// `[Www YYYY-MM-DD HH:MM TZ] text`, unless the text brings a time of its own.
pub fn stamped(text: &str, at_ms: i64, zone: Option<&TimeZone>) -> String {
    if at_ms <= 0 || text.trim().is_empty() || visible::has_timestamp(text) || text.contains("Current time: ")
    {
        return text.to_owned();
    }
    let Ok(at) = Timestamp::from_millisecond(at_ms) else { return text.to_owned() };
    let at = at.to_zoned(zone.cloned().unwrap_or(TimeZone::UTC));
    format!("[{}] {text}", at.strftime("%a %Y-%m-%d %H:%M %Z"))
}
