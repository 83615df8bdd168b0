//! The methods: parameters in, result or refusal out, with the real server's checks and texts.

use serde_json::{Map, Value, json};

use super::book::{ChatKind, Shown, utf16};
use super::{Shared, State, bot_user, html};

/// Characters of a message and of a caption, counted after entities are taken out (Bot API sendMessage,
/// sendPhoto).
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;
/// Update kinds that are not sent unless they are asked for (Bot API getUpdates).
const KINDS_ON_DEMAND: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

/// An error answer.
#[derive(Debug)]
pub struct Refusal {
    pub code: u16,
    pub description: String,
    pub parameters: Option<Value>,
}

impl Refusal {
    pub fn new(code: u16, description: impl Into<String>) -> Self {
        Self { code, description: description.into(), parameters: None }
    }

    fn bad(description: impl Into<String>) -> Self {
        Self::new(400, format!("Bad Request: {}", description.into()))
    }
}

/// Parameters, wherever they came from: JSON, a form, a query.
#[derive(Debug, Default, Clone)]
pub struct Params {
    pub values: Map<String, Value>,
    /// Uploaded files: field, file name, content.
    pub uploads: Vec<(String, String, Vec<u8>)>,
}

impl Params {
    pub fn text(&self, name: &str) -> Option<String> {
        match self.values.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.values.get(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A value that forms carry as JSON text.
    pub fn json(&self, name: &str) -> Option<Value> {
        match self.values.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }
}

type Answer = Result<Value, Refusal>;

/// Carries out one call.
pub async fn call(shared: &Shared, method: &str, params: &Params) -> Answer {
    match method.to_ascii_lowercase().as_str() {
        "getupdates" => get_updates(shared, params).await,
        other => shared.change(|state| {
            match other {
            "getme" => Ok(bot_user(state.book.bot_id)),
            "sendmessage" => send_message(state, params),
            "editmessagetext" => edit_message(state, params),
            "deletemessage" => delete_message(state, params),
            "sendchataction" => chat_action(state, params),
            "sendphoto" => send_file(state, params, "photo"),
            "senddocument" => send_file(state, params, "document"),
            "getfile" => get_file(state, params),
            "setmycommands" => set_commands(state, params),
            "getmycommands" => Ok(match &state.book.commands {
                Value::Null => json!([]),
                commands => commands.clone(),
            }),
            "deletemycommands" => {
                state.book.commands = json!([]);
                Ok(json!(true))
            }
            "deletewebhook" => {
                state.webhook.clear();
                if params.text("drop_pending_updates").as_deref() == Some("true") {
                    state.book.updates.clear();
                }
                Ok(json!(true))
            }
            "setwebhook" => {
                state.webhook = params.text("url").unwrap_or_default();
                Ok(json!(true))
            }
            "getwebhookinfo" => Ok(json!({
                "url": state.webhook, "has_custom_certificate": false, "pending_update_count": state.book.updates.len(),
            })),
            "getchat" => {
                let chat = chat_id(state, params)?;
                Ok(state.book.chat_value(chat))
            }
            "answercallbackquery" => match params.text("callback_query_id") {
                Some(id) if !id.is_empty() => Ok(json!(true)),
                _ => Err(Refusal::bad("query is too old and response timeout expired or query ID is invalid")),
            },
            "setmessagereaction" | "logout" | "close" => Ok(json!(true)),
            _ => Err(Refusal::new(404, "Not Found")),
        }}),
    }
}

/// Long polling with the real one's offsets: asking for N confirms everything below N.
async fn get_updates(shared: &Shared, params: &Params) -> Answer {
    let offset = params.int("offset").unwrap_or(0);
    let limit = params.int("limit").filter(|n| (1..=100).contains(n)).unwrap_or(100) as usize;
    let wait = std::time::Duration::from_secs(params.int("timeout").unwrap_or(0).clamp(0, 50) as u64);
    let allowed =
        params.json("allowed_updates").and_then(|v| v.as_array().cloned()).filter(|v| !v.is_empty());
    let mine = shared.change(|state| {
        if !state.webhook.is_empty() {
            let text = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
            return Err(Refusal::new(409, text));
        }
        let book = &mut state.book;
        if offset < 0 {
            let keep = usize::try_from(-offset).unwrap_or(usize::MAX);
            let drop = book.updates.len().saturating_sub(keep);
            book.updates.drain(..drop);
        } else {
            book.confirm(offset);
        }
        book.updates.retain(|(_, update)| is_allowed(update, allowed.as_deref()));
        state.poll += 1;
        Ok(state.poll)
    })?;
    let waiting = Waiting::start(shared);
    let ready = async {
        loop {
            let changed = shared.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = shared.lock();
                if state.poll != mine {
                    let text = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
                    return Err(Refusal::new(409, text));
                }
                state.book.updates.retain(|(_, update)| is_allowed(update, allowed.as_deref()));
                if !state.book.updates.is_empty() {
                    let taken = state.book.updates.iter().take(limit).map(|(_, update)| update.clone());
                    return Ok(Value::Array(taken.collect()));
                }
            }
            changed.await;
        }
    };
    let result = tokio::time::timeout(wait, ready).await.unwrap_or_else(|_| Ok(json!([])));
    drop(waiting);
    result
}

/// Counts a poll as waiting for as long as it lives, also when its client goes away.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn start(shared: &'a Shared) -> Self {
        shared.change(|state| state.polling += 1);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.polling -= 1);
    }
}

fn is_allowed(update: &Value, allowed: Option<&[Value]>) -> bool {
    let kind = update.as_object().and_then(|map| map.keys().find(|key| *key != "update_id"));
    let Some(kind) = kind else { return false };
    match allowed {
        Some(list) => list.iter().any(|v| v == kind.as_str()),
        None => !KINDS_ON_DEMAND.contains(&kind.as_str()),
    }
}

/// The chat, if it exists and takes messages.
fn chat_id(state: &State, params: &Params) -> Result<i64, Refusal> {
    match params.text("chat_id") {
        None => return Err(Refusal::bad("chat_id is empty")),
        Some(text) if text.is_empty() => return Err(Refusal::bad("chat_id is empty")),
        Some(_) => {}
    }
    let known = params.int("chat_id").filter(|id| state.book.chats.contains_key(id));
    let id = known.ok_or_else(|| Refusal::bad("chat not found"))?;
    if state.book.chats.get(&id).is_some_and(|chat| chat.blocked) {
        let private = state.book.chats.get(&id).is_some_and(|chat| chat.kind == ChatKind::Private);
        return Err(Refusal::new(
            403,
            if private {
                "Forbidden: bot was blocked by the user"
            } else {
                "Forbidden: bot was kicked from the supergroup chat"
            },
        ));
    }
    Ok(id)
}

/// Text and entities as they will be shown.
fn read_text(params: &Params, key: &str, max: usize) -> Result<(String, Vec<Value>), Refusal> {
    let raw = params.text(key).unwrap_or_default();
    let (text, entities) = match params.text("parse_mode").as_deref() {
        Some(mode) if mode.eq_ignore_ascii_case("html") => {
            html::parse(&raw).map_err(|why| Refusal::bad(format!("can't parse entities: {why}")))?
        }
        Some(mode) if mode.to_ascii_lowercase().starts_with("markdown") => (raw, Vec::new()),
        Some(mode) if !mode.is_empty() => return Err(Refusal::bad("unsupported parse_mode")),
        _ => (raw, Vec::new()),
    };
    let lead = text.len() - text.trim_start().len();
    let shift = utf16(&text[..lead]) as i64;
    let text = text.trim().to_owned();
    if utf16(&text) > max {
        return Err(Refusal::bad(if max == TEXT_MAX {
            "message is too long"
        } else {
            "message caption is too long"
        }));
    }
    let entities = entities.into_iter().map(|mut entity| {
        entity["offset"] = json!((entity["offset"].as_i64().unwrap_or(0) - shift).max(0));
        entity
    });
    Ok((text, entities.collect()))
}

/// The message that is answered, if one is named.
fn reply_target(state: &State, chat: i64, params: &Params) -> Result<Option<i64>, Refusal> {
    let nested = params.json("reply_parameters");
    let id = match &nested {
        Some(reply) => reply["message_id"].as_i64(),
        None => params.int("reply_to_message_id"),
    };
    let Some(id) = id else { return Ok(None) };
    let lenient = match &nested {
        Some(reply) => reply["allow_sending_without_reply"] == true,
        None => params.text("allow_sending_without_reply").as_deref() == Some("true"),
    };
    if !state.book.replied(chat, id).is_null() {
        Ok(Some(id))
    } else if lenient {
        Ok(None)
    } else {
        Err(Refusal::bad("message to be replied not found"))
    }
}

fn thread(state: &State, chat: i64, params: &Params) -> Result<Option<i64>, Refusal> {
    let thread = params.int("message_thread_id");
    let private = state.book.chats.get(&chat).is_some_and(|chat| chat.kind == ChatKind::Private);
    match thread {
        // The General topic has the id 1 and must not be named when sending.
        Some(1) => Err(Refusal::bad("message thread not found")),
        Some(_) if private => Err(Refusal::bad("message thread not found")),
        thread => Ok(thread),
    }
}

fn show(state: &mut State, chat: i64, mut shown: Shown) -> Value {
    let known = state.book.chat_mut(chat);
    shown.message_id = known.take_id();
    shown.history = vec![shown.text.clone()];
    known.shown.insert(shown.message_id, shown.clone());
    state.book.shown_value(chat, &shown)
}

fn send_message(state: &mut State, params: &Params) -> Answer {
    let chat = chat_id(state, params)?;
    let (text, entities) = read_text(params, "text", TEXT_MAX)?;
    if text.is_empty() {
        return Err(Refusal::bad("message text is empty"));
    }
    let reply_to = reply_target(state, chat, params)?;
    let thread = thread(state, chat, params)?;
    let shown = Shown {
        message_id: 0,
        text,
        entities,
        reply_to,
        thread,
        file_name: None,
        edits: 0,
        history: Vec::new(),
    };
    Ok(show(state, chat, shown))
}

fn send_file(state: &mut State, params: &Params, field: &str) -> Answer {
    let chat = chat_id(state, params)?;
    let (text, entities) = read_text(params, "caption", CAPTION_MAX)?;
    let reply_to = reply_target(state, chat, params)?;
    let thread = thread(state, chat, params)?;
    let attached = params.text(field).and_then(|text| text.strip_prefix("attach://").map(str::to_owned));
    let is_attached = attached.is_some();
    let wanted = attached.unwrap_or_else(|| field.to_owned());
    let upload = params.uploads.iter().find(|(name, ..)| *name == wanted);
    let file_name = match upload {
        Some((_, name, bytes)) if !bytes.is_empty() => name.clone(),
        Some(_) => return Err(Refusal::bad("file must be non-empty")),
        None if is_attached => return Err(Refusal::bad("wrong file identifier/HTTP URL specified")),
        None => params
            .text(field)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| Refusal::bad(format!("there is no {field} in the request")))?,
    };
    let shown = Shown {
        message_id: 0,
        text,
        entities,
        reply_to,
        thread,
        file_name: Some(file_name),
        edits: 0,
        history: Vec::new(),
    };
    Ok(show(state, chat, shown))
}

fn edit_message(state: &mut State, params: &Params) -> Answer {
    let chat = chat_id(state, params)?;
    let id = params.int("message_id").ok_or_else(|| Refusal::bad("message identifier is not specified"))?;
    let (text, entities) = read_text(params, "text", TEXT_MAX)?;
    if text.is_empty() {
        return Err(Refusal::bad("message text is empty"));
    }
    let known = state.book.chat_mut(chat);
    if known.received.contains_key(&id) {
        return Err(Refusal::bad("message can't be edited"));
    }
    let shown = known.shown.get_mut(&id).ok_or_else(|| Refusal::bad("message to edit not found"))?;
    if shown.file_name.is_some() {
        return Err(Refusal::bad("there is no text in the message to edit"));
    }
    if shown.text == text && shown.entities == entities {
        return Err(Refusal::bad(
            "message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message",
        ));
    }
    shown.text = text.clone();
    shown.entities = entities;
    shown.edits += 1;
    shown.history.push(text);
    let shown = shown.clone();
    Ok(state.book.shown_value(chat, &shown))
}

fn delete_message(state: &mut State, params: &Params) -> Answer {
    let chat = chat_id(state, params)?;
    let id = params.int("message_id").ok_or_else(|| Refusal::bad("message identifier is not specified"))?;
    match state.book.chat_mut(chat).shown.remove(&id) {
        Some(_) => Ok(json!(true)),
        None => Err(Refusal::bad("message to delete not found")),
    }
}

fn chat_action(state: &mut State, params: &Params) -> Answer {
    let chat = chat_id(state, params)?;
    let known = ["typing", "upload_photo", "upload_document", "record_voice", "choose_sticker"];
    match params.text("action") {
        Some(action) if known.contains(&action.as_str()) => {
            state.book.chat_mut(chat).actions += 1;
            Ok(json!(true))
        }
        _ => Err(Refusal::bad("wrong parameter action in request")),
    }
}

fn get_file(state: &State, params: &Params) -> Answer {
    let id = params.text("file_id").unwrap_or_default();
    let bytes = state
        .book
        .files
        .get(&id)
        .ok_or_else(|| Refusal::bad("wrong file_id or the file is temporarily unavailable"))?;
    Ok(json!({
        "file_id": id, "file_unique_id": id, "file_size": bytes.len(), "file_path": format!("documents/{id}"),
    }))
}

fn set_commands(state: &mut State, params: &Params) -> Answer {
    let commands = params.json("commands").unwrap_or(Value::Null);
    let list =
        commands.as_array().ok_or_else(|| Refusal::bad("can't parse BotCommand: expected an Array"))?;
    if list.len() > 100 {
        return Err(Refusal::bad("BOT_COMMANDS_TOO_MUCH"));
    }
    let valid = |command: &Value| {
        let name = command["command"].as_str().unwrap_or_default();
        (1..=32).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !list.iter().all(valid) {
        return Err(Refusal::bad("BOT_COMMAND_INVALID"));
    }
    state.book.commands = commands;
    Ok(json!(true))
}
