//! One answer of a model: the chain of models is tried, and the message is written (C4). `ask` is one model of the chain,
//! `listen` one stream.

use proto::runtime::failpoint;
use proto::wire::agent::RunError;
use serde_json::json;

use super::ask::ask;
use super::driver::Run;
use super::listen::Outcome;
use super::request::Reply;
use super::source::ModelFacts;
use super::{chain, compact};
use crate::clock::now_ms;
use crate::provider::ProviderError;
use crate::provider::select::ModelRef;
use crate::provider::types::StopReason;
use crate::session::compaction::{WINDOW_TOKENS_GOOD, WINDOW_TOKENS_MIN};
use crate::session::entry::{Body, PROMPT_ERROR};
use crate::session::message::{AssistantMessage, Message};
use crate::session::sessions::{Durability, SessionError};

/// Asks until a model answers, the run is stopped or nobody is left to ask.
pub async fn call_model(run: &mut Run) -> Result<(), SessionError> {
    run.heard.step += 1;
    let chain = match run.active.models.chain(chain::wish(run).as_deref()) {
        Ok(chain) => chain,
        Err(error) => return give_up(run, unusable(&error.to_string()), None).await,
    };
    let primary = chain.first().cloned();
    let mut failures: Vec<RunError> = Vec::new();
    let mut partial = None;
    for wanted in &chain::awake_first(&*run.active.models, chain) {
        if run.heard.failed_models.contains(wanted) {
            continue;
        }
        let facts = match run.active.models.facts(wanted) {
            Ok(facts) => facts,
            Err(error) => {
                failures.push(unusable(&error.to_string()));
                continue;
            }
        };
        if let Some(refusal) = too_small(run, wanted, &facts) {
            failures.push(unusable(&refusal));
            continue;
        }
        announce(run, wanted, primary.as_ref(), failures.last()).await;
        match ask(run, wanted, &facts).await? {
            Outcome::Answered(answer) => return answered(run, facts, answer).await,
            Outcome::Stopped(partial) => return stopped(run, facts, partial).await,
            Outcome::Failed(error, broken) => {
                run.events.discard(run.heard.message_no).await;
                run.heard.message_no += 1;
                run.heard.failed_models.push(wanted.clone());
                let go_on = error.reason.falls_back();
                tracing::warn!(model = %wanted, reason = error.reason.class(), %error, "model call failed");
                // What nobody else can cure is told alone.
                failures.drain(..if go_on { 0 } else { failures.len() });
                failures.push(run_error(&error));
                partial = Some(broken);
                if !go_on {
                    break;
                }
            }
        }
    }
    let error = chain::all_failed(failures).unwrap_or_else(|| unusable("no model is configured"));
    give_up(run, error, partial).await
}

/// Why a model is not asked: its window holds neither prompt nor answer.
fn too_small(run: &Run, wanted: &ModelRef, facts: &ModelFacts) -> Option<String> {
    let window = compact::budget(&run.active, facts).window;
    if window < WINDOW_TOKENS_GOOD && run.heard.step == 1 {
        tracing::warn!(model = %wanted, window, good = WINDOW_TOKENS_GOOD, "the model's window is small: conversations are summarised often");
    }
    (window < WINDOW_TOKENS_MIN).then(|| {
        format!(
            "{wanted}: its context window of {window} tokens is too small (at least {WINDOW_TOKENS_MIN}). Choose another \
             model, or raise its contextWindow or agents.defaults.contextTokens."
        )
    })
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
