//! The way out, the same for all channels: every chat has a lane that does one thing after the other.
//!
//! Not here: what is sent and when. The supervisor hands out each item once per lease; nothing here repeats a send
//! by itself or remembers one over a restart.
//!
//! ```text
//! Send ──► lane of the chat ──► go-ahead (SendStarted) ──► placeholder ──► its id is noted (Placed)
//!                                                              └──► the text, as an edit of that id ──► SendResult
//! ```

mod delivery;
mod lane;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proto::wire::Id;
use proto::wire::channel::{DraftDiscard, DraftOpen, DraftUpdate, OutboundItem, SendOutcome, Typing};
use tokio::sync::{Notify, mpsc};

use crate::channel::Channel;
use crate::media::MediaStore;
use crate::supervisor::Supervisor;
use lane::{Job, Lane};

/// Jobs that wait in one lane. The supervisor leases one item per chat at a time; the rest are drafts and typing.
const LANE_JOBS_MAX: usize = 64;
/// When a lane is full its chat is stuck on the network; the supervisor tries again after this.
const LANE_FULL_RETRY_MS: u64 = 5_000;

/// What lanes share.
#[derive(Clone)]
struct Shared {
    channel: Arc<dyn Channel>,
    supervisor: Supervisor,
    media: MediaStore,
    busy: Arc<Busy>,
}

/// Counts sends that are not finished, for a stop that waits for them.
#[derive(Default)]
pub struct Busy {
    count: AtomicU32,
    idle: Notify,
}

impl Busy {
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Returns when no send is under way.
    pub async fn is_over(&self) {
        loop {
            let idle = self.idle.notified();
            if self.count() == 0 {
                return;
            }
            idle.await;
        }
    }

    fn begin(self: &Arc<Self>) -> BusyGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        BusyGuard(Arc::clone(self))
    }
}

/// One unfinished send.
pub(crate) struct BusyGuard(Arc<Busy>);

impl Drop for BusyGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

/// Takes what the supervisor wants out and spreads it over lanes. Never waits.
pub struct Outbound {
    shared: Shared,
    lanes: HashMap<String, mpsc::Sender<Job>>,
    /// The chat of each draft: updates name only the row.
    drafts: HashMap<Id, String>,
}

impl Outbound {
    pub fn new(channel: Arc<dyn Channel>, supervisor: Supervisor, media: MediaStore) -> Self {
        let shared = Shared { channel, supervisor, media, busy: Arc::default() };
        Self { shared, lanes: HashMap::new(), drafts: HashMap::new() }
    }

    pub fn busy(&self) -> Arc<Busy> {
        Arc::clone(&self.shared.busy)
    }

    pub fn send(&mut self, item: OutboundItem) {
        let (out_id, chat) = (item.out_id, item.chat.clone());
        self.drafts.remove(&out_id);
        let guard = self.shared.busy.begin();
        if !self.give(&chat, Job::Send(Box::new(item), guard)) {
            let supervisor = self.shared.supervisor.clone();
            let why = "the chat's queue in this worker is full".to_owned();
            tokio::spawn(async move {
                let outcome = SendOutcome::Retry { after_ms: LANE_FULL_RETRY_MS, why };
                supervisor.result(out_id, outcome).await;
            });
        }
    }

    pub fn open_draft(&mut self, open: DraftOpen) {
        let chat = open.chat.clone();
        self.drafts.insert(open.out_id, chat.clone());
        self.give(&chat, Job::Open(open));
    }

    pub fn update_draft(&mut self, update: DraftUpdate) {
        if let Some(chat) = self.drafts.get(&update.out_id).cloned() {
            self.give(&chat, Job::Update(update));
        }
    }

    pub fn discard_draft(&mut self, discard: DraftDiscard) {
        let chat = self.drafts.remove(&discard.out_id).unwrap_or_else(|| discard.chat.clone());
        self.give(&chat, Job::Discard(discard));
    }

    pub fn typing(&mut self, typing: Typing) {
        let chat = typing.chat.clone();
        self.give(&chat, Job::Typing(typing));
    }

    /// False when the lane has no room.
    fn give(&mut self, chat: &str, mut job: Job) -> bool {
        if let Some(lane) = self.lanes.get(chat) {
            match lane.try_send(job) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!(chat, "lane is full");
                    return false;
                }
                // It went to rest; a new one takes over.
                Err(mpsc::error::TrySendError::Closed(back)) => job = back,
            }
        }
        self.lanes.retain(|_, lane| !lane.is_closed());
        let (sender, jobs) = mpsc::channel(LANE_JOBS_MAX);
        let taken = sender.try_send(job).is_ok();
        self.lanes.insert(chat.to_owned(), sender);
        tokio::spawn(Lane::new(self.shared.clone(), chat).run(jobs));
        taken
    }
}
