//! A Telegram Bot API server for tests: long polling, sending, editing, files, with the real server's
//! validations and refusals, faults on demand, and a book of everything that happened.
//!
//! It is written from the Bot API's documentation and checked with a client that others wrote (grammY, see
//! `tests/clients`), not with ours alone. It knows nothing about the gateway.

mod api;
mod book;
mod html;
mod http;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use book::{Book, Call, ChatKind, Push, Shown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the server does instead of answering as it should.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `parameters.retry_after` seconds; nothing is done.
    RateLimit(u64),
    /// An error status with its description; nothing is done.
    Refuse(u16, String),
    /// Never answers and does nothing.
    HangBefore,
    /// Does what was asked and never answers.
    HangAfter,
    /// Closes the connection without doing anything.
    CutBefore,
    /// Does what was asked and closes the connection without an answer.
    CutAfter,
    /// Answers as it should, this many milliseconds late.
    Slow(u64),
    /// Answers as it should once [`TelegramServer::heal`] is called; noted when it begins and when it ends.
    Held,
}

/// Faults waiting for the next calls of a method.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Armed {
    method: String,
    times: u32,
    fault: Fault,
}

struct State {
    book: Book,
    armed: Vec<Armed>,
    /// Number of the newest long poll; an older one that still waits ends with 409.
    poll: u64,
    /// Long polls that wait right now.
    polling: u32,
    webhook: String,
    /// How often the server was healed.
    healed: u32,
}

struct Shared {
    token: String,
    state: Mutex<State>,
    /// Rings whenever anything changes.
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes all who wait on it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    fn take_fault(&self, method: &str) -> Option<Fault> {
        let mut state = self.lock();
        let at = state.armed.iter().position(|armed| armed.method == method || armed.method == "*")?;
        let armed = &mut state.armed[at];
        armed.times -= 1;
        let fault = armed.fault.clone();
        if armed.times == 0 {
            state.armed.remove(at);
        }
        Some(fault)
    }

    async fn healed_since(&self, before: u32) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().healed != before {
                return;
            }
            changed.await;
        }
    }
}

/// A running server; it ends when the value that [`TelegramServer::start`] gave is dropped.
pub struct TelegramServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
}

impl Drop for TelegramServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Token for a server that runs as a program, in the real format `<bot id>:<35 characters>`.
pub const TOKEN: &str = "4242424242:AAHtestbottokenthatisnotreal1234567";
/// The bot's name.
pub const BOT_USERNAME: &str = "lobster_test_bot";

/// A token that no other server on this host has: a bot is used by one process at a time.
fn fresh_token() -> String {
    static SERVERS: AtomicU32 = AtomicU32::new(1);
    let id = 1_000_000_000 + u64::from(std::process::id()) * 1_000;
    let id = id + u64::from(SERVERS.fetch_add(1, Ordering::Relaxed));
    format!("{id}:AAHtestbottokenthatisnotreal1234567")
}

impl TelegramServer {
    /// On a free port of the loopback interface, with a bot of its own.
    pub async fn start() -> Self {
        Self::start_on(0, &fresh_token()).await
    }

    /// # Panics
    /// If the port is taken.
    pub async fn start_on(port: u16, token: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("port is free");
        let address = listener.local_addr().expect("bound socket has an address");
        let bot_id =
            token.split(':').next().and_then(|id| id.parse().ok()).expect("a token starts with a number");
        let state = State {
            book: Book::new(bot_id),
            armed: Vec::new(),
            poll: 0,
            polling: 0,
            webhook: String::new(),
            healed: 0,
        };
        let shared =
            Arc::new(Shared { token: token.to_owned(), state: Mutex::new(state), changed: Notify::new() });
        let task = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        Self { shared, address, task: Some(task) }
    }

    /// Another handle of the same server, which does not keep it running.
    pub fn handle(&self) -> Self {
        Self { shared: self.shared.clone(), address: self.address, task: None }
    }

    /// The network delivers the last `count` confirmed updates again, newest first, as networks do after a failure of their
    /// own (the Bot API promises an order only by ids).
    pub fn redeliver(&self, count: usize) {
        self.shared.change(|state| state.book.redeliver(count));
    }

    /// For `channels.telegram.apiRoot`.
    pub fn api_root(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// The bot's user id.
    pub fn bot_id(&self) -> i64 {
        self.shared.lock().book.bot_id
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Someone writes to the bot, or in a group with the bot. Returns the message's id.
    pub fn push(&self, push: Push) -> i64 {
        self.shared.change(|state| state.book.push(push))
    }

    /// Direct message when `chat == user`, group message otherwise.
    pub fn push_text(&self, chat: i64, user: i64, text: &str) -> i64 {
        if chat == user {
            self.push(Push::direct(user, text))
        } else {
            self.push(Push::group(chat, user, text))
        }
    }

    /// A hand-made update (without `update_id`).
    pub fn push_update(&self, update: Value) -> i64 {
        self.shared.change(|state| state.book.push_update(update))
    }

    /// The next `times` calls of `method` (`*`: any) go wrong in this way.
    pub fn fault(&self, method: &str, times: u32, fault: Fault) {
        let armed = Armed { method: method.to_owned(), times, fault };
        self.shared.change(|state| state.armed.push(armed));
    }

    /// All faults are gone.
    pub fn heal(&self) {
        self.shared.change(|state| {
            state.armed.clear();
            state.healed += 1;
        });
    }

    /// The user blocks the bot: sends to the chat are refused with 403.
    pub fn block(&self, chat: i64) {
        self.shared.change(|state| state.book.chat_mut(chat).blocked = true);
    }

    /// Sets a webhook as another program would have: polling is refused until it is deleted.
    pub fn set_webhook(&self, url: &str) {
        self.shared.change(|state| url.clone_into(&mut state.webhook));
    }

    /// What a person sees in this chat from the bot, in order, after all edits and deletions.
    pub fn visible(&self, chat: i64) -> Vec<Shown> {
        self.shared.lock().book.visible(chat)
    }

    /// The texts of [`Self::visible`].
    pub fn visible_texts(&self, chat: i64) -> Vec<String> {
        self.visible(chat).into_iter().map(|shown| shown.text).collect()
    }

    /// Every call of a method so far, refused and broken ones included.
    pub fn calls(&self, method: &str) -> Vec<Call> {
        self.shared.lock().book.calls.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// Updates that no client has confirmed by a higher offset.
    pub fn unconfirmed(&self) -> usize {
        self.shared.lock().book.updates.len()
    }

    /// The highest offset that a client has asked for.
    pub fn offset(&self) -> i64 {
        self.shared.lock().book.offset
    }

    /// Whether a long poll is waiting right now.
    pub fn is_polled(&self) -> bool {
        self.shared.lock().polling > 0
    }

    /// Waits until the condition holds; looks again after every change.
    ///
    /// # Panics
    /// If it does not hold within `limit`: the message shows the book.
    pub async fn wait_for(&self, what: &str, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let held = tokio::time::timeout(limit, async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if condition(self) {
                    return;
                }
                changed.await;
            }
        });
        if held.await.is_err() {
            let calls = self.shared.lock().book.calls.clone();
            let recent: Vec<_> = calls.iter().rev().take(12).rev().collect();
            panic!("waited {limit:?} in vain for {what}; the last calls: {recent:#?}");
        }
    }
}

/// The bot as `getMe` shows it.
fn bot_user(id: i64) -> Value {
    json!({
        "id": id, "is_bot": true, "first_name": "Lobster", "username": BOT_USERNAME,
        "can_join_groups": true, "can_read_all_group_messages": true, "supports_inline_queries": false,
        "can_connect_to_business": false, "has_main_web_app": false,
    })
}
