//! What the server knows: chats, messages, updates, files, and every call that was made.

use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{BOT_USERNAME, bot_user};

/// One call of a method.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    pub method: String,
    pub params: Value,
    /// HTTP status of the answer; 0 when the connection hung or was cut instead.
    pub status: u16,
    /// Error text of the answer.
    pub description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    #[default]
    Private,
    Group,
    Supergroup,
}

/// A message of the bot as it is shown now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    pub message_id: i64,
    /// Visible characters; the caption of a file.
    pub text: String,
    pub entities: Vec<Value>,
    pub reply_to: Option<i64>,
    pub thread: Option<i64>,
    /// Name of the file that came with it.
    pub file_name: Option<String>,
    /// How often its text was changed.
    pub edits: u32,
    /// Every text that it ever showed, the current one last.
    pub history: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Chat {
    pub kind: ChatKind,
    pub title: String,
    pub blocked: bool,
    next_message: i64,
    /// Messages of people, as the API shows them.
    pub received: BTreeMap<i64, Value>,
    /// Messages of the bot.
    pub shown: BTreeMap<i64, Shown>,
    /// `sendChatAction` calls.
    pub actions: u32,
}

impl Chat {
    pub fn take_id(&mut self) -> i64 {
        self.next_message += 1;
        self.next_message
    }
}

/// Something that a person does.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Push {
    pub chat: i64,
    pub kind: ChatKind,
    pub user: i64,
    pub name: Option<String>,
    pub text: String,
    pub mention: bool,
    pub reply_to: Option<i64>,
    pub topic: Option<i64>,
    /// `photo`, `document` or `voice` with its bytes; the text is the caption then.
    pub file: Option<(String, Vec<u8>)>,
    pub media_group: Option<String>,
    pub edited: bool,
    pub forwarded_from: Option<String>,
}

impl Push {
    pub fn direct(user: i64, text: &str) -> Self {
        Self { chat: user, user, text: text.to_owned(), ..Self::default() }
    }

    /// A supergroup's message, without a mention. Group ids are negative.
    pub fn group(chat: i64, user: i64, text: &str) -> Self {
        Self { chat, kind: ChatKind::Supergroup, user, text: text.to_owned(), ..Self::default() }
    }

    /// Puts `@bot` before the text, with its entity.
    pub fn mention(mut self) -> Self {
        self.mention = true;
        self
    }

    pub fn reply_to(mut self, message: i64) -> Self {
        self.reply_to = Some(message);
        self
    }

    pub fn topic(mut self, thread: i64) -> Self {
        self.topic = Some(thread);
        self
    }

    pub fn file(mut self, kind: &str, bytes: &[u8]) -> Self {
        self.file = Some((kind.to_owned(), bytes.to_vec()));
        self
    }

    pub fn media_group(mut self, id: &str) -> Self {
        self.media_group = Some(id.to_owned());
        self
    }

    /// An edit of an earlier message instead of a new one.
    pub fn edited(mut self) -> Self {
        self.edited = true;
        self
    }

    pub fn forwarded_from(mut self, name: &str) -> Self {
        self.forwarded_from = Some(name.to_owned());
        self
    }
}

#[derive(Debug, Default)]
pub struct Book {
    pub bot_id: i64,
    pub calls: Vec<Call>,
    /// Updates that are not confirmed.
    pub updates: VecDeque<(i64, Value)>,
    pub offset: i64,
    pub chats: BTreeMap<i64, Chat>,
    /// Content by `file_id`.
    pub files: BTreeMap<String, Vec<u8>>,
    pub commands: Value,
    /// The newest confirmed updates, for deliveries that come again.
    confirmed: VecDeque<(i64, Value)>,
    next_update: i64,
}

/// Confirmed updates that are remembered.
const CONFIRMED_MAX: usize = 100;

pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

impl Book {
    pub fn new(bot_id: i64) -> Self {
        Self { bot_id, ..Self::default() }
    }

    pub fn chat_mut(&mut self, id: i64) -> &mut Chat {
        self.chats.entry(id).or_default()
    }

    pub fn visible(&self, chat: i64) -> Vec<Shown> {
        self.chats.get(&chat).map(|chat| chat.shown.values().cloned().collect()).unwrap_or_default()
    }

    /// The chat as it stands in a message.
    pub fn chat_value(&self, id: i64) -> Value {
        let Some(chat) = self.chats.get(&id) else { return json!({"id": id, "type": "private"}) };
        match chat.kind {
            ChatKind::Private => json!({"id": id, "type": "private", "first_name": chat.title}),
            ChatKind::Group => json!({"id": id, "type": "group", "title": chat.title}),
            ChatKind::Supergroup => {
                json!({"id": id, "type": "supergroup", "title": chat.title, "is_forum": true})
            }
        }
    }

    pub fn push_update(&mut self, mut update: Value) -> i64 {
        if self.next_update == 0 {
            // Real ids start anywhere.
            self.next_update = 700_000_000;
        }
        self.next_update += 1;
        update["update_id"] = json!(self.next_update);
        self.updates.push_back((self.next_update, update));
        self.next_update
    }

    /// Everything below `offset` is confirmed.
    pub fn confirm(&mut self, offset: i64) {
        let (done, left) = std::mem::take(&mut self.updates).into_iter().partition(|(id, _)| *id < offset);
        self.updates = left;
        let done: VecDeque<(i64, Value)> = done;
        for update in done {
            if !self.confirmed.iter().any(|(id, _)| *id == update.0) {
                self.confirmed.push_back(update);
            }
        }
        while self.confirmed.len() > CONFIRMED_MAX {
            self.confirmed.pop_front();
        }
        self.offset = self.offset.max(offset);
    }

    /// See [`super::TelegramServer::redeliver`].
    pub fn redeliver(&mut self, count: usize) {
        let again: Vec<(i64, Value)> = self.confirmed.iter().rev().take(count).cloned().collect();
        self.updates.extend(again);
    }

    pub fn push(&mut self, push: Push) -> i64 {
        let name = push.name.clone().unwrap_or_else(|| format!("User {}", push.user));
        let chat = self.chats.entry(push.chat).or_default();
        chat.kind = push.kind;
        chat.title =
            if push.kind == ChatKind::Private { name.clone() } else { format!("Group {}", push.chat) };
        let id = match push.reply_to.filter(|_| push.edited) {
            Some(edited) => edited,
            None => chat.take_id(),
        };
        let message = self.message(&push, id, &name);
        self.chat_mut(push.chat).received.insert(id, message.clone());
        self.push_update(json!({ if push.edited { "edited_message" } else { "message" }: message }));
        id
    }

    fn message(&mut self, push: &Push, id: i64, name: &str) -> Value {
        let mut message = Map::new();
        message.insert("message_id".into(), json!(id));
        message.insert(
            "from".into(),
            json!({"id": push.user, "is_bot": false, "first_name": name, "username": format!("user{}", push.user), "language_code": "en"}),
        );
        message.insert("chat".into(), self.chat_value(push.chat));
        message.insert("date".into(), json!(now_seconds()));
        if push.edited {
            message.insert("edit_date".into(), json!(now_seconds()));
        }
        if let Some(thread) = push.topic {
            message.insert("message_thread_id".into(), json!(thread));
            message.insert("is_topic_message".into(), json!(true));
        }
        if let Some(name) = &push.forwarded_from {
            let origin = json!({"type": "hidden_user", "sender_user_name": name, "date": now_seconds()});
            message.insert("forward_origin".into(), origin);
        }
        if let Some(reply) = push.reply_to.filter(|_| !push.edited) {
            message.insert("reply_to_message".into(), self.replied(push.chat, reply));
        }
        let (text, entities) = text_and_entities(push);
        let (text_key, entities_key) =
            if push.file.is_some() { ("caption", "caption_entities") } else { ("text", "entities") };
        if !text.is_empty() {
            message.insert(text_key.into(), json!(text));
        }
        if !entities.is_empty() {
            message.insert(entities_key.into(), json!(entities));
        }
        if let Some((kind, bytes)) = &push.file {
            let file = self.add_file(kind, bytes);
            message.insert(kind.clone(), file);
        }
        if let Some(group) = &push.media_group {
            message.insert("media_group_id".into(), json!(group));
        }
        Value::Object(message)
    }

    fn add_file(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let file_id = format!("file-{}", self.files.len() + 1);
        self.files.insert(file_id.clone(), bytes.to_vec());
        let base = json!({"file_id": file_id, "file_unique_id": file_id, "file_size": bytes.len()});
        let with = |extra: Value| {
            let mut file = base.clone();
            if let (Some(file), Some(extra)) = (file.as_object_mut(), extra.as_object()) {
                file.extend(extra.clone());
            }
            file
        };
        match kind {
            // Sizes of one picture, the largest last; the small one is not the file that was sent.
            "photo" => json!([
                {"file_id": "thumbnail", "file_unique_id": "thumbnail", "file_size": 10, "width": 90, "height": 60},
                with(json!({"width": 900, "height": 600})),
            ]),
            "voice" => with(json!({"duration": 2, "mime_type": "audio/ogg"})),
            _ => with(json!({"file_name": "notes.txt", "mime_type": "text/plain"})),
        }
    }

    /// The message that a reply quotes: of a person or of the bot.
    pub fn replied(&self, chat: i64, id: i64) -> Value {
        let Some(known) = self.chats.get(&chat) else { return Value::Null };
        if let Some(message) = known.received.get(&id) {
            return message.clone();
        }
        known.shown.get(&id).map_or(Value::Null, |shown| self.shown_value(chat, shown))
    }

    /// A message of the bot as the API returns it.
    pub fn shown_value(&self, chat: i64, shown: &Shown) -> Value {
        let mut message = json!({
            "message_id": shown.message_id, "from": bot_user(self.bot_id), "chat": self.chat_value(chat), "date": now_seconds(),
        });
        let (text, entities) = match &shown.file_name {
            Some(_) => ("caption", "caption_entities"),
            None => ("text", "entities"),
        };
        if !shown.text.is_empty() {
            message[text] = json!(shown.text);
        }
        if !shown.entities.is_empty() {
            message[entities] = json!(shown.entities);
        }
        if let Some(name) = &shown.file_name {
            message["document"] = json!({"file_id": "sent", "file_unique_id": "sent", "file_name": name});
        }
        if let Some(thread) = shown.thread {
            message["message_thread_id"] = json!(thread);
        }
        if shown.edits > 0 {
            message["edit_date"] = json!(now_seconds());
        }
        message
    }
}

/// The text with its mention and the entities that Telegram would find in it.
fn text_and_entities(push: &Push) -> (String, Vec<Value>) {
    let text = if push.mention {
        format!("@{BOT_USERNAME} {}", push.text).trim_end().to_owned()
    } else {
        push.text.clone()
    };
    let mut entities = Vec::new();
    let mut at = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let trimmed = word.trim_end();
        let kind = match trimmed.chars().next() {
            Some('@') if trimmed.len() > 4 => Some("mention"),
            Some('/') if trimmed.len() > 1 => Some("bot_command"),
            _ => None,
        };
        if let Some(kind) = kind {
            entities.push(json!({"type": kind, "offset": at, "length": utf16(trimmed)}));
        }
        at += utf16(word);
    }
    (text, entities)
}
