//! `openclaw workers`: the processes behind the gateway.

mod dump;

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
    /// Stop one now: a channel until `start` or `restart`, an agent until it has something to answer
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
            Command::Dump { id } => return show_dump(invocation, &id, self.json),
            Command::Restart { id } => ("workers.restart", id),
            Command::Stop { id } => return stop(invocation, &id, self.json),
            Command::Start { id } => ("workers.start", id),
        };
        let done = format!("{method} {id}: told; `openclaw workers` shows its state.");
        operator::act(invocation, method, &json!(id), self.json, &done)
    }
}

fn stop(invocation: &Invocation, id: &str, json: bool) -> Result<u8, Failure> {
    let answer = invocation.client()?.call("workers.stop", &json!({"id": id}), operator::TIMEOUT)?;
    if json {
        output::json(&answer)?;
        return Ok(exit_code::OK);
    }
    output::line(&match output::text(&answer, "/lasts") {
        "untilWanted" => {
            format!("{id}: told to stop. It starts again by itself when it has something to answer.")
        }
        "untilStarted" => format!(
            "{id}: told to stop. It stays stopped, over restarts of the gateway too, until `openclaw workers start {id}`."
        ),
        _ => format!(
            "{id}: told to stop. It stays stopped until `openclaw workers start {id}`, but the journal cannot write: a start of the gateway will start it too."
        ),
    })?;
    Ok(exit_code::OK)
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
            format!("last crash {ago} ago: {ended}, crash/{}", output::text(worker, "/lastCrash/report"))
        }
    };
    let why = [output::text(worker, "/why").to_owned(), crash];
    let why = why.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    vec![
        output::text(worker, "/id").to_owned(),
        output::text(worker, "/state").to_owned(),
        pid,
        output::memory(worker),
        output::number(worker, "/restarts").to_string(),
        output::age(output::number(worker, "/sinceMs"), now),
        if why.is_empty() { "-".to_owned() } else { why },
    ]
}

fn show_dump(invocation: &Invocation, id: &str, json: bool) -> Result<u8, Failure> {
    let shown = invocation.client()?.call("workers.dump", &json!({"id": id}), operator::TIMEOUT)?;
    if json {
        output::json(&shown)?;
        return Ok(exit_code::OK);
    }
    for line in dump::lines(id, &shown, output::now_ms()) {
        output::line(&line)?;
    }
    Ok(exit_code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_it_rests_does_not_hide_its_last_crash() {
        let crash = json!({"ended": "exit code 1", "atMs": 0, "report": "7-agent_main-1.json"});
        let mut worker =
            json!({"id": "agent:main", "state": "backoff", "why": "restarts often", "lastCrash": crash});
        let shown = |worker: &Value| cells(worker, 60_000).pop().unwrap_or_default();
        let crash = "last crash 1m ago: exit code 1, crash/7-agent_main-1.json";
        assert_eq!(shown(&worker), format!("restarts often; {crash}"));
        worker["why"] = Value::Null;
        assert_eq!(shown(&worker), crash);
        worker["lastCrash"] = Value::Null;
        assert_eq!(shown(&worker), "-");
    }
}
