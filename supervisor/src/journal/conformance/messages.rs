//! Acceptance, claims, runs, recovery.

use super::*;
use crate::journal::run::state::{Verdict, verdict};

pub async fn all<S: Store>(make: &impl Fn() -> S) {
    a_message_is_accepted_once(make()).await;
    the_rpc_key_alone_decides(make()).await;
    a_message_may_start_its_run_at_once(make()).await;
    a_run_claims_and_ends_with_everything_at_once(make()).await;
    one_run_per_session_is_started(make()).await;
    a_cancelled_run_gives_its_messages_back(make()).await;
    kills_lose_nothing_and_recovery_is_idempotent(make()).await;
    only_own_crashes_poison(make()).await;
    a_note_is_stored_with_its_message(make()).await;
    what_is_not_read_is_kept(make()).await;
    a_refused_step_spoils_nobody_else(make()).await;
    a_thousand_at_once(make()).await;
}

async fn a_message_is_accepted_once<S: Store>(store: S) {
    let journal = store.open().await;
    let mut first = message("1", "s");
    first.cursor =
        Some(CursorUpdate { account: "telegram:main".into(), scope: String::new(), value: "1".into() });
    let Accepted::New { seq } = journal.accept_inbound(first.clone()).await.unwrap() else { panic!("new") };
    // The scheduler is given the row without reading it back.
    assert_eq!(journal.inbound(seq).await.unwrap(), Some(first.inbound.clone().queued_as(seq)));
    store.crash(journal).await;

    let journal = store.open().await;
    first.cursor =
        Some(CursorUpdate { account: "telegram:main".into(), scope: String::new(), value: "2".into() });
    first.inbound.body = b"edited".to_vec();
    let Accepted::Duplicate(row) = journal.accept_inbound(first).await.unwrap() else { panic!("duplicate") };
    assert_eq!((row.seq, row.body.as_slice(), row.state), (seq, b"1".as_slice(), InboundState::Queued));
    let cursor = journal.cursor_get("telegram:main".into(), String::new()).await.unwrap();
    assert_eq!(cursor.as_deref(), Some("2"), "a redelivery moves the position too");
    let mut other = message("1", "s");
    other.inbound.account = "telegram:second".into();
    assert!(matches!(journal.accept_inbound(other).await.unwrap(), Accepted::New { .. }));
    assert_eq!(journal.open_inbound(Some("s".into())).await.unwrap().len(), 2);

    let mut blocked = message("2", "s");
    blocked.inbound.disposition = Disposition::Suppress;
    journal.accept_inbound(blocked.clone()).await.unwrap();
    assert!(matches!(journal.accept_inbound(blocked).await.unwrap(), Accepted::Duplicate(_)));
    assert_eq!(journal.open_inbound(None).await.unwrap().len(), 2, "suppressed ones do not wait");
}

async fn a_note_is_stored_with_its_message<S: Store>(store: S) {
    let journal = store.open().await;
    let mut asks = message("1", "s");
    asks.notes = vec![out(0, 0, "42", SendClass::C)];
    assert!(!journal.knows_inbound("telegram:main".into(), "1".into()).await.unwrap());
    journal.accept_inbound(asks.clone()).await.unwrap();
    store.crash(journal).await;

    let journal = store.open().await;
    assert!(journal.knows_inbound("telegram:main".into(), "1".into()).await.unwrap());
    let due = || journal.due_outbox("telegram:main".into(), NOW + SECOND, 8);
    assert_eq!(due().await.unwrap().len(), 1);
    asks.notes = vec![out(0, 1, "42", SendClass::C)];
    journal.accept_inbound(asks).await.unwrap();
    assert_eq!(due().await.unwrap().len(), 1, "one that comes again brings no second note");
}

async fn a_message_may_start_its_run_at_once<S: Store>(store: S) {
    let journal = store.open().await;
    let new = message("1", "s");
    let run = |n, session: &'static str| move |seq| new_run(n, session, &[seq]);
    let (accepted, start) = journal.accept_and_begin(new.clone(), run(1, "s"), 7).await.unwrap();
    let Accepted::New { seq } = accepted else { panic!("new") };
    assert_eq!(start.map(|start| start.attempt), Some(1));
    store.crash(journal).await;

    let journal = store.open().await;
    let recovered = journal.recover(NOW).await.unwrap();
    assert_eq!(recovered.interrupted.iter().map(|run| run.run_id).collect::<Vec<_>>(), [id(1)]);
    assert_eq!(journal.inbound_of_run(id(1)).await.unwrap()[0].seq, seq);
    let again = journal.accept_and_begin(new, run(2, "s"), 7).await.unwrap();
    assert!(matches!(again, (Accepted::Duplicate(_), None)), "{again:?}");
    // A session that is busy after all: neither the message nor the run is there.
    journal.begin_run(new_run(3, "t", &[]), 7).await.unwrap();
    let busy = journal.accept_and_begin(message("2", "t"), run(4, "t"), 7).await.unwrap_err();
    assert!(matches!(busy, JournalError::SessionBusy { .. }), "{busy}");
    assert!(journal.open_inbound(Some("t".into())).await.unwrap().is_empty());
    assert!(journal.run(id(4)).await.unwrap().is_none());
}

async fn the_rpc_key_alone_decides<S: Store>(store: S) {
    let journal = store.open().await;
    let with_key = |ext: &str, key: &str, now_us| {
        let mut accept = message(ext, "s");
        accept.dedupe = Some(DedupeClaim {
            method: "chat.send".into(),
            key: key.into(),
            req_hash: Some([1; 32]),
            now_us,
        });
        accept
    };
    let Accepted::New { seq } = journal.accept_inbound(with_key("a", "k", NOW)).await.unwrap() else {
        panic!()
    };
    let again = journal.accept_inbound(with_key("b", "k", NOW + SECOND)).await.unwrap();
    let Accepted::Replayed(row) = again else { panic!("{again:?}") };
    assert_eq!((row.inbound_seq, row.res.clone(), row.req_hash), (Some(seq), None, Some([1; 32])));
    journal.dedupe_put("chat.send".into(), "k".into(), b"answer".to_vec()).await.unwrap();
    store.crash(journal).await;

    let journal = store.open().await;
    let row = journal.dedupe_get("chat.send".into(), "k".into(), NOW).await.unwrap().unwrap();
    assert_eq!(row.res.as_deref(), Some(b"answer".as_slice()));
    journal.dedupe_release("chat.send".into(), "k".into()).await.unwrap();
    assert!(
        journal.dedupe_get("chat.send".into(), "k".into(), NOW).await.unwrap().is_some(),
        "answered keys stay"
    );
    assert!(journal.dedupe_get("agent".into(), "k".into(), NOW).await.unwrap().is_none(), "per method");
    let late = journal.accept_inbound(with_key("c", "k", NOW + DEDUPE_TTL_US)).await.unwrap();
    assert!(matches!(late, Accepted::New { .. }), "forgotten after 24 h");
    let open = journal.open_inbound(None).await.unwrap();
    assert_eq!(open.iter().map(|r| r.ext_id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
}

async fn a_run_claims_and_ends_with_everything_at_once<S: Store>(store: S) {
    let journal = store.open().await;
    let (one, two) = (accept(&journal, "1", "s").await, accept(&journal, "2", "s").await);
    let steered = accept(&journal, "3", "s").await;
    journal.create_run(new_run(1, "s", &[one, two])).await.unwrap();
    journal.create_run(new_run(1, "s", &[one, two])).await.unwrap();
    assert_eq!(journal.open_inbound(None).await.unwrap().len(), 1);
    journal.system_event_push("s".into(), "woke up".into(), None, NOW).await.unwrap();
    let first = journal.mark_started(id(1), 4, NOW).await.unwrap();
    assert_eq!((first.attempt, first.interruptions, first.events.len()), (1, 0, 1));
    journal.interrupt(id(1), InterruptCause::Stop, NOW).await.unwrap();
    let second = journal.mark_started(id(1), 5, NOW).await.unwrap();
    assert_eq!((second.attempt, second.interruptions), (2, 1));
    assert_eq!(second.events, first.events, "same for the same run");
    journal.claim_more(id(1), vec![steered]).await.unwrap();

    let mut end = finish(1, vec![out(1, 0, "42", SendClass::A), out(1, 1, "42", SendClass::A)]);
    end.session =
        Some(SessionRow { key: "s".into(), updated_ms: 5, entry_json: "{}".into(), ..Default::default() });
    end.usage = Some(UsageDelta { day: "2026-11-22".into(), output: 3, ..Default::default() });
    let finished = journal.finish_run(end.clone()).await.unwrap();
    assert_eq!((finished.inserted.len(), finished.already, finished.state), (2, false, RunState::Final));
    store.crash(journal).await;

    let journal = store.open().await;
    let again = journal.finish_run(end).await.unwrap();
    assert_eq!((again.inserted.len(), again.already), (0, true));
    assert_eq!(journal.outbox_of_run(id(1)).await.unwrap().len(), 2);
    assert!(journal.inbound_of_run(id(1)).await.unwrap().iter().all(|row| row.state == InboundState::Done));
    assert_eq!(journal.usage_list("2026-11-01".into(), "2026-11-30".into()).await.unwrap()[0].turns, 1);
    assert!(journal.session_get("s".into()).await.unwrap().is_some());
    let next = journal.begin_run(new_run(2, "s", &[]), 6).await.unwrap();
    assert_eq!((next.attempt, next.events.len(), next.parts.len()), (1, 0, 0), "told once");
    for part in 0..2 {
        let out_id = Id::derived(&id(1), "part", part);
        to_wire(&journal, out_id, 1).await;
        journal.settle(out_id, 1, delivered("9"), NOW).await.unwrap();
    }
    let run = journal.run_by_client_id("client-1".into()).await.unwrap().unwrap();
    assert_eq!((run.state, run.outcome.as_deref()), (RunState::Closed, Some(b"outcome".as_slice())));
    assert_eq!(run.times.active_us, SECOND);
}

async fn one_run_per_session_is_started<S: Store>(store: S) {
    let journal = store.open().await;
    for n in 1..=3 {
        let session = if n == 3 { "other" } else { "s" };
        journal.create_run(new_run(n, session, &[])).await.unwrap();
    }
    journal.mark_started(id(1), 1, NOW).await.unwrap();
    let busy = journal.mark_started(id(2), 1, NOW).await.unwrap_err();
    assert_eq!(busy, JournalError::SessionBusy { session_key: "s".into() });
    journal.mark_started(id(3), 1, NOW).await.unwrap();
    journal.interrupt(id(1), InterruptCause::Stop, NOW).await.unwrap();
    journal.mark_started(id(2), 1, NOW).await.unwrap();
    assert!(journal.mark_started(id(1), 1, NOW).await.is_err());
    journal.finish_run(finish(2, vec![])).await.unwrap();
    assert_eq!(journal.mark_started(id(1), 2, NOW).await.unwrap().attempt, 2, "the second attempt");
    let busy = journal.begin_run(new_run(4, "s", &[]), 1).await.unwrap_err();
    assert_eq!(busy, JournalError::SessionBusy { session_key: "s".into() });
    assert!(journal.run(id(4)).await.unwrap().is_none(), "claim and start are one step");
    assert_eq!(journal.open_runs(Some("main".into())).await.unwrap().len(), 2);
    assert!(journal.open_runs(Some("nobody".into())).await.unwrap().is_empty());
    assert!(matches!(journal.mark_started(id(9), 1, NOW).await, Err(JournalError::NoSuch { .. })));
}

async fn a_cancelled_run_gives_its_messages_back<S: Store>(store: S) {
    let journal = store.open().await;
    let seq = accept(&journal, "1", "s").await;
    journal.create_run(new_run(1, "s", &[seq])).await.unwrap();
    journal.system_event_push("s".into(), "e".into(), None, NOW).await.unwrap();
    assert_eq!(journal.mark_started(id(1), 1, NOW).await.unwrap().events.len(), 1);
    let end = FinishRun { state: RunState::Cancelled, inbound: InboundEnd::Requeue, ..finish(1, vec![]) };
    journal.finish_run(end).await.unwrap();
    let waiting = journal.open_inbound(Some("s".into())).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].seq, waiting[0].run_id), (1, seq, None));
    assert_eq!(journal.begin_run(new_run(3, "s", &[]), 1).await.unwrap().events.len(), 1);
    journal.suppress(vec![seq]).await.unwrap();
    journal.suppress(vec![seq]).await.unwrap();
    assert!(journal.create_run(new_run(2, "s", &[seq])).await.is_err(), "suppressed messages are not run");
    assert!(journal.run(id(2)).await.unwrap().is_none(), "a refused step leaves nothing behind");
}

async fn kills_lose_nothing_and_recovery_is_idempotent<S: Store>(store: S) {
    let journal = store.open().await;
    let seq = accept(&journal, "1", "a").await;
    accept(&journal, "2", "waits").await;
    journal.create_run(new_run(1, "a", &[seq])).await.unwrap();
    journal.mark_started(id(1), 1, NOW).await.unwrap();
    journal.create_run(new_run(2, "b", &[])).await.unwrap();
    let old = NewRun { created_us: NOW - 2 * HOUR, ..new_run(3, "c", &[]) };
    journal.create_run(old).await.unwrap();
    journal.mark_started(id(3), 1, NOW - 2 * HOUR).await.unwrap();
    journal
        .add_outbox((0..4).map(|n| out(0, n, &format!("chat {n}"), SendClass::C)).collect())
        .await
        .unwrap();
    let out_id = |n| Id::derived(&id(0), "part", n);
    journal.lease(out_id(0), 1, OnUnknown::Resend, NOW).await.unwrap();
    to_wire(&journal, out_id(1), 1).await;
    journal.lease(out_id(2), 1, OnUnknown::Resend, NOW).await.unwrap();
    journal.wire(out_id(2), 1, WireKind::Placeholder).await.unwrap();
    store.crash(journal).await;

    let journal = store.open().await;
    let found = journal.recover(NOW + SECOND).await.unwrap();
    assert!(!found.clean);
    assert_eq!((found.released, found.maybe_dup, found.reconcile.len()), (3, 1, 0));
    let ids = |rows: &[RunRow]| rows.iter().map(|r| r.run_id).collect::<Vec<_>>();
    assert_eq!(ids(&found.interrupted), [id(1)]);
    assert_eq!(ids(&found.pending), [id(2)]);
    assert_eq!(ids(&found.abandoned), [id(3)]);
    assert_eq!(found.interrupted[0].counts, RunCounts { attempt: 1, crashes: 0, interruptions: 1 });
    assert_eq!(found.queued_sessions, ["waits"]);
    let again = journal.recover(NOW + SECOND).await.unwrap();
    assert_eq!(again, Recovered { released: 0, maybe_dup: 0, ..found });
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.maybe_dup, stats.orphan_placeholders, stats.outbox_open), (1, 1, 4));
    journal.close().await.unwrap();
    assert_eq!(journal.stats().await.unwrap_err(), JournalError::Closed);
    assert!(store.open().await.recover(NOW + SECOND).await.unwrap().clean);
}

async fn only_own_crashes_poison<S: Store>(store: S) {
    let journal = store.open().await;
    let seq = accept(&journal, "1", "s").await;
    journal.create_run(new_run(1, "s", &[seq])).await.unwrap();
    let causes = [InterruptCause::Outside; 9].into_iter().chain([InterruptCause::SelfInflicted; 3]);
    let mut last = None;
    for cause in causes {
        if let Some(row) = &last {
            let row: &RunRow = row;
            assert_eq!(verdict(row.counts, row.times, NOW), Verdict::Resume);
        }
        journal.mark_started(id(1), 1, NOW).await.unwrap();
        last = Some(journal.interrupt(id(1), cause, NOW).await.unwrap());
    }
    let row = last.unwrap();
    assert_eq!(verdict(row.counts, row.times, NOW), Verdict::Poisoned);
    let end = FinishRun { state: RunState::Poisoned, inbound: InboundEnd::Dead, ..finish(1, vec![]) };
    journal.finish_run(end).await.unwrap();
    let dead = journal.dead_list().await.unwrap();
    assert_eq!(
        (dead.len(), dead[0].item.kind, dead[0].item.why.as_str()),
        (1, DeadKind::Inbound, inbound::POISON_WHY)
    );
    assert_eq!(journal.dead_get(dead[0].id).await.unwrap(), dead[0]);
    assert_eq!(journal.dead_retry(dead[0].id, NOW).await.unwrap(), Revived::Message { seq });
    assert_eq!(journal.open_inbound(Some("s".into())).await.unwrap()[0].attempts, 1);
    assert!(journal.dead_list().await.unwrap().is_empty());
}

async fn what_is_not_read_is_kept<S: Store>(store: S) {
    let journal = store.open().await;
    let mut raw = message("700", "");
    raw.inbound.disposition = Disposition::Suppress;
    assert!(matches!(journal.bury(raw.clone()).await.unwrap(), Accepted::New { .. }));
    assert!(matches!(journal.bury(raw).await.unwrap(), Accepted::Duplicate(_)));
    let dead = journal.dead_list().await.unwrap();
    assert_eq!((dead.len(), dead[0].item.why.as_str()), (1, inbound::UNREAD_WHY));
    assert!(journal.open_inbound(None).await.unwrap().is_empty());
    assert_eq!(journal.dead_retry(dead[0].id, NOW).await.unwrap(), Revived::Nothing);
    assert_eq!(journal.dead_list().await.unwrap().len(), 1);
}

async fn a_refused_step_spoils_nobody_else<S: Store>(store: S) {
    let journal = store.open().await;
    let mut huge = message("huge", "s");
    huge.inbound.body = vec![0; BODY_BYTES_MAX + 1];
    let bad = journal.accept_inbound(huge);
    let good = journal.accept_inbound(message("good", "s"));
    let half = journal.add_outbox(vec![out(0, 0, "42", SendClass::A), {
        let mut row = out(0, 1, "42", SendClass::A);
        row.body = vec![0; BODY_BYTES_MAX + 1];
        row
    }]);
    let (bad, good, half) = tokio::join!(bad, good, half);
    assert!(matches!(bad, Err(JournalError::TooLarge { .. })));
    assert!(matches!(good, Ok(Accepted::New { .. })));
    assert!(matches!(half, Err(JournalError::TooLarge { .. })));
    assert_eq!(journal.open_inbound(None).await.unwrap().len(), 1);
    assert!(journal.open_outbox(None).await.unwrap().is_empty(), "all rows of a step or none");
}

async fn a_thousand_at_once<S: Store>(store: S) {
    let journal = store.open().await;
    let accepts = (0..1000).map(|n| {
        let journal = journal.clone();
        // Every message is offered twice, as networks do.
        tokio::spawn(async move { journal.accept_inbound(message(&(n / 2).to_string(), "s")).await })
    });
    let mut new = 0;
    for accept in accepts.collect::<Vec<_>>() {
        new += usize::from(matches!(accept.await.unwrap().unwrap(), Accepted::New { .. }));
    }
    assert_eq!(new, 500);
    store.crash(journal).await;
    assert_eq!(store.open().await.open_inbound(None).await.unwrap().len(), 500);
}
