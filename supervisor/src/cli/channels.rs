//! `openclaw channels status [--probe]` and `channels list`.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// State of every channel account
    Status {
        /// Ask every network
        #[arg(long)]
        probe: bool,
        /// Give up after this many milliseconds
        #[arg(long, default_value_t = 10_000, value_name = "ms")]
        timeout: u64,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Channel accounts of the configuration
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command {
            Command::Status { probe, timeout, json } => status(invocation, probe, timeout, json),
            Command::List { json } => list(invocation, json),
        }
    }
}

fn status(invocation: &Invocation, probe: bool, timeout: u64, as_json: bool) -> Result<u8, Failure> {
    let params = json!({"probe": probe, "timeoutMs": timeout});
    let asked = invocation.client().and_then(|mut client| {
        // The gateway gives the silent ones up at the time-out; its answer needs a moment more.
        Ok(client.call("channels.status", &params, Duration::from_millis(timeout + 2_000))?)
    });
    let status = match asked {
        Ok(status) => status,
        Err(failure) if as_json => return Err(failure),
        Err(failure) => {
            eprintln!("{failure}");
            output::line("Gateway not reachable; showing config-only status.")?;
            return list(invocation, false);
        }
    };
    if as_json {
        output::json(&status)?;
        return Ok(exit_code::OK);
    }
    output::line("Gateway reachable.")?;
    for id in status["channelOrder"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let label = output::text(&status, &format!("/channelLabels/{id}"));
        for account in status["channelAccounts"][id].as_array().into_iter().flatten() {
            output::line(&account_line(if label.is_empty() { id } else { label }, account))?;
        }
    }
    Ok(exit_code::OK)
}

/// `- Telegram default: enabled, configured, running, connected, mode:polling, …`: only what is known.
fn account_line(label: &str, account: &Value) -> String {
    let mut facts = Vec::new();
    let flags = [
        ("enabled", "enabled", "disabled"),
        ("configured", "configured", "not configured"),
        ("linked", "linked", "not linked"),
        ("running", "running", "stopped"),
        ("connected", "connected", "disconnected"),
    ];
    for (key, yes, no) in flags {
        if let Some(value) = account[key].as_bool() {
            facts.push(if value { yes } else { no }.to_owned());
        }
    }
    let now = output::now_ms();
    for (key, name) in [("lastInboundAt", "in"), ("lastOutboundAt", "out")] {
        if let Some(at) = account[key].as_i64() {
            facts.push(format!("{name}:{} ago", output::age(at, now)));
        }
    }
    for (key, name) in [("mode", "mode"), ("dmPolicy", "dm"), ("tokenSource", "token")] {
        if let Some(value) = account[key].as_str() {
            facts.push(format!("{name}:{value}"));
        }
    }
    if let Some(bot) =
        account.pointer("/probe/bot/username").or(account.get("identity")).and_then(Value::as_str)
    {
        facts.push(format!("bot:@{}", bot.trim_start_matches('@')));
    }
    match account.pointer("/probe/ok").and_then(Value::as_bool) {
        Some(true) => facts.push("works".to_owned()),
        Some(false) => facts.push("probe failed".to_owned()),
        None => {}
    }
    let error = account.pointer("/probe/error").or(account.get("lastError")).and_then(Value::as_str);
    facts.extend(error.map(|error| format!("error:{error}")));
    format!("- {label} {}: {}", output::text(account, "/accountId"), facts.join(", "))
}

fn list(invocation: &Invocation, as_json: bool) -> Result<u8, Failure> {
    let config = super::config::read_file(invocation)?;
    let view = proto::view::ConfigView::from_value(&config.resolved);
    let accounts = view.channels.iter().flat_map(|(id, channel)| {
        channel
            .accounts
            .iter()
            .map(move |(account, row)| (id.clone(), account.clone(), channel.enabled && row.enabled))
    });
    if as_json {
        let rows: Vec<Value> = accounts
            .map(|(channel, account, enabled)| json!({"channel": channel, "accountId": account, "enabled": enabled}))
            .collect();
        output::json(&json!({"accounts": rows}))?;
        return Ok(exit_code::OK);
    }
    let rows: Vec<Vec<String>> = accounts
        .map(|(channel, account, enabled)| {
            vec![channel, account, if enabled { "enabled" } else { "disabled" }.to_owned()]
        })
        .collect();
    if rows.is_empty() {
        output::line("No chat channels configured. Set channels.telegram.botToken to add one.")?;
    } else {
        output::line(&output::table(&["Channel", "Account", "State"], rows))?;
    }
    Ok(exit_code::OK)
}

#[cfg(test)]
mod tests {
    use super::account_line;
    use serde_json::json;

    #[test]
    fn a_line_holds_only_what_is_known() {
        let account = json!({"accountId": "default", "enabled": true, "configured": true, "running": true,
            "connected": false, "mode": "polling", "lastError": "session in use by pid 7"});
        assert_eq!(
            account_line("Telegram", &account),
            "- Telegram default: enabled, configured, running, disconnected, mode:polling, error:session in use by pid 7"
        );
        assert_eq!(account_line("X", &json!({"accountId": "a"})), "- X a: ");
    }
}
