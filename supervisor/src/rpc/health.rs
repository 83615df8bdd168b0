//! `health`: answered from the last snapshot, which [`refresh`] renews every minute, after config changes
//! and on `{probe: true}`.

use super::params::Params;
use super::{Answer, RpcError};
use crate::events::GatewayEvent;
use crate::front::caller::Caller;
use crate::front::fanout::now_ms;
use crate::gateway::Handles;
use serde_json::{Value, json};

/// `health {probe?}`.
///
/// # Errors
/// Malformed params.
pub async fn health(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    if Params::of("health", &params).flag("probe")?.unwrap_or(false) {
        refresh(gw).await;
    }
    Ok(Value::clone(&gw.front.health()).into())
}

/// Make a new snapshot, keep it, tell the clients.
pub async fn refresh(gw: &Handles) {
    let began = std::time::Instant::now();
    let mut snapshot = snapshot(gw).await;
    snapshot["durationMs"] = u64::try_from(began.elapsed().as_millis()).unwrap_or(0).into();
    gw.front.set_health(snapshot.clone());
    gw.front.fanout.emit(GatewayEvent::Health(snapshot));
}

async fn snapshot(gw: &Handles) -> Value {
    let settings = gw.front.settings();
    json!({
        "ok": true,
        "ts": now_ms(),
        "durationMs": 0,
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 1800,
        "defaultAgentId": settings.default_agent,
        "agents": [],
        "sessions": { "path": "", "count": 0, "recent": [] },
    })
}

/// Internal failure that a caller can do nothing about.
pub fn internal(what: &str, error: &dyn std::fmt::Display) -> RpcError {
    RpcError::unavailable(format!("{what}: {error}"))
}
