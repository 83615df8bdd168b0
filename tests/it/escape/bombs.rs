//! Commands that eat what there is: processes, memory, disk, processor, output; and commands that try to stay. The other agent and the
//! gateway's health are asked all the while (see `Scene::attack`).

use super::scene::{NOBODY, Scene, exec, scripted};
use harness::gateway::{command_line, commands_of, is_alive};
use harness::wait;
use serde_json::json;
use std::fs;

/// Characters of a result that the model gets, at most: what `exec` promises, and the lines around it.
const RESULT_CHARS_MAX: usize = 202_000;
/// Resident memory of a worker that has just swallowed an output flood, in KiB.
const WORKER_RSS_KB_MAX: u64 = 300_000;

/// The number in `name: <number> …`, what a bomb says at its end.
fn came(result: &str, name: &str) -> Option<u64> {
    let rest = result.split_once(&format!("{name}: "))?.1;
    rest.split_whitespace().next()?.trim_end_matches(';').parse().ok()
}

async fn bombed(user: Option<u32>, bomb: &str, isolation: serde_json::Value) -> (Scene, String) {
    let script = scripted(&[("attack", exec(&format!("./probe bomb {bomb}")))]);
    let scene = Scene::new(script, user, json!({"agents": {"defaults": {"isolation": isolation}}})).await;
    let worker = scene.plan.own_worker;
    let result = scene.attack("attack").await.remove(0);
    assert!(is_alive(worker as u32), "the worker itself lives on: {result}");
    (scene, result)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_meets_its_limit() {
    let (_scene, result) = bombed(None, "fork", json!({"processes": 100})).await;
    // Ended by the guard, or refused by the kernel: in both cases long before the bomb's own end.
    let reached = came(&result, "fork").unwrap_or_default();
    assert!(reached < 400, "{result}");
    let told = result.contains("isolation.processes") || result.contains("Resource temporarily unavailable");
    assert!(told, "the model is told why: {result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_bomb_of_an_ordinary_user_meets_its_limit() {
    if rustix::process::getuid().is_root() {
        let (_scene, result) = bombed(Some(NOBODY), "fork", json!({"processes": 100})).await;
        assert!(came(&result, "fork").unwrap_or_default() < 400, "{result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_bomb_meets_its_limit() {
    for bomb in ["memory", "shared-memory"] {
        let (_scene, result) = bombed(None, bomb, json!({"memoryMb": 512})).await;
        // The bomb takes 2560 MiB when nothing stops it.
        let reached = came(&result, bomb).unwrap_or_default();
        assert!(reached < 2000, "{bomb}: {result}");
        assert!(!result.contains("nothing stopped it"), "{bomb}: {result}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_flood_is_cut() {
    let (scene, result) = bombed(None, "flood", json!({})).await;
    assert!(result.chars().count() <= RESULT_CHARS_MAX, "{} characters", result.chars().count());
    let status =
        fs::read_to_string(format!("/proc/{}/status", scene.plan.own_worker)).expect("the worker lives");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kb: u64 = rss.split_whitespace().next().and_then(|kb| kb.parse().ok()).expect("a number");
    assert!(kb < WORKER_RSS_KB_MAX, "{kb} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spinner_takes_the_processor_from_nobody() {
    // What it may not do is asserted by the bystander of `attack`: the other agent and the gateway answer.
    let (_scene, result) = bombed(None, "spin", json!({})).await;
    assert_eq!(came(&result, "spin"), Some(4), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_ends_at_its_limit() {
    let (_scene, result) = bombed(None, "disk", json!({})).await;
    assert!(came(&result, "disk").is_some_and(|mib| mib <= 2048), "{result}");
    assert!(!result.contains("nothing stopped it"), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zombies_and_daemons_are_gone_with_their_call() {
    let script = scripted(&[
        ("zombies", exec("./probe bomb zombies")),
        (
            "daemon",
            exec("./probe bomb daemon; while [ ! -s probe-daemon ]; do sleep 0.05; done; cat probe-daemon"),
        ),
    ]);
    let scene = Scene::new(script, None, json!({})).await;
    let result = scene.attack("zombies").await.remove(0);
    assert!(result.contains("zombies: 100"), "{result}");
    let result = scene.attack("daemon").await.remove(0);
    let note = scene.plan.workspace.join("probe-daemon");
    let daemon: u32 = fs::read_to_string(note).expect("it ran").trim().parse().expect("a pid");
    wait::until("the daemon is gone", async || {
        (!is_alive(daemon) || !command_line(daemon).contains("probe")).then_some(())
    })
    .await;
    let worker = scene.plan.own_worker as u32;
    wait::until("nothing is left below the worker", async || commands_of(worker).is_empty().then_some(()))
        .await;
    assert!(result.contains("daemon: "), "{result}");
}
