//! Clients that have an agent stream, one run after the other, by `chat.send` and by `agent`.

use super::{Tally, WORDS};
use crate::ws_client::{Closed, WsClient, chat_text};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Streams until told to stop; the run under way is brought to its end.
pub async fn stream_on(mut client: WsClient, n: usize, tally: Tally, stopped: watch::Receiver<bool>) {
    tally.add("clients");
    let mut last = None;
    for turn in 0.. {
        if *stopped.borrow() {
            return;
        }
        let key = format!("run-{n}-{turn}");
        tally.add("runs begun");
        match run(&mut client, n, &key, turn % 2 == 1, &tally).await {
            Ok(()) => tally.add("runs complete"),
            Err(why) => {
                tally.fault("runs lost", format!("{key}: {why}"));
                return;
            }
        }
        for seq in std::mem::take(&mut client.seen) {
            if last.is_some_and(|last| seq != last + 1) {
                tally.fault("event gaps", format!("{key}: {seq} after {last:?}"));
            }
            last = Some(seq);
        }
        client.events.clear();
    }
}

fn gone(closed: Closed) -> String {
    format!("closed: {closed:?}")
}

async fn run(
    client: &mut WsClient,
    n: usize,
    key: &str,
    by_agent: bool,
    tally: &Tally,
) -> Result<(), String> {
    let session = format!("agent:main:stream{n}-{key}");
    let params = json!({"sessionKey": session, "message": "count", "idempotencyKey": key});
    let method = if by_agent { "agent" } else { "chat.send" };
    let id = client.send(method, params).await;
    let accepted = client.response_unless_closed(&id).await.map_err(gone)?;
    accepted.map_err(|error| format!("refused: {error}"))?;
    let mut shown = String::new();
    let mut numbers = (0, 0);
    loop {
        while let Some(event) = client.events.pop_front() {
            if event["payload"]["runId"] != key {
                continue;
            }
            let payload = &event["payload"];
            match (event["event"].as_str(), payload["state"].as_str()) {
                (Some("agent"), _) => number(payload, &mut numbers, key, tally),
                (Some("chat"), Some("delta")) => {
                    shown.push_str(payload["deltaText"].as_str().unwrap_or_default());
                    if payload["replace"] == true || chat_text(payload) != shown {
                        tally.fault("stream gaps", format!("{key}: {shown:?} is shown, {payload}"));
                        shown = chat_text(payload);
                    }
                }
                (Some("chat"), Some("final")) if chat_text(payload) == WORDS => {
                    return if by_agent { second_answer(client, &id).await } else { Ok(()) };
                }
                (Some("chat"), _) => return Err(format!("ended otherwise: {payload}")),
                _ => {}
            }
        }
        client.pump().await.map_err(gone)?;
    }
}

/// The events of a run are numbered without a gap.
fn number(payload: &Value, numbers: &mut (u64, u64), key: &str, tally: &Tally) {
    let seq = payload["seq"].as_u64().unwrap_or_default();
    if seq != numbers.0 + 1 {
        tally.fault("stream gaps", format!("{key}: event {seq} after {}", numbers.0));
    }
    *numbers = (seq, numbers.1 + 1);
}

async fn second_answer(client: &mut WsClient, id: &str) -> Result<(), String> {
    let outcome = client.response_unless_closed(id).await.map_err(gone)?;
    let outcome = outcome.map_err(|error| format!("failed: {error}"))?;
    match outcome.pointer("/result/payloads/0/text").and_then(Value::as_str) {
        Some(WORDS) => Ok(()),
        _ => Err(format!("another outcome: {outcome}")),
    }
}
