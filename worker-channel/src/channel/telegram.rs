//! Telegram by its Bot API: long polling in, methods out.
//!
//! | file | what |
//! |---|---|
//! | `config` | the keys of `channels.telegram` |
//! | `api` | one HTTP call, its errors by meaning |
//! | `update` | what the network sends, only the fields that are read |
//! | `convert` | update → the facts that the supervisor gets (pure) |
//! | `gather` | albums and long texts that Telegram cut are joined again (pure) |
//! | `poll` | the receiving loop |
//! | `send` | outbound |

mod api;
mod config;
mod convert;
mod gather;
mod poll;
mod send;
#[cfg(test)]
mod tests;
mod update;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    Body, Channel, ChannelKind, Ended, Feed, OpenError, Pending, Replies, Rules, SendFailure, Target,
};
use crate::account::Account;
use crate::text::{Styled, file_names, html, utf16_len};
use api::{Api, ApiError};
use config::{ReplyToMode, Settings};
use update::User;

/// The line for [`super::all`].
pub const KIND: ChannelKind =
    ChannelKind { name: "telegram", schema: config::schema, check: config::check, open };

/// Characters of a message after entities are taken out (Bot API sendMessage, `text`).
const TEXT_UNITS_MAX: usize = 4096;
/// Characters of a caption (Bot API sendPhoto, `caption`).
const CAPTION_UNITS_MAX: usize = 1024;
/// Shortest time between changes of one message: about one call per second and chat is what Telegram takes.
const PREVIEW_PAUSE: Duration = Duration::from_millis(1_000);
/// The same in groups, where a bot may make 20 calls a minute.
const PREVIEW_PAUSE_GROUP: Duration = Duration::from_millis(3_000);

/// One bot.
struct Telegram {
    settings: Settings,
    api: Api,
    account: String,
    /// Replaced when the configuration says so; a poll works with the one that it began with.
    mentions: RwLock<Arc<convert::MentionPatterns>>,
    /// Who we are, once the network has said it.
    me: OnceCell<User>,
}

fn open(account: &Account) -> Result<Arc<dyn Channel>, OpenError> {
    let settings = Settings::read(account)?;
    let api = Api::new(&settings.api_root, &settings.token);
    let mentions = RwLock::new(Arc::new(convert::MentionPatterns::new(&account.mention_patterns)));
    Ok(Arc::new(Telegram { settings, api, account: account.id.clone(), mentions, me: OnceCell::new() }))
}

/// A chat id below zero is a group's or a channel's.
fn is_group(chat: &str) -> bool {
    send::chat_and_thread(chat).0.starts_with('-')
}

/// The HTML of a part, with file names guarded against being taken for domains.
fn to_html(part: &Styled) -> String {
    let mut part = part.clone();
    file_names::guard(&mut part);
    html::render(&part)
}

impl Channel for Telegram {
    fn identity(&self) -> String {
        self.settings.bot_id().to_owned()
    }

    fn rules(&self) -> Rules {
        Rules {
            text_units_max: match self.settings.text_chunk_limit {
                0 => TEXT_UNITS_MAX,
                limit => limit.min(TEXT_UNITS_MAX),
            },
            caption_units_max: CAPTION_UNITS_MAX,
            chunk_mode: self.settings.chunk_mode,
            tables: self.settings.tables,
            replies: match self.settings.reply_to_mode {
                ReplyToMode::Off => Replies::None,
                ReplyToMode::First => Replies::First,
                ReplyToMode::All => Replies::All,
            },
            fits: |part| utf16_len(&to_html(part)) <= TEXT_UNITS_MAX,
            preview_pause: |chat| if is_group(chat) { PREVIEW_PAUSE_GROUP } else { PREVIEW_PAUSE },
        }
    }

    fn media_bytes_max(&self) -> u64 {
        self.settings.media_bytes_max
    }

    fn receive(&self, feed: Feed) -> Pending<'_, Ended> {
        Box::pin(poll::Poll::new(self, feed).run())
    }

    fn post<'a>(&'a self, to: &'a Target, body: Body<'a>) -> Pending<'a, Result<String, SendFailure>> {
        Box::pin(send::post(self, to, body))
    }

    fn edit<'a>(
        &'a self,
        to: &'a Target,
        ext_id: &'a str,
        part: &'a Styled,
    ) -> Pending<'a, Result<(), SendFailure>> {
        Box::pin(send::edit(self, to, ext_id, part))
    }

    fn remove<'a>(&'a self, to: &'a Target, ext_id: &'a str) -> Pending<'a, Result<(), SendFailure>> {
        Box::pin(send::remove(self, to, ext_id))
    }

    fn typing<'a>(&'a self, to: &'a Target) -> Pending<'a, Result<(), SendFailure>> {
        Box::pin(send::typing(self, to))
    }

    fn configure(&self, account: &Account) {
        let patterns = Arc::new(convert::MentionPatterns::new(&account.mention_patterns));
        *self.mentions.write().unwrap_or_else(PoisonError::into_inner) = patterns;
    }

    fn probe(&self) -> Pending<'_, Value> {
        Box::pin(probe(self))
    }
}

/// `getMe` and `getWebhookInfo` in the shape of `channels.status` (`probe`).
async fn probe(telegram: &Telegram) -> Value {
    let began = std::time::Instant::now();
    let elapsed = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let me = match telegram.api.call::<Value>("getMe", &json!({})).await {
        Ok(me) => me,
        Err(error) => {
            let status = match &error {
                ApiError::Refused(refusal) => json!(refusal.code),
                _ => Value::Null,
            };
            return json!({"ok": false, "status": status, "error": error.to_string(), "elapsedMs": elapsed()});
        }
    };
    let webhook = telegram.api.call::<Value>("getWebhookInfo", &json!({})).await;
    let webhook = webhook.ok().map(|info| {
        let custom = info.get("has_custom_certificate").cloned().unwrap_or(Value::Null);
        json!({"url": info.get("url").cloned().unwrap_or(Value::Null), "hasCustomCert": custom})
    });
    let field = |name: &str| me.get(name).cloned().unwrap_or(Value::Null);
    json!({
        "ok": true, "status": null, "error": null, "elapsedMs": elapsed(),
        "bot": {
            "id": field("id"), "username": field("username"), "canJoinGroups": field("can_join_groups"),
            "canReadAllGroupMessages": field("can_read_all_group_messages"),
            "supportsInlineQueries": field("supports_inline_queries"),
        },
        "webhook": webhook,
    })
}
