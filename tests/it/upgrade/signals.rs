//! Signals that come at the worst moment of a replacement, and a replacement that cannot come to rest.

use super::replaced;
use crate::recovery::model_config;
use harness::gateway::{TestGateway, children_of};
use harness::model_server::{Fault, ModelServer, Reply, Rule, Script};
use harness::ws_client::WsClient;
use harness::{executables, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::time::Duration;

async fn with_failpoint(points: &str, config: Value) -> TestGateway {
    let builder = TestGateway::builder().bin(executables::with_failpoints());
    builder.config(config).env("OPENCLAW_FAILPOINTS", points).start().await
}

/// Every wait on the way to the exec is over before; the alarm that comes otherwise is at 40 s.
const BOUNDED: Duration = Duration::from_secs(90);

fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
}

async fn until_stopped(pid: u32) {
    wait::until("it stops itself", async || is_stopped(pid).then_some(())).await;
}

/// A new executable that says nothing is waited for; a stop is not.
#[tokio::test]
async fn a_stop_does_not_wait_for_the_question_to_the_next_executable() {
    let mut gateway = with_failpoint("sv.up.answer=return(stop)", json!({})).await;
    gateway.signal(Signal::SIGUSR1);
    let asked = wait::until("the next executable is asked and says nothing", async || {
        children_of(gateway.pid()).into_iter().find(|pid| is_stopped(*pid))
    })
    .await;
    let status = gateway.signal_and_wait(Signal::SIGTERM);
    let _gone_already = kill(Pid::from_raw(asked as i32), Signal::SIGKILL);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!gateway.log().contains("restart refused"), "it waited:\n{}", gateway.log());
}

/// Nobody receives signals while one image ends and the next begins: they wait.
#[tokio::test]
async fn a_signal_between_two_images_reaches_the_next_one() {
    for point in ["sv.up.state_written", "sv.up.before_exec"] {
        let mut gateway = with_failpoint(&format!("{point}=return(stop)"), json!({})).await;
        gateway.signal(Signal::SIGUSR1);
        until_stopped(gateway.pid()).await;
        gateway.signal(Signal::SIGUSR1);
        gateway.signal(Signal::SIGCONT);
        // The next image is asked to be replaced, too, and gets as far.
        wait::until("it goes on", async || (!is_stopped(gateway.pid())).then_some(())).await;
        until_stopped(gateway.pid()).await;
        gateway.signal(Signal::SIGTERM);
        gateway.signal(Signal::SIGCONT);
        let status = gateway.wait_exit();
        assert_eq!(status.code(), Some(0), "{point}: {status}\n{}", gateway.log());
        assert_eq!(gateway.log().matches("giving way to the next image").count(), 2, "{point}");
    }
}

/// A replacement that fails after somebody asked for a stop ends in that stop: there is nobody else who would see it.
#[tokio::test]
async fn a_stop_during_a_replacement_that_fails_is_obeyed() {
    // At rest, but there is no memory for the state; and a next image that gives up before it is ready.
    for (points, point) in [
        ("sv.up.paused=return(stop);sv.up.state_write=return(refuse(no memory))", "no state"),
        ("sv.up.new_before_ready=1*return(stop)->return(refuse(a test))", "no image"),
    ] {
        let mut gateway = with_failpoint(points, json!({})).await;
        gateway.signal(Signal::SIGUSR1);
        until_stopped(gateway.pid()).await;
        gateway.signal(Signal::SIGTERM);
        gateway.signal(Signal::SIGCONT);
        let status = gateway.wait_exit();
        assert_eq!(status.code(), Some(0), "{point}: {status}\n{}", gateway.log());
        assert!(!gateway.log().contains("shutdown timed out"), "{point}: it hung\n{}", gateway.log());
    }
}

/// The journal takes the first message and hangs on the second.
const HANGS: &str = "sv.c1.mid=1*off->1*sleep(90000)";

/// A run under way, and a second message for its session on which the journal hangs.
async fn hanging(model: &ModelServer) -> (TestGateway, WsClient) {
    let config = model_config(model);
    let gateway = with_failpoint(HANGS, config).await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "patience", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    wait::until("the model is asked", async || (!model.book().is_empty()).then_some(())).await;
    let params = json!({"sessionKey": "main", "message": "more", "idempotencyKey": "more"});
    let _never_answered = client.send("chat.send", params).await;
    (gateway, client)
}

fn silent_once() -> Script {
    let stall = Reply::text("never to be seen").with_fault(Fault::Stall { after: 1 });
    let rule =
        Rule { contains: Some("patience".to_owned()), times: Some(1), reply: stall, ..Rule::default() };
    Script { rules: vec![rule], ..Script::default() }
}

/// The next image cannot know what a session that hangs is doing: its worker ends first, then its run goes on.
#[tokio::test]
async fn the_worker_of_a_session_that_does_not_come_to_rest_ends_before_its_run_goes_on() {
    let model = ModelServer::start(silent_once()).await;
    let (gateway, _client) = hanging(&model).await;
    let worker = gateway.worker("openclaw-agent").await;
    gateway.signal(Signal::SIGUSR1);
    let given_way = async || gateway.log().contains("giving way").then_some(());
    wait::within(BOUNDED, given_way).await.expect("every wait has its bound");
    replaced(&gateway, 1).await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let ended = client.call("agent.wait", json!({"runId": "k", "timeoutMs": 90_000})).await.expect("waited");
    assert_eq!(ended["status"], "ok", "{ended}\n{}", gateway.log());
    assert_ne!(gateway.worker("openclaw-agent").await, worker, "{}", gateway.log());
    let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
    let texts = history["messages"].to_string();
    assert_eq!(texts.matches("patience").count(), 2, "asked once, answered once: {history}");
    // The second message is asked for again by the next image, and may be at the model by now.
    let last = |entry: &harness::model_server::Entry| {
        entry.body["messages"].as_array().and_then(|all| all.last().map(Value::to_string)).unwrap_or_default()
    };
    let asked = model.book().iter().filter(|entry| last(entry).contains("patience")).count();
    assert_eq!(asked, 2, "once by each worker");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_replacement_that_does_not_come_to_rest() {
    let model = ModelServer::start(silent_once()).await;
    let (mut gateway, _client) = hanging(&model).await;
    gateway.signal(Signal::SIGUSR1);
    wait::until("it does not come to rest", async || {
        gateway.log().contains("does not come to rest").then_some(())
    })
    .await;
    let status = gateway.signal_and_wait(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!gateway.log().contains("giving way"), "it went on:\n{}", gateway.log());
}
