//! One outbox row on its way out.
//!
//! A row becomes one or more messages (its text in parts, then its files). Which of them are on the network already
//! is known from `prior`, which the journal keeps: the ids so far, in order, joined by `,`. So a row that is leased
//! again goes on where it stopped: known texts are edited (which changes nothing when they are right), known files are
//! skipped, and only what has no id is put.

use std::time::Duration;

use proto::runtime::failpoint;
use proto::wire::channel::{MediaRef, OutboundItem, SendOutcome};
use tokio::time::Instant;

use super::Shared;
use crate::channel::{Body, SendFailure, Target};
use crate::text::{Styled, split, utf16_len};

/// Separates the ids of one row in `prior` and `Placed`.
const ID_SEPARATOR: char = ',';
/// What stands in a chat before the text: neutral, without content, valid on every network.
const PLACEHOLDER: &str = "…";
/// After a failure that an idempotent step met without a hint from the network.
const RETRY_MS: u64 = 1_000;

pub(super) fn split_ids(prior: Option<&str>) -> Vec<String> {
    let ids = prior.unwrap_or_default().split(ID_SEPARATOR).map(str::trim);
    ids.filter(|id| !id.is_empty()).map(str::to_owned).collect()
}

/// The body of a placeholder.
pub(super) fn placeholder(text: &Styled) -> Body<'_> {
    Body::Text(text)
}

/// One message of a row.
enum Step {
    Text(Styled),
    File(MediaRef, Option<Styled>),
}

pub(super) struct Delivery<'a> {
    shared: &'a Shared,
    item: OutboundItem,
    steps: Vec<Step>,
    /// Ids of the steps that are on the network, in order.
    ids: Vec<String>,
    began: Instant,
    /// How long the network wants silence after this, as it said.
    quiet: Duration,
}

impl<'a> Delivery<'a> {
    /// `draft`: ids of a placeholder that this process put for the row; the journal may not have named them yet.
    pub(super) fn new(shared: &'a Shared, item: OutboundItem, draft: Vec<String>) -> Self {
        let mut ids = split_ids(item.prior.as_deref());
        if draft.len() > ids.len() {
            ids = draft;
        }
        let steps = steps(shared, &item);
        Self { shared, item, steps, ids, began: Instant::now(), quiet: Duration::ZERO }
    }

    /// Sends the row; `quiet` is how long the network still wants silence in this chat. Returns also how long it
    /// wants silence from now on.
    pub(super) async fn run(mut self, quiet: Duration) -> (SendOutcome, Duration) {
        let outcome = self.outcome(quiet).await;
        (outcome, self.quiet)
    }

    async fn outcome(&mut self, quiet: Duration) -> SendOutcome {
        failpoint::hit("ch.send.before_started");
        if let Err(refused) = self.shared.supervisor.may_start(self.item.out_id).await {
            return retry(RETRY_MS, format!("no go-ahead: {refused}"));
        }
        failpoint::hit("ch.send.after_started");
        if !quiet.is_zero() {
            let after_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
            return retry(after_ms, "the network asked for a pause in this chat".to_owned());
        }
        if self.steps.is_empty() {
            return match self.ids.is_empty() {
                true => SendOutcome::Permanent { why: "nothing to send: no text and no file".to_owned() },
                false => self.finish().await,
            };
        }
        for at in 0..self.steps.len() {
            if let Some(outcome) = self.overdue() {
                return outcome;
            }
            if let Err(outcome) = self.step(at).await {
                return outcome;
            }
            failpoint::hit("ch.multi.between_parts");
        }
        self.finish().await
    }

    /// Takes away placeholders that turned out not to be needed.
    async fn finish(&mut self) -> SendOutcome {
        for spare in self.ids.split_off(self.steps.len().min(self.ids.len())) {
            if let Err(failure) = self.shared.channel.remove(&self.target(0), &spare).await {
                tracing::warn!(?failure, chat = %self.item.chat, "a spare placeholder stays in the chat");
            }
        }
        SendOutcome::Delivered { ext_ids: std::mem::take(&mut self.ids) }
    }

    /// The row's time is over: what is known is noted, the rest is the supervisor's decision.
    fn overdue(&self) -> Option<SendOutcome> {
        let limit = Duration::from_millis(self.item.deadline_ms);
        let over = !limit.is_zero() && self.began.elapsed() > limit;
        over.then(|| retry(RETRY_MS, "not finished within the deadline".to_owned()))
    }

    async fn step(&mut self, at: usize) -> Result<(), SendOutcome> {
        let known = self.ids.get(at).cloned();
        match (&self.steps.get(at), known) {
            (Some(Step::Text(_)), Some(ext_id)) => self.edit(at, &ext_id).await,
            (Some(Step::Text(_)), None) if self.item.two_phase => {
                let ext_id = self.place(at).await?;
                self.edit(at, &ext_id).await
            }
            (Some(_), None) => {
                if self.item.two_phase && at > 0 {
                    // The texts before it were edits, which may be repeated; this may not, and the journal has to know.
                    let asked = self.shared.supervisor.may_start(self.item.out_id).await;
                    asked.map_err(|refused| retry(RETRY_MS, format!("no go-ahead: {refused}")))?;
                }
                self.post(at).await
            }
            _ => Ok(()),
        }
    }

    /// The text, as a change of a message whose id the journal knows. May be repeated at will.
    async fn edit(&mut self, at: usize, ext_id: &str) -> Result<(), SendOutcome> {
        let Some(Step::Text(part)) = self.steps.get(at) else { return Ok(()) };
        let to = self.target(at);
        failpoint::hit("ch.wire.before_write");
        let result = self.shared.channel.edit(&to, ext_id, part).await;
        failpoint::hit("ch.wire.after_response");
        match result {
            Ok(()) => Ok(()),
            // Someone deleted the placeholder: the reply still has to be seen.
            Err(SendFailure::Gone) => {
                let ext_id = self.place(at).await?;
                let Some(Step::Text(part)) = self.steps.get(at) else { return Ok(()) };
                let result = self.shared.channel.edit(&to, &ext_id, part).await;
                result.map_err(|failure| self.failed(failure))
            }
            Err(failure) => Err(self.failed(failure)),
        }
    }

    /// Puts a placeholder and has its id noted before anything that matters is in it.
    async fn place(&mut self, at: usize) -> Result<String, SendOutcome> {
        let to = self.target(at);
        let empty = Styled::plain(PLACEHOLDER);
        let result = self.shared.channel.post(&to, placeholder(&empty)).await;
        failpoint::hit("ch.place.after_response");
        // When the answer was lost an empty placeholder may stay, and is counted; the reply itself is not doubled.
        let ext_id = result.map_err(|failure| match failure {
            SendFailure::Unknown(why) => SendOutcome::Unknown { why },
            other => self.failed(other),
        })?;
        self.remember(at, ext_id.clone());
        if let Err(refused) = self.note().await {
            if let Err(failure) = self.shared.channel.remove(&to, &ext_id).await {
                tracing::warn!(?failure, chat = %self.item.chat, "an empty placeholder stays in the chat");
            }
            return Err(refused);
        }
        Ok(ext_id)
    }

    /// A new message with its content: what networks without a way to tell repetitions can only try once.
    async fn post(&mut self, at: usize) -> Result<(), SendOutcome> {
        let to = self.target(at);
        let Some(step) = self.steps.get(at) else { return Ok(()) };
        let body = match step {
            Step::Text(part) => Body::Text(part),
            Step::File(media, caption) => match self.shared.media.load(media).await {
                Ok(bytes) => Body::File { media, bytes, caption: caption.as_ref() },
                Err(error) => return Err(SendOutcome::Permanent { why: error.to_string() }),
            },
        };
        failpoint::hit("ch.wire.before_write");
        let result = self.shared.channel.post(&to, body).await;
        failpoint::hit("ch.wire.after_response");
        let ext_id = result.map_err(|failure| match failure {
            SendFailure::Unknown(why) => SendOutcome::Unknown { why },
            other => self.failed(other),
        })?;
        self.remember(at, ext_id);
        // The last id travels with the result.
        if at + 1 < self.steps.len() { self.note().await } else { Ok(()) }
    }

    /// The outcome of a step that may be repeated: a lost answer is no more than a reason to try again.
    fn failed(&mut self, failure: SendFailure) -> SendOutcome {
        match failure {
            SendFailure::Retry { after_ms, why } => {
                self.quiet = Duration::from_millis(after_ms);
                retry(after_ms, why)
            }
            SendFailure::Unknown(why) => retry(RETRY_MS, why),
            SendFailure::Gone => retry(RETRY_MS, "the message to change is gone".to_owned()),
            SendFailure::Permanent(why) => SendOutcome::Permanent { why },
        }
    }

    fn remember(&mut self, at: usize, ext_id: String) {
        match self.ids.get_mut(at) {
            Some(known) => *known = ext_id,
            None => self.ids.push(ext_id),
        }
    }

    async fn note(&self) -> Result<(), SendOutcome> {
        let ids = self.ids.join(&ID_SEPARATOR.to_string());
        let noted = self.shared.supervisor.placed(self.item.out_id, ids).await;
        noted.map_err(|refused| {
            retry(RETRY_MS, format!("the journal did not note the message's id: {refused}"))
        })
    }

    fn target(&self, at: usize) -> Target {
        let replies = self.shared.channel.rules().replies.answers(self.item.reply_reason, at);
        Target {
            chat: self.item.chat.clone(),
            thread: self.item.thread.clone(),
            reply_to: self.item.reply_to.clone().filter(|_| replies),
        }
    }
}

/// What a row becomes. Deterministic, so that known ids keep their meaning when it is done again.
fn steps(shared: &Shared, item: &OutboundItem) -> Vec<Step> {
    let rules = shared.channel.rules();
    let parts = split::messages(&item.text, rules.text_units_max, rules.chunk_mode, rules.tables);
    let mut parts: Vec<Styled> = parts.into_iter().flat_map(|part| split::refine(part, rules.fits)).collect();
    let mut caption = None;
    let short = matches!(parts.as_slice(), [only] if utf16_len(&only.text) <= rules.caption_units_max);
    if !item.two_phase && short && !item.media.is_empty() {
        caption = parts.pop();
    }
    let files = item.media.iter().cloned().map(|media| Step::File(media, caption.take()));
    let files: Vec<Step> = files.collect();
    parts.into_iter().map(Step::Text).chain(files).collect()
}

fn retry(after_ms: u64, why: String) -> SendOutcome {
    SendOutcome::Retry { after_ms, why }
}
