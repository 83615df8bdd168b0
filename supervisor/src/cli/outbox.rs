//! `openclaw outbox`: replies on their way to the chat networks.

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
    /// List what waits, what failed and what went out of date, oldest first (the default)
    List(ListArgs),
    /// Show one with its whole text
    Show {
        /// As `outbox list` shows it
        id: String,
    },
    /// Send one now, also one that failed, went out of date, or of which nobody knows whether it arrived
    Retry {
        /// As `outbox list` shows it
        id: String,
    },
    /// Give one up: nobody will get it
    Discard {
        /// As `outbox list` shows it
        id: String,
    },
}

#[derive(Debug, Default, clap::Args)]
struct ListArgs {
    /// Of one account only, for example telegram:default
    #[arg(long, value_name = "channel:account")]
    account: Option<String>,
    /// Also what was delivered (kept for a week)
    #[arg(long)]
    delivered: bool,
    /// At most so many
    #[arg(long, value_name = "n")]
    limit: Option<u32>,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command.unwrap_or_else(|| Command::List(ListArgs::default())) {
            Command::List(args) => listing(&args).print(invocation, self.json),
            Command::Show { id } => operator::show(invocation, "outbox.get", &json!(id), self.json),
            Command::Retry { id } => {
                let done =
                    format!("Delivery {id} is due now; `openclaw outbox show {id}` tells what became of it.");
                operator::act(invocation, "outbox.retry", &json!(id), self.json, &done)
            }
            Command::Discard { id } => {
                let done = format!("Delivery {id} is given up.");
                operator::act(invocation, "outbox.discard", &json!(id), self.json, &done)
            }
        }
    }
}

fn listing(args: &ListArgs) -> Listing {
    Listing {
        method: "outbox.list",
        params: json!({"account": args.account, "delivered": args.delivered, "limit": args.limit}),
        key: "outbox",
        header: &["Id", "Chat", "State", "Tries", "Text", "Why", "Age"],
        none: "Nothing waits, and nothing failed.",
        cells,
    }
}

fn cells(row: &Value, now: i64) -> Vec<String> {
    let state = output::text(row, "/state");
    let dup = row["maybeDup"] == true;
    vec![
        output::text(row, "/id").to_owned(),
        format!("{} {}", output::text(row, "/account"), output::text(row, "/chat")),
        if dup { format!("{state}, may be there twice") } else { state.to_owned() },
        output::number(row, "/attempts").to_string(),
        output::text(row, "/text").replace('\n', " "),
        output::text(row, "/why").to_owned(),
        output::age(output::number(row, "/createdAtMs"), now),
    ]
}
