//! One answer of a model: the chain of models is tried, the text is streamed, the message is written (C4).

use futures_util::StreamExt;
use proto::runtime::failpoint;
use proto::wire::agent::{DeltaKind, RunError};
use serde_json::json;

use super::driver::Run;
use super::prepare::{self, Occasion};
use super::request::{self, Reply};
use super::source::ModelFacts;
use super::stream_text::StreamText;
use crate::clock::now_ms;
use crate::provider::select::ModelRef;
use crate::provider::types::StopReason;
use crate::provider::{EventStream, ModelRequest, ProviderError, ProviderEvent, Reason};
use crate::session::entry::{Body, PROMPT_ERROR};
use crate::session::message::{AssistantMessage, Message};
use crate::session::sessions::{Durability, SessionError};

/// Times that a conversation is halved for a model that finds it too long. Three leave an eighth; a single turn that is
/// too long cannot be helped.
const SHORTENED_MAX: u32 = 3;

/// How one stream ended.
enum Outcome {
    Answered(AssistantMessage),
    /// The run was stopped; what had come so far.
    Stopped(AssistantMessage),
    Failed(ProviderError, AssistantMessage),
}

/// Asks until a model answers, the run is stopped or nobody is left to ask.
pub async fn call_model(run: &mut Run) -> Result<(), SessionError> {
    run.heard.step += 1;
    let overrides = &run.spec.overrides;
    let asked = match (&overrides.provider, &overrides.model) {
        (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
        (None, Some(model)) => Some(model.clone()),
        _ => run.entry.str("modelOverride").map(|model| match run.entry.str("providerOverride") {
            Some(provider) if !model.contains('/') => format!("{provider}/{model}"),
            _ => model.to_owned(),
        }),
    };
    let chain = match run.active.models.chain(asked.as_deref()) {
        Ok(chain) => chain,
        Err(error) => return give_up(run, unusable(&error.to_string()), None).await,
    };
    let primary = chain.first();
    let mut last: Option<(RunError, AssistantMessage)> = None;
    for wanted in &chain {
        if run.heard.failed_models.contains(wanted) {
            continue;
        }
        let facts = match run.active.models.facts(wanted) {
            Ok(facts) => facts,
            Err(error) => {
                let partial = Reply::default().finish(&ModelFacts::default(), StopReason::Error, now_ms());
                last.get_or_insert((unusable(&error.to_string()), partial));
                continue;
            }
        };
        announce(run, wanted, primary, last.as_ref().map(|(error, _)| error)).await;
        match ask(run, wanted, &facts).await? {
            Outcome::Answered(answer) => return answered(run, facts, answer).await,
            Outcome::Stopped(partial) => return stopped(run, facts, partial).await,
            Outcome::Failed(error, partial) => {
                run.events.discard(run.heard.message_no).await;
                run.heard.message_no += 1;
                run.heard.failed_models.push(wanted.clone());
                let go_on = error.reason.falls_back();
                tracing::warn!(model = %wanted, reason = error.reason.class(), %error, "model call failed");
                last = Some((run_error(&error), partial));
                if !go_on {
                    break;
                }
            }
        }
    }
    match last {
        Some((error, partial)) => give_up(run, error, Some(partial)).await,
        None => give_up(run, unusable("no model is configured"), None).await,
    }
}

/// One model: a conversation that it finds too long is sent again with its older half left out.
async fn ask(run: &mut Run, wanted: &ModelRef, facts: &ModelFacts) -> Result<Outcome, SessionError> {
    let mut left = SHORTENED_MAX;
    loop {
        let (request, sent) = request_for(run, facts, run.heard.budget_chars).await?;
        run.events.step(run.heard.step, "model", wanted.to_string()).await;
        failpoint::hit("ag.llm.connect");
        let stream = run.active.models.stream(wanted, request, &run.budget, run.control.cancel.clone());
        let outcome = listen(run, facts, stream).await;
        let too_long =
            matches!(&outcome, Outcome::Failed(error, _) if error.reason == Reason::ContextOverflow);
        if !too_long || sent.turns < 2 || left == 0 {
            return Ok(outcome);
        }
        tracing::warn!(model = %wanted, turns = sent.turns, "too long for the model; older turns are left out");
        // Also for the further calls of this run.
        run.heard.budget_chars = Some(sent.chars / 2);
        left -= 1;
    }
}

/// Tells once that another model than the selected one answers.
async fn announce(run: &mut Run, wanted: &ModelRef, primary: Option<&ModelRef>, cause: Option<&RunError>) {
    let Some(primary) = primary.filter(|primary| *primary != wanted) else { return };
    if run.heard.announced.as_ref() == Some(wanted) {
        return;
    }
    run.heard.announced = Some(wanted.clone());
    run.events
        .lifecycle(json!({
            "phase": "fallback",
            "selectedModel": primary.to_string(),
            "activeModel": wanted.to_string(),
            "reason": cause.map_or("unavailable", |cause| cause.kind.as_str()),
        }))
        .await;
}

/// What of the conversation went into a request.
#[derive(Default)]
struct Sent {
    chars: u64,
    turns: usize,
}

/// `budget_chars`: room for the conversation, when the estimate from the window proved too large.
async fn request_for(
    run: &mut Run,
    facts: &ModelFacts,
    budget_chars: Option<u64>,
) -> Result<(ModelRequest, Sent), SessionError> {
    let fits = run.heard.facts.as_ref() == Some(facts) && run.prepared.is_some();
    if !fits {
        let default =
            run.active.models.chain(None).ok().and_then(|chain| chain.first().map(ToString::to_string));
        let occasion = Occasion {
            session_key: run.spec.session_key.clone(),
            entry: run.entry.clone(),
            facts: facts.clone(),
            default_model: default,
            spec: Some(run.spec.clone()),
        };
        run.prepared = Some(prepare::prepare(&run.agent, &run.active, occasion).await);
        run.heard.facts = Some(facts.clone());
    }
    let context = run.log.with(|transcript| Ok(transcript.context())).await?;
    let Some(prepared) = &run.prepared else { return Ok(Default::default()) };
    let window = run.active.setup.agent.context_tokens.unwrap_or(u64::MAX).min(facts.context_window);
    let room = request::budget_chars(window, prepared.fixed_chars);
    let fitted = request::fit(context, budget_chars.unwrap_or(room));
    let mut request = request::base(prepared.system.clone(), run.log.session_id());
    request.messages = request::messages(&fitted.messages, facts.reads_images);
    request.tools = prepared.tools.clone();
    request.thinking = prepared.thinking;
    request.temperature = run.spec.overrides.temperature;
    request.max_tokens = run.spec.overrides.max_tokens;
    Ok((request, Sent { chars: fitted.chars, turns: fitted.turns }))
}

/// Takes the stream to its end and passes on what may be shown.
async fn listen(run: &mut Run, facts: &ModelFacts, mut stream: EventStream) -> Outcome {
    let mut reply = Reply::default();
    let mut shown = StreamText::default();
    let thinking_shown = run.entry.str("reasoningLevel") == Some("stream");
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = run.control.cancel.cancelled() => {
                return Outcome::Stopped(reply.finish(facts, StopReason::Aborted, now_ms()));
            }
        };
        match event {
            Some(Ok(ProviderEvent::TextDelta { text })) => {
                failpoint::hit("ag.llm.mid_stream");
                reply.text(&text);
                run.events.delta(run.heard.message_no, DeltaKind::Text, shown.push(&text));
            }
            Some(Ok(ProviderEvent::ThinkingDelta { text, signature })) => {
                reply.thinking(&text, signature);
                let text = if thinking_shown { text } else { String::new() };
                run.events.delta(run.heard.message_no, DeltaKind::Thinking, text);
            }
            Some(Ok(ProviderEvent::ToolCallStart { .. } | ProviderEvent::ToolCallDelta { .. })) => {
                run.agent.up.progressed();
            }
            Some(Ok(ProviderEvent::ToolCallEnd { id, name, arguments, thought_signature, .. })) => {
                reply.call(id, name, arguments, thought_signature);
            }
            Some(Ok(ProviderEvent::Usage(usage))) => reply.usage(usage),
            Some(Ok(ProviderEvent::Restart { attempt, wait, reason, message, discard })) => {
                if discard {
                    run.events.discard(run.heard.message_no).await;
                    reply = Reply::default();
                    shown = StreamText::default();
                    run.heard.message_no += 1;
                }
                let detail =
                    format!("request {attempt} in {} ms: {} ({message})", wait.as_millis(), reason.class());
                run.events.step(run.heard.step, "retry", detail).await;
            }
            Some(Ok(ProviderEvent::Done { stop_reason })) => {
                run.events.delta(run.heard.message_no, DeltaKind::Text, shown.end());
                return Outcome::Answered(reply.finish(facts, stop_reason, now_ms()));
            }
            Some(Err(error)) if error.reason == Reason::Cancelled && run.control.cancel.is_cancelled() => {
                return Outcome::Stopped(reply.finish(facts, StopReason::Aborted, now_ms()));
            }
            Some(Err(error)) => {
                return Outcome::Failed(error, reply.finish(facts, StopReason::Error, now_ms()));
            }
            None => {
                let error = ProviderError::new(Reason::Truncated, &facts.provider, &facts.id, "");
                return Outcome::Failed(error, reply.finish(facts, StopReason::Error, now_ms()));
            }
        }
    }
}

async fn answered(run: &mut Run, facts: ModelFacts, answer: AssistantMessage) -> Result<(), SessionError> {
    failpoint::hit("ag.llm.after");
    run.heard.facts = Some(facts);
    let calls = answer.tool_calls();
    // Without calls the final record follows at once and is synced with it.
    let durability = if calls.is_empty() { Durability::Written } else { Durability::Synced };
    let id = run.commit(Message::Assistant(answer.clone()), durability).await?;
    failpoint::hit("ag.c4.after");
    run.heard.take(id, answer);
    run.turn.model_answered(calls);
    Ok(())
}

/// The partial answer of a stopped run, with the mark that says so. A run that only pauses writes nothing.
async fn stopped(
    run: &mut Run,
    facts: ModelFacts,
    mut partial: AssistantMessage,
) -> Result<(), SessionError> {
    if run.control.is_shutdown() {
        return Ok(());
    }
    run.heard.facts = Some(facts);
    let client_run_id = &run.spec.client_run_id;
    partial.openclaw_abort =
        Some(json!({"aborted": true, "origin": run.control.why(), "runId": client_run_id}));
    partial.idempotency_key = Some(format!("{client_run_id}:assistant"));
    let id = run.commit(Message::Assistant(partial.clone()), Durability::Written).await?;
    run.heard.take(id, partial);
    Ok(())
}

async fn give_up(
    run: &mut Run,
    error: RunError,
    partial: Option<AssistantMessage>,
) -> Result<(), SessionError> {
    // Messages that wait are kept in the conversation; their run ends here.
    while !run.waiting.is_empty() {
        run.take_steer().await?;
    }
    let mut message = partial
        .unwrap_or_else(|| Reply::default().finish(&ModelFacts::default(), StopReason::Error, now_ms()));
    message.error_message = Some(error.message.clone());
    let record = Body::custom(
        PROMPT_ERROR,
        json!({"runId": run.spec.run_id.to_string(), "error": error.message, "kind": error.kind, "timestamp": now_ms()}),
    );
    let ids = run
        .log
        .commit(
            vec![Body::Message { message: Message::Assistant(message.clone()) }, record],
            Durability::Written,
        )
        .await?;
    run.heard.take(ids.into_iter().next().unwrap_or_default(), message);
    run.heard.error = Some(error);
    run.turn.model_failed();
    Ok(())
}

fn unusable(message: &str) -> RunError {
    RunError { kind: "model_not_found".into(), message: message.to_owned(), ..RunError::default() }
}

fn run_error(error: &ProviderError) -> RunError {
    RunError {
        kind: error.reason.class().to_owned(),
        message: error.to_string(),
        provider: Some(error.provider.clone()),
        model: Some(error.model.clone()),
    }
}
