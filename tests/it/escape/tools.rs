//! Hostile commands: the table of probes from within `exec`.

use super::scene::{NOBODY, Scene, exec, scripted};
use super::{expect_no_holes, holes};
use harness::escape::{Attacker, reports};
use serde_json::json;

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

async fn attacked(user: Option<u32>) {
    let script = scripted(&[("attack", exec("./probe run plan.json tool"))]);
    let scene = Scene::new(script, user, json!({})).await;
    let results = scene.attack("attack").await;
    expect_no_holes(Attacker::Tool, &reports(&results[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_gets_out_nowhere() {
    attacked(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_of_an_ordinary_user_gets_out_nowhere() {
    if is_root() {
        attacked(Some(NOBODY)).await;
    }
}

/// The probes are real attacks: without walls most of them succeed. Otherwise a refusal would prove nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_walls_the_same_attacks_succeed() {
    let script = scripted(&[("attack", exec("./probe run plan.json tool"))]);
    let scene = Scene::new(script, None, json!({"isolation": {"mode": "off"}})).await;
    let results = scene.attack("attack").await;
    let found = holes(Attacker::Tool, &reports(&results[0]));
    assert!(found.len() >= 60, "{} attacks work without walls: {found:?}", found.len());
}
