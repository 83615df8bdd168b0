//! What a start does with what the last life left in the air, and what the death of one channel worker means.

use proto::runtime::failpoint;
use rusqlite::Connection;

use super::outbox::state::{OutEvent, OutState};
use super::outbox::{Change, apply, draft, in_flight, overdue};
use super::run::state::{InterruptCause, RunState, Verdict, verdict};
use super::types::{ExpiredChat, Recovered, Released};
use super::{JournalError, inbound, ledger, run};

/// Counter of starts.
pub const KV_BOOT: &str = "boot";
/// Present while the last stop was orderly and nothing was opened since.
pub const KV_CLEAN: &str = "clean";

/// Takes back leases and resolves sends on the wire; of one account, or of all.
pub fn worker_gone(conn: &Connection, account: Option<&str>, now_us: i64) -> Result<Released, JournalError> {
    let mut result = Released::default();
    for row in in_flight(conn, account)? {
        if row.state == OutState::Unknown {
            result.reconcile.push(row);
            continue;
        }
        let settled = apply(conn, &row, OutEvent::WorkerGone, Change { now_us, ..Change::default() })?;
        match settled.row.state {
            OutState::Unknown => result.reconcile.push(settled.row),
            OutState::Failed => result.failed.push(settled.row),
            _ => {
                result.released += 1;
                result.maybe_dup += u32::from(settled.row.maybe_dup && !row.maybe_dup);
            }
        }
    }
    draft::orphan(conn, account)?;
    Ok(result)
}

pub fn recover(conn: &Connection, clean: bool, now_us: i64) -> Result<Recovered, JournalError> {
    let released = worker_gone(conn, None, now_us)?;
    failpoint::hit("sv.recover.mid");
    let mut recovered = Recovered {
        clean,
        boot: ledger::counter(conn, KV_BOOT)?,
        queued_sessions: inbound::waiting_sessions(conn)?,
        reconcile: released.reconcile,
        released: released.released,
        maybe_dup: released.maybe_dup,
        ..Recovered::default()
    };
    for row in run::open(conn, None)? {
        let row = match row.state {
            // The supervisor went down with it: nobody's fault, and no clock ran.
            RunState::Started => run::interrupt(conn, row.run_id, InterruptCause::Outside, None)?,
            _ => row,
        };
        match (row.state, verdict(row.counts, row.times, now_us)) {
            (RunState::Pending, _) => recovered.pending.push(row),
            (_, Verdict::Resume) => recovered.interrupted.push(row),
            (_, Verdict::Poisoned | Verdict::Abandoned) => recovered.abandoned.push(row),
        }
    }
    Ok(recovered)
}

/// Ends what is too old, one entry per chat.
pub fn expire(conn: &Connection, now_us: i64) -> Result<Vec<ExpiredChat>, JournalError> {
    let mut chats: Vec<ExpiredChat> = Vec::new();
    for row in overdue(conn, now_us)? {
        apply(conn, &row, OutEvent::Expire, Change { now_us, ..Change::default() })?;
        let item = row.item;
        match chats.iter_mut().find(|c| c.account == item.account && c.chat == item.chat) {
            Some(chat) => {
                chat.count += 1;
                chat.oldest_us = chat.oldest_us.min(item.created_us);
            }
            None => chats.push(ExpiredChat {
                account: item.account,
                chat: item.chat,
                count: 1,
                oldest_us: item.created_us,
            }),
        }
    }
    Ok(chats)
}
