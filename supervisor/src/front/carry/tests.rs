//! Two fronts in one process: what the first leaves is all that the second knows.

use super::*;
use crate::events::{ChatEventOut, ChatState};
use crate::front::accept::tests::{Client as Socket, Running, any, hello, next, say};
use crate::front::limits::REQUESTS_OUTSTANDING_MAX;
use crate::scheduler::{Command, RunOutcome, RunProgress, SubmitStatus, Submitted};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};

type Core = mpsc::Receiver<Command>;

fn config() -> Value {
    json!({ "gateway": { "auth": { "token": "tok" } } })
}

fn tick(gw: &Handles, n: u64) {
    let payload = json!({ "n": n });
    gw.front.fanout.emit(GatewayEvent::Other { event: "tick", payload, scope: None });
}

/// Freezes the front, turns its state into bytes and back, and starts another one.
async fn over(old: Running, config: &Value) -> (Running, Core) {
    over_while(old, config, || {}).await
}

/// The same; `held` is done when the first front reads nothing any more.
async fn over_while(old: Running, config: &Value, held: impl FnOnce() + Send + 'static) -> (Running, Core) {
    let (listeners, fds, state) = tokio::task::spawn_blocking(move || {
        let (frozen, _dir) = old.freeze(held);
        (frozen.listeners, frozen.fds, frozen.state)
    })
    .await
    .unwrap();
    let state = serde_json::from_slice(&serde_json::to_vec(&state).unwrap()).unwrap();
    Running::resumed(config, listeners, Some((fds, state)))
}

/// What a client is told next, the state of health left out; checks that no event is missing in between.
struct Listener {
    socket: Socket,
    seq: Option<u64>,
}

impl Listener {
    async fn new(running: &Running, protocol: u8) -> Self {
        Self { socket: hello(running, protocol).await.0, seq: None }
    }

    async fn next(&mut self) -> String {
        loop {
            let text = any(&mut self.socket).await;
            if let Some(seq) = serde_json::from_str::<Value>(&text).ok().and_then(|v| v["seq"].as_u64()) {
                assert_eq!(seq, self.seq.map_or(seq, |last| last + 1), "{text}");
                self.seq = Some(seq);
            }
            if !text.contains(r#""event":"health""#) {
                return text;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_requests_go_on_as_if_nothing_had_happened() {
    let (old, _core) = Running::with_scheduler(&config());
    let (mut v4, mut v3) = (Listener::new(&old, 4).await, Listener::new(&old, 3).await);
    say(&mut v4.socket, r#"{"type":"req","id":"s","method":"sessions.subscribe"}"#).await;
    assert!(v4.next().await.contains(r#""subscribed":true"#));
    tick(&old.gw, 1);
    assert!(v4.next().await.contains(r#""n":1"#) && v3.next().await.contains(r#""n":1"#));
    // half of a frame stays in the carried bytes
    let whole = masked(br#"{"type":"req","id":"half","method":"health"}"#);
    let (early, late) = whole.split_at(20);
    v4.socket.get_mut().write_all(early).await.unwrap();
    let (new, _core) = over(old, &config()).await;
    v4.socket.get_mut().write_all(late).await.unwrap();
    assert!(v4.next().await.contains(r#""id":"half","ok":true"#));
    tick(&new.gw, 2);
    assert!(v4.next().await.contains(r#""n":2"#) && v3.next().await.contains(r#""n":2"#));
    new.gw.front.fanout.emit(GatewayEvent::SessionChanged {
        session_key: "s".into(),
        agent_id: "main".into(),
        reason: "turn".into(),
        run_id: None,
        row: Value::Null,
    });
    assert!(v4.next().await.contains("sessions.changed"), "the subscription is carried");
    assert_eq!(new.gw.front.slots.counts(), (2, 0));
    drop((v3, v4));
    new.stop().await;
}

fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend(payload);
    frame
}

/// Plays the core until the run is followed: accepts what is submitted.
async fn follow(core: &mut Core, progress: &watch::Sender<RunProgress>) -> &'static str {
    match core.recv().await.unwrap() {
        Command::Submit(request, reply) => {
            let run_id = request.idempotency_key;
            let status = SubmitStatus::Started;
            let accepted = Submitted { run_id, status, accepted_ms: 5, progress: progress.subscribe() };
            reply.send(Ok(accepted)).unwrap();
            "submit"
        }
        Command::Follow(_, reply) => {
            reply.send(Some(progress.subscribe())).unwrap();
            "follow"
        }
        _ => panic!("another command"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_were_owed_come_from_the_new_front() {
    let (old, mut core) = Running::with_scheduler(&config());
    let (mut client, _) = hello(&old, 4).await;
    let progress = watch::Sender::new(RunProgress::default());
    say(
        &mut client,
        r#"{"type":"req","id":"a","method":"agent","params":{"message":"hi","idempotencyKey":"k"}}"#,
    )
    .await;
    assert_eq!(follow(&mut core, &progress).await, "submit");
    assert!(next(&mut client).await.contains(r#""status":"accepted""#));
    say(
        &mut client,
        r#"{"type":"req","id":"w","method":"agent.wait","params":{"runId":"k","timeoutMs":60000}}"#,
    )
    .await;
    assert_eq!(follow(&mut core, &progress).await, "follow");
    let (new, mut core) = over(old, &config()).await;
    assert_eq!(follow(&mut core, &progress).await, "follow");
    assert_eq!(follow(&mut core, &progress).await, "follow");
    let outcome = RunOutcome { payloads: vec!["done".into()], ..RunOutcome::default() };
    progress.send_modify(|progress| progress.outcome = Some(Arc::new(outcome)));
    let mut answers = [next(&mut client).await, next(&mut client).await];
    answers.sort();
    assert!(answers[0].contains(r#""id":"a","ok":true"#) && answers[0].contains("done"), "{answers:?}");
    assert!(
        answers[1].contains(r#""id":"w","ok":true"#) && answers[1].contains(r#""status":"ok""#),
        "{answers:?}"
    );
    assert_eq!(REQUESTS_OUTSTANDING_MAX, 64);
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_gets_what_was_queued_in_order_and_a_throttled_delta_is_not_lost() {
    let (old, _core) = Running::with_scheduler(&config());
    let mut client = Listener::new(&old, 3).await;
    // below the mark from which on deltas are left out, above what the kernel takes
    let large = "x".repeat(30_000);
    for n in 0..40 {
        let payload = json!({ "n": n, "pad": large });
        old.gw.front.fanout.emit(GatewayEvent::Other { event: "cron", payload, scope: None });
    }
    for text in ["a", "ab"] {
        old.gw.front.fanout.emit(GatewayEvent::Chat(ChatEventOut {
            run_id: "r".into(),
            session_key: "s".into(),
            agent_id: "main".into(),
            seq: 1,
            ts_ms: 1,
            state: ChatState::Delta {
                message_text: text.into(),
                run_text: text.into(),
                delta: text.into(),
                replace: false,
            },
        }));
    }
    let (new, _core) = over(old, &config()).await;
    tick(&new.gw, 9);
    for n in 0..40 {
        assert!(client.next().await.contains(&format!(r#""n":{n},"#)));
    }
    assert!(client.next().await.contains(r#""text":"a""#));
    assert!(client.next().await.contains(r#""text":"ab""#));
    assert!(client.next().await.contains(r#""event":"tick""#));
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_be_carried_is_told_and_closed() {
    let other = json!({ "gateway": { "auth": { "token": "another" } } });
    let off = json!({ "gateway": { "auth": { "token": "tok" }, "restart": { "keepSockets": false } } });
    for (before, after) in [(config(), other), (off.clone(), off)] {
        let (old, _core) = Running::with_scheduler(&before);
        let (mut client, _) = hello(&old, 4).await;
        tick(&old.gw, 1);
        let (new, _core) = over(old, &after).await;
        assert!(next(&mut client).await.contains(r#""event":"tick""#));
        let farewell = next(&mut client).await;
        assert!(farewell.contains(r#""event":"shutdown""#) && farewell.contains("1500"), "{farewell}");
        assert_eq!(next(&mut client).await, "close 1012 service restart");
        drop(client);
        new.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_said_nothing_are_served_by_the_new_front() {
    let (old, _core) = Running::with_scheduler(&config());
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", old.port)).await.unwrap();
    let port = old.port;
    let (new, _core) = over(old, &config()).await;
    let url = format!("ws://127.0.0.1:{port}/");
    let (mut client, _): (Socket, _) = tokio_tungstenite::client_async(url, silent).await.unwrap();
    assert!(next(&mut client).await.contains("connect.challenge"));
    drop(client);
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_first_while_nothing_is_read_is_answered_by_the_new_front() {
    use std::io::{Read as _, Write as _};
    let (old, _core) = Running::with_scheduler(&config());
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", old.port)).unwrap();
    // an answer on a second connection: the first was accepted before it
    assert!(
        old.http("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .await
            .contains("200")
    );
    let mut speaks = socket.try_clone().unwrap();
    let held = move || {
        speaks.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    };
    let (new, _core) = over_while(old, &config(), held).await;
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).map(|_| answer)
    });
    assert!(answer.await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
    new.stop().await;
}
