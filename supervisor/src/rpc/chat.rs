//! `chat.*`: a conversation as the page and the terminal client hold it.

use super::params::Params;
use super::turns::{attachments, clean_text};
use super::{Answer, RpcError, forward};
use crate::front::caller::Caller;
use crate::front::scope::ADMIN;
use crate::gateway::Handles;
use crate::scheduler::shared::now_ms;
use crate::scheduler::stop_words::is_stop_request;
use crate::scheduler::{RunProgress, SubmitStatus, TurnRequest};
use proto::wire::agent::{Origin, OriginKind, RunInput, RunOverrides, RunStatus};
use serde_json::{Value, json};
use tokio::sync::watch;

/// `chat.send {sessionKey, message, idempotencyKey, thinking?, attachments?, timeoutMs?}`.
///
/// # Errors
/// Malformed params, an empty message, a journal that cannot store it.
pub async fn send(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("chat.send", &params);
    let key = read.required("idempotencyKey")?.to_owned();
    let (session_key, agent_id) = forward::session(gw, read.required("sessionKey")?);
    let message = clean_text(read.text("message")?.unwrap_or_default())?;
    let media = attachments(&gw.front.paths.state_dir, params.get("attachments")).await?;
    if message.trim().is_empty() && media.is_empty() {
        return Err(RpcError::invalid("message or attachment required"));
    }
    if !gw.config.current().view.agents.contains(&agent_id) {
        return Err(RpcError::invalid(format!("unknown agent id \"{agent_id}\"")));
    }
    if is_stop_request(&message) {
        let stopped = gw.scheduler.abort(&session_key, None, "stop-command").await?;
        return Ok(json!({"ok": true, "aborted": stopped.aborted, "runIds": stopped.run_ids}).into());
    }
    gw.front.fanout.follow_run(&caller.conn_id, &key, &session_key);
    let thinking = read.text("thinking")?.map(str::to_owned);
    let timeout_ms = read.count("timeoutMs")?;
    let submitted = gw
        .scheduler
        .submit(TurnRequest {
            method: "chat.send",
            idempotency_key: key,
            agent_id,
            session_key,
            input: RunInput {
                text: message.clone(),
                raw: message,
                attachments: media,
                ts_ms: now_ms(),
                authorised: true,
                ..RunInput::default()
            },
            overrides: RunOverrides { thinking, ..RunOverrides::default() },
            origin: Origin {
                kind: OriginKind::Chat,
                channel: "webchat".to_owned(),
                chat_type: Some("direct".to_owned()),
                owner: caller.may(ADMIN),
                client: Some(caller.client.id.clone()),
                ..Origin::default()
            },
            deliver_to: None,
            timeout_ms,
            lane: "main".to_owned(),
        })
        .await?;
    let status = match submitted.status {
        SubmitStatus::Started | SubmitStatus::Queued => "started",
        SubmitStatus::InFlight => "in_flight",
        SubmitStatus::Done => "ok",
    };
    let mut answer = json!({"runId": submitted.run_id, "status": status});
    if submitted.status == SubmitStatus::Done
        && let Some(summary) = failure(&submitted.progress)
    {
        answer["status"] = json!("error");
        answer["summary"] = json!(summary);
    }
    Ok(answer.into())
}

/// Why a known run failed, if it did.
fn failure(progress: &watch::Receiver<RunProgress>) -> Option<String> {
    let progress = progress.borrow();
    let outcome = progress.outcome.as_ref()?;
    (outcome.status == RunStatus::Error)
        .then(|| outcome.error.as_ref().map_or_else(|| "failed".to_owned(), |error| error.message.clone()))
}

/// `chat.abort {sessionKey, runId?}`.
///
/// # Errors
/// The run belongs to another session.
pub async fn abort(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("chat.abort", &params);
    let (session_key, _) = forward::session(gw, read.required("sessionKey")?);
    let stopped = gw.scheduler.abort(&session_key, read.text("runId")?, "rpc").await?;
    Ok(json!({"ok": true, "aborted": stopped.aborted, "runIds": stopped.run_ids}).into())
}

/// `chat.history {sessionKey, limit?}`, from the agent's worker.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn history(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_session(gw, caller, "chat.history", "sessionKey", params).await
}

/// `chat.startup`: the history, in the later release's words.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn startup(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let raw = Params::of("chat.startup", &params).required("sessionKey")?.to_owned();
    let (key, agent) = forward::session(gw, &raw);
    let mut params = params;
    params["sessionKey"] = json!(key);
    forward::to_agent(gw, caller, &agent, "chat.history", &params).await
}

/// `chat.inject {sessionKey, message, label?}`.
///
/// # Errors
/// The session has no transcript yet.
pub async fn inject(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_session(gw, caller, "chat.inject", "sessionKey", params).await
}
