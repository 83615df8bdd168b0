use super::*;
use crate::front::accept::tests::Running;
use crate::scheduler::{Command, SubmitStatus};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn config() -> Value {
    json!({ "gateway": { "auth": { "token": "tok" }, "http": { "endpoints": { "chatCompletions": { "enabled": true } } } } })
}

fn post(body: &str, more: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer tok\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Answers one submitted turn with a text in two steps and an outcome.
async fn answer_one(commands: &mut mpsc::Receiver<Command>, outcome: RunOutcome) -> TurnRequest {
    let Some(Command::Submit(turn, reply)) = commands.recv().await else { panic!("no turn") };
    let (progress, view) = watch::channel(RunProgress { text: "Hel".into(), ..RunProgress::default() });
    let run_id = turn.idempotency_key.clone();
    let accepted = Submitted { run_id, status: SubmitStatus::Started, accepted_ms: 1, progress: view };
    assert!(reply.send(Ok(accepted)).is_ok());
    let text: Arc<str> = outcome.text.as_str().into();
    progress.send_replace(RunProgress { text, outcome: Some(Arc::new(outcome)), ..RunProgress::default() });
    *turn
}

fn ok(text: &str) -> RunOutcome {
    let mut outcome = RunOutcome { text: text.into(), ..RunOutcome::default() };
    (outcome.usage.input, outcome.usage.output) = (100, 20);
    outcome
}

fn body_of(answer: &str) -> Value {
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_with_history_and_user() {
    let (running, mut commands) = Running::with_scheduler(&config());
    let body = json!({ "model": "openclaw:main", "user": "u1", "temperature": 0.5, "messages": [
        { "role": "system", "content": "Be brief." }, { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "hello" }, { "role": "user", "content": [{ "type": "text", "text": "and?" }] },
    ]});
    let request = post(&body.to_string(), "");
    let (answer, turn) = tokio::join!(running.http(&request), answer_one(&mut commands, ok("Hello")));
    let reply = body_of(&answer);
    assert_eq!(reply["choices"][0]["message"], json!({ "role": "assistant", "content": "Hello" }));
    assert_eq!(reply["usage"], json!({ "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120 }));
    assert_eq!(
        (reply["model"].as_str(), reply["object"].as_str()),
        (Some("openclaw:main"), Some("chat.completion"))
    );
    assert_eq!((turn.session_key.as_str(), turn.input.raw.as_str()), ("agent:main:openai-user:u1", "and?"));
    assert_eq!(turn.overrides.extra_system_prompt.as_deref(), Some("Be brief."));
    assert_eq!(turn.overrides.temperature, Some(0.5));
    assert_eq!(
        turn.input.text,
        "[Earlier messages of this conversation]\nUser: hi\nAssistant: hello\n\n[Message to answer]\nand?"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_stop_usage_and_done() {
    let (running, mut commands) = Running::with_scheduler(&config());
    let request = post(
        r#"{"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}]}"#,
        "x-openclaw-session-key: agent:main:main\r\n",
    );
    let (answer, turn) = tokio::join!(running.http(&request), answer_one(&mut commands, ok("Hello you")));
    assert_eq!(turn.session_key, "agent:main:main");
    assert!(answer.contains("text/event-stream; charset=utf-8"), "{answer}");
    let events: Vec<&str> = answer.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
    let chunks: Vec<Value> = events.iter().filter_map(|e| serde_json::from_str(e).ok()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({ "role": "assistant" }));
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "Hello you");
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
    assert_eq!(chunks[chunks.len() - 1]["usage"]["total_tokens"], 120);
    assert_eq!(events.last(), Some(&"[DONE]"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_recorded_bodies() {
    let (running, mut commands) = Running::with_scheduler(&config());
    let user = r#"{"role":"user","content":"x"}"#;
    let cases = [
        post("{bad", ""),
        post("[]", ""),
        post("{}", ""),
        post(r#"{"messages":[{"role":"system","content":"x"}]}"#, ""),
        post(&format!(r#"{{"model":"gpt-4","messages":[{user}]}}"#), ""),
        post(&format!(r#"{{"model":"openclaw:nope","messages":[{user}]}}"#), ""),
        post(&format!(r#"{{"messages":[{user}]}}"#), "x-openclaw-session-key: agent:main:cron:1\r\n"),
        post("{}", "").replace("Bearer tok", "Bearer bad"),
        post("{}", "").replace("POST", "GET"),
        post("", "").replace("Content-Length: 0", "Content-Length: 999999999"),
    ];
    let mut lines = Vec::new();
    for case in &cases {
        // the last one announces a body that never comes: the answer must not wait for it
        let answer =
            tokio::time::timeout(Duration::from_secs(60), exchange(running.port, case)).await.unwrap();
        lines.push(format!(
            "{} {}",
            answer.lines().next().unwrap(),
            answer.split_once("\r\n\r\n").unwrap().1
        ));
    }
    insta::assert_snapshot!(lines.join("\n"));
    let mut failed = ok("");
    failed.status = RunStatus::Error;
    failed.error = Some(proto::wire::agent::RunError { message: "400 boom".into(), ..Default::default() });
    let request = post(&format!(r#"{{"messages":[{user}]}}"#), "");
    let (answer, _) = tokio::join!(running.http(&request), answer_one(&mut commands, failed));
    assert!(
        answer.starts_with("HTTP/1.1 400") && body_of(&answer)["error"]["message"] == "400 boom",
        "{answer}"
    );
    running.stop().await;
}

async fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_its_run() {
    let (running, mut commands) = Running::with_scheduler(&config());
    let request = post(r#"{"stream":true,"messages":[{"role":"user","content":"x"}]}"#, "");
    let mut stream = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let Some(Command::Submit(turn, reply)) = commands.recv().await else { panic!("no turn") };
    let (_progress, view) = watch::channel(RunProgress::default());
    let run_id = turn.idempotency_key.clone();
    let accepted =
        Submitted { run_id: run_id.clone(), status: SubmitStatus::Started, accepted_ms: 1, progress: view };
    assert!(reply.send(Ok(accepted)).is_ok());
    stream.read_exact(&mut [0; 12]).await.unwrap();
    drop(stream);
    let Some(Command::Abort { run_id: aborted, .. }) = commands.recv().await else { panic!("no abort") };
    assert_eq!(aborted, Some(run_id));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_only_when_the_surface_is_on() {
    let (running, _commands) = Running::with_scheduler(&config());
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer tok\r\n\r\n")
    };
    let list = body_of(&running.http(&get("/v1/models")).await);
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(ids, ["openclaw", "openclaw/default", "openclaw/main"]);
    assert_eq!(body_of(&running.http(&get("/v1/models/openclaw%2Fmain")).await)["id"], "openclaw/main");
    assert!(running.http(&get("/v1/models/nope")).await.contains("Invalid model id."));
    assert!(running.http(&get("/v1/nope")).await.starts_with("HTTP/1.1 404"));
    running.stop().await;
    let off = Running::start(&json!({ "gateway": { "auth": { "token": "tok" } } }));
    assert!(off.http(&get("/v1/models")).await.starts_with("HTTP/1.1 404"));
    off.stop().await;
}

proptest! {
    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let _ = Chat::read(&value);
        let _ = Chat::read(&json!({ "messages": value }));
        let _ = prompt::agent(Some(&text), &text, &["main"], "main");
        let _ = prompt::session_key(Some(&text), "main", None);
    }
}
