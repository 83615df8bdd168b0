//! The receiving loop: log in, poll, hand over, move on.
//!
//! The offset is the acknowledgement (Bot API getUpdates): asking for N confirms everything below N. So it moves only
//! after the journal has every message below it, and a crash anywhere brings the same updates again.
//!
//! ```text
//! getUpdates(offset) ─► convert ─► gather ─► load files ─► store (chat by chat) ─► offset = last + 1 ─┐
//!      ▲                                                                                         │
//!      └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use proto::runtime::backoff::Backoff;
use proto::wire::channel::{
    ChannelPhase, Cursor, InboundMsg, RAW_BYTES_MAX, SCOPE_SKIP, SCOPE_SUSPECTS, Unreadable,
};
use serde_json::{Value, json};

use super::Telegram;
use super::api::ApiError;
use super::convert::{Attached, Heard, heard};
use super::gather;
use super::update::{File, Update, User};
use crate::channel::{Ended, Feed};
use crate::dedup::Recent;
use crate::inbound::Gone;

/// How long a poll waits for updates, and how much later its answer may come.
const POLL_SECONDS: u64 = 30;
const POLL_MARGIN: Duration = Duration::from_secs(10);
/// Updates of one poll (Bot API getUpdates, `limit`).
const POLL_UPDATES_MAX: usize = 100;
/// What is asked for. Edits are not: an edited message was answered already.
const ALLOWED_UPDATES: [&str; 3] = ["message", "channel_post", "callback_query"];
/// Looks for the rest of an album or a long text; each finds something new or is the last.
const GATHER_ROUNDS_MAX: usize = 8;
/// Chats whose messages are handed over at the same time.
const CHATS_AT_ONCE: usize = 16;
/// Tries to load a file before the message goes without it.
const FILE_TRIES: u32 = 3;
/// Pause before a file is loaded again that found no room on our own disk; the journal looks as often.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(5);
/// Pauses after a loss: the first one, and the cap that a long outage reaches.
const RECONNECT: Backoff = Backoff { first_ms: 2_000, cap_ms: 30_000 };
/// Update ids that are remembered, and for how long.
const SEEN_UPDATES_MAX: usize = 2_000;
const SEEN_MS: u64 = 5 * 60 * 1000;
/// Scope of the cursor in the journal.
const CURSOR_SCOPE: &str = "updates";

pub struct Poll<'a> {
    telegram: &'a Telegram,
    feed: Feed,
    /// The first update that is not stored yet.
    offset: Option<i64>,
    seen: Recent<i64>,
    /// Updates that are read one at a time: one of them has killed this worker before.
    suspects: Vec<i64>,
    /// Updates that are not read at all.
    skip: Vec<i64>,
    began: Instant,
    /// Failures in a row.
    failures: u32,
}

impl<'a> Poll<'a> {
    pub fn new(telegram: &'a Telegram, feed: Feed) -> Self {
        let stored = feed.cursors.get(CURSOR_SCOPE);
        let offset = stored.and_then(|value| read_cursor(value, telegram.settings.bot_id()));
        let seen = Recent::new(SEEN_UPDATES_MAX, SEEN_MS);
        let ids = |scope: &str| read_ids(feed.cursors.get(scope));
        let (suspects, skip) = (ids(SCOPE_SUSPECTS), ids(SCOPE_SKIP));
        Self { telegram, feed, offset, seen, suspects, skip, began: Instant::now(), failures: 0 }
    }

    pub async fn run(mut self) -> Ended {
        self.feed.supervisor.state(ChannelPhase::Connecting, None, None);
        let me = loop {
            match self.log_in().await {
                Ok(me) => break me,
                Err(error) => {
                    if let Some(ended) = self.failed(error).await {
                        return ended;
                    }
                }
            }
        };
        let _ = self.telegram.me.set(me.clone());
        self.up(&me);
        loop {
            match self.round(&me).await {
                Ok(()) if self.failures > 0 => {
                    self.failures = 0;
                    self.up(&me);
                }
                Ok(()) => {}
                Err(RoundError::Gone(gone)) => return gone.into(),
                Err(RoundError::Api(error)) => {
                    if let Some(ended) = self.failed(error).await {
                        return ended;
                    }
                }
            }
        }
    }

    async fn log_in(&self) -> Result<User, ApiError> {
        let api = &self.telegram.api;
        let me: User = api.call("getMe", &json!({})).await?;
        proto::runtime::failpoint::hit("ch.login.mid");
        // A webhook of an earlier set-up would keep every poll from working; what waits there stays.
        api.call::<Value>("deleteWebhook", &json!({"drop_pending_updates": false})).await?;
        let commands = &self.telegram.settings.custom_commands;
        if !commands.is_empty() {
            let list = commands.iter().map(|entry| {
                json!({"command": entry.command.trim_start_matches('/'), "description": entry.description})
            });
            let params = json!({"commands": list.collect::<Vec<_>>()});
            if let Err(error) = api.call::<Value>("setMyCommands", &params).await {
                tracing::warn!(%error, "the command menu is not set");
            }
        }
        Ok(me)
    }

    fn up(&self, me: &User) {
        let identity = me.username.as_ref().map(|name| format!("@{name}"));
        tracing::info!(account = %self.telegram.account, identity = identity.as_deref(), "connected");
        self.feed.supervisor.state(ChannelPhase::Up, None, identity);
    }

    /// Says what went wrong and waits, or ends.
    async fn failed(&mut self, error: ApiError) -> Option<Ended> {
        if error.is_bad_token() {
            return Some(Ended::NeedsLogin(format!("{error}: check botToken and apiRoot")));
        }
        let mut random = [0u8; 4];
        let _ = getrandom::fill(&mut random);
        let mut pause_ms = RECONNECT.delay_ms(self.failures, u32::from_le_bytes(random));
        let (phase, why) = match &error {
            ApiError::Refused(refusal) if refusal.code == 409 => (
                ChannelPhase::Down,
                format!("session in use by another poller of this bot: {}", refusal.description),
            ),
            ApiError::Refused(refusal) if refusal.code == 429 => {
                pause_ms = refusal.retry_after_s.map_or(pause_ms, |seconds| seconds.saturating_mul(1000));
                (ChannelPhase::RateLimited, error.to_string())
            }
            _ => (ChannelPhase::Down, error.to_string()),
        };
        tracing::warn!(account = %self.telegram.account, pause_ms, %why, "not receiving");
        self.feed.supervisor.state(phase, Some(why), None);
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        None
    }

    /// One poll and everything that it brought.
    async fn round(&mut self, me: &User) -> Result<(), RoundError> {
        let wait = if self.failures > 0 { 0 } else { POLL_SECONDS };
        let mut updates = self.updates(wait).await?;
        self.feed.supervisor.progressed();
        for _ in 0..GATHER_ROUNDS_MAX {
            let Some(pause) = gather::wait(&self.heard(&updates, me)) else { break };
            if updates.len() >= self.at_once() {
                break;
            }
            tokio::time::sleep(pause).await;
            // The same offset again: nothing is confirmed while something may be missing.
            let more = self.updates(0).await?;
            let grew = more.len() > updates.len();
            updates = more;
            if !grew {
                break;
            }
        }
        let Some(last) = updates.iter().map(|update| update.update_id).max() else { return Ok(()) };
        for update in updates.iter().filter(|update| update.unread.is_some()) {
            let ext_id = update.update_id.to_string();
            tracing::error!(ext_id, "an update that killed this worker each time is set aside unread");
            let raw = update.unread.clone().unwrap_or_default();
            self.feed.inbox.bury(Unreadable { ext_id, raw, cursor: None }).await?;
        }
        let heard = gather::join(self.heard(&updates, me));
        self.hand_over(heard, last + 1).await?;
        for update in &updates {
            self.seen.note(update.update_id, self.now_ms());
        }
        self.offset = Some(last + 1);
        self.suspects.retain(|id| *id > last);
        self.feed.supervisor.examining(Vec::new()).await;
        proto::runtime::failpoint::hit("ch.ack.after");
        if updates.len() >= POLL_UPDATES_MAX {
            // There is more of what came while nobody listened.
            proto::runtime::failpoint::hit("ch.backfill.mid");
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn updates(&self, wait_seconds: u64) -> Result<Vec<Update>, ApiError> {
        let mut params =
            json!({"timeout": wait_seconds, "limit": self.at_once(), "allowed_updates": ALLOWED_UPDATES});
        if let (Some(offset), Some(params)) = (self.offset, params.as_object_mut()) {
            params.insert("offset".to_owned(), json!(offset));
        }
        let limit = Duration::from_secs(wait_seconds) + POLL_MARGIN;
        let raw: Vec<Value> = self.telegram.api.call_within("getUpdates", &params, limit).await?;
        let ids: Vec<String> =
            raw.iter().filter_map(|update| update.get("update_id")).map(ToString::to_string).collect();
        if !ids.is_empty() {
            self.feed.supervisor.examining(ids).await;
        }
        Ok(raw.into_iter().map(|update| self.read(update)).collect())
    }

    /// Updates of one poll; one while there are suspects, so that the next death names the right one.
    fn at_once(&self) -> usize {
        if self.suspects.is_empty() { POLL_UPDATES_MAX } else { 1 }
    }

    fn read(&self, update: Value) -> Update {
        let id = update.get("update_id").and_then(Value::as_i64).unwrap_or_default();
        if !self.skip.contains(&id) {
            return Update::read(update);
        }
        let mut raw = update.to_string();
        raw.truncate(raw.floor_char_boundary(RAW_BYTES_MAX));
        Update { update_id: id, unread: Some(raw), ..Update::default() }
    }

    fn heard(&self, updates: &[Update], me: &User) -> Vec<Heard> {
        let now_ms = self.now_ms();
        let fresh = updates.iter().filter(|update| !self.seen.contains(&update.update_id, now_ms));
        let mentions = self.telegram.mentions.read().unwrap_or_else(PoisonError::into_inner).clone();
        fresh.filter_map(|update| heard(update, me, &mentions)).collect()
    }

    /// Returns when the journal has all of them. Chats go side by side, messages of one chat one after the other.
    async fn hand_over(&self, heard: Vec<Heard>, next: i64) -> Result<(), Gone> {
        let cursor = self.cursor(next);
        let mut chats: Vec<Vec<Heard>> = Vec::new();
        let alone = heard.len() == 1;
        for message in heard {
            let chat = |held: &&mut Vec<Heard>| {
                held.first().is_some_and(|f| f.message.chat.id == message.message.chat.id)
            };
            match chats.iter_mut().find(chat) {
                Some(held) => held.push(message),
                None => chats.push(vec![message]),
            }
        }
        let with_message = alone.then(|| cursor.clone());
        let mut stores =
            stream::iter(chats.into_iter().map(|chat| self.store_chat(chat, with_message.as_ref())))
                .buffer_unordered(CHATS_AT_ONCE);
        while let Some(stored) = stores.next().await {
            stored?;
        }
        // With several messages the position may only move once all of them are stored.
        if alone { Ok(()) } else { self.feed.inbox.moved(cursor).await }
    }

    async fn store_chat(&self, chat: Vec<Heard>, cursor: Option<&Cursor>) -> Result<(), Gone> {
        for heard in chat {
            let message = self.load(heard.message, heard.files).await;
            self.feed.inbox.store(InboundMsg { cursor: cursor.cloned(), ..message }).await?;
            if let Some(id) = heard.callback_id {
                let params = json!({"callback_query_id": id});
                if let Err(error) = self.telegram.api.call::<Value>("answerCallbackQuery", &params).await {
                    tracing::debug!(%error, "button press not answered");
                }
            }
        }
        Ok(())
    }

    /// Loads the files; one that cannot be had is named in the text instead.
    async fn load(&self, mut message: InboundMsg, files: Vec<Attached>) -> InboundMsg {
        for file in files {
            match self.file(&file).await {
                Ok(media) => message.media.push(media),
                Err(why) => {
                    tracing::warn!(ext_id = %message.ext_id, %why, "file not loaded");
                    message.text = format!("{}\n[{} not loaded: {why}]", message.text, file.described.kind);
                }
            }
        }
        message
    }

    async fn file(&self, file: &Attached) -> Result<proto::wire::channel::MediaRef, String> {
        let limit = self.feed.media.bytes_max();
        if file.bytes.is_some_and(|bytes| bytes > limit) {
            return Err(format!("larger than {:.1} MB", limit as f64 / (1024.0 * 1024.0)));
        }
        let mut tries = 0;
        loop {
            let failed = match self.file_once(file).await {
                Ok(media) => return Ok(media),
                Err(failed) => failed,
            };
            if failed.our_disk_is_full {
                // Not counted: neither this message nor what comes behind it is taken until there is room.
                tracing::error!(why = %failed.why, "a file waits with the network: free some space");
                tokio::time::sleep(FULL_DISK_PAUSE).await;
                continue;
            }
            tries += 1;
            if !failed.worth_a_try || tries >= FILE_TRIES {
                return Err(failed.why);
            }
            let pause = Duration::from_millis(self.telegram.settings.retry_min_delay_ms * u64::from(tries));
            tokio::time::sleep(pause).await;
        }
    }

    async fn file_once(&self, file: &Attached) -> Result<proto::wire::channel::MediaRef, FileFailed> {
        let api = &self.telegram.api;
        let known: File = api.call("getFile", &json!({"file_id": file.file_id})).await?;
        let pathless = || FileFailed { why: "Telegram gives no path".into(), ..FileFailed::default() };
        let path = known.file_path.ok_or_else(pathless)?;
        let content = api.download(&path).await?;
        let stored = self.feed.media.store(file.described.clone(), content).await;
        stored.map_err(|error| FileFailed {
            worth_a_try: matches!(error, crate::media::MediaError::Network(_)),
            our_disk_is_full: error.is_full_disk(),
            why: error.to_string(),
        })
    }

    fn cursor(&self, next: i64) -> Cursor {
        let value = format!("{}:{next}", self.telegram.settings.bot_id());
        Cursor { scope: CURSOR_SCOPE.to_owned(), value }
    }
}

/// `<bot id>:<offset>`; a bare offset is taken for this bot's. The position of another bot would hide updates.
fn read_cursor(value: &str, bot_id: &str) -> Option<i64> {
    match value.split_once(':') {
        Some((bot, offset)) if bot == bot_id => offset.parse().ok(),
        Some(_) => None,
        None => value.parse().ok(),
    }
}

/// Ids joined by `,`.
fn read_ids(joined: Option<&String>) -> Vec<i64> {
    joined.into_iter().flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok()).collect()
}

enum RoundError {
    Api(ApiError),
    Gone(Gone),
}

impl From<ApiError> for RoundError {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Gone> for RoundError {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}

#[derive(Default)]
struct FileFailed {
    why: String,
    worth_a_try: bool,
    our_disk_is_full: bool,
}

impl From<ApiError> for FileFailed {
    fn from(error: ApiError) -> Self {
        let worth_a_try = match &error {
            ApiError::Refused(refusal) => refusal.code == 429 || refusal.code >= 500,
            _ => true,
        };
        Self { why: error.to_string(), worth_a_try, our_disk_is_full: false }
    }
}

#[cfg(test)]
mod tests {
    use super::read_cursor;

    #[test]
    fn a_cursor_counts_only_for_its_bot() {
        assert_eq!(read_cursor("42:700", "42"), Some(700));
        assert_eq!(read_cursor("43:700", "42"), None);
        assert_eq!(read_cursor("700", "42"), Some(700));
        assert_eq!(read_cursor("x", "42"), None);
    }
}
