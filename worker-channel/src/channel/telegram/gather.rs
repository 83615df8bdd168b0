//! Joins what a person sent as one thing and Telegram delivers as several: albums, and texts over 4096 characters.
//! Pure; [`super::poll`] waits for the rest of them, without moving the network's position.

use std::time::Duration;

use super::convert::Heard;

/// An album's pictures arrive within this time.
const ALBUM_WAIT: Duration = Duration::from_millis(500);
/// The pieces of a long text arrive within this time.
const LONG_TEXT_WAIT: Duration = Duration::from_millis(1_500);
/// A text this long (in characters) may have been cut by the sender's client.
const LONG_TEXT_CHARS_MIN: usize = 4_000;
const LONG_TEXT_PARTS_MAX: usize = 12;
const LONG_TEXT_CHARS_MAX: usize = 50_000;
/// Pieces of one text have dates (in whole seconds) that are this close.
const LONG_TEXT_GAP_MS: i64 = 2_000;

/// How long to wait for the rest of what ends the list, if anything may follow.
pub fn wait(heard: &[Heard]) -> Option<Duration> {
    let mut longest = None;
    let mut chats = Vec::new();
    for last in heard.iter().rev() {
        if chats.contains(&&last.message.chat.id) {
            continue;
        }
        chats.push(&last.message.chat.id);
        let wait = match () {
            () if last.media_group.is_some() => Some(ALBUM_WAIT),
            () if is_long(last) => Some(LONG_TEXT_WAIT),
            () => None,
        };
        longest = longest.max(wait);
    }
    longest
}

fn is_long(heard: &Heard) -> bool {
    heard.files.is_empty() && heard.message.text.chars().count() >= LONG_TEXT_CHARS_MIN
}

/// Joins neighbours within a chat; order is kept. A joined message has the identity of its first piece.
pub fn join(heard: Vec<Heard>) -> Vec<Heard> {
    let mut joined: Vec<Joined> = Vec::with_capacity(heard.len());
    for next in heard {
        let chat = &next.message.chat;
        let same_chat = |held: &&mut Joined| {
            held.whole.message.chat.id == chat.id && held.whole.message.chat.thread == chat.thread
        };
        match joined.iter_mut().rev().find(same_chat) {
            Some(held) if held.takes(&next) => held.add(next),
            _ => joined.push(Joined::new(next)),
        }
    }
    joined.into_iter().map(|held| held.whole).collect()
}

/// A message and what was added to it.
struct Joined {
    whole: Heard,
    parts: usize,
    last_id: i64,
    last_ts_ms: i64,
    last_was_long: bool,
}

impl Joined {
    fn new(first: Heard) -> Self {
        Self {
            parts: 1,
            last_id: id(&first),
            last_ts_ms: first.message.ts_ms,
            last_was_long: is_long(&first),
            whole: first,
        }
    }

    fn takes(&self, next: &Heard) -> bool {
        let same_sender = self.whole.message.sender.id == next.message.sender.id;
        let album = self.whole.media_group.is_some() && self.whole.media_group == next.media_group;
        let follows = id(next) == self.last_id + 1
            && (0..=LONG_TEXT_GAP_MS).contains(&(next.message.ts_ms - self.last_ts_ms));
        let characters = self.whole.message.text.chars().count() + next.message.text.chars().count();
        let text = self.last_was_long
            && follows
            && next.files.is_empty()
            && next.callback_id.is_none()
            && self.whole.callback_id.is_none()
            && self.parts < LONG_TEXT_PARTS_MAX
            && characters <= LONG_TEXT_CHARS_MAX;
        same_sender && (album || text)
    }

    fn add(&mut self, next: Heard) {
        self.parts += 1;
        self.last_id = id(&next);
        self.last_ts_ms = next.message.ts_ms;
        self.last_was_long = is_long(&next);
        let album = self.whole.media_group.is_some();
        let whole = &mut self.whole.message;
        let placeholder = |text: &str| text.starts_with("<media:");
        if !album {
            whole.text.push_str(&next.message.text);
        } else if placeholder(&whole.text) {
            whole.text = next.message.text;
        } else if !placeholder(&next.message.text) {
            whole.text = format!("{}\n{}", whole.text, next.message.text);
        }
        whole.mentioned |= next.message.mentioned;
        whole.reply_to_bot |= next.message.reply_to_bot;
        self.whole.files.extend(next.files);
    }
}

fn id(heard: &Heard) -> i64 {
    heard.message.message_id.parse().unwrap_or_default()
}
