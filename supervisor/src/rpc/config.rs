//! `config.*`: the configuration's owner as clients see it. Reading, judging and writing block on the disk, so each call
//! is a blocking task; a write tells the clients, and plans the restart that it needs.

use super::{Answer, Reply, RpcError};
use crate::config::ConfigHandle;
use crate::config::rpc::{self as owner, ConfigReply, ConfigRpcError};
use crate::config::write_limit::Writer;
use crate::events::GatewayEvent;
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::scheduler::shared::now_ms;
use serde_json::{Value, json};
use std::borrow::Cow;

type Write = fn(&ConfigHandle, &Value, &Writer, i64) -> Result<ConfigReply, ConfigRpcError>;

/// `config.get {}`: the file as it is now, secrets hidden.
///
/// # Errors
/// The gateway is stopping.
pub async fn get(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let config = gw.config.clone();
    Ok(blocking(move || owner::get(&config)).await?.into())
}

/// `config.schema {}`.
///
/// # Errors
/// The gateway is stopping.
pub async fn schema(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let config = gw.config.clone();
    Ok(blocking(move || owner::schema(&config, now_ms())).await?.into())
}

/// `config.schema.lookup {path}`: one node and a line per child.
///
/// # Errors
/// No path, or one that the schema does not have.
pub async fn schema_lookup(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let config = gw.config.clone();
    let found = blocking(move || owner::schema_lookup(&config, &params)).await?;
    found.map(Reply::from).map_err(refusal)
}

/// `config.plan {raw?, patch?}`: what a change would do, without doing it.
///
/// # Errors
/// Wrong parameters.
pub async fn plan(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let (config, protocol) = (gw.config.clone(), caller.protocol);
    let planned = blocking(move || owner::plan(&config, &params, protocol)).await?;
    planned.map(Reply::from).map_err(refusal)
}

/// `config.set {raw, baseHash}`: a new text, without a restart. Not limited: it is how a form saves.
///
/// # Errors
/// Stale hash, a text that is not valid, or one that cannot be written.
pub async fn set(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    write(gw, writer(caller), params, owner::set).await
}

/// `config.patch {raw, baseHash, note?, sessionKey?, restartDelayMs?}`: changes keys, then restarts.
///
/// # Errors
/// As `config.set`; too many writes.
pub async fn patch(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    limited(gw, caller, "config.patch", params, owner::patch).await
}

/// `config.apply {raw, baseHash, …}`: replaces everything, then restarts.
///
/// # Errors
/// As `config.set`; too many writes.
pub async fn apply(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    limited(gw, caller, "config.apply", params, owner::apply).await
}

pub(super) fn writer(caller: &Caller) -> Writer {
    Writer {
        client_id: caller.client.id.clone(),
        device_id: caller.device_id.clone(),
        ip: caller.ip.map(|ip| ip.to_string()),
        connection: caller.conn_id.clone(),
        protocol: caller.protocol,
    }
}

async fn limited(gw: &Handles, caller: &Caller, method: &str, params: Value, act: Write) -> Answer {
    let writer = writer(caller);
    let counted = gw.config.count_write(&writer, method, now_ms());
    counted.map_err(|limited| refusal(ConfigRpcError::limited(method, &limited)))?;
    write(gw, writer, params, act).await
}

async fn write(gw: &Handles, writer: Writer, params: Value, act: Write) -> Answer {
    let (config, fanout) = (gw.config.clone(), gw.front.fanout.clone());
    let written = blocking(move || {
        let reply = act(&config, &params, &writer, now_ms())?;
        // From here, so that the event is on its way before the answer is.
        if let Some(mut event) = reply.event.clone() {
            event["ts"] = json!(now_ms());
            fanout.emit(GatewayEvent::ConfigChanged(event));
        }
        Ok(reply)
    })
    .await?;
    let ConfigReply { mut payload, restart, log, .. } = written.map_err(refusal)?;
    if let Some(log) = log {
        tracing::info!("{log}");
    }
    if let Some(wish) = restart {
        let plan = gw.restarts.request(wish.delay_ms, &wish.reason);
        payload["restart"] = plan.to_value(gw.about.pid);
    }
    Ok(payload.into())
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, RpcError> {
    tokio::task::spawn_blocking(act).await.map_err(|error| RpcError::unavailable(error.to_string()))
}

pub(super) fn refusal(error: ConfigRpcError) -> RpcError {
    RpcError {
        retryable: error.retry_after_ms.is_some(),
        retry_after_ms: error.retry_after_ms.and_then(|ms| u64::try_from(ms).ok()),
        code: Cow::Borrowed(error.code),
        message: error.message,
        details: error.details.map(|details| *details),
    }
}
