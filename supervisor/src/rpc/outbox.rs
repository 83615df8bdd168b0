//! `outbox.*`: what is on its way to the chat networks, and what a person may do about it.

use super::params::Params;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::{Journal, JournalError, OutboxFilter, OutboxRow};
use proto::wire::channel::OutboundItem;
use proto::wire::{Id, decode_payload};
use serde_json::{Value, json};

/// Rows of a list without a limit of its own.
const LIST_ROWS: u32 = 200;
/// Characters of a text in a list.
const EXCERPT_CHARS: usize = 80;

/// `outbox.list {account?, delivered?, limit?}`: what is to be delivered and what failed or went out of date, oldest
/// first; with `delivered` what is done, too.
///
/// # Errors
/// Malformed params, or the journal cannot be read.
pub async fn list(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("outbox.list", &params);
    let limit = read.count("limit")?.map_or(LIST_ROWS, |limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let filter = OutboxFilter {
        account: read.text("account")?.map(str::to_owned),
        delivered: read.flag("delivered")?.unwrap_or(false),
        limit: Some(limit),
    };
    let rows = gw.journal.outbox_list(filter).await.map_err(refused)?;
    let rows: Vec<Value> = rows.iter().map(|row| shown(row, Some(EXCERPT_CHARS))).collect();
    Ok(json!({"count": rows.len(), "outbox": rows}).into())
}

/// `outbox.get {id}`: one delivery with its whole text.
///
/// # Errors
/// Malformed params, no such delivery, or the journal cannot be read.
pub async fn get(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let out_id = id("outbox.get", &params)?;
    let row = gw.journal.outbox(out_id).await.map_err(refused)?;
    let row = row.ok_or_else(|| RpcError::invalid(format!("no delivery {out_id} (see outbox.list)")))?;
    Ok(shown(&row, None).into())
}

/// `outbox.retry {id}`: it is due now, also when it failed, went out of date, or nobody knows whether it arrived.
///
/// # Errors
/// As [`get`]; it is being sent, or it has arrived.
pub async fn retry(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let out_id = id("outbox.retry", &params)?;
    let row = gw.journal.outbox_retry(out_id, now_us()).await.map_err(refused)?;
    gw.scheduler.deliver(&row.item.account);
    Ok(json!({"ok": true, "id": out_id.to_string(), "state": row.state.name()}).into())
}

/// `outbox.discard {id}`: nobody shall get it.
///
/// # Errors
/// As [`retry`].
pub async fn discard(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let out_id = id("outbox.discard", &params)?;
    let row = gw.journal.outbox_discard(out_id, now_us()).await.map_err(refused)?;
    // It may have stood in the way of others of its chat.
    gw.scheduler.deliver(&row.item.account);
    Ok(json!({"ok": true, "id": out_id.to_string(), "state": row.state.name()}).into())
}

fn now_us() -> i64 {
    crate::scheduler::shared::now_us()
}

fn id(method: &'static str, params: &Value) -> Result<Id, RpcError> {
    let read = Params::of(method, params);
    let text = read.required("id")?;
    Id::parse(text).ok_or_else(|| read.refuse("at /id: must be the id of a delivery"))
}

/// What the caller asked for cannot be, or the journal cannot now.
pub fn refused(error: JournalError) -> RpcError {
    match error {
        JournalError::NoSuch { .. } | JournalError::Illegal { .. } => RpcError::invalid(error.to_string()),
        error => RpcError::unavailable(error.to_string()),
    }
}

/// A row for people; its text whole, or cut to so many characters.
pub fn shown(row: &OutboxRow, chars: Option<usize>) -> Value {
    let item = &row.item;
    let text = decode_payload::<OutboundItem>(0, &item.body).map(|item| item.text).unwrap_or_default();
    let text = match chars {
        Some(chars) if text.chars().count() > chars => text.chars().take(chars).chain(['…']).collect(),
        _ => text,
    };
    json!({
        "id": item.out_id.to_string(), "account": item.account, "chat": item.chat,
        "runId": item.run_id.map(|id| id.to_string()), "part": item.part, "state": row.state.name(), "text": text,
        "class": item.class.name(), "onUnknown": item.on_unknown.name(), "attempts": row.attempts,
        "createdAtMs": item.created_us / 1000, "nextAtMs": row.next_us / 1000, "expiresAtMs": item.expires_us / 1000,
        "maybeDup": row.maybe_dup, "messageIds": row.ext_ids, "why": row.err,
    })
}
