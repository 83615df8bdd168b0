//! The end of a run: final record (C7), session row, events, and the message that carries the reply up. In this order,
//! so that whoever is told can read what he was told of.

use proto::runtime::failpoint;
use proto::wire::agent::{self as wire, OriginKind, OutPart, RunError, RunFinal, RunSpec, RunStatus};
use serde_json::{Value, json};

use super::driver::{Heard, Run};
use super::events::Events;
use super::media;
use super::payload::{self, Payload};
use super::resume::TurnFinal;
use super::state::{End, Stop};
use super::{bounds, chain};
use crate::agent::{Active, Agent, row};
use crate::clock::now_ms;
use crate::command::status::short;
use crate::net_guard::{Guard, Policy};
use crate::session::entry::{Body, TURN_FINAL};
use crate::session::message::{AssistantMessage, Message, StopReason, Usage};
use crate::session::sessions::{Durability, SessionError};
use crate::session::store::SessionEntry;
use crate::session::visible;

/// Longest derived title and last-message preview, in characters.
const TITLE_CHARS_MAX: usize = 60;
const PREVIEW_CHARS_MAX: usize = 120;

/// Ends a turn.
pub async fn finish(mut run: Run, end: End) -> Result<RunFinal, SessionError> {
    while !run.waiting.is_empty() {
        run.take_steer().await?;
    }
    settle(&mut run.heard, end);
    let ended_ms = now_ms();
    let status = status_of(end);
    let mut text = visible_text(&run.heard.answers);
    let mut parts = parts(&run, end).await;
    bounds::fit_text(&mut text);
    bounds::fit_parts(&mut parts);
    let heard = &run.heard;
    let mut done = RunFinal {
        run_id: run.spec.run_id,
        attempt: run.spec.attempt,
        status,
        error: heard.error.clone(),
        stop_reason: Some(stop_reason(&run, end)),
        parts,
        text,
        command: false,
        usage: wire_usage(heard),
        meta_json: meta(&run, ended_ms).to_string(),
        started_ms: heard.started_ms,
        ended_ms,
        session: None,
        message_id: heard.last_id.clone(),
    };
    let titles = run.log.with(|transcript| Ok(titles(&transcript.branch()))).await?;
    final_record(&run, &done).await?;
    failpoint::hit("ag.c7.after");
    let entry = updated_entry(&run, end, titles).await?;
    let entry = match run.heard.beyond_help && end == End::Failed {
        // After the final record: a death in between has the message asked anew, in a session that has room for it.
        true => run.agent.reset_session(&run.active, &run.spec.session_key, true, "reset").await?,
        false => entry,
    };
    let row = row(&run.active.setup.agent_id, &run.spec.session_key, &entry);
    run.agent.session_changed(row.clone(), "turn").await;
    done.session = Some(row);
    lifecycle_end(&run.events, &done).await;
    Ok(done)
}

/// To the person whose conversation could not even be summarised.
const BEYOND_HELP: &str = "Sorry: this conversation grew too long for the model, even to be summarised, and a new one was \
    started. Please send your message again. To prevent it, raise agents.defaults.compaction.reserveTokensFloor \
    (20000 or more), or choose a model with a larger window. The old conversation is kept in the sessions folder.";

/// Gives the run its error where it ended badly without one.
fn settle(heard: &mut Heard, end: End) {
    let error = match end {
        End::Stopped(Stop::TimedOut) => Some((
            "timeout",
            "LLM request timed out: the run reached its time limit (agents.defaults.timeoutSeconds)."
                .to_owned(),
        )),
        End::TooManyCalls => Some((
            "tool",
            format!("The run was stopped after {} model calls.", super::state::MODEL_CALLS_MAX),
        )),
        End::Failed if heard.beyond_help => Some(("context_overflow", BEYOND_HELP.to_owned())),
        End::Failed if heard.error.is_none() => Some(("internal", "The model gave no answer.".to_owned())),
        _ => None,
    };
    if heard.beyond_help && end == End::Failed {
        heard.error = None;
    }
    if let Some((kind, message)) = error {
        heard.error.get_or_insert(RunError { kind: kind.into(), message, ..RunError::default() });
    }
}

fn status_of(end: End) -> RunStatus {
    match end {
        End::Answered => RunStatus::Ok,
        End::Failed | End::TooManyCalls => RunStatus::Error,
        End::Stopped(Stop::Aborted) => RunStatus::Aborted,
        End::Stopped(Stop::TimedOut) => RunStatus::Timeout,
    }
}

fn stop_reason(run: &Run, end: End) -> String {
    match end {
        End::Stopped(_) => run.control.why().to_owned(),
        End::Failed | End::TooManyCalls => "error".into(),
        End::Answered => match run.heard.answers.last().map(|answer| answer.stop_reason) {
            Some(StopReason::Length) => "length".into(),
            _ => "stop".into(),
        },
    }
}

/// All visible texts of the run, with a blank line between messages.
fn visible_text(answers: &[AssistantMessage]) -> String {
    let texts: Vec<String> = answers
        .iter()
        .filter_map(|answer| visible::answer_text(&answer.content.text()))
        .filter_map(|text| payload::directives(&text))
        .map(|payload| payload.text)
        .filter(|text| !text.is_empty())
        .collect();
    texts.join("\n\n")
}

/// What is still to be delivered. A stopped run delivers nothing: who stopped it has been told.
async fn parts(run: &Run, end: End) -> Vec<OutPart> {
    let heard = &run.heard;
    let mut payloads = match end {
        End::Stopped(Stop::Aborted) => Vec::new(),
        End::Answered => payload::assemble(&heard.answers, None, heard.failed_tool.as_ref()),
        _ => {
            let error = heard.error.as_ref().map(|error| error.message.as_str());
            payload::assemble(&heard.answers, error, heard.failed_tool.as_ref())
        }
    };
    if run.entry.str("reasoningLevel") == Some("on")
        && let Some(thoughts) = payload::reasoning(&heard.answers)
        && !payloads.is_empty()
    {
        payloads.insert(0, thoughts);
    }
    if let Some(line) = usage_line(run)
        && let Some(last) = payloads.iter_mut().rev().find(|payload| !payload.text.is_empty())
    {
        last.text = format!("{}\n\n{line}", last.text);
    }
    let said = |text: &str| run.spec.texts_done.iter().any(|done| done.trim() == text.trim());
    payloads.retain(|payload| !payload.media.is_empty() || !said(&payload.text));
    if let Some(notice) = heard.notice.clone().filter(|notice| !said(notice)) {
        payloads.insert(0, Payload { text: notice, ..Payload::default() });
    }
    let paths = &run.active.setup.paths;
    let guard = Guard::new(Policy::default());
    let mut parts = Vec::new();
    for payload in payloads {
        let (urls, files): (Vec<String>, Vec<String>) =
            payload.media.into_iter().partition(|source| source.starts_with("http"));
        let mut media = media::outbound(&paths.state, &paths.workspace, files).await;
        let (fetched, links) = media::from_web(&guard, &paths.state, urls).await;
        media.extend(fetched);
        let mut text = payload.text;
        for url in links {
            text = format!("{text}\n{url}").trim().to_owned();
        }
        if text.is_empty() && media.is_empty() {
            continue;
        }
        let part = run.spec.parts_done + u32::try_from(parts.len()).unwrap_or(u32::MAX);
        parts.push(OutPart { part, text, media, reply_to: payload.reply_to, to: None });
    }
    parts
}

/// What the turn took, below the last message of a chat (`/usage`).
fn usage_line(run: &Run) -> Option<String> {
    let usage = &run.heard.usage;
    let level = run.entry.str("responseUsage").filter(|level| matches!(*level, "tokens" | "full" | "on"))?;
    if run.spec.origin.kind != OriginKind::Channel || usage.total_tokens == 0 {
        return None;
    }
    let mut line = format!("Usage: {} in / {} out", short(usage.prompt_tokens()), short(usage.output));
    if usage.cost.total > 0.0 {
        line.push_str(&format!(" · ${:.4}", usage.cost.total));
    }
    if level == "full" {
        let model = run.heard.facts.as_ref().map(|facts| facts.reference()).unwrap_or_default();
        line.push_str(&format!(" · {model} · {}", run.spec.session_key));
    }
    Some(line)
}

fn wire_usage(heard: &Heard) -> wire::Usage {
    let Usage { input, output, cache_read, cache_write, total_tokens, cost } = heard.usage;
    let facts = heard.facts.clone().unwrap_or_default();
    wire::Usage {
        input,
        output,
        cache_read,
        cache_write,
        total: total_tokens,
        cost_micros: (cost.total * 1e6).round().max(0.0) as u64,
        provider: facts.provider,
        model: facts.id,
    }
}

/// `result.meta` of method `agent`.
fn meta(run: &Run, ended_ms: i64) -> Value {
    let heard = &run.heard;
    let usage = &heard.usage;
    let facts = heard.facts.clone().unwrap_or_default();
    json!({
        "durationMs": (ended_ms - heard.started_ms).max(0),
        "agentMeta": {
            "sessionId": run.log.session_id(),
            "provider": facts.provider,
            "model": facts.id,
            "usage": {
                "input": usage.input, "output": usage.output, "cacheRead": usage.cache_read,
                "cacheWrite": usage.cache_write, "total": usage.total_tokens,
            },
            "promptTokens": heard.last_usage.prompt_tokens(),
        },
        "aborted": run.control.stopped().is_some(),
    })
}

/// C7.
async fn final_record(run: &Run, done: &RunFinal) -> Result<(), SessionError> {
    let record = TurnFinal {
        run_id: run.spec.run_id.to_string(),
        attempt: run.spec.attempt,
        body: serde_json::to_value(done).unwrap_or_default(),
    };
    run.log.commit(vec![Body::custom(TURN_FINAL, json!(record))], Durability::Synced).await?;
    Ok(())
}

/// First words of the conversation and its last visible message.
pub fn titles(branch: &[&crate::session::entry::Entry]) -> (Option<String>, Option<String>) {
    let line = |text: &str, max| Some(visible::one_line(text, max)).filter(|line| !line.is_empty());
    let title = branch.iter().find_map(|entry| match entry.body.message()? {
        Message::User(user) => line(visible::user_text(&user.content.text()), TITLE_CHARS_MAX),
        _ => None,
    });
    let last = branch.iter().rev().find_map(|entry| match entry.body.message()? {
        Message::User(user) => line(visible::user_text(&user.content.text()), PREVIEW_CHARS_MAX),
        Message::Assistant(answer) => line(&visible::answer_text(&answer.content.text())?, PREVIEW_CHARS_MAX),
        Message::ToolResult(_) => None,
    });
    (title, last)
}

async fn updated_entry(
    run: &Run,
    end: End,
    (title, last): (Option<String>, Option<String>),
) -> Result<SessionEntry, SessionError> {
    let heard = run.heard.clone();
    let report = run.prepared.as_ref().and_then(|prepared| serde_json::to_value(&prepared.report).ok());
    let started = run.entry.clone();
    let aborted = end == End::Stopped(Stop::Aborted);
    let profile = chain::profile_used(run);
    let change = move |entry: &mut SessionEntry| {
        if entry.session_id() != started.session_id() {
            // Reset while the run was ending: what it did belongs to the session that is gone.
            return Ok::<(), std::convert::Infallible>(());
        }
        entry.set("updatedAt", now_ms());
        entry.set("systemSent", true);
        entry.set("abortedLastRun", aborted);
        if let Some(facts) = &heard.facts {
            entry.set("modelProvider", facts.provider.clone());
            entry.set("model", facts.id.clone());
            entry.set("contextTokens", facts.context_window);
        }
        chain::remember(entry, profile);
        if heard.usage.total_tokens > 0 {
            entry.set("inputTokens", heard.usage.input);
            entry.set("outputTokens", heard.usage.output);
            entry.set("cacheRead", heard.usage.cache_read);
            entry.set("cacheWrite", heard.usage.cache_write);
            entry.set("totalTokens", heard.last_usage.prompt_tokens());
            entry.set("totalTokensFresh", true);
        }
        entry.set("derivedTitle", title.map_or(Value::Null, Value::String));
        entry.set("lastMessagePreview", last.map_or(Value::Null, Value::String));
        if let Some(report) = report {
            entry.set("systemPromptReport", report);
        }
        Ok(())
    };
    // Nothing here names a transcript: the disk may have it a moment later.
    let changed = run.agent.sessions.update_soon(&run.spec.session_key, change).await?;
    let Ok(entry) = changed;
    Ok(entry)
}

async fn lifecycle_end(events: &Events, done: &RunFinal) {
    let data = match done.status {
        RunStatus::Error => json!({
            "phase": "error",
            "error": done.error.as_ref().map_or("the run failed", |error| error.message.as_str()),
            "startedAt": done.started_ms,
            "endedAt": done.ended_ms,
        }),
        status => json!({
            "phase": "end",
            "startedAt": done.started_ms,
            "endedAt": done.ended_ms,
            "stopReason": done.stop_reason,
            "aborted": matches!(status, RunStatus::Aborted | RunStatus::Timeout),
        }),
    };
    events.lifecycle(data).await;
}

/// A command's reply: no model, no events. Replies to a web chat stay in the conversation.
pub async fn command(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    text: String,
) -> Result<RunFinal, SessionError> {
    let now = now_ms();
    let entry = agent.sessions.entry(&spec.session_key).await?;
    let mut message_id = None;
    if spec.origin.kind == OriginKind::Chat
        && let Some(entry) = entry.filter(|entry| entry.session_id().is_some())
    {
        let log = agent.sessions.log(&spec.session_key, &entry, &active.setup.workspace_text());
        let mut message = AssistantMessage::ours(text.clone(), now);
        message.idempotency_key = Some(format!("{}:assistant", spec.client_run_id));
        let body = Body::Message { message: Message::Assistant(message) };
        message_id = log.commit(vec![body], Durability::Synced).await?.into_iter().next();
    }
    Ok(RunFinal {
        run_id: spec.run_id,
        attempt: spec.attempt,
        status: RunStatus::Ok,
        stop_reason: Some("stop".into()),
        parts: vec![OutPart { part: spec.parts_done, text: text.clone(), ..OutPart::default() }],
        text,
        command: true,
        meta_json: "{}".into(),
        started_ms: now,
        ended_ms: now_ms(),
        message_id,
        ..RunFinal::default()
    })
}

/// The end of a run that is already on disk, sent again.
pub async fn replay(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    record: &TurnFinal,
    entry: &SessionEntry,
) -> RunFinal {
    let mut done: RunFinal = serde_json::from_value(record.body.clone()).unwrap_or_default();
    done.run_id = spec.run_id;
    done.attempt = spec.attempt;
    done.session = Some(row(&active.setup.agent_id, &spec.session_key, entry));
    let events = Events { up: agent.up.clone(), run_id: spec.run_id, attempt: spec.attempt };
    lifecycle_end(&events, &done).await;
    done
}
