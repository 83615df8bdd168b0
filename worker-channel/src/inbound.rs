//! The way in, the same for all channels: a message is offered until the journal has it, and only then may the
//! network be told.
//!
//! Not here: whether the message is let in, and what becomes of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::wire::channel::{Cursor, InboundMsg, Unreadable};
use tokio::sync::oneshot;

use crate::supervisor::Supervisor;

/// Without an answer a message is offered again after this: the journal answers in milliseconds, and an answer that was
/// decided while the supervisor was replaced can be lost. Offering twice stores once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a message is offered again when the supervisor names none.
const RETRY_MS_MIN: u64 = 250;
/// Longest pause before a message is offered again: a journal that is full for an hour must not cost another one.
const RETRY_MS_MAX: u64 = 30_000;

/// What the supervisor said to an offered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Stored,
    NotNow { retry_ms: u32 },
}

/// The link is gone: nobody will store anything any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the supervisor is gone")]
pub struct Gone;

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Verdict>>>>;

/// Offers messages. Cloneable.
#[derive(Clone, Debug)]
pub struct Inbox {
    supervisor: Supervisor,
    waiting: Waiting,
}

impl Inbox {
    pub fn new(supervisor: Supervisor) -> Self {
        Self { supervisor, waiting: Waiting::default() }
    }

    /// Returns when the journal has the message. Messages of one chat must be offered one after the other.
    pub async fn store(&self, message: InboundMsg) -> Result<(), Gone> {
        let ext_id = message.ext_id.clone();
        self.until_stored(&ext_id, Offer::Message(message)).await
    }

    /// The same for something that is kept unread.
    pub async fn bury(&self, message: Unreadable) -> Result<(), Gone> {
        let ext_id = message.ext_id.clone();
        self.until_stored(&ext_id, Offer::Unread(message)).await
    }

    async fn until_stored(&self, ext_id: &str, offer: Offer) -> Result<(), Gone> {
        loop {
            let (sender, verdict) = oneshot::channel();
            self.lock().insert(ext_id.to_owned(), sender);
            let _forget = Forget { waiting: &self.waiting, ext_id };
            proto::runtime::failpoint::hit("ch.recv.before_inbound");
            let sent = match &offer {
                Offer::Message(message) => self.supervisor.offer(message.clone()).await,
                Offer::Unread(message) => self.supervisor.unreadable(message.clone()).await,
            };
            sent.map_err(|_| Gone)?;
            proto::runtime::failpoint::hit("ch.recv.after_inbound");
            self.supervisor.progressed();
            let Ok(verdict) = tokio::time::timeout(ANSWER_WITHIN, verdict).await else {
                tracing::info!(ext_id, "no answer to a message, offered again");
                continue;
            };
            match verdict.map_err(|_| Gone)? {
                Verdict::Stored => {
                    proto::runtime::failpoint::hit("ch.ack.before");
                    return Ok(());
                }
                Verdict::NotNow { retry_ms } => {
                    let pause = u64::from(retry_ms).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
                    tracing::info!(ext_id, pause, "message not stored, offered again later");
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    /// Notes the network's position after everything below it was stored.
    pub async fn moved(&self, cursor: Cursor) -> Result<(), Gone> {
        self.supervisor.moved(cursor).await.map_err(|_| Gone)
    }

    /// The supervisor's answer. One that nobody waits for is an answer to an offer that was repeated.
    pub fn settle(&self, ext_id: &str, verdict: Verdict) {
        if let Some(waiter) = self.lock().remove(ext_id) {
            let _ = waiter.send(verdict);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Verdict>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is offered until the journal has it.
enum Offer {
    Message(InboundMsg),
    Unread(Unreadable),
}

/// Takes the waiter away when the offer ends early.
struct Forget<'a> {
    waiting: &'a Waiting,
    ext_id: &'a str,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(self.ext_id);
    }
}
