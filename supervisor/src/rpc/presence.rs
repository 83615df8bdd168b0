//! `system-presence`, `system-event`.

use super::Answer;
use super::params::Params;
use crate::events::GatewayEvent;
use crate::front::caller::Caller;
use crate::front::fanout::now_ms;
use crate::gateway::Handles;
use serde_json::{Map, Value, json};

/// Fields of `system-event` that become columns of the row.
const FIELDS: [&str; 12] = [
    "host",
    "ip",
    "version",
    "platform",
    "deviceFamily",
    "modelIdentifier",
    "mode",
    "reason",
    "deviceId",
    "instanceId",
    "lastInputSeconds",
    "tags",
];

fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

/// `system-presence`: a bare list.
///
/// # Errors
/// None.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    Ok(gw.front.fanout.presence().list(now()).into())
}

/// `system-event {text, …}`: a row of the presence list.
///
/// # Errors
/// `text` is missing.
pub async fn system_event(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("system-event", &params);
    let text = read.required("text")?;
    let mut fields = Map::new();
    for key in FIELDS {
        if let Some(value) = params.get(key).filter(|v| !v.is_null()) {
            fields.insert(key.to_owned(), value.clone());
        }
    }
    fields.insert("text".into(), text.into());
    let key = read.text("deviceId")?.or(read.text("instanceId")?).or(read.text("host")?).unwrap_or(text);
    gw.front.fanout.presence().note(key, fields, now());
    gw.front.fanout.emit(GatewayEvent::Presence);
    Ok(json!({ "ok": true }).into())
}
