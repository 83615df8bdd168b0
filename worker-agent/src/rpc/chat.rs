//! `chat.history`, `chat.startup`, `chat.inject`, `sessions.get`: what a conversation holds, and a line into it.

use proto::wire::WireError;
use proto::wire::agent::{AgentToSup, MessageAppended};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, blocking, failed};
use crate::agent::row;
use crate::clock::now_ms;
use crate::session::entry::Body;
use crate::session::history::{self, MESSAGES_DEFAULT, MESSAGES_MAX};
use crate::session::message::{AssistantMessage, Message};
use crate::session::sessions::Durability;
use crate::session::store::SessionEntry;
use crate::turn::finish::titles;

/// Longest label of an injected message (wire protocol, `chat.inject.label`).
const LABEL_CHARS_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryParams {
    session_key: String,
    limit: Option<usize>,
}

/// The newest messages of a session; none for a session without a transcript.
pub async fn history(call: &Call<'_>) -> Result<Value, WireError> {
    let params: HistoryParams = call.params()?;
    let limit = params.limit.unwrap_or(MESSAGES_DEFAULT).clamp(1, MESSAGES_MAX);
    let entry = call.agent.sessions.entry(&params.session_key).await.map_err(failed)?;
    let (messages, total) = messages(call, &params.session_key, entry.as_ref(), limit).await?;
    let entry = entry.unwrap_or_default();
    let mut answer = Map::new();
    answer.insert("sessionKey".into(), params.session_key.clone().into());
    if let Some(id) = entry.session_id() {
        answer.insert("sessionId".into(), id.into());
    }
    answer.insert("hasMore".into(), (call.protocol >= 4 && total > messages.len()).into());
    answer.insert("messages".into(), messages.into());
    let thinking = entry.str("thinkingLevel").or(call.active.setup.agent.thinking_default.as_deref());
    answer.insert("thinkingLevel".into(), thinking.unwrap_or("off").into());
    let verbose = entry.str("verboseLevel").or(call.active.setup.agent.verbose_default.as_deref());
    answer.insert("verboseLevel".into(), verbose.unwrap_or("off").into());
    if call.protocol >= 4 {
        answer.insert("totalMessages".into(), total.into());
        answer.insert("pendingInputs".into(), json!({"items": [], "total": 0}));
        answer.insert("sessionInfo".into(), session_info(call, &params.session_key, &entry));
    } else {
        answer.shift_remove("hasMore");
    }
    Ok(Value::Object(answer))
}

/// The row that protocol 4 puts beside the messages.
fn session_info(call: &Call<'_>, key: &str, entry: &SessionEntry) -> Value {
    let mut info = Map::new();
    info.insert("key".into(), key.into());
    info.insert("agentId".into(), call.agent_id().into());
    info.insert("kind".into(), entry.str("chatType").unwrap_or("direct").into());
    for field in [
        "sessionId",
        "updatedAt",
        "chatType",
        "systemSent",
        "abortedLastRun",
        "label",
        "thinkingLevel",
        "verboseLevel",
        "reasoningLevel",
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "totalTokensFresh",
        "modelProvider",
        "model",
        "contextTokens",
        "modelOverride",
    ] {
        if let Some(value) = entry.0.get(field) {
            info.insert(field.into(), value.clone());
        }
    }
    Value::Object(info)
}

/// `sessions.get` of protocol 4: the messages alone.
pub async fn get(call: &Call<'_>) -> Result<Value, WireError> {
    #[derive(Deserialize)]
    struct Params {
        key: String,
        limit: Option<usize>,
    }
    let params: Params = call.params()?;
    let entry = call.agent.sessions.entry(&params.key).await.map_err(failed)?;
    let limit = params.limit.unwrap_or(MESSAGES_DEFAULT).clamp(1, MESSAGES_MAX);
    let (messages, _) = messages(call, &params.key, entry.as_ref(), limit).await?;
    Ok(json!({"messages": messages}))
}

async fn messages(
    call: &Call<'_>,
    key: &str,
    entry: Option<&SessionEntry>,
    limit: usize,
) -> Result<(Vec<Value>, usize), WireError> {
    let Some(entry) = entry.filter(|entry| entry.session_id().is_some()) else { return Ok((Vec::new(), 0)) };
    let (path, protocol) = (call.agent.sessions.path_of(key, entry), call.protocol);
    blocking(move || {
        let (shown, total) = history::read(&path, limit)
            .map_err(|error| WireError::unavailable(format!("cannot read {}: {error}", path.display())))?;
        Ok((history::project(&shown, protocol), total))
    })
    .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InjectParams {
    session_key: String,
    message: String,
    label: Option<String>,
}

/// Appends an assistant message as a child of the leaf. Starts no run.
pub async fn inject(call: &Call<'_>) -> Result<Value, WireError> {
    let params: InjectParams = call.params()?;
    if params.message.trim().is_empty() {
        return Err(WireError::invalid("invalid chat.inject params: message must not be empty"));
    }
    if params.label.as_ref().is_some_and(|label| label.chars().count() > LABEL_CHARS_MAX) {
        let text = format!("invalid chat.inject params: label has more than {LABEL_CHARS_MAX} characters");
        return Err(WireError::invalid(text));
    }
    let key = params.session_key;
    let entry = call.agent.sessions.entry(&key).await.map_err(failed)?;
    let entry = entry.filter(|entry| entry.session_id().is_some());
    let entry = entry.ok_or_else(|| WireError::invalid("session not found"))?;
    let log = call.agent.sessions.log(&key, &entry, &call.active.setup.workspace_text());
    if !log.exists().await {
        return Err(WireError::invalid("transcript file not found"));
    }
    let text = match params.label.filter(|label| !label.is_empty()) {
        Some(label) => format!("[{label}]\n\n{}", params.message),
        None => params.message,
    };
    let message = Message::Assistant(AssistantMessage::ours(text, now_ms()));
    let message_json = serde_json::to_string(&message).unwrap_or_default();
    let ids = log.commit(vec![Body::Message { message }], Durability::Synced).await.map_err(failed)?;
    let message_id = ids.into_iter().next().unwrap_or_default();
    let (title, last) = log.with(|transcript| Ok(titles(&transcript.branch()))).await.map_err(failed)?;
    let changed = call
        .agent
        .sessions
        .update(&key, move |entry| {
            entry.set("updatedAt", now_ms());
            entry.set("derivedTitle", title.map_or(Value::Null, Value::String));
            entry.set("lastMessagePreview", last.map_or(Value::Null, Value::String));
            Ok::<(), std::convert::Infallible>(())
        })
        .await
        .map_err(failed)?;
    let Ok(entry) = changed;
    call.agent.session_changed(row(call.agent_id(), &key, &entry), "inject").await;
    let appended = MessageAppended {
        session_key: key,
        message_id: message_id.clone(),
        message_json,
        reason: "inject".into(),
    };
    call.agent.up.send(AgentToSup::MessageAppended(appended)).await;
    Ok(json!({"ok": true, "messageId": message_id}))
}
