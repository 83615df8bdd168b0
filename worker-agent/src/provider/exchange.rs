//! One request and its streamed answer, for every api kind that speaks HTTP: the driver between `http` (bytes),
//! `sse` (frames) and a kind's decoder (events). Sends once, never repeats.

use std::collections::{BTreeMap, VecDeque};

use futures_util::stream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::failure::{self, ProviderError, Reason};
use super::http::{self, Answer, Outgoing};
use super::sse::{Frame, Framer, Framing};
use super::types::ProviderEvent;
use super::{Call, EventStream};

/// How long the rest of a body may take after its end mark. It is read so that the connection can be used again,
/// and is there already in nearly every case.
const REST_MS_MAX: u64 = 50;

/// Why a frame ends the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub reason: Reason,
    pub status: Option<u16>,
    pub detail: String,
}

impl Fault {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, status: None, detail: detail.into() }
    }

    /// The fault in a stream's error object.
    pub fn said(error: &Value) -> Self {
        let words = failure::vendor_words_of(error);
        Self {
            reason: failure::classify(words.status, &words.all),
            status: words.status,
            detail: words.message,
        }
    }
}

/// Frames of one answer → events. One value per request.
pub trait Decoder: Send + Sync {
    /// Takes one frame. Events that it completes are appended to `out`.
    fn frame(&mut self, frame: &Frame, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault>;

    /// Whether the vendor's end mark was seen: nothing more will come.
    fn ended(&self) -> bool;

    /// The body is over or the end mark was seen: the last events, `Done` included. A `Truncated` fault when the
    /// answer is not complete.
    fn finish(&mut self, out: &mut VecDeque<ProviderEvent>) -> Result<(), Fault>;
}

/// What a kind wants to send.
pub struct Plan {
    /// Absolute.
    pub url: String,
    /// Lower-case names. Those of the config and of the request win over these.
    pub headers: BTreeMap<String, String>,
    pub body: Value,
    pub framing: Framing,
    pub decoder: Box<dyn Decoder>,
}

struct Exchange {
    call: Call,
    plan: Plan,
    cancel: CancellationToken,
    answer: Option<(Answer, Framer)>,
    events: VecDeque<ProviderEvent>,
    /// Comes after the events that were decoded before it.
    failed: Option<ProviderError>,
    over: bool,
}

/// Streams the call's events. The connection is closed when the stream is dropped or cancelled.
pub fn run(call: Call, plan: Plan, cancel: CancellationToken) -> EventStream {
    let (answer, events, failed) = (None, VecDeque::new(), None);
    let exchange = Exchange { call, plan, cancel, answer, events, failed, over: false };
    Box::pin(stream::unfold(exchange, |mut exchange| async move {
        let event = exchange.next().await?;
        Some((event, exchange))
    }))
}

impl Exchange {
    async fn next(&mut self) -> Option<Result<ProviderEvent, ProviderError>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            if self.over {
                return None;
            }
            let cancel = self.cancel.clone();
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(self.error(Fault::new(Reason::Cancelled, ""))),
                step = self.step() => step,
            };
            if let Err(error) = step {
                // Closes the connection at once.
                self.answer = None;
                self.over = true;
                self.failed = Some(error);
            }
        }
    }

    /// Sends the request, or reads and decodes one piece of the answer.
    async fn step(&mut self) -> Result<(), ProviderError> {
        let Some((answer, framer)) = self.answer.as_mut() else {
            let answer = self.send().await?;
            if answer.content_type().starts_with("text/html") {
                let place = http::origin(&self.plan.url);
                let detail = format!(
                    "{place} answered with a web page: models.providers.<id>.baseUrl is not an API's"
                );
                return Err(self.error(Fault::new(Reason::Format, detail)));
            }
            let json = answer.content_type().starts_with("application/json");
            let framing =
                if json && self.plan.framing == Framing::Events { Framing::Whole } else { self.plan.framing };
            self.answer = Some((answer, Framer::new(framing)));
            return Ok(());
        };
        let mut frames = Vec::new();
        let piece = answer.piece().await;
        let last = matches!(piece, Ok(None));
        let whole = framer.framing() == Framing::Whole;
        let framed = match &piece {
            Ok(Some(bytes)) => framer.push(bytes, &mut frames),
            Ok(None) => framer.end(&mut frames),
            Err((reason, detail)) => {
                let fault = Fault::new(*reason, detail.clone());
                return Err(self.error(fault));
            }
        };
        framed.map_err(|e| self.error(Fault::new(Reason::Malformed, e.to_string())))?;
        for frame in &frames {
            match self.plan.decoder.frame(frame, &mut self.events) {
                Ok(()) => {}
                // A last line that was cut off is a broken stream, not a broken format.
                Err(fault) if last && !whole && fault.reason == Reason::Malformed && frames.len() == 1 => {
                    break;
                }
                Err(fault) => return Err(self.error(fault)),
            }
            if self.plan.decoder.ended() {
                break;
            }
        }
        if last || self.plan.decoder.ended() {
            if !last {
                self.read_rest().await;
            }
            self.plan.decoder.finish(&mut self.events).map_err(|fault| self.error(fault))?;
            self.answer = None;
            self.over = true;
        }
        Ok(())
    }

    async fn read_rest(&mut self) {
        let Some((answer, _)) = self.answer.as_mut() else { return };
        let rest = async { while let Ok(Some(_)) = answer.piece().await {} };
        let limit = std::time::Duration::from_millis(REST_MS_MAX);
        // Not in time: the connection is closed instead of kept, which harms nobody.
        let _ = tokio::time::timeout(limit, rest).await;
    }

    async fn send(&self) -> Result<Answer, ProviderError> {
        let Call { endpoint, model, request, http } = &self.call;
        let mut headers = self.plan.headers.clone();
        for (name, value) in endpoint.headers.iter().chain(&request.headers) {
            headers.insert(name.to_lowercase(), value.clone());
        }
        let body = serde_json::to_vec(&self.plan.body)
            .map_err(|e| self.error(Fault::new(Reason::Format, format!("cannot write the request: {e}"))))?;
        let out = Outgoing {
            method: reqwest::Method::POST,
            url: self.plan.url.clone(),
            headers: headers.into_iter().collect(),
            body: Some(body),
            deadlines: endpoint.deadlines,
            model,
            secret: endpoint.key.as_ref().map(|k| k.expose()),
        };
        http.send(out).await
    }

    fn error(&self, fault: Fault) -> ProviderError {
        let model = &self.call.model;
        let secret = self.call.endpoint.key.as_ref().map(|k| k.expose());
        let detail = http::redacted(&fault.detail, secret);
        let mut error = ProviderError::new(fault.reason, &model.provider, &model.id, detail);
        error.status = fault.status;
        error
    }
}

/// Arguments of a tool call as an object: nothing is an empty object, text that is not a JSON object is kept under
/// `_raw`, so that the tool's own check can name what is wrong with it.
pub fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => Value::Object(map),
        // Some servers encode the object twice.
        Ok(Value::String(inner)) => match serde_json::from_str::<Value>(&inner) {
            Ok(Value::Object(map)) => Value::Object(map),
            _ => serde_json::json!({ "_raw": inner }),
        },
        _ => serde_json::json!({ "_raw": text }),
    }
}

/// A frame's JSON.
pub fn json_of(frame: &Frame) -> Result<Value, Fault> {
    serde_json::from_str(&frame.data).map_err(|e| {
        let start: String = frame.data.chars().take(80).collect();
        Fault::new(Reason::Malformed, format!("an event is not JSON ({e}): {start}"))
    })
}

/// The fault of an answer that stopped before its end mark.
pub fn truncated(mark: &str) -> Fault {
    Fault::new(Reason::Truncated, format!("the stream ended without {mark}"))
}
