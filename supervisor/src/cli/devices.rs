//! `openclaw devices`: browsers and command lines that asked to be let in, and those that are.

use super::client::Client;
use super::invocation::{Failure, Invocation};
use super::output::{self, age, number, text};
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

/// One small file, and the gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a device's id that are shown; the whole one stands in `--json`.
const ID_SHOWN: usize = 12;

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
    /// Requests that wait, and devices that are paired (the default)
    List,
    /// Let a device in
    Approve {
        /// The request, as `devices list` shows it; may be left out when only one waits
        request: Option<String>,
        /// The newest request
        #[arg(long, conflicts_with = "request")]
        latest: bool,
    },
    /// Refuse a request
    Reject {
        /// The request, as `devices list` shows it
        request: String,
    },
    /// Forget a device: it has to ask again
    Remove {
        /// The device, or the first characters of it
        device: String,
    },
    /// Make a device's token void; the shared token gives it no new one
    Revoke(TokenArgs),
    /// Give a device a new token and print it
    Rotate {
        #[command(flatten)]
        token: TokenArgs,
        /// Scope of the new token; all that the device has when absent
        #[arg(long, value_name = "scope")]
        scope: Vec<String>,
    },
    /// Remove every paired device, or refuse every request
    Clear {
        /// Refuse the requests instead
        #[arg(long)]
        pending: bool,
        /// Do it: there is no way back
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    /// The device, or the first characters of it
    #[arg(long, value_name = "id")]
    device: String,
    /// Role of the token
    #[arg(long, value_name = "role", default_value = "operator")]
    role: String,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut book = Book::open(invocation)?;
        let (answer, line) = match self.command.unwrap_or(Command::List) {
            Command::List => return book.print(self.json),
            Command::Approve { request, latest } => book.approve(request, latest)?,
            Command::Reject { request } => {
                let answer = book.call("device.pair.reject", &json!({"requestId": request}))?;
                let line = format!("Rejected {}.", short(text(&answer, "/deviceId")));
                (answer, line)
            }
            Command::Remove { device } => book.remove(&device)?,
            Command::Revoke(token) => book.token("device.token.revoke", &token, None)?,
            Command::Rotate { token, scope } => book.token("device.token.rotate", &token, Some(scope))?,
            Command::Clear { pending, yes } => book.clear(pending, yes)?,
        };
        if self.json {
            output::json(&answer)?
        } else {
            output::line(&line)?
        }
        Ok(exit_code::OK)
    }
}

/// The gateway's book of devices, as it was a moment ago.
struct Book {
    client: Client,
    listed: Value,
}

impl Book {
    fn open(invocation: &Invocation) -> Result<Self, Failure> {
        let mut client = invocation.client()?;
        let listed = client.call("device.pair.list", &json!({}), TIMEOUT)?;
        Ok(Self { client, listed })
    }

    fn rows(&self, key: &str) -> Vec<Value> {
        self.listed[key].as_array().cloned().unwrap_or_default()
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value, Failure> {
        Ok(self.client.call(method, params, TIMEOUT)?)
    }

    fn print(&self, json: bool) -> Result<u8, Failure> {
        if json {
            return output::json(&self.listed).map(|()| exit_code::OK);
        }
        for line in lines(&self.listed, output::now_ms()) {
            output::line(&line)?;
        }
        Ok(exit_code::OK)
    }

    fn approve(&mut self, request: Option<String>, latest: bool) -> Result<(Value, String), Failure> {
        let pending = self.rows("pending");
        let request = match (request, pending.as_slice()) {
            (Some(request), _) => request,
            (None, []) => {
                return Err(Failure::new(
                    "No device waits for approval. A request is kept for 5 minutes: connect again, then run this again.",
                ));
            }
            (None, [newest, others @ ..]) if latest || others.is_empty() => {
                text(newest, "/requestId").to_owned()
            }
            (None, several) => {
                return Err(Failure::new(format!(
                    "{} devices wait for approval. Name one (`openclaw devices list`), or take the newest with --latest.",
                    several.len()
                )));
            }
        };
        let answer = self.call("device.pair.approve", &json!({"requestId": request}))?;
        let device = &answer["device"];
        let line = format!("Approved {} ({}).", short(text(device, "/deviceId")), about(device));
        Ok((answer, line))
    }

    fn remove(&mut self, device: &str) -> Result<(Value, String), Failure> {
        let id = self.device(device)?;
        let answer = self.call("device.pair.remove", &json!({"deviceId": id}))?;
        Ok((answer, format!("Removed {}; its connections are closed.", short(&id))))
    }

    fn token(
        &mut self,
        method: &str,
        token: &TokenArgs,
        scopes: Option<Vec<String>>,
    ) -> Result<(Value, String), Failure> {
        let id = self.device(&token.device)?;
        let mut params = json!({"deviceId": id, "role": token.role});
        if let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) {
            params["scopes"] = json!(scopes);
        }
        let answer = self.call(method, &params)?;
        let line = match answer["token"].as_str() {
            Some(value) => format!("New token of {} for {}: {value}", short(&id), token.role),
            None => {
                format!("Revoked the token of {} for {}; its connections are closed.", short(&id), token.role)
            }
        };
        Ok((answer, line))
    }

    fn clear(&mut self, pending: bool, yes: bool) -> Result<(Value, String), Failure> {
        let (rows, key, method) = if pending {
            (self.rows("pending"), "requestId", "device.pair.reject")
        } else {
            (self.rows("paired"), "deviceId", "device.pair.remove")
        };
        let noun = if pending { "requests" } else { "devices" };
        if !yes {
            return Err(Failure::new(format!("This would clear {} {noun}. Add --yes to do it.", rows.len())));
        }
        for row in &rows {
            self.call(method, &json!({key: row[key]}))?;
        }
        Ok((json!({"cleared": rows.len()}), format!("Cleared {} {noun}.", rows.len())))
    }

    /// The whole id of a device that is named by its first characters.
    fn device(&self, named: &str) -> Result<String, Failure> {
        let ids: Vec<String> =
            self.rows("paired").iter().map(|row| text(row, "/deviceId").to_owned()).collect();
        let mut fitting = ids.into_iter().filter(|id| id.starts_with(named));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => {
                Err(Failure::new(format!("Several devices begin with {named}; give more of it.")))
            }
            (None, _) => {
                Err(Failure::new(format!("No paired device is called {named}; see `openclaw devices list`.")))
            }
        }
    }
}

fn short(id: &str) -> &str {
    id.get(..ID_SHOWN).unwrap_or(id)
}

/// `openclaw-control-ui/webchat, linux, from 10.0.0.2`.
fn about(row: &Value) -> String {
    let mut words = Vec::new();
    let name = text(row, "/displayName");
    let client = [text(row, "/clientId"), text(row, "/clientMode")].join("/");
    words.push(if name.is_empty() { client.trim_matches('/').to_owned() } else { name.to_owned() });
    words.extend(Some(text(row, "/platform")).filter(|platform| !platform.is_empty()).map(str::to_owned));
    words.extend(Some(text(row, "/remoteIp")).filter(|ip| !ip.is_empty()).map(|ip| format!("from {ip}")));
    words.join(", ")
}

fn scopes(row: &Value) -> String {
    let all = row["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(|scope| scope.trim_start_matches("operator.")).collect::<Vec<_>>().join(", ")
}

fn lines(listed: &Value, now: i64) -> Vec<String> {
    let rows = |key: &str| listed[key].as_array().cloned().unwrap_or_default();
    let (pending, paired) = (rows("pending"), rows("paired"));
    if pending.is_empty() && paired.is_empty() {
        return vec!["No device waits, none is paired.".to_owned()];
    }
    let mut out = Vec::new();
    if !pending.is_empty() {
        let cells = pending.iter().map(|row| {
            let id = text(row, "/requestId").to_owned();
            let asked = format!("{} ago", age(number(row, "/ts"), now));
            vec![id, about(row), text(row, "/role").to_owned(), scopes(row), asked]
        });
        out.push("Waiting for approval (`openclaw devices approve <request>`):".to_owned());
        out.push(output::table(&["Request", "Device", "Role", "Scopes", "Asked"], cells.collect()));
    }
    if !paired.is_empty() {
        let cells = paired.iter().map(|row| {
            let state = if row["connected"] == true { "connected" } else { "away" };
            vec![short(text(row, "/deviceId")).to_owned(), about(row), state.to_owned(), scopes(row)]
        });
        out.push("Paired:".to_owned());
        out.push(output::table(&["Device", "What", "State", "Scopes"], cells.collect()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_name_what_to_type() {
        let listed = json!({
            "pending": [{"requestId": "r-1", "clientId": "openclaw-control-ui", "clientMode": "webchat",
                "platform": "linux", "remoteIp": "10.0.0.2", "role": "operator",
                "scopes": ["operator.admin", "operator.read"], "ts": 1000}],
            "paired": [{"deviceId": "0123456789abcdef", "displayName": "laptop", "connected": true,
                "scopes": ["operator.read"]}],
        });
        let text = lines(&listed, 61_000).join("\n");
        for wanted in
            ["r-1", "openclaw-control-ui/webchat, linux, from 10.0.0.2", "admin, read", "1m ago", "laptop"]
        {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(text.contains("0123456789ab ") && !text.contains("0123456789abc"), "{text}");
        assert_eq!(lines(&json!({}), 0), ["No device waits, none is paired."]);
    }
}
