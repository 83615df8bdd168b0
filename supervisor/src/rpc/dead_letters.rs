//! `dead-letters.*`: messages that nobody will get unless a person decides.

use super::params::Params;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::{DeadLetter, Journal};
use serde_json::{Value, json};

/// `dead-letters.list {}`: oldest first.
///
/// # Errors
/// The journal cannot be read.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let letters = gw.journal.dead_list().await.map_err(|error| RpcError::unavailable(error.to_string()))?;
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

/// `dead-letters.discard {id}`: forgets it.
///
/// # Errors
/// Malformed params, or the journal cannot write.
pub async fn discard(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("dead-letters.discard", &params);
    let id = read.count("id")?.ok_or_else(|| read.refuse("must have required property 'id'"))?;
    let id = i64::try_from(id).map_err(|_| read.refuse("at /id: no such dead letter"))?;
    let gone = gw.journal.dead_discard(id).await.map_err(|error| RpcError::unavailable(error.to_string()))?;
    Ok(json!({"ok": true, "id": id, "discarded": gone}).into())
}
