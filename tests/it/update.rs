//! New executables are brought in: installed beside the old ones, taken into use in place, given up when they do not work.

use crate::recovery::model_config;
use crate::upgrade::{replace, replaced};
use harness::executables;
use harness::gateway::TestGateway;
use harness::model_server::{ModelServer, Reply, Script};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const NAMES: [&str; 3] = ["openclaw", "openclaw-agent", "openclaw-channel"];
const WORDS: &str = "red orange yellow green blue indigo violet white grey black brown pink";

async fn model() -> ModelServer {
    let slow = Reply { text: WORDS.to_owned(), chunk_chars: 2, delay_ms: 50, ..Reply::default() };
    ModelServer::start(Script { otherwise: slow, ..Script::default() }).await
}

/// A directory of executables of its own, on the disk of the others.
fn installed(from: &Path) -> TempDir {
    let dir = tempfile::tempdir_in(from.parent().expect("target/")).expect("a directory");
    for name in NAMES {
        fs::hard_link(from.join(name), dir.path().join(name)).expect("a link");
    }
    dir
}

/// A release that differs from what `from` holds: bytes after the end of the program, which the kernel does not load.
fn release(from: &Path, gateway: Option<&[u8]>) -> TempDir {
    let dir = installed(from);
    let new = gateway.map_or_else(
        || [fs::read(from.join("openclaw")).expect("the executable"), b"another release".to_vec()].concat(),
        <[u8]>::to_vec,
    );
    fs::remove_file(dir.path().join("openclaw")).expect("removed");
    fs::write(dir.path().join("openclaw"), new).expect("written");
    fs::set_permissions(dir.path().join("openclaw"), fs::Permissions::from_mode(0o755)).expect("executable");
    let sums: String =
        NAMES.iter().map(|name| format!("{}  {name}\n", sum(&dir.path().join(name)))).collect();
    fs::write(dir.path().join("SHA256SUMS"), sums).expect("written");
    dir
}

/// As the operator's own tool says it.
fn sum(path: &Path) -> String {
    let bytes = fs::read(path).expect("readable");
    match std::process::Command::new("sha256sum").arg(path).output() {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout)[..64].to_owned(),
        _ => Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn running(gateway: &TestGateway) -> PathBuf {
    fs::read_link(format!("/proc/{}/exe", gateway.pid())).expect("running")
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Names that updates made in an install dir.
fn versions(dir: &Path) -> usize {
    fs::read_dir(dir.join("versions")).into_iter().flatten().count()
}

#[tokio::test]
async fn a_running_gateway_goes_on_with_a_new_release_and_its_session_learns_it() {
    let (model, from) = (model().await, executables::directory());
    let (bin, new) = (installed(from), release(from, None));
    let command = json!({"update": {"command": ["/bin/echo", new.path()]}});
    let gateway = TestGateway::builder()
        .bin(bin.path())
        .config(model_config(&model))
        .config(command)
        .env("OPENCLAW_TEST_HEALTHY_AFTER_MS", "0")
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    client.event_where("chat", |payload| payload["state"] == "delta").await;
    let agent = gateway.worker("openclaw-agent").await;
    let mut other = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "note": "the new one", "restartDelayMs": 0});
    let answer = other.call("update.run", params).await.expect("updated");
    assert_eq!((&answer["ok"], &answer["result"]["status"]), (&json!(true), &json!("ok")), "{answer}");
    let info = replaced(&gateway, 1).await;
    let last = (&info["lastRestart"]["ok"], info["pid"].as_u64());
    assert_eq!(last, (&json!(true), Some(gateway.pid().into())), "{info}");
    let end = client.chat_end("k").await;
    assert_eq!((chat_text(&end).as_str(), model.book().len()), (WORDS, 1), "{end}");
    let link = bin.path().join("openclaw");
    wait::until("later starts take it", async || {
        (fs::canonicalize(&link).ok()? == running(&gateway)).then_some(())
    })
    .await;
    assert!(running(&gateway).starts_with(bin.path().join("versions")), "{}", running(&gateway).display());
    assert_eq!((versions(bin.path()), sum(&link)), (2, sum(&new.path().join("openclaw"))));
    let beside = running(&gateway).with_file_name("openclaw-agent");
    wait::until("the agent of the new release", async || {
        let pid = gateway.workers("openclaw-agent").first().copied().filter(|pid| *pid != agent)?;
        (fs::read_link(format!("/proc/{pid}/exe")).ok()? == beside).then_some(())
    })
    .await;
    // The first one was not read while the update took its time, and may have been given up.
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "how did it go?").await;
    let prompt = model.book()[1].body.to_string();
    assert!(prompt.contains("Gateway restart update ok") && prompt.contains("the new one"), "{prompt}");
    let again = client.call("update.run", json!({})).await.expect("answered");
    assert_eq!(again["result"]["reason"], "up-to-date", "{again}");
    replace(&gateway, 2).await;
    assert!(running(&gateway).starts_with(bin.path().join("versions")), "a plain restart stays with it");
}

#[tokio::test]
async fn the_command_line_updates_a_running_gateway_and_a_stopped_one() {
    let from = executables::directory();
    let (bin, new) = (installed(from), release(from, None));
    let mut gateway = TestGateway::builder().bin(bin.path()).start().await;
    let old = running(&gateway);
    let path = new.path().to_str().expect("a path");
    let dry = gateway.cli(&["update", "--from", path, "--dry-run"]);
    assert!(
        dry.status.success() && text(&dry.stdout).contains("Nothing was changed"),
        "{}",
        text(&dry.stderr)
    );
    assert_eq!((versions(bin.path()), running(&gateway)), (0, old));
    let done = gateway.cli(&["update", "--from", path, "--yes", "--json"]);
    let answer: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done.stderr)));
    assert_eq!(
        (&answer["result"]["status"], &answer["restart"]["ok"]),
        (&json!("ok"), &json!(true)),
        "{answer}"
    );
    assert!(running(&gateway).starts_with(bin.path().join("versions")), "{}", running(&gateway).display());
    assert_eq!(gateway.terminate().code(), Some(0));
    // Back to the one before, from where it was kept.
    let mut kept =
        fs::read_dir(bin.path().join("versions")).expect("releases").flatten().map(|entry| entry.path());
    let before = kept.find(|dir| !running_in(dir, &answer)).expect("the release before");
    let back = gateway.cli(&["update", "--from", before.to_str().expect("a path"), "--yes"]);
    assert!(back.status.success() && text(&back.stdout).contains("the next start"), "{}", text(&back.stderr));
    // What people read is the name of its directory, here and when it ran.
    let named = |dir: &Path| dir.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(text(&back.stdout).contains(&format!("build {};", named(&before))), "{}", text(&back.stdout));
    let release = answer["result"]["after"]["release"].as_str().expect("a name");
    assert!(bin.path().join("versions").join(release).join("openclaw").exists(), "{answer}");
    gateway.restart().await;
    assert_eq!(running(&gateway).parent(), Some(before.as_path()));
}

/// Who asked first was told that the update comes: a second one does not take its place.
#[tokio::test]
async fn an_update_that_waits_for_its_restart_is_not_replaced_by_another() {
    let from = executables::directory();
    let other =
        [fs::read(from.join("openclaw")).expect("the executable"), b"a third release".to_vec()].concat();
    let (bin, new, third) = (installed(from), release(from, None), release(from, Some(&other)));
    let gateway = TestGateway::builder().bin(bin.path()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let wish = |dir: &TempDir| json!({"from": dir.path(), "restartDelayMs": 60_000});
    let answer = client.call("update.run", wish(&new)).await.expect("installed");
    let release = answer["result"]["after"]["release"].as_str().expect("a name").to_owned();
    let refused = client.call("update.run", wish(&third)).await.expect_err("one waits");
    let why = refused["message"].as_str().unwrap_or_default();
    assert!(why.contains(&release) && why.contains("for its restart"), "{refused}");
    // A restart that is asked for meanwhile is the one that it waits for.
    let sooner = json!({"delayMs": 0, "reason": "now"});
    client.call("gateway.restart", sooner).await.expect("planned");
    replaced(&gateway, 1).await;
    assert_eq!(running(&gateway).parent(), Some(bin.path().join("versions").join(release).as_path()));
}

fn running_in(dir: &Path, answer: &Value) -> bool {
    let sum: String = answer["result"]["after"]["sha"].as_str().expect("a sum").to_owned();
    self::sum(&dir.join("openclaw")) == sum
}

#[tokio::test]
async fn a_release_that_does_not_answer_or_is_not_as_listed_changes_nothing() {
    let from = executables::directory();
    let gives_up = fs::read("/bin/false").expect("a program that only fails");
    let (bin, bad) = (installed(from), release(from, Some(&gives_up)));
    let gateway = TestGateway::builder().bin(bin.path()).start().await;
    let (old, path) = (running(&gateway), bad.path().to_str().expect("a path"));
    let failed = gateway.cli(&["update", "--from", path, "--yes"]);
    assert!(text(&failed.stderr).contains("does not answer as a gateway does"), "{}", text(&failed.stderr));
    fs::write(bad.path().join("openclaw"), "x").expect("written");
    let failed = gateway.cli(&["update", "--from", path, "--yes"]);
    assert!(text(&failed.stderr).contains("is not what SHA256SUMS lists"), "{}", text(&failed.stderr));
    fs::write(gateway.config_path(), "{gateway: {port: 'none'}}").expect("a broken file");
    let failed = gateway.cli(&["update", "--from", path, "--yes"]);
    assert_eq!(failed.status.code(), Some(78), "{}", text(&failed.stderr));
    let mut client = WsClient::cli(gateway.port, 4).await;
    let info = client.call("system.info", json!({"gateway": true})).await.expect("info");
    assert_eq!((&info["upgrades"], running(&gateway), versions(bin.path())), (&json!(0), old, 0));
}

#[tokio::test]
async fn a_release_that_fails_before_it_is_ready_is_given_up_and_who_asked_learns_it() {
    let (model, from) = (ModelServer::start(Script::default()).await, executables::with_failpoints());
    let (bin, new) = (installed(from), release(from, None));
    let gateway = TestGateway::builder()
        .bin(bin.path())
        .config(model_config(&model))
        .env("OPENCLAW_FAILPOINTS", "sv.up.new_before_ready=return(refuse(on purpose))")
        .start()
        .await;
    let old = running(&gateway);
    let failed = gateway.cli(&["update", "--from", new.path().to_str().expect("a path"), "--yes"]);
    assert!(text(&failed.stderr).contains("the one before goes on"), "{}", text(&failed.stderr));
    assert_eq!(running(&gateway), old);
    assert_eq!(fs::canonicalize(bin.path().join("openclaw")).expect("there"), old, "later starts too");
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "how did it go?").await;
    let prompt = model.book()[0].body.to_string();
    assert!(prompt.contains("Gateway restart update error") && prompt.contains("on purpose"), "{prompt}");
}

/// A command that takes its time holds nothing up: orphans are reaped, a restart would cut it off and is refused, and a
/// stop ends it.
#[tokio::test]
async fn a_command_under_way_is_neither_in_the_way_nor_left_behind() {
    let notes = tempfile::tempdir().expect("a directory");
    let script = "(sh -c 'echo $$ > \"$0/orphan\"; exec sleep 0.1' \"$0\" &); echo $$ > \"$0/command\"; exec sleep 300";
    let command = json!({"update": {"command": ["/bin/sh", "-c", script, notes.path()]}});
    let mut gateway = TestGateway::builder().config(command).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.send("update.run", json!({})).await;
    let pid_of = async |name: &'static str| {
        let noted = notes.path().join(name);
        wait::until(name, async || fs::read_to_string(&noted).ok()?.trim().parse::<u32>().ok()).await
    };
    let (orphan, command) = (pid_of("orphan").await, pid_of("command").await);
    let gone = |pid: u32| move || !Path::new("/proc").join(pid.to_string()).exists();
    let reaped = gone(orphan);
    wait::until("the orphan is reaped", async || reaped().then_some(())).await;
    let mut other = WsClient::cli(gateway.port, 4).await;
    let again = other.call("update.run", json!({})).await.expect_err("one at a time");
    assert!(
        again["message"].as_str().is_some_and(|text| text.contains("another update is under way")),
        "{again}"
    );
    gateway.signal(nix::sys::signal::Signal::SIGUSR1);
    let last = wait::until("the restart is refused", async || {
        let info = other.call("system.info", json!({"gateway": true})).await.ok()?;
        (info["lastRestart"]["ok"] == false).then(|| info["lastRestart"].clone())
    })
    .await;
    assert!(last["why"].as_str().is_some_and(|why| why.contains("an update is under way")), "{last}");
    assert!(!gone(command)(), "it goes on");
    assert_eq!(gateway.terminate().code(), Some(0));
    let ended = gone(command);
    wait::until("the command ends with the gateway", async || ended().then_some(())).await;
}
