//! `channels.pairing.*`: strangers who wrote to a bot and wait to be let in, and taking that back. Names of our own: the
//! original does this on its command line only. The router reads the files on each message, so an answer holds at once.
//!
//! Not here: pairing of devices ([`super::device`]).

use super::params::Params;
use super::{Answer, RpcError, send};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::outbox::origin_of;
use crate::router::pairing::{APPROVED_TEXT, Approved, CODE_TTL_MS, PairingError, PairingStore, Request};
use crate::scheduler::shared::now_ms;
use proto::wire::agent::Target;
use serde_json::{Value, json};

/// Runs one step on the files, which block.
async fn on_files<T: Send + 'static>(
    gw: &Handles,
    act: impl FnOnce(&PairingStore) -> Result<T, PairingError> + Send + 'static,
) -> Result<T, RpcError> {
    let store = gw.pairing.clone();
    let done = tokio::task::spawn_blocking(move || act(&store)).await;
    let done = done.map_err(|error| RpcError::unavailable(error.to_string()))?;
    done.map_err(|error| match error {
        PairingError::BadName(_) => RpcError::invalid(error.to_string()),
        error => RpcError::unavailable(error.to_string()),
    })
}

/// `channels.pairing.list {channel?, accountId?}`: `{ttlMs, requests: [{channel, accountId, id, code, createdAt,
/// lastSeenAt, meta}]}`, of one channel or of all that are configured.
///
/// # Errors
/// Malformed params; a file that cannot be read.
pub async fn list(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("channels.pairing.list", &params);
    let account = read.text("accountId")?.map(str::to_owned);
    let channels: Vec<String> = match read.text("channel")? {
        Some(channel) => vec![channel.to_owned()],
        None => gw.config.current().view.channels.keys().cloned().collect(),
    };
    let requests = on_files(gw, move |store| {
        let mut rows = Vec::new();
        for channel in channels {
            let waiting = store.pending(&channel, account.as_deref(), now_ms())?;
            rows.extend(waiting.iter().map(|request| row(&channel, request)));
        }
        Ok(rows)
    });
    Ok(json!({"ttlMs": CODE_TTL_MS, "requests": requests.await?}).into())
}

fn row(channel: &str, request: &Request) -> Value {
    json!({
        "channel": channel, "accountId": request.account(), "id": request.id, "code": request.code,
        "createdAt": request.created_at, "lastSeenAt": request.last_seen_at, "meta": request.meta,
    })
}

/// `channels.pairing.approve {channel, code, accountId?, notify?}`: `{channel, accountId, id, notified}`.
///
/// # Errors
/// Malformed params; no such code, or it is older than an hour; a file that cannot be written.
pub async fn approve(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("channels.pairing.approve", &params);
    let (channel, code) = (read.required("channel")?.to_owned(), read.required("code")?.to_owned());
    let account = read.text("accountId")?.map(str::to_owned);
    let notify = read.flag("notify")?.unwrap_or(false);
    let (in_channel, wanted) = (channel.clone(), code.clone());
    let done = on_files(gw, move |store| store.approve(&in_channel, &wanted, account.as_deref(), now_ms()));
    let Some(approved) = done.await? else {
        return Err(RpcError::invalid(format!("No pending pairing request found for code: {}", code.trim())));
    };
    tracing::info!(channel, account = approved.account, sender = approved.id, "sender approved");
    let notified = notify && tell(gw, &channel, &approved).await;
    Ok(json!({"channel": channel, "accountId": approved.account, "id": approved.id, "notified": notified})
        .into())
}

/// Tells the sender that they are let in. The approval holds whether or not this works.
async fn tell(gw: &Handles, channel: &str, approved: &Approved) -> bool {
    let to = Target {
        channel: channel.to_owned(),
        account: approved.account.clone(),
        chat: approved.id.clone(),
        thread: None,
    };
    // One note per request: the code is part of the name.
    let name = format!("approved|{}|{}", approved.id, approved.request.code);
    let origin = origin_of(&format!("{channel}:{}", approved.account), &name);
    match send::enqueue(gw, &origin, &to, APPROVED_TEXT.to_owned()).await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(channel, sender = approved.id, why = error.message, "approved sender not told");
            false
        }
    }
}

/// `channels.pairing.revoke {channel, id, accountId?}`: `{channel, accountId, id, revoked}`; `revoked` is false when the
/// sender was not approved.
///
/// # Errors
/// Malformed params; a file that cannot be written.
pub async fn revoke(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("channels.pairing.revoke", &params);
    let (channel, id) = (read.required("channel")?.to_owned(), read.required("id")?.to_owned());
    let config = gw.config.current();
    let default = config.view.channels.get(&channel).map_or("default", |view| &view.default_account);
    let account = read.text("accountId")?.unwrap_or(default).to_owned();
    let (in_channel, of_account, sender) = (channel.clone(), account.clone(), id.clone());
    let revoked = on_files(gw, move |store| store.revoke(&in_channel, &of_account, &sender)).await?;
    if revoked {
        tracing::info!(channel, account, sender = id, "approval of a sender taken back");
    }
    Ok(json!({"channel": channel, "accountId": account, "id": id, "revoked": revoked}).into())
}
