//! Subscriptions of protocol 4: which sessions a connection hears about.

use super::Answer;
use super::params::Params;
use crate::front::caller::Caller;
use crate::gateway::Handles;
use serde_json::{Value, json};

/// `sessions.subscribe {}`.
///
/// # Errors
/// None.
pub async fn sessions(gw: &Handles, caller: &Caller, _params: Value) -> Answer {
    gw.front.fanout.follow_sessions(&caller.conn_id, true);
    Ok(json!({ "subscribed": true }).into())
}

/// `sessions.unsubscribe {}`.
///
/// # Errors
/// None.
pub async fn sessions_off(gw: &Handles, caller: &Caller, _params: Value) -> Answer {
    gw.front.fanout.follow_sessions(&caller.conn_id, false);
    Ok(json!({ "subscribed": false }).into())
}

/// `sessions.messages.subscribe {key}`.
///
/// # Errors
/// `key` is missing.
pub async fn messages(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let key = Params::of("sessions.messages.subscribe", &params).required("key")?;
    gw.front.fanout.follow_messages(&caller.conn_id, key, true);
    Ok(json!({ "subscribed": true, "key": key }).into())
}

/// `sessions.messages.unsubscribe {key}`.
///
/// # Errors
/// `key` is missing.
pub async fn messages_off(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let key = Params::of("sessions.messages.unsubscribe", &params).required("key")?;
    gw.front.fanout.follow_messages(&caller.conn_id, key, false);
    Ok(json!({ "subscribed": false, "key": key }).into())
}
