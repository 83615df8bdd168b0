//! `openclaw agent --message <text>`: one turn, its answer on standard output.

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The gateway ends a run at its own time-out; this is the room behind it.
const ANSWER_ROOM: Duration = Duration::from_secs(45);
/// What a gateway that went away gets to come back: a service manager starts it within seconds.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to say
    #[arg(short, long)]
    message: String,
    /// The agent (default: the default agent)
    #[arg(long, value_name = "id")]
    agent: Option<String>,
    /// The session key (default: the agent's main session)
    #[arg(long, value_name = "key")]
    session_key: Option<String>,
    /// An explicit session id
    #[arg(long, value_name = "id")]
    session_id: Option<String>,
    /// Thinking level for this turn
    #[arg(long, value_name = "level")]
    thinking: Option<String>,
    /// Send the reply to this chat as well: channel and target
    #[arg(long)]
    deliver: bool,
    /// Channel of the target
    #[arg(long, value_name = "name")]
    channel: Option<String>,
    /// Target on the channel
    #[arg(long, value_name = "target")]
    to: Option<String>,
    /// Seconds until the run is ended (0 = no limit)
    #[arg(long, default_value_t = 600, value_name = "s")]
    timeout: u64,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut params = json!({
            "message": self.message,
            "idempotencyKey": uuid::Uuid::new_v4().to_string(),
            "deliver": self.deliver,
            "timeout": self.timeout,
        });
        let optional = [
            ("agentId", self.agent),
            ("sessionKey", self.session_key),
            ("sessionId", self.session_id),
            ("thinking", self.thinking),
            ("channel", self.channel),
            ("to", self.to),
        ];
        for (key, value) in optional {
            if let (Some(value), Some(params)) = (value, params.as_object_mut()) {
                params.insert(key.to_owned(), Value::String(value));
            }
        }
        let limit = if self.timeout == 0 {
            Duration::from_secs(7 * 24 * 3600)
        } else {
            Duration::from_secs(self.timeout)
        };
        let answer = ask(invocation, &params, limit + ANSWER_ROOM)?;
        if self.json {
            output::json(&answer)?;
        } else {
            let payloads = answer.pointer("/result/payloads").and_then(Value::as_array);
            for payload in payloads.into_iter().flatten() {
                output::line(output::text(payload, "/text"))?;
            }
        }
        if answer["status"] == "ok" {
            return Ok(exit_code::OK);
        }
        Err(Failure::new(output::text(&answer, "/summary").to_owned()))
    }
}

/// Asks, and asks again when the gateway ended or was replaced meanwhile. The key stays the same: a message that is stored
/// is not stored again, and its answer is waited for.
fn ask(invocation: &Invocation, params: &Value, limit: Duration) -> Result<Value, Failure> {
    let begun = Instant::now();
    let mut client = invocation.client()?;
    let mut gone: Option<Instant> = None;
    loop {
        let error = match client.call("agent", params, limit.saturating_sub(begun.elapsed())) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let away = gone.is_some_and(|since| since.elapsed() < BACK_WITHIN);
        match &error {
            ClientError::Closed | ClientError::Io(_) if begun.elapsed() < limit => {
                gone = Some(Instant::now());
            }
            // It is starting.
            ClientError::Method(refusal) if away && refusal.code == "UNAVAILABLE" => {}
            _ => return Err(error.into()),
        }
        client = back(invocation)?;
    }
}

fn back(invocation: &Invocation) -> Result<Client, Failure> {
    let until = Instant::now() + BACK_WITHIN;
    loop {
        std::thread::sleep(LOOK_AGAIN);
        match Client::connect(&invocation.paths) {
            Ok(client) => return Ok(client),
            Err(_) if Instant::now() < until => {}
            Err(error) => {
                return Err(Failure::new(format!(
                    "gateway closed the connection and is not back after {} s ({error}).\nA message that it had accepted is kept and answered when it runs again; see `openclaw sessions`. Sending it again would be a second message.",
                    BACK_WITHIN.as_secs()
                )));
            }
        }
    }
}
