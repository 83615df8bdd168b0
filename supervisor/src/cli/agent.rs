//! `openclaw agent --message <text>`: one turn, its answer on standard output.

use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::Duration;

/// The gateway ends a run at its own time-out; this is the room behind it.
const ANSWER_ROOM: Duration = Duration::from_secs(45);

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
        let answer = invocation.client()?.call("agent", &params, limit + ANSWER_ROOM)?;
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
