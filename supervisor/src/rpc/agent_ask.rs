//! What an agent's tool `gateway` asks for. The worker says for which run; that the run is under way, belongs to this
//! agent and was begun by the owner is looked up here, so that a worker which says otherwise gets nothing.

use super::params::Params;
use super::{Answer, RpcError, config, update, workers};
use crate::config::agent_writes;
use crate::front::caller::Caller;
use crate::gateway::{Handles, sentinel};
use crate::journal::Journal;
use crate::scheduler::shared::now_ms;
use crate::scheduler::stored::StoredRun;
use proto::wire::WireError;
use proto::wire::agent::{AskGateway, RpcResult};
use serde_json::{Value, json};

/// How the log and the limit of writes name the tool.
const CLIENT: &str = "gateway-tool";
/// Parts of `config.get` that say the same once more: a model pays for each of them.
const TOLD_TWICE: &[&str] = &["raw", "resolved", "config", "legacyIssues", "knownNotBuilt", "includedPaths"];

/// Answers one call of the tool.
pub async fn answer(gw: &Handles, agent_id: &str, call: AskGateway) -> RpcResult {
    let method = call.method.clone();
    match act(gw, agent_id, call).await {
        Ok(value) => RpcResult { ok_json: Some(value.to_string()), error: None },
        Err(error) => {
            tracing::info!(
                agent = agent_id,
                method,
                why = error.message,
                "the agent's gateway tool was refused"
            );
            let refused = WireError::new(&error.code, with_issues(&error));
            RpcResult { ok_json: None, error: Some(refused) }
        }
    }
}

/// The message, and what exactly is wrong where a check found it: the model can mend its text by itself.
fn with_issues(error: &RpcError) -> String {
    match error.details.as_ref().and_then(|details| details.get("issues")) {
        Some(issues) => format!("{}: {issues}", error.message),
        None => error.message.clone(),
    }
}

async fn act(gw: &Handles, agent_id: &str, call: AskGateway) -> Result<Value, RpcError> {
    let session = session_of_owner(gw, agent_id, &call).await?;
    let mut params: Value = serde_json::from_str(&call.params_json).unwrap_or_default();
    if !params.is_object() {
        params = json!({});
    }
    if params["sessionKey"].as_str().is_none_or(|key| key.trim().is_empty()) {
        params["sessionKey"] = json!(session);
    }
    let caller = Caller::local_operator(format!("agent:{agent_id}"), 4, CLIENT);
    tracing::info!(agent = agent_id, session, method = call.method, "the agent's gateway tool asks");
    match call.method.as_str() {
        "gateway.restart" => restart(gw, &caller, params).await,
        "config.get" => {
            let mut shown = value(config::get(gw, &caller, params).await)?;
            drop_keys(&mut shown, TOLD_TWICE);
            Ok(shown)
        }
        "config.schema" if params["path"].is_string() => {
            value(config::schema_lookup(gw, &caller, params).await)
        }
        "config.schema" => value(config::schema(gw, &caller, params).await),
        "config.patch" | "config.apply" => write(gw, &caller, &call.method, params).await,
        "update.run" => {
            // Only what the owner wrote down as `update.command`; a path that a model names is not a release.
            drop_keys(&mut params, &["from", "checksum", "restart", "dryRun"]);
            value(update::run_update(gw, &caller, params).await)
        }
        other => Err(RpcError::invalid(format!("Unknown action: {other}"))),
    }
}

/// The session of a run that the owner began and that is under way at this agent.
async fn session_of_owner(gw: &Handles, agent_id: &str, call: &AskGateway) -> Result<String, RpcError> {
    let row = gw.journal.run(call.run_id).await.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let row = row.filter(|row| row.agent == agent_id && !row.state.ended());
    let Some(row) = row else {
        return Err(RpcError::invalid("the gateway tool works only within a run of its agent"));
    };
    if !StoredRun::decode(&row.spec).is_some_and(|spec| spec.origin.owner) {
        return Err(RpcError::invalid(
            "the gateway tool is for the owner only (commands.ownerAllowFrom, or the channel's allowFrom)",
        ));
    }
    Ok(row.session_key)
}

/// Leaves a note for the session, then plans the restart. Workers, runs and connections go on over it.
async fn restart(gw: &Handles, caller: &Caller, params: Value) -> Result<Value, RpcError> {
    if !gw.config.current().view.commands.restart {
        return Err(RpcError::invalid("Gateway restart is disabled (commands.restart=false)."));
    }
    let read = Params::of("gateway.restart", &params);
    let (note, reason) = (read.text("note")?, read.text("reason")?);
    let payload = json!({
        "kind": "restart", "status": "ok", "ts": now_ms(), "sessionKey": params["sessionKey"],
        "message": note.or(reason), "doctorHint": "Run: openclaw doctor --non-interactive",
        "stats": {"mode": "gateway.restart", "reason": reason},
    });
    sentinel::leave(&gw.config, &payload).await;
    let wish = json!({"delayMs": params["delayMs"], "reason": reason.unwrap_or("gateway tool")});
    let planned = value(workers::restart(gw, caller, wish).await);
    if planned.is_err() {
        sentinel::take_back(&gw.config).await;
    }
    planned
}

async fn write(gw: &Handles, caller: &Caller, method: &str, params: Value) -> Result<Value, RpcError> {
    let (handle, name) = (gw.config.clone(), method.to_owned());
    let checked = tokio::task::spawn_blocking(move || agent_writes::checked(&handle, &name, &params)).await;
    let params =
        checked.map_err(|error| RpcError::unavailable(error.to_string()))?.map_err(config::refusal)?;
    let mut written = match method {
        "config.patch" => value(config::patch(gw, caller, params).await)?,
        _ => value(config::apply(gw, caller, params).await)?,
    };
    drop_keys(&mut written, &["config"]);
    Ok(written)
}

fn value(answer: Answer) -> Result<Value, RpcError> {
    answer.map(|reply| reply.body.into_value())
}

fn drop_keys(value: &mut Value, names: &[&str]) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !names.contains(&key.as_str()));
    }
}
