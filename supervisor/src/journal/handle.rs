//! The handle that everyone holds: each verb becomes one job for the journal thread.

use std::future::Future;
use std::sync::Arc;

use proto::runtime::failpoint;
use proto::wire::agent::SessionRow;
use proto::wire::id::Id;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::outbox::draft;
use super::types::*;
use super::writer::{self, Msg, OpenOptions, Ran, Shared, Started, Work};
use super::{
    Journal, JournalError, dead_letter, dedupe, inbound, ledger, outbox, rebase, recover, retention, run,
    session_index,
};
use crate::trace::book::Book;

type Res<T> = Result<T, JournalError>;

/// Cheap to clone. When the last one is dropped the thread ends without noting a clean stop.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    jobs: mpsc::Sender<Msg>,
    pub(super) shared: Arc<Shared>,
    pub(super) book: Book,
}

impl std::fmt::Debug for Msg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Msg")
    }
}

/// One verb: a function over the connection and the place where its result is awaited.
struct Job<T, F> {
    verb: F,
    result: Option<Res<T>>,
    reply: oneshot::Sender<Res<T>>,
    writes: bool,
}

impl<T: Send, F: Fn(&Connection) -> Res<T> + Send> Work for Job<T, F> {
    fn writes(&self) -> bool {
        self.writes
    }

    fn run(&mut self, conn: &Connection) -> Ran {
        let result = (self.verb)(conn);
        let ran = match &result {
            Ok(_) => Ran::Done,
            Err(e @ JournalError::ReadOnly { .. }) => Ran::Trouble(e.clone()),
            Err(_) => Ran::Refused,
        };
        self.result = Some(result);
        ran
    }

    fn reply(self: Box<Self>, commit: Res<()>) {
        let answer = match (commit, self.result) {
            // A refusal by a rule stands, whatever became of the batch.
            (_, Some(Err(refusal))) => Err(refusal),
            (Ok(()), Some(result)) => result,
            (Err(e), _) => Err(e),
            (Ok(()), None) => Err(JournalError::Closed),
        };
        // The caller may have stopped waiting; the step is done all the same.
        let _gone = self.reply.send(answer);
    }
}

impl JournalHandle {
    /// Opens the store, migrates it and starts its thread. Blocks on the disk: call it before the runtimes start, or in a
    /// blocking section. The second value holds warnings for the operator.
    pub fn open(options: OpenOptions) -> Result<(Self, Vec<String>), JournalError> {
        let Started { jobs, shared, warnings, book } = writer::start(options)?;
        Ok((Self { jobs, shared, book }, warnings))
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "for those who must know at once; status asks `stats`"))]
    /// `Some(why)` while nothing can be written; changes are announced.
    pub fn readonly(&self) -> watch::Receiver<Option<String>> {
        self.shared.readonly.subscribe()
    }

    pub(super) fn call<T, F>(&self, writes: bool, verb: F) -> impl Future<Output = Res<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Res<T> + Send + 'static,
    {
        let jobs = self.jobs.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            let job = Job { verb, result: None, reply, writes };
            jobs.send(Msg::Work(Box::new(job))).await.map_err(|_| JournalError::Closed)?;
            answer.await.map_err(|_| JournalError::Closed)?
        }
    }

    fn read<T: Send + 'static>(
        &self,
        verb: impl Fn(&Connection) -> Res<T> + Send + 'static,
    ) -> impl Future<Output = Res<T>> + Send {
        self.call(false, verb)
    }

    fn write<T: Send + 'static>(
        &self,
        verb: impl Fn(&Connection) -> Res<T> + Send + 'static,
    ) -> impl Future<Output = Res<T>> + Send {
        self.call(true, verb)
    }

    /// Ends the thread as a kill would: nothing is noted, nothing is flushed.
    #[cfg(test)]
    pub(super) async fn crash(self) {
        let (reply, gone) = oneshot::channel();
        self.jobs.send(Msg::Crash(reply)).await.unwrap();
        gone.await.unwrap();
    }
}

/// A place to die between the commit and whatever the caller does because of it.
async fn then<T>(point: &'static str, step: impl Future<Output = Res<T>> + Send) -> Res<T> {
    let result = step.await;
    failpoint::hit(point);
    result
}

impl Journal for JournalHandle {
    fn accept_inbound(&self, accept: AcceptInbound) -> impl Future<Output = Res<Accepted>> + Send {
        then(
            "sv.c1.after",
            self.write(move |c| {
                let accepted = inbound::accept(c, &accept);
                failpoint::hit("sv.c1.mid");
                accepted
            }),
        )
    }

    fn accept_and_begin(
        &self,
        accept: AcceptInbound,
        run: impl Fn(i64) -> NewRun + Send + 'static,
        epoch: u64,
    ) -> impl Future<Output = Res<(Accepted, Option<RunStart>)>> + Send {
        then(
            "sv.c1.after",
            self.write(move |c| {
                let accepted = inbound::accept(c, &accept)?;
                failpoint::hit("sv.c1.mid");
                let Accepted::New { seq } = accepted else { return Ok((accepted, None)) };
                let run = run(seq);
                run::create(c, &run)?;
                let start = run::mark_started(c, run.run_id, epoch, run.created_us)?;
                Ok((accepted, Some(start)))
            }),
        )
    }

    fn bury(&self, accept: AcceptInbound) -> impl Future<Output = Res<Accepted>> + Send {
        self.write(move |c| inbound::bury(c, &accept))
    }

    fn enqueue(&self, seq: i64) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| inbound::enqueue(c, seq))
    }

    fn suppress(&self, seqs: Vec<i64>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| inbound::suppress(c, &seqs))
    }

    fn open_inbound(&self, session_key: Option<String>) -> impl Future<Output = Res<Vec<InboundRow>>> + Send {
        self.read(move |c| inbound::waiting(c, session_key.as_deref()))
    }

    fn inbound(&self, seq: i64) -> impl Future<Output = Res<Option<InboundRow>>> + Send {
        self.read(move |c| inbound::get(c, seq))
    }

    fn knows_inbound(&self, account: String, ext_id: String) -> impl Future<Output = Res<bool>> + Send {
        self.read(move |c| inbound::knows(c, &account, &ext_id))
    }

    fn inbound_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<InboundRow>>> + Send {
        self.read(move |c| inbound::of_run(c, run_id))
    }

    fn create_run(&self, run: NewRun) -> impl Future<Output = Res<()>> + Send {
        then("sv.c2.after", self.write(move |c| run::create(c, &run)))
    }

    fn begin_run(&self, run: NewRun, epoch: u64) -> impl Future<Output = Res<RunStart>> + Send {
        then(
            "sv.c2.after",
            self.write(move |c| {
                run::create(c, &run)?;
                run::mark_started(c, run.run_id, epoch, run.created_us)
            }),
        )
    }

    fn mark_started(
        &self,
        run_id: Id,
        epoch: u64,
        now_us: i64,
    ) -> impl Future<Output = Res<RunStart>> + Send {
        self.write(move |c| run::mark_started(c, run_id, epoch, now_us))
    }

    fn claim_more(&self, run_id: Id, seqs: Vec<i64>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| run::claim_more(c, run_id, &seqs))
    }

    fn interrupt(
        &self,
        run_id: Id,
        cause: InterruptCause,
        now_us: i64,
    ) -> impl Future<Output = Res<RunRow>> + Send {
        self.write(move |c| run::interrupt(c, run_id, cause, Some(now_us)))
    }

    fn finish_run(&self, finish: FinishRun) -> impl Future<Output = Res<Finished>> + Send {
        then(
            "sv.c8.after",
            self.write(move |c| {
                failpoint::hit("sv.c8.before");
                run::finish(c, &finish)
            }),
        )
    }

    fn run(&self, run_id: Id) -> impl Future<Output = Res<Option<RunRow>>> + Send {
        self.read(move |c| run::get(c, run_id))
    }

    fn run_by_client_id(&self, client_run_id: String) -> impl Future<Output = Res<Option<RunRow>>> + Send {
        self.read(move |c| run::by_client_id(c, &client_run_id))
    }

    fn open_runs(&self, agent: Option<String>) -> impl Future<Output = Res<Vec<RunRow>>> + Send {
        self.read(move |c| run::open(c, agent.as_deref()))
    }

    fn draft_open(&self, draft: Draft) -> impl Future<Output = Res<DraftStart>> + Send {
        self.write(move |c| draft::open(c, &draft))
    }

    fn draft_placed(&self, out_id: Id, ext_id: String) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| draft::placed(c, out_id, &ext_id))
    }

    fn drafts_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<Draft>>> + Send {
        self.read(move |c| draft::of_run(c, run_id))
    }

    fn draft_gone(&self, out_id: Id) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| draft::gone(c, out_id))
    }

    fn add_outbox(&self, rows: Vec<NewOutbox>) -> impl Future<Output = Res<Vec<Id>>> + Send {
        self.write(move |c| outbox::add(c, &rows))
    }

    fn due_outbox(
        &self,
        account: String,
        now_us: i64,
        limit: u32,
    ) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send {
        self.read(move |c| outbox::due(c, &account, now_us, limit))
    }

    fn next_due(&self) -> impl Future<Output = Res<Vec<(String, i64)>>> + Send {
        self.read(outbox::next_due)
    }

    fn lease(
        &self,
        out_id: Id,
        epoch: u64,
        on_unknown: OnUnknown,
        now_us: i64,
    ) -> impl Future<Output = Res<OutboxRow>> + Send {
        then("sv.c9.after", self.write(move |c| outbox::lease(c, out_id, epoch, on_unknown, now_us)))
    }

    fn wire(&self, out_id: Id, epoch: u64, kind: WireKind) -> impl Future<Output = Res<()>> + Send {
        then("sv.c10.after", self.write(move |c| outbox::wire(c, out_id, epoch, kind)))
    }

    fn placed(&self, out_id: Id, epoch: u64, ext_id: String) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| outbox::placed(c, out_id, epoch, &ext_id))
    }

    fn settle(
        &self,
        out_id: Id,
        epoch: u64,
        outcome: SendOutcome,
        now_us: i64,
    ) -> impl Future<Output = Res<Settled>> + Send {
        self.write(move |c| {
            failpoint::hit("sv.c12.before");
            outbox::settle(c, out_id, epoch, &outcome, now_us)
        })
    }

    fn worker_gone(&self, account: String, now_us: i64) -> impl Future<Output = Res<Released>> + Send {
        self.write(move |c| recover::worker_gone(c, Some(&account), now_us))
    }

    fn outbox(&self, out_id: Id) -> impl Future<Output = Res<Option<OutboxRow>>> + Send {
        self.read(move |c| outbox::get(c, out_id))
    }

    fn outbox_of_run(&self, run_id: Id) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send {
        self.read(move |c| outbox::of_run(c, run_id))
    }

    fn open_outbox(&self, account: Option<String>) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send {
        self.read(move |c| outbox::open(c, account.as_deref()))
    }

    fn expire(
        &self,
        now_us: i64,
        note: impl Fn(&ExpiredChat) -> Option<NewOutbox> + Send + 'static,
    ) -> impl Future<Output = Res<Vec<ExpiredChat>>> + Send {
        self.write(move |c| recover::expire(c, now_us, &note))
    }

    fn outbox_list(&self, filter: OutboxFilter) -> impl Future<Output = Res<Vec<OutboxRow>>> + Send {
        self.read(move |c| outbox::operator::list(c, &filter))
    }

    fn outbox_retry(&self, out_id: Id, now_us: i64) -> impl Future<Output = Res<OutboxRow>> + Send {
        self.write(move |c| outbox::operator::retry(c, out_id, now_us))
    }

    fn outbox_discard(&self, out_id: Id, now_us: i64) -> impl Future<Output = Res<OutboxRow>> + Send {
        self.write(move |c| outbox::operator::discard(c, out_id, now_us))
    }

    fn session_changed(&self, rows: Vec<SessionRow>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| session_index::changed(c, &rows))
    }

    fn session_put(&self, rows: Vec<SessionRow>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| session_index::put(c, &rows))
    }

    fn session_get(&self, session_key: String) -> impl Future<Output = Res<Option<SessionRow>>> + Send {
        self.read(move |c| session_index::get(c, &session_key))
    }

    fn session_list(&self, filter: SessionFilter) -> impl Future<Output = Res<Vec<SessionRow>>> + Send {
        self.read(move |c| session_index::list(c, &filter))
    }

    fn session_delete(&self, session_key: String) -> impl Future<Output = Res<bool>> + Send {
        self.write(move |c| session_index::delete(c, &session_key))
    }

    fn session_counts(&self) -> impl Future<Output = Res<Vec<(String, u64)>>> + Send {
        self.read(session_index::counts)
    }

    fn dedupe_claim(&self, claim: DedupeClaim) -> impl Future<Output = Res<Option<DedupeRow>>> + Send {
        self.write(move |c| dedupe::claim(c, &claim))
    }

    fn dedupe_put(&self, method: String, key: String, res: Vec<u8>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| dedupe::put(c, &method, &key, &res))
    }

    fn dedupe_release(&self, method: String, key: String) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| dedupe::release(c, &method, &key))
    }

    fn dedupe_get(
        &self,
        method: String,
        key: String,
        now_us: i64,
    ) -> impl Future<Output = Res<Option<DedupeRow>>> + Send {
        self.read(move |c| dedupe::get(c, &method, &key, now_us))
    }

    fn cursor_get(&self, account: String, scope: String) -> impl Future<Output = Res<Option<String>>> + Send {
        self.read(move |c| ledger::cursor_get(c, &account, &scope))
    }

    fn cursor_put(&self, cursor: CursorUpdate) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| ledger::cursor_put(c, &cursor))
    }

    fn kv_get(&self, key: String) -> impl Future<Output = Res<Option<Vec<u8>>>> + Send {
        self.read(move |c| ledger::kv_get(c, &key))
    }

    fn kv_keys(&self, prefix: String) -> impl Future<Output = Res<Vec<String>>> + Send {
        self.read(move |c| ledger::kv_keys(c, &prefix))
    }

    fn kv_put(&self, key: String, value: Option<Vec<u8>>) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| ledger::kv_put(c, &key, value.as_deref()))
    }

    fn next_epoch(&self, worker: String) -> impl Future<Output = Res<u64>> + Send {
        self.write(move |c| ledger::next_epoch(c, &worker))
    }

    fn usage_add(&self, delta: UsageDelta) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| ledger::usage_add(c, &delta))
    }

    fn usage_list(&self, from: String, to: String) -> impl Future<Output = Res<Vec<UsageDay>>> + Send {
        self.read(move |c| ledger::usage_list(c, &from, &to))
    }

    fn system_event_push(
        &self,
        session_key: String,
        text: String,
        context_key: Option<String>,
        now_us: i64,
    ) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| ledger::system_event_push(c, &session_key, &text, context_key.as_deref(), now_us))
    }

    fn dead_add(&self, letter: NewDeadLetter) -> impl Future<Output = Res<()>> + Send {
        self.write(move |c| dead_letter::add(c, &letter))
    }

    fn dead_list(&self) -> impl Future<Output = Res<Vec<DeadLetter>>> + Send {
        self.read(dead_letter::list)
    }

    fn dead_get(&self, id: i64) -> impl Future<Output = Res<DeadLetter>> + Send {
        self.read(move |c| dead_letter::get(c, id))
    }

    fn dead_retry(&self, id: i64, now_us: i64) -> impl Future<Output = Res<Revived>> + Send {
        self.write(move |c| dead_letter::retry(c, id, now_us))
    }

    fn dead_discard(&self, id: i64) -> impl Future<Output = Res<bool>> + Send {
        self.write(move |c| dead_letter::discard(c, id))
    }

    fn recover(&self, now_us: i64) -> impl Future<Output = Res<Recovered>> + Send {
        let clean = self.shared.clean;
        self.write(move |c| recover::recover(c, clean, now_us))
    }

    fn carry_over(&self, on: CarriedOver, now_us: i64) -> impl Future<Output = Res<Recovered>> + Send {
        self.write(move |c| recover::carry_over(c, &on, now_us))
    }

    fn rebase(&self, by_us: i64, basis: Vec<u8>) -> impl Future<Output = Res<u64>> + Send {
        self.write(move |c| rebase::rebase(c, by_us, crate::clock::KV_CLOCK, &basis))
    }

    fn trim(&self, now_us: i64) -> impl Future<Output = Res<Trimmed>> + Send {
        self.write(move |c| retention::trim(c, now_us))
    }

    fn stats(&self) -> impl Future<Output = Res<JournalStats>> + Send {
        let shared = self.shared.clone();
        self.read(move |c| {
            let size = |path| std::fs::metadata(path).map_or(0, |meta| meta.len());
            Ok(JournalStats {
                readonly: shared.readonly.borrow().clone(),
                reserve_lack: shared.reserve.as_ref().and_then(super::disk::Reserve::lack),
                integrity: shared.integrity(),
                db_bytes: size(&shared.db),
                wal_bytes: size(&shared.wal),
                ..retention::stats(c)?
            })
        })
    }

    fn close(&self) -> impl Future<Output = Res<()>> + Send {
        let jobs = self.jobs.clone();
        async move {
            let (reply, closed) = oneshot::channel();
            jobs.send(Msg::Close(reply)).await.map_err(|_| JournalError::Closed)?;
            closed.await.map_err(|_| JournalError::Closed)?
        }
    }
}
