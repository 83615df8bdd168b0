//! Processes that die, stop, or do not come back.

use super::{PATIENCE, end, plan, with};
use crate::case::Case;
use harness::gateway::{children_of, is_alive};
use harness::matrix::Class;
use harness::matrix::scene::{Plan, Scene};
use harness::{executables, oracle, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

pub fn cases(_seed: u64) -> Vec<Case> {
    let mut cases = vec![
        supervisor_killed(),
        all_workers_killed(),
        supervisor_stopped(),
        worker_crash_loop(),
        worker_spins(),
    ];
    cases.extend([("F8 agent", "openclaw-agent"), ("F8 channel", "openclaw-channel")].map(worker_stopped));
    cases.extend(["ready", "message", "streaming", "after"].map(terminated));
    cases
}

fn send(pid: u32, signal: Signal) {
    // One that is gone already needs none.
    let _gone = kill(Pid::from_raw(pid as i32), signal);
}

async fn message(scene: &mut Scene, nth: usize) -> Result<(), String> {
    scene.write(Class::Edit, 0, nth);
    scene.settle(PATIENCE).await
}

/// F3.
pub fn supervisor_killed() -> Case {
    let mut case = Case::new("F3 supervisor killed", || {
        with(plan(), async |scene| {
            scene.write(Class::Edit, 0, 1);
            let tool = wait::within(PATIENCE, async || (!scene.model.book().is_empty()).then_some(())).await;
            tool.ok_or("the run does not start")?;
            let all: Vec<u32> = scene.processes().iter().map(|process| process.pid).collect();
            let at = Instant::now();
            send(scene.gateway.pid(), Signal::SIGKILL);
            let left = wait::until_gone(&all);
            if !left.is_empty() {
                return Err(format!("I7: outlive their supervisor: {left:?}"));
            }
            let gone = at.elapsed().as_millis();
            wait::within(PATIENCE, async || scene.tend().await.then_some(())).await;
            scene.ready(PATIENCE).await?;
            Ok(format!(
                "{} processes gone after {gone} ms, ready after {} ms",
                all.len(),
                at.elapsed().as_millis()
            ))
        })
    });
    case.fault = "kill -9 of the supervisor in mid-run".into();
    case.expected = "all workers and tools gone, the same answers after the next start".into();
    case
}

/// F5.
fn all_workers_killed() -> Case {
    let mut case = Case::new("F5 all workers killed 20 times", || {
        with(plan(), async |scene| {
            let before = harness::matrix::processes::rss_kb(scene.gateway.pid());
            for round in 0..20 {
                scene.write(Class::Edit, 1, round);
                for pid in children_of(scene.gateway.pid()) {
                    send(pid, Signal::SIGKILL);
                }
                let back = wait::within(PATIENCE, async || {
                    (children_of(scene.gateway.pid()).iter().filter(|pid| is_alive(**pid)).count() >= 2)
                        .then_some(())
                })
                .await;
                back.ok_or(format!("the workers are not back after round {round}"))?;
            }
            scene.settle(PATIENCE).await?;
            let after = harness::matrix::processes::rss_kb(scene.gateway.pid());
            Ok(format!("supervisor {before} KiB before, {after} KiB after"))
        })
    });
    case.fault = "kill -9 of every worker at once, 20 times".into();
    case
}

/// A worker that crashes by itself again and again ends in quarantine, is named, and comes back when it is released.
fn worker_crash_loop() -> Case {
    let mut case = Case::new("F5 crash loop", || {
        with(plan(), async |scene| {
            let quarantined = wait::within(PATIENCE, async || {
                let workers = scene.workers();
                let agent = workers.iter().find(|worker| worker["id"] == "agent:main")?;
                if agent["state"] == "quarantined" {
                    return Some(());
                }
                if let Some(pid) = agent["pid"].as_u64() {
                    send(pid as u32, Signal::SIGABRT);
                }
                None
            })
            .await;
            quarantined.ok_or("seven crashes and no quarantine")?;
            oracle::status_names(scene, &["agent:main", "quarantined"])?;
            scene.gateway.cli(&["gateway", "call", "workers.release", "--params", r#"{"id":"agent:main"}"#]);
            message(scene, 1).await?;
            Ok("quarantined, named, released".into())
        })
    });
    case.fault = "an agent that ends by SIGABRT each time".into();
    case.expected = "quarantine, status names it, siblings unaffected; works again after the release".into();
    case
}

/// F8: 60 s: hung, ended, replaced. (10 s: see the soak.)
fn worker_stopped((name, program): (&'static str, &'static str)) -> Case {
    let mut case = Case::new(format!("{name} stopped for good"), move || {
        with(plan(), async move |scene| {
            let pid = scene.gateway.worker(program).await;
            send(pid, Signal::SIGSTOP);
            scene.write(Class::Edit, 0, 1);
            let at = Instant::now();
            let gone = wait::within(PATIENCE, async || (!is_alive(pid)).then_some(())).await;
            gone.ok_or("a stopped worker is never ended")?;
            let found = at.elapsed().as_secs();
            scene.settle(PATIENCE).await?;
            Ok(format!("found and ended after {found} s"))
        })
    });
    case.slow = true;
    case.fault = format!("SIGSTOP of {program}");
    case.expected = "suspect, hung, ended after 30 s, replaced; the message is answered".into();
    case
}

/// F10: the thread that runs the agent's tasks never gets any further; only its guard can still speak.
fn worker_spins() -> Case {
    let mut case = Case::new("F10 agent spins", || {
        let mut plan = Plan::new(executables::with_failpoints());
        plan.failpoints = "ag.llm.after=1*return(spin)".into();
        async {
            let mut scene = Scene::start(plan).await;
            let result = async {
                scene.ready(PATIENCE).await?;
                message(&mut scene, 1).await?;
                let log = scene.gateway.log();
                if !scene.reborn() || !log.contains("dump: run ") {
                    return Err("the agent was not replaced, or did not say where it hangs".to_owned());
                }
                Ok("it said where it hangs, and was replaced".to_owned())
            }
            .await;
            end(scene, result).await
        }
    });
    case.slow = true;
    case.fault = "a busy loop in the agent's runtime".into();
    case.injection = "failpoint ag.llm.after=spin".into();
    case.expected = "hung after 30 s: dump, ABRT, a new process, one answer".into();
    case
}

/// F9.
fn supervisor_stopped() -> Case {
    let mut case = Case::new("F9 supervisor stopped for 40 s", || {
        with(plan(), async |scene| {
            let workers = children_of(scene.gateway.pid());
            scene.gateway.signal(Signal::SIGSTOP);
            scene.write(Class::Edit, 0, 1);
            wait::pause(Duration::from_secs(40)).await;
            scene.gateway.signal(Signal::SIGCONT);
            scene.settle(PATIENCE).await?;
            let now = children_of(scene.gateway.pid());
            if workers.iter().any(|pid| !now.contains(pid)) {
                return Err(format!(
                    "workers were replaced for the supervisor's own absence: {workers:?}, {now:?}"
                ));
            }
            Ok("no worker was blamed".into())
        })
    });
    case.slow = true;
    case.fault = "SIGSTOP of the supervisor for 40 s".into();
    case.expected = "all deadlines re-based, the same workers, the message is answered".into();
    case
}

/// F49.
fn terminated(phase: &'static str) -> Case {
    let mut case = Case::new(format!("F49 terminated: {phase}"), move || {
        with(plan(), async move |scene| {
            if phase != "ready" {
                scene.write(Class::Edit, 0, 1);
            }
            let begun = scene.model.book().len();
            let reached = wait::within(PATIENCE, async || match phase {
                "streaming" => (scene.model.book().len() > begun).then_some(()),
                "after" => (scene.telegram.visible_texts(7001).len() > 2).then_some(()),
                _ => Some(()),
            })
            .await;
            reached.ok_or("the phase is not reached")?;
            let at = Instant::now();
            let status = scene.gateway.signal_and_wait(Signal::SIGTERM);
            if !status.success() {
                return Err(format!("ended with {status}"));
            }
            let took = at.elapsed().as_millis();
            scene.gateway.start_again();
            scene.ready(PATIENCE).await?;
            Ok(format!("stopped within {took} ms"))
        })
    });
    case.fault = format!("SIGTERM, phase {phase}");
    case.expected = "exit 0, the message is answered after the next start".into();
    case
}
