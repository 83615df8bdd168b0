use super::*;
use crate::provider::types::{AssistantMessage, ToolSpec, UserMessage};

fn request(text: &str) -> ModelRequest {
    let tool =
        |name: &str| ToolSpec { name: name.to_owned(), description: String::new(), parameters: json!({}) };
    ModelRequest {
        messages: vec![Message::user(text)],
        tools: vec![tool("exec"), tool("read"), tool("ls")],
        ..ModelRequest::default()
    }
}

fn said(events: &[ProviderEvent]) -> String {
    events
        .iter()
        .filter_map(|e| if let ProviderEvent::TextDelta { text } = e { Some(text.as_str()) } else { None })
        .collect()
}

fn called(events: &[ProviderEvent]) -> Vec<(String, Value)> {
    events
        .iter()
        .filter_map(|e| match e {
            ProviderEvent::ToolCallEnd { name, arguments, .. } => Some((name.clone(), arguments.clone())),
            _ => None,
        })
        .collect()
}

fn answer_with(request: &mut ModelRequest, tool: &str, text: &str) {
    request.messages.push(Message::Assistant(AssistantMessage::default()));
    request.messages.push(Message::ToolResult(ToolResultMessage {
        tool_name: tool.to_owned(),
        content: vec![Block::text(text)],
        ..ToolResultMessage::default()
    }));
}

#[test]
fn plain_words_call_tools() {
    let one = |text: &str| called(&script(&request(text)));
    let call = |name: &str, arguments: Value| vec![(name.to_owned(), arguments)];
    assert_eq!(one("run: uname -a"), call("exec", json!({ "command": "uname -a" })));
    assert_eq!(one("[Mon 2026-01-05 10:00 UTC] Run: ls"), call("exec", json!({ "command": "ls" })));
    assert_eq!(one("read README.md"), call("read", json!({ "path": "README.md" })));
    assert_eq!(one("Please read `docs/a.md`."), call("read", json!({ "path": "docs/a.md" })));
    assert_eq!(one("list files"), call("ls", json!({ "path": "." })));
    assert_eq!(one("list the files in src/"), call("ls", json!({ "path": "src/" })));
    for talk in ["hello", "running: late", "I read books all day long", "listen to me", "lsof?"] {
        assert_eq!(one(talk), [], "{talk}");
    }
}

#[test]
fn steps_follow_one_another_and_end_in_a_report() {
    let mut request = request("run: pwd\nrun: ls");
    assert_eq!(called(&script(&request))[0].1["command"], "pwd");
    answer_with(&mut request, "exec", "/home/me");
    let second = script(&request);
    assert_eq!(called(&second)[0].1["command"], "ls");
    assert_eq!(second.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::ToolUse }));
    answer_with(&mut request, "exec", "a.txt\nb.txt");
    let last = script(&request);
    assert!(called(&last).is_empty());
    assert!(said(&last).contains("/home/me") && said(&last).contains("b.txt"), "{}", said(&last));
    assert_eq!(last.last(), Some(&ProviderEvent::Done { stop_reason: StopReason::Stop }));
}

#[test]
fn it_is_honest_and_deterministic() {
    let asked = request("hello there");
    let events = script(&asked);
    assert!(said(&events).starts_with("You said: hello there"));
    assert!(said(&events).contains("not a language model") && said(&events).contains("OPENROUTER_API_KEY"));
    assert_eq!(events, script(&asked));
    let usage =
        events.iter().find_map(|e| if let ProviderEvent::Usage(u) = e { Some(*u) } else { None }).unwrap();
    assert!(usage.input > 0 && usage.output > 20 && usage.total_tokens == usage.input + usage.output);
    let bare =
        ModelRequest { messages: vec![Message::User(UserMessage::default())], ..ModelRequest::default() };
    assert!(said(&script(&bare)).contains("empty message"));
    let without = ModelRequest { tools: Vec::new(), ..request("run: ls") };
    assert!(said(&script(&without)).contains("`exec` is not available"));
}
