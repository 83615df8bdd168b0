use super::*;
use crate::events::{ChatEventOut, RunEventOut};
use crate::front::outq::Out;
use serde_json::json;

fn setup() -> (Fanout, mpsc::Receiver<Item>) {
    Fanout::new(Presence::new("box", "1", "linux", "boot"))
}

fn join(fanout: &Fanout, id: &str, protocol: u8, scopes: &[&str]) -> Arc<Conn> {
    let caller = Caller {
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        caps: Vec::new(),
        ..Caller::local_operator(id.to_owned(), protocol, "test")
    };
    fanout.join(Arc::new(caller), Arc::new(OutQueue::new(fanout.budget())))
}

fn received(conn: &Conn) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(Some(out)) = futures_util::FutureExt::now_or_never(conn.out.pop()) {
        match out {
            Out::Event(e, seq) => {
                all.push(format!("{} {seq} {}", e.name, String::from_utf8_lossy(&e.payload)));
            }
            Out::Text(_) => all.push("text".into()),
            Out::Close(c) => all.push(format!("close {} {}", c.code, c.reason)),
        }
    }
    all
}

fn tool_event() -> Rendered {
    let run = RunEventOut {
        run_id: "r1".into(),
        session_key: "s1".into(),
        agent_id: "main".into(),
        session_id: None,
        seq: 3,
        ts_ms: 1,
        data: RunData::Tool(json!({ "phase": "start" })),
    };
    Renderer::default().render(GatewayEvent::Run(run), 0, || Value::Null).remove(0)
}

#[test]
fn scopes_audiences_and_protocols_decide_who_hears_what() {
    let (fanout, _source) = setup();
    let reader = join(&fanout, "reader", 4, &[scope::READ]);
    let none = join(&fanout, "none", 4, &[]);
    let old = join(&fanout, "old", 3, &[scope::ADMIN]);
    let pairing = join(&fanout, "pairing", 4, &[scope::PAIRING]);
    let mut renderer = Renderer::default();
    let mut say = |event| renderer.render(event, 5, || json!([])).iter().for_each(|e| fanout.deliver(e));
    say(GatewayEvent::Other { event: "tick", payload: json!({ "ts": 1 }), scope: None });
    say(GatewayEvent::Presence);
    say(GatewayEvent::Other {
        event: "device.pair.requested",
        payload: json!({}),
        scope: Some(scope::PAIRING),
    });
    fanout.follow_sessions("reader", true);
    fanout.follow_sessions("old", true);
    let changed = |key: &str| GatewayEvent::SessionChanged {
        session_key: key.into(),
        agent_id: "main".into(),
        reason: "turn".into(),
        run_id: None,
        row: Value::Null,
    };
    say(changed("s1"));
    let names = |c: &Conn| {
        received(c).iter().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(names(&reader), ["tick 1", "presence 2", "sessions.changed 3"]);
    assert_eq!(names(&none), ["tick 1"]);
    assert_eq!(names(&old), ["tick 1", "presence 2", "device.pair.requested 3"]);
    assert_eq!(names(&pairing), ["tick 1", "device.pair.requested 2"]);
}

#[test]
fn tool_events_go_to_participants_that_can_show_them() {
    let (fanout, _source) = setup();
    let mut capable = Caller::local_operator("a".into(), 4, "test");
    capable.caps = vec!["tool-events".into()];
    let queue = || Arc::new(OutQueue::new(fanout.budget()));
    let a = fanout.join(Arc::new(capable.clone()), queue());
    capable.conn_id = "b".into();
    let b = fanout.join(Arc::new(capable), queue());
    let c = join(&fanout, "c", 4, &[scope::ADMIN]);
    fanout.follow_run("a", "r1", "s0");
    fanout.follow_run("c", "r1", "s1");
    fanout.deliver(&tool_event());
    assert_eq!((received(&a).len(), received(&b).len(), received(&c).len()), (1, 0, 0));
    fanout.follow_run("b", "other", "s1");
    fanout.deliver(&tool_event());
    assert_eq!(received(&b).len(), 1);
}

#[test]
fn the_payload_is_encoded_once_per_protocol() {
    let (fanout, _source) = setup();
    let (a, b) = (join(&fanout, "a", 4, &[scope::ADMIN]), join(&fanout, "b", 4, &[scope::ADMIN]));
    fanout.deliver(
        &Renderer::default().render(GatewayEvent::Health(json!({ "ok": true })), 0, || Value::Null)[0],
    );
    let take = |c: &Conn| match futures_util::FutureExt::now_or_never(c.out.pop()).flatten() {
        Some(Out::Event(e, _)) => e,
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&take(&a), &take(&b)));
}

#[tokio::test]
async fn a_flood_keeps_finals_and_drops_deltas() {
    let (fanout, mut source) = setup();
    let event = |state| {
        GatewayEvent::Chat(ChatEventOut {
            run_id: "r".into(),
            session_key: "s".into(),
            agent_id: "main".into(),
            seq: 1,
            ts_ms: 1,
            state,
        })
    };
    let text: Arc<str> = "t".into();
    for _ in 0..FANOUT_QUEUE_MAX {
        fanout.emit(event(ChatState::Delta {
            message_text: text.clone(),
            run_text: text.clone(),
            delta: text.clone(),
            replace: false,
        }));
    }
    fanout.emit(event(ChatState::Final { text: None, stop_reason: None }));
    let (mut total, mut finals) = (0, 0);
    while let Ok(item) = source.try_recv() {
        total += 1;
        finals += usize::from(
            matches!(item, Item::Event(GatewayEvent::Chat(c)) if matches!(c.state, ChatState::Final { .. })),
        );
    }
    assert_eq!(finals, 1);
    assert!(total <= FANOUT_QUEUE_MAX / 2 + 2);
    assert!(!fanout.0.overrun.load(Ordering::Relaxed));
}

#[tokio::test]
async fn an_overrun_closes_everyone() {
    let (fanout, source) = setup();
    let conn = join(&fanout, "a", 4, &[]);
    for _ in 0..=FANOUT_QUEUE_MAX {
        fanout.emit(GatewayEvent::Other { event: "tick", payload: Value::Null, scope: None });
    }
    let worker = tokio::spawn(run(fanout.clone(), source, Renderer::default(), Lot::default()));
    let first = conn.out.pop().await;
    assert!(matches!(first, Some(Out::Close(c)) if c.code == 1008));
    worker.abort();
}
