use super::*;
use crate::wire::FrameDecoder;
use crate::wire::agent::{AbortRun, Delta, DeltaKind, RpcCall, RpcResult, RunStarted};
use crate::wire::id::Id;
use crate::wire::state::{LinkRules, SendRefusal};
use bytes::BytesMut;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn links() -> (LinkHandle, LinkEvents, LinkHandle, LinkEvents) {
    let (a, b) = UnixStream::pair().unwrap();
    let (sup, sup_events) = spawn(a, Side::Supervisor, LinkLimits::supervisor(WorkerKind::Agent));
    let (worker, worker_events) = spawn(b, Side::Worker, LinkLimits::worker(WorkerKind::Agent));
    (sup, sup_events, worker, worker_events)
}

/// The supervisor's end with a raw peer.
fn raw() -> (LinkHandle, LinkEvents, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    let (sup, events) = spawn(a, Side::Supervisor, LinkLimits::supervisor(WorkerKind::Agent));
    (sup, events, b)
}

fn started(detail: &str) -> AgentToSup {
    AgentToSup::RunStarted(RunStarted {
        run_id: Id([1; 16]),
        attempt: 1,
        session_id: detail.into(),
        started_ms: 5,
    })
}

fn call(method: &str) -> SupToAgent {
    SupToAgent::Rpc(RpcCall { method: method.into(), params_json: "{}".into(), protocol: 4, client: None })
}

async fn next(events: &mut LinkEvents) -> LinkEvent {
    tokio::time::timeout(Duration::from_secs(10), events.recv())
        .await
        .expect("an event in time")
        .expect("not ended")
}

#[tokio::test]
async fn messages_arrive_in_order_and_the_end_is_told_last() {
    let (_sup, mut sup_events, worker, worker_events) = links();
    for n in 0..3000 {
        worker.send(&started(&n.to_string())).await.unwrap();
        if n % 500 == 499 {
            for k in n - 499..=n {
                let LinkEvent::Message { code, payload, .. } = next(&mut sup_events).await else { panic!() };
                assert_eq!(AgentToSup::decode(code, &payload).unwrap(), started(&k.to_string()));
            }
        }
    }
    worker.try_send(&started("last")).unwrap();
    worker.flush().await;
    drop(worker_events);
    assert!(matches!(next(&mut sup_events).await, LinkEvent::Message { .. }));
    let end = next(&mut sup_events).await;
    assert_eq!(end, LinkEvent::Closed { why: CloseReason::PeerGone { unfinished_bytes: 0 } });
    assert_eq!(sup_events.recv().await, None);
}

#[tokio::test]
async fn requests_are_answered_refused_cancelled_and_timed_out() {
    let (sup, _sup_events, worker, mut worker_events) = links();
    let serve = tokio::spawn(async move {
        while let Some(event) = worker_events.recv().await {
            let LinkEvent::Message { code, corr, payload, .. } = event else { continue };
            let SupToAgent::Rpc(rpc) = SupToAgent::decode(code, &payload).unwrap() else { panic!() };
            let result = match rpc.method.as_str() {
                "big" => "x".repeat(3_000_000),
                "bad" => {
                    worker.reply_error(corr, WireError::invalid("no")).unwrap();
                    continue;
                }
                "silent" => continue,
                other => other.to_owned(),
            };
            let message = AgentToSup::RpcResult(RpcResult { ok_json: Some(result), error: None });
            worker.reply_when_room(corr, &message).await.unwrap();
        }
    });
    let ask = async |method: &str, deadline_ms| sup.request(&call(method), deadline_ms).await;
    let (code, payload) = ask("echo", 10_000).await.unwrap();
    assert!(matches!(AgentToSup::decode(code, &payload).unwrap(), AgentToSup::RpcResult(_)));
    let (code, payload) = ask("big", 10_000).await.unwrap();
    let AgentToSup::RpcResult(result) = AgentToSup::decode(code, &payload).unwrap() else { panic!() };
    assert_eq!(result.ok_json.unwrap().len(), 3_000_000);
    assert_eq!(ask("bad", 10_000).await, Err(RequestError::Refused(WireError::invalid("no"))));
    assert_eq!(ask("silent", 100).await, Err(RequestError::TimedOut));
    let pending = sup.start_request(&call("silent"), 60_000).unwrap();
    sup.cancel(pending.corr());
    let outcome = pending.answer().await;
    assert!(
        matches!(&outcome, Err(RequestError::Refused(e)) if e.code == "CANCELLED")
            || outcome == Err(RequestError::Cancelled)
    );
    let waits = sup.start_request(&call("silent"), 60_000).unwrap();
    sup.close();
    assert_eq!(waits.answer().await, Err(RequestError::Closed));
    serve.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_never_blocks_the_supervisor() {
    let (sup, _events, peer) = raw();
    let big = call(&"x".repeat(500_000));
    let begin = Instant::now();
    let mut taken = 0;
    let refusal = loop {
        match sup.try_send(&big) {
            Ok(()) => taken += 1,
            Err(refusal) => break refusal,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refusal, SendRefusal::Full);
    assert!(taken <= 9, "window on the wire and window in the queue, got {taken}");
    assert!(sup.buffered_bytes() <= 2 * 1024 * 1024);
    assert!(begin.elapsed() < Duration::from_secs(5));
    drop(peer);
}

#[tokio::test]
async fn a_producer_waits_for_a_consumer_that_does_not_take() {
    let (_sup, mut sup_events, worker, _worker_events) = links();
    let big = started(&"x".repeat(400_000));
    let producer = tokio::spawn(async move {
        for _ in 0..40 {
            worker.send(&big).await.unwrap();
        }
        worker
    });
    // The producer can finish only when the consumer takes: both windows together hold less than half of it.
    let mut count = 0;
    while count < 40 {
        if let LinkEvent::Message { .. } = next(&mut sup_events).await {
            count += 1;
        }
    }
    let worker = tokio::time::timeout(Duration::from_secs(10), producer).await.unwrap().unwrap();
    worker.flush().await;
    assert_eq!(worker.buffered_bytes(), 0);
}

#[tokio::test]
async fn streamed_text_is_merged_and_complete() {
    let (_sup, mut sup_events, worker, worker_events) = links();
    let mut sent = String::new();
    for n in 0..20_000 {
        let text = format!("{n} ");
        sent.push_str(&text);
        let kind = DeltaKind::Text;
        let delta = Delta { run_id: Id([1; 16]), attempt: 1, message: 0, kind, text };
        worker.send_lossy(AgentToSup::Delta(delta)).unwrap();
    }
    worker.flush().await;
    drop(worker_events);
    let (mut got, mut frames) = (String::new(), 0);
    while let LinkEvent::Message { code, payload, .. } = next(&mut sup_events).await {
        let AgentToSup::Delta(delta) = AgentToSup::decode(code, &payload).unwrap() else { panic!() };
        got.push_str(&delta.text);
        frames += 1;
    }
    assert_eq!(got, sent);
    assert!(frames < 2_000, "{frames} frames");
}

#[tokio::test]
async fn a_worker_answers_pings_by_itself() {
    let (a, b) = UnixStream::pair().unwrap();
    let limits = LinkLimits { heartbeat_ms: Some((1, 30_000)), ..LinkLimits::supervisor(WorkerKind::Agent) };
    let (sup, _sup_events) = spawn(a, Side::Supervisor, limits);
    let (worker, _worker_events) = spawn(b, Side::Worker, LinkLimits::worker(WorkerKind::Agent));
    worker.vitals().set_inflight(3);
    let wait = async {
        loop {
            if let Some((pong, _)) = sup.last_pong() {
                return pong;
            }
            tokio::task::yield_now().await;
        }
    };
    let pong = tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    assert_eq!(pong.inflight, 3);
    assert!(pong.rss_kb > 0);
}

#[tokio::test]
async fn a_silent_peer_becomes_suspect_and_hung() {
    let (a, _b) = UnixStream::pair().unwrap();
    let limits = LinkLimits { heartbeat_ms: Some((1, 4_500)), ..LinkLimits::supervisor(WorkerKind::Agent) };
    let (_sup, mut events) = spawn(a, Side::Supervisor, limits);
    assert_eq!(next(&mut events).await, LinkEvent::Suspect);
    assert_eq!(next(&mut events).await, LinkEvent::Hung);
}

async fn closed_by(bytes: &[u8], then_close: bool) -> CloseReason {
    let (_sup, mut events, mut peer) = raw();
    for byte in bytes.chunks(7) {
        // The link may close before everything is written.
        let _ = peer.write_all(byte).await;
    }
    if then_close {
        drop(peer);
        return until_closed(&mut events).await;
    }
    let why = until_closed(&mut events).await;
    drop(peer);
    why
}

async fn until_closed(events: &mut LinkEvents) -> CloseReason {
    loop {
        if let LinkEvent::Closed { why } = next(events).await {
            return why;
        }
    }
}

fn frame(message: &AgentToSup, corr: u64) -> Vec<u8> {
    let mut out = BytesMut::new();
    let Outgoing { code, class, flags, payload } = Outgoing::of(message);
    crate::wire::Frame { code, class, flags, corr, payload }.encode(&mut out).unwrap();
    out.to_vec()
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_cut_off() {
    assert!(matches!(closed_by(&[255, 255, 255, 127, 0], false).await, CloseReason::Frame(_)));
    let foreign = call("x");
    let mut out = BytesMut::new();
    let Outgoing { code, class, flags, payload } = Outgoing::of(&foreign);
    crate::wire::Frame { code, class, flags, corr: 0, payload }.encode(&mut out).unwrap();
    let why = closed_by(&out, false).await;
    assert!(matches!(why, CloseReason::Violation(Violation::WrongDirection { .. })), "{why:?}");
    let replay = [frame(&started("a"), 2), frame(&started("b"), 2)].concat();
    assert!(matches!(
        closed_by(&replay, false).await,
        CloseReason::Violation(Violation::ReplayedCorr { corr: 2 })
    ));
    let whole = frame(&started("a"), 0);
    let why = closed_by(&whole[..whole.len() / 2], true).await;
    assert_eq!(why, CloseReason::PeerGone { unfinished_bytes: whole.len() / 2 });
}

#[tokio::test]
async fn closing_writes_what_is_queued_as_whole_frames() {
    let (sup, _events, mut peer) = raw();
    for n in 0..20 {
        let abort = AbortRun { run_id: Id([n; 16]), why: "rpc".into() };
        sup.try_send(&SupToAgent::AbortRun(abort)).unwrap();
    }
    sup.close();
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).await.unwrap();
    let mut decoder = FrameDecoder::default();
    decoder.feed(&bytes);
    let mut count = 0;
    while decoder.next_frame().unwrap().is_some() {
        count += 1;
    }
    assert_eq!((count, decoder.unfinished_bytes()), (20, 0));
    assert_eq!(LinkRules::default().part_bytes, 256 * 1024);
}

/// The supervisor's end is frozen between two bytes of a frame and thawed as another image would: nothing is lost, nothing
/// comes twice, and no answer is owed for ever.
#[tokio::test]
async fn a_frozen_link_goes_on_where_it_stopped() {
    let (sup, mut events, mut peer) = raw();
    let mut bytes = BytesMut::new();
    for n in 1..=3 {
        let message = Outgoing::of(&started(&n.to_string()));
        let corr = if n == 2 { 8 } else { 0 };
        let frame = crate::wire::Frame {
            code: message.code,
            class: message.class,
            flags: message.flags,
            corr,
            payload: message.payload,
        };
        frame.encode(&mut bytes).unwrap();
    }
    let cut = bytes.len() - 5;
    peer.write_all(&bytes[..cut]).await.unwrap();
    assert!(matches!(next(&mut events).await, LinkEvent::Message { corr: 0, .. }));
    assert!(matches!(next(&mut events).await, LinkEvent::Message { corr: 8, .. }), "taken, not answered");
    sup.try_send(&call("first")).unwrap();
    sup.flush().await;
    sup.pause().unwrap();
    sup.try_send(&call("second")).unwrap();
    let frozen = sup.freeze().await.expect("a live link");
    assert!(sup.try_send(&call("lost")).is_err(), "nobody drives it any more");
    let state: CarriedLink =
        crate::wire::decode_payload(0, &crate::wire::encode_payload(&frozen.state)).unwrap();
    assert_eq!(state, frozen.state);
    drop((sup, events));

    let limits = LinkLimits::supervisor(WorkerKind::Agent);
    let (sup, mut events) = thaw(frozen.socket, Side::Supervisor, limits, state).unwrap();
    peer.write_all(&bytes[cut..]).await.unwrap();
    let LinkEvent::Message { code, payload, .. } = next(&mut events).await else { panic!() };
    assert_eq!(AgentToSup::decode(code, &payload).unwrap(), started("3"));
    sup.resume().unwrap();
    let (mut decoder, mut calls, mut refused) = (FrameDecoder::default(), Vec::new(), Vec::new());
    while calls.len() < 2 || refused.is_empty() {
        let read = tokio::time::timeout(Duration::from_secs(10), peer.read_buf(decoder.room())).await;
        assert!(read.expect("in time").unwrap() > 0);
        while let Some(frame) = decoder.next_frame().unwrap() {
            match SupToAgent::decode(frame.code, &frame.payload) {
                Ok(SupToAgent::Rpc(call)) => calls.push(call.method),
                _ if frame.flags.has(Flags::ERROR) => refused.push(frame.corr),
                _ => {}
            }
        }
    }
    assert_eq!((calls, refused), (vec!["first".to_owned(), "second".to_owned()], vec![8]));
}
