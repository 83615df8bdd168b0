//! `openclaw stop` and `openclaw restart`.

use super::client::Client;
use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::{ConfigDisk, Environment, MISSING_VARIABLE, load_env};
use crate::exit_code;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// A stop without drain is forced after 5 s by the gateway itself; the rest is room for a loaded host.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// A drain waits for runs, each at most its own time-out.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);
/// From the request to the new start's answer.
const RESTART_TIMEOUT: Duration = Duration::from_secs(40);

#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Wait until the runs that are under way have ended
    #[arg(long)]
    drain: bool,
}

#[derive(Debug, clap::Args)]
pub struct RestartArgs {
    /// Milliseconds before the restart begins
    #[arg(long, default_value_t = 0, value_name = "ms")]
    delay: u64,
    /// Restart although the configuration file is invalid
    #[arg(long)]
    anyway: bool,
}

/// What is wrong with the file that the next start would read; `None` when it would do.
pub fn bad_config(client: &mut Client) -> Option<String> {
    let (state, errors) = refused(client)?;
    Some(format!("The configuration file does not run ({state}):\n{}", errors.join("\n")))
}

/// In a word why the file does not run, and the reasons.
fn refused(client: &mut Client) -> Option<(String, Vec<String>)> {
    let shown = client.call("config.get", &json!({}), Duration::from_secs(5)).ok()?;
    let state = output::text(&shown, "/active/state").to_owned();
    let errors = shown.pointer("/active/errors").and_then(Value::as_array).into_iter().flatten();
    let errors = errors.filter_map(Value::as_str).map(str::to_owned).collect();
    matches!(state.as_str(), "invalid" | "rolledBack").then_some((state, errors))
}

/// A start reads the variables anew: all that the gateway misses may stand in their files by now.
fn is_had_by_now(invocation: &Invocation, errors: &[String]) -> bool {
    let env = load_env(Environment::default(), &invocation.paths, None);
    let file = ConfigDisk::new(invocation.paths.clone(), env).read();
    let missing = file.missing_secrets(&invocation.paths.state_dir);
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let had = |error: &String| error.contains(MISSING_VARIABLE) && !missing.contains(error);
    !errors.is_empty() && errors.iter().all(had)
}

impl StopArgs {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = match Client::connect(&invocation.paths) {
            Ok(client) => client,
            Err(error) => return Err(invocation.unreachable(&error)),
        };
        if let Some(why) = bad_config(&mut client) {
            output::line(&format!(
                "Warning: {why}\nA start by hand needs --use-last-good until it is mended."
            ))?;
        }
        let pid = client.pid;
        let process = open(pid)?;
        if self.drain {
            output::line("Waiting for runs to end …")?;
            client.call("gateway.drain", &json!({}), DRAIN_TIMEOUT)?;
        }
        // A service manager would start a gateway again that was only told to end.
        if super::service::stop_unit_of(pid)? {
            output::line(&format!("Gateway service stopped (pid {pid})."))?;
            return Ok(exit_code::OK);
        }
        pidfd_send_signal(&process, Signal::TERM)
            .map_err(|error| Failure::new(format!("cannot stop the gateway (pid {pid}): {error}")))?;
        if !ended(&process, STOP_TIMEOUT) {
            return Err(Failure::new(format!(
                "the gateway (pid {pid}) has not ended within {STOP_TIMEOUT:?}"
            )));
        }
        output::line(&format!("Gateway stopped (pid {pid})."))?;
        Ok(exit_code::OK)
    }
}

impl RestartArgs {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = invocation.client()?;
        let bad = refused(&mut client);
        let had = bad.as_ref().is_some_and(|(_, errors)| is_had_by_now(invocation, errors));
        if let Some(why) = bad_config(&mut client).filter(|_| !self.anyway && !had) {
            let remedy = "Mend the file, or restart with the last good one: openclaw restart --anyway";
            return Err(Failure::with_code(format!("{why}\n{remedy}"), exit_code::CONFIG));
        }
        let before = client.call("system.info", &json!({}), Duration::from_secs(5))?;
        let params =
            json!({"delayMs": self.delay, "reason": "openclaw restart", "useLastGood": self.anyway || had});
        let plan = client.call("gateway.restart", &params, Duration::from_secs(5))?;
        let wait = Duration::from_millis(plan["delayMs"].as_u64().unwrap_or(self.delay));
        if plan["cooldownMsApplied"].as_i64().unwrap_or_default() > 0 {
            let seconds = wait.as_secs();
            output::line(&format!("Restarting in {seconds} s: two restarts are at least 30 s apart."))?;
        }
        let mut client = until_restarted(invocation, &before, wait)?;
        let now = client.call("system.info", &json!({}), Duration::from_secs(5))?;
        let (from, to) = (output::text(&before, "/version"), output::text(&now, "/version"));
        let builds = if from == to { from.to_owned() } else { format!("{from} → {to}") };
        output::line(&format!("Gateway restarted (pid {}, build {builds}).", client.pid))?;
        Ok(exit_code::OK)
    }
}

/// Waits for the restart that begins in `wait` and gives a connection to the gateway after it. `before`: its `system.info`
/// when the restart was asked for.
pub fn until_restarted(invocation: &Invocation, before: &Value, wait: Duration) -> Result<Client, Failure> {
    let end = Instant::now() + RESTART_TIMEOUT + wait;
    while Instant::now() < end {
        if let Ok(mut client) = Client::connect(&invocation.paths)
            && let Ok(now) = client.call("system.info", &json!({}), Duration::from_secs(2))
            && let Some(outcome) = outcome(before, &now)
        {
            return outcome.map(|()| client);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(Failure::new("the gateway did not come back; see `openclaw status` and its log"))
}

/// How the restart went that was asked for after `before`; `None` while it is under way.
fn outcome(before: &Value, now: &Value) -> Option<Result<(), Failure>> {
    let last = &now["lastRestart"];
    let told = last["atMs"].as_i64() > before["lastRestart"]["atMs"].as_i64();
    let replaced = output::text(now, "/bootId") != output::text(before, "/bootId");
    if told && last["ok"] == false {
        let why = output::text(last, "/why");
        let text = if replaced {
            format!("the new release does not work, the one before goes on: {why}")
        } else {
            format!("not restarted, everything goes on as it was: {why}")
        };
        return Some(Err(Failure::new(text)));
    }
    replaced.then_some(Ok(()))
}

fn open(pid: u32) -> Result<OwnedFd, Failure> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let opened = raw.ok_or_else(|| Failure::new("the gateway did not name its process"))?;
    pidfd_open(opened, PidfdFlags::empty()).map_err(|error| Failure::new(format!("pid {pid}: {error}")))
}

/// Waits until the process behind the descriptor has ended.
fn ended(process: &OwnedFd, timeout: Duration) -> bool {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let timeout = rustix::time::Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
