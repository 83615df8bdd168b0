//! Clients that ask, clients that connect, and one that measures.

use super::Tally;
use crate::wait::pause;
use crate::ws_client::{Closed, WsClient};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two requests of a client.
const THINKING: Duration = Duration::from_millis(150);
/// Between the two halves of a request: about as long as a replacement takes.
const HALF_TIME: Duration = Duration::from_millis(150);
/// How long a slow reader reads nothing.
const ASLEEP: Duration = Duration::from_millis(800);
/// Answers that a slow reader leaves unread meanwhile.
const UNREAD_ANSWERS: usize = 60;
/// What the kernel holds for a slow reader: the rest waits in the gateway.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Quick,
    /// Writes half a frame, waits, writes the rest.
    Halves,
    /// Asks a lot and does not read for a while.
    Slow,
}

fn manner(n: usize) -> Manner {
    match n % 20 {
        4 => Manner::Slow,
        1 | 6 | 11 | 16 => Manner::Halves,
        _ => Manner::Quick,
    }
}

/// Every so many clients one shows a device: each is approved and stored, which takes its time.
const EVERY_WITH_DEVICE: usize = 16;

/// A new client. Even numbers speak protocol 3.
pub async fn connect(port: u16, n: usize) -> WsClient {
    if n.is_multiple_of(EVERY_WITH_DEVICE) {
        return WsClient::cli(port, 3).await;
    }
    let protocol = if n.is_multiple_of(2) { 3 } else { 4 };
    let client = WsClient::try_cli(port, protocol).await.expect("let in");
    if manner(n) == Manner::Slow {
        client.set_receive_bytes(SLOW_RECEIVE_BYTES);
    }
    client
}

/// Asks until it is told to stop.
pub async fn ask_on(mut client: WsClient, n: usize, tally: Tally, stopped: watch::Receiver<bool>) {
    tally.add("clients");
    let mut last = None;
    while !*stopped.borrow() {
        if let Err(closed) = round(&mut client, manner(n), &tally).await {
            tally.fault("closed", format!("client {n}, {:?}: {closed:?}", manner(n)));
            return;
        }
        check(&mut client, &mut last, n, &tally);
        pause(THINKING).await;
    }
}

async fn round(client: &mut WsClient, manner: Manner, tally: &Tally) -> Result<(), Closed> {
    let broken = |_| Closed { code: 1006, reason: "not written".to_owned() };
    let mut ids = Vec::new();
    match manner {
        Manner::Quick => ids.push(client.send("health", json!({})).await),
        Manner::Halves => {
            let (id, bytes) = client.request_bytes("health");
            let (early, late) = bytes.split_at(bytes.len() / 2);
            client.write_bytes(early).await.map_err(broken)?;
            pause(HALF_TIME).await;
            client.write_bytes(late).await.map_err(broken)?;
            ids.push(id);
        }
        Manner::Slow => {
            for _ in 0..UNREAD_ANSWERS {
                ids.push(client.send("health", json!({})).await);
            }
            pause(ASLEEP).await;
        }
    }
    for id in ids {
        match client.response_unless_closed(&id).await? {
            Ok(_) => tally.add("answers"),
            Err(error) => tally.fault("failed answers", error.to_string()),
        }
    }
    Ok(())
}

/// The numbers of the events, and answers that came once more.
fn check(client: &mut WsClient, last: &mut Option<u64>, n: usize, tally: &Tally) {
    for seq in std::mem::take(&mut client.seen) {
        if last.is_some_and(|last| seq != last + 1) {
            // A slow reader is left out of what it can do without, which is no matter of the replacement.
            let what =
                if manner(n) == Manner::Slow { "events skipped for slow readers" } else { "event gaps" };
            tally.fault(what, format!("client {n}: {seq} after {last:?}"));
        }
        *last = Some(seq);
        tally.add("events");
    }
    client.events.clear();
    for _ in 0..client.responses_left() {
        tally.fault("answers twice", format!("client {n}"));
    }
}

/// Connects all the time. A connection that is cut before it was let in is not refused: its client comes again.
pub async fn connect_on(port: u16, tally: Tally, stopped: watch::Receiver<bool>) {
    let mut protocol = 3;
    while !*stopped.borrow() {
        protocol = 7 - protocol;
        match WsClient::try_cli(port, protocol).await {
            Ok(mut client) => {
                tally.add("connects");
                client.close().await;
            }
            Err(error) if error.to_string().contains("refused") => {
                tally.fault("connects refused", error.to_string());
            }
            Err(_) => tally.add("connects cut before hello"),
        }
        pause(Duration::from_millis(20)).await;
    }
}

/// Asks for `health` without a pause: how long nobody is served.
pub async fn measure(port: u16, tally: Tally, stopped: watch::Receiver<bool>) {
    let mut client = WsClient::cli(port, 4).await;
    while !*stopped.borrow() {
        let begin = Instant::now();
        let id = client.send("health", json!({})).await;
        if let Err(closed) = client.response_unless_closed(&id).await {
            tally.fault("closed", format!("the measuring client: {closed:?}"));
            return;
        }
        tally.waited(begin.elapsed());
        client.events.clear();
        client.seen.clear();
        pause(Duration::from_millis(5)).await;
    }
}
