//! The host: descriptors, memory and processes run out; standard error is blocked; process 1 of a container.

use super::{PATIENCE, cannot, plan, warm, with};
use crate::case::{Case, Outcome};
use harness::gateway::{free_port, is_alive};
use harness::matrix::Class;
use harness::matrix::processes;
use harness::wait;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub fn cases() -> Vec<Case> {
    vec![no_descriptors(), lock_replaced(), out_of_memory(), no_processes(), log_blocked(), process_one()]
}

fn prlimit(pid: u32, what: &str) -> Result<(), String> {
    let output = Command::new("prlimit").args(["--pid", &pid.to_string(), what]).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("no prlimit: {error}")),
    }
}

/// F14.
fn no_descriptors() -> Case {
    let mut case = Case::new("F14 no descriptors left", || {
        with(plan(), async |scene| {
            let pid = scene.gateway.pid();
            let used = processes::descriptors(pid);
            prlimit(pid, &format!("--nofile={}:4096", used + 2))?;
            // Clients that take what is left, and stay.
            let mut held = Vec::new();
            for _ in 0..40 {
                held.extend(tokio::net::TcpStream::connect(("127.0.0.1", scene.gateway.port)).await.ok());
            }
            let before = cpu_ticks(pid);
            scene.write(Class::Edit, 0, 1);
            wait::pause(std::time::Duration::from_secs(2)).await;
            let spent = cpu_ticks(pid) - before;
            // A hundred ticks are a second: a spinning accept loop would take two.
            if spent > 120 {
                return Err(format!("{spent} ticks of processor time in two seconds without descriptors"));
            }
            prlimit(pid, "--nofile=1024:4096")?;
            drop(held);
            scene.settle(PATIENCE).await?;
            Ok(format!("{used} in use, {spent} ticks spent"))
        })
    });
    case.injection = "prlimit --nofile on the live process, 40 clients".into();
    case.fault = "EMFILE".into();
    case.expected = "no spin, nothing lost, goes on when there are some again".into();
    case
}

fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let at = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    at(11) + at(12)
}

/// F32.
fn lock_replaced() -> Case {
    let mut case = Case::new("F32 lock file replaced", || {
        with(plan(), async |scene| {
            let lock = scene.gateway.state_dir().join("gateway.lock");
            fs::remove_file(&lock).map_err(|error| error.to_string())?;
            fs::write(&lock, "").map_err(|error| error.to_string())?;
            let output = Command::new(harness::executables::openclaw())
                .args(["gateway", "--port", &free_port().to_string()])
                .env_clear()
                .env("HOME", scene.gateway.home.path())
                .env("OPENCLAW_STATE_DIR", scene.gateway.state_dir())
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())?;
            if output.status.success() {
                return Err("a second gateway runs on the same state directory".into());
            }
            // The real lock must be free to be found free after the stop.
            Ok("the second start was refused".into())
        })
    });
    case.fault = "the lock file is deleted and made anew while it is held".into();
    case.expected = "a second start is refused all the same".into();
    case
}

/// F26.
fn out_of_memory() -> Case {
    let mut case = Case::new("F26 agent out of memory", || {
        with(plan(), async |scene| {
            let agent = scene.gateway.worker("openclaw-agent").await;
            prlimit(agent, "--data=1000000:1000000")?;
            // The next allocation that needs a page fails, and the process aborts.
            scene.write(Class::Edit, 0, 1);
            let gone = wait::within(PATIENCE, async || (!is_alive(agent)).then_some(())).await;
            scene.settle(PATIENCE).await?;
            Ok(if gone.is_some() { "aborted and replaced" } else { "did without" }.into())
        })
    });
    case.injection = "prlimit --data on the live agent".into();
    case.fault = "allocation fails".into();
    case.expected = "the worker is replaced, the message is answered".into();
    case
}

/// F28: a process limit, where root is not exempt from it: a cgroup with `pids.max`.
fn no_processes() -> Case {
    let mut case = Case::new("F28 no processes left", || async {
        let group = Path::new("/sys/fs/cgroup/pids").join(format!("openclaw-test-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&group) {
            return cannot(format!("no cgroup for processes: {error}"));
        }
        let outcome = with(plan(), async |scene| {
            let all = scene.processes();
            for process in &all {
                fs::write(group.join("cgroup.procs"), process.pid.to_string())
                    .map_err(|error| error.to_string())?;
            }
            let tasks = fs::read_to_string(group.join("pids.current")).unwrap_or_default();
            let tasks: u64 = tasks.trim().parse().unwrap_or(0);
            fs::write(group.join("pids.max"), tasks.to_string()).map_err(|error| error.to_string())?;
            let agent = scene.gateway.worker("openclaw-agent").await;
            let _killed = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(agent as i32),
                nix::sys::signal::Signal::SIGKILL,
            );
            fs::write(group.join("pids.max"), (tasks.saturating_sub(8)).max(1).to_string())
                .map_err(|error| error.to_string())?;
            scene.write(Class::Edit, 0, 1);
            wait::pause(std::time::Duration::from_secs(3)).await;
            if !is_alive(scene.gateway.pid()) {
                return Err("the supervisor died of a failed fork".into());
            }
            fs::write(group.join("pids.max"), "max").map_err(|error| error.to_string())?;
            scene.settle(PATIENCE).await?;
            Ok(format!("{tasks} tasks at most"))
        })
        .await;
        let _removed = fs::remove_dir(&group);
        outcome
    });
    case.injection = "cgroup pids.max".into();
    case.fault = "fork fails".into();
    case.expected = "back-off, the supervisor is fine, goes on when there is room".into();
    case
}

/// F47.
fn log_blocked() -> Case {
    let mut case = Case::new("F47 standard error blocked", || async {
        let mut scene = match warm(plan()).await {
            Ok(scene) => scene,
            Err(why) => return Outcome::failed(why),
        };
        let _stopped = scene.gateway.terminate();
        // Nobody ever reads the other end of this pipe.
        let (reader, writer) = match nix::unistd::pipe() {
            Ok(ends) => ends,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        scene.gateway.start_again_in(&[], Some(Stdio::from(writer)));
        let result = async {
            scene.ready(PATIENCE).await?;
            for nth in 1..30 {
                scene.write(Class::Edit, (nth % 5) as i64, nth);
                // Each refused call is a line in the log.
                let _refused = harness::http::get(scene.gateway.port, "/nothing", Some("wrong")).await;
            }
            scene.settle(PATIENCE).await?;
            Ok("29 messages with a full pipe".to_owned())
        }
        .await;
        let outcome = super::end(scene, result).await;
        drop(reader);
        outcome
    });
    case.injection = "standard error is a pipe that nobody reads".into();
    case.fault = "blocked log".into();
    case.expected = "messages are answered as ever".into();
    case
}

/// F50.
fn process_one() -> Case {
    let mut case = Case::new("F50 process 1", || async {
        let probe = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
        match probe {
            Ok(output) if output.status.success() => {}
            Ok(output) => return cannot(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => return cannot(format!("no unshare: {error}")),
        }
        let mut scene = harness::matrix::scene::Scene::start(plan()).await;
        scene.gateway.kill9();
        let inside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"];
        scene.gateway.start_again_in(&inside, None);
        let result = async {
            scene.ready(PATIENCE).await?;
            scene.write(Class::Edit, 0, 1);
            scene.settle(PATIENCE).await?;
            let inner = scene.processes().into_iter().find(|process| {
                process.command.contains("openclaw gateway") && !process.command.starts_with("unshare")
            });
            let inner = inner.ok_or("no gateway inside")?;
            let zombies = zombies_below(inner.pid);
            if zombies > 0 {
                return Err(format!("{zombies} zombies"));
            }
            nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(inner.pid as i32),
                nix::sys::signal::Signal::SIGTERM,
            )
            .map_err(|error| error.to_string())?;
            let gone = wait::within(PATIENCE, async || (!is_alive(inner.pid)).then_some(())).await;
            gone.ok_or("process 1 does not stop on SIGTERM")?;
            let _status = scene.gateway.wait_exit();
            scene.gateway.start_again();
            scene.ready(PATIENCE).await?;
            Ok("answered, no zombies, stopped on SIGTERM".to_owned())
        }
        .await;
        super::end(scene, result).await
    });
    case.injection = "unshare --pid --fork".into();
    case.fault = "the gateway is process 1".into();
    case.expected = "zombies are reaped, SIGTERM works".into();
    case
}

fn zombies_below(pid: u32) -> usize {
    let children = harness::gateway::children_of(pid);
    children.iter().filter(|pid| !is_alive(**pid)).count()
}
