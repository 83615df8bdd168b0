//! Methods that an agent's worker owns: the call is passed on, the answer comes back as the worker wrote it.

use super::{Answer, Reply, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::router::{agent_of_key, session_key};
use proto::wire::agent::{AgentToSup, RpcCall, SupToAgent};
use proto::wire::handshake::WorkerId;
use proto::wire::{Wire, WireError};
use serde_json::Value;

/// A worker reads a transcript or writes a file; more than this is a fault that the client should hear of.
const CALL_MS: u64 = 20_000;

/// Calls a method of an agent's worker, starting it if need be.
///
/// # Errors
/// The agent does not exist or cannot be started, the worker refused, or it did not answer in time.
pub async fn to_agent(gw: &Handles, caller: &Caller, agent_id: &str, method: &str, params: &Value) -> Answer {
    let config = gw.config.current();
    if !config.view.agents.contains(agent_id) {
        return Err(RpcError::invalid(format!("unknown agent id \"{agent_id}\"")));
    }
    let worker = WorkerId::agent(agent_id);
    let unavailable =
        |why: String| RpcError::unavailable(format!("agent \"{agent_id}\" does not answer: {why}"));
    gw.workers.ensure_started(worker.clone()).await.map_err(|error| unavailable(error.to_string()))?;
    let call = RpcCall {
        method: method.to_owned(),
        params_json: params.to_string(),
        protocol: caller.protocol,
        client: Some(format!("{}/{}", caller.client.id, caller.client.mode)),
    };
    let answered = gw.workers.request(&worker, SupToAgent::Rpc(call), CALL_MS).await;
    let (code, payload) = answered.map_err(|error| unavailable(error.to_string()))?;
    match AgentToSup::decode(code, &payload) {
        Ok(AgentToSup::RpcResult(result)) => match result.error {
            Some(error) => Err(error.into()),
            None => Reply::raw(result.ok_json.unwrap_or_else(|| "null".to_owned())),
        },
        _ => Err(WireError::unavailable("the agent's worker answered with something else").into()),
    }
}

/// The session key that the caller means, canonical, and the agent that it belongs to.
pub fn session(gw: &Handles, raw: &str) -> (String, String) {
    let config = gw.config.current();
    let key = session_key::canonical(raw, config.view.agents.default_id(), &config.view.session);
    let agent = match session_key::parse(&key) {
        Some(_) => agent_of_key(&key),
        None => config.view.agents.default_id().to_owned(),
    };
    (key, agent)
}

/// Passes a call on to the agent of `params[field]`, with that key made canonical.
///
/// # Errors
/// As [`to_agent`]; or the key is missing.
pub async fn by_session(
    gw: &Handles,
    caller: &Caller,
    method: &'static str,
    field: &str,
    mut params: Value,
) -> Answer {
    let raw = super::params::Params::of(method, &params).required(field)?.to_owned();
    let (key, agent) = session(gw, &raw);
    if let Some(map) = params.as_object_mut() {
        map.insert(field.to_owned(), Value::String(key));
    }
    to_agent(gw, caller, &agent, method, &params).await
}

/// Passes a call on to the agent of `params.agentId`, else of `params.sessionKey`, else to the default agent.
///
/// # Errors
/// As [`to_agent`].
pub async fn by_agent(gw: &Handles, caller: &Caller, method: &'static str, params: Value) -> Answer {
    let read = super::params::Params::of(method, &params);
    let agent = match (read.text("agentId")?, read.text("sessionKey")?) {
        (Some(agent), _) => proto::view::normalize_agent_id(agent),
        (None, Some(key)) => session(gw, key).1,
        (None, None) => gw.config.current().view.agents.default_id().to_owned(),
    };
    to_agent(gw, caller, &agent, method, &params).await
}
