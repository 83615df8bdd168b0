//! What was said in a group since the bot last answered: context of its next turn there. In memory and bounded.

use proto::wire::channel::InboundMsg;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};

/// Messages kept per conversation.
const MESSAGES_MAX: usize = 50;
/// Conversations kept; the one that was quiet for longest goes first.
const CONVERSATIONS_MAX: usize = 1000;
/// Characters kept of one message.
const BODY_CHARS_MAX: usize = 4000;

#[derive(Default)]
pub struct GroupHistory {
    chats: HashMap<String, VecDeque<Value>>,
    /// Least recently used first.
    order: VecDeque<String>,
}

impl GroupHistory {
    pub fn keep(&mut self, chat: &str, message: &InboundMsg) {
        let sender = &message.sender;
        let label = sender.name.as_ref().or(sender.username.as_ref()).unwrap_or(&sender.id);
        let body: String = message.text.chars().take(BODY_CHARS_MAX).collect();
        let lines = self.chats.entry(chat.to_owned()).or_default();
        lines.push_back(json!({"sender": label, "timestamp_ms": message.ts_ms, "body": body}));
        while lines.len() > MESSAGES_MAX {
            lines.pop_front();
        }
        self.touch(chat);
        while self.chats.len() > CONVERSATIONS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.chats.remove(&oldest);
        }
    }

    fn touch(&mut self, chat: &str) {
        self.order.retain(|known| known != chat);
        self.order.push_back(chat.to_owned());
    }

    /// Gives the lines and forgets them: each is context once.
    pub fn take(&mut self, chat: &str) -> Vec<Value> {
        self.order.retain(|known| known != chat);
        self.chats.remove(chat).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_context_once_and_old_ones_fall_out() {
        let mut history = GroupHistory::default();
        for n in 0..60 {
            history.keep("g", &InboundMsg { text: format!("line {n}"), ..InboundMsg::default() });
        }
        let lines = history.take("g");
        assert_eq!((lines.len(), lines[0]["body"].as_str()), (MESSAGES_MAX, Some("line 10")));
        assert!(history.take("g").is_empty());
        for n in 0..=CONVERSATIONS_MAX {
            history.keep(&format!("chat {n}"), &InboundMsg::default());
        }
        assert!(history.take("chat 0").is_empty() && !history.take("chat 1").is_empty());
    }
}
