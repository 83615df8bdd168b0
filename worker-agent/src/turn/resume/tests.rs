use super::*;
use crate::session::entry::Body;
use crate::session::message::{Block, Content, ToolResultMessage};
use crate::turn::state::{End, Step, Synthetic};
use serde_json::json;

const RUN: &str = "run-1";

/// A branch in shorthand: `u` user, `s` turn-start, `a` answer, `c:1,2` answer with calls, `i:1:write` intent,
/// `r:1` result, `f` final, `x` aborted half; `other` a whole turn of another run.
fn branch(words: &str) -> Vec<Entry> {
    let mut bodies = Vec::new();
    for word in words.split_whitespace() {
        let parts: Vec<&str> = word.split(':').collect();
        bodies.push(match parts[0] {
            "u" => Body::Message { message: Message::user("hello", 1) },
            "s" => start(RUN),
            "os" => start("other"),
            "a" => answer(&[], StopReason::Stop),
            "x" => answer(&["9"], StopReason::Aborted),
            "c" => answer(&parts[1].split(',').collect::<Vec<_>>(), StopReason::ToolUse),
            "i" => Body::custom(
                TOOL_INTENT,
                json!({"runId": RUN, "callId": parts[1], "tool": "exec", "effect": parts[2], "argsHash": ""}),
            ),
            "r" => Body::Message {
                message: Message::ToolResult(ToolResultMessage::text(parts[1], "exec", "ok", false, 1)),
            },
            "f" => Body::custom(TURN_FINAL, json!({"runId": RUN, "attempt": 1, "body": {"text": "done"}})),
            other => panic!("{other}"),
        });
    }
    let mut parent = None;
    bodies
        .into_iter()
        .enumerate()
        .map(|(at, body)| {
            let id = format!("{at:08x}");
            Entry { id: id.clone(), parent_id: parent.replace(id), timestamp: String::new(), body }
        })
        .collect()
}

fn start(run: &str) -> Body {
    Body::custom(
        TURN_START,
        json!({"runId": run, "clientRunId": "c", "attempt": 1, "inputs": [1], "startedMs": 7}),
    )
}

fn answer(calls: &[&str], stop_reason: StopReason) -> Body {
    let mut message = AssistantMessage::ours("text", 1);
    let mut blocks = vec![Block::text("text")];
    blocks.extend(calls.iter().map(|id| Block::ToolCall {
        id: (*id).to_owned(),
        name: "exec".into(),
        arguments: serde_json::Map::new(),
        thought_signature: None,
    }));
    message.content = Content::Blocks(blocks);
    message.stop_reason = stop_reason;
    Body::Message { message: Message::Assistant(message) }
}

/// The plan as one line: every step until the model is asked or the run ends.
fn line(words: &str) -> String {
    line_of(&branch(words))
}

fn line_of(entries: &[Entry]) -> String {
    let refs: Vec<&Entry> = entries.iter().collect();
    match plan(&refs, RUN) {
        Resume::Fresh => "as new".into(),
        Resume::Replay(record) => format!("send again {}", record.body),
        Resume::Continue { mut turn, .. } => {
            let mut steps = Vec::new();
            loop {
                match turn.next() {
                    Step::RunTool(call) => steps.push(format!("run {}", call.id)),
                    Step::AnswerTool(call, Synthetic::Interrupted) => {
                        steps.push(format!("unknown {}", call.id))
                    }
                    Step::CallModel => break steps.push("model".into()),
                    Step::Finish(End::Answered) => break steps.push("final record".into()),
                    other => panic!("{other:?}"),
                }
                turn.tool_answered();
            }
            steps.join(", ")
        }
    }
}

#[test]
fn the_table() {
    let cases = [
        "",
        "u os a",
        "u",
        "u s",
        "u s s",
        "u s x",
        "u s c:1,2",
        "u s c:1 i:1:read",
        "u s c:1 i:1:idempotent",
        "u s c:1 i:1:write",
        "u s c:1,2 i:1:write r:1",
        "u s c:1,2 i:1:write r:1 i:2:write",
        "u s c:1 i:1:write r:1",
        "u s c:1 i:1:write r:1 u",
        "u s c:1 i:1:write r:1 a",
        "u s a u",
        "u s a",
        "u s a f",
        "u s a f u os a",
    ];
    let table: Vec<String> = cases.iter().map(|case| format!("{case:<36} → {}", line(case))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

/// A turn longer than what is kept in memory: however much of its beginning is gone, it goes on at the same place.
#[test]
fn a_turn_whose_beginning_is_gone_is_not_begun_again() {
    let cases = [
        "u os a u s c:1 i:1:read r:1 c:2 i:2:write",
        "u s c:1 i:1:read r:1 c:2 i:2:write r:2",
        "u s c:1 i:1:read r:1 s c:2,3 i:2:write r:2",
        "u s c:1 i:1:read r:1 a f",
        "u s a f",
    ];
    for case in cases {
        let whole = branch(case);
        let (asked, record) = (
            whole.iter().rposition(|entry| assistant(entry).is_some()).unwrap(),
            whole.iter().rposition(|entry| owner(entry) == Some(RUN)).unwrap(),
        );
        let last = if case.ends_with('f') { record } else { asked };
        for cut in 0..=last {
            let rest = &whole[cut..];
            if rest.iter().any(|entry| owner(entry) == Some(RUN)) {
                assert_eq!(line_of(rest), line(case), "{case} without its first {cut}");
            }
        }
    }
    let words: Vec<Entry> = branch("u os a u s c:1 i:1:read r:1 c:2 i:2:write").split_off(2);
    let told = answers_of(&words.iter().collect::<Vec<_>>(), RUN);
    assert_eq!(told.len(), 2, "answers of the run before are not its own");
}

#[test]
fn an_orphan_question_is_left_behind() {
    let orphan = |words: &str| {
        let entries = branch(words);
        orphan_parent(&entries.iter().collect::<Vec<_>>())
    };
    assert_eq!(orphan("u s a f"), None);
    assert_eq!(orphan("u s a f u os"), Some(Some("00000003".into())));
    assert_eq!(orphan("u s"), Some(None));
    assert_eq!(orphan(""), None);
}
