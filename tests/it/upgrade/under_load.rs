//! Restart in place with the same executable, while runs stream and people write.

use super::{replace, replaced};
use crate::recovery::model_config;
use harness::gateway::{TestGateway, children_of, merge};
use harness::model_server::{ModelServer, Reply, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const WORDS: &str = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
                     seventeen eighteen nineteen twenty";

/// Streams for about two seconds.
fn slow() -> Script {
    let reply = Reply { text: WORDS.to_owned(), chunk_chars: 2, delay_ms: 30, ..Reply::default() };
    Script { otherwise: reply, ..Script::default() }
}

/// Connects again and again until told to stop; gives how often it was let in and how often refused.
fn knock(port: u16, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<(u64, u64)> {
    std::thread::spawn(move || {
        let (served, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        while !stop.load(Ordering::SeqCst) {
            let count = if TcpStream::connect(("127.0.0.1", port)).is_ok() { &served } else { &refused };
            count.fetch_add(1, Ordering::SeqCst);
        }
        (served.into_inner(), refused.into_inner())
    })
}

#[tokio::test]
async fn streaming_runs_do_not_notice_a_restart_in_place() {
    let model = ModelServer::start(slow()).await;
    let config = json!({"agents": {"defaults": {"maxConcurrent": 5}}});
    let gateway = TestGateway::builder().config(model_config(&model)).config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for n in 0..5 {
        let (session, key) = (format!("agent:main:s{n}"), format!("k{n}"));
        let params = json!({"sessionKey": session, "message": "count", "idempotencyKey": key});
        client.call("chat.send", params).await.expect("accepted");
    }
    for n in 0..5 {
        let run = format!("k{n}");
        client.event_where("chat", |p| p["state"] == "delta" && p["runId"] == run.as_str()).await;
    }
    let (pid, workers) = (gateway.pid(), children_of(gateway.pid()));
    let stop = Arc::new(AtomicBool::new(false));
    let knocking = knock(gateway.port, stop.clone());
    gateway.signal(Signal::SIGUSR1);
    let info = replaced(&gateway, 1).await;
    stop.store(true, Ordering::SeqCst);
    let (served, refused) = knocking.join().expect("the knocking thread");
    assert_eq!((info["pid"].as_u64(), refused), (Some(pid.into()), 0), "{served} connections were let in");
    let mut after = children_of(pid);
    after.retain(|child| workers.contains(child));
    assert_eq!(after, workers, "the same workers");
    for n in 0..5 {
        let end = client.chat_end(&format!("k{n}")).await;
        assert_eq!((&end["state"], chat_text(&end).as_str()), (&json!("final"), WORDS), "{end}");
    }
    assert_eq!(model.book().len(), 5, "nothing was asked twice");
    in_sequence(client.events.iter().filter(|event| event["event"] == "agent"));
    for n in 0..5 {
        let params = json!({"sessionKey": format!("agent:main:s{n}")});
        let history = client.call("chat.history", params).await.expect("history");
        let roles: Vec<&Value> =
            history["messages"].as_array().expect("messages").iter().map(|m| &m["role"]).collect();
        assert_eq!(roles, ["user", "assistant"], "{history}");
    }
}

/// The events of each run are numbered without a gap and without a repetition.
fn in_sequence<'a>(events: impl Iterator<Item = &'a Value>) {
    let mut last: HashMap<String, u64> = HashMap::new();
    for event in events {
        let (run, seq) = (&event["payload"]["runId"], event["payload"]["seq"].as_u64().expect("a number"));
        let before = last.entry(run.to_string()).or_insert(seq - 1);
        assert_eq!(*before + 1, seq, "run {run}");
        *before = seq;
    }
    assert!(!last.is_empty());
}

#[tokio::test]
async fn a_person_on_telegram_gets_one_whole_answer_over_a_restart_in_place() {
    let (server, model) = (TelegramServer::start().await, ModelServer::start(slow()).await);
    let mut config = model_config(&model);
    let telegram = json!({"channels": {"telegram": {
        "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
    }}, "messages": {"queue": {"mode": "followup", "debounceMs": 0}}});
    merge(&mut config, &telegram);
    let gateway = TestGateway::builder().config(config).start().await;
    wait::until("the bot polls", async || server.is_polled().then_some(())).await;
    let bot = gateway.worker("openclaw-channel").await;
    server.push_text(71, 71, "count");
    wait::until("the placeholder", async || (!server.visible_texts(71).is_empty()).then_some(())).await;
    server.push_text(71, 71, "again");
    let mut times = 0;
    while server.visible_texts(71).len() < 2 || server.visible_texts(71).iter().any(|text| text != WORDS) {
        times += 1;
        replace(&gateway, times).await;
    }
    assert_eq!(server.visible_texts(71), [WORDS, WORDS]);
    assert_eq!(gateway.worker("openclaw-channel").await, bot, "the same worker");
    assert_eq!(model.book().len(), 2, "{times} replacements");
    // The last delivery is noted a moment after it can be seen.
    wait::until("nothing left open", async || {
        let mut client = WsClient::cli(gateway.port, 4).await;
        let info = client.call("system.info", json!({"gateway": true})).await.ok()?;
        (info["journal"]["outboxOpen"] == 0 && info["journal"]["runsOpen"] == 0).then_some(())
    })
    .await;
}
