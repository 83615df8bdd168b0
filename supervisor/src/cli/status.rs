//! `openclaw status`: what runs and how it is. Answers from the gateway's memory; works (and says so) while it is stopped.

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output::{self, number, text};
use crate::config::advice::last_good_line;
use crate::exit_code;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Sessions of the table for people; `openclaw sessions` shows all.
const SESSION_ROWS_MAX: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Ask every network as well
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
    /// With `--deep`: made after asking the networks.
    health: Option<Value>,
    last_heartbeat: Value,
    took: Duration,
}

impl Picture {
    fn degraded(&self) -> Vec<String> {
        let listed = self.info["degraded"].as_array().into_iter().flatten();
        listed.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let picture = match self.ask(invocation) {
            Ok(picture) => picture,
            Err(error) => return self.stopped(invocation, &error),
        };
        let degraded = picture.degraded();
        if self.json {
            output::json(&as_json(&picture, &degraded))?;
        } else {
            show(invocation, &picture, &degraded)?;
        }
        Ok(if self.check && !degraded.is_empty() { exit_code::DEGRADED } else { exit_code::OK })
    }

    fn ask(&self, invocation: &Invocation) -> Result<Picture, ClientError> {
        let timeout = Duration::from_millis(self.timeout);
        let mut client = Client::connect(&invocation.paths)?;
        let asked = Instant::now();
        let status = client.call("status", &json!({"includeCliProjection": true}), timeout)?;
        let took = asked.elapsed();
        let mut picture = Picture {
            status,
            info: client.call("system.info", &json!({}), timeout)?,
            workers: client.call("workers.list", &json!({}), timeout)?,
            channels: Value::Null,
            health: None,
            last_heartbeat: Value::Null,
            took,
        };
        let probe = json!({"probe": self.deep, "timeoutMs": self.timeout});
        // A network that is slow to answer is no reason to show nothing.
        let patience = timeout.saturating_mul(2);
        picture.channels = client.call("channels.status", &probe, patience).unwrap_or_default();
        if self.deep {
            picture.health = client.call("health", &json!({"probe": true}), patience).ok();
            picture.last_heartbeat = client.call("last-heartbeat", &json!({}), timeout).unwrap_or_default();
        }
        Ok(picture)
    }

    fn stopped(&self, invocation: &Invocation, error: &ClientError) -> Result<u8, Failure> {
        let why = &error.to_string();
        let config = super::config::read_file(invocation)?;
        let issues: Vec<String> = config.findings.issues.iter().map(ToString::to_string).collect();
        if self.json {
            output::json(&json!({
                "gateway": {"mode": "local", "reachable": false, "error": why},
                "config": {"path": invocation.paths.config_file, "valid": issues.is_empty(), "issues": issues},
                "degraded": [format!("gateway: {why}")],
            }))?;
        } else {
            let mut rows = vec![
                vec!["Gateway".to_owned(), format!("unreachable ({why})")],
                vec!["Config".to_owned(), invocation.paths.config_file.display().to_string()],
                vec!["State".to_owned(), invocation.paths.state_dir.display().to_string()],
            ];
            rows.extend(issues.iter().map(|issue| vec!["Config problem".to_owned(), issue.clone()]));
            output::line(&output::table(&[], rows))?;
            if matches!(error, ClientError::NotRunning) {
                let advice = match issues.is_empty() {
                    true => "Start it with `openclaw gateway`, or set one up with `openclaw up`.".to_owned(),
                    false => {
                        let last_good = last_good_line(&invocation.paths, "openclaw gateway");
                        let mend = "Correct the file before a start: openclaw config validate";
                        [Some(mend.to_owned()), last_good]
                            .into_iter()
                            .flatten()
                            .collect::<Vec<_>>()
                            .join("\n")
                    }
                };
                output::line(&advice)?;
            }
        }
        Ok(if self.check { exit_code::DEGRADED } else { exit_code::OK })
    }
}

fn as_json(picture: &Picture, degraded: &[String]) -> Value {
    let mut all = picture.status.as_object().cloned().unwrap_or_default();
    let host = rustix::system::uname();
    let (system, release) = (host.sysname().to_string_lossy(), host.release().to_string_lossy());
    let arch = host.machine().to_string_lossy();
    let agents: Vec<Value> = rows(&picture.status, "/sessions/byAgent")
        .map(|agent| {
            json!({
                "id": agent["agentId"], "sessionsPath": agent["path"], "sessionsCount": agent["count"],
                "lastUpdatedAt": agent.pointer("/recent/0/updatedAt"),
            })
        })
        .collect();
    let parts = [
        (
            "os",
            json!({
                "platform": system.to_lowercase(), "arch": arch, "release": release,
                "label": format!("{} {release} ({arch})", system.to_lowercase()),
            }),
        ),
        (
            "gateway",
            json!({
                "mode": "local", "url": picture.info["url"], "urlSource": "local loopback", "misconfigured": false,
                "reachable": true, "connectLatencyMs": u64::try_from(picture.took.as_millis()).unwrap_or(u64::MAX),
                "self": picture.info, "error": null,
            }),
        ),
        (
            "agents",
            json!({
                "defaultId": picture.status["heartbeat"]["defaultAgentId"], "agents": agents,
                "totalSessions": picture.status["sessions"]["count"], "bootstrapPendingCount": 0,
            }),
        ),
        ("workers", picture.workers["workers"].clone()),
        ("channels", picture.channels["channelAccounts"].clone()),
        ("degraded", json!(degraded)),
    ];
    all.extend(parts.map(|(key, value)| (key.to_owned(), value)));
    if let Some(health) = &picture.health {
        all.insert("health".to_owned(), health.clone());
        all.insert("lastHeartbeat".to_owned(), picture.last_heartbeat.clone());
    }
    Value::Object(all)
}

fn show(invocation: &Invocation, picture: &Picture, degraded: &[String]) -> Result<(), Failure> {
    for problem in degraded {
        let line = format!("! {problem}");
        output::line(&if invocation.color { format!("\u{1b}[31m{line}\u{1b}[0m") } else { line })?;
    }
    output::line(&output::table(&[], overview(invocation, picture)))?;
    output::line(&output::table(
        &["Worker", "State", "PID", "Memory", "Restarts", "Since"],
        worker_rows(picture),
    ))?;
    if picture.health.is_some() {
        let head = ["Worker", "Confined", "Control group", "Not ruled"];
        output::line(&output::table(&head, confined_rows(picture)))?;
        output::line(&format!("Control groups: {}", text(&picture.info, "/controlGroups")))?;
    }
    let channels = channel_rows(&picture.channels);
    if !channels.is_empty() {
        output::line(&output::table(&["Channel", "Account", "State", "Detail"], channels))?;
    }
    let sessions = session_rows(&picture.status);
    if !sessions.is_empty() {
        output::line(&output::table(&["Session", "Kind", "Age", "Model", "Tokens"], sessions))?;
    }
    if degraded.is_empty() {
        output::line("All well. `openclaw logs --follow` shows what happens.")?;
    } else {
        output::line("`openclaw doctor` checks this installation, `openclaw logs` shows what happened.")?;
    }
    Ok(())
}

fn rows<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn overview(invocation: &Invocation, picture: &Picture) -> Vec<Vec<String>> {
    let (info, status) = (&picture.info, &picture.status);
    let uptime = output::age(0, number(info, "/uptimeMs"));
    let default = text(status, "/heartbeat/defaultAgentId");
    let agents = rows(status, "/heartbeat/agents").count();
    let sessions = number(status, "/sessions/count");
    let model = text(status, "/sessions/defaults/model");
    let rows = [
        ("Dashboard", text(info, "/dashboard").to_owned()),
        (
            "Gateway",
            format!(
                "local · {} · reachable {}ms · auth {}",
                text(info, "/url"),
                picture.took.as_millis(),
                text(info, "/authMode")
            ),
        ),
        (
            "Process",
            format!("pid {} · version {} · up {uptime}", number(info, "/pid"), text(info, "/version")),
        ),
        ("Config", config_row(info)),
        (
            "Agents",
            format!(
                "{agents} · default {default} · {sessions} session{}",
                if sessions == 1 { "" } else { "s" }
            ),
        ),
        ("Model", if model.is_empty() { "none configured".to_owned() } else { model.to_owned() }),
        ("Heartbeat", heartbeats(status)),
        ("Runs", format!("{} active, {} queued", number(info, "/runs/active"), number(info, "/runs/queued"))),
        (
            "Journal",
            format!(
                "{} waiting, {} outgoing, {} dead letters",
                number(info, "/journal/inboundWaiting"),
                number(info, "/journal/outboxOpen"),
                number(info, "/journal/deadLetters")
            ),
        ),
        ("State", invocation.paths.state_dir.display().to_string()),
    ];
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn heartbeats(status: &Value) -> String {
    let on: Vec<String> = rows(status, "/heartbeat/agents")
        .filter(|row| row["enabled"] == true)
        .map(|row| format!("{} ({})", text(row, "/every"), text(row, "/agentId")))
        .collect();
    if on.is_empty() { "off".to_owned() } else { on.join(", ") }
}

fn config_row(info: &Value) -> String {
    let state = match text(info, "/config/state") {
        "pending" => "edited; `openclaw restart` applies it",
        state => state,
    };
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
    let mut shown = vec![vec![
        "supervisor".to_owned(),
        "ready".to_owned(),
        number(&picture.info, "/pid").to_string(),
        output::memory(&picture.info),
        "-".to_owned(),
        output::age(now - number(&picture.info, "/uptimeMs"), now),
    ]];
    for worker in rows(&picture.workers, "/workers") {
        let pid = number(worker, "/pid");
        shown.push(vec![
            text(worker, "/id").to_owned(),
            text(worker, "/state").to_owned(),
            if pid == 0 { "-".to_owned() } else { pid.to_string() },
            output::memory(worker),
            number(worker, "/restarts").to_string(),
            output::age(number(worker, "/sinceMs"), now),
        ]);
    }
    shown
}

/// How far each worker is confined; shown with `--deep`.
fn confined_rows(picture: &Picture) -> Vec<Vec<String>> {
    let row = |worker: &Value| {
        let amiss: Vec<&str> = rows(worker, "/sandbox/amiss").filter_map(Value::as_str).collect();
        let amiss = if amiss.is_empty() { "-".to_owned() } else { amiss.join("; ") };
        let group = match text(worker, "/controlGroup/text") {
            "" => "-",
            limits => limits,
        };
        let confined = text(worker, "/sandbox/text").to_owned();
        vec![text(worker, "/id").to_owned(), confined, group.to_owned(), amiss]
    };
    rows(&picture.workers, "/workers").map(row).collect()
}

fn channel_rows(channels: &Value) -> Vec<Vec<String>> {
    let mut shown = Vec::new();
    for id in rows(channels, "/channelOrder").filter_map(Value::as_str) {
        for account in channels["channelAccounts"][id].as_array().into_iter().flatten() {
            let state = match () {
                () if account["enabled"] == false => "disabled",
                () if account["configured"] == false => "not configured",
                () if account["connected"] == true => "connected",
                () if account["running"] == true => "connecting",
                () => "stopped",
            };
            let detail =
                account.pointer("/probe/error").or(account.get("lastError")).or(account.get("identity"));
            shown.push(vec![
                channels["channelLabels"][id].as_str().unwrap_or(id).to_owned(),
                text(account, "/accountId").to_owned(),
                state.to_owned(),
                detail.and_then(Value::as_str).unwrap_or_default().to_owned(),
            ]);
        }
    }
    shown
}

fn session_rows(status: &Value) -> Vec<Vec<String>> {
    let now = output::now_ms();
    rows(status, "/sessions/recent")
        .take(SESSION_ROWS_MAX)
        .map(|row| {
            vec![
                text(row, "/key").to_owned(),
                text(row, "/kind").to_owned(),
                format!("{} ago", output::age(number(row, "/updatedAt"), now)),
                text(row, "/model").to_owned(),
                super::sessions::tokens(row),
            ]
        })
        .collect()
}
