use super::*;
use crate::session::message::{AssistantMessage, Block, Content, StopReason, ToolResultMessage, Usage};
use proptest::prelude::*;
use serde_json::json;

const NOW: i64 = 1_770_000_000_000;

fn header() -> Header {
    Header::new("5a6c48cb-6dc9-4187-98d8-6941c49db393", "/home/u/workspace", NOW)
}

fn open(path: &Path) -> Transcript {
    Transcript::open(path, header(), NOW).unwrap()
}

fn user(text: &str) -> Body {
    Body::Message { message: Message::user(text, NOW) }
}

fn assistant(text: &str) -> Body {
    Body::Message { message: Message::Assistant(AssistantMessage::ours(text, NOW)) }
}

/// A turn with a tool call, as the run loop writes it.
fn turn() -> Vec<Body> {
    let call = Block::ToolCall {
        id: "call_1".into(),
        name: "exec".into(),
        arguments: json!({"command": "ls"}).as_object().unwrap().clone(),
        thought_signature: None,
    };
    let mut asked = AssistantMessage::ours("Let me look.", NOW);
    asked.content =
        Content::Blocks(vec![Block::thinking("hm", Some("sig".into())), Block::text("Let me look."), call]);
    asked.stop_reason = StopReason::ToolUse;
    asked.usage = Usage { input: 100, output: 20, total_tokens: 120, ..Usage::default() };
    vec![
        user("list ü"),
        Body::custom(crate::session::entry::TURN_START, json!({"runId": "r1", "attempt": 1})),
        Body::Message { message: Message::Assistant(asked) },
        Body::custom(crate::session::entry::TOOL_INTENT, json!({"runId": "r1", "callId": "call_1"})),
        Body::Message {
            message: Message::ToolResult(ToolResultMessage::text("call_1", "exec", "a\nb", false, NOW)),
        },
        assistant("Two files."),
        Body::custom(crate::session::entry::TURN_FINAL, json!({"runId": "r1"})),
    ]
}

fn write_turn(path: &Path) -> Vec<u8> {
    let mut transcript = open(path);
    for body in turn() {
        transcript.append(body, NOW).unwrap();
    }
    transcript.sync().unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_is_written_is_read_again_in_the_same_shape() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    write_turn(&path);
    let again = open(&path);
    assert_eq!(again.repairs(), &Repairs::default());
    let bodies: Vec<Body> = again.branch().into_iter().map(|entry| entry.body.clone()).collect();
    assert_eq!(bodies, turn());
}

/// The rules of session format 3, checked on raw lines and without our own types.
#[test]
fn every_line_obeys_the_format() {
    let dir = tempfile::tempdir().unwrap();
    let text = String::from_utf8(write_turn(&dir.path().join("s.jsonl"))).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["type"], "session");
    assert_eq!(lines[0]["version"], 3);
    let mut parent = serde_json::Value::Null;
    for line in &lines[1..] {
        let id = line["id"].as_str().unwrap();
        assert!(id.len() == 8 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
        assert_eq!(line["parentId"], parent);
        assert!(line["timestamp"].as_str().unwrap().ends_with(".000Z"));
        assert!(matches!(line["type"].as_str().unwrap(), "message" | "custom"));
        parent = line["id"].clone();
    }
    let roles: Vec<&str> = lines.iter().filter_map(|line| line["message"]["role"].as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "toolResult", "assistant"]);
}

#[test]
fn golden_file() {
    let dir = tempfile::tempdir().unwrap();
    let text = String::from_utf8(write_turn(&dir.path().join("s.jsonl"))).unwrap();
    // Ids are random: number them in order of appearance.
    let mut ids: Vec<String> = Vec::new();
    let mut golden = text.clone();
    for line in text.lines().skip(1) {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = value["id"].as_str().unwrap().to_owned();
        golden = golden.replace(&id, &format!("<id {}>", ids.len()));
        ids.push(id);
    }
    insta::assert_snapshot!(golden);
}

/// Cut at every byte: it loads, nothing but the cut record is lost, and the bytes that go are kept.
#[test]
fn a_torn_tail_costs_only_the_torn_record() {
    let dir = tempfile::tempdir().unwrap();
    let full = write_turn(&dir.path().join("full.jsonl"));
    let header_len = full.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // Every byte of the header, of the first two records and of the last one; every fifth in between.
    let ends: Vec<usize> = (0..full.len()).filter(|at| full[*at] == b'\n').collect();
    let dense = |cut: usize| cut <= ends[2] + 1 || cut >= ends[ends.len() - 2];
    for cut in (0..full.len()).filter(|cut| dense(*cut) || cut % 5 == 0) {
        let path = dir.path().join(format!("cut-{cut}.jsonl"));
        fs::write(&path, &full[..cut]).unwrap();
        let mut transcript = open(&path);
        // A record counts as soon as its last byte before the newline is there.
        let whole = full[header_len..]
            .split_inclusive(|byte| *byte == b'\n')
            .scan(header_len, |at, line| {
                *at += line.len();
                Some(*at - 1)
            })
            .filter(|end| *end <= cut)
            .count();
        assert_eq!(transcript.len(), whole, "cut at {cut}");
        if let Some(torn) = transcript.repairs().torn.clone() {
            let kept = fs::read(&path).unwrap();
            assert_eq!([kept, fs::read(torn).unwrap()].concat(), &full[..cut], "cut at {cut}");
        }
        transcript.append(user("next"), NOW).unwrap();
        drop(transcript);
        let again = open(&path);
        assert_eq!((again.len(), again.repairs().torn.is_some()), (whole + 1, false), "cut at {cut}");
        assert_eq!(again.repairs().skipped_lines, 0, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any bytes behind a good file: the good part survives, the rest goes to the side.
    #[test]
    fn garbage_behind_the_end_is_put_aside(garbage in proptest::collection::vec(any::<u8>(), 1..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        let mut bytes = write_turn(&path);
        let good = bytes.len();
        bytes.extend_from_slice(&garbage);
        fs::write(&path, &bytes).unwrap();
        let transcript = open(&path);
        prop_assert_eq!(transcript.len(), turn().len());
        prop_assert_eq!(fs::read(&path).unwrap(), &bytes[..good]);
        let torn = transcript.repairs().torn.clone().unwrap();
        prop_assert_eq!(fs::read(torn).unwrap(), garbage);
    }
}

#[test]
fn a_bad_line_in_the_middle_stays_and_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let text = String::from_utf8(write_turn(&path)).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(3, "{\"type\":\"mess");
    let broken = lines.join("\n") + "\n";
    fs::write(&path, &broken).unwrap();
    let transcript = open(&path);
    assert_eq!(transcript.repairs(), &Repairs { skipped_lines: 1, ..Repairs::default() });
    assert_eq!(transcript.branch().len(), turn().len());
    assert_eq!(fs::read_to_string(&path).unwrap(), broken);
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let first = open(&path);
    assert!(matches!(Transcript::open(&path, header(), NOW), Err(TranscriptError::Locked { .. })));
    drop(first);
    open(&path);
}

#[test]
fn version_one_is_read_as_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let lines = [
        json!({"type":"session","id":"old","timestamp":"2025-01-01T00:00:00.000Z","cwd":"/w"}),
        json!({"type":"message","timestamp":"2025-01-01T00:00:01.000Z","message":{"role":"user","content":"one","timestamp":1}}),
        json!({"type":"message","timestamp":"2025-01-01T00:00:02.000Z","message":{"role":"user","content":"two","timestamp":2}}),
        json!({"type":"compaction","timestamp":"2025-01-01T00:00:03.000Z","summary":"S","firstKeptEntryIndex":2,"tokensBefore":9}),
    ];
    fs::write(&path, lines.map(|line| line.to_string() + "\n").concat()).unwrap();
    let mut transcript = open(&path);
    transcript.append(user("three"), NOW).unwrap();
    drop(transcript);
    let texts: Vec<String> = open(&path).context().iter().map(|message| message.content().text()).collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0].contains("<summary>\nS\n</summary>"));
    assert_eq!(texts[1..], ["two", "three"]);
}

#[test]
fn memory_holds_a_window_and_the_file_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let mut transcript = open(&path);
    let long = "x".repeat(300_000);
    let mut last = String::new();
    for _ in 0..20 {
        last = transcript.append(assistant(&long), NOW).unwrap();
    }
    // More than the window, but nothing has summarised it yet.
    assert_eq!((transcript.len(), transcript.branch().len()), (20, 20));
    assert!(transcript.live_bytes() > WINDOW_BYTES_MAX);
    let summary = |first_kept: String| Body::Compaction {
        summary: "s".into(),
        first_kept_entry_id: first_kept,
        tokens_before: 1,
        details: None,
    };
    transcript.append(summary(last), NOW).unwrap();
    assert!(transcript.window_bytes <= WINDOW_BYTES_MAX && transcript.live_bytes() < 400_000);
    assert!(transcript.branch().len() < 20);
    assert_eq!(transcript.context().len(), 2);
    drop(transcript);
    let mut again = open(&path);
    assert_eq!(again.len(), 21);
    for _ in 0..50 {
        again.append(assistant(&long), NOW).unwrap();
    }
    assert!(again.window_bytes <= LIVE_BYTES_MAX, "what nobody can summarise does not stay for ever");
}

#[test]
fn a_new_branch_leaves_the_orphan_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let mut transcript = open(&path);
    let root = transcript.append(assistant("root"), NOW).unwrap();
    transcript.append(user("orphan"), NOW).unwrap();
    transcript.branch_from(Some(root));
    transcript.append(user("asked again"), NOW).unwrap();
    drop(transcript);
    let texts: Vec<String> = open(&path).context().iter().map(|message| message.content().text()).collect();
    assert_eq!(texts, ["root", "asked again"]);
}

#[test]
fn an_open_turn_stays_in_memory_whole_and_is_let_go_at_its_end() {
    use crate::session::entry::{TURN_FINAL, TURN_START};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    let mut transcript = open(&path);
    let start = |run: &str| Body::custom(TURN_START, json!({"runId": run}));
    transcript.append(user("before"), NOW).unwrap();
    // Larger than the window by itself, as pictures are.
    let question = "q".repeat(LIVE_BYTES_MAX + 1);
    transcript.append(user(&question), NOW).unwrap();
    transcript.append(start("r1"), NOW).unwrap();
    for _ in 0..3 {
        transcript.append(assistant(&"a".repeat(WINDOW_BYTES_MAX / 2)), NOW).unwrap();
        transcript.append(start("r1"), NOW).unwrap();
    }
    let asked = |transcript: &Transcript| {
        transcript
            .context()
            .iter()
            .any(|message| matches!(message, Message::User(user) if user.content.text() == question))
    };
    assert!(asked(&transcript));
    drop(transcript);
    let mut again = open(&path);
    assert!(asked(&again), "also when the file is read again");
    assert!(
        !again.branch().iter().any(
            |entry| matches!(entry.body.message(), Some(Message::User(u)) if u.content.text() == "before")
        )
    );
    again.append(Body::custom(TURN_FINAL, json!({"runId": "r1"})), NOW).unwrap();
    assert!(!asked(&again) && again.window_bytes <= LIVE_BYTES_MAX);
}
