//! Probes for load balancers, container runtimes and the command line. They are answered before anything
//! else, without authentication, from what the front holds in memory.

use super::Ask;
use super::body::{Answer, json_body, wrong_method};
use crate::front::shared::Phase;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

/// The answer, when `path` is a probe.
pub fn answer(ask: &Ask, path: &str) -> Option<Answer> {
    let probe = match path {
        "/health" | "/healthz" => live,
        "/ready" | "/readyz" => ready,
        "/startup" | "/startupz" => started,
        _ => return None,
    };
    if !ask.reads() {
        return Some(wrong_method("GET, HEAD"));
    }
    let (status, body) = probe(ask);
    let mut answer = json_body(status, &body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(answer)
}

fn uptime_ms(ask: &Ask) -> u64 {
    u64::try_from(ask.gw.about.started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn live(_: &Ask) -> (StatusCode, Value) {
    (StatusCode::OK, json!({ "ok": true, "status": "live" }))
}

fn started(ask: &Ask) -> (StatusCode, Value) {
    match ask.gw.front.phase() {
        Phase::Ready => {
            let body = json!({ "ok": true, "status": "started", "version": ask.gw.about.version, "uptimeMs": uptime_ms(ask) });
            (StatusCode::OK, body)
        }
        Phase::Starting(what) => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "ok": false, "status": "starting", "pendingReason": what }),
        ),
        Phase::Draining => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "ok": false, "status": "draining", "pendingReason": "draining" }),
        ),
    }
}

/// A channel that fails makes the gateway degraded, not unready: the other channels and the clients still
/// work, and a restart would not heal it. `?strict=1` asks for 503 then.
fn ready(ask: &Ask) -> (StatusCode, Value) {
    let phase = ask.gw.front.phase();
    let health = ask.gw.front.health();
    let degraded = degraded_channels(&health);
    let strict = ask.query("strict").is_some_and(|v| !matches!(v, "0" | "false" | ""));
    let mut failing: Vec<String> = match phase {
        Phase::Ready => Vec::new(),
        Phase::Starting(what) => vec![format!("starting:{what}")],
        Phase::Draining => vec!["draining".to_owned()],
    };
    if strict {
        failing.extend(degraded.iter().cloned());
    }
    let ready = failing.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Names of channels are for the operator: from this machine, or with the secret.
    if !ask.peer.local_direct() && ask.authorise().is_err() {
        return (status, json!({ "ready": ready }));
    }
    let mut body = json!({ "ready": ready, "failing": failing, "uptimeMs": uptime_ms(ask) });
    if !degraded.is_empty() {
        body["degraded"] = json!(degraded);
    }
    (status, body)
}

/// Channels that the health snapshot reports as configured but not working.
fn degraded_channels(health: &Value) -> Vec<String> {
    let channels = health["channels"].as_object();
    let bad = |row: &Value| row["degraded"] == Value::Bool(true);
    channels.into_iter().flatten().filter(|(_, row)| bad(row)).map(|(name, _)| name.clone()).collect()
}
