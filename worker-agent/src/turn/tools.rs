//! One tool call: intent on disk (C5), run, result on disk (C6), and the events around it.

use std::sync::Arc;

use proto::runtime::failpoint;
use proto::wire::Id;
use proto::wire::agent::AskGateway;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::driver::Run;
use super::payload::FailedTool;
use super::request;
use super::resume::ToolIntent;
use crate::clock::now_ms;
use crate::command::status;
use crate::session::entry::{Body, TOOL_INTENT};
use crate::session::message::{self, Content, Message, ToolCall, ToolResultMessage};
use crate::session::sessions::{Durability, SessionError};
use crate::tool::{self, BoxFuture, Effect, GatewaySource, Progress, StatusSource, ToolEnv, ToolOutcome};

/// Partial results that may wait for their event; further ones are dropped.
const UPDATES_WAITING_MAX: usize = 4;

/// Runs the foremost call of the turn.
pub async fn run(run: &mut Run, asked: ToolCall) -> Result<(), SessionError> {
    run.heard.step += 1;
    run.events.step(run.heard.step, "tool", asked.name.clone()).await;
    let Some(registry) = run.prepared.as_ref().map(|prepared| prepared.registry.clone()) else {
        return resumed_without_prompt(run, asked).await;
    };
    let args = Value::Object(asked.arguments.clone());
    let effect = registry.get(&asked.name).map_or(Effect::Read, |tool| tool.effect(&args));
    intent(run, &asked, effect, &args).await?;
    failpoint::hit("ag.c5.after");
    run.events.tool_start(&asked).await;
    let begin = std::time::Instant::now();
    let outcome = perform(run, &registry, &asked).await;
    failpoint::hit("ag.tool.after_exit");
    if run.control.is_shutdown() {
        // What it did is not known: the next process answers for it.
        return Ok(());
    }
    record(run, &asked, &outcome, effect).await?;
    let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let facts = json!({"tool": asked.name, "ms": ms, "failed": outcome.is_error});
    run.events.step(run.heard.step, "result", facts.to_string()).await;
    run.events.tool_result(&asked, &outcome).await;
    note_failure(run, &asked, &outcome, effect);
    run.turn.tool_answered();
    Ok(())
}

/// A resumed run has no prompt yet: it is made for the model that asked.
async fn resumed_without_prompt(run: &mut Run, asked: ToolCall) -> Result<(), SessionError> {
    let last = run.heard.answers.last().map(|answer| (answer.provider.clone(), answer.model.clone()));
    let wanted = last.map(|(provider, id)| crate::provider::select::ModelRef { provider, id });
    let facts = wanted.and_then(|wanted| run.active.models.facts(&wanted).ok()).unwrap_or_default();
    let occasion = super::prepare::Occasion {
        session_key: run.spec.session_key.clone(),
        entry: run.entry.clone(),
        facts: facts.clone(),
        default_model: None,
        spec: Some(run.spec.clone()),
    };
    run.prepared = Some(super::prepare::prepare(&run.agent, &run.active, occasion).await);
    run.heard.facts = Some(facts);
    Box::pin(self::run(run, asked)).await
}

async fn intent(run: &Run, asked: &ToolCall, effect: Effect, args: &Value) -> Result<(), SessionError> {
    let hash = Sha256::digest(args.to_string().as_bytes());
    let record = ToolIntent {
        run_id: run.spec.run_id.to_string(),
        call_id: asked.id.clone(),
        tool: asked.name.clone(),
        effect: effect_word(effect).into(),
        args_hash: hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
    };
    // A call that changes nothing may be repeated: its intent need not outlive a power loss.
    let durability = if effect == Effect::Read { Durability::Written } else { Durability::Synced };
    run.log.commit(vec![Body::custom(TOOL_INTENT, json!(record))], durability).await?;
    Ok(())
}

fn effect_word(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Idempotent => "idempotent",
        Effect::Write => "write",
    }
}

/// Runs the call and passes partial results on.
async fn perform(run: &Run, registry: &tool::registry::Registry, asked: &ToolCall) -> ToolOutcome {
    let setup = &run.active.setup;
    let env = ToolEnv {
        workspace: setup.paths.workspace.clone(),
        home: Some(setup.paths.home.clone()).filter(|home| !home.as_os_str().is_empty()),
        session_key: run.spec.session_key.clone(),
        status: Arc::new(Status { agent: run.agent.clone() }),
        gateway: Arc::new(Gateway { agent: run.agent.clone(), run_id: run.spec.run_id }),
        settings: setup.tool_settings.clone(),
        env: setup.tool_env.clone(),
        commands: run.agent.commands.clone(),
        process_offered: registry.get("process").is_some(),
        cancel: run.control.cancel.clone(),
    };
    let (sender, mut updates) = mpsc::channel(UPDATES_WAITING_MAX);
    let call = registry.call(request::tool_call(asked), &env, Progress::new(sender));
    let mut call = std::pin::pin!(call);
    failpoint::hit("ag.tool.running");
    loop {
        tokio::select! {
            outcome = &mut call => return outcome,
            Some(so_far) = updates.recv() => run.events.tool_update(asked, &so_far).await,
        }
    }
}

async fn record(
    run: &Run,
    asked: &ToolCall,
    outcome: &ToolOutcome,
    effect: Effect,
) -> Result<(), SessionError> {
    let content = outcome
        .content
        .iter()
        .map(|block| match block {
            tool::Block::Text { text } => message::Block::text(text.clone()),
            tool::Block::Image { data, mime_type } => {
                message::Block::Image { data: data.clone(), mime_type: mime_type.clone() }
            }
        })
        .collect();
    let result = ToolResultMessage {
        tool_call_id: asked.id.clone(),
        tool_name: asked.name.clone(),
        content: Content::Blocks(content),
        details: outcome.details.clone(),
        is_error: outcome.is_error,
        timestamp: now_ms(),
    };
    let durability = if effect == Effect::Write { Durability::Synced } else { Durability::Written };
    run.commit(Message::ToolResult(result), durability).await?;
    failpoint::hit("ag.c6.after");
    Ok(())
}

/// Remembers the last failure, and forgets it when the same tool succeeds.
fn note_failure(run: &mut Run, asked: &ToolCall, outcome: &ToolOutcome, effect: Effect) {
    if outcome.is_error {
        run.heard.failed_tool = Some(FailedTool {
            name: asked.name.clone(),
            meta: outcome.meta.clone(),
            text: outcome.joined_text(),
            mutating: effect == Effect::Write,
        });
    } else if run.heard.failed_tool.as_ref().is_some_and(|failed| failed.name == asked.name) {
        run.heard.failed_tool = None;
    }
}

/// Longest wait for an update, as the original has it; the supervisor bounds the command itself.
const UPDATE_MS_MAX: u64 = 20 * 60 * 1000;
/// Longest wait for everything else: a check of the configuration asks every worker's program, 5 s each.
const ASK_MS_MAX: u64 = 60_000;

/// The supervisor, asked on behalf of one run.
struct Gateway {
    agent: Arc<crate::agent::Agent>,
    run_id: Id,
}

impl GatewaySource for Gateway {
    fn ask<'a>(&'a self, method: &'a str, params: Value) -> BoxFuture<'a, Result<Value, String>> {
        let deadline_ms = if method == "update.run" { UPDATE_MS_MAX } else { ASK_MS_MAX };
        let call =
            AskGateway { run_id: self.run_id, method: method.to_owned(), params_json: params.to_string() };
        self.agent.up.ask(call, deadline_ms)
    }
}

/// The card of `session_status`.
struct Status {
    agent: Arc<crate::agent::Agent>,
}

impl StatusSource for Status {
    fn card<'a>(
        &'a self,
        session_key: &'a str,
        set_model: Option<&'a str>,
    ) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            let active = self.agent.active();
            if let Some(wanted) = set_model {
                let model = match wanted {
                    "default" => None,
                    wanted => {
                        Some(active.models.permitted(wanted).map_err(|error| error.to_string())?.to_string())
                    }
                };
                let changed = self
                    .agent
                    .sessions
                    .update(session_key, move |entry| {
                        entry.set("modelOverride", model.map_or(Value::Null, Value::String));
                        entry.set("providerOverride", Value::Null);
                        Ok::<(), std::convert::Infallible>(())
                    })
                    .await
                    .map_err(|error| error.to_string())?;
                let Ok(entry) = changed;
                let row = crate::agent::row(&active.setup.agent_id, session_key, &entry);
                self.agent.session_changed(row, "patch").await;
            }
            Ok(status::card(&self.agent, &active, session_key).await)
        })
    }
}
