//! Update → facts. Pure: files are only named here, [`super::poll`] loads them.

use proto::wire::agent::Sender;
use proto::wire::channel::{ChatKind, ChatRef, InboundMsg, ReplyRef};
use regex::{Regex, RegexBuilder};

use super::update::{Chat, Entity, File, Message, Update, User};
use crate::media::Described;

/// Compiled size of one mention pattern; it comes from the configuration, but a typing error must not cost memory.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Characters of a quoted message that go along.
const QUOTE_CHARS_MAX: usize = 2_000;

/// Patterns that count as naming the bot.
pub struct MentionPatterns(Vec<Regex>);

impl MentionPatterns {
    /// Patterns that do not compile are left out, with a warning.
    pub fn new(patterns: &[String]) -> Self {
        let compiled = patterns.iter().filter_map(|pattern| {
            let built =
                RegexBuilder::new(pattern).case_insensitive(true).size_limit(PATTERN_BYTES_MAX).build();
            built.inspect_err(|error| tracing::warn!(%pattern, %error, "mention pattern not used")).ok()
        });
        Self(compiled.collect())
    }

    fn hit(&self, text: &str) -> bool {
        let seen: String = text.chars().filter(|c| !is_zero_width(*c)).collect();
        self.0.iter().any(|pattern| pattern.is_match(&seen))
    }
}

fn is_zero_width(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// A file that comes with a message.
#[derive(Debug, Clone)]
pub struct Attached {
    pub file_id: String,
    pub bytes: Option<u64>,
    pub described: Described,
}

/// A message that is worth telling, its files not loaded yet.
#[derive(Debug, Clone)]
pub struct Heard {
    pub message: InboundMsg,
    pub files: Vec<Attached>,
    pub media_group: Option<String>,
    /// A press of a button that Telegram wants answered.
    pub callback_id: Option<String>,
}

/// `None` for what is not for us: edits, service messages, our own posts.
pub fn heard(update: &Update, me: &User, patterns: &MentionPatterns) -> Option<Heard> {
    if let Some(query) = &update.callback_query {
        let message = query.message.as_ref()?;
        let mut heard = convert(update.update_id, message, me, patterns)?;
        heard.message.sender = sender(&query.from);
        heard.message.text = format!("callback_data: {}", query.data.as_deref()?);
        heard.message.ext_id = format!("{}|{}|{}", update.update_id, message.chat.id, query.id);
        heard.message.mentioned = true;
        heard.files.clear();
        heard.callback_id = Some(query.id.clone());
        return Some(heard);
    }
    let message = update.message.as_ref().or(update.channel_post.as_ref())?;
    let heard = convert(update.update_id, message, me, patterns)?;
    let own = message.from.as_ref().is_some_and(|from| from.id == me.id);
    let empty = heard.message.text.is_empty() && heard.files.is_empty();
    (!own && !empty).then_some(heard)
}

fn convert(update_id: i64, message: &Message, me: &User, patterns: &MentionPatterns) -> Option<Heard> {
    let (raw, entities) = match &message.text {
        Some(text) => (text.as_str(), &message.entities),
        None => (message.caption.as_deref().unwrap_or_default(), &message.caption_entities),
    };
    let files = files(message);
    let mut text = with_links(raw, entities);
    if text.is_empty() {
        text = described(message).or_else(|| files.first().map(placeholder)).unwrap_or_default();
    }
    let named = entities.iter().any(|entity| names_us(raw, entity, me));
    let reply = message.reply_to_message.as_deref().filter(|reply| reply.forum_topic_created.is_none());
    Some(Heard {
        message: InboundMsg {
            ext_id: format!("{update_id}|{}|{}", message.chat.id, message.message_id),
            message_id: message.message_id.to_string(),
            chat: chat(message),
            sender: message
                .from
                .as_ref()
                .map(sender)
                .or_else(|| message.sender_chat.as_ref().map(chat_as_sender))?,
            ts_ms: message.date.saturating_mul(1000),
            text,
            media: Vec::new(),
            reply_to: reply.map(|reply| quoted(reply, message)),
            mentioned: named || patterns.hit(raw),
            reply_to_bot: reply.and_then(|reply| reply.from.as_ref()).is_some_and(|from| from.id == me.id),
            forwarded_from: message.forward_origin.as_ref().and_then(origin),
            cursor: None,
        },
        files,
        media_group: message.media_group_id.clone(),
        callback_id: None,
    })
}

fn chat(message: &Message) -> ChatRef {
    let chat = &message.chat;
    let kind = match chat.kind.as_str() {
        "private" => ChatKind::Direct,
        "channel" => ChatKind::Channel,
        _ => ChatKind::Group,
    };
    // In groups without topics Telegram numbers reply threads in the same field: those are no conversations.
    let thread = match (chat.is_forum, message.message_thread_id) {
        // The General topic has the number 1 and is not named.
        (true, None) => Some(1),
        (true, thread) => thread,
        (false, thread) => thread.filter(|_| message.is_topic_message),
    };
    ChatRef {
        id: chat.id.to_string(),
        kind,
        title: chat
            .title
            .clone()
            .or_else(|| message.from.as_ref().filter(|_| kind == ChatKind::Direct)?.full_name()),
        thread: thread.map(|thread| thread.to_string()),
        thread_label: topic_name(message),
        is_forum: chat.is_forum,
    }
}

/// A message in a topic answers, when it answers nothing else, the service message that created the topic.
fn topic_name(message: &Message) -> Option<String> {
    let created = message.reply_to_message.as_ref()?.forum_topic_created.as_ref()?;
    created.get("name")?.as_str().map(str::to_owned)
}

fn sender(user: &User) -> Sender {
    Sender {
        id: user.id.to_string(),
        name: user.full_name(),
        username: user.username.clone(),
        is_bot: user.is_bot,
    }
}

fn chat_as_sender(chat: &Chat) -> Sender {
    Sender {
        id: chat.id.to_string(),
        name: chat.title.clone(),
        username: chat.username.clone(),
        is_bot: false,
    }
}

fn quoted(reply: &Message, message: &Message) -> ReplyRef {
    let quote = message.quote.as_ref().map(|quote| quote.text.clone());
    let is_quote = quote.is_some();
    let text = quote.or_else(|| reply.text.clone()).or_else(|| reply.caption.clone());
    let text = text.or_else(|| described(reply)).or_else(|| files(reply).first().map(placeholder));
    ReplyRef {
        id: reply.message_id.to_string(),
        text: text.map(|text| text.chars().take(QUOTE_CHARS_MAX).collect()),
        sender: reply.from.as_ref().and_then(User::full_name),
        is_quote,
    }
}

fn origin(origin: &super::update::Origin) -> Option<String> {
    let user = origin.sender_user.as_ref().and_then(User::full_name);
    let chat = origin.sender_chat.as_ref().or(origin.chat.as_ref()).and_then(|chat| chat.title.clone());
    user.or_else(|| origin.sender_user_name.clone()).or(chat).or_else(|| Some("unknown".to_owned()))
}

/// The bot by `@name`, by a link on its id, or by a command that carries its name.
fn names_us(text: &str, entity: &Entity, me: &User) -> bool {
    let us = me.username.as_deref().unwrap_or_default();
    let covered = || utf16_slice(text, entity.offset, entity.length).unwrap_or_default();
    match entity.kind.as_str() {
        "mention" => covered().strip_prefix('@').is_some_and(|name| name.eq_ignore_ascii_case(us)),
        "text_mention" => entity.user.as_ref().is_some_and(|user| user.id == me.id),
        "bot_command" => covered().split_once('@').is_some_and(|(_, name)| name.eq_ignore_ascii_case(us)),
        _ => false,
    }
}

/// Writes hidden link targets out as Markdown: a model sees only characters.
fn with_links(text: &str, entities: &[Entity]) -> String {
    let mut links: Vec<(&Entity, &str)> = entities
        .iter()
        .filter(|entity| entity.kind == "text_link")
        .filter_map(|entity| Some((entity, entity.url.as_deref()?)))
        .collect();
    links.sort_by_key(|(entity, _)| entity.offset);
    let (mut out, mut from) = (String::new(), 0);
    for (link, url) in links {
        let (Some(before), Some(label)) = (
            link.offset.checked_sub(from).and_then(|length| utf16_slice(text, from, length)),
            utf16_slice(text, link.offset, link.length),
        ) else {
            continue;
        };
        out.push_str(before);
        if label == url {
            out.push_str(label)
        } else {
            out.push_str(&format!("[{label}]({url})"))
        }
        from = link.offset + link.length;
    }
    let rest = crate::text::utf16_prefix(text, from);
    out.push_str(text.get(rest..).unwrap_or_default());
    out
}

/// A range in UTF-16 units, unless an end of it lies inside a character or behind the text.
fn utf16_slice(text: &str, offset: usize, length: usize) -> Option<&str> {
    let split = |text: &'_ str, units: usize| {
        let at = crate::text::utf16_prefix(text, units);
        (crate::text::utf16_len(text.get(..at)?) == units).then_some(at)
    };
    let rest = text.get(split(text, offset)?..)?;
    rest.get(..split(rest, length)?)
}

/// Content that is words rather than a file.
fn described(message: &Message) -> Option<String> {
    let content = &message.content;
    if let Some(venue) = &content.venue {
        let place = &venue.location;
        return Some(format!(
            "📍 {}, {} ({}, {})",
            venue.title, venue.address, place.latitude, place.longitude
        ));
    }
    if let Some(place) = &content.location {
        return Some(format!("📍 {}, {}", place.latitude, place.longitude));
    }
    if let Some(contact) = &content.contact {
        let last = contact.last_name.as_deref().unwrap_or_default();
        return Some(format!(
            "👤 {}: {}",
            format!("{} {last}", contact.first_name).trim(),
            contact.phone_number
        ));
    }
    let dice = content.dice.as_ref().map(|dice| format!("{} {}", dice.emoji, dice.value));
    dice.or_else(|| {
        content
            .sticker
            .as_ref()
            .map(|s| format!("<media:sticker> {}", s.emoji.as_deref().unwrap_or_default()).trim().to_owned())
    })
}

/// Stands for a file where there is no text.
fn placeholder(file: &Attached) -> String {
    format!("<media:{}>", file.described.kind)
}

/// The files of a message: of a picture only its largest size, of a sticker only a still one.
fn files(message: &Message) -> Vec<Attached> {
    let content = &message.content;
    let attached = |file: &File, kind: &'static str, mime: &str| Attached {
        file_id: file.file_id.clone(),
        bytes: file.file_size,
        described: Described {
            kind,
            mime: file.mime_type.clone().unwrap_or_else(|| mime.to_owned()),
            name: file.file_name.clone(),
        },
    };
    let mut files = Vec::new();
    let largest = content.photo.iter().max_by_key(|size| u64::from(size.width) * u64::from(size.height));
    files.extend(largest.map(|size| attached(size, "image", "image/jpeg")));
    files.extend(content.audio.as_ref().map(|file| attached(file, "audio", "audio/mpeg")));
    files.extend(content.voice.as_ref().map(|file| attached(file, "audio", "audio/ogg")));
    files.extend(content.video.as_ref().map(|file| attached(file, "video", "video/mp4")));
    files.extend(content.video_note.as_ref().map(|file| attached(file, "video", "video/mp4")));
    // An animation comes as a document too.
    match &content.animation {
        Some(file) => files.push(attached(file, "video", "video/mp4")),
        None => {
            files.extend(
                content.document.as_ref().map(|f| attached(f, "document", "application/octet-stream")),
            );
        }
    }
    if let Some(sticker) = content.sticker.as_ref().filter(|s| !s.is_animated && !s.is_video) {
        let file = File { file_id: sticker.file_id.clone(), file_size: sticker.file_size, ..File::default() };
        files.push(attached(&file, "image", "image/webp"));
    }
    files
}
