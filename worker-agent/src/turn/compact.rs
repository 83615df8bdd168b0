//! Carries a compaction out: what lies before the newest part of a conversation is summarised by the session's model, and
//! the summary becomes one entry of the transcript, written and synced at once. A death before that changes nothing, one
//! after it has changed everything. Where to cut and what to ask is `session::compaction`'s; it runs on the blocking pool.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use proto::runtime::failpoint;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::request;
use super::source::ModelFacts;
use crate::agent::{Active, Agent, row};
use crate::provider::select::ModelRef;
use crate::provider::types::{Content, Message as WireMessage, UserMessage};
use crate::provider::{ModelRequest, ProviderError, ProviderEvent, Reason, RetryBudget};
use crate::session::compaction::cut::{self, Cut};
use crate::session::compaction::summary::{self, Files, Part, Whole};
use crate::session::compaction::{Budget, estimate};
use crate::session::entry::Body;
use crate::session::sessions::{Durability, Log, SessionError};
use crate::session::store::SessionEntry;

/// All requests for one summary together.
const MODEL_WAIT: Duration = Duration::from_secs(5 * 60);
/// Refusals of a chunk as too long; each halves it. The fifth leaves a fortieth of the window.
const REFUSALS_MAX: u32 = 4;

/// One compaction.
pub struct Job<'a> {
    pub agent: &'a Agent,
    pub active: &'a Active,
    pub key: &'a str,
    pub log: &'a Log,
    /// Asked for the summary, in this order.
    pub models: Vec<ModelRef>,
    pub cancel: CancellationToken,
    pub events: Option<&'a Events>,
    /// What a person asked for.
    pub wishes: Option<String>,
    /// The run that asked for exactly this one: a repeated attempt finds it done.
    pub run_id: Option<String>,
    pub why: Why,
}

/// What led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Asked,
    Threshold,
    /// A model refused the conversation as too long, so many times.
    Overflow(u32),
}

/// What came of it. Tokens are estimates.
#[derive(Debug)]
pub enum Done {
    Compacted {
        before: u64,
        after: u64,
        entry: SessionEntry,
    },
    Skipped(&'static str),
    /// `too_long`: also for a summary.
    Failed {
        why: String,
        too_long: bool,
    },
    /// The run was stopped; nothing was written.
    Stopped,
}

/// What is to be summarised, read from the transcript once.
struct Plan {
    cut: Cut,
    before: u64,
    history: Arc<Vec<String>>,
    prefix: Arc<Vec<String>>,
    files: Files,
    failures: Vec<String>,
}

enum Looked {
    Plan(Box<Plan>),
    Nothing,
    /// This very run has done it before.
    Repeated {
        before: u64,
        after: u64,
    },
}

/// The window that counts for a model here.
pub fn budget(active: &Active, facts: &ModelFacts) -> Budget {
    let agent = &active.setup.agent;
    agent.compaction.budget(agent.context_tokens.unwrap_or(u64::MAX).min(facts.context_window.max(1)))
}

/// See the module head.
pub async fn compact(job: Job<'_>) -> Result<Done, SessionError> {
    let Some(facts) = job.models.iter().find_map(|wanted| job.active.models.facts(wanted).ok()) else {
        return Ok(Done::Failed { why: "no model is configured".into(), too_long: false });
    };
    let plan = match look(&job, budget(job.active, &facts)).await? {
        Looked::Plan(plan) => plan,
        Looked::Nothing => return Ok(Done::Skipped("nothing to compact yet")),
        Looked::Repeated { before, after } => {
            let entry = job.agent.sessions.entry(job.key).await?.unwrap_or_default();
            return Ok(Done::Compacted { before, after, entry });
        }
    };
    failpoint::hit("ag.compact.before");
    if let Some(events) = job.events {
        events.compaction(json!({"phase": "start"})).await;
    }
    let asked = tokio::time::timeout(MODEL_WAIT, words(&job, &plan)).await;
    let done = match asked.unwrap_or_else(|_| Err(Refused::other("no summary within 5 minutes"))) {
        Ok((history, prefix)) => write(&job, *plan, history, prefix).await,
        Err(_) if job.cancel.is_cancelled() => Ok(Done::Stopped),
        Err(refused) => {
            tracing::warn!(session = job.key, why = refused.why, "the conversation could not be summarised");
            Ok(Done::Failed { why: refused.why, too_long: refused.too_long })
        }
    };
    if let Some(events) = job.events {
        let compacted = matches!(done, Ok(Done::Compacted { .. }));
        let again = compacted && matches!(job.why, Why::Overflow(_));
        events.compaction(json!({"phase": "end", "willRetry": again, "completed": compacted})).await;
    }
    done
}

/// Reads and cuts the branch.
async fn look(job: &Job<'_>, budget: Budget) -> Result<Looked, SessionError> {
    let (why, run_id) = (job.why, job.run_id.clone());
    job.log
        .with(move |transcript| {
            let branch = transcript.branch();
            if let Some(run_id) = run_id
                && let Some(before) = made_by(&branch, &run_id)
            {
                return Ok(Looked::Repeated { before, after: estimate::context_tokens(&branch, 0) });
            }
            let before = estimate::context_tokens(&branch, 0);
            let keep = match why {
                Why::Threshold => budget.keep_recent,
                Why::Asked => budget.keep_recent.min(before / 2),
                // The window is smaller than it was said to be: each attempt keeps less.
                Why::Overflow(refused) => budget.keep_recent.min(before / 2) >> refused.min(8),
            };
            let Some(cut) = cut::plan(&branch, keep.max(1)) else { return Ok(Looked::Nothing) };
            let messages = || cut.history.iter().chain(&cut.prefix);
            let earlier = cut.previous.as_ref().and_then(|(_, details)| details.as_ref());
            Ok(Looked::Plan(Box::new(Plan {
                before,
                history: Arc::new(summary::pieces(&cut.history)),
                prefix: Arc::new(summary::pieces(&cut.prefix)),
                files: Files::gather(earlier, messages()),
                failures: summary::failures(messages()),
                cut,
            })))
        })
        .await
}

/// Tokens before the last compaction, if this run made it.
fn made_by(branch: &[&crate::session::entry::Entry], run_id: &str) -> Option<u64> {
    branch
        .iter()
        .rev()
        .find_map(|entry| match &entry.body {
            Body::Compaction { tokens_before, details, .. } => {
                let by =
                    details.as_ref().and_then(|details| details.get("runId")?.as_str()).map(str::to_owned);
                Some((by, *tokens_before))
            }
            _ => None,
        })
        .and_then(|(by, before)| (by.as_deref() == Some(run_id)).then_some(before))
}

struct Refused {
    why: String,
    too_long: bool,
}

impl Refused {
    fn other(why: &str) -> Self {
        Self { why: why.to_owned(), too_long: false }
    }
}

impl From<ProviderError> for Refused {
    fn from(error: ProviderError) -> Self {
        Self { too_long: error.reason == Reason::ContextOverflow, why: error.to_string() }
    }
}

/// The summaries of the history and of the beginning of a cut turn, by the first model that gives them.
async fn words(job: &Job<'_>, plan: &Plan) -> Result<(Option<String>, Option<String>), Refused> {
    let mut last = Refused::other("no model is configured");
    for wanted in &job.models {
        let Ok(facts) = job.active.models.facts(wanted) else { continue };
        match words_of(job, plan, wanted, &facts).await {
            Ok(words) => return Ok(words),
            Err(refused) if job.cancel.is_cancelled() => return Err(refused),
            Err(refused) => last = refused,
        }
    }
    Err(last)
}

async fn words_of(
    job: &Job<'_>,
    plan: &Plan,
    wanted: &ModelRef,
    facts: &ModelFacts,
) -> Result<(Option<String>, Option<String>), Refused> {
    let budget = budget(job.active, facts);
    let previous = plan.cut.previous.as_ref().map(|(summary, _)| summary.clone());
    let asker = Asker { job, wanted, facts, budget, retries: RetryBudget::default() };
    let history = asker.summarise(Part::History, &plan.history, previous, budget.summary_tokens()).await?;
    let prefix = asker.summarise(Part::TurnPrefix, &plan.prefix, None, budget.prefix_tokens()).await?;
    Ok((history, prefix))
}

struct Asker<'a> {
    job: &'a Job<'a>,
    wanted: &'a ModelRef,
    facts: &'a ModelFacts,
    budget: Budget,
    retries: RetryBudget,
}

impl Asker<'_> {
    /// Chunk after chunk, each continuing the summary of those before. A chunk that is refused as too long is sent again
    /// in smaller ones, from the beginning.
    async fn summarise(
        &self,
        part: Part,
        pieces: &Arc<Vec<String>>,
        previous: Option<String>,
        tokens: u64,
    ) -> Result<Option<String>, Refused> {
        let mut refused = 0;
        loop {
            let (pieces, chars) = (pieces.clone(), self.budget.chunk_chars(refused));
            let cut = tokio::task::spawn_blocking(move || summary::chunks(&pieces, chars)).await;
            let chunks = cut.map_err(|error| Refused::other(&error.to_string()))?;
            match self.chain(part, &chunks, previous.clone(), tokens).await {
                Err(error) if error.too_long && refused < REFUSALS_MAX => refused += 1,
                other => return other,
            }
        }
    }

    async fn chain(
        &self,
        part: Part,
        chunks: &[String],
        mut previous: Option<String>,
        tokens: u64,
    ) -> Result<Option<String>, Refused> {
        for chunk in chunks {
            let text = summary::request(part, previous.as_deref(), chunk, self.job.wishes.as_deref());
            let answer = self.ask(text, tokens).await?;
            if answer.trim().is_empty() {
                return Err(Refused::other("the model gave no summary"));
            }
            previous = Some(answer.trim().to_owned());
        }
        Ok(previous)
    }

    async fn ask(&self, text: String, tokens: u64) -> Result<String, ProviderError> {
        let known = Some(self.facts.reply_tokens_max).filter(|max| *max > 0);
        let mut request = ModelRequest {
            messages: vec![WireMessage::User(UserMessage { content: Content::Text(text), timestamp: 0 })],
            ..request::base(summary::SYSTEM.to_owned(), self.job.log.session_id())
        };
        request.max_tokens = u32::try_from(known.map_or(tokens, |max| max.min(tokens))).ok();
        let models = &self.job.active.models;
        let mut stream = models.stream(self.wanted, request, &self.retries, self.job.cancel.clone());
        let mut answer = String::new();
        while let Some(event) = stream.next().await {
            self.job.agent.up.progressed();
            match event? {
                ProviderEvent::TextDelta { text } => {
                    failpoint::hit("ag.compact.model");
                    answer.push_str(&text);
                }
                ProviderEvent::Restart { discard: true, .. } => answer.clear(),
                ProviderEvent::Done { .. } => return Ok(answer),
                _ => {}
            }
        }
        Err(ProviderError::new(Reason::Truncated, &self.facts.provider, &self.facts.id, ""))
    }
}

/// The entry, then what follows from it.
async fn write(
    job: &Job<'_>,
    plan: Plan,
    history: Option<String>,
    prefix: Option<String>,
) -> Result<Done, SessionError> {
    if job.cancel.is_cancelled() {
        return Ok(Done::Stopped);
    }
    let known = job.agent.sessions.entry(job.key).await?.unwrap_or_default();
    let earlier = plan.cut.previous.as_ref().and_then(|(_, details)| details.as_ref());
    let count = known.u64("compactionCount").max(count_in(earlier)) + 1;
    let rules = rules(job).await;
    let mut details = plan.files.details(count);
    if let (Some(run_id), Some(map)) = (&job.run_id, details.as_object_mut()) {
        map.insert("runId".into(), run_id.clone().into());
    }
    let failures = if job.active.setup.agent.compaction.safeguard() { plan.failures } else { Vec::new() };
    let whole = Whole { history, prefix, files: &plan.files, failures, rules: rules.clone() };
    let body = Body::Compaction {
        summary: whole.text(),
        first_kept_entry_id: plan.cut.first_kept,
        tokens_before: plan.before,
        details: Some(details),
    };
    job.log.commit(vec![body], Durability::Synced).await?;
    failpoint::hit("ag.compact.written");
    let after = job.log.with(|transcript| Ok(estimate::context_tokens(&transcript.branch(), 0))).await?;
    let entry = counted(job, count, after).await?;
    if rules.is_some() {
        job.agent.notice(job.key, REMINDER.to_owned());
    }
    tracing::info!(session = job.key, before = plan.before, after, count, why = ?job.why, "conversation summarised");
    Ok(Done::Compacted { before: plan.before, after, entry })
}

/// For the turn after a summary, once.
const REMINDER: &str = "The conversation was summarised. Before you go on, read again what AGENTS.md tells you to read \
    at the start of a session; its rules hold as before.";

fn count_in(details: Option<&Value>) -> u64 {
    details.and_then(|details| details.get("compactionCount")?.as_u64()).unwrap_or(0)
}

/// The workspace's own rules, word for word, in mode `safeguard`.
async fn rules(job: &Job<'_>) -> Option<String> {
    if !job.active.setup.agent.compaction.safeguard() {
        return None;
    }
    let workspace = job.active.setup.paths.workspace.clone();
    let read = tokio::task::spawn_blocking(move || {
        let found = crate::prompt::bootstrap::load(&workspace, true);
        found.into_iter().find(|file| file.name == "AGENTS.md").and_then(|file| file.content)
    });
    summary::rules(&read.await.ok()??)
}

async fn counted(job: &Job<'_>, count: u64, after: u64) -> Result<SessionEntry, SessionError> {
    let session_id = job.log.session_id().to_owned();
    let change = move |entry: &mut SessionEntry| {
        if entry.session_id() == Some(session_id.as_str()) {
            entry.set("compactionCount", count);
            entry.set("totalTokens", after);
            entry.set("totalTokensFresh", true);
            for stale in ["inputTokens", "outputTokens", "cacheRead", "cacheWrite"] {
                entry.set(stale, Value::Null);
            }
        }
        Ok::<(), std::convert::Infallible>(())
    };
    let Ok(entry) = job.agent.sessions.update(job.key, change).await?;
    job.agent.session_changed(row(&job.active.setup.agent_id, job.key, &entry), "compact").await;
    Ok(entry)
}
