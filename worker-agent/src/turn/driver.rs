//! Carries a run out: asks `state` for the next step, does it, writes its record, tells the clients. One call per run;
//! the session's transcript is this run's alone while it lasts.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use proto::wire::agent::{OutPart, RunError, RunFinal, RunInput, RunSpec, RunStatus};

use super::begin::{self, Begun, Opening};
use super::control::Control;
use super::events::Events;
use super::payload::FailedTool;
use super::prepare::Prepared;
use super::source::ModelFacts;
use super::state::{End, Step, Turn, synthetic_text};
use super::{call, chain, finish, tools, upkeep};
use crate::agent::{Active, Agent};
use crate::clock::now_ms;
use crate::command::directive;
use crate::provider::RetryBudget;
use crate::provider::select::ModelRef;
use crate::session::entry::Body;
use crate::session::message::{AssistantMessage, Message, ToolResultMessage, Usage};
use crate::session::sessions::{Durability, Log, SessionError};
use crate::session::store::SessionEntry;

/// One run under way.
pub struct Run {
    pub agent: Arc<Agent>,
    pub active: Active,
    pub spec: Arc<RunSpec>,
    pub control: Control,
    pub events: Events,
    pub log: Log,
    pub entry: SessionEntry,
    pub turn: Turn,
    pub waiting: VecDeque<RunInput>,
    pub budget: RetryBudget,
    pub prepared: Option<Prepared>,
    pub heard: Heard,
}

/// What the run has come to so far.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub answers: Vec<AssistantMessage>,
    pub last_id: Option<String>,
    pub usage: Usage,
    /// Of the last model call: what the context holds.
    pub last_usage: Usage,
    pub facts: Option<ModelFacts>,
    pub failed_tool: Option<FailedTool>,
    pub error: Option<RunError>,
    /// Models that had their requests and gave no answer: not asked again in this run.
    pub failed_models: Vec<ModelRef>,
    /// The model that clients were last told of, when it was not the selected one.
    pub announced: Option<ModelRef>,
    /// Compactions so far.
    pub compactions: u32,
    /// Long results were cut for the model.
    pub results_cut: bool,
    /// The conversation is too long even for a summary: it begins anew.
    pub beyond_help: bool,
    /// Number of the assistant message that is being streamed.
    pub message_no: u32,
    pub step: u32,
    pub started_ms: i64,
    pub notice: Option<String>,
}

/// Runs to the end. None: the process is shutting down and the run goes on in the next one.
pub async fn execute(agent: Arc<Agent>, spec: RunSpec, control: Control) -> Option<RunFinal> {
    if !agent.enter_run(&spec.session_key, control.stopper()).await {
        return Some(refused(&spec, "another run of this session is under way"));
    }
    let key = spec.session_key.clone();
    // What the run owned is dropped with it; its session and the other runs of this process go on.
    let result = AssertUnwindSafe(run(agent.clone(), spec.clone(), control)).catch_unwind().await;
    agent.leave(&key);
    match result {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            tracing::error!(session = %key, %error, "the run could not be recorded");
            Some(refused(&spec, &error.to_string()))
        }
        Err(_) => {
            tracing::error!(session = %key, "the run ended by a panic");
            Some(refused(&spec, "internal error in the agent; the log of the gateway has the place"))
        }
    }
}

async fn run(
    agent: Arc<Agent>,
    spec: RunSpec,
    mut control: Control,
) -> Result<Option<RunFinal>, SessionError> {
    let active = agent.active();
    control.limit(spec.active_ms_left);
    let permitted = |name: &str| active.models.permitted(name).ok().map(|model| model.to_string());
    let spec = Arc::new(directive::applied(spec, permitted));
    proto::runtime::failpoint::hit("ag.start.before_c3");
    let opening = match begin::begin(&agent, &active, &spec).await? {
        Begun::Turn(opening) => opening,
        Begun::Command(text) => return finish::command(&agent, &active, &spec, text).await.map(Some),
        Begun::Compact(words) => {
            return match upkeep::command(&agent, &active, &spec, &control, words).await? {
                Some(text) => finish::command(&agent, &active, &spec, text).await.map(Some),
                None => Ok(None),
            };
        }
        Begun::Replay(record, entry) => {
            return Ok(Some(finish::replay(&agent, &active, &spec, &record, &entry).await));
        }
    };
    let events = Events { up: agent.up.clone(), run_id: spec.run_id, attempt: spec.attempt };
    events.started(opening.log.session_id(), opening.started_ms).await;
    let mut run = Run::new(agent, active, spec, control, events, *opening);
    let end = run.steps().await?;
    if run.control.is_shutdown() && end != End::Answered {
        return Ok(None);
    }
    finish::finish(run, end).await.map(Some)
}

/// The models as this session uses them: with the auth profile that it is bound to.
fn with_profile(active: Active, entry: &SessionEntry) -> Active {
    let pinned = chain::pin(entry).and_then(|pin| active.models.with_pin(pin));
    let models = pinned.unwrap_or_else(|| active.models.clone());
    Active { models, ..active }
}

impl Run {
    fn new(
        agent: Arc<Agent>,
        active: Active,
        spec: Arc<RunSpec>,
        control: Control,
        events: Events,
        opening: Opening,
    ) -> Self {
        let mut heard = Heard { started_ms: opening.started_ms, notice: opening.notice, ..Heard::default() };
        for (id, answer) in opening.answers {
            heard.take(id, answer);
        }
        let mut turn = opening.turn;
        let waiting: VecDeque<RunInput> = opening.waiting.into();
        waiting.iter().for_each(|_| turn.steered());
        Self {
            agent,
            active: with_profile(active, &opening.entry),
            spec,
            control,
            events,
            log: opening.log,
            entry: opening.entry,
            turn,
            waiting,
            budget: RetryBudget::default(),
            prepared: None,
            heard,
        }
    }

    async fn steps(&mut self) -> Result<End, SessionError> {
        loop {
            self.look_outside();
            if self.control.is_shutdown() {
                return Ok(End::Failed);
            }
            match self.turn.next() {
                Step::CallModel => call::call_model(self).await?,
                Step::RunTool(asked) => tools::run(self, asked).await?,
                Step::AnswerTool(asked, why) => {
                    let text = synthetic_text(why);
                    let result = ToolResultMessage::text(&asked.id, &asked.name, text, true, now_ms());
                    self.commit(Message::ToolResult(result), Durability::Written).await?;
                    self.turn.tool_answered();
                }
                Step::TakeSteer => self.take_steer().await?,
                Step::Finish(end) => {
                    self.control.close();
                    // A message that came in the last moment still belongs to this run.
                    self.look_outside();
                    if self.turn.next() == Step::Finish(end) {
                        return Ok(end);
                    }
                }
            }
        }
    }

    fn look_outside(&mut self) {
        while let Some(input) = self.control.take() {
            self.waiting.push_back(input);
            self.turn.steered();
        }
        if let Some(stop) = self.control.stopped() {
            self.turn.stop(stop);
        }
    }

    pub async fn take_steer(&mut self) -> Result<(), SessionError> {
        if let Some(input) = self.waiting.pop_front() {
            let message = begin::steer_message(&input, &self.active.setup.zone);
            let record = begin::turn_start(&self.spec, self.heard.started_ms, std::slice::from_ref(&input));
            self.log.commit(vec![Body::Message { message }, record], Durability::Synced).await?;
        }
        self.turn.steer_taken();
        Ok(())
    }

    /// Writes one message; returns its id.
    pub async fn commit(&self, message: Message, durability: Durability) -> Result<String, SessionError> {
        let ids = self.log.commit(vec![Body::Message { message }], durability).await?;
        Ok(ids.into_iter().next().unwrap_or_default())
    }
}

impl Heard {
    /// Counts an assistant message that is on disk.
    pub fn take(&mut self, id: String, answer: AssistantMessage) {
        self.usage = self.usage.plus(answer.usage);
        if answer.usage.total_tokens > 0 {
            self.last_usage = answer.usage;
        }
        self.last_id = Some(id);
        self.answers.push(answer);
        self.message_no += 1;
    }
}

/// The end of a run that could not begin.
fn refused(spec: &RunSpec, why: &str) -> RunFinal {
    let now = now_ms();
    RunFinal {
        run_id: spec.run_id,
        attempt: spec.attempt,
        status: RunStatus::Error,
        error: Some(RunError { kind: "internal".into(), message: why.to_owned(), ..RunError::default() }),
        stop_reason: Some("error".into()),
        // Whoever wrote in a chat sees nothing but what is delivered: without this a message would end without a word.
        parts: vec![OutPart { part: REFUSED_PART, text: why.to_owned(), ..OutPart::default() }],
        meta_json: "{}".into(),
        started_ms: now,
        ended_ms: now,
        ..RunFinal::default()
    }
}

/// Behind everything that the run may have said, and where the supervisor's own note would stand.
const REFUSED_PART: u32 = 10_000;
