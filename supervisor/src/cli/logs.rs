//! `openclaw logs [--follow]`: the gateway's log by `logs.tail`.

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output;
use crate::exit_code;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// Between two connections to a gateway that closes them: it is on its way down.
const AGAIN: Duration = Duration::from_millis(100);
/// A gateway that is away for longer is worth a word (2 s).
const SAY_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on printing new lines
    #[arg(short, long)]
    follow: bool,
    /// Milliseconds between looks
    #[arg(long, default_value_t = 1_000, value_name = "ms")]
    interval: u64,
    /// Lines to begin with
    #[arg(long, default_value_t = 200)]
    limit: u32,
    /// Bytes to read at most
    #[arg(long, default_value_t = 250_000, value_name = "bytes")]
    max_bytes: u32,
    /// Print the lines as they stand in the file
    #[arg(long)]
    plain: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Times of this machine's time zone
    #[arg(long)]
    local_time: bool,
    /// With --follow: seconds to wait for a gateway that went away
    #[arg(long, default_value_t = 30, value_name = "s")]
    wait: u64,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = invocation.client().map_err(|failure| self.unreachable(&failure))?;
        let mut params = json!({"limit": self.limit, "maxBytes": self.max_bytes});
        let mut first = true;
        loop {
            let tail = match client.call("logs.tail", &params, Duration::from_secs(10)) {
                Ok(tail) => tail,
                Err(ClientError::Closed | ClientError::Io(_)) if self.follow && !first => {
                    let Some(again) = self.reconnect(invocation)? else { return Ok(exit_code::OK) };
                    client = again;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.print(&tail, first)?;
            if !self.follow {
                return Ok(exit_code::OK);
            }
            first = false;
            params["cursor"] = tail["cursor"].clone();
            if !output::wait_while_read(Duration::from_millis(self.interval.max(100))) {
                return Ok(exit_code::OK);
            }
        }
    }

    /// Replaced in place, it is there again at once; after a crash a service manager starts it. `None`: nobody reads any more.
    fn reconnect(&self, invocation: &Invocation) -> Result<Option<Client>, Failure> {
        let begin = Instant::now();
        let mut told = false;
        loop {
            if !output::wait_while_read(AGAIN) {
                return Ok(None);
            }
            match invocation.client() {
                Ok(client) => {
                    if told {
                        self.notice("The gateway is there again.");
                    }
                    return Ok(Some(client));
                }
                Err(_) if begin.elapsed() < Duration::from_secs(self.wait) => {}
                Err(failure) => {
                    let gone =
                        format!("The gateway went away and was not there again within {} s.", self.wait);
                    return Err(Failure::new(format!("{gone}\n{}", failure.message)));
                }
            }
            // A restart in place takes less than this; nothing to speak of.
            if !told && begin.elapsed() > SAY_AFTER {
                told = true;
                self.notice(&format!("The gateway went away; waiting up to {} s for it.", self.wait));
            }
        }
    }

    /// On standard error: standard output holds lines of the log.
    fn notice(&self, text: &str) {
        let text =
            if self.json { json!({"type": "notice", "message": text}).to_string() } else { text.to_owned() };
        // Nobody to tell is no reason to stop.
        let _unread = writeln!(std::io::stderr(), "{text}");
    }

    /// What to say of lines that are missing.
    fn left_out(&self, tail: &Value, first: bool) -> Option<&'static str> {
        let lines = tail["lines"].as_array().map_or(0, Vec::len);
        match tail["truncated"] == true {
            false => None,
            true if lines < self.limit as usize => Some("Log tail truncated (increase --max-bytes)."),
            // As many as were asked for.
            true if first => None,
            true => Some("Lines were left out: more came than --limit between two looks."),
        }
    }

    /// Programs get an object like all the others, on standard error.
    fn unreachable(&self, failure: &Failure) -> Failure {
        let message = "Gateway not reachable. Is it running and accessible?";
        if self.json {
            let error = json!({"type": "error", "message": message, "error": failure.message});
            return Failure::new(error.to_string());
        }
        Failure::new(format!("{message}\n{}", failure.message))
    }

    fn print(&self, tail: &Value, first: bool) -> Result<(), Failure> {
        if self.json && first {
            let meta =
                json!({"type": "meta", "file": tail["file"], "cursor": tail["cursor"], "size": tail["size"]});
            output::line(&meta.to_string())?;
        }
        if let Some(notice) = self.left_out(tail, first) {
            let shown = if self.json {
                json!({"type": "notice", "message": notice}).to_string()
            } else {
                notice.to_owned()
            };
            output::line(&shown)?;
        }
        for line in tail["lines"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            output::line(&self.shown(line))?;
        }
        Ok(())
    }

    fn shown(&self, line: &str) -> String {
        if self.plain {
            return line.to_owned();
        }
        let Ok(entry) = serde_json::from_str::<Value>(line) else {
            return if self.json { json!({"type": "raw", "raw": line}).to_string() } else { line.to_owned() };
        };
        let (time, level) = (self.time(output::text(&entry, "/time")), output::text(&entry, "/level"));
        let (subsystem, message) = (output::text(&entry, "/subsystem"), output::text(&entry, "/message"));
        if self.json {
            return json!({"type": "log", "time": time, "level": level, "subsystem": subsystem, "message": message, "raw": line})
                .to_string();
        }
        let subsystem = if subsystem.is_empty() { String::new() } else { format!("[{subsystem}] ") };
        format!("{time} {level:<5} {subsystem}{message}{}", fields(&entry))
    }

    fn time(&self, written: &str) -> String {
        match written.parse::<jiff::Timestamp>() {
            Ok(at) if self.local_time => {
                at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
            }
            _ => written.to_owned(),
        }
    }
}

/// Keys of a line that are shown otherwise, or say how the line was made.
const SHOWN_OTHERWISE: [&str; 8] = ["0", "1", "time", "level", "subsystem", "message", "pid", "_meta"];

/// What the line says beside its message, as ` key=value`.
fn fields(entry: &Value) -> String {
    let rest = entry.as_object().into_iter().flatten();
    let rest = rest.filter(|(key, _)| !SHOWN_OTHERWISE.contains(&key.as_str()));
    rest.map(|(key, value)| match value.as_str() {
        Some(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => format!(" {key}={text}"),
        _ => format!(" {key}={value}"),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_behind_the_message() {
        let args = Args {
            follow: true,
            interval: 1,
            limit: 1,
            max_bytes: 1,
            plain: false,
            json: false,
            local_time: false,
            wait: 1,
        };
        let cut = |lines: usize| json!({"truncated": true, "lines": vec!["x"; lines]});
        assert_eq!(args.left_out(&cut(0), true), Some("Log tail truncated (increase --max-bytes)."));
        assert_eq!(args.left_out(&cut(1), true), None, "what was asked for");
        assert!(args.left_out(&cut(1), false).is_some_and(|notice| notice.contains("--limit")));
        let line = r#"{"0":"{}","1":"refused","_meta":{},"level":"WARN","message":"refused","pid":7,"subsystem":"front","time":"t","ip":"::1","n":3,"why":"a b"}"#;
        assert_eq!(args.shown(line), r#"t WARN  [front] refused ip=::1 n=3 why="a b""#);
    }
}
