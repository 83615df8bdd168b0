use super::*;
use proptest::prelude::*;

fn assistant(text: &str, calls: &[&str], stop_reason: StopReason) -> Message {
    let mut message = AssistantMessage::ours(text, 1);
    let mut blocks = vec![Block::text(text)];
    blocks.extend(calls.iter().map(|id| Block::ToolCall {
        id: (*id).to_owned(),
        name: "exec".into(),
        arguments: serde_json::Map::new(),
        thought_signature: None,
    }));
    message.content = Content::Blocks(blocks);
    message.stop_reason = stop_reason;
    Message::Assistant(message)
}

fn result(id: &str) -> Message {
    Message::ToolResult(ToolResultMessage::text(id, "exec", "done", false, 1))
}

/// `u`, `a(ids)`, `r(id)` and `R(id)` for a synthesised result.
fn shape(messages: &[Message]) -> String {
    let words = messages.iter().map(|message| match message {
        Message::User(_) => "u".to_owned(),
        Message::Assistant(assistant) => {
            let ids: Vec<String> = assistant.tool_calls().into_iter().map(|call| call.id).collect();
            format!("a({})", ids.join(","))
        }
        Message::ToolResult(result) if result.is_error => format!("R({})", result.tool_call_id),
        Message::ToolResult(result) => format!("r({})", result.tool_call_id),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn missing_results_are_made_and_orphans_dropped() {
    let messages = vec![
        result("lost"),
        Message::user("hi", 1),
        assistant("look", &["1", "2"], StopReason::ToolUse),
        result("2"),
        result("2"),
        Message::user("well?", 2),
        assistant("", &[], StopReason::Stop),
        assistant("half", &["3"], StopReason::Aborted),
        assistant("more", &["4"], StopReason::ToolUse),
    ];
    assert_eq!(shape(&repair(messages)), "u a(1,2) r(2) R(1) u a() a(4) R(4)");
}

proptest! {
    /// Whatever a file holds: each call has exactly one result, before the next user or assistant message.
    #[test]
    fn every_call_has_exactly_one_result(kinds in proptest::collection::vec((0..4_u8, 0..4_u8), 0..40)) {
        let messages = kinds.iter().map(|(kind, id)| {
            let id = id.to_string();
            match kind {
                0 => Message::user("u", 1),
                1 => assistant("t", &[], StopReason::Stop),
                2 => assistant("t", &[&id], StopReason::ToolUse),
                _ => result(&id),
            }
        }).collect();
        let mut open: Option<String> = None;
        for message in repair(messages) {
            match message {
                Message::ToolResult(result) => prop_assert_eq!(open.take(), Some(result.tool_call_id)),
                Message::Assistant(assistant) => {
                    prop_assert_eq!(&open, &None);
                    open = assistant.tool_calls().pop().map(|call| call.id);
                }
                Message::User(_) => prop_assert_eq!(&open, &None),
            }
        }
        prop_assert_eq!(open, None);
    }
}
