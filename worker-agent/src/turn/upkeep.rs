//! Compactions outside of a turn: by hand (`/compact`, `sessions.compact`), and after a turn that filled the window. The
//! second one is done when the reply is on its way; a message that comes meanwhile waits for it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use proto::wire::Id;
use proto::wire::agent::{RunFinal, RunSpec};
use tokio_util::sync::CancellationToken;

use super::chain;
use super::compact::{self, Done, Job, Why};
use super::control::{self, Control};
use super::events::Events;
use crate::agent::{Active, Agent};
use crate::command::status::short;
use crate::provider::select::ModelRef;
use crate::session::compaction::estimate;
use crate::session::sessions::{Log, SessionError};
use crate::session::store::SessionEntry;
use crate::session::transcript::LIVE_BYTES_GOOD;

/// Who asks by hand, and for what.
pub struct Wish<'a> {
    pub key: &'a str,
    pub run_id: Option<Id>,
    pub attempt: u32,
    pub words: Option<String>,
    pub cancel: CancellationToken,
}

/// The session's transcript and the models that it uses; None when nothing was ever said.
async fn place(
    agent: &Agent,
    active: &Active,
    key: &str,
) -> Result<Option<(SessionEntry, Log)>, SessionError> {
    let Some(entry) = agent.sessions.entry(key).await?.filter(|entry| entry.session_id().is_some()) else {
        return Ok(None);
    };
    let log = agent.sessions.log(key, &entry, &active.setup.workspace_text());
    Ok(log.exists().await.then_some((entry, log)))
}

fn models(active: &Active, entry: &SessionEntry) -> Vec<ModelRef> {
    let wish = chain::wish_of(None, None, entry);
    let chain = active.models.chain(wish.as_deref()).unwrap_or_default();
    chain::awake_first(&*active.models, chain)
}

/// Compacts a session on request.
pub async fn by_hand(agent: &Agent, active: &Active, wish: Wish<'_>) -> Result<Done, SessionError> {
    let Some((entry, log)) = place(agent, active, wish.key).await? else {
        return Ok(Done::Skipped("nothing was said yet"));
    };
    let events = wish.run_id.map(|run_id| Events { up: agent.up.clone(), run_id, attempt: wish.attempt });
    let job = Job {
        agent,
        active,
        key: wish.key,
        log: &log,
        models: models(active, &entry),
        cancel: wish.cancel,
        events: events.as_ref(),
        wishes: wish.words,
        run_id: wish.run_id.map(|id| id.to_string()),
        why: Why::Asked,
    };
    compact::compact(job).await
}

/// The reply to `/compact`; None when the process ends and the next one has to do it.
pub async fn command(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    control: &Control,
    words: String,
) -> Result<Option<String>, SessionError> {
    let wish = Wish {
        key: &spec.session_key,
        run_id: Some(spec.run_id),
        attempt: spec.attempt,
        words: Some(words),
        cancel: control.cancel.clone(),
    };
    let done = by_hand(agent, active, wish).await?;
    if control.is_shutdown() {
        return Ok(None);
    }
    let line = line(agent, active, &spec.session_key, &done).await;
    if matches!(done, Done::Compacted { .. }) {
        agent.notice(&spec.session_key, line.clone());
    }
    Ok(Some(line))
}

/// `⚙️ Compacted (12k → 3k) • Context 3k/200k (1%)`, or why not.
async fn line(agent: &Agent, active: &Active, key: &str, done: &Done) -> String {
    let entry = agent.sessions.entry(key).await.ok().flatten().unwrap_or_default();
    let facts = models(active, &entry).first().and_then(|wanted| active.models.facts(wanted).ok());
    let window = facts.map(|facts| compact::budget(active, &facts).window);
    let what = match done {
        Done::Compacted { before, after, .. } => {
            format!("Compacted ({} → {})", short(*before), short(*after))
        }
        Done::Skipped(why) => format!("Compaction skipped: {why}"),
        Done::Failed { why, .. } => format!("Compaction failed: {why}"),
        Done::Stopped => "Compaction stopped".to_owned(),
    };
    match (entry.total_tokens(), window) {
        (Some(used), Some(window)) => {
            format!("⚙️ {what} • Context {}/{} ({}%)", short(used), short(window), used * 100 / window.max(1))
        }
        _ => format!("⚙️ {what}"),
    }
}

/// After a run: summarises what fills the window, so that the next message does not have to wait for it.
pub async fn after_turn(agent: &Agent, done: &RunFinal, key: &str, ends: CancellationToken) {
    let (_reins, control) = control::pair();
    if done.command || ends.is_cancelled() || !agent.enter_upkeep(key, control.stopper()) {
        return;
    }
    let active = agent.active();
    let work = after(agent, &active, key, done, control.cancel.clone());
    // What failed is tried again when the next message comes.
    tokio::select! {
        result = AssertUnwindSafe(work).catch_unwind() => match result {
            Ok(Ok(None | Some(Done::Compacted { .. } | Done::Skipped(_) | Done::Stopped))) => {}
            Ok(Ok(Some(Done::Failed { why, .. }))) => tracing::warn!(session = key, why, "not compacted after the turn"),
            Ok(Err(error)) => tracing::warn!(session = key, %error, "not compacted after the turn"),
            Err(_) => tracing::error!(session = key, "a compaction ended by a panic"),
        },
        () = ends.cancelled() => {}
    }
    agent.leave(key);
}

async fn after(
    agent: &Agent,
    active: &Active,
    key: &str,
    done: &RunFinal,
    cancel: CancellationToken,
) -> Result<Option<Done>, SessionError> {
    let Some((entry, log)) = place(agent, active, key).await? else { return Ok(None) };
    let models = models(active, &entry);
    let Some(facts) = models.first().and_then(|wanted| active.models.facts(wanted).ok()) else {
        return Ok(None);
    };
    if !is_full(&log, compact::budget(active, &facts).threshold(), 0).await? {
        return Ok(None);
    }
    let events = Events { up: agent.up.clone(), run_id: done.run_id, attempt: done.attempt };
    let job = Job {
        agent,
        active,
        key,
        log: &log,
        models,
        cancel,
        events: Some(&events),
        wishes: None,
        run_id: None,
        why: Why::Threshold,
    };
    compact::compact(job).await.map(Some)
}

/// Whether the conversation has to be summarised before it grows: for the model's window or for our memory.
pub async fn is_full(log: &Log, threshold: u64, fixed_chars: u64) -> Result<bool, SessionError> {
    log.with(move |transcript| {
        let tokens = estimate::context_tokens(&transcript.branch(), fixed_chars);
        Ok(tokens > threshold || transcript.live_bytes() > LIVE_BYTES_GOOD)
    })
    .await
}
