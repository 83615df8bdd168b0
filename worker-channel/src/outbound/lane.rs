//! The lane of one chat: items in order, previews in between, never faster than the network likes.

use std::collections::HashMap;
use std::time::Duration;

use proto::wire::Id;
use proto::wire::channel::{DraftDiscard, DraftOpen, DraftUpdate, OutboundItem, Typing};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::delivery::{Delivery, placeholder, split_ids};
use super::{BusyGuard, Shared};
use crate::channel::{SendFailure, Target};
use crate::text::{Styled, split};

/// A lane without work rests after this; the chat's next item starts another.
const REST_AFTER: Duration = Duration::from_secs(60);
/// How often "is typing" is shown again: networks show it for about five seconds.
const TYPING_EVERY: Duration = Duration::from_secs(4);
/// A typing note that nobody ended ends by itself: its run is gone.
const TYPING_MAX: Duration = Duration::from_secs(120);
/// Tries to take a placeholder away before it is left where it is.
const REMOVE_TRIES: u32 = 3;

/// Something for one chat.
pub(super) enum Job {
    Send(Box<OutboundItem>, BusyGuard),
    Open(DraftOpen),
    Update(DraftUpdate),
    Discard(DraftDiscard),
    Typing(Typing),
}

/// A placeholder that a run writes into.
struct Draft {
    to: Target,
    ext_ids: Vec<String>,
    /// Newest text that is not shown yet.
    wanted: Option<String>,
    shown: Option<Styled>,
}

struct TypingNote {
    to: Target,
    next: Instant,
    until: Instant,
}

pub(super) struct Lane {
    shared: Shared,
    chat: String,
    drafts: HashMap<Id, Draft>,
    typing: Option<TypingNote>,
    /// The network asked for silence until then.
    quiet_until: Instant,
    /// When a preview may change again.
    next_preview: Instant,
}

impl Lane {
    pub(super) fn new(shared: Shared, chat: &str) -> Self {
        let now = Instant::now();
        Self {
            shared,
            chat: chat.to_owned(),
            drafts: HashMap::new(),
            typing: None,
            quiet_until: now,
            next_preview: now,
        }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let wake = self.next_wake();
            tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    Some(job) => self.job(job).await,
                    None => return,
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(|| Instant::now() + REST_AFTER)) => {
                    if wake.is_none() && self.drafts.is_empty() {
                        break;
                    }
                    self.tick().await;
                }
            }
        }
        // What came in while the door was closing is still done.
        jobs.close();
        while let Some(job) = jobs.recv().await {
            self.job(job).await;
        }
    }

    /// When something is due without a job.
    fn next_wake(&self) -> Option<Instant> {
        let dirty = self.drafts.values().any(|draft| draft.wanted.is_some());
        let preview = dirty.then(|| self.next_preview.max(self.quiet_until));
        let typing = self.typing.as_ref().map(|note| note.next.max(self.quiet_until));
        [preview, typing].into_iter().flatten().min()
    }

    async fn job(&mut self, job: Job) {
        match job {
            Job::Send(item, guard) => {
                self.send(*item).await;
                drop(guard);
            }
            Job::Open(open) => self.open(open).await,
            Job::Update(update) => {
                if let Some(draft) = self.drafts.get_mut(&update.out_id) {
                    draft.wanted = Some(update.text);
                }
            }
            Job::Discard(discard) => self.discard(discard).await,
            Job::Typing(typing) => self.type_or_stop(typing).await,
        }
    }

    async fn send(&mut self, item: OutboundItem) {
        let draft = self.drafts.remove(&item.out_id).map(|draft| draft.ext_ids).unwrap_or_default();
        self.typing = None;
        let out_id = item.out_id;
        let quiet = self.quiet_until.saturating_duration_since(Instant::now());
        let (outcome, quiet) = Delivery::new(&self.shared, item, draft).run(quiet).await;
        self.quiet_until = self.quiet_until.max(Instant::now() + quiet);
        proto::runtime::failpoint::hit("ch.result.before");
        self.shared.supervisor.result(out_id, outcome).await;
    }

    async fn open(&mut self, open: DraftOpen) {
        if self.drafts.contains_key(&open.out_id) || Instant::now() < self.quiet_until {
            return;
        }
        let replies = self.shared.channel.rules().replies.answers(open.reply_reason, 0);
        let reply_to = open.reply_to.filter(|_| replies);
        let to = Target { chat: open.chat, thread: open.thread, reply_to };
        let ext_id = match self.shared.channel.post(&to, placeholder(&Styled::plain("…"))).await {
            Ok(ext_id) => ext_id,
            Err(failure) => return self.heed(&failure),
        };
        if let Err(refused) = self.shared.supervisor.placed(open.out_id, ext_id.clone()).await {
            tracing::info!(%refused, out_id = %open.out_id, "placeholder is not wanted");
            return self.remove(&to, &ext_id).await;
        }
        let draft = Draft { to, ext_ids: vec![ext_id], wanted: None, shown: None };
        self.drafts.insert(open.out_id, draft);
        self.next_preview = Instant::now() + self.pause();
    }

    async fn discard(&mut self, discard: DraftDiscard) {
        let (to, mut ext_ids) = match self.drafts.remove(&discard.out_id) {
            Some(draft) => (draft.to, draft.ext_ids),
            None => (Target { chat: self.chat.clone(), ..Target::default() }, Vec::new()),
        };
        for ext_id in split_ids(discard.ext_id.as_deref()) {
            if !ext_ids.contains(&ext_id) {
                ext_ids.push(ext_id);
            }
        }
        for ext_id in ext_ids {
            self.remove(&to, &ext_id).await;
        }
    }

    async fn remove(&mut self, to: &Target, ext_id: &str) {
        for _ in 0..REMOVE_TRIES {
            match self.shared.channel.remove(to, ext_id).await {
                Err(SendFailure::Retry { after_ms, .. }) => {
                    tokio::time::sleep(Duration::from_millis(after_ms.min(TYPING_EVERY.as_millis() as u64)))
                        .await;
                }
                Err(SendFailure::Unknown(_)) => {}
                Ok(()) | Err(_) => return,
            }
        }
        tracing::warn!(chat = %self.chat, ext_id, "an empty placeholder stays in the chat");
    }

    async fn type_or_stop(&mut self, typing: Typing) {
        if !typing.on {
            self.typing = None;
            return;
        }
        let now = Instant::now();
        let to = Target { chat: typing.chat, thread: typing.thread, reply_to: None };
        // A note that is already shown is only kept up.
        let next = self.typing.as_ref().map_or(now, |note| note.next);
        self.typing = Some(TypingNote { to, next, until: now + TYPING_MAX });
        self.tick().await;
    }

    /// Does what is due: a typing note, one preview.
    async fn tick(&mut self) {
        let now = Instant::now();
        if now < self.quiet_until {
            return;
        }
        if let Some(mut note) = self.typing.take_if(|note| note.next <= now).filter(|note| now < note.until) {
            if let Err(failure) = self.shared.channel.typing(&note.to).await {
                self.heed(&failure);
            }
            note.next = Instant::now() + TYPING_EVERY;
            self.typing = Some(note);
        }
        if now >= self.next_preview {
            self.preview().await;
        }
    }

    async fn preview(&mut self) {
        let rules = self.shared.channel.rules();
        let Some(draft) = self.drafts.values_mut().find(|draft| draft.wanted.is_some()) else { return };
        let text = draft.wanted.take().unwrap_or_default();
        // The first message of what the reply is so far: what does not fit comes with the reply itself.
        let parts = split::messages(&text, rules.text_units_max, rules.chunk_mode, rules.tables);
        let Some(part) = parts.into_iter().next().filter(rules.fits) else { return };
        if draft.shown.as_ref() == Some(&part) {
            return;
        }
        let Some(ext_id) = draft.ext_ids.first() else { return };
        let result = self.shared.channel.edit(&draft.to, ext_id, &part).await;
        match result {
            Ok(()) => draft.shown = Some(part),
            Err(failure) => self.heed(&failure),
        }
        self.next_preview = Instant::now() + self.pause();
    }

    fn pause(&self) -> Duration {
        (self.shared.channel.rules().preview_pause)(&self.chat)
    }

    /// Previews and notes are not worth a repetition, but the network's wish for silence is kept.
    fn heed(&mut self, failure: &SendFailure) {
        tracing::debug!(chat = %self.chat, ?failure, "not shown");
        if let SendFailure::Retry { after_ms, .. } = failure {
            self.quiet_until = self.quiet_until.max(Instant::now() + Duration::from_millis(*after_ms));
        }
    }
}
