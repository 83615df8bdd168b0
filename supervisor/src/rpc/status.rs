//! `status`: agents, sessions and what is wrong, from memory and the journal. No worker is asked: it answers also while
//! all of them hang.

use super::params::Params;
use super::session_rows::{Defaults, status_row, store_path};
use super::{Answer, degraded, health};
use crate::front::caller::Caller;
use crate::front::scope::ADMIN;
use crate::gateway::Handles;
use crate::journal::{Journal, SessionFilter};
use crate::router::session_key;
use crate::scheduler::shared::now_ms;
use proto::wire::agent::SessionRow;
use serde_json::{Value, json};

/// Sessions that are shown in each list, as recorded.
const RECENT_ROWS_MAX: usize = 10;
/// Reserved sessions are not shown; there are two.
const READ_ROWS_MAX: u32 = 12;

/// `status {includeChannelSummary?}`. Without the scope `operator.admin` it tells neither paths nor sessions.
///
/// # Errors
/// Malformed params; the journal is closed: the gateway is stopping.
pub async fn status(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("status", &params);
    let with_channels = read.flag("includeChannelSummary")?.unwrap_or(true);
    let config = gw.config.current();
    let agents = &config.view.agents;
    let heartbeats: Vec<Value> = agents
        .list
        .iter()
        .map(|agent| {
            let heartbeat = health::heartbeat(&config, &agent.id);
            json!({
                "agentId": agent.id, "enabled": heartbeat["enabled"], "every": heartbeat["every"],
                "everyMs": heartbeat["everyMs"],
            })
        })
        .collect();
    let lines = if with_channels { channel_lines(&health::networks(gw, false).await) } else { Vec::new() };
    let mut answer = json!({
        "heartbeat": {"defaultAgentId": agents.default_id(), "agents": heartbeats},
        "channelSummary": lines,
        "queuedSystemEvents": [],
        "sessions": sessions(gw, caller).await?,
    });
    if caller.protocol >= 4 {
        answer["runtimeVersion"] = gw.about.version.as_str().into();
        answer["degradedSecretOwners"] = json!([]);
        answer["degradedPlugins"] = json!([]);
    }
    if caller.may(ADMIN) {
        answer["degraded"] = json!(degraded::now(gw).await);
    }
    Ok(answer.into())
}

async fn sessions(gw: &Handles, caller: &Caller) -> Result<Value, super::RpcError> {
    let failed = |error: crate::journal::JournalError| health::internal("journal", &error);
    let (config, now) = (gw.config.current(), now_ms());
    let counts = gw.journal.session_counts().await.map_err(failed)?;
    let count = |agent: &str| counts.iter().find(|(id, _)| id == agent).map_or(0, |(_, count)| *count);
    let total: u64 = counts.iter().map(|(_, count)| *count).sum();
    let all = caller.may(ADMIN);
    let shown = async |agent: Option<&str>| -> Result<Vec<Value>, super::RpcError> {
        if !all {
            return Ok(Vec::new());
        }
        let filter = SessionFilter {
            agent: agent.map(str::to_owned),
            limit: Some(READ_ROWS_MAX),
            ..SessionFilter::default()
        };
        let rows = gw.journal.session_list(filter).await.map_err(failed)?;
        let named = |row: &&SessionRow| row.key != session_key::GLOBAL && row.key != session_key::UNKNOWN;
        let row = |row| status_row(row, &Defaults::of(&config, &row.agent_id), caller.protocol, now);
        Ok(rows.iter().filter(named).take(RECENT_ROWS_MAX).map(row).collect())
    };
    let mut by_agent = Vec::new();
    for agent in &config.view.agents.list {
        let path = if all { store_path(gw, &agent.id) } else { "[redacted]".to_owned() };
        by_agent.push(json!({
            "agentId": agent.id, "path": path, "count": count(&agent.id), "recent": shown(Some(&agent.id)).await?,
        }));
    }
    let paths: Vec<Value> = by_agent.iter().filter(|_| all).map(|row| row["path"].clone()).collect();
    let defaults =
        if all { Defaults::of(&config, config.view.agents.default_id()) } else { Defaults::default() };
    Ok(json!({
        "paths": paths,
        "count": total,
        "defaults": {"model": defaults.model, "contextTokens": defaults.context_tokens},
        "recent": shown(None).await?,
        "byAgent": by_agent,
    }))
}

/// One line per channel.
fn channel_lines(networks: &Value) -> Vec<String> {
    let ids = networks["channelOrder"].as_array().into_iter().flatten().filter_map(Value::as_str);
    ids.map(|id| {
        let (row, label) = (&networks["channels"][id], &networks["channelLabels"][id]);
        format!("{}: {}", label.as_str().unwrap_or(id), channel_state(row))
    })
    .collect()
}

fn channel_state(row: &Value) -> String {
    match row["lastError"].as_str() {
        _ if row["configured"] != true => "not configured".to_owned(),
        _ if row["connected"] == true => "connected".to_owned(),
        Some(why) => format!("failing – {why}"),
        None => "configured".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_in_one_line_each() {
        let health = json!({
            "channelOrder": ["a", "b", "c", "d"],
            "channelLabels": {"a": "Aaa"},
            "channels": {
                "a": {"configured": true, "connected": true},
                "b": {"configured": true, "connected": false, "lastError": "401 Unauthorized"},
                "c": {"configured": false},
                "d": {"configured": true},
            },
        });
        assert_eq!(
            channel_lines(&health),
            ["Aaa: connected", "b: failing – 401 Unauthorized", "c: not configured", "d: configured"]
        );
        assert_eq!(channel_lines(&json!({"ok": true})), [""; 0]);
    }
}
