//! `openclaw dead-letters`: messages that nobody will get unless a person decides.

use super::invocation::{Failure, Invocation};
use super::operator::{self, Listing};
use super::output;
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
    /// List them, oldest first (the default)
    List,
    /// Show one with its message
    Show {
        /// Number in the list
        id: u64,
    },
    /// Have the message answered, or the reply sent, after all
    Retry {
        /// Number in the list
        id: u64,
    },
    /// Forget one
    Discard {
        /// Number in the list
        id: u64,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command.unwrap_or(Command::List) {
            Command::List => listing().print(invocation, self.json),
            Command::Show { id } => operator::show(invocation, "dead-letters.get", &json!(id), self.json),
            Command::Retry { id } => {
                let done = format!("Dead letter {id} was put back; it is answered or sent in its turn.");
                operator::act(invocation, "dead-letters.retry", &json!(id), self.json, &done)
            }
            Command::Discard { id } => {
                let done = format!("Dead letter {id} is forgotten.");
                operator::act(invocation, "dead-letters.discard", &json!(id), self.json, &done)
            }
        }
    }
}

fn listing() -> Listing {
    Listing {
        method: "dead-letters.list",
        params: json!({}),
        key: "deadLetters",
        header: &["Id", "Kind", "Chat", "Why", "Age"],
        none: "No dead letters.",
        cells,
    }
}

fn cells(letter: &Value, now: i64) -> Vec<String> {
    vec![
        output::number(letter, "/id").to_string(),
        output::text(letter, "/kind").to_owned(),
        format!("{} {}", output::text(letter, "/account"), output::text(letter, "/chat")),
        output::text(letter, "/why").to_owned(),
        format!("{} ago", output::age(output::number(letter, "/atMs"), now)),
    ]
}
