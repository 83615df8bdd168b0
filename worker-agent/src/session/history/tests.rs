use super::*;
use crate::session::entry::Header;
use crate::session::message::{AssistantMessage, Block, ToolResultMessage, Usage};
use crate::session::transcript::Transcript;

const NOW: i64 = 1_770_000_000_000;

fn open(path: &Path) -> Transcript {
    Transcript::open(path, Header::new("sid", "/w", NOW), NOW).unwrap()
}

fn message(message: Message) -> Body {
    Body::Message { message }
}

fn answer(blocks: Vec<Block>) -> Body {
    let mut answer = AssistantMessage::ours("", NOW);
    answer.content = Content::Blocks(blocks);
    answer.usage = Usage { input: 1, output: 2, total_tokens: 3, ..Usage::default() };
    message(Message::Assistant(answer))
}

fn fill(path: &Path) {
    let mut transcript = open(path);
    let mut first = Message::user("[Sun 2026-11-22 09:25 UTC] hello", NOW);
    if let Message::User(user) = &mut first {
        user.idempotency_key = Some("c-1:user".into());
    }
    let bodies = [
        message(first),
        Body::custom(
            TURN_START,
            json!({"runId": "r", "clientRunId": "c-1", "attempt": 1, "inputs": [], "startedMs": 1}),
        ),
        answer(vec![
            Block::thinking("hm", Some("sig".into())),
            Block::text("Look:"),
            Block::ToolCall {
                id: "1".into(),
                name: "write".into(),
                arguments: json!({"content": "y".repeat(13_000)}).as_object().unwrap().clone(),
                thought_signature: Some("s".into()),
            },
        ]),
        message(Message::ToolResult(ToolResultMessage {
            details: Some(json!({"diff": "…"})),
            content: Content::Blocks(vec![Block::Image {
                data: "AAAA".into(),
                mime_type: "image/png".into(),
            }]),
            ..ToolResultMessage::text("1", "write", "", false, NOW)
        })),
        answer(vec![Block::text("Done.")]),
        Body::custom(TURN_FINAL, json!({"runId": "r"})),
        Body::Compaction {
            summary: "S".into(),
            first_kept_entry_id: "x".into(),
            tokens_before: 1,
            details: None,
        },
        answer(vec![Block::text("NO_REPLY")]),
    ];
    for body in bodies {
        transcript.append(body, NOW).unwrap();
    }
}

/// Random ids become their position.
fn numbered(mut messages: Vec<Value>) -> Vec<Value> {
    for (at, message) in messages.iter_mut().enumerate() {
        if let Some(id) = message.pointer_mut("/__openclaw/id") {
            *id = json!(format!("<id {at}>"));
        }
        if let Some(text) = message.pointer_mut("/content/2/arguments/content") {
            let count = text.as_str().unwrap().chars().count();
            *text = json!(format!("<{count} characters>"));
        }
    }
    messages
}

#[test]
fn both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    fill(&path);
    let (shown, total) = read(&path, 200).unwrap();
    assert_eq!(total, 6);
    insta::assert_json_snapshot!("protocol_3", numbered(project(&shown, 3)));
    insta::assert_json_snapshot!("protocol_4", numbered(project(&shown, 4)));
}

#[test]
fn the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    fill(&path);
    let (shown, total) = read(&path, 3).unwrap();
    assert_eq!((shown.len(), total, shown[0].seq), (3, 6, 4));
    assert!(read(&dir.path().join("none.jsonl"), 3).unwrap().0.is_empty());
}

#[test]
fn abandoned_branches_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let mut transcript = open(&path);
    let root = transcript.append(answer(vec![Block::text("root")]), NOW).unwrap();
    transcript.append(message(Message::user("abandoned", NOW)), NOW).unwrap();
    transcript.branch_from(Some(root));
    transcript.append(message(Message::user("kept", NOW)), NOW).unwrap();
    let (shown, _) = read(&path, 10).unwrap();
    let texts: Vec<_> =
        shown.iter().map(|item| item.entry.body.message().unwrap().content().text()).collect();
    assert_eq!(texts, ["root", "kept"]);
}

#[test]
fn oversized_messages_and_answers_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let mut transcript = open(&path);
    let blocks: Vec<Block> = (0..14).map(|_| Block::text("z".repeat(11_000))).collect();
    transcript.append(answer(blocks), NOW).unwrap();
    for _ in 0..100 {
        let blocks: Vec<Block> = (0..10).map(|_| Block::text("z".repeat(11_000))).collect();
        transcript.append(answer(blocks), NOW).unwrap();
    }
    let (shown, _) = read(&path, 1000).unwrap();
    let first = project(&shown[..1], 4);
    assert_eq!(first[0]["__openclaw"]["reason"], "oversized");
    let all = project(&shown, 3);
    assert!(Value::Array(all.clone()).to_string().len() <= TOTAL_BYTES_MAX + 1024);
    assert!(all.len() > 40 && all.len() < 101);
}

#[test]
fn previews_are_short() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    fill(&path);
    let (shown, _) = read(&path, 200).unwrap();
    let items = preview(&shown, 2, 4);
    assert_eq!(
        items,
        [json!({"role": "assistant", "text": "L..."}), json!({"role": "assistant", "text": "D..."})]
    );
}
