//! What goes along with a message besides its text.

use proto::wire::channel::{ChatKind, InboundMsg};
use serde_json::{Map, Value, json};

/// What the model may read of where the message comes from; untrusted.
pub fn context(message: &InboundMsg, history: Vec<Value>) -> Value {
    let mut context = Map::new();
    let direct = message.chat.kind == ChatKind::Direct;
    let mut conversation = Map::new();
    if !direct {
        let label = message.chat.title.clone().unwrap_or_else(|| message.chat.id.clone());
        conversation.insert("message_id".to_owned(), json!(message.message_id));
        conversation.insert("sender_id".to_owned(), json!(message.sender.id));
        conversation.insert("conversation_label".to_owned(), json!(label));
        conversation.insert("is_group_chat".to_owned(), json!(true));
        conversation.insert("was_mentioned".to_owned(), json!(message.mentioned));
        if message.chat.is_forum {
            conversation.insert("is_forum".to_owned(), json!(true));
        }
        if let Some(label) = &message.chat.thread_label {
            conversation.insert("thread_label".to_owned(), json!(label));
        }
        let sender = &message.sender;
        let label =
            sender.name.clone().or_else(|| sender.username.clone()).unwrap_or_else(|| sender.id.clone());
        context.insert(
            "sender".to_owned(),
            json!({"label": label, "name": sender.name, "username": sender.username}),
        );
    }
    if let Some(reply) = &message.reply_to {
        conversation.insert("has_reply_context".to_owned(), json!(true));
        let shown = json!({"sender_label": reply.sender, "is_quote": reply.is_quote, "body": reply.text});
        context.insert("reply".to_owned(), shown);
    }
    if let Some(from) = &message.forwarded_from {
        conversation.insert("has_forwarded_context".to_owned(), json!(true));
        context.insert("forwarded".to_owned(), json!({"from": from}));
    }
    if !history.is_empty() {
        conversation.insert("history_count".to_owned(), json!(history.len()));
        context.insert("history".to_owned(), Value::Array(history));
    }
    if !conversation.is_empty() {
        context.insert("conversation".to_owned(), Value::Object(conversation));
    }
    Value::Object(context)
}
