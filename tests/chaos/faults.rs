//! The fault plan: what else can go wrong on a machine, one case each. Those that cannot be injected here are listed with the
//! reason; those that have a test of their own elsewhere name it.

mod clock;
mod host;
mod network;
mod processes;
mod shim;
mod storage;

use crate::case::{Case, Outcome, Tier};
use harness::executables;
use harness::matrix::Class;
use harness::matrix::scene::{Plan, Scene};
use harness::oracle;
use std::time::Duration;

/// Anything that heals does so in this time, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Covered by tests of the other target (`it`) and of the crates, by their names there.
const ELSEWHERE: &[(&str, &str)] = &[
    ("F1", "the ch.* points above, and the kills"),
    ("F2", "the ag.* points above, and the kills"),
    (
        "F4",
        "it: supervision::a_killed_agent_takes_its_tools_with_it_daemons_included, and the kills of tools",
    ),
    ("F6", "supervisor: worker::tests (exit 78 ends in quarantine at once); it: reload"),
    ("F7", "it: poison"),
    (
        "F11",
        "supervisor: worker::lifecycle (Stuck starts no replacement); a process in D state cannot be made",
    ),
    ("F12", "it: faults::a_full_disk_refuses_new_messages_by_name_and_recovers_by_itself"),
    ("F19", "supervisor: worker::tests (hostile workers)"),
    ("F20", "proto: wire::state (credit stops the producer)"),
    ("F23", "supervisor: front::ws (a handler that panics ends its request)"),
    ("F25", "F9, which is the same for the process: its timers are late"),
    ("F27", "it: escape::bombs, confine::too_much_memory_and_too_many_processes_are_explained"),
    ("F29", "it: upgrade::broken::what_is_no_gateway_is_never_started"),
    ("F30", "it: instances::a_taken_port_is_refused_by_name"),
    ("F31", "it: instances::of_twenty_started_at_once_one_remains"),
    ("F33", "it: telegram::a_bot_is_used_by_one_gateway_and_the_other_names_it"),
    ("F34", "it: config, reload, bad_configs"),
    ("F35", "it: reload::a_configuration_that_kills_its_agent_is_never_given_to_it_or_taken_back"),
    ("F36", "it: keep_sockets, upgrade::under_load; the program openclaw-upgrades"),
    ("F37", "it: upgrade::broken"),
    ("F38", "it: upgrade::broken::a_signal_between_two_images_reaches_the_next_one"),
    ("F39", "it: upgrade (workers of another build); no release with another protocol exists yet"),
    ("F43", "the point sv.migrate.mid above"),
    ("F44", "it: confine::a_host_without_landlock_is_refused_with_the_remedy"),
    ("F45", "it: escape"),
    ("F46", "the oracle's I9 after every case"),
    ("F48", "openclaw-bench churn"),
];

pub fn cases(tier: Tier, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    if tier == Tier::Smoke {
        cases.push(processes::supervisor_killed());
        cases.push(network::redelivery());
        cases.push(network::lost_answers());
        return cases;
    }
    cases.extend(processes::cases(seed));
    cases.extend(network::cases());
    cases.extend(storage::cases());
    cases.extend(host::cases());
    cases.extend(clock::cases());
    cases.extend(ELSEWHERE.iter().map(|(name, place)| {
        let outcome = Outcome::skipped(format!("covered by {place}"));
        Case::new(*name, move || async move { outcome })
    }));
    cases
}

/// A gateway that runs and has answered once.
async fn warm(plan: Plan) -> Result<Scene, String> {
    let mut scene = Scene::start(plan).await;
    scene.ready(PATIENCE).await?;
    scene.write(Class::Edit, 0, 0);
    scene.settle(PATIENCE).await?;
    Ok(scene)
}

fn plan() -> Plan {
    Plan::new(executables::directory())
}

/// What the books say in the end; `result` is what went wrong on the way.
async fn end(mut scene: Scene, result: Result<String, String>) -> Outcome {
    let mut outcome = Outcome::default();
    let settled = scene.settle(PATIENCE).await;
    outcome.verdict = oracle::running(&scene);
    outcome.verdict.broken.extend(settled.err());
    match result {
        Ok(note) => outcome.note = note,
        Err(why) => outcome.verdict.broken.insert(0, why),
    }
    if outcome.passed() {
        oracle::stopped(&mut scene, &mut outcome.verdict).await;
    }
    if !outcome.passed() {
        let log = scene.gateway.log();
        let lines: Vec<&str> = log.lines().collect();
        outcome.verdict.broken.push(format!("log:\n{}", lines[lines.len().saturating_sub(40)..].join("\n")));
    }
    outcome
}

/// [`warm`], the fault, [`end`].
async fn with(plan: Plan, fault: impl AsyncFnOnce(&mut Scene) -> Result<String, String>) -> Outcome {
    let mut scene = match warm(plan).await {
        Ok(scene) => scene,
        Err(why) => return Outcome::failed(why),
    };
    let result = fault(&mut scene).await;
    end(scene, result).await
}

/// Missing tool or right: skipped here, a failure in CI.
fn cannot(why: String) -> Outcome {
    if std::env::var_os("CI").is_some() { Outcome::failed(why) } else { Outcome::skipped(why) }
}
