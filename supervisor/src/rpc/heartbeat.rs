//! `wake`, and the heartbeat's switches. No turn runs by the clock here: `wake` is what starts one without a message.

use super::params::Params;
use super::{Answer, RpcError, forward};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use proto::view::normalize_agent_id;
use serde_json::{Value, json};

/// Bytes of one system event: it becomes one line in front of a prompt.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// `last-heartbeat {}`: what the last heartbeat did; `null`, as there was none.
///
/// # Errors
/// None.
pub async fn last(_gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    Ok(Value::Null.into())
}

/// `set-heartbeats {enabled}`: the answer that clients wait for. There is no timer that it could stop.
///
/// # Errors
/// `enabled` is missing or no boolean.
pub async fn set(_gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("set-heartbeats", &params);
    let enabled =
        read.flag("enabled")?.ok_or_else(|| read.refuse("must have required property 'enabled'"))?;
    Ok(json!({"ok": true, "enabled": enabled}).into())
}

/// `wake {mode, text, sessionKey?, agentId?}`: a line for the next prompt of a session (the default agent's main one),
/// kept in the journal until a turn has told it; with mode `now` that turn starts at once.
///
/// # Errors
/// Malformed params, an agent that is not configured, a journal that cannot store it.
pub async fn wake(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("wake", &params);
    let now = match read.required("mode")? {
        "now" => true,
        "next-heartbeat" => false,
        _ => return Err(read.refuse("at /mode: must be equal to one of the allowed values")),
    };
    let text = read.required("text")?.trim();
    if text.len() > TEXT_BYTES_MAX {
        let why = format!("at /text: {} bytes are more than {TEXT_BYTES_MAX}", text.len());
        return Err(read.refuse(&why));
    }
    let raw = match (read.text("sessionKey")?, read.text("agentId")?) {
        (Some(key), _) => key.to_owned(),
        (None, Some(agent)) => format!("agent:{}:main", normalize_agent_id(agent)),
        (None, None) => "main".to_owned(),
    };
    let (session_key, agent) = forward::session(gw, &raw);
    if !gw.config.current().view.agents.contains(&agent) {
        return Err(RpcError::invalid(format!("unknown agent id \"{agent}\"")));
    }
    gw.scheduler.system_event(&session_key, text, now).await?;
    Ok(json!({"ok": true}).into())
}
