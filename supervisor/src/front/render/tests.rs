use super::*;
use proptest::prelude::*;

fn chat(seq: u64, state: ChatState) -> GatewayEvent {
    GatewayEvent::Chat(ChatEventOut {
        run_id: "run-1".into(),
        session_key: "agent:main:main".into(),
        agent_id: "main".into(),
        seq,
        ts_ms: 1_795_339_238_540,
        state,
    })
}

fn delta(seq: u64, message: &str, run: &str, new: &str) -> GatewayEvent {
    chat(
        seq,
        ChatState::Delta {
            message_text: message.into(),
            run_text: run.into(),
            delta: new.into(),
            replace: false,
        },
    )
}

fn run(seq: u64, data: RunData) -> GatewayEvent {
    GatewayEvent::Run(RunEventOut {
        run_id: "run-1".into(),
        session_key: "agent:main:main".into(),
        agent_id: "main".into(),
        session_id: Some("sid".into()),
        seq,
        ts_ms: 1_795_339_238_540,
        data,
    })
}

fn lines(rendered: &[Rendered]) -> String {
    let line = |r: &Rendered| {
        let show = |v: &Option<Value>| v.as_ref().map_or("-".to_owned(), Value::to_string);
        format!("{} {:?} {:?}\n  v3 {}\n  v4 {}", r.name, r.scope, r.audience, show(&r.v3), show(&r.v4))
    };
    rendered.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_run_with_a_tool_in_both_protocols() {
    let mut renderer = Renderer::default();
    let tool = |phase: &str| {
        RunData::Tool(json!({ "phase": phase, "name": "exec", "toolCallId": "c1", "result": "secret" }))
    };
    let events = [
        (0, run(1, RunData::Lifecycle(json!({ "phase": "start", "startedAt": 1 })))),
        (0, run(2, RunData::Assistant { text: "Let".into(), delta: "Let".into(), message: 0 })),
        (0, delta(2, "Let", "Let", "Let")),
        (10, delta(3, "Let me.", "Let me.", " me.")),
        (20, run(4, tool("result"))),
        (30, run(5, RunData::Other { stream: "usage".into(), data: json!({ "outputTokens": 3 }) })),
        (300, delta(6, "Done.", "Let me.\n\nDone.", "\n\nDone.")),
        (310, run(7, RunData::Lifecycle(json!({ "phase": "end", "endedAt": 2 })))),
        (
            310,
            chat(
                7,
                ChatState::Final { text: Some("Let me.\n\nDone.".into()), stop_reason: Some("stop".into()) },
            ),
        ),
    ];
    let mut all = Vec::new();
    for (now, event) in events {
        all.extend(renderer.render(event, now, || Value::Null));
    }
    insta::assert_snapshot!(lines(&all));
    assert!(renderer.runs.is_empty());
}

#[test]
fn ends_and_plain_events() {
    let mut renderer = Renderer::default();
    let error = ChatState::Error {
        message: "400 boom".into(),
        kind: Some("format".into()),
        provider: Some("mock".into()),
        model: None,
    };
    let row = json!({ "key": "agent:main:main", "verboseLevel": "full" });
    let events = [
        chat(1, ChatState::Final { text: None, stop_reason: None }),
        chat(9, ChatState::Aborted { text: Some("wor".into()), stop_reason: "rpc".into() }),
        chat(9, error),
        GatewayEvent::Shutdown { reason: "gateway stopping", restart_expected_ms: None },
        GatewayEvent::Shutdown { reason: "gateway restarting", restart_expected_ms: Some(1500) },
        GatewayEvent::Presence,
        GatewayEvent::SessionChanged {
            session_key: "agent:main:main".into(),
            agent_id: "main".into(),
            reason: "turn".into(),
            run_id: Some("run-1".into()),
            row,
        },
        run(3, RunData::Tool(json!({ "phase": "result", "result": "shown" }))),
        GatewayEvent::Other {
            event: "device.pair.resolved",
            payload: json!({}),
            scope: Some(scope::PAIRING),
        },
    ];
    let all: Vec<Rendered> = events.into_iter().flat_map(|e| renderer.render(e, 77, || json!([]))).collect();
    insta::assert_snapshot!(lines(&all));
}

#[test]
fn a_throttled_delta_comes_by_itself_when_its_time_is_up() {
    let mut renderer = Renderer::default();
    renderer.render(delta(2, "a", "a", "a"), 1_000, || Value::Null);
    renderer.render(delta(3, "ab", "ab", "b"), 1_050, || Value::Null);
    assert_eq!(renderer.next_due_ms(), Some(1_150));
    assert!(renderer.due(1_149).is_empty());
    let due = renderer.due(1_150);
    assert_eq!(due[0].v3.as_ref().unwrap()["message"]["content"][0]["text"], "ab");
    assert_eq!((due[0].v4.as_ref().is_none(), renderer.next_due_ms()), (true, None));
}

proptest! {
    /// Whatever the timing, protocol 3 shows at most one delta per interval between events that flush,
    /// never an older text after a newer one, and all text before the end.
    #[test]
    fn throttling_keeps_order_and_loses_no_text(gaps in proptest::collection::vec(0..400_u64, 1..40)) {
        let mut renderer = Renderer::default();
        let (mut now, mut text, mut shown, mut times) = (0, String::new(), Vec::new(), Vec::new());
        for (n, gap) in gaps.iter().enumerate() {
            now += gap;
            for r in renderer.due(now) {
                shown.push(r.v3.unwrap()["message"]["content"][0]["text"].as_str().unwrap().len());
                times.push(now);
            }
            text.push('x');
            for r in renderer.render(delta(n as u64, &text, &text, "x"), now, || Value::Null) {
                if let Some(v3) = r.v3 {
                    shown.push(v3["message"]["content"][0]["text"].as_str().unwrap().len());
                    times.push(now);
                }
            }
        }
        prop_assert!(shown.windows(2).all(|w| w[0] < w[1]));
        prop_assert!(times.windows(2).all(|w| w[1] - w[0] >= CHAT_DELTA_INTERVAL_MS));
        let last = chat(99, ChatState::Final { text: Some(text.as_str().into()), stop_reason: None });
        let end = renderer.render(last, now, || Value::Null);
        prop_assert_eq!(end.last().unwrap().v3.as_ref().unwrap()["message"]["content"][0]["text"].as_str().unwrap().len(), text.len());
    }
}
