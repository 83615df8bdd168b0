//! A death at every point that the durability rules name, one at a time: `cargo test -p tests --test chaos`, or one point by
//! `-- <part of its name>`.
//!
//! Each case is a gateway with a Telegram bot and a scripted model, built with failpoints. A person writes one message; the
//! model calls a tool that leaves a mark, then answers. One process kills itself at the point; the gateway, if it was that,
//! is started again. What must hold then: one complete reply in the chat and at most one empty placeholder, the tool ran at
//! most once, the network's queue is empty, the transcript is readable, and nothing is left running.
//!
//! The full matrix (several sessions, other actions, seeded faults) is the next step; this is its first row.

use futures_util::FutureExt;
use harness::executables;
use harness::gateway::{TestGateway, children_of, is_alive, merge};
use harness::model_server::{ModelServer, Reply, Rule, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// Points and what happens there.
const POINTS: &[(&str, &str)] = &[
    ("ch.recv.before_inbound", "kill"),
    ("ch.recv.after_inbound", "kill"),
    ("ch.ack.before", "kill"),
    ("ch.ack.after", "kill"),
    ("sv.in.before_c1", "kill"),
    ("sv.c1.mid", "kill"),
    ("sv.c1.after", "kill"),
    ("sv.c2.before", "kill"),
    ("sv.c2.after", "kill"),
    ("sv.startrun.sent", "kill"),
    ("ag.start.before_c3", "kill"),
    ("ag.c3.mid_write", "torn(30)"),
    ("ag.c3.after", "kill"),
    ("ag.llm.connect", "kill"),
    ("ag.llm.mid_stream", "kill"),
    ("ag.llm.after", "abort"),
    ("ag.c4.mid_write", "torn(30)"),
    ("ag.c4.after", "kill"),
    ("ag.c5.after", "kill"),
    ("ag.tool.running", "kill"),
    ("ag.tool.after_exit", "kill"),
    ("ag.c6.mid_write", "torn(30)"),
    ("ag.c6.after", "kill"),
    ("ag.c7.mid_write", "torn(30)"),
    ("ag.c7.after", "kill"),
    ("ag.final.sent", "kill"),
    ("ag.store.mid", "kill"),
    ("sv.c8.before", "kill"),
    ("sv.c8.after", "kill"),
    ("sv.c9.after", "kill"),
    ("ch.send.before_started", "kill"),
    ("ch.place.after_response", "kill"),
    ("sv.c10.after", "kill"),
    ("ch.send.after_started", "kill"),
    ("ch.wire.before_write", "kill"),
    ("ch.wire.after_response", "kill"),
    ("ch.result.before", "kill"),
    ("sv.c12.before", "kill"),
];

const CHAT: i64 = 7001;
const ANSWER: &str = "The work is done.";
const PLACEHOLDER: &str = "…";

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let chosen = POINTS
        .iter()
        .filter(|(point, _)| wanted.is_empty() || wanted.iter().any(|part| point.contains(part.as_str())));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (mut passed, mut failed) = (0, 0);
    for (point, action) in chosen {
        let begun = Instant::now();
        let result = runtime.block_on(AssertUnwindSafe(case(point, action)).catch_unwind());
        let took = begun.elapsed().as_millis();
        match result {
            Ok(note) => {
                passed += 1;
                println!("{point} ({action}) ... ok, {note}, {took} ms");
            }
            Err(_) => {
                failed += 1;
                println!("{point} ({action}) ... FAILED");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    std::process::exit(i32::from(failed > 0));
}

/// One death. Gives a note about what was seen.
async fn case(point: &str, action: &str) -> String {
    let (server, model) = (TelegramServer::start().await, ModelServer::start(script()).await);
    let spec = format!("{point}=1*return({action})");
    let mut gateway = TestGateway::builder()
        .bin(executables::with_failpoints())
        .env("OPENCLAW_FAILPOINTS", &spec)
        .config(config(&server, &model))
        .start()
        .await;
    server.push_text(CHAT, CHAT, "do the work");
    let mut deaths = 0;
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if !is_alive(gateway.pid()) {
            deaths += 1;
            gateway.wait_exit();
            gateway.forget_env("OPENCLAW_FAILPOINTS");
            gateway.restart().await;
        }
        if texts(&server).iter().any(|text| text.contains(ANSWER)) && server.unconfirmed() == 0 {
            break;
        }
        assert!(Instant::now() < end, "no answer at {point}: {:?}", server.visible_texts(CHAT));
        wait::step().await;
    }
    settled(&mut gateway).await;
    let shown = server.visible_texts(CHAT);
    let replies = shown.iter().filter(|text| text.contains(ANSWER)).count();
    let orphans = shown.iter().filter(|text| *text == PLACEHOLDER).count();
    assert_eq!(replies, 1, "one complete reply at {point}: {shown:?}");
    assert!(orphans <= 1, "at most one empty placeholder at {point}: {shown:?}");
    let ledger = std::fs::read_to_string(gateway.workspace().join("ledger.txt")).unwrap_or_default();
    let marks = ledger.lines().count();
    assert!(marks <= 1, "the tool ran {marks} times at {point}");
    readable(&gateway);
    assert!(deaths > 0 || reborn(&gateway), "nothing died: {point} was never reached");
    let children = children_of(gateway.pid());
    assert!(gateway.signal_and_wait(Signal::SIGTERM).success(), "an orderly stop after {point}");
    assert!(children.iter().all(|pid| !is_alive(*pid)), "a worker outlived its supervisor at {point}");
    let died = if deaths > 0 { "gateway restarted" } else { "worker restarted" };
    format!("{died}, tool ran {marks}x, {orphans} placeholders")
}

fn script() -> Script {
    let call = Reply {
        text: "I will do it.".into(),
        ..Reply::call("exec", json!({"command": "echo mark >> ledger.txt"}))
    };
    let answer = Reply { text: ANSWER.into(), chunk_chars: 4, delay_ms: 5, ..Reply::default() };
    let first = Rule { after_tool: Some(false), reply: call, ..Rule::default() };
    Script { rules: vec![first], otherwise: answer, ..Script::default() }
}

fn config(server: &TelegramServer, model: &ModelServer) -> Value {
    let mut config = json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": "sk-test", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 32000, "maxTokens": 1000}],
        }}},
        "agents": {"defaults": {"model": {"primary": "double/m1"}, "retry": {"minDelayMs": 10}}},
    });
    let bot = json!({"channels": {"telegram": {
        "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
    }}});
    merge(&mut config, &bot);
    config
}

fn texts(server: &TelegramServer) -> Vec<String> {
    server.visible_texts(CHAT)
}

/// No run and no delivery is open any more.
async fn settled(gateway: &mut TestGateway) {
    wait::until("everything is settled", async || {
        if !is_alive(gateway.pid()) {
            gateway.wait_exit();
            gateway.forget_env("OPENCLAW_FAILPOINTS");
            gateway.restart().await;
        }
        let output = gateway.cli(&["gateway", "call", "system.info", "--json"]);
        let info: Value = serde_json::from_slice(&output.stdout).ok()?;
        let open = |key: &str| info["journal"][key].as_u64();
        let idle =
            open("runsOpen") == Some(0) && open("outboxOpen") == Some(0) && open("inboundWaiting") == Some(0);
        idle.then_some(())
    })
    .await;
}

/// Whether a worker is in a later life than its first: without it the point was never reached.
fn reborn(gateway: &TestGateway) -> bool {
    let output = gateway.cli(&["gateway", "call", "workers.list", "--json"]);
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    listed["workers"].as_array().into_iter().flatten().any(|worker| worker["epoch"].as_u64() > Some(1))
}

fn readable(gateway: &TestGateway) {
    let dir = gateway.state_dir().join("agents/main/sessions");
    for entry in std::fs::read_dir(dir).expect("sessions").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(entry.path()).expect("a transcript");
            for line in text.lines() {
                let _entry: Value = serde_json::from_str(line).expect("every line of a transcript is JSON");
            }
        }
    }
}
