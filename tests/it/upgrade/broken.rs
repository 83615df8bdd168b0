//! New executables that do not work: the gateway goes on as it was, or with the executable that it had.

use super::{replace, replaced};
use crate::recovery::model_config;
use harness::gateway::{TestGateway, children_of};
use harness::model_server::{ModelServer, Reply, Script};
use harness::ws_client::{WsClient, chat_text};
use harness::{executables, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const WORDS: &str =
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma";

async fn slow_model() -> ModelServer {
    let reply = Reply { text: WORDS.to_owned(), chunk_chars: 2, delay_ms: 25, ..Reply::default() };
    ModelServer::start(Script { otherwise: reply, ..Script::default() }).await
}

/// A directory of executables of its own, in which one can be replaced.
fn installed(from: &Path) -> TempDir {
    let dir = tempfile::tempdir_in(from.parent().expect("target/")).expect("a directory");
    for name in ["openclaw", "openclaw-agent", "openclaw-channel"] {
        fs::hard_link(from.join(name), dir.path().join(name)).expect("a link");
    }
    dir
}

/// As a package manager does it: a new file under the old name.
fn install(dir: &Path, name: &str, content: &[u8]) {
    let new = dir.join("new");
    fs::write(&new, content).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("executable");
    fs::rename(new, dir.join(name)).expect("renamed");
}

/// Begins a run that streams for a while.
async fn begin(gateway: &TestGateway, key: &str) -> WsClient {
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": key});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    client
}

async fn refused(gateway: &TestGateway, after_ms: i64) -> Value {
    wait::until(&format!("refused; the log:\n{}", gateway.log()), async || {
        let mut client = WsClient::cli(gateway.port, 4).await;
        let info = client.call("system.info", json!({"gateway": true})).await.ok()?;
        let last = info["lastRestart"].clone();
        (last["atMs"].as_i64()? > after_ms && last["ok"] == false).then_some(info)
    })
    .await
}

#[tokio::test]
async fn what_is_no_gateway_is_never_started() {
    let model = slow_model().await;
    let bin = installed(executables::directory());
    let gateway = TestGateway::builder().bin(bin.path()).config(model_config(&model)).start().await;
    let mut client = begin(&gateway, "k").await;
    let workers = children_of(gateway.pid());
    let real = fs::read(bin.path().join("openclaw")).expect("the executable");
    let mut foreign = real.clone();
    // e_machine: a 68000.
    foreign[18..20].copy_from_slice(&4u16.to_le_bytes());
    let falses = fs::read("/bin/false").expect("a program that only fails");
    let bad: [(&str, &[u8]); 4] = [
        ("text", b"#!/bin/sh\nexit 0\n"),
        ("half", &real[..8192]),
        ("foreign", &foreign),
        ("false", &falses),
    ];
    let mut after_ms = 0;
    for (what, content) in bad {
        install(bin.path(), "openclaw", content);
        gateway.signal(Signal::SIGUSR1);
        let info = refused(&gateway, after_ms).await;
        after_ms = info["lastRestart"]["atMs"].as_i64().expect("a time");
        assert_eq!((&info["upgrades"], &info["pid"]), (&json!(0), &json!(gateway.pid())), "{what}: {info}");
    }
    let end = client.chat_end("k").await;
    assert_eq!(chat_text(&end), WORDS, "{end}");
    assert_eq!((children_of(gateway.pid()), model.book().len()), (workers, 1));
    install(bin.path(), "openclaw", &real);
    let info = replace(&gateway, 1).await;
    assert_eq!((&info["lastRestart"]["ok"], &info["pid"]), (&json!(true), &json!(gateway.pid())), "{info}");
}

#[tokio::test]
async fn an_invalid_file_is_told_before_anything_is_touched() {
    let gateway = TestGateway::start().await;
    fs::write(gateway.config_path(), "{gateway: {port: 'none'}}").expect("a broken file");
    gateway.signal(Signal::SIGUSR1);
    let info = refused(&gateway, 0).await;
    assert_eq!(info["upgrades"], 0, "{info}");
    let mut client = WsClient::cli(gateway.port, 4).await;
    let asked = client.call("gateway.restart", json!({"delayMs": 0})).await.expect_err("refused");
    assert!(asked["message"].as_str().is_some_and(|text| text.contains("invalid")), "{asked}");
}

/// The next image needs every descriptor twice: without the room both images would be lost.
#[tokio::test]
async fn without_room_for_descriptors_nothing_is_touched() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let before = limit_files(gateway.pid(), 100);
    assert!(before >= 4096 || before == hard_limit(gateway.pid()), "raised at the start, to {before}");
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WsClient::cli(gateway.port, 4).await);
    }
    gateway.signal(Signal::SIGUSR1);
    let last = wait::until("refused", async || {
        let info = client.call("system.info", json!({"gateway": true})).await.ok()?;
        (info["lastRestart"]["ok"] == false).then(|| info["lastRestart"].clone())
    })
    .await;
    assert!(last["why"].as_str().is_some_and(|why| why.contains("the limit is 100")), "{last}");
    limit_files(gateway.pid(), before);
    replace(&gateway, 1).await;
    for client in &mut clients {
        client.call("health", json!({})).await.expect("carried");
    }
}

/// The state cannot be left to the next image, when everything is at rest already: the journal is enough to go on from. The
/// image was itself put in place, and what was left to it is not taken for what is left to the next.
#[tokio::test]
async fn a_state_that_cannot_be_written_leads_to_a_start_from_the_journal() {
    let model = slow_model().await;
    let bin = installed(executables::directory());
    let gateway = TestGateway::builder()
        .bin(bin.path())
        .config(model_config(&model))
        .env("OPENCLAW_FAILPOINTS", "sv.up.state_write=return(refuse(too large))")
        .start()
        .await;
    let pid = gateway.pid();
    let armed = fs::read(executables::with_failpoints().join("openclaw")).expect("the executable");
    install(bin.path(), "openclaw", &armed);
    replace(&gateway, 1).await;
    let _streaming = begin(&gateway, "k").await;
    gateway.signal(Signal::SIGUSR1);
    let info = wait::until(&format!("started anew; the log:\n{}", gateway.log()), async || {
        let mut client = WsClient::try_cli(gateway.port, 4).await.ok()?;
        let info = client.call("system.info", json!({"gateway": true})).await.ok()?;
        (info["upgrades"] == 0).then_some(info)
    })
    .await;
    assert_eq!((info["pid"].as_u64(), gateway.pid()), (Some(pid.into()), pid), "{info}");
    assert!(gateway.log().contains("starting again from the journal"), "{}", gateway.log());
    let mut client = WsClient::cli(gateway.port, 4).await;
    wait::until("the run is resumed", async || {
        let history = client.call("chat.history", json!({"sessionKey": "main"})).await.ok()?;
        history["messages"].to_string().contains(WORDS).then_some(())
    })
    .await;
}

fn files_of(pid: u32) -> Vec<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line").to_owned();
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn hard_limit(pid: u32) -> u64 {
    files_of(pid)[1]
}

/// Sets the soft limit of another process. Returns what it was.
fn limit_files(pid: u32, soft: u64) -> u64 {
    let was = files_of(pid)[0];
    let done = std::process::Command::new("prlimit")
        .args([&format!("--pid={pid}"), &format!("--nofile={soft}:")])
        .status()
        .expect("prlimit, of util-linux");
    assert!(done.success());
    was
}

/// The new image fails at its last step: the old executable goes on with the same state, and the run with it.
#[tokio::test]
async fn a_new_image_that_fails_before_it_is_ready_is_rolled_back() {
    for failure in ["return(refuse(on purpose))", "panic(on purpose)"] {
        let model = slow_model().await;
        let gateway = TestGateway::builder()
            .bin(executables::with_failpoints())
            .config(model_config(&model))
            .env("OPENCLAW_FAILPOINTS", &format!("sv.up.new_before_ready={failure}"))
            .start()
            .await;
        let mut client = begin(&gateway, "k").await;
        let worker = gateway.worker("openclaw-agent").await;
        gateway.signal(Signal::SIGUSR1);
        let info = replaced(&gateway, 1).await;
        assert_eq!(
            (&info["lastRestart"]["ok"], &info["pid"]),
            (&json!(false), &json!(gateway.pid())),
            "{info}"
        );
        let end = client.chat_end("k").await;
        assert_eq!(chat_text(&end), WORDS, "{end}");
        assert_eq!((gateway.worker("openclaw-agent").await, model.book().len()), (worker, 1), "{failure}");
    }
}

/// Killed, aborted or hung at any step: the next start answers, once.
#[tokio::test]
async fn a_death_at_any_step_costs_nothing_but_time() {
    let deaths = [
        "sv.up.preflight=return(kill)",
        "sv.up.paused=return(kill)",
        "sv.up.state_written=return(kill)",
        "sv.up.before_exec=return(kill)",
        "sv.up.new_before_ready=return(abort)",
        "sv.up.new_after_ready=return(kill)",
        "sv.up.new_before_ready=sleep(60000)",
    ];
    for death in deaths {
        let model = slow_model().await;
        let mut gateway = TestGateway::builder()
            .bin(executables::with_failpoints())
            .config(model_config(&model))
            .env("OPENCLAW_FAILPOINTS", death)
            .start()
            .await;
        drop(begin(&gateway, "k").await);
        gateway.signal(Signal::SIGUSR1);
        let status = gateway.wait_exit();
        assert_eq!(status.code(), None, "{death}: ended by a signal, not {status}");
        gateway.forget_env("OPENCLAW_FAILPOINTS");
        gateway.restart().await;
        let mut client = WsClient::cli(gateway.port, 4).await;
        let ended =
            client.call("agent.wait", json!({"runId": "k", "timeoutMs": 60_000})).await.expect("waited");
        assert_eq!(ended["status"], "ok", "{death}: {ended}");
        let history = client.call("chat.history", json!({"sessionKey": "main"})).await.expect("history");
        let roles: Vec<&Value> = history["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| &message["role"])
            .collect();
        assert_eq!(roles, ["user", "assistant"], "{death}: {history}");
    }
}

/// Workers of the old release stay with their runs and are replaced when they have nothing to do.
#[tokio::test]
async fn workers_of_the_old_release_are_replaced_when_they_are_idle() {
    let model = slow_model().await;
    let bin = installed(executables::directory());
    let gateway = TestGateway::builder()
        .bin(bin.path())
        .config(model_config(&model))
        .env("OPENCLAW_TEST_HEALTHY_AFTER_MS", "0")
        .start()
        .await;
    let mut client = begin(&gateway, "k").await;
    let old = gateway.worker("openclaw-agent").await;
    for name in ["openclaw", "openclaw-agent"] {
        let same = fs::read(bin.path().join(name)).expect("the executable");
        install(bin.path(), name, &same);
    }
    replace(&gateway, 1).await;
    let end = client.chat_end("k").await;
    assert_eq!((chat_text(&end).as_str(), model.book().len()), (WORDS, 1), "{end}");
    wait::until("the new release of the agent", async || {
        gateway.workers("openclaw-agent").first().copied().filter(|pid| *pid != old)
    })
    .await;
    assert_eq!(chat_text(&client.chat("main", "again").await), WORDS);
}
