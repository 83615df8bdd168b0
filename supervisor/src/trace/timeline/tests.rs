use super::*;
use crate::journal::{InboundState, RunCounts, RunOrigin, RunState, RunTimes};
use proto::wire::Id;

const RUN: Id = Id([7; 16]);

fn step(at_ms: i64, by: &str, what: &str, detail: Value) -> Step {
    Step { at_us: at_ms * 1000, ..Step::new(RUN, by, what, detail) }
}

fn run() -> RunRow {
    RunRow {
        run_id: RUN,
        client_run_id: "mine".into(),
        session_key: "agent:main:main".into(),
        agent: "main".into(),
        lane: "main".into(),
        origin: RunOrigin::Channel,
        state: RunState::Closed,
        times: RunTimes {
            created_us: 5_100_000,
            started_us: Some(5_200_000),
            ended_us: Some(9_000_000),
            ..RunTimes::default()
        },
        counts: RunCounts { attempt: 2, crashes: 0, interruptions: 1 },
        epoch: 4,
        spec: Vec::new(),
        outcome: None,
    }
}

fn message() -> InboundRow {
    InboundRow {
        seq: 1,
        account: "telegram:default".into(),
        ext_id: "1|7|3".into(),
        chat: "7".into(),
        session_key: "agent:main:main".into(),
        agent: "main".into(),
        client_run_id: None,
        recv_us: 5_000_000,
        net_ts_us: Some(1_000_000),
        state: InboundState::Done,
        run_id: Some(RUN),
        attempts: 1,
        body: Vec::new(),
    }
}

#[test]
fn every_step_is_a_sentence_in_its_place() {
    let part = json!({"part": 0, "account": "telegram:default", "chat": "7"});
    let more = |extra: Value| {
        let mut part = part.clone();
        part.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        part
    };
    let agent = "agent:main";
    let steps = [
        step(5_100, "gateway", "claimed", json!({"messages": 1, "lane": "main"})),
        step(5_200, "gateway", "started", json!({"attempt": 1, "epoch": 3})),
        step(5_210, agent, "begun", json!({"attempt": 1})),
        step(5_220, agent, "model", json!({"detail": "a/b"})),
        step(5_500, "gateway", "interrupted", json!({"attempt": 1, "cause": "it was killed"})),
        step(5_600, "gateway", "started", json!({"attempt": 2, "epoch": 4})),
        step(6_020, agent, "first", json!({"ms": 412})),
        step(
            7_000,
            agent,
            "answer",
            json!({"ms": 1400, "input": 90, "output": 8, "cacheRead": 10, "costMicros": 4200, "stop": "toolUse"}),
        ),
        step(7_001, agent, "tool", json!({"detail": "exec"})),
        step(7_500, agent, "result", json!({"tool": "exec", "ms": 499, "failed": true})),
        step(8_000, agent, "retry", json!({"detail": "request 2 in 10 ms: rate_limit"})),
        step(8_100, agent, "refused", json!({"ms": 100, "why": "429"})),
        step(8_200, agent, "compact", json!({"detail": "a/b"})),
        step(9_000, "gateway", "ended", json!({"state": "final", "parts": 1})),
        step(9_000, "gateway", "queued", part.clone()),
        step(9_001, "gateway", "leased", more(json!({"attempt": 1}))),
        step(9_002, "gateway", "wire", part.clone()),
        step(9_500, "gateway", "putOff", more(json!({"why": "429"}))),
        step(9_600, "gateway", "unknown", more(json!({"why": "cut off"}))),
        step(9_900, "gateway", "delivered", more(json!({"messageIds": ["44"], "maybeDup": true}))),
        step(9_950, "gateway", "something new", json!({})),
    ];
    let found = Found { run: Some(run()), inbound: vec![message()], outbox: Vec::new() };
    let shown = timeline(&found, &steps);
    let lines = shown["steps"].as_array().unwrap().iter();
    let lines: Vec<String> = lines
        .map(|step| {
            format!("{} {} {}", step["atMs"], step["by"].as_str().unwrap(), step["text"].as_str().unwrap())
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(shown["open"], false);
    insta::assert_json_snapshot!(
        json!({"run": shown["run"], "model": shown["model"], "messages": shown["messages"]})
    );
}

#[test]
fn a_message_without_a_run_is_open_while_it_waits() {
    let mut row = message();
    row.run_id = None;
    for (state, open) in
        [(InboundState::Queued, true), (InboundState::Suppressed, false), (InboundState::Dead, false)]
    {
        row.state = state;
        let found = Found { inbound: vec![row.clone()], ..Found::default() };
        assert_eq!(timeline(&found, &[])["open"], open, "{state}");
    }
}
