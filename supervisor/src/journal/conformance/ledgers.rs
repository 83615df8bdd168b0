//! Session index, cursors, counters, usage, system events, housekeeping.

use super::*;

pub async fn all<S: Store>(make: &impl Fn() -> S) {
    the_index_follows_the_store(make()).await;
    epochs_never_repeat(make()).await;
    usage_adds_up_per_day(make()).await;
    system_events_wait_for_the_next_turn(make()).await;
    housekeeping_forgets_in_order(make()).await;
}

fn session(key: &str, updated_ms: i64, entry: &str) -> SessionRow {
    SessionRow {
        key: key.into(),
        agent_id: "main".into(),
        session_id: format!("id of {key}"),
        updated_ms,
        entry_json: entry.into(),
        ..SessionRow::default()
    }
}

async fn the_index_follows_the_store<S: Store>(store: S) {
    let journal = store.open().await;
    let rows = vec![
        session("agent:main:main", 10, r#"{"displayName":"Ångström","label":"work"}"#),
        session("agent:main:subagent:1", 30, r#"{"spawnedBy":"agent:main:main"}"#),
        SessionRow { agent_id: "sales".into(), ..session("agent:sales:main", 20, "{}") },
    ];
    journal.session_put(rows).await.unwrap();
    let mut older = session("agent:main:main", 5, "{}");
    older.title = Some("late".into());
    journal.session_put(vec![older]).await.unwrap();
    let kept = journal.session_get("agent:main:main".into()).await.unwrap().unwrap();
    assert_eq!((kept.updated_ms, kept.title), (10, None), "an older row changes nothing");
    let mut overtaken = session("agent:main:main", 5, "{}");
    overtaken.title = Some("late".into());
    journal.session_changed(vec![overtaken]).await.unwrap();
    let kept = journal.session_get("agent:main:main".into()).await.unwrap().unwrap();
    assert_eq!((kept.updated_ms, kept.title), (10, None), "overtaken");
    journal.session_put(vec![session("agent:clock:main", 3_600_000, "{}")]).await.unwrap();
    journal.session_put(vec![session("agent:clock:main", 7, "{}")]).await.unwrap();
    let clock = async || journal.session_get("agent:clock:main".into()).await.unwrap().unwrap().updated_ms;
    assert_eq!(clock().await, 3_600_000, "of two files the newer one");
    journal.session_changed(vec![session("agent:clock:main", 8, "{}")]).await.unwrap();
    assert_eq!(clock().await, 8, "the clock was set back");
    assert!(journal.session_delete("agent:clock:main".into()).await.unwrap());
    let keys = async |filter: SessionFilter| {
        let rows = journal.session_list(filter).await.unwrap();
        rows.into_iter().map(|r| r.key).collect::<Vec<_>>()
    };
    let all = ["agent:main:subagent:1", "agent:sales:main", "agent:main:main"];
    assert_eq!(keys(SessionFilter::default()).await, all);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(keys(SessionFilter { agent: some("sales"), ..Default::default() }).await, all[1..2]);
    assert_eq!(keys(SessionFilter { label: some("work"), ..Default::default() }).await, all[2..]);
    assert_eq!(keys(SessionFilter { search: some("åNGST"), ..Default::default() }).await, all[2..]);
    assert_eq!(keys(SessionFilter { spawned_by: some(all[2]), ..Default::default() }).await, all[..1]);
    assert_eq!(keys(SessionFilter { updated_since_ms: Some(20), ..Default::default() }).await, all[..2]);
    assert_eq!(keys(SessionFilter { limit: Some(1), ..Default::default() }).await, all[..1]);
    let counts = journal.session_counts().await.unwrap();
    assert_eq!(counts, [("main".to_owned(), 2), ("sales".to_owned(), 1)]);
    let gone = SessionRow { deleted: true, ..session(all[0], 99, "{}") };
    journal.session_put(vec![gone]).await.unwrap();
    assert!(journal.session_delete(all[1].into()).await.unwrap());
    assert!(!journal.session_delete(all[1].into()).await.unwrap());
    assert_eq!(keys(SessionFilter::default()).await, all[2..]);
}

async fn epochs_never_repeat<S: Store>(store: S) {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let journal = store.open().await;
        for _ in 0..2 {
            seen.push(journal.next_epoch("agent:main".into()).await.unwrap());
        }
        assert_eq!(journal.recover(NOW).await.unwrap().boot, seen.len() as u64 / 2);
        store.crash(journal).await;
    }
    assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    let journal = store.open().await;
    assert_eq!(journal.next_epoch("agent:other".into()).await.unwrap(), 1);
    journal.kv_put("k".into(), Some(b"v".to_vec())).await.unwrap();
    assert_eq!(journal.kv_get("k".into()).await.unwrap().as_deref(), Some(b"v".as_slice()));
    journal.kv_put("k:1".into(), Some(Vec::new())).await.unwrap();
    journal.kv_put("l".into(), Some(Vec::new())).await.unwrap();
    assert_eq!(journal.kv_keys("k".into()).await.unwrap(), ["k", "k:1"]);
    journal.kv_put("k".into(), None).await.unwrap();
    assert_eq!(journal.kv_get("k".into()).await.unwrap(), None);
}

async fn usage_adds_up_per_day<S: Store>(store: S) {
    let journal = store.open().await;
    let delta = |day: &str, model: &str| UsageDelta {
        day: day.into(),
        agent: "main".into(),
        provider: "demo".into(),
        model: model.into(),
        input: 10,
        output: 5,
        cache_read: 2,
        cache_write: 1,
        cost_micros: 7,
    };
    for day in ["2026-11-21", "2026-11-22", "2026-11-22"] {
        journal.usage_add(delta(day, "m")).await.unwrap();
    }
    journal.usage_add(delta("2026-11-22", "n")).await.unwrap();
    let days = journal.usage_list("2026-11-22".into(), "2026-11-22".into()).await.unwrap();
    assert_eq!(days.len(), 2);
    assert_eq!((days[0].turns, days[0].sum.input, days[0].sum.cost_micros), (2, 20, 14));
    assert_eq!(journal.usage_list("2026-01-01".into(), "2026-12-31".into()).await.unwrap().len(), 3);
    // A model's server may claim anything: it must not keep the end of a run from being stored.
    let absurd = UsageDelta {
        input: u64::MAX,
        output: u64::MAX / 2,
        cost_micros: u64::MAX,
        ..delta("2026-11-23", "x")
    };
    for _ in 0..3 {
        journal.usage_add(absurd.clone()).await.unwrap();
    }
    let days = journal.usage_list("2026-11-23".into(), "2026-11-23".into()).await.unwrap();
    assert_eq!((days[0].turns, days[0].sum.input), (3, 3_000_000_000_000_000));
}

async fn system_events_wait_for_the_next_turn<S: Store>(store: S) {
    let journal = store.open().await;
    let push = async |text: &str, key: Option<&str>| {
        journal.system_event_push("s".into(), text.into(), key.map(Into::into), NOW).await.unwrap();
    };
    push("a", None).await;
    push("a", None).await;
    push("model 1", Some("model")).await;
    push("b", None).await;
    push("model 2", Some("model")).await;
    let texts = |events: Vec<SystemEvent>| events.into_iter().map(|e| e.text).collect::<Vec<_>>();
    let start =
        async |n: u8, session: &str| journal.begin_run(new_run(n, session, &[]), 1).await.unwrap().events;
    assert_eq!(texts(start(1, "s").await), ["a", "b", "model 2"]);
    assert!(start(2, "other").await.is_empty());
    journal.finish_run(finish(1, vec![])).await.unwrap();
    for n in 0..SYSTEM_EVENTS_PER_SESSION_MAX + 5 {
        push(&n.to_string(), None).await;
    }
    let kept = texts(start(3, "s").await);
    assert_eq!(
        (kept.len(), kept[0].as_str()),
        (SYSTEM_EVENTS_PER_SESSION_MAX as usize, "5"),
        "the newest stay"
    );
}

async fn housekeeping_forgets_in_order<S: Store>(store: S) {
    const DAY: i64 = 24 * HOUR;
    let journal = store.open().await;
    let done = accept(&journal, "done", "s").await;
    let waiting = accept(&journal, "waiting", "s").await;
    journal.create_run(new_run(1, "s", &[done])).await.unwrap();
    journal.mark_started(id(1), 1, NOW).await.unwrap();
    journal.finish_run(finish(1, vec![out(1, 0, "42", SendClass::A)])).await.unwrap();
    let out_id = Id::derived(&id(1), "part", 0);
    to_wire(&journal, out_id, 1).await;
    journal.settle(out_id, 1, delivered("1"), NOW).await.unwrap();
    assert_eq!(journal.trim(NOW + DAY).await.unwrap(), Trimmed::default());
    let week = journal.trim(NOW + 8 * DAY).await.unwrap();
    assert_eq!((week.bodies, week.outbox, week.inbound), (1, 1, 0));
    assert!(journal.inbound(done).await.unwrap().unwrap().body.is_empty());
    assert!(matches!(journal.accept_inbound(message("done", "s")).await.unwrap(), Accepted::Duplicate(_)));
    let month = journal.trim(NOW + 31 * DAY).await.unwrap();
    assert_eq!((month.inbound, month.runs, month.more), (1, 1, false));
    assert!(journal.inbound(done).await.unwrap().is_none());
    assert!(
        !journal.inbound(waiting).await.unwrap().unwrap().body.is_empty(),
        "what waits is never forgotten"
    );
}
