//! `send`: a message of the operator to a chat network, without an agent. It goes through the outbox like every other
//! message: stored first, in order within its chat, sent once.

use super::params::Params;
use super::turns::clean_text;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::outbox::origin_of;
use crate::journal::{DedupeClaim, Journal, JournalError, OutState};
use crate::scheduler::outcome::row_to;
use crate::scheduler::shared::now_us;
use proto::wire::Id;
use proto::wire::agent::{OutPart, Target};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The channel of pages: it has no chats to send to.
const INTERNAL_CHANNEL: &str = "webchat";
/// How long the answer waits for the network; later the message is still sent, and the answer says `queued`.
const DELIVERY_WAIT: Duration = Duration::from_secs(10);
/// How often the answer looks whether the message is out: one indexed read of the journal.
const DELIVERY_LOOK: Duration = Duration::from_millis(50);

/// `send {to, message, channel?, accountId?, threadId?, idempotencyKey}`:
/// `{runId, status: "sent"|"queued", messageId?, channel, accountId, chatId}`.
///
/// # Errors
/// Malformed params, a channel that is not configured, a key that was used for something else, a journal that cannot
/// store it, a network that refused it for good.
pub async fn send(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("send", &params);
    let key = read.required("idempotencyKey")?.to_owned();
    let to = target(gw, &read)?;
    let text = clean_text(read.text("message")?.unwrap_or_default())?;
    if ["mediaUrl", "mediaUrls", "buffer"].iter().any(|name| params.get(name).is_some_and(|v| !v.is_null())) {
        return Err(read.refuse("files cannot be sent by this method; send the text alone"));
    }
    if text.trim().is_empty() {
        return Err(read.refuse("must have required property 'message'"));
    }
    let out_id = store_once(gw, &key, &to, text).await?;
    let mut answer = json!({
        "runId": key, "status": "queued", "channel": to.channel, "accountId": to.account, "chatId": to.chat,
    });
    if let Some(message_id) = delivered(gw, out_id).await? {
        answer["status"] = "sent".into();
        answer["messageId"] = message_id.into();
    }
    Ok(answer.into())
}

fn target(gw: &Handles, read: &Params<'_>) -> Result<Target, RpcError> {
    let to = read.required("to")?.trim();
    let config = gw.config.current();
    let mut configured = config.view.channels.keys();
    let only = configured.next().filter(|_| configured.next().is_none()).map(String::as_str);
    let Some(channel) = read.text("channel")?.or(only) else {
        return Err(read.refuse("must have required property 'channel'"));
    };
    let channel = channel.trim().to_ascii_lowercase();
    if channel == INTERNAL_CHANNEL {
        return Err(RpcError::invalid(format!(
            "unsupported channel: {channel} (internal-only). Use `chat.send` for WebChat UI messages or choose a deliverable channel."
        )));
    }
    let Some(view) = config.view.channels.get(&channel) else {
        return Err(RpcError::invalid(format!("unsupported channel: {channel}")));
    };
    let account = read.text("accountId")?.unwrap_or(&view.default_account).to_owned();
    if !view.active().any(|(id, _)| id == account) {
        return Err(RpcError::invalid(format!(
            "channel {channel} has no enabled account \"{account}\": see channels.status for its accounts"
        )));
    }
    let chat = to.strip_prefix(&format!("{channel}:")).unwrap_or(to).to_owned();
    Ok(Target { channel, account, chat, thread: read.text("threadId")?.map(str::to_owned) })
}

/// One message per key. The row's id comes from the key, so a repetition after a crash in between makes the same row.
async fn store_once(gw: &Handles, key: &str, to: &Target, text: String) -> Result<Id, RpcError> {
    let wanted = json!([to.channel, to.account, to.chat, to.thread, text]).to_string();
    let req_hash: [u8; 32] = Sha256::digest(wanted.as_bytes()).into();
    let claim = DedupeClaim {
        method: "send".to_owned(),
        key: key.to_owned(),
        req_hash: Some(req_hash),
        now_us: now_us(),
    };
    let origin = origin_of("send", key);
    match gw.journal.dedupe_claim(claim).await.map_err(|error| unavailable(&error))? {
        Some(known) if known.req_hash.is_some_and(|hash| hash != req_hash) => {
            return Err(RpcError::invalid(format!(
                "idempotency key \"{key}\" was used with other parameters"
            )));
        }
        // Stored before: the row may have been sent and cleared away, it must not come back.
        Some(known) if known.res.is_some() => return Ok(Id::derived(&origin, "part", 0)),
        Some(_) | None => {}
    }
    let out_id = enqueue(gw, &origin, to, text).await?;
    let stored = gw.journal.dedupe_put("send".to_owned(), key.to_owned(), out_id.to_string().into_bytes());
    stored.await.map_err(|error| unavailable(&error))?;
    Ok(out_id)
}

/// Stores one message that no run made and has it sent. The same origin never makes two.
///
/// # Errors
/// The journal cannot store it.
pub async fn enqueue(gw: &Handles, origin: &Id, to: &Target, text: String) -> Result<Id, RpcError> {
    let row = row_to(origin, None, to, &OutPart { text, ..OutPart::default() }, None, now_us());
    let (out_id, account) = (row.out_id, row.account.clone());
    gw.journal.add_outbox(vec![row]).await.map_err(|error| unavailable(&error))?;
    gw.scheduler.deliver(&account);
    Ok(out_id)
}

/// The network's id of the message, once it is out; `None` when it still waits.
async fn delivered(gw: &Handles, out_id: Id) -> Result<Option<String>, RpcError> {
    let end = tokio::time::Instant::now() + DELIVERY_WAIT;
    loop {
        let row = gw.journal.outbox(out_id).await.map_err(|error| unavailable(&error))?;
        let Some(row) = row else { return Ok(None) };
        match row.state {
            OutState::Delivered => return Ok(row.ext_ids.last().cloned()),
            OutState::Failed | OutState::Expired => {
                let why = row.err.unwrap_or_else(|| row.state.name().to_owned());
                return Err(RpcError::unavailable(format!("message not sent: {why}")));
            }
            _ if tokio::time::Instant::now() >= end => return Ok(None),
            _ => tokio::time::sleep(DELIVERY_LOOK).await,
        }
    }
}

fn unavailable(error: &JournalError) -> RpcError {
    RpcError::unavailable(error.to_string())
}
