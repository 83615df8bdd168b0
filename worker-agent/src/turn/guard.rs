//! What is left out of one request so that it fits, without a change to the transcript. PURE.

use crate::session::compaction::estimate;
use crate::session::context::with_short_result;
use crate::session::message::{Block, Content, Message};

/// Characters per token of a tool's result: code and data are denser than prose.
const RESULT_CHARS_PER_TOKEN: u64 = 2;
/// Share of the window that one result may fill, and that everything together may fill before old results go.
const RESULT_PERCENT_MAX: u64 = 50;
const TOTAL_PERCENT_MAX: u64 = 75;

/// What stands in place of a result that was left out.
pub const REMOVED: &str = "[Result removed to free context; run the tool again if it is needed]";

/// Cuts results that are too long for the window, then leaves the oldest ones out until prompt and conversation fill at
/// most three quarters of it. The newest message stays.
pub fn fit(messages: Vec<Message>, window_tokens: u64, fixed_chars: u64) -> Vec<Message> {
    let result_chars = window_tokens.saturating_mul(RESULT_CHARS_PER_TOKEN * RESULT_PERCENT_MAX) / 100;
    let result_chars = usize::try_from(result_chars).unwrap_or(usize::MAX);
    let mut messages: Vec<Message> =
        messages.into_iter().map(|message| with_short_result(message, result_chars)).collect();
    let room = window_tokens.saturating_mul(estimate::CHARS_PER_TOKEN * TOTAL_PERCENT_MAX) / 100;
    let mut total = messages.iter().map(estimate::chars).sum::<u64>() + fixed_chars;
    let old = messages.len().saturating_sub(1);
    for message in messages.iter_mut().take(old) {
        if total <= room {
            break;
        }
        let before = estimate::chars(message);
        if let Message::ToolResult(result) = message
            && before > REMOVED.len() as u64
        {
            result.content = Content::Blocks(vec![Block::text(REMOVED)]);
            total = total - before + REMOVED.len() as u64;
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::{AssistantMessage, ToolResultMessage};

    fn result(text: &str) -> Message {
        Message::ToolResult(ToolResultMessage::text("1", "read", text, false, 1))
    }

    fn texts(messages: Vec<Message>) -> Vec<String> {
        messages.iter().map(|message| message.content().text()).collect()
    }

    #[test]
    fn old_results_go_first_and_words_stay() {
        let long = "r".repeat(600);
        let words = "w".repeat(600);
        let said = || {
            vec![
                Message::user(&words, 1),
                result(&long),
                result(&long),
                Message::Assistant(AssistantMessage::ours(words.clone(), 1)),
                result(&long),
            ]
        };
        assert_eq!(texts(fit(said(), 1_000, 0)), [&words, &long, &long, &words, &long].map(String::clone));
        // Room for 2700 characters.
        let fitted = texts(fit(said(), 900, 0));
        assert_eq!((fitted[1].as_str(), &fitted[2], &fitted[4]), (REMOVED, &long, &long));
        let fitted = texts(fit(said(), 900, 600));
        assert_eq!((fitted[1].as_str(), fitted[2].as_str(), &fitted[4]), (REMOVED, REMOVED, &long));
        assert_eq!(fitted[0], words);
    }

    #[test]
    fn one_result_fills_half_of_the_window_at_most() {
        let text = format!("{}\n{}\n{}", "a".repeat(690), "b".repeat(400), "c".repeat(280));
        let fitted = texts(fit(vec![result(&text)], 1_000, 0));
        let (head, tail) = fitted[0].split_once("\n\n[What was here").expect("a note");
        assert!(
            head == "a".repeat(690) && tail.ends_with(&format!("]\n\n{}", "c".repeat(280))),
            "{fitted:?}"
        );
        let short = "€".repeat(1_000);
        assert_eq!(texts(fit(vec![result(&short)], 1_000, 0)), [short]);
    }
}
