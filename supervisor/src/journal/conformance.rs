//! What any backend of [`Journal`] must do. Each case gets an empty store that it may kill and open again.

mod deliveries;
mod ledgers;
mod messages;

use std::future::Future;

use proto::wire::id::Id;

use super::outbox::state::{OnUnknown, SendClass};
use super::*;

/// A place that outlives its journals.
pub trait Store {
    type Backend: Journal;
    fn open(&self) -> impl Future<Output = Self::Backend>;
    /// Ends a journal as a kill would.
    fn crash(&self, journal: Self::Backend) -> impl Future<Output = ()>;
}

/// Runs every case against a store of its own.
pub async fn conformance<S: Store>(make: impl Fn() -> S) {
    messages::all(&make).await;
    deliveries::all(&make).await;
    ledgers::all(&make).await;
}

/// Some Sunday in November 2026.
pub const NOW: i64 = 1_795_000_000_000_000;
pub const SECOND: i64 = 1_000_000;
pub const HOUR: i64 = 3600 * SECOND;

pub fn id(n: u8) -> Id {
    Id([n; 16])
}

pub fn message(ext_id: &str, session: &str) -> AcceptInbound {
    AcceptInbound {
        inbound: NewInbound {
            account: "telegram:main".into(),
            ext_id: ext_id.into(),
            chat: "42".into(),
            session_key: session.into(),
            agent: "main".into(),
            client_run_id: None,
            recv_us: NOW,
            net_ts_us: Some(NOW - SECOND),
            body: ext_id.as_bytes().to_vec(),
            raw_hash: Some([7; 32]),
            disposition: Disposition::Queue,
        },
        cursor: None,
        dedupe: None,
        notes: Vec::new(),
    }
}

pub async fn accept(journal: &impl Journal, ext_id: &str, session: &str) -> i64 {
    match journal.accept_inbound(message(ext_id, session)).await.unwrap() {
        Accepted::New { seq } => seq,
        other => panic!("not new: {other:?}"),
    }
}

pub fn new_run(n: u8, session: &str, inbound: &[i64]) -> NewRun {
    NewRun {
        run_id: id(n),
        client_run_id: format!("client-{n}"),
        session_key: session.into(),
        agent: "main".into(),
        lane: "main".into(),
        origin: RunOrigin::Channel,
        created_us: NOW,
        deadline_us: None,
        spec: b"spec".to_vec(),
        inbound: inbound.to_vec(),
    }
}

pub fn finish(n: u8, outbox: Vec<NewOutbox>) -> FinishRun {
    FinishRun {
        run_id: id(n),
        state: RunState::Final,
        ended_us: NOW + SECOND,
        outcome: b"outcome".to_vec(),
        outbox,
        inbound: InboundEnd::Done,
        session: None,
        usage: None,
    }
}

/// A delivery of a run (`run` > 0) or a note.
pub fn out(run: u8, part: u32, chat: &str, class: SendClass) -> NewOutbox {
    let out_id = Id::derived(&id(run), "part", part);
    NewOutbox {
        out_id,
        run_id: (run > 0).then(|| id(run)),
        part,
        account: "telegram:main".into(),
        chat: chat.into(),
        body: format!("part {part}").into_bytes(),
        idem_key: out_id.to_string(),
        class,
        on_unknown: OnUnknown::Resend,
        prior_ext: None,
        created_us: NOW,
        expires_us: NOW + HOUR,
    }
}

pub async fn due(journal: &impl Journal) -> Vec<Id> {
    let rows = journal.due_outbox("telegram:main".into(), NOW + SECOND, 100).await.unwrap();
    rows.into_iter().map(|row| row.item.out_id).collect()
}

pub fn delivered(ext_id: &str) -> SendOutcome {
    SendOutcome::Delivered { ext_ids: vec![ext_id.into()] }
}

/// Takes a row up to the wire.
pub async fn to_wire(journal: &impl Journal, out_id: Id, epoch: u64) {
    journal.lease(out_id, epoch, OnUnknown::Resend, NOW).await.unwrap();
    journal.wire(out_id, epoch, WireKind::Content).await.unwrap();
}
