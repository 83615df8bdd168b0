//! What a run delivers: its visible texts as parts of a reply. PURE.

use crate::session::message::{AssistantMessage, Block, StopReason};
use crate::session::visible;

/// One message to the person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    pub text: String,
    /// Sources of `MEDIA:` lines.
    pub media: Vec<String>,
    /// From a `[[reply_to:…]]` tag; `current` for the message that is being answered.
    pub reply_to: Option<String>,
}

/// A failed call, for the warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTool {
    pub name: String,
    pub meta: Option<String>,
    pub text: String,
    /// It changes something.
    pub mutating: bool,
}

/// The thoughts of a run as a message of their own, in italics, for sessions with reasoning `on`.
pub fn reasoning(answers: &[AssistantMessage]) -> Option<Payload> {
    let thoughts =
        answers.iter().flat_map(|answer| answer.content.blocks()).filter_map(|block| match block {
            Block::Thinking { thinking, .. } if !thinking.trim().is_empty() => Some(thinking.trim()),
            _ => None,
        });
    let lines: Vec<String> = thoughts
        .flat_map(str::lines)
        .map(|line| if line.trim().is_empty() { String::new() } else { format!("_{}_", line.trim()) })
        .collect();
    let text = format!("Reasoning:\n{}", lines.join("\n"));
    (!lines.is_empty()).then(|| Payload { text, ..Payload::default() })
}

/// The order is fixed: an error line, the texts, then a warning about a failed tool.
pub fn assemble(
    answers: &[AssistantMessage],
    error: Option<&str>,
    failed: Option<&FailedTool>,
) -> Vec<Payload> {
    let mut payloads = Vec::new();
    if let Some(error) = error {
        payloads.push(Payload { text: format!("⚠️ {error}"), ..Payload::default() });
    }
    let spoken = answers.iter().filter(|answer| answer.stop_reason != StopReason::Error || error.is_none());
    for answer in spoken {
        if let Some(payload) = visible::answer_text(&answer.content.text()).and_then(|text| directives(&text))
            && payloads.last() != Some(&payload)
        {
            payloads.push(payload);
        }
    }
    if let Some(failed) = failed
        && (failed.mutating || (payloads.is_empty() && !is_parameter_mistake(&failed.text)))
        && failed.name != "sessions_send"
        && failed.name != "exec"
    {
        let what = failed.meta.as_ref().map(|meta| format!(" {meta}")).unwrap_or_default();
        payloads.push(Payload {
            text: format!("⚠️ {}{what} failed: {}", failed.name, visible::one_line(&failed.text, 200)),
            ..Payload::default()
        });
    }
    payloads
}

/// The model repairs such a call by itself; people need not know.
fn is_parameter_mistake(text: &str) -> bool {
    let text = text.to_lowercase();
    ["required", "missing", "invalid", "must "].iter().any(|word| text.contains(word))
}

/// Takes reply tags and media lines out of a text; None when nothing is left.
pub fn directives(text: &str) -> Option<Payload> {
    let mut payload = Payload::default();
    let mut lines = Vec::new();
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let start = line.trim_start();
        let mark =
            if start.starts_with("```") { Some("```") } else { start.starts_with("~~~").then_some("~~~") };
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => {
                if let Some(sources) = start.strip_prefix("MEDIA:").and_then(media) {
                    payload.media.extend(sources);
                    continue;
                }
            }
            _ => {}
        }
        lines.push(if fence.is_none() { without_tags(line, &mut payload.reply_to) } else { line.to_owned() });
    }
    payload.text = lines.join("\n").trim().to_owned();
    (!payload.text.is_empty() || !payload.media.is_empty()).then_some(payload)
}

/// Longest source that a media line may name.
const MEDIA_SOURCE_CHARS_MAX: usize = 4096;

fn media(payload: &str) -> Option<Vec<String>> {
    let payload = payload.trim();
    let quoted = ['"', '\'', '`']
        .iter()
        .find_map(|quote| payload.strip_prefix(*quote)?.strip_suffix(*quote).map(str::to_owned));
    let sources: Vec<String> = match quoted {
        Some(source) => vec![source],
        None => payload.split_whitespace().map(str::to_owned).collect(),
    };
    let usable = |source: &String| {
        source.len() <= MEDIA_SOURCE_CHARS_MAX && (source.contains('/') || source.contains('.'))
    };
    let sources: Vec<String> = sources
        .iter()
        .map(|source| source.strip_prefix("file://").unwrap_or(source).to_owned())
        .filter(usable)
        .collect();
    (!sources.is_empty()).then_some(sources)
}

/// Removes `[[reply_to_current]]`, `[[reply_to:<id>]]` and `[[audio_as_voice]]`; an explicit id wins.
fn without_tags(line: &str, reply_to: &mut Option<String>) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((head, tail)) = rest.split_once("[[") {
        let Some((inner, after)) = tail.split_once("]]") else { break };
        let name = inner.trim().to_ascii_lowercase();
        out.push_str(head);
        rest = if name == "reply_to_current" {
            reply_to.get_or_insert_with(|| "current".into());
            after.trim_start()
        } else if let Some(id) = name.strip_prefix("reply_to:") {
            *reply_to = Some(inner.trim().get("reply_to:".len()..).unwrap_or(id).trim().to_owned());
            after.trim_start()
        } else if name == "audio_as_voice" {
            after.trim_start()
        } else {
            out.push_str("[[");
            tail
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> AssistantMessage {
        AssistantMessage::ours(text, 1)
    }

    #[test]
    fn one_part_per_message_with_text() {
        let texts = |answers: &[AssistantMessage]| -> Vec<String> {
            assemble(answers, None, None).into_iter().map(|payload| payload.text).collect()
        };
        assert_eq!(
            texts(&[answer("Let me look."), answer(""), answer("Two files.")]),
            ["Let me look.", "Two files."]
        );
        assert!(texts(&[answer("NO_REPLY")]).is_empty());
    }

    #[test]
    fn warnings_about_tools() {
        let failed = |mutating, text: &str| FailedTool {
            name: "write".into(),
            meta: Some("a.txt".into()),
            text: text.into(),
            mutating,
        };
        let count = |answers: &[AssistantMessage], failed| assemble(answers, None, Some(&failed)).len();
        assert_eq!(count(&[answer("ok")], failed(true, "no space")), 2);
        assert_eq!(count(&[answer("ok")], failed(false, "not found")), 1);
        assert_eq!(count(&[], failed(false, "not found")), 1);
        assert_eq!(count(&[], failed(false, "Missing required parameter: path")), 0);
    }

    #[test]
    fn thoughts_as_a_message() {
        let mut thoughtful = answer("");
        let blocks = vec![Block::thinking("one\n\ntwo", None), Block::text("Yes.")];
        thoughtful.content = crate::session::message::Content::Blocks(blocks);
        assert_eq!(reasoning(&[thoughtful]).unwrap().text, "Reasoning:\n_one_\n\n_two_");
        assert_eq!(reasoning(&[answer("Yes.")]), None);
    }

    #[test]
    fn tags_and_media() {
        let found = directives("[[ reply_to: 42 ]] Here\nMEDIA: ./a.png `x`\n```\nMEDIA: b.png\n[[reply_to_current]]\n```\n[[x]]")
            .unwrap();
        assert_eq!(found.reply_to.as_deref(), Some("42"));
        assert_eq!(found.media, ["./a.png"]);
        assert_eq!(found.text, "Here\n```\nMEDIA: b.png\n[[reply_to_current]]\n```\n[[x]]");
        assert_eq!(directives("[[reply_to_current]]"), None);
        assert_eq!(directives("MEDIA: \"my file.png\"").unwrap().media, ["my file.png"]);
    }
}
