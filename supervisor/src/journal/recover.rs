//! What a start does with what the last life left in the air, and what the death of one channel worker means.

use proto::runtime::failpoint;
use rusqlite::Connection;
use std::collections::BTreeSet;

use super::outbox::state::{OutEvent, OutState};
use super::outbox::{Change, apply, draft, in_flight, insert, overdue};
use super::run::state::{InterruptCause, RunState, Verdict, verdict};
use super::types::{CarriedOver, ExpiredChat, NewOutbox, Recovered, Released, RunRow};
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
        sort_in(conn, &mut recovered, row, now_us)?;
    }
    Ok(recovered)
}

/// The same for a start whose workers went on: what they hold is left as it is.
pub fn carry_over(conn: &Connection, on: &CarriedOver, now_us: i64) -> Result<Recovered, JournalError> {
    let gone: BTreeSet<String> = in_flight(conn, None)?
        .into_iter()
        .map(|row| row.item.account)
        .filter(|account| !on.accounts.contains(account))
        .collect();
    for account in gone {
        worker_gone(conn, Some(&account), now_us)?;
    }
    let mut recovered = Recovered {
        clean: true,
        boot: ledger::counter(conn, KV_BOOT)?,
        queued_sessions: inbound::waiting_sessions(conn)?,
        ..Recovered::default()
    };
    for row in run::open(conn, None)? {
        if !on.runs.contains(&row.run_id) {
            sort_in(conn, &mut recovered, row, now_us)?;
        }
    }
    Ok(recovered)
}

fn sort_in(
    conn: &Connection,
    recovered: &mut Recovered,
    row: RunRow,
    now_us: i64,
) -> Result<(), JournalError> {
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
    Ok(())
}

/// Ends what is too old, one entry per chat; what `note` makes of an entry is added.
pub fn expire(
    conn: &Connection,
    now_us: i64,
    note: &dyn Fn(&ExpiredChat) -> Option<NewOutbox>,
) -> Result<Vec<ExpiredChat>, JournalError> {
    let mut chats: Vec<ExpiredChat> = Vec::new();
    for row in overdue(conn, now_us)? {
        apply(conn, &row, OutEvent::Expire, Change { now_us, ..Change::default() })?;
        let item = row.item;
        match chats.iter_mut().find(|c| c.account == item.account && c.chat == item.chat) {
            Some(chat) => {
                chat.count += 1;
                chat.parts.push(item.part);
                chat.oldest_us = chat.oldest_us.min(item.created_us);
            }
            None => chats.push(ExpiredChat {
                account: item.account,
                chat: item.chat,
                count: 1,
                first: item.out_id,
                parts: vec![item.part],
                oldest_us: item.created_us,
            }),
        }
    }
    for row in chats.iter().filter_map(note) {
        insert(conn, &row)?;
    }
    Ok(chats)
}
