//! What agents there are, and what each is and has. The list comes from the configuration; everything else is the
//! agent's own and is passed on.

use super::session_rows::{Defaults, reference};
use super::{Answer, forward};
use crate::config::ConfigSnapshot;
use crate::front::caller::Caller;
use crate::gateway::Handles;
use proto::view::AgentView;
use serde_json::{Map, Value, json};

/// `agents.list {}`.
///
/// # Errors
/// None.
pub async fn list(gw: &Handles, caller: &Caller, _params: Value) -> Answer {
    let config = gw.config.current();
    let agents: Vec<Value> =
        config.view.agents.list.iter().map(|agent| row(gw, &config, agent, caller.protocol)).collect();
    let settings = gw.front.settings();
    let mut answer = json!({
        "defaultId": config.view.agents.default_id(),
        "mainKey": config.view.session.main_key(),
        "scope": settings.session_scope,
        "agents": agents,
    });
    if caller.protocol >= 4 {
        answer["ownership"] = "sole".into();
        answer["selectionRequired"] = false.into();
    }
    Ok(answer.into())
}

fn row(gw: &Handles, config: &ConfigSnapshot, agent: &AgentView, protocol: u8) -> Value {
    let mut row = Map::new();
    row.insert("id".into(), agent.id.as_str().into());
    let name = agent.name.as_deref().or(agent.identity.name.as_deref());
    if let Some(name) = name {
        row.insert("name".into(), name.into());
    }
    let identity = identity(agent);
    if !identity.is_empty() {
        row.insert("identity".into(), Value::Object(identity));
    }
    if protocol >= 4 {
        let state = gw.front.paths.state_dir.display().to_string();
        let workspace = config.view.agents.workspace_of(&agent.id, &state);
        let workspace = gw.config.paths().expand(&workspace);
        row.insert("workspace".into(), workspace.display().to_string().into());
        // The later release's page locks its composer for an agent without a model.
        if let Some(model) = reference(&Defaults::of(config, &agent.id)) {
            let fallbacks = &config.view.agents.model_of(&agent.id).fallbacks;
            let mut choice = json!({"primary": model});
            if !fallbacks.is_empty() {
                choice["fallbacks"] = json!(fallbacks);
            }
            row.insert("model".into(), choice);
        }
    }
    Value::Object(row)
}

/// Name and picture as the configuration gives them.
fn identity(agent: &AgentView) -> Map<String, Value> {
    let identity = &agent.identity;
    let avatar = identity.avatar.as_deref();
    // Only what a browser can load by itself is an address.
    let address = avatar.filter(|avatar| avatar.starts_with("https://") || avatar.starts_with("data:"));
    let fields = [
        ("name", identity.name.as_deref()),
        ("theme", identity.theme.as_deref()),
        ("emoji", identity.emoji.as_deref()),
        ("avatar", avatar),
        ("avatarUrl", address),
    ];
    let given = fields.into_iter().filter_map(|(field, value)| Some((field, value?)));
    given
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| (field.to_owned(), value.into()))
        .collect()
}

/// `agent.identity.get {agentId? | sessionKey?}`.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn identity_get(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "agent.identity.get", params).await
}

/// `agents.files.list {agentId}`.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn files_list(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "agents.files.list", params).await
}

/// `agents.files.get {agentId, name}`.
///
/// # Errors
/// As [`forward::to_agent`]; a name that is not one of the workspace's files.
pub async fn files_get(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "agents.files.get", params).await
}

/// `agents.files.set {agentId, name, content}`.
///
/// # Errors
/// As [`files_get`].
pub async fn files_set(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "agents.files.set", params).await
}

/// `tools.catalog {agentId?, includePlugins?}`.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn tools_catalog(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "tools.catalog", params).await
}

/// `skills.status {agentId?}`.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn skills_status(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "skills.status", params).await
}

/// `models.list {view?, agentId?, sessionKey?}`: only the worker knows which models its keys open.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn models_list(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    forward::by_agent(gw, caller, "models.list", params).await
}
