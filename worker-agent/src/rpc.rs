//! The methods that this worker owns, as the supervisor passes them on. One line per method; the families below.
//! Who may call what, and the words for an unknown method, are the supervisor's.

use proto::wire::WireError;
use proto::wire::agent::RpcCall;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::agent::{Active, Agent};
use crate::session::sessions::SessionError;

mod agents;
mod chat;
mod sessions;

/// What a method works with.
struct Call<'a> {
    agent: &'a Agent,
    active: Active,
    method: &'a str,
    params: Value,
    /// 3 or 4.
    protocol: u8,
}

/// Answers one call.
pub async fn answer(agent: &Agent, call: &RpcCall) -> Result<Value, WireError> {
    let params: Value = serde_json::from_str(&call.params_json)
        .map_err(|error| WireError::invalid(format!("invalid {} params: {error}", call.method)))?;
    let call = Call { agent, active: agent.active(), method: &call.method, params, protocol: call.protocol };
    match call.method {
        "chat.history" | "chat.startup" => chat::history(&call).await,
        "chat.inject" => chat::inject(&call).await,
        "sessions.get" => chat::get(&call).await,
        "sessions.patch" => sessions::patch(&call).await,
        "sessions.reset" => sessions::reset(&call).await,
        "sessions.delete" => sessions::delete(&call).await,
        "sessions.compact" => sessions::compact(&call).await,
        "sessions.preview" => sessions::preview(&call).await,
        "agent.identity.get" => agents::identity(&call).await,
        "agents.files.list" => agents::files_list(&call).await,
        "agents.files.get" => agents::files_get(&call).await,
        "agents.files.set" => agents::files_set(&call).await,
        "tools.catalog" => agents::tools_catalog(&call),
        "skills.status" => agents::skills_status(&call).await,
        "models.list" => Ok(agents::models_list(&call)),
        other => Err(WireError::invalid(format!("unknown method: {other}"))),
    }
}

impl Call<'_> {
    /// The parameters; unknown ones are ignored.
    fn params<T: DeserializeOwned>(&self) -> Result<T, WireError> {
        T::deserialize(&self.params)
            .map_err(|error| WireError::invalid(format!("invalid {} params: {error}", self.method)))
    }

    fn agent_id(&self) -> &str {
        &self.active.setup.agent_id
    }
}

/// A failure of the disk, which a later call may not meet.
fn failed(error: SessionError) -> WireError {
    WireError::unavailable(error.to_string())
}

/// The same for work on the blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WireError> + Send + 'static,
) -> Result<T, WireError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| WireError::unavailable(error.to_string()))?
}

#[cfg(test)]
mod tests;
