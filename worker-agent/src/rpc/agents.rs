//! `agent.identity.get`, `agents.files.*`, `tools.catalog`, `skills.status`, `models.list`: what this agent is and has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use proto::wire::WireError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, blocking};
use crate::prompt::bootstrap::{FILES, MEMORY_FILES};
use crate::session::disk;
use crate::setup::workspace_file;
use crate::tool::catalog;
use crate::turn::prepare;

/// Largest file that a client may write into a workspace.
const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The name of an agent that has none.
const NAME_DEFAULT: &str = "Assistant";
const AVATAR_DEFAULT: &str = "A";

/// Name and picture of the agent.
pub async fn identity(call: &Call<'_>) -> Result<Value, WireError> {
    let setup = call.active.setup.clone();
    let identity = blocking(move || Ok(setup.identity())).await?;
    let mut answer = Map::new();
    answer.insert("agentId".into(), call.agent_id().into());
    let avatar = identity.avatar.or_else(|| identity.emoji.clone()).or_else(|| {
        identity
            .name
            .as_ref()
            .and_then(|name| name.chars().next())
            .map(|first| first.to_uppercase().to_string())
    });
    if call.protocol >= 4 {
        let source = if identity.name.is_some() { "config" } else { "default" };
        answer.insert("nameSource".into(), source.into());
    }
    answer.insert("name".into(), identity.name.unwrap_or_else(|| NAME_DEFAULT.into()).into());
    answer.insert("avatar".into(), avatar.unwrap_or_else(|| AVATAR_DEFAULT.into()).into());
    if let Some(emoji) = identity.emoji {
        answer.insert("emoji".into(), emoji.into());
    }
    Ok(Value::Object(answer))
}

#[derive(Deserialize)]
struct FileParams {
    name: String,
    content: Option<String>,
}

/// The bootstrap and memory files of the workspace.
pub async fn files_list(call: &Call<'_>) -> Result<Value, WireError> {
    let workspace = call.active.setup.paths.workspace.clone();
    let files = blocking(move || {
        let memory = MEMORY_FILES.iter().filter(|name| workspace.join(name).is_file()).take(1);
        // The one memory file that exists, else the name that it would have.
        let memory: Vec<&&str> = memory.collect();
        let last = memory.first().map_or("MEMORY.md", |name| **name);
        Ok(FILES
            .iter()
            .copied()
            .chain([last])
            .map(|name| file_row(&workspace.join(name), name))
            .collect::<Vec<_>>())
    })
    .await?;
    Ok(json!({"agentId": call.agent_id(), "workspace": call.active.setup.workspace_text(), "files": files}))
}

/// One of them with its content.
pub async fn files_get(call: &Call<'_>) -> Result<Value, WireError> {
    let params: FileParams = call.params()?;
    let path = path_of(call, &params.name)?;
    let file = blocking(move || with_content(&path, &params.name)).await?;
    Ok(json!({"agentId": call.agent_id(), "workspace": call.active.setup.workspace_text(), "file": file}))
}

/// Writes one of them.
pub async fn files_set(call: &Call<'_>) -> Result<Value, WireError> {
    let params: FileParams = call.params()?;
    let path = path_of(call, &params.name)?;
    let content = params
        .content
        .ok_or_else(|| WireError::invalid("invalid agents.files.set params: missing field `content`"))?;
    if content.len() > FILE_BYTES_MAX {
        return Err(WireError::invalid(format!("content has more than {FILE_BYTES_MAX} bytes")));
    }
    let file = blocking(move || {
        // Through a link the write would land outside of the workspace.
        if path.is_symlink() {
            return Err(WireError::invalid(format!("{} is a symbolic link; it is not written", params.name)));
        }
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent
            .and_then(|()| disk::replace(&path, content.as_bytes()))
            .map_err(|error| unwritable(&path, &error))?;
        with_content(&path, &params.name)
    })
    .await?;
    Ok(
        json!({"ok": true, "agentId": call.agent_id(), "workspace": call.active.setup.workspace_text(), "file": file}),
    )
}

fn unwritable(path: &Path, error: &io::Error) -> WireError {
    WireError::unavailable(format!("cannot write {}: {error}", path.display()))
}

fn path_of(call: &Call<'_>, name: &str) -> Result<PathBuf, WireError> {
    workspace_file(&call.active.setup.paths.workspace, name)
        .ok_or_else(|| WireError::invalid(format!("unsupported file \"{name}\"")))
}

fn with_content(path: &Path, name: &str) -> Result<Value, WireError> {
    let mut row = file_row(path, name);
    if row.get("missing") == Some(&Value::Bool(false))
        && let Some(map) = row.as_object_mut()
    {
        let bytes = fs::read(path)
            .map_err(|error| WireError::unavailable(format!("cannot read {}: {error}", path.display())))?;
        map.insert("content".into(), String::from_utf8_lossy(&bytes).into_owned().into());
    }
    Ok(row)
}

fn file_row(path: &Path, name: &str) -> Value {
    // A link that leads out of the workspace shows nothing, as for the prompt.
    let inside = path
        .parent()
        .and_then(|dir| fs::canonicalize(dir).ok())
        .is_some_and(|dir| fs::canonicalize(path).is_ok_and(|real| real.starts_with(dir)));
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() && inside => {
            let changed = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
            json!({
                "name": name, "path": path, "missing": false, "size": meta.len(),
                "updatedAtMs": changed.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(0)),
            })
        }
        _ => json!({"name": name, "path": path, "missing": true}),
    }
}

/// Every tool of this build, by section.
pub fn tools_catalog(call: &Call<'_>) -> Result<Value, WireError> {
    let catalog = catalog::catalog(call.agent_id(), &call.agent.registry.names());
    serde_json::to_value(catalog).map_err(|error| WireError::unavailable(error.to_string()))
}

/// Every skill that this agent can find, with what it lacks.
pub async fn skills_status(call: &Call<'_>) -> Result<Value, WireError> {
    let setup = call.active.setup.clone();
    blocking(move || {
        let around = prepare::surroundings(&setup, &setup.tool_env, &setup.skills);
        let rows: Vec<Value> = prepare::scan(&setup).iter().map(|skill| skill.status(&around)).collect();
        Ok(json!({
            "workspaceDir": setup.paths.workspace,
            "managedSkillsDir": setup.paths.state.join("skills"),
            "skills": rows,
        }))
    })
    .await
}

/// The models that a client may choose from.
pub fn models_list(call: &Call<'_>) -> Value {
    let view = call.params.get("view").and_then(Value::as_str).unwrap_or("default");
    json!({"models": call.active.setup.models.rows(call.protocol, view)})
}
