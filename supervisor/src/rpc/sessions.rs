//! `sessions.*`: lists come from the journal's index and wake no agent; changes go to the agent's worker, which owns the
//! store, after the scheduler has let go of the session.

use super::params::Params;
use super::session_rows::{Defaults, Style, is_job_run, list_row, store_path, title};
use super::{Answer, RpcError, forward};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::{Journal, SessionFilter};
use crate::router::{agent_of_key, session_key};
use crate::scheduler::shared::now_ms;
use proto::view::normalize_agent_id;
use proto::wire::agent::SessionRow;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Rows of one page when a client of protocol 4 names no limit, as recorded.
const PAGE_ROWS_DEFAULT: usize = 100;
/// Sessions of one preview (wire protocol).
const PREVIEW_KEYS_MAX: usize = 64;
/// The page that the gateway serves may do what other pages may not.
const CONTROL_UI: &str = "openclaw-control-ui";
const MINUTE_MS: i64 = 60_000;

/// `sessions.list {limit?, offset?, activeMinutes?, includeGlobal?, includeUnknown?, includeDerivedTitles?,
/// includeLastMessage?, label?, spawnedBy?, agentId?, search?, configuredAgentsOnly?, archived?}`.
///
/// # Errors
/// Malformed params; the journal is closed.
pub async fn list(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.list", &params);
    let wish = Wish::read(&read, &params)?;
    let style = Style {
        titles: read.flag("includeDerivedTitles")?.unwrap_or(false),
        last_messages: read.flag("includeLastMessage")?.unwrap_or(false),
        ..style(gw, caller).await
    };
    let config = gw.config.current();
    let mut rows = index(gw, wish.filter(style.now_ms)).await?;
    rows.retain(|row| {
        wish.shows(row) && (!wish.configured_only || config.view.agents.contains(&row.agent_id))
    });
    let total = rows.len();
    let limit = wish.limit.unwrap_or(if caller.protocol >= 4 { PAGE_ROWS_DEFAULT } else { usize::MAX });
    let sessions: Vec<Value> = rows
        .iter()
        .skip(wish.offset)
        .take(limit)
        .map(|row| list_row(row, &entry(row), &Defaults::of(&config, &row.agent_id), &style))
        .collect();
    let default = config.view.agents.default_id().to_owned();
    let default = wish.agent.clone().unwrap_or(default);
    let defaults = Defaults::of(&config, &default);
    let mut answer = json!({
        "ts": style.now_ms,
        "path": list_path(gw, caller, wish.agent.as_deref()),
        "count": sessions.len(),
        "defaults": {
            "modelProvider": defaults.provider, "model": defaults.model, "contextTokens": defaults.context_tokens,
        },
        "sessions": sessions,
    });
    if caller.protocol >= 4 {
        let next = wish.offset.saturating_add(sessions.len());
        let more = next < total;
        answer["totalCount"] = total.into();
        answer["limitApplied"] = limit.into();
        answer["nextOffset"] = if more { next.into() } else { Value::Null };
        answer["hasMore"] = more.into();
        answer["owners"] = json!([]);
    }
    Ok(answer.into())
}

/// The store that a list is of. Protocol 3 says so for every list over agents, also when there is one.
fn list_path(gw: &Handles, caller: &Caller, agent: Option<&str>) -> String {
    let config = gw.config.current();
    let agents = &config.view.agents;
    match agent {
        Some(agent) => store_path(gw, agent),
        None if caller.protocol >= 4 && agents.list.len() == 1 => store_path(gw, agents.default_id()),
        None => "(multiple)".to_owned(),
    }
}

/// Which sessions a client wants to see.
#[derive(Debug, Default)]
struct Wish {
    limit: Option<usize>,
    offset: usize,
    active_minutes: Option<u64>,
    global: bool,
    unknown: bool,
    label: Option<String>,
    spawned_by: Option<String>,
    agent: Option<String>,
    search: Option<String>,
    configured_only: bool,
    archived_only: bool,
}

impl Wish {
    fn read(read: &Params<'_>, params: &Value) -> Result<Self, RpcError> {
        let text = |key: &str| Ok::<_, RpcError>(read.text(key)?.map(str::to_owned));
        let flag = |key: &str| Ok::<_, RpcError>(read.flag(key)?.unwrap_or(false));
        let count = |key: &str| match read.count(key)? {
            Some(0) => Err(read.refuse(&format!("at /{key}: must be >= 1"))),
            found => Ok(found),
        };
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(Self {
            limit: count("limit")?.map(size),
            offset: read.count("offset")?.map_or(0, size),
            active_minutes: count("activeMinutes")?,
            global: flag("includeGlobal")?,
            unknown: flag("includeUnknown")?,
            label: text("label")?,
            spawned_by: text("spawnedBy")?,
            agent: read.text("agentId")?.map(normalize_agent_id),
            search: text("search")?,
            configured_only: flag("configuredAgentsOnly")?,
            // Nothing is archived here: only a list of just those differs.
            archived_only: params["archived"] == true,
        })
    }

    fn filter(&self, now_ms: i64) -> SessionFilter {
        let age = |minutes: u64| i64::try_from(minutes).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS);
        SessionFilter {
            agent: self.agent.clone(),
            updated_since_ms: self.active_minutes.map(|minutes| now_ms.saturating_sub(age(minutes))),
            label: self.label.clone(),
            spawned_by: self.spawned_by.clone(),
            search: self.search.clone(),
            limit: None,
        }
    }

    fn shows(&self, row: &SessionRow) -> bool {
        match row.key.as_str() {
            _ if self.archived_only => false,
            session_key::GLOBAL => self.global,
            session_key::UNKNOWN => self.unknown,
            key => !is_job_run(key),
        }
    }
}

fn entry(row: &SessionRow) -> Value {
    serde_json::from_str(&row.entry_json).unwrap_or_default()
}

async fn style(gw: &Handles, caller: &Caller) -> Style {
    let active: HashSet<String> = if caller.protocol >= 4 {
        gw.scheduler.status().await.active.into_iter().map(|run| run.session_key).collect()
    } else {
        HashSet::new()
    };
    Style { protocol: caller.protocol, now_ms: now_ms(), active, ..Style::default() }
}

async fn index(gw: &Handles, filter: SessionFilter) -> Result<Vec<SessionRow>, RpcError> {
    gw.journal.session_list(filter).await.map_err(|error| RpcError::unavailable(error.to_string()))
}

async fn indexed(gw: &Handles, key: &str) -> Result<Option<SessionRow>, RpcError> {
    let found = gw.journal.session_get(key.to_owned()).await;
    found.map_err(|error| RpcError::unavailable(error.to_string()))
}

/// The session that a call is about: canonical key and agent. A bare key belongs to `agentId`, where that is given.
fn target(gw: &Handles, read: &Params<'_>) -> Result<(String, String), RpcError> {
    let raw = read.required("key")?;
    let config = gw.config.current();
    let default = read.text("agentId")?.map(normalize_agent_id);
    let default = default.unwrap_or_else(|| config.view.agents.default_id().to_owned());
    let key = session_key::canonical(raw, &default, &config.view.session);
    let agent = if session_key::parse(&key).is_some() { agent_of_key(&key) } else { default };
    Ok((key, agent))
}

/// `sessions.resolve {key | sessionId | label, agentId?, spawnedBy?, allowMissing?}`.
///
/// # Errors
/// None or more than one way to name it; no such session; several.
pub async fn resolve(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.resolve", &params);
    let (id, label) = (read.text("sessionId")?, read.text("label")?);
    let named = [read.text("key")?, id, label].into_iter().flatten().count();
    if named > 1 {
        return Err(RpcError::invalid("Provide either key, sessionId, or label (not multiple)"));
    }
    let filter = SessionFilter {
        agent: read.text("agentId")?.map(normalize_agent_id),
        spawned_by: read.text("spawnedBy")?.map(str::to_owned),
        ..SessionFilter::default()
    };
    let (found, asked) = if let Some(id) = id {
        let rows = index(gw, SessionFilter { search: Some(id.to_owned()), ..filter }).await?;
        let hit = |row: &SessionRow| row.session_id == id || row.key == id;
        (rows.into_iter().filter(hit).collect(), ("sessionId", id.to_owned()))
    } else if let Some(label) = label {
        let rows = index(gw, SessionFilter { label: Some(label.to_owned()), ..filter }).await?;
        (rows, ("label", label.to_owned()))
    } else if read.text("key")?.is_some() {
        let (key, _) = target(gw, &read)?;
        (indexed(gw, &key).await?.into_iter().collect(), ("key", key))
    } else {
        return Err(RpcError::invalid("Either key, sessionId, or label is required"));
    };
    let missing_is_fine = read.flag("allowMissing")?.unwrap_or(false);
    resolved(caller, &found, asked, missing_is_fine)
}

fn resolved(
    caller: &Caller,
    found: &[SessionRow],
    (how, what): (&str, String),
    missing_is_fine: bool,
) -> Answer {
    match found {
        [row] => {
            let mut answer = json!({"ok": true, "key": row.key});
            if caller.protocol >= 4 {
                answer["agentId"] = row.agent_id.as_str().into();
                if let Some(title) = title(row, &entry(row)) {
                    answer["displayName"] = title.into();
                }
            }
            Ok(answer.into())
        }
        [] if missing_is_fine => Ok(json!({"ok": false}).into()),
        [] if how == "label" => Err(RpcError::invalid(format!("No session found with label: {what}"))),
        [] => Err(RpcError::invalid(format!("No session found: {what}"))),
        many => {
            let keys: Vec<&str> = many.iter().map(|row| row.key.as_str()).collect();
            let with = if how == "label" { "with label" } else { "for sessionId" };
            Err(RpcError::invalid(format!("Multiple sessions found {with}: {what} ({})", keys.join(", "))))
        }
    }
}

/// `sessions.describe {key, includeDerivedTitles?, includeLastMessage?}`: one row of the list, or null.
///
/// # Errors
/// Malformed params.
pub async fn describe(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.describe", &params);
    let (key, agent) = target(gw, &read)?;
    let Some(row) = indexed(gw, &key).await? else { return Ok(json!({"session": null}).into()) };
    let style = Style {
        titles: read.flag("includeDerivedTitles")?.unwrap_or(false),
        last_messages: read.flag("includeLastMessage")?.unwrap_or(false),
        ..style(gw, caller).await
    };
    let defaults = Defaults::of(&gw.config.current(), &agent);
    Ok(json!({"session": list_row(&row, &entry(&row), &defaults, &style)}).into())
}

/// Pages of other people's making reach the gateway with the user's rights; they may chat, not rearrange sessions.
fn refuse_pages(caller: &Caller, verb: &str) -> Result<(), RpcError> {
    if caller.client.mode != "webchat" || caller.client.id == CONTROL_UI {
        return Ok(());
    }
    Err(RpcError::invalid(format!(
        "webchat clients cannot {verb} sessions; use chat.send for session-scoped updates"
    )))
}

/// Passes a change on, and keeps what came of it, so that a list asked after the answer shows it.
async fn change(
    gw: &Handles,
    caller: &Caller,
    method: &str,
    key: &str,
    agent: &str,
    mut params: Value,
) -> Answer {
    params["key"] = key.into();
    let answer = forward::to_agent(gw, caller, agent, method, &params).await?.body.into_value();
    let kept = match (&answer["entry"], answer["deleted"] == true) {
        (Value::Object(entry), _) => {
            let row = SessionRow {
                key: key.to_owned(),
                agent_id: agent.to_owned(),
                session_id: entry.get("sessionId").and_then(Value::as_str).unwrap_or_default().to_owned(),
                updated_ms: entry.get("updatedAt").and_then(Value::as_i64).unwrap_or_default(),
                entry_json: answer["entry"].to_string(),
                ..SessionRow::default()
            };
            gw.journal.session_changed(vec![row]).await
        }
        (_, true) => gw.journal.session_delete(key.to_owned()).await.map(|_gone| ()),
        _ => Ok(()),
    };
    if let Err(error) = kept {
        tracing::warn!(session = key, %error, "session index not updated; it is rebuilt at the next start");
    }
    Ok(answer.into())
}

/// `sessions.patch {key, label?, thinkingLevel?, model?, …}`: null clears.
///
/// # Errors
/// As [`forward::to_agent`]; a page that is not ours asks.
pub async fn patch(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    refuse_pages(caller, "patch")?;
    let (key, agent) = target(gw, &Params::of("sessions.patch", &params))?;
    change(gw, caller, "sessions.patch", &key, &agent, params).await
}

/// `sessions.reset {key, reason?}`: a new session under the same key. What waits for the old one is dropped.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn reset(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.reset", &params);
    let (key, agent) = target(gw, &read)?;
    if let Some(reason) = read.text("reason")?
        && !matches!(reason, "new" | "reset")
    {
        return Err(read.refuse("at /reason: must be equal to one of the allowed values"));
    }
    gw.scheduler.clear_session(&key).await?;
    change(gw, caller, "sessions.reset", &key, &agent, params).await
}

/// `sessions.delete {key, deleteTranscript?}`. What waits for the session is dropped.
///
/// # Errors
/// The main session; as [`forward::to_agent`]; a page that is not ours asks.
pub async fn delete(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    refuse_pages(caller, "delete")?;
    let (key, agent) = target(gw, &Params::of("sessions.delete", &params))?;
    if key == session_key::main_session(&agent, &gw.config.current().view.session) {
        return Err(RpcError::invalid(format!("Cannot delete the main session ({key}).")));
    }
    gw.scheduler.clear_session(&key).await?;
    change(gw, caller, "sessions.delete", &key, &agent, params).await
}

/// `sessions.compact {key, maxLines?}`.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn compact(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.compact", &params);
    let (key, agent) = target(gw, &read)?;
    if read.count("maxLines")? == Some(0) {
        return Err(read.refuse("at /maxLines: must be >= 1"));
    }
    change(gw, caller, "sessions.compact", &key, &agent, params).await
}

/// `sessions.get {key, limit?}`: the messages of a session.
///
/// # Errors
/// As [`forward::to_agent`].
pub async fn get(gw: &Handles, caller: &Caller, mut params: Value) -> Answer {
    let (key, agent) = target(gw, &Params::of("sessions.get", &params))?;
    params["key"] = key.into();
    forward::to_agent(gw, caller, &agent, "sessions.get", &params).await
}

/// `sessions.preview {keys, limit?, maxChars?}`: the last lines of several sessions, in the order asked. The sessions may
/// belong to several agents; one that does not answer spoils only its own.
///
/// # Errors
/// Malformed params.
pub async fn preview(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("sessions.preview", &params);
    let mut keys = read.texts("keys")?.ok_or_else(|| read.refuse("must have required property 'keys'"))?;
    keys.truncate(PREVIEW_KEYS_MAX);
    let asked: Vec<(String, String)> = keys.iter().map(|raw| forward::session(gw, raw)).collect();
    let mut by_agent: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (key, agent) in &asked {
        by_agent.entry(agent).or_default().push(key);
    }
    let config = gw.config.current();
    let calls =
        by_agent.into_iter().filter(|(agent, _)| config.view.agents.contains(agent)).map(|(agent, keys)| {
            let mut params = params.clone();
            params["keys"] = json!(keys);
            async move {
                let answer = forward::to_agent(gw, caller, agent, "sessions.preview", &params).await;
                answer.map_err(|error| tracing::debug!(agent, error = error.message, "no preview"))
            }
        });
    let mut found: HashMap<String, Value> = HashMap::new();
    for answer in futures_util::future::join_all(calls).await.into_iter().flatten() {
        for row in answer.body.into_value()["previews"].as_array_mut().into_iter().flatten() {
            if let Some(key) = row["key"].as_str().map(str::to_owned) {
                found.insert(key, row.take());
            }
        }
    }
    let rows = keys.iter().zip(&asked).map(|(raw, (key, agent))| {
        let status = if config.view.agents.contains(agent) { "error" } else { "missing" };
        let mut row = found.get(key).cloned().unwrap_or_else(|| json!({"status": status, "items": []}));
        row["key"] = raw.as_str().into();
        row
    });
    Ok(json!({"ts": now_ms(), "previews": rows.collect::<Vec<Value>>()}).into())
}
