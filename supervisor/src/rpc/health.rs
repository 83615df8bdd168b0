//! `health`: answered from the last snapshot, which [`refresh`] renews every minute, after config changes
//! and on `{probe: true}`. A snapshot that is older than a moment is made anew, if that needs no waiting.

use super::params::Params;
use super::session_rows::store_path;
use super::{Answer, RpcError, channels};
use crate::config::ConfigSnapshot;
use crate::events::GatewayEvent;
use crate::front::caller::Caller;
use crate::front::fanout::now_ms;
use crate::gateway::Handles;
use crate::journal::{Journal, SessionFilter};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Callers in quick succession share a snapshot.
const FRESH_MS: u64 = 1_000;
/// Making one takes milliseconds. A core or journal that needs longer has trouble, and the old one is better than none.
const RENEW_WAIT: Duration = Duration::from_millis(250);
/// Sessions that a snapshot shows, as recorded.
const RECENT_ROWS_MAX: u32 = 5;
/// `agents.defaults.heartbeat.every` of a configuration that has none (30 min).
const HEARTBEAT_EVERY: &str = "30m";
const HEARTBEAT_PROMPT: &str = "Read HEARTBEAT.md if it exists (workspace context). Follow it strictly. Do not infer \
    or repeat old tasks from prior chats. If nothing needs attention, reply HEARTBEAT_OK.";
/// Length up to which an acknowledgement of a heartbeat is not shown.
const HEARTBEAT_ACK_CHARS_MAX: u64 = 300;

/// `health {probe?}`.
///
/// # Errors
/// Malformed params.
pub async fn health(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    if Params::of("health", &params).flag("probe")?.unwrap_or(false) {
        make(gw, true).await;
    } else {
        let made = gw.front.health()["ts"].as_u64().unwrap_or(0);
        if now_ms().saturating_sub(made) > FRESH_MS {
            // Too late: the caller gets the old one.
            let _late =
                tokio::time::timeout(RENEW_WAIT, async { gw.front.set_health(snapshot(gw, false).await) })
                    .await;
        }
    }
    Ok(Value::clone(&gw.front.health()).into())
}

/// Make a new snapshot, keep it, tell the clients.
pub async fn refresh(gw: &Handles) {
    make(gw, false).await;
}

async fn make(gw: &Handles, probe: bool) {
    let snapshot = snapshot(gw, probe).await;
    gw.front.set_health(snapshot.clone());
    gw.front.fanout.emit(GatewayEvent::Health(snapshot));
}

async fn snapshot(gw: &Handles, probe: bool) -> Value {
    let began = Instant::now();
    let config = gw.config.current();
    let (default, now) = (config.view.agents.default_id(), now_ms());
    let networks = networks(gw, probe).await;
    let counts = gw.journal.session_counts().await.unwrap_or_default();
    let count = |agent: &str| counts.iter().find(|(id, _)| id == agent).map_or(0, |(_, count)| *count);
    let mut agents = Vec::new();
    for agent in &config.view.agents.list {
        let mut row = json!({
            "agentId": agent.id, "isDefault": agent.id == default, "heartbeat": heartbeat(&config, &agent.id),
            "sessions": sessions(gw, &agent.id, count(&agent.id), now).await,
        });
        if let Some(name) = &agent.name {
            row["name"] = name.as_str().into();
        }
        agents.push(row);
    }
    let of_default = agents.iter().find(|row| row["isDefault"] == true).map(|row| row["sessions"].clone());
    let seconds = heartbeat(&config, default)["everyMs"].as_u64().map_or(0, |ms| ms / 1_000);
    let mut made = json!({
        "ok": true,
        "ts": now,
        "durationMs": u64::try_from(began.elapsed().as_millis()).unwrap_or(0),
        "channels": networks["channels"],
        "channelOrder": networks["channelOrder"],
        "channelLabels": networks["channelLabels"],
        "heartbeatSeconds": seconds,
        "defaultAgentId": default,
        "agents": agents,
        "sessions": of_default,
    });
    if let Some(config) = divergence(gw).await {
        made["config"] = config;
    }
    made
}

/// The configuration's state, while the file is not what runs: `{state, errors, activeHash, fileHash, source, pending,
/// sinceMs, settling, line}`. In every snapshot that clients get, the first one included.
async fn divergence(gw: &Handles) -> Option<Value> {
    let config = gw.config.clone();
    let state = tokio::task::spawn_blocking(move || config.state()).await.ok()?;
    let mut shown = state.diverges().then(|| json!(state))?;
    shown["line"] = state.line().into();
    Some(shown)
}

/// What `channels.status` says, one row per channel with its accounts inside: `{channels, channelOrder, channelLabels, …}`.
pub async fn networks(gw: &Handles, probe: bool) -> Value {
    let asker = Caller::local_operator("health".to_owned(), 4, "gateway");
    let answer = channels::status(gw, &asker, json!({"probe": probe})).await;
    let mut listed = answer.map(|reply| reply.body.into_value()).unwrap_or_default();
    let mut rows = Map::new();
    for (id, summary) in listed["channels"].as_object().into_iter().flatten() {
        let mut row = summary.clone();
        let accounts = listed["channelAccounts"][id].as_array().into_iter().flatten();
        let mut by_id = Map::new();
        for account in accounts {
            if is_failing(account) {
                row["degraded"] = true.into();
            }
            by_id.insert(account["accountId"].as_str().unwrap_or_default().to_owned(), account.clone());
        }
        row["accountId"] = listed["channelDefaultAccountId"][id].clone();
        row["accounts"] = Value::Object(by_id);
        rows.insert(id.clone(), row);
    }
    if !listed.is_object() {
        listed = json!({"channelOrder": [], "channelLabels": {}});
    }
    listed["channels"] = Value::Object(rows);
    listed
}

/// Switched on, not connected, and something says why.
fn is_failing(account: &Value) -> bool {
    account["enabled"] == true && account["connected"] != true && account["lastError"].is_string()
}

async fn sessions(gw: &Handles, agent_id: &str, count: u64, now: u64) -> Value {
    let filter = SessionFilter {
        agent: Some(agent_id.to_owned()),
        limit: Some(RECENT_ROWS_MAX),
        ..SessionFilter::default()
    };
    let rows = gw.journal.session_list(filter).await.unwrap_or_default();
    let age = |updated_ms: i64| now.saturating_sub(u64::try_from(updated_ms).unwrap_or(0));
    let recent: Vec<Value> = rows
        .iter()
        .map(|row| json!({"key": row.key, "updatedAt": row.updated_ms, "age": age(row.updated_ms)}))
        .collect();
    json!({"path": store_path(gw, agent_id), "count": count, "recent": recent})
}

/// An agent's heartbeat as configured: `{enabled, every, everyMs, prompt, target, ackMaxChars}`. It is enabled where
/// something would run it.
pub fn heartbeat(config: &ConfigSnapshot, agent_id: &str) -> Value {
    let defaults = &config.config["agents"]["defaults"]["heartbeat"];
    let listed = || config.config["agents"]["list"].as_array().into_iter().flatten();
    let is_own = |agent: &&Value| {
        agent["id"].as_str().is_some_and(|id| proto::view::normalize_agent_id(id) == agent_id)
    };
    let own = listed().find(is_own).map_or(&Value::Null, |agent| &agent["heartbeat"]);
    let wanted = if listed().any(|agent| agent["heartbeat"].is_object()) {
        own.is_object()
    } else {
        agent_id == config.view.agents.default_id()
    };
    let pick = |key: &str| if own[key].is_null() { &defaults[key] } else { &own[key] };
    let every = pick("every").as_str().unwrap_or(HEARTBEAT_EVERY);
    let every_ms = interval_ms(every).filter(|ms| wanted && *ms > 0);
    let runs = every_ms.is_some() && crate::config::is_built("agents.defaults.heartbeat");
    json!({
        "enabled": runs,
        "every": if every_ms.is_some() { every } else { "disabled" },
        "everyMs": every_ms,
        "prompt": pick("prompt").as_str().unwrap_or(HEARTBEAT_PROMPT),
        "target": pick("target").as_str().unwrap_or("none"),
        "ackMaxChars": pick("ackMaxChars").as_u64().unwrap_or(HEARTBEAT_ACK_CHARS_MAX),
    })
}

/// `30m`, `2h`, `90s`, `500ms`, `1d`; a bare number is minutes.
fn interval_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "" | "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Internal failure that a caller can do nothing about.
pub fn internal(what: &str, error: &dyn std::fmt::Display) -> RpcError {
    RpcError::unavailable(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units() {
        let read = ["30m", "2h", "90s", "500ms", "1d", "5", "0m", "", "x", "1w"].map(interval_ms);
        let want = [
            Some(1_800_000),
            Some(7_200_000),
            Some(90_000),
            Some(500),
            Some(86_400_000),
            Some(300_000),
            Some(0),
            None,
            None,
            None,
        ];
        assert_eq!(read, want);
    }

    #[test]
    fn a_channel_fails_when_it_is_wanted_and_says_why() {
        let failing = json!({"enabled": true, "connected": false, "lastError": "401"});
        assert!(is_failing(&failing));
        for (key, value) in
            [("enabled", json!(false)), ("connected", json!(true)), ("lastError", Value::Null)]
        {
            let mut well = failing.clone();
            well[key] = value;
            assert!(!is_failing(&well), "{well}");
        }
    }
}
