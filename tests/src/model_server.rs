//! A double of the model vendors' HTTP servers: OpenAI chat completions and responses, Anthropic messages, Gemini,
//! Ollama chat, and their model lists. Replies come from a script (first rule that matches the request), with faults on demand, and every
//! request is kept in a book that tests can query. It binds to a loopback port of its own and needs no network.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test double that cannot do its work fails its test"
)]

mod gemini;
mod responses;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Requests of more than this are refused: prompts with pictures stay below.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the double answers: the first rule that matches, else `otherwise`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Script {
    pub rules: Vec<Rule>,
    pub otherwise: Reply,
    /// Ids for the model lists.
    pub models: Vec<String>,
    /// Key that requests must carry; any when absent.
    pub key: Option<String>,
    /// The book keeps no bodies and no headers: for long runs.
    pub forget: bool,
}

/// A reply and the requests that get it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The last user message holds this text.
    pub contains: Option<String>,
    /// The request is for this model.
    pub model: Option<String>,
    /// True: the last message is a tool result; false: it is not.
    pub after_tool: Option<bool>,
    /// How many requests this rule serves; then it is skipped.
    pub times: Option<u32>,
    pub reply: Reply,
}

/// One answer. `{echo}` in the text stands for the last user message, `{tool}` for the last tool result, `{n}` for
/// the request's number, `{marks}` for all words `mark-…` of the last user message that has some, `{mark}` for the first of
/// them. The last three are replaced in the arguments of calls too.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Reply {
    pub text: String,
    pub thinking: String,
    pub tool_calls: Vec<Call>,
    /// Vendor-neutral: `stop`, `length`, `tool`, `filter`; guessed when absent.
    pub stop: Option<String>,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cached_tokens: u64,
    /// Characters of text per event.
    pub chunk_chars: usize,
    /// Pause before each event.
    pub delay_ms: u64,
    /// Cuts the stream's bytes into pieces of this size, anywhere, also inside a character.
    pub piece_bytes: Option<usize>,
    pub fault: Option<Fault>,
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            text: "You said: {echo}".to_owned(),
            thinking: String::new(),
            tool_calls: Vec::new(),
            stop: None,
            input_tokens: 11,
            output_tokens: 7,
            cached_tokens: 0,
            chunk_chars: 8,
            delay_ms: 0,
            piece_bytes: None,
            fault: None,
        }
    }
}

impl Reply {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    pub fn call(name: &str, arguments: Value) -> Self {
        let call = Call { name: name.to_owned(), arguments, id: None };
        Self { text: String::new(), tool_calls: vec![call], ..Self::default() }
    }

    pub fn fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    #[must_use]
    pub fn with_fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Call {
    pub name: String,
    pub arguments: Value,
    #[serde(default)]
    pub id: Option<String>,
}

/// What goes wrong. `after` counts the stream's events that are sent before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// 429; `retryAfter` goes into the header as it is (seconds or an HTTP date).
    RateLimit {
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// 529 in Anthropic's words.
    Overloaded,
    /// 401 in the vendor's words.
    Auth,
    /// 400: the prompt is too long, in the vendor's words.
    Overflow,
    /// 404: no such model, in the vendor's words.
    NoModel,
    /// Any status with any body.
    Status { status: u16, body: String },
    /// The body ends properly, but too early.
    Truncate { after: usize },
    /// The connection breaks.
    Disconnect { after: usize },
    /// Nothing more comes; the connection stays open.
    Stall { after: usize },
    /// An event that is not JSON.
    Malformed { after: usize },
    /// An error object inside the stream.
    ErrorEvent { after: usize },
    /// The headers come late.
    SlowHeaders { ms: u64 },
    /// The connection is closed without a byte.
    HangUp,
}

/// One request as it came.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// From 1.
    pub n: usize,
    /// Since the server started.
    pub at: Duration,
    pub method: String,
    pub path: String,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    /// JSON, or a string when it was none.
    pub body: Value,
    pub state: State,
}

/// How far the answer got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    Answering,
    /// Everything that the script wanted to send was sent.
    Answered,
    /// The client went away before.
    LeftByClient,
}

struct Shared {
    script: Script,
    served: Mutex<Vec<u32>>,
    /// Faults for the next requests, whatever the script says.
    armed: Mutex<Vec<Fault>>,
    /// Replies that were thought of after the start; each serves once.
    added: Mutex<Vec<(String, Reply)>>,
    started: Instant,
    book: watch::Sender<Vec<Entry>>,
}

/// The running double; it ends when dropped.
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// Starts on a free loopback port.
    pub async fn start(script: Script) -> Self {
        Self::bind(script, 0).await.expect("a free loopback port")
    }

    pub async fn bind(script: Script, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            served: Mutex::new(vec![0; script.rules.len()]),
            armed: Mutex::new(Vec::new()),
            added: Mutex::new(Vec::new()),
            script,
            started: Instant::now(),
            book: watch::Sender::new(Vec::new()),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, task })
    }

    /// The next `times` answers go wrong in this way.
    pub fn fault(&self, times: usize, fault: &Fault) {
        self.shared.armed.lock().unwrap().extend(std::iter::repeat_n(fault.clone(), times));
    }

    /// The next message that holds this text gets this reply, once, before all rules.
    pub fn say_next(&self, contains: &str, reply: Reply) {
        self.shared.added.lock().unwrap().push((contains.to_owned(), reply));
    }

    /// No more faults than the script's.
    pub fn heal(&self) {
        self.shared.armed.lock().unwrap().clear();
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Base URL for this api kind.
    pub fn base_url(&self, kind: &str) -> String {
        if kind.starts_with("openai-") { self.openai_url() } else { self.url() }
    }

    /// `http://127.0.0.1:<port>`: base URL of the Anthropic, Google and Ollama kinds.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Base URL of the OpenAI kinds.
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.url())
    }

    /// All requests so far.
    pub fn book(&self) -> Vec<Entry> {
        self.shared.book.borrow().clone()
    }

    /// Requests that were answered to the end.
    pub fn answered(&self) -> usize {
        self.shared.book.borrow().iter().filter(|entry| entry.state == State::Answered).count()
    }

    /// Waits until the book fulfils the condition; panics after ten seconds.
    pub async fn wait_for(&self, what: &str, mut holds: impl FnMut(&[Entry]) -> bool) -> Vec<Entry> {
        let mut book = self.shared.book.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(10), book.wait_for(|b| holds(b))).await;
        match waited {
            Ok(Ok(entries)) => entries.clone(),
            _ => panic!("the model server never saw {what}; its book: {:#?}", self.book()),
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| serve(shared.clone(), request));
            // A broken connection is a result of some scripts.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Vendor whose words are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    OpenAi,
    Responses,
    Anthropic,
    Google,
    Ollama,
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let bytes = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let body: Value = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
    let path = parts.uri.path().to_owned();
    let text = |v: &hyper::header::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let n = note(&shared, parts.method.as_str(), &path, headers.clone(), body.clone());
    let listed = listing(&shared, &path);
    let dialect = match path.as_str() {
        _ if listed.is_some() => return finished(&shared, n, whole(200, &listed.unwrap_or_default())),
        p if p.ends_with("/chat/completions") => Dialect::OpenAi,
        p if p.ends_with("/responses") => Dialect::Responses,
        p if p.ends_with("/v1/messages") => Dialect::Anthropic,
        p if gemini::model_of(p).is_some() => Dialect::Google,
        p if p.ends_with("/api/chat") => Dialect::Ollama,
        _ => {
            return finished(
                &shared,
                n,
                whole(404, &json!({ "error": { "message": format!("no route {path}") } })),
            );
        }
    };
    let wanted = shared.script.key.as_deref();
    let given = [
        headers.get("x-api-key").cloned(),
        headers.get("x-goog-api-key").cloned(),
        headers.get("authorization").map(|a| a.replacen("Bearer ", "", 1)),
    ];
    let seen = match dialect {
        Dialect::Responses => responses::view(&body),
        Dialect::Google => gemini::view(&body, gemini::model_of(&path).unwrap_or_default().0),
        _ => body.clone(),
    };
    let reply = if wanted.is_some() && !given.iter().flatten().any(|k| Some(k.as_str()) == wanted) {
        Reply::fault(Fault::Auth)
    } else {
        filled(pick(&shared, &seen), &seen, n)
    };
    let armed = shared.armed.lock().unwrap().pop();
    let reply = Reply { fault: armed.or(reply.fault.clone()), ..reply };
    let streaming = match dialect {
        Dialect::Google => gemini::model_of(&path).is_some_and(|(_, streaming)| streaming),
        _ => body["stream"].as_bool().unwrap_or(dialect == Dialect::Ollama),
    };
    let model = seen["model"].as_str().unwrap_or("double").to_owned();
    answer(shared, dialect, reply, (&model, streaming), n).await
}

fn note(shared: &Shared, method: &str, path: &str, headers: BTreeMap<String, String>, body: Value) -> usize {
    let at = shared.started.elapsed();
    let mut n = 0;
    shared.book.send_modify(|book| {
        n = book.len() + 1;
        let (method, path) = (method.to_owned(), path.to_owned());
        let (headers, body) = if shared.script.forget { Default::default() } else { (headers, body) };
        book.push(Entry { n, at, method, path, headers, body, state: State::Answering });
    });
    n
}

fn set_state(shared: &Shared, n: usize, state: State) {
    shared.book.send_modify(|book| book[n - 1].state = state);
}

fn finished(shared: &Shared, n: usize, response: Response<Body>) -> Result<Response<Body>, io::Error> {
    set_state(shared, n, State::Answered);
    Ok(response)
}

fn listing(shared: &Shared, path: &str) -> Option<Value> {
    let models = &shared.script.models;
    if path.ends_with("/api/tags") {
        let rows = models
            .iter()
            .map(|m| json!({ "name": m, "model": m, "size": 1, "details": { "family": "double" } }));
        return Some(json!({ "models": rows.collect::<Vec<_>>() }));
    }
    if path.ends_with("/models") {
        let rows =
            models.iter().map(|m| json!({ "id": m, "object": "model", "created": 0, "owned_by": "double" }));
        return Some(json!({ "object": "list", "data": rows.collect::<Vec<_>>() }));
    }
    None
}

fn pick(shared: &Shared, body: &Value) -> Reply {
    let said = last_text(body, "user");
    let after_tool = last_is_tool_result(body);
    let mut added = shared.added.lock().unwrap();
    if let (false, Some(at)) = (after_tool, added.iter().position(|(text, _)| said.contains(text))) {
        return added.remove(at).1;
    }
    let mut served = shared.served.lock().unwrap();
    for (rule, count) in shared.script.rules.iter().zip(served.iter_mut()) {
        let fits = rule.contains.as_deref().is_none_or(|t| said.contains(t))
            && rule.model.as_deref().is_none_or(|m| body["model"] == m)
            && rule.after_tool.is_none_or(|a| a == after_tool)
            && rule.times.is_none_or(|t| *count < t);
        if fits {
            *count += 1;
            return rule.reply.clone();
        }
    }
    shared.script.otherwise.clone()
}

fn filled(mut reply: Reply, body: &Value, n: usize) -> Reply {
    reply.text = reply
        .text
        .replace("{echo}", &last_text(body, "user"))
        .replace("{tool}", &last_text(body, "tool"))
        .replace("{n}", &n.to_string());
    let marks = marks(body);
    let first = marks.first().cloned().unwrap_or_default();
    let fill = |text: &str| {
        let text = text.replace("{marks}", &marks.join(" ")).replace("{mark}", &first);
        text.replace("{n}", &n.to_string())
    };
    reply.text = fill(&reply.text);
    for call in &mut reply.tool_calls {
        for value in call.arguments.as_object_mut().into_iter().flat_map(|map| map.values_mut()) {
            if let Value::String(text) = value {
                *text = fill(text);
            }
        }
    }
    reply
}

/// Words that begin with `mark-` of the last user message that has any, each once, in order.
fn marks(body: &Value) -> Vec<String> {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let users = messages.iter().rev().filter(|message| message["role"] == "user");
    let found = users.map(|message| marks_in(&text_of(&message["content"], false)));
    found.into_iter().find(|marks| !marks.is_empty()).unwrap_or_default()
}

/// Words `mark-…` of a text, each once, in order.
pub fn marks_in(text: &str) -> Vec<String> {
    let mut marks: Vec<String> = Vec::new();
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        if word.starts_with("mark-") && !marks.iter().any(|known| known == word) {
            marks.push(word.to_owned());
        }
    }
    marks
}

/// Text of a message's content in any vendor's form; tool results of Anthropic are not the user's words.
fn text_of(content: &Value, tool: bool) -> String {
    match content {
        Value::String(text) if !tool => text.clone(),
        Value::Array(parts) => {
            let wanted = if tool { "tool_result" } else { "text" };
            let text = |p: &Value| {
                if tool { text_of(&p["content"], false) } else { p["text"].as_str().unwrap_or("").to_owned() }
            };
            parts.iter().filter(|p| p["type"] == wanted).map(text).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

fn last_text(body: &Value, role: &str) -> String {
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let tool = role == "tool";
    messages
        .iter()
        .rev()
        .find_map(|m| {
            let text = match m["role"].as_str() {
                Some("tool") if tool => text_of(&m["content"], false),
                Some("user") => text_of(&m["content"], tool),
                _ => String::new(),
            };
            (!text.is_empty()).then_some(text)
        })
        .unwrap_or_default()
}

fn last_is_tool_result(body: &Value) -> bool {
    let Some(last) = body["messages"].as_array().and_then(|m| m.last()) else { return false };
    last["role"] == "tool"
        || last["content"].as_array().is_some_and(|c| c.iter().any(|p| p["type"] == "tool_result"))
}

async fn answer(
    shared: Arc<Shared>,
    dialect: Dialect,
    reply: Reply,
    (model, streaming): (&str, bool),
    n: usize,
) -> Result<Response<Body>, io::Error> {
    match &reply.fault {
        Some(Fault::HangUp) => {
            set_state(&shared, n, State::Answered);
            return Err(io::Error::other("hang up"));
        }
        Some(Fault::SlowHeaders { ms }) => {
            let mut left = LeftGuard { shared: shared.clone(), n, armed: true };
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            left.armed = false;
        }
        Some(fault) => {
            if let Some(refusal) = refusal(dialect, fault, model) {
                return finished(&shared, n, refusal);
            }
        }
        None => {}
    }
    if !streaming {
        return finished(&shared, n, whole(200, &document(dialect, &reply, model, n)));
    }
    let events = match dialect {
        Dialect::OpenAi => openai_events(&reply, model, n),
        Dialect::Responses => responses::events(&reply, model, n),
        Dialect::Anthropic => anthropic_events(&reply, model, n),
        Dialect::Google => gemini::events(&reply, model, n),
        Dialect::Ollama => ollama_events(&reply, model),
    };
    let kind = if dialect == Dialect::Ollama { "application/x-ndjson" } else { "text/event-stream" };
    let steps = steps(dialect, &reply, events);
    let body = StreamBody::new(play(shared, n, steps)).boxed_unsync();
    Response::builder().header("content-type", kind).body(body).map_err(io::Error::other)
}

fn whole(status: u16, value: &Value) -> Response<Body> {
    respond(status, "application/json", value.to_string(), None)
}

fn respond(status: u16, kind: &str, body: String, retry_after: Option<&str>) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(body))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", kind.parse().unwrap());
    if let Some(after) = retry_after {
        response.headers_mut().insert("retry-after", after.parse().unwrap());
    }
    response
}

/// The vendors' own words for a refusal.
fn refusal(dialect: Dialect, fault: &Fault, model: &str) -> Option<Response<Body>> {
    if let Fault::Status { status, body } = fault {
        let kind = if body.starts_with('{') { "application/json" } else { "text/html" };
        return Some(respond(*status, kind, body.clone(), None));
    }
    let after = match fault {
        Fault::RateLimit { retry_after } => retry_after.as_deref(),
        _ => None,
    };
    let (status, kind, message) = match dialect {
        Dialect::Google => google_words(fault, model)?,
        _ => words(dialect, fault, model)?,
    };
    let body = match dialect {
        Dialect::OpenAi | Dialect::Responses => {
            json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
        }
        Dialect::Anthropic => json!({ "type": "error", "error": { "type": kind, "message": message } }),
        Dialect::Google => gemini::error(status, kind, &message, after),
        Dialect::Ollama => json!({ "error": message }),
    };
    let after = after.filter(|_| dialect != Dialect::Google);
    Some(respond(status, "application/json", body.to_string(), after))
}

type Words = (u16, &'static str, String);

fn words(dialect: Dialect, fault: &Fault, model: &str) -> Option<Words> {
    Some(match (dialect, fault) {
        (_, Fault::RateLimit { .. }) => {
            (429, "rate_limit_error", "Rate limit reached for requests".to_owned())
        }
        (_, Fault::Overloaded) => (529, "overloaded_error", "Overloaded".to_owned()),
        (Dialect::Anthropic, Fault::Auth) => (401, "authentication_error", "invalid x-api-key".to_owned()),
        (_, Fault::Auth) => {
            (401, "invalid_request_error", "Missing bearer authentication in header".to_owned())
        }
        (Dialect::Anthropic, Fault::Overflow) => {
            (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum".to_owned())
        }
        (_, Fault::Overflow) => (
            400,
            "invalid_request_error",
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 210000 tokens."
                .to_owned(),
        ),
        (Dialect::Anthropic, Fault::NoModel) => (404, "not_found_error", format!("model: {model}")),
        (Dialect::Ollama, Fault::NoModel) => (404, "", format!("model '{model}' not found")),
        (_, Fault::NoModel) => (
            404,
            "invalid_request_error",
            format!("The model `{model}` does not exist or you do not have access to it."),
        ),
        _ => return None,
    })
}

fn google_words(fault: &Fault, model: &str) -> Option<Words> {
    Some(match fault {
        Fault::RateLimit { .. } => {
            (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.".to_owned())
        }
        Fault::Overloaded => {
            (503, "UNAVAILABLE", "The model is overloaded. Please try again later.".to_owned())
        }
        Fault::Auth => {
            (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.".to_owned())
        }
        Fault::Overflow => (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
                .to_owned(),
        ),
        Fault::NoModel => (404, "NOT_FOUND", format!("models/{model} is not found for API version v1beta")),
        _ => return None,
    })
}

/// One thing that the body does.
enum Step {
    Pause(Duration),
    Send(Bytes),
    Break,
    Stall,
}

fn steps(dialect: Dialect, reply: &Reply, mut events: Vec<String>) -> Vec<Step> {
    let mut end = None;
    match reply.fault {
        Some(Fault::Truncate { after }) => events.truncate(after),
        Some(Fault::Disconnect { after }) => {
            events.truncate(after);
            end = Some(Step::Break);
        }
        Some(Fault::Stall { after }) => {
            events.truncate(after);
            end = Some(Step::Stall);
        }
        Some(Fault::Malformed { after }) => {
            let bad = if dialect == Dialect::Ollama {
                "{\"message\": oops\n"
            } else {
                "data: {\"choices\": oops\n\n"
            };
            events.insert(after.min(events.len()), bad.to_owned());
        }
        Some(Fault::ErrorEvent { after }) => {
            events.truncate(after);
            events.push(match dialect {
                Dialect::OpenAi => sse("", &json!({ "error": { "code": 502, "message": "Provider returned error" } })),
                Dialect::Responses => sse("error", &json!({ "type": "error", "sequence_number": after, "code": "server_error", "message": "The server had an error", "param": null })),
                Dialect::Google => sse("", &gemini::error(500, "INTERNAL", "An internal error has occurred.", None)),
                Dialect::Anthropic => sse("error", &json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } })),
                Dialect::Ollama => format!("{}\n", json!({ "error": "an error was encountered while running the model" })),
            });
        }
        _ => {}
    }
    let pause = (reply.delay_ms > 0).then(|| Duration::from_millis(reply.delay_ms));
    let pieces: Vec<Bytes> = match reply.piece_bytes {
        Some(size) => events.concat().into_bytes().chunks(size.max(1)).map(Bytes::copy_from_slice).collect(),
        None => events.into_iter().map(Bytes::from).collect(),
    };
    let mut steps = Vec::new();
    for piece in pieces {
        steps.extend(pause.map(Step::Pause));
        steps.push(Step::Send(piece));
    }
    steps.extend(end);
    steps
}

/// Tells the book when the client leaves: the answer is dropped before its end.
struct LeftGuard {
    shared: Arc<Shared>,
    n: usize,
    armed: bool,
}

impl Drop for LeftGuard {
    fn drop(&mut self) {
        if self.armed {
            set_state(&self.shared, self.n, State::LeftByClient);
        }
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, io::Error>> + Send>>;

fn play(shared: Arc<Shared>, n: usize, steps: Vec<Step>) -> Pieces {
    let guard = LeftGuard { shared, n, armed: true };
    let played = stream::unfold((steps.into_iter(), guard), |(mut steps, mut guard)| async move {
        loop {
            match steps.next() {
                Some(Step::Pause(wait)) => tokio::time::sleep(wait).await,
                Some(Step::Send(piece)) => return Some((Ok(Frame::data(piece)), (steps, guard))),
                Some(Step::Stall) => std::future::pending().await,
                Some(Step::Break) => {
                    guard.armed = false;
                    set_state(&guard.shared, guard.n, State::Answered);
                    // Whatever was sent has to leave before the connection breaks.
                    tokio::task::yield_now().await;
                    return Some((Err(io::Error::other("scripted disconnect")), (steps, guard)));
                }
                None => {
                    guard.armed = false;
                    set_state(&guard.shared, guard.n, State::Answered);
                    return None;
                }
            }
        }
    });
    played.boxed()
}

fn sse(event: &str, data: &Value) -> String {
    if event.is_empty() { format!("data: {data}\n\n") } else { format!("event: {event}\ndata: {data}\n\n") }
}

fn pieces(text: &str, chars: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    all.chunks(chars.max(1)).map(|c| c.iter().collect()).collect()
}

fn call_id(call: &Call, n: usize, index: usize) -> String {
    call.id.clone().unwrap_or_else(|| format!("call_{n}_{index}"))
}

fn stop_word(dialect: Dialect, reply: &Reply) -> &'static str {
    let tools = !reply.tool_calls.is_empty();
    match (dialect, reply.stop.as_deref()) {
        (Dialect::OpenAi, Some("length")) | (Dialect::Ollama, Some("length")) => "length",
        (Dialect::OpenAi, Some("filter")) => "content_filter",
        (Dialect::OpenAi, Some("tool")) => "tool_calls",
        (Dialect::OpenAi, None) if tools => "tool_calls",
        (Dialect::Anthropic, Some("length")) => "max_tokens",
        (Dialect::Anthropic, Some("filter")) => "refusal",
        (Dialect::Anthropic, Some("tool")) => "tool_use",
        (Dialect::Anthropic, None) if tools => "tool_use",
        (Dialect::Anthropic, _) => "end_turn",
        _ => "stop",
    }
}

fn openai_usage(reply: &Reply) -> Value {
    json!({
        "prompt_tokens": reply.input_tokens + reply.cached_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.cached_tokens + reply.output_tokens,
        "prompt_tokens_details": { "cached_tokens": reply.cached_tokens },
    })
}

fn openai_events(reply: &Reply, model: &str, n: usize) -> Vec<String> {
    let chunk = |delta: Value, finish: Value| {
        sse(
            "",
            &json!({
                "id": format!("chatcmpl-{n}"), "object": "chat.completion.chunk", "created": 0, "model": model,
                "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }],
            }),
        )
    };
    let mut out = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    for piece in pieces(&reply.thinking, reply.chunk_chars) {
        out.push(chunk(json!({ "reasoning_content": piece }), Value::Null));
    }
    for piece in pieces(&reply.text, reply.chunk_chars) {
        out.push(chunk(json!({ "content": piece }), Value::Null));
    }
    for (index, call) in reply.tool_calls.iter().enumerate() {
        let id = call_id(call, n, index);
        let head = json!({ "index": index, "id": id, "type": "function", "function": { "name": call.name, "arguments": "" } });
        out.push(chunk(json!({ "tool_calls": [head] }), Value::Null));
        for piece in pieces(&call.arguments.to_string(), reply.chunk_chars) {
            let part = json!({ "index": index, "function": { "arguments": piece } });
            out.push(chunk(json!({ "tool_calls": [part] }), Value::Null));
        }
    }
    out.push(chunk(json!({}), json!(stop_word(Dialect::OpenAi, reply))));
    out.push(sse("", &json!({ "id": format!("chatcmpl-{n}"), "object": "chat.completion.chunk", "created": 0, "model": model, "choices": [], "usage": openai_usage(reply) })));
    out.push("data: [DONE]\n\n".to_owned());
    out
}

fn anthropic_usage(reply: &Reply) -> Value {
    json!({ "input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens, "cache_read_input_tokens": reply.cached_tokens, "cache_creation_input_tokens": 0 })
}

fn anthropic_events(reply: &Reply, model: &str, n: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut say = |kind: &str, mut data: Value| {
        data["type"] = json!(kind);
        out.push(sse(kind, &data));
    };
    let mut usage = anthropic_usage(reply);
    usage["output_tokens"] = json!(1);
    say(
        "message_start",
        json!({ "message": {
        "id": format!("msg_{n}"), "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    } }),
    );
    say("ping", json!({}));
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        say("content_block_start", json!({ "index": index, "content_block": start }));
        for delta in deltas {
            say("content_block_delta", json!({ "index": index, "delta": delta }));
        }
        say("content_block_stop", json!({ "index": index }));
        index += 1;
    };
    if !reply.thinking.is_empty() {
        let thoughts = pieces(&reply.thinking, reply.chunk_chars);
        let mut deltas: Vec<Value> =
            thoughts.iter().map(|p| json!({ "type": "thinking_delta", "thinking": p })).collect();
        deltas.push(json!({ "type": "signature_delta", "signature": "c2lnbmF0dXJl" }));
        block(json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas);
    }
    if !reply.text.is_empty() {
        let deltas = pieces(&reply.text, reply.chunk_chars)
            .iter()
            .map(|p| json!({ "type": "text_delta", "text": p }))
            .collect();
        block(json!({ "type": "text", "text": "" }), deltas);
    }
    for (at, call) in reply.tool_calls.iter().enumerate() {
        let parts = pieces(&call.arguments.to_string(), reply.chunk_chars);
        let deltas = parts.iter().map(|p| json!({ "type": "input_json_delta", "partial_json": p })).collect();
        block(
            json!({ "type": "tool_use", "id": call_id(call, n, at), "name": call.name, "input": {} }),
            deltas,
        );
    }
    say(
        "message_delta",
        json!({
            "delta": { "stop_reason": stop_word(Dialect::Anthropic, reply), "stop_sequence": null },
            "usage": { "output_tokens": reply.output_tokens },
        }),
    );
    say("message_stop", json!({}));
    out
}

fn ollama_events(reply: &Reply, model: &str) -> Vec<String> {
    let line = |message: Value| {
        format!(
            "{}\n",
            json!({ "model": model, "created_at": "2025-01-01T00:00:00Z", "message": message, "done": false })
        )
    };
    let mut out = Vec::new();
    for piece in pieces(&reply.thinking, reply.chunk_chars) {
        out.push(line(json!({ "role": "assistant", "content": "", "thinking": piece })));
    }
    for piece in pieces(&reply.text, reply.chunk_chars) {
        out.push(line(json!({ "role": "assistant", "content": piece })));
    }
    if !reply.tool_calls.is_empty() {
        out.push(line(json!({ "role": "assistant", "content": "", "tool_calls": ollama_calls(reply) })));
    }
    out.push(format!("{}\n", ollama_end(reply, model, json!({ "role": "assistant", "content": "" }))));
    out
}

fn ollama_calls(reply: &Reply) -> Vec<Value> {
    reply
        .tool_calls
        .iter()
        .map(|c| json!({ "function": { "name": c.name, "arguments": c.arguments } }))
        .collect()
}

fn ollama_end(reply: &Reply, model: &str, message: Value) -> Value {
    json!({
        "model": model, "created_at": "2025-01-01T00:00:00Z", "message": message, "done": true,
        "done_reason": stop_word(Dialect::Ollama, reply), "total_duration": 1, "load_duration": 1,
        "prompt_eval_count": reply.input_tokens, "prompt_eval_duration": 1,
        "eval_count": reply.output_tokens, "eval_duration": 1,
    })
}

/// The answer to a request that does not stream.
fn document(dialect: Dialect, reply: &Reply, model: &str, n: usize) -> Value {
    let calls = reply.tool_calls.iter().enumerate();
    match dialect {
        Dialect::OpenAi => {
            let mut message = json!({ "role": "assistant", "content": reply.text });
            if !reply.thinking.is_empty() {
                message["reasoning_content"] = json!(reply.thinking);
            }
            if !reply.tool_calls.is_empty() {
                let calls = calls.map(|(i, c)| json!({ "id": call_id(c, n, i), "type": "function", "function": { "name": c.name, "arguments": c.arguments.to_string() } }));
                message["tool_calls"] = calls.collect();
            }
            json!({
                "id": format!("chatcmpl-{n}"), "object": "chat.completion", "created": 0, "model": model,
                "choices": [{ "index": 0, "message": message, "finish_reason": stop_word(dialect, reply) }],
                "usage": openai_usage(reply),
            })
        }
        Dialect::Anthropic => {
            let mut content = Vec::new();
            if !reply.text.is_empty() {
                content.push(json!({ "type": "text", "text": reply.text }));
            }
            content.extend(calls.map(|(i, c)| json!({ "type": "tool_use", "id": call_id(c, n, i), "name": c.name, "input": c.arguments })));
            json!({
                "id": format!("msg_{n}"), "type": "message", "role": "assistant", "model": model, "content": content,
                "stop_reason": stop_word(dialect, reply), "stop_sequence": null, "usage": anthropic_usage(reply),
            })
        }
        Dialect::Responses => responses::document(reply, model, n),
        Dialect::Google => gemini::document(reply, model, n),
        Dialect::Ollama => {
            let mut message = json!({ "role": "assistant", "content": reply.text });
            if !reply.tool_calls.is_empty() {
                message["tool_calls"] = json!(ollama_calls(reply));
            }
            ollama_end(reply, model, message)
        }
    }
}
