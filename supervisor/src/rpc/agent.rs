//! `agent`, `agent.wait`: one turn for a program that waits for it.

use super::params::Params;
use super::turns::{attachments, clean_text};
use super::{Answer, Reply, RpcError, forward};
use crate::front::caller::Caller;
use crate::front::frame::Body;
use crate::front::scope::ADMIN;
use crate::gateway::Handles;
use crate::router::session_key::main_session;
use crate::scheduler::shared::now_ms;
use crate::scheduler::{RunOutcome, RunProgress, SubmitStatus, TurnRequest, WaitOutcome};
use proto::wire::agent::{Origin, OriginKind, RunInput, RunOverrides, RunStatus, Target};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// `agent.wait` without a time of its own.
pub const WAIT_MS_DEFAULT: u64 = 30_000;
/// Longest wait: a 32-bit timer.
const WAIT_MS_MAX: u64 = 2_147_483_647;
/// Metadata that goes into the session's row.
const SESSION_META: [&str; 6] =
    ["label", "spawnedBy", "groupId", "groupChannel", "groupSpace", "inputProvenance"];

/// `agent {message, idempotencyKey, …}`: answers `accepted` at once, and the outcome under the same id.
///
/// # Errors
/// Malformed params, an agent or session that does not fit, a journal that cannot store it.
pub async fn agent(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let request = request(gw, caller, &params).await?;
    gw.front.fanout.follow_run(&caller.conn_id, &request.idempotency_key, &request.session_key);
    let submitted = gw.scheduler.submit(request).await?;
    let run_id = submitted.run_id.clone();
    if submitted.status == SubmitStatus::Done
        && let Some(outcome) = submitted.progress.borrow().outcome.clone()
    {
        return finished(&run_id, &outcome).map(|body| Reply { body, then: None });
    }
    let accepted = json!({"runId": run_id, "status": "accepted", "acceptedAt": submitted.accepted_ms});
    Ok(Reply::followed_by(accepted, ended(run_id, submitted.progress)))
}

/// The second response of [`agent`] for a run that was accepted before an in-place restart; `None` when the run is
/// not known any more.
pub async fn outcome_of(
    gw: &Handles,
    run_id: &str,
) -> Option<impl Future<Output = Result<Body, RpcError>> + use<>> {
    let progress = gw.scheduler.follow(run_id).await?;
    Some(ended(run_id.to_owned(), progress))
}

async fn ended(run_id: String, mut progress: watch::Receiver<RunProgress>) -> Result<Body, RpcError> {
    let outcome = match progress.wait_for(|progress| progress.outcome.is_some()).await {
        Ok(progress) => progress.outcome.clone(),
        Err(_) => None,
    };
    match outcome {
        Some(outcome) => finished(&run_id, &outcome),
        None => {
            Err(RpcError::unavailable("gateway draining for restart; ask again with the same idempotencyKey"))
        }
    }
}

fn finished(run_id: &str, outcome: &RunOutcome) -> Result<Body, RpcError> {
    if outcome.status == RunStatus::Error {
        let summary = outcome.error.as_ref().map_or("failed", |error| error.message.as_str());
        let details = json!({"runId": run_id, "status": "error", "summary": summary});
        return Err(RpcError::unavailable(summary).with_details(details));
    }
    let payloads: Vec<Value> =
        outcome.payloads.iter().map(|text| json!({"text": text, "mediaUrl": null})).collect();
    let mut meta = outcome.meta.as_object().cloned().unwrap_or_default();
    meta.entry("durationMs").or_insert_with(|| json!((outcome.ended_ms - outcome.started_ms).max(0)));
    if outcome.status != RunStatus::Ok {
        meta.insert("aborted".to_owned(), json!(true));
    }
    let summary = match outcome.status {
        RunStatus::Timeout => "timeout",
        RunStatus::Aborted => "aborted",
        _ => "completed",
    };
    Ok(json!({"runId": run_id, "status": "ok", "summary": summary, "result": {"payloads": payloads, "meta": meta}}).into())
}

async fn request(gw: &Handles, caller: &Caller, params: &Value) -> Result<TurnRequest, RpcError> {
    let read = Params::of("agent", params);
    let key = read.required("idempotencyKey")?.to_owned();
    let message = clean_text(read.required("message")?)?;
    let (session_key, agent_id) = target(gw, &read)?;
    let media = attachments(&gw.front.paths.state_dir, params.get("attachments")).await?;
    let timeout_ms = read.count("timeout")?.map(|seconds| seconds.saturating_mul(1000));
    let text = |name: &str| read.text(name).map(|text| text.map(str::to_owned));
    let meta: Map<String, Value> = SESSION_META
        .iter()
        .filter_map(|name| params.get(*name).map(|value| ((*name).to_owned(), value.clone())))
        .collect();
    Ok(TurnRequest {
        method: "agent",
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
        overrides: RunOverrides {
            thinking: text("thinking")?,
            provider: text("provider")?,
            model: text("model")?,
            extra_system_prompt: text("extraSystemPrompt")?,
            prompt_mode: text("promptMode")?,
            session_id: text("sessionId")?,
            session_meta_json: (!meta.is_empty()).then(|| Value::Object(meta).to_string()),
            ..RunOverrides::default()
        },
        origin: Origin {
            kind: OriginKind::Agent,
            channel: text("channel")?.unwrap_or_else(|| "webchat".to_owned()),
            chat_type: Some("direct".to_owned()),
            owner: caller.may(ADMIN),
            client: Some(caller.client.id.clone()),
            ..Origin::default()
        },
        deliver_to: deliver_to(gw, &read)?,
        timeout_ms,
        lane: text("lane")?.unwrap_or_else(|| "main".to_owned()),
    })
}

/// Session and agent: an explicit key wins; it must belong to the agent that is named.
fn target(gw: &Handles, read: &Params<'_>) -> Result<(String, String), RpcError> {
    let config = gw.config.current();
    let agents = &config.view.agents;
    let named = read.text("agentId")?.map(proto::view::normalize_agent_id);
    let known = agents.list.iter().map(|agent| agent.id.as_str()).collect::<Vec<_>>().join(", ");
    let refuse = |id: &str| RpcError::invalid(format!("unknown agent id \"{id}\" (configured: {known})"));
    if let Some(id) = named.as_deref().filter(|id| !agents.contains(id)) {
        return Err(refuse(id));
    }
    if let Some(raw) = read.text("sessionKey")? {
        let malformed =
            raw.trim().to_lowercase().strip_prefix("agent:").is_some_and(|rest| !rest.contains(':'));
        if malformed {
            return Err(RpcError::invalid(format!("invalid agent params: malformed session key \"{raw}\"")));
        }
        let (key, owner) = forward::session(gw, raw);
        if named.as_ref().is_some_and(|named| *named != owner) {
            let named = named.unwrap_or_default();
            return Err(RpcError::invalid(format!(
                "invalid agent params: agent \"{named}\" does not match session key agent \"{owner}\""
            )));
        }
        return if agents.contains(&owner) { Ok((key, owner)) } else { Err(refuse(&owner)) };
    }
    let agent = named.unwrap_or_else(|| agents.default_id().to_owned());
    Ok((main_session(&agent, &config.view.session), agent))
}

/// `deliver: true` with a channel and a target.
fn deliver_to(gw: &Handles, read: &Params<'_>) -> Result<Option<Target>, RpcError> {
    if !read.flag("deliver")?.unwrap_or(false) {
        return Ok(None);
    }
    let channel = read.text("replyChannel")?.or(read.text("channel")?);
    let chat = read.text("replyTo")?.or(read.text("to")?);
    let config = gw.config.current();
    let mut configured = config.view.channels.keys();
    let only = configured.next().filter(|_| configured.next().is_none()).map(String::as_str);
    let (Some(channel), Some(chat)) = (channel.or(only), chat) else {
        return Err(RpcError::invalid("deliver needs a channel and a target: set channel and to"));
    };
    let Some(view) = config.view.channels.get(channel) else {
        return Err(RpcError::invalid(format!("unsupported channel: {channel}")));
    };
    let account = read.text("replyAccountId")?.or(read.text("accountId")?).unwrap_or(&view.default_account);
    Ok(Some(Target {
        channel: channel.to_owned(),
        account: account.to_owned(),
        chat: chat.to_owned(),
        thread: read.text("threadId")?.map(str::to_owned),
    }))
}

/// `agent.wait {runId, timeoutMs?}`: never stops the run.
///
/// # Errors
/// Malformed params.
pub async fn wait(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("agent.wait", &params);
    let run_id = read.required("runId")?;
    let timeout_ms = read.count("timeoutMs")?.unwrap_or(WAIT_MS_DEFAULT).min(WAIT_MS_MAX);
    let answer = match gw.scheduler.wait(run_id, timeout_ms).await {
        WaitOutcome::Expired => json!({"runId": run_id, "status": "timeout"}),
        WaitOutcome::Ended(outcome) => {
            let (started, ended) = (outcome.started_ms, outcome.ended_ms);
            match outcome.status {
                RunStatus::Ok => {
                    json!({"runId": run_id, "status": "ok", "startedAt": started, "endedAt": ended})
                }
                RunStatus::Aborted | RunStatus::Timeout => {
                    json!({"runId": run_id, "status": "timeout", "startedAt": started, "endedAt": ended})
                }
                RunStatus::Error => {
                    let error = outcome.error.as_ref().map_or("failed", |error| error.message.as_str());
                    json!({"runId": run_id, "status": "error", "startedAt": started, "endedAt": ended, "error": error})
                }
            }
        }
    };
    Ok(answer.into())
}
