//! `openclaw workers`: the processes behind the gateway.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

/// The gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

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
    /// End quarantine, back-off and the wait for a login
    Release {
        /// As `workers list` shows it
        id: String,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = invocation.client()?;
        let (method, id) = match self.command.unwrap_or(Command::List) {
            Command::List => {
                let listed = client.call("workers.list", &json!({}), TIMEOUT)?;
                return if self.json { output::json(&listed) } else { table(&listed) }
                    .map(|()| exit_code::OK);
            }
            Command::Restart { id } => ("workers.restart", id),
            Command::Stop { id } => ("workers.stop", id),
            Command::Release { id } => ("workers.release", id),
        };
        let answer = client.call(method, &json!({"id": id}), TIMEOUT)?;
        if self.json {
            output::json(&answer)?;
        } else {
            output::line(&format!("{method} {id}: told; `openclaw workers` shows its state."))?;
        }
        Ok(exit_code::OK)
    }
}

fn table(listed: &Value) -> Result<(), Failure> {
    let now = output::now_ms();
    let rows = listed["workers"].as_array().into_iter().flatten().map(|worker| {
        let memory = worker["pssKb"].as_u64().map_or_else(|| "-".to_owned(), output::megabytes);
        let pid = worker["pid"].as_u64().map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let crash = output::text(worker, "/lastCrash/ended");
        vec![
            output::text(worker, "/id").to_owned(),
            output::text(worker, "/state").to_owned(),
            pid,
            memory,
            output::number(worker, "/restarts").to_string(),
            output::age(output::number(worker, "/sinceMs"), now),
            [output::text(worker, "/why"), crash]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or("-")
                .to_owned(),
        ]
    });
    let header = ["Worker", "State", "PID", "Memory", "Restarts", "Since", "Why / last crash"];
    output::line(&output::table(&header, rows.collect()))
}
