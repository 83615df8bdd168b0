//! `openclaw pairing list|approve|revoke`: senders who asked to be let in. Through the gateway when it runs, else on its
//! files, under the instance lock when it writes.

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use crate::lock::{self, Held};
use crate::router::pairing::{CODE_TTL_MS, PairingStore};
use serde_json::{Value, json};
use std::time::Duration;

/// Files of a few kilobytes, and a lock that is held for as long as they are written.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Senders who wait
    List {
        /// Channel; all when absent
        channel: Option<String>,
        /// The same as the argument
        #[arg(long = "channel", value_name = "channel", conflicts_with = "channel")]
        named: Option<String>,
        /// Only this account of the channel
        #[arg(long, value_name = "id")]
        account: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Let a sender in
    Approve {
        /// Channel; may be left out when only one is configured
        #[arg(value_name = "channel")]
        first: String,
        /// Code that the sender was given
        #[arg(value_name = "code")]
        second: Option<String>,
        /// The channel, when the only argument is the code
        #[arg(long, value_name = "channel", conflicts_with = "second")]
        channel: Option<String>,
        /// Only a request of this account
        #[arg(long, value_name = "id")]
        account: Option<String>,
        /// Tell the sender
        #[arg(long)]
        notify: bool,
    },
    /// Take an approval back
    Revoke {
        channel: String,
        /// Sender's id on that network
        id: String,
        /// Account of the channel
        #[arg(long, value_name = "id")]
        account: Option<String>,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command {
            Command::List { channel, named, account, json } => {
                list(invocation, channel.or(named).as_deref(), account.as_deref(), json)
            }
            Command::Approve { first, second, channel, account, notify } => {
                let (channel, code) = match (channel, second) {
                    (None, Some(code)) => (first, code),
                    (Some(channel), _) => (channel, first),
                    (None, None) => (only_channel(invocation)?, first),
                };
                approve(invocation, &channel.trim().to_lowercase(), &code, account.as_deref(), notify)
            }
            Command::Revoke { channel, id, account } => {
                revoke(invocation, &channel.trim().to_lowercase(), &id, account.as_deref())
            }
        }
    }
}

/// Where the requests are: behind a gateway, or on the disk while there is none.
enum Place {
    Gateway(Client),
    Files { store: PairingStore, _lock: Option<Held> },
}

impl Place {
    fn find(invocation: &Invocation, writes: bool) -> Result<Self, Failure> {
        match Client::connect(&invocation.paths) {
            Ok(client) => Ok(Self::Gateway(client)),
            Err(ClientError::NotRunning) => {
                let dir = &invocation.paths.state_dir;
                let lock = (writes && dir.is_dir()).then(|| lock::lock_instance(dir)).transpose();
                let lock = lock.map_err(|error| Failure::new(error.to_string()))?;
                lock.iter().for_each(|held| held.note_command("openclaw pairing"));
                Ok(Self::Files { store: PairingStore::new(&invocation.paths.credentials_dir), _lock: lock })
            }
            Err(error) => Err(invocation.unreachable(&error)),
        }
    }
}

fn configured(invocation: &Invocation) -> Result<Vec<String>, Failure> {
    let config = super::config::read_file(invocation)?;
    Ok(proto::view::ConfigView::from_value(&config.resolved).channels.into_keys().collect())
}

fn only_channel(invocation: &Invocation) -> Result<String, Failure> {
    match configured(invocation)?.as_slice() {
        [only] => Ok(only.clone()),
        all => Err(Failure::with_code(
            format!(
                "Which channel? {} are configured; run: openclaw pairing approve <channel> <code>",
                if all.is_empty() { "None".to_owned() } else { all.join(", ") }
            ),
            exit_code::USAGE,
        )),
    }
}

fn list(
    invocation: &Invocation,
    channel: Option<&str>,
    account: Option<&str>,
    as_json: bool,
) -> Result<u8, Failure> {
    let channel = channel.map(|channel| channel.trim().to_lowercase());
    let requests = match Place::find(invocation, false)? {
        Place::Gateway(mut client) => {
            let params = json!({"channel": channel, "accountId": account});
            client.call("channels.pairing.list", &params, TIMEOUT)?["requests"].clone()
        }
        Place::Files { store, .. } => {
            let channels = match &channel {
                Some(channel) => vec![channel.clone()],
                None => configured(invocation)?,
            };
            waiting(&store, &channels, account)?
        }
    };
    let requests = requests.as_array().cloned().unwrap_or_default();
    if as_json {
        output::json(&json!({"channel": channel, "requests": requests}))?;
        return Ok(exit_code::OK);
    }
    if requests.is_empty() {
        let which = channel.map_or_else(String::new, |channel| format!("{channel} "));
        output::line(&format!("No pending {which}pairing requests."))?;
        return Ok(exit_code::OK);
    }
    output::line(&format!("Pairing requests ({})", requests.len()))?;
    let header = ["Channel", "Code", "Sender", "Who", "Requested"];
    output::line(&output::table(&header, requests.iter().map(shown).collect()))?;
    Ok(exit_code::OK)
}

fn waiting(store: &PairingStore, channels: &[String], account: Option<&str>) -> Result<Value, Failure> {
    let mut rows = Vec::new();
    for channel in channels {
        let requests = store.pending(channel, account, output::now_ms());
        for request in requests.map_err(|error| Failure::new(error.to_string()))? {
            rows.push(json!({
                "channel": channel, "accountId": request.account(), "id": request.id, "code": request.code,
                "createdAt": request.created_at, "lastSeenAt": request.last_seen_at, "meta": request.meta,
            }));
        }
    }
    Ok(Value::Array(rows))
}

fn shown(request: &Value) -> Vec<String> {
    let text = |pointer: &str| output::text(request, pointer).to_owned();
    let name = text("/meta/name");
    let username = output::text(request, "/meta/username");
    let who = match (name.is_empty(), username.is_empty()) {
        (_, true) => name,
        (true, false) => format!("@{username}"),
        (false, false) => format!("{name} (@{username})"),
    };
    vec![text("/channel"), text("/code"), text("/id"), who, text("/createdAt")]
}

fn approve(
    invocation: &Invocation,
    channel: &str,
    code: &str,
    account: Option<&str>,
    notify: bool,
) -> Result<u8, Failure> {
    let unknown = || {
        Failure::new(format!(
            "No pending pairing request found for code: {}\nCodes are good for {} minutes; see them with: openclaw pairing list {channel}",
            code.trim(),
            CODE_TTL_MS / 60_000
        ))
    };
    let (id, told) = match Place::find(invocation, true)? {
        Place::Gateway(mut client) => {
            let params = json!({"channel": channel, "code": code, "accountId": account, "notify": notify});
            let approved = match client.call("channels.pairing.approve", &params, TIMEOUT) {
                Err(ClientError::Method(error)) if error.message.starts_with("No pending") => {
                    return Err(unknown());
                }
                other => other?,
            };
            (output::text(&approved, "/id").to_owned(), approved["notified"] == true)
        }
        Place::Files { store, .. } => {
            let approved = store.approve(channel, code, account, output::now_ms());
            let approved = approved.map_err(|error| Failure::new(error.to_string()))?;
            (approved.ok_or_else(unknown)?.id, false)
        }
    };
    output::line(&format!("Approved {channel} sender {id}."))?;
    if notify && !told {
        eprintln!("The sender was not told: only a running gateway can send.");
    }
    Ok(exit_code::OK)
}

fn revoke(invocation: &Invocation, channel: &str, id: &str, account: Option<&str>) -> Result<u8, Failure> {
    let revoked = match Place::find(invocation, true)? {
        Place::Gateway(mut client) => {
            let params = json!({"channel": channel, "id": id, "accountId": account});
            client.call("channels.pairing.revoke", &params, TIMEOUT)?["revoked"] == true
        }
        Place::Files { store, .. } => {
            let done = store.revoke(channel, account.unwrap_or_default(), id);
            done.map_err(|error| Failure::new(error.to_string()))?
        }
    };
    if !revoked {
        return Err(Failure::new(format!("{channel} sender {id} was not approved.")));
    }
    output::line(&format!("Revoked {channel} sender {id}."))?;
    Ok(exit_code::OK)
}
