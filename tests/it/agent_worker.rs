//! The agent worker as a process, with the built-in offline model.

use harness::agent_worker::{AgentWorker, KEY, message};
use harness::executables;
use harness::wait::until;
use proto::wire::agent::{AgentToSup, RunStatus};
use serde_json::{Value, json};

fn config() -> Value {
    json!({"agents": {"defaults": {"model": {"primary": "demo/demo"}}}})
}

fn program() -> std::path::PathBuf {
    executables::directory().join("openclaw-agent")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_a_tool_and_a_history() {
    let state = tempfile::tempdir().unwrap();
    let mut worker = AgentWorker::start(&program(), state.path(), config()).await;
    let done = worker.run(message("hello there")).await;
    assert_eq!(done.status, RunStatus::Ok, "{:?}", done.error);
    assert!(done.text.contains("hello there"), "{}", done.text);
    let streamed: String = worker
        .said
        .iter()
        .filter_map(|message| match message {
            AgentToSup::Delta(delta) => Some(delta.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(streamed.trim(), done.text);

    let done = worker.run(message("run: echo clawed-$((40+2))")).await;
    assert!(done.text.contains("clawed-42"), "{}", done.text);
    let phases: Vec<String> = worker
        .said
        .iter()
        .filter_map(|message| match message {
            AgentToSup::RunEvent(event) if event.stream == "tool" => {
                let data: Value = serde_json::from_str(&event.data_json).unwrap();
                Some(format!("{} {}", data["phase"].as_str().unwrap(), data["name"].as_str().unwrap()))
            }
            _ => None,
        })
        .filter(|phase| !phase.starts_with("update"))
        .collect();
    assert_eq!(phases, ["start exec", "result exec"]);

    let history = worker.ask("chat.history", json!({"sessionKey": KEY})).await;
    let roles: Vec<&str> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant", "toolResult", "assistant"]);
    assert_eq!(history["messages"][0]["content"], "hello there");
    assert!(worker.stop().await.success());
}

/// Killed while a command runs: the next process tells the model that the outcome is unknown, runs nothing again, and
/// answers. Nothing of the command lives on.
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_tool() {
    let state = tempfile::tempdir().unwrap();
    let mark = state.path().join("mark");
    let mut worker = AgentWorker::start(&program(), state.path(), config()).await;
    let mut spec = message(&format!("run: echo $$ >> {}; exec sleep 600", mark.display()));
    worker.tell(spec.clone());
    let pid = until("the command runs", async || {
        std::fs::read_to_string(&mark).ok()?.lines().next()?.parse::<u32>().ok()
    })
    .await;
    worker.until(|message| matches!(message, AgentToSup::RunStarted(_)).then_some(())).await;
    worker.kill().await;
    until("the command is gone", async || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    })
    .await;

    let mut worker = AgentWorker::start(&program(), state.path(), config()).await;
    spec.attempt = 2;
    let done = worker.run(spec).await;
    assert_eq!(done.status, RunStatus::Ok, "{:?}", done.error);
    assert_eq!(std::fs::read_to_string(&mark).unwrap().lines().count(), 1, "the command ran once");
    let history = worker.ask("chat.history", json!({"sessionKey": KEY})).await.to_string();
    assert!(history.contains("interrupted, outcome unknown"), "{history}");
    assert!(worker.stop().await.success());
}

/// Killed between the final record and its acknowledgement: told again from the transcript.
#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_end_was_acknowledged() {
    let state = tempfile::tempdir().unwrap();
    let mut worker = AgentWorker::start(&program(), state.path(), config()).await;
    let mut spec = message("say it once");
    worker.tell(spec.clone());
    let first = worker
        .until(|message| match message {
            AgentToSup::RunFinal(done) => Some(done.clone()),
            _ => None,
        })
        .await;
    worker.kill().await;
    let mut worker = AgentWorker::start(&program(), state.path(), config()).await;
    spec.attempt = 2;
    let again = worker.run(spec).await;
    assert_eq!((again.parts, again.text, again.message_id), (first.parts, first.text, first.message_id));
    assert!(!worker.said.iter().any(|message| matches!(message, AgentToSup::Delta(_))), "no model was asked");
    assert!(worker.stop().await.success());
}

#[test]
fn flags_answer_without_a_link() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut check = Command::new(program());
    check.arg("--check-config").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = check.spawn().unwrap();
    let text = json!({"agents": {"defaults": {"model": "nowhere/x", "timeoutSeconds": "long"}}}).to_string();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let paths: Vec<&str> =
        answer["issues"].as_array().unwrap().iter().map(|issue| issue["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["agents.defaults.timeoutSeconds", "agents.defaults.model"]);
    let schema = Command::new(program()).arg("--schema").stdin(Stdio::null()).output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    for section in ["agents", "models", "tools", "skills"] {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}
