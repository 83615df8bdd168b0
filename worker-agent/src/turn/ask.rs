//! One model, asked with what the transcript holds. A conversation that is too long for it is summarised, before the call
//! where that can be foreseen and after a refusal where it cannot; another model is never the cure.

use std::time::Instant;

use proto::runtime::failpoint;
use serde_json::json;

use super::compact::{self, Done, Job, Why};
use super::driver::Run;
use super::listen::{Outcome, listen};
use super::prepare::{self, Occasion};
use super::source::ModelFacts;
use super::{guard, request, upkeep};
use crate::provider::select::ModelRef;
use crate::provider::{ModelRequest, Reason};
use crate::session::compaction::estimate::CHARS_PER_TOKEN;
use crate::session::entry::{Body, RESULT_LIMIT};
use crate::session::sessions::{Durability, SessionError};

/// Compactions of one run, whatever led to them. Each takes a model call; a conversation that three did not make fit is
/// one turn that is too long.
const COMPACTIONS_MAX: u32 = 3;
/// Share of the window that one result may fill in a conversation that a model refused, in percent.
const RESULT_PERCENT_MAX: u64 = 30;
/// Characters of a result that stay in any case, and at most.
const RESULT_CHARS: std::ops::RangeInclusive<u64> = 2_000..=400_000;

/// See the module head.
pub async fn ask(run: &mut Run, wanted: &ModelRef, facts: &ModelFacts) -> Result<Outcome, SessionError> {
    make_room(run, wanted, facts).await?;
    loop {
        let request = request_for(run, facts).await?;
        run.events.step(run.heard.step, "model", wanted.to_string()).await;
        failpoint::hit("ag.llm.connect");
        let stream = run.active.models.stream(wanted, request, &run.budget, run.control.cancel.clone());
        let begin = Instant::now();
        let outcome = listen(run, facts, stream).await;
        tell(run, &outcome, begin).await;
        let too_long =
            matches!(&outcome, Outcome::Failed(error, _) if error.reason == Reason::ContextOverflow);
        if !too_long || !shortened(run, wanted, facts).await? {
            return Ok(outcome);
        }
    }
}

/// How one request went, for the trace of the run.
async fn tell(run: &Run, outcome: &Outcome, begin: Instant) {
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (kind, facts) = match outcome {
        Outcome::Answered(answer) => {
            let usage = &answer.usage;
            let cost_micros = (usage.cost.total * 1e6).round().clamp(0.0, 1e15) as u64;
            let facts = json!({
                "ms": ms, "input": usage.input, "output": usage.output, "cacheRead": usage.cache_read,
                "costMicros": cost_micros, "stop": answer.stop_reason,
            });
            ("answer", facts)
        }
        Outcome::Failed(error, _) => ("refused", json!({"ms": ms, "why": error.to_string()})),
        Outcome::Stopped(_) => ("stopped", json!({"ms": ms, "why": run.control.why()})),
    };
    run.events.step(run.heard.step, kind, facts.to_string()).await;
}

/// Before a call: summarises a conversation that has outgrown the window.
async fn make_room(run: &mut Run, wanted: &ModelRef, facts: &ModelFacts) -> Result<(), SessionError> {
    prepare_for(run, facts).await;
    let threshold = compact::budget(&run.active, facts).threshold();
    let fixed = run.prepared.as_ref().map_or(0, |prepared| prepared.fixed_chars);
    if run.heard.compactions < COMPACTIONS_MAX && upkeep::is_full(&run.log, threshold, fixed).await? {
        // The call is made all the same when it could not be done: the model may see it otherwise.
        let _may_fit = compacted(run, wanted, Why::Threshold).await?;
    }
    Ok(())
}

/// After a refusal: a shorter conversation, or false when there is none.
async fn shortened(run: &mut Run, wanted: &ModelRef, facts: &ModelFacts) -> Result<bool, SessionError> {
    if run.heard.compactions < COMPACTIONS_MAX {
        let refused = run.heard.compactions;
        tracing::warn!(model = %wanted, "the conversation is too long for the model and is summarised");
        match compacted(run, wanted, Why::Overflow(refused)).await? {
            Done::Compacted { .. } => return Ok(true),
            Done::Failed { too_long, .. } => {
                run.heard.beyond_help |= too_long;
            }
            Done::Stopped => return Ok(false),
            Done::Skipped(_) => {}
        }
    }
    if run.control.stopped().is_some() || std::mem::replace(&mut run.heard.results_cut, true) {
        return Ok(false);
    }
    cut_results(run, facts).await
}

async fn compacted(run: &mut Run, wanted: &ModelRef, why: Why) -> Result<Done, SessionError> {
    run.heard.compactions += 1;
    run.events.step(run.heard.step, "compact", wanted.to_string()).await;
    let job = Job {
        agent: &run.agent,
        active: &run.active,
        key: &run.spec.session_key,
        log: &run.log,
        models: vec![wanted.clone()],
        cancel: run.control.cancel.clone(),
        events: Some(&run.events),
        wishes: None,
        run_id: None,
        why,
    };
    let done = compact::compact(job).await?;
    if let Done::Compacted { entry, .. } = &done {
        run.entry = entry.clone();
    }
    Ok(done)
}

/// One record that cuts long results for the model; the transcript keeps them whole. False when none is that long.
async fn cut_results(run: &Run, facts: &ModelFacts) -> Result<bool, SessionError> {
    let window = compact::budget(&run.active, facts).window;
    let chars = (window.saturating_mul(CHARS_PER_TOKEN * RESULT_PERCENT_MAX) / 100)
        .clamp(*RESULT_CHARS.start(), *RESULT_CHARS.end());
    let is_long = move |text: &str| text.chars().count() as u64 > chars;
    let found = run
        .log
        .with(move |transcript| {
            let results = transcript.context();
            Ok(results.iter().any(|message| {
                matches!(message, crate::session::message::Message::ToolResult(result)
                    if is_long(&result.content.text()))
            }))
        })
        .await?;
    if found {
        tracing::warn!(chars, "results of tools are too long for the model and are cut for it");
        let record = Body::custom(RESULT_LIMIT, json!({"maxChars": chars}));
        run.log.commit(vec![record], Durability::Written).await?;
    }
    Ok(found)
}

/// Tools and prompt for this model, unless they are there.
async fn prepare_for(run: &mut Run, facts: &ModelFacts) {
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
}

async fn request_for(run: &mut Run, facts: &ModelFacts) -> Result<ModelRequest, SessionError> {
    prepare_for(run, facts).await;
    let Some(prepared) = &run.prepared else { return Ok(ModelRequest::default()) };
    let (window, fixed) = (compact::budget(&run.active, facts).window, prepared.fixed_chars);
    let fitted = run.log.with(move |transcript| Ok(guard::fit(transcript.context(), window, fixed))).await?;
    let mut request = request::base(prepared.system.clone(), run.log.session_id());
    request.messages = request::messages(&fitted, facts.reads_images);
    request.tools = prepared.tools.clone();
    request.thinking = prepared.thinking;
    request.temperature = run.spec.overrides.temperature;
    request.max_tokens = run.spec.overrides.max_tokens;
    Ok(request)
}
