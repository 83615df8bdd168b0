//! One gateway per state directory and port; several side by side when they share nothing.

use harness::executables;
use harness::gateway::{TestGateway, free_port};
use harness::wait;
use harness::ws_client::WsClient;
use std::process::{Command, Output, Stdio};

fn second(gateway: &TestGateway, port: u16) -> Command {
    let mut command = Command::new(executables::openclaw());
    command
        .args(["gateway", "--port", &port.to_string()])
        .env_clear()
        .env("HOME", gateway.home.path())
        .env("OPENCLAW_STATE_DIR", gateway.state_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_second_gateway_on_the_state_dir_is_refused_with_the_owner() {
    let gateway = TestGateway::start().await;
    let output = second(&gateway, free_port()).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    let owner = format!("pid {}", gateway.pid());
    assert!(text.contains("gateway already running") && text.contains(&owner), "{text}");
    assert!(text.contains(&format!("another gateway instance: {owner}, port {}", gateway.port)), "{text}");
    WsClient::cli(gateway.port, 4).await.chat("main", "still there?").await;
}

#[tokio::test]
async fn a_taken_port_is_refused_by_name() {
    let first = TestGateway::start().await;
    let mut other = TestGateway::builder().port(first.port).without_waiting().start().await;
    let status = other.wait_exit();
    assert_eq!(status.code(), Some(1));
    let wanted = format!("another gateway instance is already listening on ws://127.0.0.1:{}", first.port);
    assert!(other.log().contains(&wanted), "{}", other.log());
}

#[tokio::test]
async fn of_twenty_started_at_once_one_remains() {
    let mut gateway = TestGateway::start().await;
    let port = gateway.port;
    assert!(gateway.terminate().success());
    let mut starts: Vec<_> = (0..20).map(|_| second(&gateway, port).spawn().expect("starts")).collect();
    wait::until("nineteen are refused", async || {
        let ended = starts.iter_mut().filter_map(|start| start.try_wait().expect("our own child"));
        let codes: Vec<_> = ended.map(|status| status.code()).collect();
        assert!(codes.iter().all(|code| *code == Some(1)), "{codes:?}");
        (codes.len() == 19).then_some(())
    })
    .await;
    gateway.ready().await;
    WsClient::cli(port, 4).await.chat("main", "hello").await;
    let mut left: Vec<_> = starts
        .into_iter()
        .filter_map(|mut start| match start.try_wait() {
            Ok(None) => Some(start),
            _ => None,
        })
        .collect();
    assert_eq!(left.len(), 1, "exactly one");
    left[0].kill().expect("our own child");
    left[0].wait().expect("it ends");
}

#[tokio::test]
async fn two_gateways_with_nothing_in_common_run_side_by_side() {
    let (first, second) = (TestGateway::start().await, TestGateway::start().await);
    for gateway in [&first, &second] {
        WsClient::cli(gateway.port, 4).await.chat("main", "hello").await;
    }
}

#[tokio::test]
async fn a_shared_workspace_is_refused_by_name() {
    let first = TestGateway::start().await;
    let workspace = first.workspace().display().to_string();
    let mut other = TestGateway::builder()
        .config(serde_json::json!({"agents": {"defaults": {"workspace": workspace}}}))
        .without_waiting()
        .start()
        .await;
    assert!(!other.wait_exit().success());
    assert!(
        other.log().contains(&format!("workspace {workspace} is in use by another gateway")),
        "{}",
        other.log()
    );
}

/// The end of a terminal ends `up` in order (watched by hand); a service has none, and its signal is no reason to die.
#[tokio::test]
async fn a_hangup_without_a_terminal_changes_nothing() {
    let gateway = TestGateway::start().await;
    gateway.signal(nix::sys::signal::Signal::SIGHUP);
    wait::until("heard", async || gateway.log().contains("SIGHUP").then_some(())).await;
    WsClient::cli(gateway.port, 4).await.chat("main", "hello").await;
}
