//! The wall clock is set while replies wait and a run is under way.

use super::shim::Shim;
use super::{PATIENCE, cannot, plan, with};
use crate::case::Case;
use harness::executables;
use harness::matrix::Class;
use harness::matrix::scene::{Plan, Scene};
use harness::telegram_server::Fault;
use harness::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

const HOUR: i64 = 3600;
/// Replies live for an hour and are looked at every 30 s: this long they wait after the clock was set.
const LOOKED_AT: Duration = Duration::from_secs(33);

/// Looks of an agent at its clock before it is set: about one message's, so that it happens within the work on another.
const LOOKS: u32 = 40;
/// Messages of each of two people.
const MESSAGES: usize = 4;

pub fn cases() -> Vec<Case> {
    let jumps = [
        ("1 h forward", HOUR),
        ("1 h back", -HOUR),
        ("1 day forward", 24 * HOUR),
        ("1 day back", -24 * HOUR),
    ];
    jumps.map(set).into_iter().chain(jumps.map(set_for_agent)).collect()
}

/// F24, of the agent's process: its clock is off at first and is set in the middle of its work.
fn set_for_agent((name, seconds): (&'static str, i64)) -> Case {
    let mut case = Case::new(format!("F24 agent's clock set {name}"), move || async move {
        let mut plan = Plan::new(executables::with_failpoints());
        plan.failpoints = format!("ag.clock={LOOKS}*return(skew({}))->off", -seconds);
        plan.tool_ms = 500;
        with(plan, async |scene| {
            for nth in 1..=MESSAGES {
                scene.write(Class::Edit, 0, nth);
                scene.write(Class::Edit, 1, nth);
                scene.settle(PATIENCE).await?;
            }
            Ok(format!("{seconds} s, within {} messages", 2 * MESSAGES))
        })
        .await
    });
    case.slow = true;
    case.fault = format!("the clock is set {name} while the agent works");
    case.injection = format!("failpoint ag.clock, after {LOOKS} looks at the clock");
    case.expected = "every message is answered once".into();
    case
}

/// F24.
fn set((name, seconds): (&'static str, i64)) -> Case {
    let mut case = Case::new(format!("F24 clock set {name}"), move || async move {
        let shim = match Shim::build() {
            Ok(shim) => shim,
            Err(why) => return cannot(why),
        };
        let mut plan = plan();
        plan.env.extend(shim.preload());
        plan.tool_ms = 3_000;
        with(plan, async |scene| {
            work_waits(scene, 1).await?;
            shim.set_clock(seconds)?;
            // The run under way loses its worker: it goes on, whatever the clock makes of its age.
            let agent = scene.gateway.worker("openclaw-agent").await;
            kill(Pid::from_raw(agent as i32), Signal::SIGKILL).map_err(|error| error.to_string())?;
            wait::pause(LOOKED_AT).await;
            scene.telegram.heal();
            scene.settle(PATIENCE).await?;
            if !scene.gateway.log().contains("the clock of this host was set") {
                return Err("nobody noticed that the clock was set".into());
            }
            // And back, while no gateway runs.
            work_waits(scene, 2).await?;
            scene.gateway.kill9();
            shim.set_clock(0)?;
            scene.tend().await;
            scene.ready(PATIENCE).await?;
            scene.telegram.heal();
            scene.settle(PATIENCE).await?;
            Ok(format!("{seconds} s, and back over a restart"))
        })
        .await
    });
    case.slow = true;
    case.fault = format!("the clock is set {name} while a reply and a run wait");
    case.injection = "LD_PRELOAD: clock_gettime(CLOCK_REALTIME) of the supervisor".into();
    case.expected = "nothing expires, nothing waits for an hour, the run is resumed".into();
    case
}

/// One reply that cannot be sent, and one run that is in its tool.
async fn work_waits(scene: &mut Scene, nth: usize) -> Result<(), String> {
    for method in ["sendMessage", "editMessageText"] {
        scene.telegram.fault(method, 100_000, Fault::Refuse(500, "Internal Server Error".into()));
    }
    scene.write(Class::Edit, 0, nth);
    let waiting =
        wait::within(PATIENCE, async || (scene.info()?["journal"]["outboxOpen"].as_u64()? > 0).then_some(()))
            .await;
    waiting.ok_or("no reply waits")?;
    let asked = scene.model.book().len();
    scene.write(Class::Edit, 1, nth);
    let running = wait::within(PATIENCE, async || (scene.model.book().len() > asked).then_some(())).await;
    running.ok_or_else(|| "no run is under way".to_owned())
}
