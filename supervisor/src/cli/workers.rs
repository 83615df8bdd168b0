//! `openclaw workers`: the processes behind the gateway.

use super::invocation::{Failure, Invocation};
use super::operator::{self, Listing};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print one JSON document
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them (the default)
    List,
    /// Let one finish its work, then start it again; also ends a quarantine
    Restart {
        /// For example agent:main or channel:telegram:default
        id: String,
    },
    /// Stop one now; it starts again when somebody wants it
    Stop {
        /// As `workers list` shows it
        id: String,
    },
    /// Start one that rests, pauses after a crash, is quarantined or waits for a login
    #[command(visible_alias = "release")]
    Start {
        /// As `workers list` shows it
        id: String,
    },
    /// Show what one does now, by its own word and by the kernel's; it goes on undisturbed
    Dump {
        /// As `workers list` shows it
        id: String,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let (method, id) = match self.command.unwrap_or(Command::List) {
            Command::List => return listing().print(invocation, self.json),
            Command::Dump { id } => return dump(invocation, &id, self.json),
            Command::Restart { id } => ("workers.restart", id),
            Command::Stop { id } => ("workers.stop", id),
            Command::Start { id } => ("workers.start", id),
        };
        let done = format!("{method} {id}: told; `openclaw workers` shows its state.");
        operator::act(invocation, method, &json!(id), self.json, &done)
    }
}

fn listing() -> Listing {
    Listing {
        method: "workers.list",
        params: json!({}),
        key: "workers",
        header: &["Worker", "State", "PID", "Memory", "Restarts", "Since", "Why / last crash"],
        none: "No workers.",
        cells,
    }
}

fn cells(worker: &Value, now: i64) -> Vec<String> {
    let pid = worker["pid"].as_u64().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let crash = match output::text(worker, "/lastCrash/ended") {
        "" => String::new(),
        ended => {
            let ago = output::age(output::number(worker, "/lastCrash/atMs"), now);
            format!("{ended} {ago} ago, crash/{}", output::text(worker, "/lastCrash/report"))
        }
    };
    let why = [output::text(worker, "/why").to_owned(), crash];
    vec![
        output::text(worker, "/id").to_owned(),
        output::text(worker, "/state").to_owned(),
        pid,
        output::memory(worker),
        output::number(worker, "/restarts").to_string(),
        output::age(output::number(worker, "/sinceMs"), now),
        why.into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned()),
    ]
}

fn dump(invocation: &Invocation, id: &str, json: bool) -> Result<u8, Failure> {
    let shown = invocation.client()?.call("workers.dump", &json!({"id": id}), operator::TIMEOUT)?;
    if json {
        output::json(&shown)?;
        return Ok(exit_code::OK);
    }
    let lines = |pointer: &str| -> Vec<String> {
        let list = shown.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        list.map(|line| line.as_str().map_or_else(|| line.to_string(), str::to_owned)).collect()
    };
    let (state, pid) = (output::text(&shown, "/worker/state"), output::number(&shown, "/worker/pid"));
    output::line(&format!(
        "{id}: {state}, pid {pid}, restarts {}",
        output::number(&shown, "/worker/restarts")
    ))?;
    for (title, pointer) in [
        ("Runs", "/runs"),
        ("Works on", "/dump/inFlight"),
        ("Its own word", "/dump/said"),
        ("Threads, by the kernel", "/dump/process/threads"),
        ("Last frames (code, corr, bytes)", "/dump/frames"),
        ("Its last lines", "/dump/log"),
    ] {
        let lines = lines(pointer);
        let nothing = if lines.is_empty() { " none" } else { "" };
        output::line(&format!("\n{title}:{nothing}"))?;
        for line in lines {
            output::line(&format!("  {line}"))?;
        }
    }
    for (title, pointer) in
        [("Last pong", "/dump/lastPong"), ("Process, by the kernel", "/dump/process/status")]
    {
        output::line(&format!("\n{title}: {}", shown.pointer(pointer).unwrap_or(&Value::Null)))?;
    }
    Ok(exit_code::OK)
}
