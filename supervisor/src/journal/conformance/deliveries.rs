//! The outbox: order, fencing, unknown outcomes, placeholders, dead letters.

use super::*;

pub async fn all<S: Store>(make: &impl Fn() -> S) {
    chats_keep_their_order(make()).await;
    only_the_lease_holder_speaks(make()).await;
    a_death_on_the_wire_is_resolved_by_class(make()).await;
    a_retry_waits_its_time(make()).await;
    placeholders_become_edits(make()).await;
    drafts_survive_and_are_filled(make()).await;
    dead_letters_can_be_sent_after_all(make()).await;
    a_person_decides(make()).await;
    old_deliveries_end_with_one_note_per_chat(make()).await;
    a_clock_that_is_set_makes_nothing_late(make()).await;
}

fn note(n: u32, chat: &str, class: SendClass) -> NewOutbox {
    out(0, n, chat, class)
}

fn note_id(n: u32) -> Id {
    Id::derived(&id(0), "part", n)
}

async fn chats_keep_their_order<S: Store>(store: S) {
    let journal = store.open().await;
    let rows = vec![note(0, "a", SendClass::A), note(1, "b", SendClass::A), note(2, "a", SendClass::A)];
    assert_eq!(journal.add_outbox(rows.clone()).await.unwrap().len(), 3);
    assert!(journal.add_outbox(rows).await.unwrap().is_empty(), "the same rows again are no new rows");
    assert_eq!(due(&journal).await, [note_id(0), note_id(1)]);
    let early = journal.lease(note_id(2), 1, OnUnknown::Resend, NOW).await.unwrap_err();
    assert!(matches!(early, JournalError::OutOfOrder { .. }));
    to_wire(&journal, note_id(0), 1).await;
    assert_eq!(due(&journal).await, [note_id(1)], "the chat waits for what is on the wire");
    journal.settle(note_id(0), 1, SendOutcome::Permanent { why: "blocked".into() }, NOW).await.unwrap();
    assert_eq!(due(&journal).await, [note_id(1), note_id(2)], "a failed one does not block");
    assert!(journal.due_outbox("other:main".into(), NOW + SECOND, 9).await.unwrap().is_empty());
}

async fn only_the_lease_holder_speaks<S: Store>(store: S) {
    let journal = store.open().await;
    journal.add_outbox(vec![note(0, "a", SendClass::C)]).await.unwrap();
    let row = journal.lease(note_id(0), 1, OnUnknown::Resend, NOW).await.unwrap();
    assert_eq!((row.attempts, row.epoch, row.state), (1, 1, OutState::Leased));
    journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    journal.lease(note_id(0), 2, OnUnknown::Resend, NOW).await.unwrap();
    let ghost = journal.wire(note_id(0), 1, WireKind::Content).await.unwrap_err();
    assert!(matches!(ghost, JournalError::StaleEpoch { held: 2, asked: 1, .. }));
    journal.wire(note_id(0), 2, WireKind::Content).await.unwrap();
    let ghost = journal.settle(note_id(0), 1, SendOutcome::NotSent, NOW).await.unwrap_err();
    assert!(matches!(ghost, JournalError::StaleEpoch { .. }));
    let gone = journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    assert_eq!((gone.released, gone.maybe_dup), (1, 1));
    journal.lease(note_id(0), 3, OnUnknown::Resend, NOW).await.unwrap();
    // The first copy's answer was still in the pipe: it ends the row before a second copy can leave.
    let late = journal.settle(note_id(0), 2, delivered("77"), NOW).await.unwrap();
    assert_eq!((late.row.state, late.row.ext_ids), (OutState::Delivered, vec!["77".to_owned()]));
    assert!(journal.wire(note_id(0), 3, WireKind::Content).await.is_err());
    assert!(journal.settle(note_id(0), 3, delivered("77"), NOW).await.is_ok(), "told twice");
}

async fn a_death_on_the_wire_is_resolved_by_class<S: Store>(store: S) {
    let journal = store.open().await;
    let mut rows: Vec<_> = [SendClass::A, SendClass::B, SendClass::C, SendClass::C]
        .into_iter()
        .zip(0..)
        .map(|(class, n)| note(n, &n.to_string(), class))
        .collect();
    journal.add_outbox(std::mem::take(&mut rows)).await.unwrap();
    for n in 0..3 {
        to_wire(&journal, note_id(n), 1).await;
    }
    // The operator's choice as it stands when the row is handed out.
    journal.lease(note_id(3), 1, OnUnknown::Hold, NOW).await.unwrap();
    journal.wire(note_id(3), 1, WireKind::Content).await.unwrap();
    let gone = journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    assert_eq!((gone.released, gone.maybe_dup), (2, 1));
    assert_eq!(gone.reconcile.iter().map(|r| r.item.out_id).collect::<Vec<_>>(), [note_id(1)]);
    assert_eq!(gone.failed[0].err.as_deref(), Some("outcome unknown"));
    let again = journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    assert_eq!((again.released, again.reconcile.len()), (0, 1), "still to be asked");
    let no = journal.settle(note_id(1), 2, SendOutcome::NotSent, NOW).await.unwrap();
    assert_eq!(no.row.state, OutState::Pending);
    assert_eq!(due(&journal).await, [note_id(0), note_id(1), note_id(2)]);
    // A second unknown outcome of class C is not guessed again.
    to_wire(&journal, note_id(2), 2).await;
    let lost = SendOutcome::Unknown { why: "connection lost".into() };
    let settled = journal.settle(note_id(2), 2, lost, NOW).await.unwrap();
    assert!(settled.tell_user && settled.row.maybe_dup && settled.row.state == OutState::Failed);
}

async fn a_retry_waits_its_time<S: Store>(store: S) {
    let journal = store.open().await;
    journal.add_outbox(vec![note(0, "a", SendClass::C), note(1, "a", SendClass::C)]).await.unwrap();
    to_wire(&journal, note_id(0), 1).await;
    let retry = SendOutcome::Retry { next_us: NOW + 10 * SECOND, why: "slow down".into() };
    journal.settle(note_id(0), 1, retry, NOW).await.unwrap();
    assert!(due(&journal).await.is_empty(), "neither it nor what comes after it");
    assert_eq!(journal.next_due().await.unwrap(), [("telegram:main".to_owned(), NOW + 10 * SECOND)]);
    let later = journal.due_outbox("telegram:main".into(), NOW + 10 * SECOND, 9).await.unwrap();
    assert_eq!(later[0].err.as_deref(), Some("slow down"));
    // The network said that it took nothing: dying now repeats nothing.
    journal.lease(note_id(0), 2, OnUnknown::Resend, NOW).await.unwrap();
    journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    assert!(!journal.outbox(note_id(0)).await.unwrap().unwrap().maybe_dup);
}

async fn placeholders_become_edits<S: Store>(store: S) {
    let journal = store.open().await;
    journal.add_outbox(vec![note(0, "a", SendClass::C)]).await.unwrap();
    for epoch in 1..=3 {
        journal.lease(note_id(0), epoch, OnUnknown::Resend, NOW).await.unwrap();
        journal.wire(note_id(0), epoch, WireKind::Placeholder).await.unwrap();
        if epoch == 3 {
            journal.placed(note_id(0), epoch, "55".into()).await.unwrap();
        }
        store_state(&journal, epoch).await;
    }
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.maybe_dup, stats.orphan_placeholders), (0, 2));
    let row = journal.lease(note_id(0), 4, OnUnknown::Resend, NOW).await.unwrap();
    assert_eq!(row.item.prior_ext.as_deref(), Some("55"));
    journal.wire(note_id(0), 4, WireKind::Content).await.unwrap();
    journal.settle(note_id(0), 4, delivered("55"), NOW).await.unwrap();
}

async fn store_state(journal: &impl Journal, epoch: u64) {
    journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    let row = journal.outbox(note_id(0)).await.unwrap().unwrap();
    assert_eq!((row.state, row.maybe_dup), (OutState::Pending, false), "death {epoch}");
}

async fn drafts_survive_and_are_filled<S: Store>(store: S) {
    let journal = store.open().await;
    journal.create_run(new_run(1, "s", &[])).await.unwrap();
    journal.mark_started(id(1), 1, NOW).await.unwrap();
    let draft = |part| Draft {
        out_id: Id::derived(&id(1), "part", part),
        run_id: id(1),
        account: "telegram:main".into(),
        chat: "42".into(),
        ext_id: None,
    };
    assert_eq!(journal.draft_open(draft(0)).await.unwrap(), DraftStart::Send);
    journal.draft_placed(draft(0).out_id, "100".into()).await.unwrap();
    journal.draft_open(draft(1)).await.unwrap();
    journal.draft_placed(draft(1).out_id, "101".into()).await.unwrap();
    journal.draft_open(draft(2)).await.unwrap();
    store.crash(journal).await;

    let journal = store.open().await;
    journal.recover(NOW).await.unwrap();
    assert_eq!(journal.stats().await.unwrap().orphan_placeholders, 1, "the one without an id");
    let DraftStart::Stands(standing) = journal.draft_open(draft(0)).await.unwrap() else { panic!() };
    assert_eq!(standing.ext_id.as_deref(), Some("100"), "used again, none sent");
    journal.draft_open(draft(3)).await.unwrap();
    let rows = vec![out(1, 0, "42", SendClass::C), out(1, 3, "42", SendClass::C)];
    let finished = journal.finish_run(finish(1, rows)).await.unwrap();
    assert_eq!(finished.drafts_left.iter().map(|d| d.out_id).collect::<Vec<_>>(), [draft(1).out_id]);
    journal.draft_gone(draft(1).out_id).await.unwrap();
    let late = journal.draft_open(draft(0)).await.unwrap();
    assert!(matches!(late, DraftStart::Stands(_)), "{late:?}");
    let mut next = Draft { out_id: id(9), run_id: id(9), ..draft(0) };
    assert_eq!(
        journal.draft_open(next.clone()).await.unwrap(),
        DraftStart::TooEarly,
        "part 3 has no place yet"
    );
    next.chat = "4".into();
    assert_eq!(journal.draft_open(next.clone()).await.unwrap(), DraftStart::Send, "another chat");
    journal.draft_gone(next.out_id).await.unwrap();
    // Its id arrives only now: the row is an edit all the same.
    journal.draft_placed(draft(3).out_id, "103".into()).await.unwrap();
    let prior = |rows: Vec<OutboxRow>| rows.into_iter().filter_map(|r| r.item.prior_ext).collect::<Vec<_>>();
    assert_eq!(prior(journal.outbox_of_run(id(1)).await.unwrap()), ["100", "103"]);
    assert!(journal.draft_placed(draft(7).out_id, "1".into()).await.is_err());
    to_wire(&journal, draft(0).out_id, 1).await;
    journal.settle(draft(0).out_id, 1, delivered("100"), NOW).await.unwrap();
    let left = journal.drafts_of_run(id(1)).await.unwrap();
    assert_eq!(
        left.iter().map(|d| d.out_id).collect::<Vec<_>>(),
        [draft(3).out_id],
        "filled ones are forgotten"
    );
}

async fn dead_letters_can_be_sent_after_all<S: Store>(store: S) {
    let journal = store.open().await;
    journal.add_outbox(vec![note(0, "a", SendClass::A), note(1, "b", SendClass::A)]).await.unwrap();
    for n in 0..2 {
        to_wire(&journal, note_id(n), 1).await;
        let refused = SendOutcome::Permanent { why: "bot was blocked".into() };
        assert!(journal.settle(note_id(n), 1, refused, NOW).await.unwrap().tell_user);
    }
    let imported = NewDeadLetter {
        kind: DeadKind::Imported,
        reference: "x.json".into(),
        account: "telegram".into(),
        chat: "1".into(),
        why: "left over".into(),
        at_us: NOW,
    };
    journal.dead_add(imported.clone()).await.unwrap();
    journal.dead_add(imported).await.unwrap();
    let dead = journal.dead_list().await.unwrap();
    assert_eq!(
        dead.iter().map(|d| d.item.why.as_str()).collect::<Vec<_>>(),
        ["bot was blocked", "bot was blocked", "left over"]
    );
    let revived = journal.dead_retry(dead[0].id, NOW + 2 * HOUR).await.unwrap();
    assert!(matches!(revived, Revived::Delivery { .. }), "{revived:?}");
    let imported = journal.dead_retry(dead[2].id, NOW).await.unwrap();
    assert_eq!(imported, Revived::Nothing, "imported ones are only shown");
    assert!(journal.dead_discard(dead[1].id).await.unwrap());
    assert!(!journal.dead_discard(dead[1].id).await.unwrap());
    let row = journal.outbox(note_id(0)).await.unwrap().unwrap();
    assert_eq!((row.state, row.item.expires_us), (OutState::Pending, NOW + 3 * HOUR));
    assert!(journal.dead_retry(999, NOW).await.is_err());
}

async fn a_person_decides<S: Store>(store: S) {
    let journal = store.open().await;
    let chats = ["a", "b", "c", "d"];
    let rows = chats.iter().zip(0..).map(|(chat, n)| note(n, chat, SendClass::B)).collect();
    journal.add_outbox(rows).await.unwrap();
    let later = SendOutcome::Retry { next_us: NOW + HOUR, why: "slow down".into() };
    to_wire(&journal, note_id(0), 1).await;
    journal.settle(note_id(0), 1, later, NOW).await.unwrap();
    to_wire(&journal, note_id(1), 1).await;
    journal.worker_gone("telegram:main".into(), NOW).await.unwrap();
    to_wire(&journal, note_id(2), 2).await;
    assert!(journal.outbox_retry(note_id(2), NOW).await.is_err(), "it is being sent");
    assert!(journal.outbox_discard(note_id(2), NOW).await.is_err(), "it may be there already");
    let now = journal.outbox_retry(note_id(0), NOW).await.unwrap();
    assert_eq!((now.state, now.next_us, now.maybe_dup), (OutState::Pending, NOW, false));
    let risked = journal.outbox_retry(note_id(1), NOW).await.unwrap();
    assert_eq!(
        (risked.state, risked.maybe_dup),
        (OutState::Pending, true),
        "its first copy may be out there"
    );
    let given_up = journal.outbox_discard(note_id(3), NOW).await.unwrap();
    assert_eq!((given_up.state, given_up.err.as_deref()), (OutState::Failed, Some("given up by hand")));
    assert!(journal.dead_list().await.unwrap().is_empty(), "somebody knows of it already");
    journal.settle(note_id(2), 2, delivered("1"), NOW).await.unwrap();
    let list = async |filter| journal.outbox_list(filter).await.unwrap().len();
    assert_eq!(list(OutboxFilter::default()).await, 3);
    assert_eq!(list(OutboxFilter { delivered: true, limit: Some(2), ..OutboxFilter::default() }).await, 2);
    assert_eq!(list(OutboxFilter { account: Some("x:y".into()), ..OutboxFilter::default() }).await, 0);
}

async fn old_deliveries_end_with_one_note_per_chat<S: Store>(store: S) {
    let journal = store.open().await;
    let rows = (0..5).map(|n| note(n, if n < 3 { "a" } else { "b" }, SendClass::B)).collect();
    journal.add_outbox(rows).await.unwrap();
    to_wire(&journal, note_id(3), 1).await;
    assert!(journal.expire(NOW + HOUR, |_| None).await.unwrap().is_empty(), "not before its time");
    let late = NOW + HOUR + 1;
    assert!(journal.due_outbox("telegram:main".into(), late, 9).await.unwrap().is_empty());
    let tell = |expired: &ExpiredChat| {
        (expired.chat == "a").then(|| NewOutbox { expires_us: NOW + 9 * HOUR, ..note(9, "a", SendClass::B) })
    };
    let mut chats = journal.expire(late, tell).await.unwrap();
    chats.sort_by(|x, y| x.chat.cmp(&y.chat));
    assert_eq!(chats.iter().map(|c| (c.chat.as_str(), c.count)).collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
    assert!(journal.expire(late, |_| None).await.unwrap().is_empty());
    journal.settle(note_id(3), 1, delivered("1"), late).await.unwrap();
    assert_eq!(journal.dead_list().await.unwrap().len(), 4);
    let waiting = journal.due_outbox("telegram:main".into(), late, 9).await.unwrap();
    let waiting: Vec<Id> = waiting.iter().map(|row| row.item.out_id).collect();
    assert_eq!(waiting, [note_id(9)], "the one note of chat a");
}

async fn a_clock_that_is_set_makes_nothing_late<S: Store>(store: S) {
    let journal = store.open().await;
    journal.add_outbox(vec![note(0, "a", SendClass::A), note(1, "b", SendClass::A)]).await.unwrap();
    to_wire(&journal, note_id(1), 1).await;
    journal.settle(note_id(1), 1, delivered("1"), NOW).await.unwrap();
    journal.create_run(new_run(1, "s", &[])).await.unwrap();
    for by in [24 * HOUR, -48 * HOUR] {
        let key = format!("basis after {by}").into_bytes();
        assert_eq!(journal.rebase(by, key.clone()).await.unwrap(), 2, "what is open, and only that");
        assert_eq!(journal.kv_get("clock".into()).await.unwrap(), Some(key));
        let now = journal.run(id(1)).await.unwrap().unwrap().times.created_us;
        assert!(journal.expire(now + HOUR, |_| None).await.unwrap().is_empty(), "set by {by} us");
        let due = journal.due_outbox("telegram:main".into(), now, 9).await.unwrap();
        assert_eq!(due.len(), 1, "set by {by} us: neither late nor early");
    }
    let done = journal.outbox(note_id(1)).await.unwrap().unwrap();
    assert_eq!(done.item.created_us, NOW, "closed rows keep their times");
}
