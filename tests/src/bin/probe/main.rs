//! An attacker. Placed where hostile code could come to run (a command of a tool, a worker), it tries one way out after the other
//! and says what became of each. The gateway is contained when everything is refused.
//!
//! ```text
//! probe list <tool|agent|channel>          the table: name and what is tried, one JSON object a line
//! probe run  <plan> <tool|agent|channel>   every probe, each in a process of its own
//! probe one  <name>                        one probe; the plan comes on standard input
//! probe bomb <name>                        one that eats resources; see bombs.rs
//! openclaw-agent, openclaw-channel         (as its own name) the worker of the plan, hostile; see worker.rs
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program may fall over")]

mod attributes;
mod bombs;
mod files;
mod kernel;
mod limits;
mod network;
mod processes;
mod raw;
mod worker;

use harness::escape::{Attacker, Entry, MARK, Outcome, Plan, Report};
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// A probe that hangs that long was not let through.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(1);

/// An attempt: `Ok` holds the evidence that it succeeded.
type Attempt = fn(&Plan) -> io::Result<String>;

/// One row of the table. What must be seen is always the same: a refusal.
#[derive(Clone, Copy)]
struct Probe {
    name: &'static str,
    tries: &'static str,
    by: &'static [Attacker],
    attempt: Attempt,
}

const EVERYBODY: &[Attacker] = &[Attacker::Tool, Attacker::Agent, Attacker::Channel];
const WORKERS: &[Attacker] = &[Attacker::Agent, Attacker::Channel];
const TOOL: &[Attacker] = &[Attacker::Tool];

const fn all(name: &'static str, tries: &'static str, attempt: Attempt) -> Probe {
    Probe { name, tries, by: EVERYBODY, attempt }
}
const fn tool(name: &'static str, tries: &'static str, attempt: Attempt) -> Probe {
    Probe { name, tries, by: TOOL, attempt }
}
const fn workers(name: &'static str, tries: &'static str, attempt: Attempt) -> Probe {
    Probe { name, tries, by: WORKERS, attempt }
}

fn table() -> Vec<Probe> {
    [
        files::READ,
        files::WRITE,
        files::PLACES,
        attributes::ALL,
        processes::ALL,
        network::ALL,
        kernel::ALL,
        limits::ALL,
    ]
    .concat()
}

fn for_attacker(attacker: Attacker) -> Vec<Probe> {
    table().into_iter().filter(|probe| probe.by.contains(&attacker)).collect()
}

/// What the attack needs does not exist here.
fn absent(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what.to_owned())
}

fn attempt(probe: &Probe, plan: &Plan) -> Outcome {
    match (probe.attempt)(plan) {
        Ok(evidence) => Outcome::Succeeded(evidence),
        Err(error) if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() => {
            Outcome::Absent(error.to_string())
        }
        Err(error) => Outcome::Refused(error.to_string()),
    }
}

fn report(name: &str, outcome: Outcome) -> String {
    let line = Report { name: name.to_owned(), outcome };
    format!("{MARK}{}", serde_json::to_string(&line).expect("a report is JSON"))
}

/// Runs one probe in a process of its own: a filter may answer by killing. The plan goes along in a pipe, since where it lies the
/// confined may not look.
fn apart(probe: &Probe, plan: &Plan) -> io::Result<String> {
    let mut child = Command::new("/proc/self/exe")
        .args(["one", probe.name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let text = serde_json::to_vec(plan).map_err(io::Error::other)?;
    let _it_may_be_dead = child.stdin.take().map(|mut stdin| stdin.write_all(&text));
    let end = Instant::now() + PROBE_LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                return Ok(report(probe.name, Outcome::Refused("no answer within 10 s".to_owned())));
            }
            None => std::thread::sleep(POLL_EVERY),
        }
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut text)?;
    let line = text.lines().find(|line| line.starts_with(MARK)).map(str::to_owned);
    Ok(line.unwrap_or_else(|| report(probe.name, Outcome::Refused(format!("the attacker died: {status}")))))
}

/// The reports of all probes of an attacker. Where no process can be started, they run in this one.
fn run(plan: &Plan, attacker: Attacker, mut tell: impl FnMut(&str)) {
    for probe in for_attacker(attacker) {
        let line = apart(&probe, plan).unwrap_or_else(|_| report(probe.name, attempt(&probe, plan)));
        tell(&line);
    }
}

fn attacker(name: &str) -> Option<Attacker> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

fn read_plan(path: &str) -> Option<Plan> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let Some(code) = worker::main(&args) {
        return code;
    }
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let usage = || {
        eprintln!("usage: probe list ATTACKER | run PLAN ATTACKER | one NAME | bomb NAME");
        ExitCode::from(64)
    };
    match words[..] {
        ["list", who] => {
            let Some(who) = attacker(who) else { return usage() };
            for probe in for_attacker(who) {
                let entry = Entry { name: probe.name.to_owned(), tries: probe.tries.to_owned() };
                println!("{}", serde_json::to_string(&entry).expect("an entry is JSON"));
            }
        }
        ["run", plan, who] => {
            let (Some(read), Some(who)) = (read_plan(plan), attacker(who)) else { return usage() };
            run(&read, who, |line| println!("{line}"));
        }
        ["one", name] => {
            let plan = serde_json::from_reader(io::stdin()).ok();
            let (Some(plan), Some(probe)) = (plan, table().into_iter().find(|probe| probe.name == name))
            else {
                return usage();
            };
            println!("{}", report(probe.name, attempt(&probe, &plan)));
        }
        ["bomb", name] => return bombs::run(name),
        _ => return usage(),
    }
    ExitCode::SUCCESS
}
