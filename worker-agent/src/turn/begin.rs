//! From an accepted message to the first record on disk (C3): which session, new or old; command or turn; fresh or
//! resumed. Decided from the files alone, so that a second attempt decides the same.

use std::collections::HashSet;

use proto::wire::agent::{OriginKind, RunInput, RunSpec};
use serde_json::{Value, json};

use crate::agent::{Active, Agent};
use crate::clock::now_ms;
use crate::command::{self, Asked, Outcome};
use crate::prompt::{GREETING, user_turn};
use crate::session::entry::{Body, TURN_START};
use crate::session::message::{AssistantMessage, Block, Content, Message, UserMessage};
use crate::session::reset::{self, Trigger};
use crate::session::sessions::{Durability, Log, SessionError};
use crate::session::store::SessionEntry;

use super::resume::{self, Resume, TurnFinal, TurnStart};
use super::state::Turn;

/// A run that is ready for its first step, or already has its answer.
pub enum Begun {
    Turn(Box<Opening>),
    /// A command answered.
    Command(String),
    /// The conversation is to be summarised, with these wishes.
    Compact(String),
    /// The transcript holds the end of this run.
    Replay(Box<TurnFinal>, SessionEntry),
}

/// What the driver starts with.
pub struct Opening {
    pub log: Log,
    pub entry: SessionEntry,
    pub turn: Turn,
    pub started_ms: i64,
    pub answers: Vec<(String, AssistantMessage)>,
    /// Messages of the run that the transcript does not hold yet (it was steered before the interruption).
    pub waiting: Vec<RunInput>,
    /// One line that goes to the person before the answer.
    pub notice: Option<String>,
}

/// See the module head.
pub async fn begin(agent: &Agent, active: &Active, spec: &RunSpec) -> Result<Begun, SessionError> {
    let key = spec.session_key.as_str();
    let entry = agent.sessions.entry(key).await?.unwrap_or_default();
    if entry.session_id().is_some()
        && let Some(begun) = resumed(agent, active, spec, &entry).await?
    {
        return Ok(begun);
    }
    let (entry, words, notice) = match asked_for(agent, active, spec).await {
        Some(Outcome::Reply(text)) => return Ok(Begun::Command(text)),
        Some(Outcome::Compact { wishes }) => return Ok(Begun::Compact(wishes)),
        Some(Outcome::NewSession { is_new }) => {
            let (entry, rest, notice) = new_session(agent, active, spec, is_new).await?;
            (entry, Some(rest), notice)
        }
        None => (entry, None, None),
    };
    let entry = session_entry(agent, active, spec, entry).await?;
    let log = agent.sessions.log(key, &entry, &active.setup.workspace_text());
    let started_ms = now_ms();
    let mut events = spec.system_events.clone();
    events.extend(agent.take_notices(key));
    let message = user_message(active, spec, words.as_deref(), &events, entry.bool("abortedLastRun")).await;
    let start = turn_start(spec, started_ms, &spec.inputs);
    // Not synced: after a power cut the journal starts this run anew, and only the model's tokens are spent twice. What
    // may not be repeated is synced, with everything before it, when it is written (C4, C5, C7).
    log.with_room(move |transcript| {
        // A question that no run answers any more stays in the file, outside of the branch.
        if let Some(parent) = resume::orphan_parent(&transcript.branch()) {
            transcript.branch_from(parent);
        }
        let now = now_ms();
        transcript.append(Body::Message { message: message.clone() }, now)?;
        transcript.append(start.clone(), now)?;
        Ok(())
    })
    .await?;
    proto::runtime::failpoint::hit("ag.c3.after");
    Ok(Begun::Turn(Box::new(Opening {
        log,
        entry,
        turn: Turn::default(),
        started_ms,
        answers: Vec::new(),
        waiting: Vec::new(),
        notice,
    })))
}

/// The run as the transcript of its session knows it; None when it is new.
async fn resumed(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    entry: &SessionEntry,
) -> Result<Option<Begun>, SessionError> {
    let log = agent.sessions.log(&spec.session_key, entry, &active.setup.workspace_text());
    if spec.attempt <= 1 || !log.exists().await {
        return Ok(None);
    }
    let run_id = spec.run_id.to_string();
    let (plan, answers, known) = log
        .with(move |transcript| {
            let branch = transcript.branch();
            let known: HashSet<i64> = branch
                .iter()
                .filter_map(|entry| entry.body.custom_data(TURN_START))
                .filter(|data| data.get("runId").and_then(Value::as_str) == Some(run_id.as_str()))
                .flat_map(|data| data.get("inputs").and_then(Value::as_array).into_iter().flatten())
                .filter_map(Value::as_i64)
                .collect();
            Ok((resume::plan(&branch, &run_id), resume::answers_of(&branch, &run_id), known))
        })
        .await?;
    match plan {
        Resume::Fresh => Ok(None),
        Resume::Replay(record) => Ok(Some(Begun::Replay(Box::new(record), entry.clone()))),
        Resume::Continue { turn, started_ms, uncertain } => {
            let waiting: Vec<RunInput> =
                spec.inputs.iter().filter(|input| !known.contains(&input.inbound_seq)).cloned().collect();
            let mut bodies = vec![turn_start(spec, started_ms, &[])];
            if let Some(note) = resume_note(spec, &uncertain) {
                bodies.push(Body::CustomMessage {
                    custom_type: "openclaw.resume-note".into(),
                    content: Content::Text(note),
                    display: false,
                });
            }
            // The note may not stand between a call and its result: it goes in once no call is open.
            if !matches!(turn.next(), super::state::Step::CallModel) {
                bodies.truncate(1);
            }
            log.commit(bodies, Durability::Synced).await?;
            Ok(Some(Begun::Turn(Box::new(Opening {
                log,
                entry: entry.clone(),
                turn,
                started_ms,
                answers,
                waiting,
                notice: None,
            }))))
        }
    }
}

/// What a resumed model has to know: what it may not repeat blindly, and what the person has already read.
fn resume_note(spec: &RunSpec, uncertain: &[String]) -> Option<String> {
    if uncertain.is_empty() && spec.texts_done.is_empty() {
        return None;
    }
    let mut note =
        String::from("[Note from the gateway] Your process was restarted during this turn; go on with it.");
    if !uncertain.is_empty() {
        note.push_str(&format!(" The outcome of these calls is unknown: {}.", uncertain.join(", ")));
    }
    if !spec.texts_done.is_empty() {
        note.push_str(" Already said to the user:\n");
        note.push_str(&spec.texts_done.join("\n---\n"));
    }
    Some(note)
}

/// The commit record of C3.
pub fn turn_start(spec: &RunSpec, started_ms: i64, inputs: &[RunInput]) -> Body {
    let record = TurnStart {
        run_id: spec.run_id.to_string(),
        client_run_id: spec.client_run_id.clone(),
        attempt: spec.attempt,
        inputs: inputs.iter().map(|input| input.inbound_seq).collect(),
        started_ms,
    };
    Body::custom(TURN_START, json!(record))
}

/// The command that the message is, if its sender may use commands.
async fn asked_for(agent: &Agent, active: &Active, spec: &RunSpec) -> Option<Outcome> {
    let [input] = spec.inputs.as_slice() else { return None };
    if !input.authorised {
        return None;
    }
    if let Some(Trigger { is_new, .. }) = active.setup.reset.trigger(&input.raw) {
        return Some(Outcome::NewSession { is_new });
    }
    let (command, args) = command::parse(&input.raw)?;
    let asked = Asked { agent, active, session_key: &spec.session_key, spec, args };
    Some(command.run(asked).await)
}

/// Starts the session anew; returns its entry, the words for the model, and the line for the person.
async fn new_session(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    is_new: bool,
) -> Result<(SessionEntry, String, Option<String>), SessionError> {
    let input = spec.inputs.first();
    let raw = input.map(|input| input.raw.as_str()).unwrap_or_default();
    let mut rest = active.setup.reset.trigger(raw).map_or("", |trigger| trigger.rest).to_owned();
    let mut entry =
        agent.reset_session(active, &spec.session_key, true, if is_new { "new" } else { "reset" }).await?;
    if is_new && let Some((model, after)) = leading_model(active, &rest) {
        entry.set("modelOverride", model);
        agent.sessions.put(&spec.session_key, entry.clone()).await?;
        rest = after;
    }
    let model = active.models.chain(entry.str("modelOverride")).ok().and_then(|chain| chain.first().cloned());
    let default = active.models.chain(None).ok().and_then(|chain| chain.first().cloned());
    let notice = (spec.origin.kind == OriginKind::Channel).then(|| {
        let name = model.as_ref().map_or("none".to_owned(), ToString::to_string);
        let other = default.filter(|default| Some(default) != model.as_ref());
        let other = other.map(|default| format!(" (default: {default})")).unwrap_or_default();
        format!("✅ New session started · model: {name}{other}")
    });
    let words = if rest.is_empty() {
        GREETING.trim().to_owned()
    } else {
        let at = input.map_or(0, |input| input.ts_ms);
        user_turn::stamped(&rest, at, Some(&active.setup.zone))
    };
    Ok((entry, words, notice))
}

/// A first word that names a model: an alias or `provider/model`.
fn leading_model(active: &Active, rest: &str) -> Option<(String, String)> {
    let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let is_alias = active.setup.agent.aliases.iter().any(|(alias, _)| alias.eq_ignore_ascii_case(word));
    if !word.contains('/') && !is_alias {
        return None;
    }
    let model = active.models.permitted(word).ok()?;
    Some((model.to_string(), after.trim().to_owned()))
}

/// The entry that this turn belongs to: a new session when the old one is stale, metadata merged; on disk.
async fn session_entry(
    agent: &Agent,
    active: &Active,
    spec: &RunSpec,
    mut entry: SessionEntry,
) -> Result<SessionEntry, SessionError> {
    let (key, now) = (spec.session_key.as_str(), now_ms());
    let before = entry.clone();
    if let Some(wanted) = spec.overrides.session_id.as_deref().filter(|id| is_session_id(id)) {
        if entry.session_id() != Some(wanted) {
            entry = reset::next_entry(&entry, wanted, true, now);
        }
    } else if entry.session_id().is_none() {
        entry.set("sessionId", uuid::Uuid::new_v4().to_string());
    } else if spec.origin.kind != OriginKind::System {
        let channel = Some(spec.origin.channel.as_str()).filter(|channel| !channel.is_empty());
        let rule = active.setup.reset.rule(key, channel);
        if reset::stale(&rule, entry.updated_at(), now, &active.setup.zone).is_some() {
            entry = reset::next_entry(&entry, &uuid::Uuid::new_v4().to_string(), false, now);
        }
    }
    merge_origin(&mut entry, spec);
    let file = agent.sessions.path_of(key, &entry);
    entry.set("sessionFile", file.display().to_string());
    if entry != before {
        entry.set("updatedAt", now);
        agent.sessions.put(key, entry.clone()).await?;
        agent.session_changed(crate::agent::row(&active.setup.agent_id, key, &entry), "turn").await;
    }
    Ok(entry)
}

/// Only what may be a file name.
fn is_session_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Where the conversation takes place, and what the caller said about it.
fn merge_origin(entry: &mut SessionEntry, spec: &RunSpec) {
    let origin = &spec.origin;
    if let Some(Ok(Value::Object(meta))) =
        spec.overrides.session_meta_json.as_deref().map(serde_json::from_str)
    {
        for (field, value) in meta {
            entry.set(&field, value);
        }
    }
    let chat_type = origin.chat_type.as_deref().unwrap_or("direct");
    entry.set("chatType", chat_type);
    if origin.kind == OriginKind::System || origin.channel.is_empty() {
        return;
    }
    let mut delivery = serde_json::Map::new();
    delivery.insert("channel".into(), origin.channel.clone().into());
    for (field, last, value) in [
        ("to", "lastTo", &origin.chat),
        ("accountId", "lastAccountId", &origin.account),
        ("threadId", "lastThreadId", &origin.thread),
    ] {
        if let Some(value) = value {
            delivery.insert(field.into(), value.clone().into());
            entry.set(last, value.clone());
        }
    }
    entry.set("deliveryContext", Value::Object(delivery));
    entry.set("lastChannel", origin.channel.clone());
    entry
        .set("origin", json!({"provider": origin.channel, "surface": origin.channel, "chatType": chat_type}));
    if let Some(subject) = &origin.subject {
        entry.set("subject", subject.clone());
    }
}

/// The user message of the turn, with the images that came along.
async fn user_message(
    active: &Active,
    spec: &RunSpec,
    words: Option<&str>,
    events: &[String],
    aborted: bool,
) -> Message {
    let front = user_turn::Front {
        system_events: events,
        note: aborted.then_some("The previous run was aborted by the user. Resume only if asked to."),
        zone: Some(&active.setup.zone),
        stamp: matches!(spec.origin.kind, OriginKind::Agent | OriginKind::Chat),
    };
    let text = user_turn::compose(&spec.inputs, words, &front);
    let images = super::media::images(&active.setup.paths.state, &spec.inputs).await;
    let content = if images.is_empty() {
        Content::Text(text)
    } else {
        Content::Blocks(std::iter::once(Block::text(text)).chain(images).collect())
    };
    let key = spec.inputs.iter().find_map(|input| input.idempotency_key.clone());
    Message::User(UserMessage {
        content,
        timestamp: spec
            .inputs
            .iter()
            .map(|input| input.ts_ms)
            .max()
            .filter(|at| *at > 0)
            .unwrap_or_else(now_ms),
        provenance: None,
        idempotency_key: Some(format!("{}:user", key.unwrap_or_else(|| spec.client_run_id.clone()))),
    })
}

/// A message that was added to a run under way.
pub fn steer_message(input: &RunInput, zone: &jiff::tz::TimeZone) -> Message {
    let front = user_turn::Front { zone: Some(zone), ..user_turn::Front::default() };
    let text = user_turn::compose(std::slice::from_ref(input), None, &front);
    Message::User(UserMessage {
        content: Content::Text(text),
        timestamp: if input.ts_ms > 0 { input.ts_ms } else { now_ms() },
        provenance: None,
        idempotency_key: input.idempotency_key.as_ref().map(|key| format!("{key}:user")),
    })
}
