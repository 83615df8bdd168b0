//! What the command line says when it cannot do what it was asked: the place, the reason and what to do.

use harness::executables;
use harness::gateway::TestGateway;
use harness::wait;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

/// Of no account here.
const STRANGER: u32 = 54_321;

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Other users cannot be played without root's rights.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "CI runs these tests as root");
    if !root {
        println!("skipped: only root can run programs as another user");
    }
    root
}

/// What the command line says to the other user.
fn as_stranger(gateway: &TestGateway, words: &[&str]) -> String {
    let mut command = Command::new(executables::directory().join("openclaw"));
    command.args(words).env_clear().env("HOME", "/").env("OPENCLAW_STATE_DIR", gateway.state_dir());
    said(&command.uid(STRANGER).gid(STRANGER).output().expect("it runs"))
}

#[tokio::test]
async fn a_port_that_up_cannot_give_is_refused_and_one_that_it_has_is_not() {
    let gateway = TestGateway::start().await;
    let other = gateway.cli(&["up", "--port", "1"]);
    let words = said(&other);
    assert!(!other.status.success() && words.contains("already running"), "{words}");
    assert!(words.contains(&format!("listens on port {}", gateway.port)), "{words}");
    assert!(words.contains("config set gateway.port 1`"), "{words}");
    let same = gateway.cli(&["up", "--port", &gateway.port.to_string()]);
    assert!(same.status.success(), "{}", said(&same));
}

/// Its descriptors are closed to everybody but root.
#[tokio::test]
async fn the_gateway_that_has_the_port_is_named_to_its_own_user() {
    if !is_root() {
        return;
    }
    let first = TestGateway::builder().user(STRANGER).start().await;
    let second = tempfile::tempdir().expect("a directory");
    harness::gateway::give(second.path(), STRANGER);
    let mut command = Command::new(executables::directory().join("openclaw"));
    command.args(["gateway", "--allow-unconfigured", "--port", &first.port.to_string()]);
    command.env_clear().env("HOME", second.path()).env("OPENCLAW_STATE_DIR", second.path().join("state"));
    let told = said(&command.uid(STRANGER).gid(STRANGER).output().expect("it runs"));
    assert!(told.contains(&format!("- pid {}: openclaw (", first.pid())), "{told}");
}

#[tokio::test]
async fn a_patch_without_a_hash_says_how_to_give_one() {
    let gateway = TestGateway::start().await;
    let params = ["--params", r#"{"raw":"{}"}"#];
    let refused = said(&gateway.cli(&["gateway", "call", "config.patch", params[0], params[1]]));
    assert!(refused.contains("config base hash required; re-run config.get and retry"), "{refused}");
    assert!(refused.contains("pass `baseHash`, the `hash` that"), "{refused}");
}

#[tokio::test]
async fn somebody_elses_gateway_is_not_called_stopped() {
    if !is_root() {
        return;
    }
    let gateway = TestGateway::start().await;
    let ask = |words: &[&str]| as_stranger(&gateway, words);
    for words in [&["status"][..], &["health"], &["logs"]] {
        let told = ask(words);
        assert!(!told.contains("not running") && !told.contains("Start it with"), "{words:?}: {told}");
        assert!(told.contains("belongs to root (uid 0), and this is 54321 (uid 54321)"), "{words:?}: {told}");
        assert!(told.contains("sudo -u root openclaw"), "{words:?}: {told}");
    }
    assert!(!ask(&["config", "get", "gateway.port"]).contains("chown"));
}

/// The kernel shows the proportional share of a closed process to root alone.
#[tokio::test]
async fn memory_is_shown_to_an_ordinary_user_too() {
    if !is_root() {
        return;
    }
    let gateway = TestGateway::builder().user(STRANGER).start().await;
    let _agent = gateway.worker("openclaw-agent").await;
    for words in [&["status", "--deep"][..], &["workers"]] {
        wait::until("the agent's memory", async || {
            let table = as_stranger(&gateway, words);
            // Before it has closed itself its share is seen.
            table.lines().any(|line| line.contains("agent:main") && line.contains(" MB rss")).then_some(())
        })
        .await;
    }
}

/// A tool of the same user must find nothing, however early it looks.
#[test]
fn no_program_that_reads_secrets_can_be_looked_into() {
    if !is_root() {
        return;
    }
    for (name, flag) in [
        ("openclaw", "--preflight"),
        ("openclaw-agent", "--check-config"),
        ("openclaw-channel", "--check-config"),
    ] {
        let mut command = Command::new(executables::directory().join(name));
        command.arg(flag).env_clear().env("HOME", "/nonexistent").uid(STRANGER).gid(STRANGER);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = streams.spawn().expect("it runs");
        // What belongs to root here is closed to its own user.
        let closed = format!("/proc/{}/environ", child.id());
        wait::until_blocking(name, || {
            let owner = std::fs::metadata(&closed).ok()?.uid();
            (owner == 0).then_some(())
        });
        assert!(child.try_wait().expect("ours").is_none(), "{name} waits for its input");
        let _gone = child.stdin.take().map(|mut stdin| stdin.write_all(b"{}"));
        child.wait().expect("it ends");
    }
}
