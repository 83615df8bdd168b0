//! The method table: name → who may call it → who owns it → whether a key makes it repeatable → handler.
//! To add a method, write the handler in its family and one line in [`TABLE`].
//!
//! Not here: sockets, and what runs, sessions or channels do with a call.

pub mod agent;
pub mod agent_ask;
pub mod agents;
pub mod channels;
pub mod chat;
pub mod config;
pub mod cron;
mod dead_letters;
pub mod degraded;
pub mod device;
pub mod forward;
pub mod health;
pub mod heartbeat;
pub mod logs;
mod outbox;
pub mod pairing;
pub mod params;
pub mod presence;
pub mod send;
pub mod session_rows;
pub mod sessions;
pub mod status;
pub mod subscribe;
mod system;
mod trace;
pub mod turns;
pub mod update;
pub mod usage;
pub mod workers;

use crate::front::caller::Caller;
use crate::front::carry::lot::Work;
use crate::front::frame::Body;
use crate::front::scope::{ADMIN, PAIRING, READ, Role, WRITE};
use crate::gateway::Handles;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

pub use crate::front::frame::ErrorShape as RpcError;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any operator that said hello.
    Hello,
    /// Operators with this scope.
    Scope(&'static str),
    /// Nodes only.
    Node,
}

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Answered from the front's own state.
    Front,
    /// Config owner, scheduler, journal.
    Core,
    /// The agent's worker; the call is passed on.
    Agent,
}

/// What a repeated call with the same `idempotencyKey` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The same as a first call.
    Anew,
    /// One effect per key; the first answer, or its present state, comes back.
    OncePerKey,
}

/// The answer of a method; `then` follows under the same id (method `agent`: accepted, then the outcome).
pub struct Reply {
    /// First response.
    pub body: Body,
    /// Second response.
    pub then: Option<BoxFuture<'static, Result<Body, RpcError>>>,
}

impl Reply {
    /// An answer in two parts.
    pub fn followed_by(
        first: impl Into<Body>,
        then: impl Future<Output = Result<Body, RpcError>> + Send + 'static,
    ) -> Self {
        Self { body: first.into(), then: Some(Box::pin(then)) }
    }

    /// JSON text that a worker made, passed on unparsed.
    ///
    /// # Errors
    /// It is not JSON: the worker is at fault, not the caller.
    pub fn raw(text: String) -> Result<Self, RpcError> {
        let raw = RawValue::from_string(text);
        let raw =
            raw.map_err(|e| RpcError::unavailable(format!("worker answered with malformed JSON: {e}")))?;
        Ok(Self { body: Body::Raw(raw), then: None })
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self { body: Body::Json(value), then: None }
    }
}

/// What a handler returns.
pub type Answer = Result<Reply, RpcError>;

type Handler = fn(Handles, Arc<Caller>, Value) -> BoxFuture<'static, Answer>;

/// One line of the table.
pub struct Method {
    /// Name on the wire.
    pub name: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Who does the work.
    pub owner: Owner,
    /// Repeated calls.
    pub repeat: Repeat,
    handler: Handler,
}

macro_rules! method {
    ($name:literal, $access:expr, $owner:ident, $repeat:ident, $handler:path) => {
        Method {
            name: $name,
            access: $access,
            owner: Owner::$owner,
            repeat: Repeat::$repeat,
            handler: |gw, caller, params| Box::pin(async move { $handler(&gw, &caller, params).await }),
        }
    };
}

use Access::{Hello, Scope};

/// All methods. The scopes are those of the later release where the two differ.
pub static TABLE: &[Method] = &[
    method!("health", Hello, Front, Anew, health::health),
    method!("agent", Scope(WRITE), Core, OncePerKey, agent::agent),
    method!("agent.wait", Scope(WRITE), Core, Anew, agent::wait),
    method!("chat.send", Scope(WRITE), Core, OncePerKey, chat::send),
    method!("chat.abort", Scope(WRITE), Core, Anew, chat::abort),
    method!("chat.history", Scope(READ), Agent, Anew, chat::history),
    method!("chat.startup", Scope(READ), Agent, Anew, chat::startup),
    method!("chat.inject", Scope(ADMIN), Agent, Anew, chat::inject),
    method!("sessions.list", Scope(READ), Core, Anew, sessions::list),
    method!("sessions.resolve", Scope(READ), Core, Anew, sessions::resolve),
    method!("sessions.describe", Scope(READ), Core, Anew, sessions::describe),
    method!("sessions.preview", Scope(READ), Agent, Anew, sessions::preview),
    method!("sessions.get", Scope(READ), Agent, Anew, sessions::get),
    method!("sessions.patch", Scope(ADMIN), Agent, Anew, sessions::patch),
    method!("sessions.reset", Scope(ADMIN), Agent, Anew, sessions::reset),
    method!("sessions.delete", Scope(ADMIN), Agent, Anew, sessions::delete),
    method!("sessions.compact", Scope(ADMIN), Agent, Anew, sessions::compact),
    method!("sessions.usage", Scope(READ), Core, Anew, usage::sessions),
    method!("agents.list", Scope(READ), Core, Anew, agents::list),
    method!("agent.identity.get", Scope(READ), Agent, Anew, agents::identity_get),
    method!("agents.files.list", Scope(READ), Agent, Anew, agents::files_list),
    method!("agents.files.get", Scope(READ), Agent, Anew, agents::files_get),
    method!("agents.files.set", Scope(ADMIN), Agent, Anew, agents::files_set),
    method!("tools.catalog", Scope(READ), Agent, Anew, agents::tools_catalog),
    method!("skills.status", Scope(READ), Agent, Anew, agents::skills_status),
    method!("models.list", Scope(READ), Agent, Anew, agents::models_list),
    method!("status", Scope(READ), Core, Anew, status::status),
    method!("usage.cost", Scope(READ), Core, Anew, usage::cost),
    method!("usage.status", Scope(READ), Core, Anew, usage::status),
    method!("channels.status", Scope(READ), Core, Anew, channels::status),
    method!("channels.pairing.list", Scope(PAIRING), Core, Anew, pairing::list),
    method!("channels.pairing.approve", Scope(PAIRING), Core, Anew, pairing::approve),
    method!("channels.pairing.revoke", Scope(PAIRING), Core, Anew, pairing::revoke),
    method!("send", Scope(WRITE), Core, OncePerKey, send::send),
    method!("wake", Scope(WRITE), Core, Anew, heartbeat::wake),
    method!("last-heartbeat", Scope(READ), Core, Anew, heartbeat::last),
    method!("set-heartbeats", Scope(ADMIN), Core, Anew, heartbeat::set),
    method!("cron.status", Scope(READ), Core, Anew, cron::status),
    method!("cron.list", Scope(READ), Core, Anew, cron::list),
    method!("logs.tail", Scope(READ), Core, Anew, logs::tail),
    method!("config.get", Scope(READ), Core, Anew, config::get),
    method!("config.plan", Scope(ADMIN), Core, Anew, config::plan),
    method!("config.schema", Scope(READ), Core, Anew, config::schema),
    method!("config.schema.lookup", Scope(READ), Core, Anew, config::schema_lookup),
    method!("config.set", Scope(ADMIN), Core, Anew, config::set),
    method!("config.patch", Scope(ADMIN), Core, Anew, config::patch),
    method!("config.apply", Scope(ADMIN), Core, Anew, config::apply),
    method!("workers.list", Scope(READ), Core, Anew, workers::list),
    method!("workers.restart", Scope(ADMIN), Core, Anew, workers::restart_one),
    method!("workers.stop", Scope(ADMIN), Core, Anew, workers::stop_one),
    method!("workers.release", Scope(ADMIN), Core, Anew, workers::release_one),
    method!("workers.start", Scope(ADMIN), Core, Anew, workers::start_one),
    method!("workers.dump", Scope(ADMIN), Core, Anew, workers::dump_one),
    method!("outbox.list", Scope(READ), Core, Anew, outbox::list),
    method!("outbox.get", Scope(READ), Core, Anew, outbox::get),
    method!("outbox.retry", Scope(ADMIN), Core, Anew, outbox::retry),
    method!("outbox.discard", Scope(ADMIN), Core, Anew, outbox::discard),
    method!("trace.get", Scope(READ), Core, Anew, trace::get),
    method!("dead-letters.list", Scope(READ), Core, Anew, dead_letters::list),
    method!("dead-letters.get", Scope(READ), Core, Anew, dead_letters::get),
    method!("dead-letters.retry", Scope(ADMIN), Core, Anew, dead_letters::retry),
    method!("dead-letters.discard", Scope(ADMIN), Core, Anew, dead_letters::discard),
    method!("system.info", Scope(READ), Core, Anew, workers::info),
    method!("gateway.restart", Scope(ADMIN), Core, Anew, workers::restart),
    method!("gateway.drain", Scope(ADMIN), Core, Anew, workers::drain),
    method!("update.run", Scope(ADMIN), Core, Anew, update::run_update),
    method!("system-presence", Scope(READ), Front, Anew, presence::list),
    method!("system-event", Scope(ADMIN), Front, Anew, presence::system_event),
    method!("sessions.subscribe", Scope(READ), Front, Anew, subscribe::sessions),
    method!("sessions.unsubscribe", Scope(READ), Front, Anew, subscribe::sessions_off),
    method!("sessions.messages.subscribe", Scope(READ), Front, Anew, subscribe::messages),
    method!("sessions.messages.unsubscribe", Scope(READ), Front, Anew, subscribe::messages_off),
    method!("device.pair.list", Scope(PAIRING), Front, Anew, device::list),
    method!("device.pair.approve", Scope(PAIRING), Front, Anew, device::approve),
    method!("device.pair.reject", Scope(PAIRING), Front, Anew, device::reject),
    method!("device.pair.remove", Scope(PAIRING), Front, Anew, device::remove),
    method!("device.pair.rename", Scope(PAIRING), Front, Anew, device::rename),
    method!("device.token.rotate", Scope(PAIRING), Front, Anew, device::rotate),
    method!("device.token.revoke", Scope(PAIRING), Front, Anew, device::revoke),
    method!("node.list", Scope(READ), Front, Anew, device::node_list),
    method!("node.pair.list", Scope(PAIRING), Front, Anew, device::node_pair_list),
];

/// Event names that `hello-ok.features.events` lists.
pub const EVENTS: &[&str] = &[
    "connect.challenge",
    "agent",
    "chat",
    "session.message",
    "sessions.changed",
    "presence",
    "tick",
    "shutdown",
    "health",
    "config.changed",
    "heartbeat",
    "cron",
    "node.pair.requested",
    "node.pair.resolved",
    "device.pair.requested",
    "device.pair.resolved",
];

static BY_NAME: LazyLock<HashMap<&'static str, &'static Method>> =
    LazyLock::new(|| TABLE.iter().map(|m| (m.name, m)).collect());

/// Method names that `hello-ok.features.methods` lists.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|m| m.name).collect()
}

/// What an in-place restart does about a call that has no answer yet.
pub fn at_restart(name: &str) -> Work {
    match BY_NAME.get(name) {
        // These wait for a run, a delivery or the end of all runs, and do so again after the restart.
        _ if matches!(name, "agent.wait" | "gateway.drain" | "send") => Work::Wait,
        Some(Method { repeat: Repeat::OncePerKey, .. } | Method { access: Hello | Scope(READ), .. })
        | None => Work::Question,
        Some(_) => Work::Change,
    }
}

/// Takes the time that a call has waited before a restart off its `timeoutMs`.
pub fn shorten(name: &str, params: &mut Value, waited: std::time::Duration) {
    if name == "agent.wait" {
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let asked_ms = params["timeoutMs"].as_u64().unwrap_or(agent::WAIT_MS_DEFAULT);
        params["timeoutMs"] = asked_ms.saturating_sub(waited_ms).into();
    }
}

/// Whether this error is a call with the wrong role; many in a row close the socket.
pub fn is_wrong_role(error: &RpcError) -> bool {
    error.message.starts_with("unauthorized role: ")
}

/// Check rights and run the method.
///
/// # Errors
/// Refusal or failure, in the shape of the caller's protocol.
pub async fn dispatch(gw: &Handles, caller: &Arc<Caller>, name: &str, params: Value) -> Answer {
    if name == "connect" {
        return Err(RpcError::invalid("connect is only valid as the first request"));
    }
    let Some(method) = BY_NAME.get(name) else {
        return Err(RpcError::invalid(format!("unknown method: {name}")));
    };
    authorise(method, caller)?;
    if !params.is_object() {
        return Err(RpcError::invalid(format!("invalid {name} params: at root: must be object")));
    }
    tracing::debug!(method = name, owner = ?method.owner, repeat = ?method.repeat, client = caller.client.id, "call");
    (method.handler)(gw.clone(), caller.clone(), params).await
}

fn authorise(method: &Method, caller: &Caller) -> Result<(), RpcError> {
    let wrong_role = (method.access == Access::Node) != (caller.role == Role::Node);
    if wrong_role {
        return Err(RpcError::invalid(format!("unauthorized role: {}", caller.role.as_str())));
    }
    match method.access {
        Scope(needed) if !caller.may(needed) => Err(missing_scope(caller.protocol, needed)),
        _ => Ok(()),
    }
}

/// The refusal of a call whose scope is missing.
pub fn missing_scope(protocol: u8, needed: &str) -> RpcError {
    let text = format!("missing scope: {needed}");
    if protocol < 4 {
        return RpcError::invalid(text);
    }
    let details = json!({ "code": "MISSING_SCOPE", "missingScope": needed, "requiredScopes": [needed] });
    RpcError::new("FORBIDDEN", text).with_details(details)
}

#[cfg(test)]
mod tests;
