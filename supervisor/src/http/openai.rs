//! `/v1/chat/completions` and `/v1/models`: a client of the OpenAI API talks to an agent (OpenAI API, chat
//! completions). Off unless `gateway.http.endpoints.chatCompletions.enabled`.
//!
//! A request becomes one run through the scheduler, like any other message. A bearer of the gateway's
//! secret is the operator.

pub mod prompt;
pub mod shape;

use super::Ask;
use super::body::{self, Answer, OutBody, error_json, json_body, wrong_method};
use crate::front::carry::lot::Stage;
use crate::front::fanout::now_ms;
use crate::front::limits::HTTP_CUT_AFTER;
use crate::gateway::Handles;
use crate::scheduler::{Refusal, RunOutcome, RunProgress, Submitted, TurnRequest};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use prompt::Chat;
use proto::wire::agent::{Origin, OriginKind, RunInput, RunOverrides, RunStatus};
use serde_json::{Value, json};
use shape::Completion;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Stream chunks waiting for the client; the run does not wait for them, only their making does.
const CHUNKS_MAX: usize = 32;
/// A comment keeps proxies from closing a stream whose run thinks.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Paths of this surface; `None` when the path is another one.
pub async fn respond(ask: &Ask, incoming: Incoming) -> Option<Answer> {
    let path = ask.path();
    let is_models = path == "/v1/models" || path.starts_with("/v1/models/");
    if !ask.gw.front.settings().chat_completions || !(is_models || path == "/v1/chat/completions") {
        return None;
    }
    if is_models {
        return Some(models(ask, path));
    }
    if ask.head.method != Method::POST {
        return Some(wrong_method("POST"));
    }
    Some(completions(ask, incoming).await.unwrap_or_else(|refused| refused))
}

fn bad(message: &str) -> Answer {
    error_json(StatusCode::BAD_REQUEST, message, "invalid_request_error")
}

fn models(ask: &Ask, path: &str) -> Answer {
    if !ask.reads() {
        return wrong_method("GET, HEAD");
    }
    if let Err(refused) = ask.authorise() {
        return refused;
    }
    let settings = ask.gw.front.settings();
    let ids = ["openclaw".to_owned(), "openclaw/default".to_owned()];
    let ids = ids.into_iter().chain(settings.agents.iter().map(|a| format!("openclaw/{}", a.id)));
    let row = |id: &str| json!({ "id": id, "object": "model", "created": 0, "owned_by": "openclaw", "permission": [] });
    let Some(wanted) = path.strip_prefix("/v1/models/") else {
        let data: Vec<Value> = ids.map(|id| row(&id)).collect();
        return json_body(StatusCode::OK, &json!({ "object": "list", "data": data }));
    };
    let wanted = super::control_ui::assets::decode(wanted).unwrap_or_default();
    match ids.into_iter().find(|id| *id == wanted) {
        Some(id) => json_body(StatusCode::OK, &row(&id)),
        None => bad("Invalid model id."),
    }
}

async fn completions(ask: &Ask, incoming: Incoming) -> Result<Answer, Answer> {
    ask.authorise()?;
    let body = body::read(incoming).await?;
    let value: Value = serde_json::from_slice(&body).map_err(|e| bad(&e.to_string()))?;
    let chat = Chat::read(&value).map_err(|e| bad(&e))?;
    let settings = ask.gw.front.settings();
    let agents: Vec<&str> = settings.agents.iter().map(|a| a.id.as_str()).collect();
    let header = ask.header("x-openclaw-agent-id").or(ask.header("x-openclaw-agent"));
    let agent_id =
        prompt::agent(header, &chat.model, &agents, &settings.default_agent).map_err(|e| bad(&e))?;
    let session_key =
        prompt::session_key(ask.header("x-openclaw-session-key"), &agent_id, chat.user.as_deref());
    let session_key = session_key.map_err(|e| bad(&e))?;
    let id = format!("chatcmpl_{}", uuid::Uuid::new_v4());
    let request = turn(ask, &chat, &id, agent_id, session_key.clone());
    let submitted = ask.gw.scheduler.submit(request).await.map_err(|refusal| refused(&refusal))?;
    let made =
        Completion { id, created: now_ms() / 1000, model: chat.model, include_usage: chat.include_usage };
    let run = Run { gw: ask.gw.clone(), session_key, run_id: submitted.run_id.clone(), ended: false };
    if chat.stream {
        return Ok(stream(made, run, submitted));
    }
    Ok(whole(&made, run, submitted).await)
}

fn turn(ask: &Ask, chat: &Chat, id: &str, agent_id: String, session_key: String) -> TurnRequest {
    let override_model = ask.header("x-openclaw-model").and_then(|m| m.split_once('/'));
    TurnRequest {
        method: "http",
        idempotency_key: id.to_owned(),
        agent_id,
        session_key,
        input: RunInput {
            text: chat.text.clone(),
            raw: chat.current.clone(),
            ts_ms: i64::try_from(now_ms()).unwrap_or(i64::MAX),
            authorised: true,
            ..RunInput::default()
        },
        overrides: RunOverrides {
            provider: override_model.map(|(provider, _)| provider.to_owned()),
            model: override_model.map(|(_, model)| model.to_owned()),
            extra_system_prompt: chat.system.clone(),
            temperature: chat.temperature,
            max_tokens: chat.max_tokens,
            ..RunOverrides::default()
        },
        origin: Origin {
            kind: OriginKind::Http,
            channel: "webchat".to_owned(),
            chat_type: Some("direct".to_owned()),
            owner: true,
            client: Some("http".to_owned()),
            ..Origin::default()
        },
        deliver_to: None,
        timeout_ms: None,
        lane: "main".to_owned(),
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let text = refusal.to_string();
    let mut answer = match refusal {
        Refusal::UnknownAgent(..) | Refusal::ForeignRun { .. } | Refusal::KeyReused(_) => return bad(&text),
        Refusal::Busy | Refusal::Draining | Refusal::Journal(_) => {
            error_json(StatusCode::SERVICE_UNAVAILABLE, &text, "api_error")
        }
    };
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
    answer
}

/// A run whose client may leave: then nobody wants its result, and it is aborted.
struct Run {
    gw: Handles,
    session_key: String,
    run_id: String,
    ended: bool,
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (gw, session_key, run_id) = (self.gw.clone(), self.session_key.clone(), self.run_id.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = gw.scheduler.abort(&session_key, Some(&run_id), "rpc").await {
                    tracing::debug!(%error, run = %run_id, "abort after the client left");
                }
            });
        }
    }
}

/// The gateway is restarted in place and the request has had its time. Its run goes on.
async fn cut_off(gw: &Handles) {
    gw.front.lot.reached(Stage::Finishing).await;
    tokio::time::sleep(HTTP_CUT_AFTER).await;
}

fn cut_off_text(run_id: &str) -> String {
    format!("the gateway restarts; the run {run_id} goes on and its reply will stand in the session")
}

async fn whole(made: &Completion, mut run: Run, mut submitted: Submitted) -> Answer {
    let ended = tokio::select! {
        ended = submitted.progress.wait_for(|p| p.outcome.is_some()) => ended,
        () = cut_off(&run.gw) => {
            run.ended = true;
            return error_json(StatusCode::SERVICE_UNAVAILABLE, &cut_off_text(&run.run_id), "api_error");
        }
    };
    let outcome = ended.ok().and_then(|progress| progress.outcome.clone());
    run.ended = true;
    match outcome {
        Some(outcome) if outcome.status == RunStatus::Ok => json_body(StatusCode::OK, &made.whole(&outcome)),
        Some(outcome) => error_json(StatusCode::BAD_REQUEST, &failure_text(&outcome), "api_error"),
        None => error_json(StatusCode::INTERNAL_SERVER_ERROR, "internal error", "api_error"),
    }
}

fn failure_text(outcome: &RunOutcome) -> String {
    match (&outcome.error, outcome.status) {
        (Some(error), _) => error.message.clone(),
        (None, RunStatus::Aborted) => "the run was aborted".to_owned(),
        (None, RunStatus::Timeout) => "the run timed out".to_owned(),
        (None, _) => "internal error".to_owned(),
    }
}

fn stream(made: Completion, run: Run, submitted: Submitted) -> Answer {
    let (chunks, mut source) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    tokio::spawn(feed(made, run, submitted.progress, chunks));
    let frames = futures_util::stream::poll_fn(move |cx| {
        source.poll_recv(cx).map(|chunk| chunk.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))))
    });
    let body: OutBody = StreamBody::new(frames).boxed_unsync();
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// Writes the stream; ends early, and with it the run, when the client is gone.
async fn feed(
    made: Completion,
    mut run: Run,
    mut progress: watch::Receiver<RunProgress>,
    chunks: mpsc::Sender<Bytes>,
) {
    let gw = run.gw.clone();
    let mut cut_off = std::pin::pin!(cut_off(&gw));
    let mut sent = String::new();
    if chunks.send(made.role()).await.is_err() {
        return;
    }
    loop {
        let RunProgress { text, outcome, .. } = progress.borrow_and_update().clone();
        if let Some(new) = shape::news(&sent, &text) {
            if chunks.send(made.content(&new)).await.is_err() {
                return;
            }
            sent = text.to_string();
        }
        if let Some(outcome) = outcome {
            run.ended = true;
            finish(&made, &outcome, &sent, &chunks).await;
            return;
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() {
                run.ended = true;
                let _gone = chunks.send(made.failure("internal error")).await;
                return;
            },
            () = chunks.closed() => return,
            () = &mut cut_off => {
                run.ended = true;
                let _gone = chunks.send(made.failure(&cut_off_text(&run.run_id))).await;
                return;
            }
            () = tokio::time::sleep(KEEP_ALIVE) => {
                if chunks.send(Bytes::from_static(b": keep-alive\n\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn finish(made: &Completion, outcome: &Arc<RunOutcome>, sent: &str, chunks: &mpsc::Sender<Bytes>) {
    let last = if outcome.status == RunStatus::Ok {
        // Nothing was streamed: a command, or a model without streaming.
        let rest = if sent.is_empty() { Some(shape::text_of(outcome)) } else { None };
        made.end(outcome, rest.as_deref())
    } else {
        made.failure(&failure_text(outcome))
    };
    // The client may be gone, the run is over either way.
    let _gone = chunks.send(last).await;
}

#[cfg(test)]
mod tests;
