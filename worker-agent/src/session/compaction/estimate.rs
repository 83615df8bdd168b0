//! How much of a window a conversation fills. Only the vendor knows; these are estimates on the safe side.

use serde_json::Value;

use crate::session::context;
use crate::session::entry::{Body, Entry};
use crate::session::message::{Block, Content, Message, StopReason};

/// Characters per token.
pub const CHARS_PER_TOKEN: u64 = 4;
/// An image costs about this many tokens, whatever its bytes.
const IMAGE_TOKENS: u64 = 1200;

/// Characters of a message as the model gets it.
pub fn chars(message: &Message) -> u64 {
    match message.content() {
        Content::Text(text) => text.len() as u64,
        Content::Blocks(list) => list
            .iter()
            .map(|block| match block {
                Block::Text { text, .. } => text.len() as u64,
                Block::Thinking { thinking, .. } => thinking.len() as u64,
                Block::Image { .. } => IMAGE_TOKENS * CHARS_PER_TOKEN,
                Block::ToolCall { arguments, .. } => {
                    Value::Object(arguments.clone()).to_string().len() as u64
                }
                Block::Other(_) => 0,
            })
            .sum(),
    }
}

pub fn tokens(message: &Message) -> u64 {
    chars(message).div_ceil(CHARS_PER_TOKEN)
}

/// Tokens of the conversation as it goes to the model: what the vendor counted for the last answer, with what came after
/// it, or the characters of everything, whichever is more (some servers count only what they had not cached). What was
/// counted before a summary says nothing about what comes after it.
pub fn context_tokens(branch: &[&Entry], fixed_chars: u64) -> u64 {
    let after = branch
        .iter()
        .rposition(|entry| matches!(entry.body, Body::Compaction { .. }))
        .and_then(|at| branch.get(at + 1..))
        .unwrap_or(branch);
    let by_chars = (context::build(branch).iter().map(chars).sum::<u64>() + fixed_chars) / CHARS_PER_TOKEN;
    by_chars.max(counted(after))
}

fn counted(after: &[&Entry]) -> u64 {
    let answered = after.iter().enumerate().rev().find_map(|(at, entry)| match entry.body.message()? {
        Message::Assistant(answer)
            if answer.usage.total_tokens > 0
                && !matches!(answer.stop_reason, StopReason::Error | StopReason::Aborted) =>
        {
            Some((at, answer.usage.total_tokens))
        }
        _ => None,
    });
    let Some((at, total)) = answered else { return 0 };
    let trailing = after.iter().skip(at + 1).filter_map(|entry| context::visible(entry));
    total + trailing.map(|message| tokens(&message)).sum::<u64>()
}
