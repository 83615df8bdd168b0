use super::*;
use crate::session::entry::iso;
use crate::session::message::{AssistantMessage, Block, Content, ToolResultMessage};
use proptest::prelude::*;

fn branch(bodies: Vec<Body>) -> Vec<Entry> {
    let entry = |(at, body): (usize, Body)| Entry {
        id: format!("{at:08x}"),
        parent_id: at.checked_sub(1).map(|at| format!("{at:08x}")),
        timestamp: iso(1),
        body,
    };
    bodies.into_iter().enumerate().map(entry).collect()
}

fn user(text: &str) -> Body {
    Body::Message { message: Message::user(text, 1) }
}

fn answer(text: &str, calls: &[&str]) -> Body {
    let mut message = AssistantMessage::ours(text, 1);
    let calls = calls.iter().map(|id| Block::ToolCall {
        id: (*id).to_owned(),
        name: "read".into(),
        arguments: Default::default(),
        thought_signature: None,
    });
    message.content = Content::Blocks(std::iter::once(Block::text(text)).chain(calls).collect());
    Body::Message { message: Message::Assistant(message) }
}

fn result(id: &str, text: &str) -> Body {
    Body::Message { message: Message::ToolResult(ToolResultMessage::text(id, "read", text, false, 1)) }
}

fn cut(entries: &[Entry], keep: u64) -> Option<Cut> {
    plan(&entries.iter().collect::<Vec<_>>(), keep)
}

#[test]
fn whole_turns_go_and_the_newest_stay() {
    let long = "x".repeat(400);
    let entries = branch(vec![user(&long), answer(&long, &[]), user(&long), answer(&long, &[]), user("now")]);
    let at =
        |keep| cut(&entries, keep).map(|found| (found.first_kept, found.history.len(), found.prefix.len()));
    assert_eq!(at(150), Some(("00000002".into(), 2, 0)));
    assert_eq!(at(80), Some(("00000003".into(), 2, 1)), "a turn that is too long is cut in two");
    assert_eq!(cut(&entries, 10_000), None);
    assert_eq!(cut(&entries, 1).unwrap().first_kept, "00000004");
}

#[test]
fn a_second_summary_covers_what_the_first_one_had_kept() {
    let compaction = Body::Compaction {
        summary: "S".into(),
        first_kept_entry_id: "00000002".into(),
        tokens_before: 1,
        details: None,
    };
    let long = "x".repeat(400);
    let entries = branch(vec![
        user("old"),
        answer("old", &[]),
        user(&long),
        answer(&long, &[]),
        compaction,
        user(&long),
    ]);
    let found = cut(&entries, 50).unwrap();
    assert_eq!((found.first_kept.as_str(), found.history.len()), ("00000005", 2));
    assert_eq!(found.previous, Some(("S".into(), None)));
}

#[derive(Debug, Clone)]
enum Said {
    User(usize),
    /// An answer with so many calls, and their results.
    Calls(usize, usize),
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        (0..300_usize).prop_map(Said::User),
        (0..4_usize, 0..900_usize).prop_map(|(n, size)| Said::Calls(n, size))
    ]
}

proptest! {
    /// Whatever was said: what stays begins with no result, every result that stays has its call, and nothing is lost.
    #[test]
    fn no_call_is_parted_from_its_result(parts in proptest::collection::vec(said(), 1..25), keep in 1_u64..600) {
        let mut bodies = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            match part {
                Said::User(size) => bodies.push(user(&"u".repeat(*size))),
                Said::Calls(count, size) => {
                    let ids: Vec<String> = (0..*count).map(|n| format!("{at}-{n}")).collect();
                    bodies.push(answer("look", &ids.iter().map(String::as_str).collect::<Vec<_>>()));
                    bodies.extend(ids.iter().map(|id| result(id, &"r".repeat(*size))));
                }
            }
        }
        let entries = branch(bodies);
        if let Some(found) = cut(&entries, keep) {
            let at = entries.iter().position(|entry| entry.id == found.first_kept).unwrap();
            prop_assert_eq!(found.history.len() + found.prefix.len(), at);
            let mut calls = HashSet::new();
            for (n, entry) in entries.iter().skip(at).enumerate() {
                match entry.body.message().unwrap() {
                    Message::ToolResult(result) => prop_assert!(n > 0 && calls.contains(&result.tool_call_id)),
                    Message::Assistant(answer) => calls.extend(answer.tool_calls().into_iter().map(|call| call.id)),
                    Message::User(_) => {}
                }
            }
        }
    }
}
