//! `dead-letters.*`: messages that nobody will get unless a person decides.

use super::params::Params;
use super::{Answer, RpcError, outbox};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::inbound::is_unread;
use crate::journal::{DeadKind, DeadLetter, Journal, JournalError, Revived};
use crate::scheduler::shared::now_us;
use crate::scheduler::stored::StoredTurn;
use crate::takeover;
use proto::wire::Id;
use serde_json::{Value, json};

/// `dead-letters.list {}`: oldest first.
///
/// # Errors
/// The journal cannot be read.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let letters = gw.journal.dead_list().await.map_err(outbox::refused)?;
    let letters: Vec<Value> = letters.iter().map(row).collect();
    Ok(json!({"count": letters.len(), "deadLetters": letters}).into())
}

fn row(letter: &DeadLetter) -> Value {
    let item = &letter.item;
    json!({
        "id": letter.id, "kind": item.kind.name(), "reference": item.reference, "account": item.account,
        "chat": item.chat, "why": item.why, "atMs": item.at_us / 1000,
    })
}

/// `dead-letters.get {id}`: one with the message itself.
///
/// # Errors
/// Malformed params, no such letter, or the journal cannot be read.
pub async fn get(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let id = id("dead-letters.get", &params)?;
    let letter = gw.journal.dead_get(id).await.map_err(outbox::refused)?;
    let mut shown = row(&letter);
    let message = content(gw, &letter).await.map_err(outbox::refused)?;
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("message".to_owned(), message);
    }
    Ok(shown.into())
}

async fn content(gw: &Handles, letter: &DeadLetter) -> Result<Value, JournalError> {
    let reference = &letter.item.reference;
    match letter.item.kind {
        DeadKind::Imported => {
            let (state_dir, file) = (gw.front.paths.state_dir.clone(), reference.clone());
            let read = tokio::task::spawn_blocking(move || takeover::leftover_text(&state_dir, &file)).await;
            let text = read.ok().flatten();
            Ok(json!({"file": format!("delivery-queue/{reference}"), "text": text}))
        }
        DeadKind::Outbox => {
            let Some(out_id) = Id::parse(reference) else { return Ok(Value::Null) };
            let row = gw.journal.outbox(out_id).await?;
            Ok(row.map_or(Value::Null, |row| outbox::shown(&row, None)))
        }
        DeadKind::Inbound => {
            let Ok(seq) = reference.parse() else { return Ok(Value::Null) };
            let Some(row) = gw.journal.inbound(seq).await? else { return Ok(Value::Null) };
            let turn = StoredTurn::decode(&row.body);
            // What was kept unread is shown as it came.
            let text = match turn {
                Some(turn) => Some(turn.input.text),
                None if is_unread(&row) => Some(String::from_utf8_lossy(&row.body).into_owned()),
                None => None,
            };
            Ok(json!({
                "seq": row.seq, "extId": row.ext_id, "sessionKey": row.session_key, "agentId": row.agent,
                "runId": row.run_id.map(|id| id.to_string()), "receivedAtMs": row.recv_us / 1000, "text": text,
            }))
        }
    }
}

/// `dead-letters.retry {id}`: the message goes back into its session's queue, the reply is sent after all.
///
/// # Errors
/// As [`get`]; left by another gateway, or the journal cannot write.
pub async fn retry(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let id = id("dead-letters.retry", &params)?;
    match gw.journal.dead_retry(id, now_us()).await.map_err(outbox::refused)? {
        Revived::Message { seq } => gw.scheduler.revive(seq),
        Revived::Delivery { account } => gw.scheduler.deliver(&account),
        Revived::Nothing => {
            let why = "was left by another gateway, or its channel could not read it: it can be shown and discarded, not tried again";
            return Err(RpcError::invalid(format!("dead letter {id} {why}")));
        }
    }
    Ok(json!({"ok": true, "id": id}).into())
}

/// `dead-letters.discard {id}`: forgets it.
///
/// # Errors
/// Malformed params, no such letter, or the journal cannot write.
pub async fn discard(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let id = id("dead-letters.discard", &params)?;
    if !gw.journal.dead_discard(id).await.map_err(outbox::refused)? {
        return Err(RpcError::invalid(format!("no dead letter {id} (see dead-letters.list)")));
    }
    Ok(json!({"ok": true, "id": id, "discarded": true}).into())
}

fn id(method: &'static str, params: &Value) -> Result<i64, RpcError> {
    let read = Params::of(method, params);
    let id = read.count("id")?.ok_or_else(|| read.refuse("must have required property 'id'"))?;
    i64::try_from(id).map_err(|_| read.refuse("at /id: no such dead letter"))
}
