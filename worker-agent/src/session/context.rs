//! What of a branch goes to the model, and in which form. PURE: entries in, messages out.
//!
//! Two steps: `build` picks the messages (after the last compaction), `repair` makes every tool call be followed by
//! exactly one result, which every vendor demands.

use super::entry::{Body, Entry, RESULT_LIMIT};
use super::message::{
    AssistantMessage, Block, Content, Message, StopReason, ToolCall, ToolResultMessage, UserMessage,
};

/// Text of a result that was never written.
pub const MISSING_RESULT: &str =
    "[no result recorded: the call was interrupted; check the state before you repeat it]";

/// Messages for the model, oldest first.
pub fn build(branch: &[&Entry]) -> Vec<Message> {
    let limit = branch.iter().enumerate().rev().find_map(|(at, entry)| {
        let chars = entry.body.custom_data(RESULT_LIMIT)?.get("maxChars")?.as_u64()?;
        Some((at, usize::try_from(chars).unwrap_or(usize::MAX)))
    });
    // Entries are numbered on the whole branch.
    let shown = |first: usize, part: &[&Entry]| -> Vec<Message> {
        let messages = part.iter().enumerate().filter_map(|(at, entry)| {
            let message = visible(entry)?;
            let limit = limit.filter(|(before, _)| first + at < *before);
            Some(match limit {
                Some((_, chars)) => with_short_result(message, chars),
                None => message,
            })
        });
        messages.collect()
    };
    let last_compaction = branch.iter().rposition(|entry| matches!(entry.body, Body::Compaction { .. }));
    let mut messages = Vec::new();
    let mut rest = (0, branch);
    if let Some(at) = last_compaction
        && let Some((before, from)) = branch.split_at_checked(at)
        && let Some((compaction, after)) = from.split_first()
        && let Body::Compaction { summary, first_kept_entry_id, .. } = &compaction.body
    {
        messages.push(Message::user(
            format!("The conversation before this point was summarised:\n\n<summary>\n{summary}\n</summary>"),
            0,
        ));
        let kept = before.iter().position(|entry| entry.id == *first_kept_entry_id).unwrap_or(before.len());
        messages.extend(shown(kept, before.get(kept..).unwrap_or_default()));
        rest = (at + 1, after);
    }
    messages.extend(shown(rest.0, rest.1));
    repair(messages)
}

/// What stands in place of the middle of a result that was cut for the model.
const CUT_NOTE: &str = "\n\n[What was here is left out to save context. Read it in parts with offset and limit if you need it.]\n\n";

/// Beginning and end of a result that is longer than `chars`: a file tells what it is at its top, a command what
/// became of it in its last lines, which get three parts of ten. Cut at a line's border where one is near.
pub fn with_short_result(message: Message, chars: usize) -> Message {
    let Message::ToolResult(mut result) = message else { return message };
    if let Content::Blocks(blocks) = &mut result.content {
        for block in blocks {
            let Block::Text { text, .. } = block else { continue };
            if let Some(short) = shortened(text, chars) {
                *text = short;
            }
        }
    }
    Message::ToolResult(result)
}

/// None when it is short enough.
fn shortened(text: &str, chars: usize) -> Option<String> {
    text.char_indices().nth(chars)?;
    let last = chars * 3 / 10;
    let (end, _) = text.char_indices().nth(chars - last)?;
    let begin = if last == 0 { text.len() } else { text.char_indices().nth_back(last - 1)?.0 };
    let (head, tail) = (text.get(..end)?, text.get(begin..)?);
    let head = head.rfind('\n').filter(|at| *at >= end / 5 * 4).and_then(|at| head.get(..at)).unwrap_or(head);
    let tail =
        tail.find('\n').filter(|at| *at <= tail.len() / 5).and_then(|at| tail.get(at + 1..)).unwrap_or(tail);
    Some(format!("{head}{CUT_NOTE}{tail}"))
}

/// The message that an entry stands for, if it enters the context.
pub fn visible(entry: &Entry) -> Option<Message> {
    match &entry.body {
        Body::Message { message } => Some(message.clone()),
        Body::BranchSummary { summary, .. } => Some(Message::user(
            format!(
                "An earlier branch of this conversation was summarised:\n\n<summary>\n{summary}\n</summary>"
            ),
            0,
        )),
        Body::CustomMessage { content, .. } => Some(Message::User(UserMessage {
            content: content.clone(),
            timestamp: 0,
            provenance: None,
            idempotency_key: None,
        })),
        _ => None,
    }
}

/// Every call gets exactly one result right behind it; orphans and duplicates go; what a failed or stopped model
/// left half said loses its calls; leading results and assistant texts without content go.
pub fn repair(messages: Vec<Message>) -> Vec<Message> {
    let mut repaired: Vec<Message> = Vec::with_capacity(messages.len());
    let mut open: Vec<ToolCall> = Vec::new();
    for message in messages {
        match message {
            Message::ToolResult(result) => {
                let Some(at) = open.iter().position(|call| call.id == result.tool_call_id) else { continue };
                open.remove(at);
                repaired.push(Message::ToolResult(result));
            }
            Message::User(user) => {
                close(&mut repaired, &mut open, user.timestamp);
                repaired.push(Message::User(user));
            }
            Message::Assistant(assistant) => {
                close(&mut repaired, &mut open, assistant.timestamp);
                let Some(assistant) = usable(assistant) else { continue };
                open = assistant.tool_calls();
                repaired.push(Message::Assistant(assistant));
            }
        }
    }
    let at = repaired.last().map_or(0, Message::timestamp);
    close(&mut repaired, &mut open, at);
    repaired
}

fn close(repaired: &mut Vec<Message>, open: &mut Vec<ToolCall>, timestamp: i64) {
    for call in open.drain(..) {
        repaired.push(Message::ToolResult(ToolResultMessage::text(
            &call.id,
            &call.name,
            MISSING_RESULT,
            true,
            timestamp,
        )));
    }
}

fn usable(mut assistant: AssistantMessage) -> Option<AssistantMessage> {
    let broken = matches!(assistant.stop_reason, StopReason::Error | StopReason::Aborted);
    if broken && let Content::Blocks(blocks) = &mut assistant.content {
        blocks.retain(|block| !matches!(block, Block::ToolCall { .. }));
    }
    let says_something = assistant.content.blocks().iter().any(|block| match block {
        Block::Text { text, .. } => !text.trim().is_empty(),
        Block::ToolCall { .. } => true,
        _ => false,
    }) || matches!(&assistant.content, Content::Text(text) if !text.trim().is_empty());
    says_something.then_some(assistant)
}

#[cfg(test)]
mod tests;
