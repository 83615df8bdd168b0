//! `openclaw status`: what runs and how it is. Answers from the gateway's memory; works (and says so) while it is stopped.

use super::client::Client;
use super::invocation::{Failure, Invocation};
use super::output::{self, number, text};
use crate::exit_code;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Ask every worker and network as well
    #[arg(long)]
    deep: bool,
    /// Exit with 2 when something is degraded
    #[arg(long)]
    check: bool,
    /// Give up after this many milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "ms")]
    timeout: u64,
}

/// Everything that the answers of the gateway hold.
struct Picture {
    status: Value,
    info: Value,
    workers: Value,
    channels: Value,
    took: Duration,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let asked = Instant::now();
        let mut client = match Client::connect(&invocation.paths) {
            Ok(client) => client,
            Err(error) => return self.stopped(invocation, &error.to_string()),
        };
        let timeout = Duration::from_millis(self.timeout);
        let picture = Picture {
            status: client.call("status", &json!({"includeCliProjection": true}), timeout)?,
            info: client.call("system.info", &json!({}), timeout)?,
            workers: client.call("workers.list", &json!({}), timeout)?,
            channels: client.call("channels.status", &json!({"probe": self.deep}), timeout)?,
            took: asked.elapsed(),
        };
        let degraded = problems(&picture);
        if self.json {
            output::json(&as_json(&picture, &degraded))?;
        } else {
            show(invocation, &picture, &degraded)?;
        }
        Ok(if self.check && !degraded.is_empty() { exit_code::DEGRADED } else { exit_code::OK })
    }

    fn stopped(&self, invocation: &Invocation, why: &str) -> Result<u8, Failure> {
        let config = super::config::read_file(invocation)?;
        let issues: Vec<String> = config.findings.issues.iter().map(ToString::to_string).collect();
        if self.json {
            output::json(&json!({
                "gateway": {"mode": "local", "reachable": false, "error": why},
                "config": {"path": invocation.paths.config_file, "valid": issues.is_empty(), "issues": issues},
            }))?;
        } else {
            let mut rows = vec![
                vec!["Gateway".to_owned(), format!("unreachable ({why})")],
                vec!["Config".to_owned(), invocation.paths.config_file.display().to_string()],
                vec!["State".to_owned(), invocation.paths.state_dir.display().to_string()],
            ];
            rows.extend(issues.iter().map(|issue| vec!["Config problem".to_owned(), issue.clone()]));
            output::line(&output::table(&[], rows))?;
            output::line("Start it with `openclaw gateway`, or set one up with `openclaw up`.")?;
        }
        Ok(if self.check { exit_code::DEGRADED } else { exit_code::OK })
    }
}

/// Everything that is not as it should be, in words.
fn problems(picture: &Picture) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let listed = picture.info["degraded"].as_array().into_iter().flatten();
    found.extend(listed.filter_map(Value::as_str).map(str::to_owned));
    for worker in picture.workers["workers"].as_array().into_iter().flatten() {
        let state = text(worker, "/state");
        if !matches!(state, "ready" | "idle" | "starting" | "disabled" | "stopped" | "draining") {
            let why = text(worker, "/why");
            found.push(format!(
                "{}: {state}{}{why}",
                text(worker, "/id"),
                if why.is_empty() { "" } else { " – " }
            ));
        }
    }
    found
}

fn as_json(picture: &Picture, degraded: &[String]) -> Value {
    let mut all = picture.status.as_object().cloned().unwrap_or_default();
    all.insert(
        "gateway".to_owned(),
        json!({
            "mode": "local", "url": picture.info["url"], "urlSource": "local loopback", "misconfigured": false,
            "reachable": true, "connectLatencyMs": u64::try_from(picture.took.as_millis()).unwrap_or(u64::MAX),
            "self": picture.info, "error": null,
        }),
    );
    all.insert("workers".to_owned(), picture.workers["workers"].clone());
    all.insert("channels".to_owned(), picture.channels["channelAccounts"].clone());
    all.insert("degraded".to_owned(), json!(degraded));
    Value::Object(all)
}

fn show(invocation: &Invocation, picture: &Picture, degraded: &[String]) -> Result<(), Failure> {
    let info = &picture.info;
    for problem in degraded {
        let line = format!("! {problem}");
        output::line(&if invocation.color { format!("\u{1b}[31m{line}\u{1b}[0m") } else { line })?;
    }
    let took = picture.took.as_millis();
    let uptime = output::age(0, number(info, "/uptimeMs"));
    let journal = format!(
        "{} waiting, {} outgoing, {} dead letters",
        number(info, "/journal/inboundWaiting"),
        number(info, "/journal/outboxOpen"),
        number(info, "/journal/deadLetters")
    );
    let rows = vec![
        vec!["Dashboard".to_owned(), text(info, "/dashboard").to_owned()],
        vec![
            "Gateway".to_owned(),
            format!("local · {} · reachable {took}ms · auth {}", text(info, "/url"), text(info, "/authMode")),
        ],
        vec![
            "Process".to_owned(),
            format!("pid {} · version {} · up {uptime}", number(info, "/pid"), text(info, "/version")),
        ],
        vec!["Config".to_owned(), config_row(info)],
        vec!["Journal".to_owned(), journal],
        vec![
            "Runs".to_owned(),
            format!("{} active, {} queued", number(info, "/runs/active"), number(info, "/runs/queued")),
        ],
        vec!["Sessions".to_owned(), format!("{}", number(&picture.status, "/sessions/count"))],
        vec!["State".to_owned(), invocation.paths.state_dir.display().to_string()],
    ];
    output::line(&output::table(&[], rows))?;
    output::line(&output::table(
        &["Worker", "State", "PID", "Memory", "Restarts", "Since"],
        worker_rows(picture),
    ))?;
    if degraded.is_empty() {
        output::line("All well. `openclaw logs --follow` shows what happens.")?;
    }
    Ok(())
}

fn config_row(info: &Value) -> String {
    let state = text(info, "/config/state");
    let unbuilt = info.pointer("/config/unbuilt").and_then(Value::as_array).map_or(0, Vec::len);
    let note = if unbuilt == 0 {
        String::new()
    } else {
        format!(" · {unbuilt} keys accepted but not built yet (see doctor)")
    };
    format!("{state} · {}{note}", text(info, "/config/path"))
}

fn worker_rows(picture: &Picture) -> Vec<Vec<String>> {
    let now = output::now_ms();
    let mut rows = vec![vec![
        "supervisor".to_owned(),
        "ready".to_owned(),
        number(&picture.info, "/pid").to_string(),
        memory(&picture.info),
        "-".to_owned(),
        output::age(now - number(&picture.info, "/uptimeMs"), now),
    ]];
    for worker in picture.workers["workers"].as_array().into_iter().flatten() {
        let pid = number(worker, "/pid");
        rows.push(vec![
            text(worker, "/id").to_owned(),
            text(worker, "/state").to_owned(),
            if pid == 0 { "-".to_owned() } else { pid.to_string() },
            memory(worker),
            number(worker, "/restarts").to_string(),
            output::age(number(worker, "/sinceMs"), now),
        ]);
    }
    rows
}

/// Proportional share where the kernel tells it, resident size else.
fn memory(value: &Value) -> String {
    match value["pssKb"].as_u64().or(value["rssKb"].as_u64()) {
        Some(kilobytes) if kilobytes > 0 => output::megabytes(kilobytes),
        _ => "-".to_owned(),
    }
}
