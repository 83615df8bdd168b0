//! `openclaw dead-letters`: messages that nobody will get unless a person decides.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::json;
use std::time::Duration;

/// One look into the journal.
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
    /// List them, oldest first (the default)
    List,
    /// Forget one
    Discard {
        /// Number in the list
        id: u64,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = invocation.client()?;
        if let Some(Command::Discard { id }) = self.command {
            let answer = client.call("dead-letters.discard", &json!({"id": id}), TIMEOUT)?;
            if self.json {
                output::json(&answer)?;
            }
            if answer["discarded"] != true {
                return Err(Failure::new(format!("no dead letter {id}; `openclaw dead-letters` lists them")));
            }
            return Ok(exit_code::OK);
        }
        let listed = client.call("dead-letters.list", &json!({}), TIMEOUT)?;
        if self.json {
            output::json(&listed)?;
            return Ok(exit_code::OK);
        }
        let letters = listed["deadLetters"].as_array().cloned().unwrap_or_default();
        if letters.is_empty() {
            output::line("No dead letters.")?;
            return Ok(exit_code::OK);
        }
        let now = output::now_ms();
        let rows = letters.iter().map(|letter| {
            vec![
                output::number(letter, "/id").to_string(),
                output::text(letter, "/kind").to_owned(),
                format!("{} {}", output::text(letter, "/account"), output::text(letter, "/chat")),
                output::text(letter, "/why").to_owned(),
                format!("{} ago", output::age(output::number(letter, "/atMs"), now)),
            ]
        });
        output::line(&output::table(&["Id", "Kind", "Chat", "Why", "Age"], rows.collect()))?;
        Ok(exit_code::OK)
    }
}
