//! Hostile workers: the attacker in the place of an agent's and of an account's process, confined by the code that confines the real
//! ones. What a bug in an adapter or in a turn would give away ends here.

use super::scene::{NOBODY, Scene, scripted};
use super::{PROBE, expect_no_holes};
use harness::escape::{Attacker, MARK, reports};
use harness::gateway::{TestGateway, give, is_alive};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Two hundred processes on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Executables in which both workers are the attacker, who becomes the real one until there is a plan.
fn executables() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let (dir, built) = (tempfile::tempdir().expect("a directory"), harness::executables::directory());
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    fs::create_dir(dir.path().join("real")).expect("a directory");
    let copy = |from: &Path, to: &str| fs::copy(from, dir.path().join(to)).expect("a copy");
    copy(&built.join("openclaw"), "openclaw");
    for name in ["openclaw-agent", "openclaw-channel"] {
        copy(Path::new(PROBE), name);
        copy(&built.join(name), &format!("real/{name}"));
    }
    dir
}

async fn attacked(user: Option<u32>, attacker: Attacker) {
    let bin = executables();
    let builder = TestGateway::builder().bin(bin.path());
    let scene = Scene::with(builder, scripted(&[]), user, json!({})).await;
    let mut plan = scene.plan.clone();
    // From the place of the channel's worker the agent's is another one.
    let (name, pid) = match attacker {
        Attacker::Channel => ("channel:telegram:default", plan.channel_worker),
        _ => ("agent:main", plan.own_worker),
    };
    if attacker == Attacker::Channel {
        plan.channel_worker = plan.own_worker;
    }
    plan.own_worker = 0;
    name.clone_into(&mut plan.attacker);
    fs::write(bin.path().join("plan.json"), serde_json::to_string(&plan).expect("JSON")).expect("a plan");
    if let Some(user) = user {
        give(bin.path(), user);
    }
    // The next start of this worker is hostile.
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a process of this test");
    let log = all_probed(&scene).await;
    let said = reports(&log);
    // It got nowhere, and nobody noticed.
    let mut client = WsClient::cli(scene.gateway.port, 4).await;
    let answer = chat_text(&client.chat("agent:other:main", "are you there?").await);
    assert!(answer.contains("are you there"), "{answer}");
    client.call("health", json!({})).await.expect("health");
    assert!(is_alive(scene.plan.other_worker as u32), "the other worker was not touched");
    expect_no_holes(attacker, &said);
}

/// The gateway's log, once the attacker has tried everything.
async fn all_probed(scene: &Scene) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let log = scene.gateway.log();
        if log.contains(&format!("{MARK}done")) {
            return log;
        }
        assert!(Instant::now() < end, "the attacker did not finish");
        wait::step().await;
    }
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_agent_worker_gets_out_nowhere() {
    attacked(None, Attacker::Agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_channel_worker_gets_out_nowhere() {
    attacked(None, Attacker::Channel).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_workers_of_an_ordinary_user_get_out_nowhere() {
    if is_root() {
        attacked(Some(NOBODY), Attacker::Agent).await;
        attacked(Some(NOBODY), Attacker::Channel).await;
    }
}
