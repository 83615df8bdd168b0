//! `workers.*` and `system.info`: what runs here, and what an operator wants of it. All answer from memory, also when
//! every worker hangs.

use super::params::Params;
use super::{Answer, RpcError, degraded, system};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::{Journal, JournalHandle};
use crate::scheduler::ActiveRun;
use crate::worker::cgroup::limits::InForce;
use crate::worker::{Refusal, WorkerStatus, Workers};
use proto::wire::handshake::{WorkerId, WorkerKind};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `workers.list {}`.
///
/// # Errors
/// None.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let workers: Vec<Value> = gw.workers.status().iter().map(row).collect();
    Ok(json!({"workers": workers}).into())
}

/// Key of the journal: this worker stays stopped.
const HELD: &str = "worker.held:";

/// Workers that an operator stopped, in this life or an earlier one.
pub async fn held(journal: &JournalHandle) -> BTreeSet<WorkerId> {
    match journal.kv_keys(HELD.to_owned()).await {
        Ok(keys) => {
            keys.iter().filter_map(|key| key.strip_prefix(HELD)).map(|id| WorkerId(id.to_owned())).collect()
        }
        Err(error) => {
            tracing::warn!(%error, "the journal does not tell which workers were stopped; all are started");
            BTreeSet::new()
        }
    }
}

/// Stores or forgets that it stays stopped. False: it holds only as long as this gateway.
async fn remember_held(gw: &Handles, id: &WorkerId, held: bool) -> bool {
    let stored = gw.journal.kv_put(format!("{HELD}{id}"), held.then(Vec::new)).await;
    if let Err(error) = &stored {
        tracing::warn!(worker = %id, %error, held, "not stored; the next start of the gateway does not know it");
    }
    stored.is_ok()
}

/// `workers.restart {id}`: lets the worker finish its work, then starts it again; also ends a quarantine.
///
/// # Errors
/// Unknown worker, or too many commands wait for it.
pub async fn restart_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    starting(gw, "workers.restart", &params, Workers::restart).await
}

/// `workers.stop {id}`: stops the worker now. A channel's stays stopped until `workers.start` or `workers.restart`, over
/// restarts of the gateway too (`lasts: "untilStarted"`; `"untilGatewayStarts"` when that could not be stored). An agent's
/// starts again when a message is to be answered (`lasts: "untilWanted"`): what is accepted is answered.
///
/// # Errors
/// As [`restart_one`].
pub async fn stop_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let id = worker_id(gw, "workers.stop", &params)?;
    if id.kind() == WorkerKind::Agent {
        told(&id, gw.workers.stop(&id))?;
        return Ok(json!({"ok": true, "id": id.0, "lasts": "untilWanted"}).into());
    }
    let stored = remember_held(gw, &id, true).await;
    told(&id, gw.workers.hold(&id))?;
    let lasts = if stored { "untilStarted" } else { "untilGatewayStarts" };
    Ok(json!({"ok": true, "id": id.0, "lasts": lasts}).into())
}

/// `workers.start {id}`: starts one that rests; also ends what `workers.release` ends.
///
/// # Errors
/// As [`restart_one`].
pub async fn start_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    starting(gw, "workers.start", &params, Workers::start_one).await
}

/// `workers.release {id}`: ends quarantine, back-off, the wait for a login and a stop.
///
/// # Errors
/// As [`restart_one`].
pub async fn release_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    starting(gw, "workers.release", &params, Workers::retry).await
}

/// `workers.dump {id}`: what the supervisor knows of the worker, with the state of its process; and the worker is asked to
/// write its own view (runs, steps, last frames) to its log.
///
/// # Errors
/// As [`restart_one`].
pub async fn dump_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let id = worker_id(gw, "workers.dump", &params)?;
    let dump = gw.workers.dump(&id).await.map_err(|refusal| RpcError::unavailable(refusal.to_string()))?;
    let status = gw.workers.status_of(&id);
    let runs = gw.scheduler.status().await.active;
    let runs: Vec<Value> =
        runs.iter().filter(|run| id.agent_id() == Some(run.agent_id.as_str())).map(run_row).collect();
    Ok(json!({"worker": status.as_ref().map(row), "runs": runs, "dump": dump}).into())
}

fn worker_id(gw: &Handles, method: &'static str, params: &Value) -> Result<WorkerId, RpcError> {
    let id = WorkerId(Params::of(method, params).required("id")?.to_owned());
    if gw.workers.status_of(&id).is_some() {
        return Ok(id);
    }
    let known: Vec<String> = gw.workers.status().into_iter().map(|worker| worker.id.0).collect();
    Err(RpcError::invalid(format!("unknown worker \"{id}\" (there are: {})", known.join(", "))))
}

/// Whatever starts a worker ends its stop.
async fn starting(
    gw: &Handles,
    method: &'static str,
    params: &Value,
    act: fn(&Workers, &WorkerId) -> Result<(), Refusal>,
) -> Answer {
    let id = worker_id(gw, method, params)?;
    if id.kind() == WorkerKind::Channel {
        remember_held(gw, &id, false).await;
    }
    told(&id, act(&gw.workers, &id))?;
    Ok(json!({"ok": true, "id": id.0}).into())
}

fn told(id: &WorkerId, outcome: Result<(), Refusal>) -> Result<(), RpcError> {
    outcome.map_err(|refusal| {
        tracing::info!(worker = %id, %refusal, "a command for the worker was refused");
        RpcError::unavailable(refusal.to_string())
    })
}

fn run_row(run: &ActiveRun) -> Value {
    json!({
        "runId": run.run_id, "sessionKey": run.session_key, "agentId": run.agent_id,
        "startedAtMs": run.started_ms, "attempt": run.attempt,
    })
}

fn row(worker: &WorkerStatus) -> Value {
    let crash = worker
        .last_crash
        .as_ref()
        .map(|crash| json!({"atMs": crash.at_ms, "class": crash.class, "ended": crash.ended, "report": crash.report}));
    json!({
        "id": worker.id.0, "kind": worker.kind, "pid": worker.pid, "epoch": worker.epoch,
        "state": worker.state_name(), "why": worker.why, "sinceMs": worker.since_ms,
        "restarts": worker.restarts, "rssKb": worker.pid.and_then(rss_kb).unwrap_or(worker.rss_kb),
        "pssKb": worker.pid.and_then(pss_kb),
        "inflight": worker.inflight, "queue": worker.queue, "lagMs": worker.lag_ms, "lastCrash": crash,
        "sandbox": worker.sandbox, "controlGroup": worker.pid.and_then(InForce::of),
    })
}

/// How far one worker is confined.
fn isolation_row(worker: &WorkerStatus) -> Option<Value> {
    let sandbox = worker.sandbox.as_ref()?;
    let group = worker.pid.and_then(InForce::of).map(|group| group.text);
    Some(json!({
        "id": worker.id.0, "tier": sandbox.tier, "text": sandbox.text, "amiss": sandbox.amiss, "controlGroup": group,
    }))
}

/// Proportional set size: what the process really costs, shared pages split. The kernel answers in microseconds. `None`
/// also when this is an ordinary user's gateway: workers are closed to everybody but root, so they show [`rss_kb`].
fn pss_kb(pid: u32) -> Option<u64> {
    proto::runtime::sys::pss_kb(&pid.to_string())
}

/// Resident memory, shared pages counted in full.
fn rss_kb(pid: u32) -> Option<u64> {
    proto::runtime::sys::rss_kb(&pid.to_string())
}

/// `system.info {gateway?}`: the machine, in the shape that protocol 4 publishes. With `gateway`, and for clients that this
/// shape does not bind (the control socket, protocol 3), the gateway itself.
///
/// # Errors
/// Malformed params; the journal is closed: the gateway is stopping.
pub async fn info(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let own = Params::of("system.info", &params).flag("gateway")?.unwrap_or(false);
    if !own && caller.protocol >= 4 && caller.ip.is_some() {
        let (gw, caller) = (gw.clone(), caller.clone());
        let looked = tokio::task::spawn_blocking(move || system::machine(&gw, &caller)).await;
        return looked.map(Into::into).map_err(|error| RpcError::unavailable(error.to_string()));
    }
    let stats = gw.journal.stats().await.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let runs = gw.scheduler.status().await;
    let config = gw.config.clone();
    let state = tokio::task::spawn_blocking(move || config.state()).await;
    let state = state.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let snapshot = gw.config.current();
    let (host, port) = ("127.0.0.1", gw.about.port());
    let (open, unauthenticated) = gw.front.slots.counts();
    let degraded = degraded::problems(&state, &stats, &gw.workers.status(), &runs.waits);
    Ok(json!({
        "version": gw.about.version, "pid": gw.about.pid, "bootId": gw.about.boot_id, "port": port,
        "url": format!("ws://{host}:{port}"), "dashboard": format!("http://{host}:{port}/"),
        "uptimeMs": u64::try_from(gw.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "startedAtMs": gw.about.started_ms, "pssKb": pss_kb(gw.about.pid),
        "rssKb": rss_kb(gw.about.pid),
        "authMode": gw.front.settings().auth.mode.as_str(),
        "config": {
            "state": state.state, "path": gw.config.paths().config_file, "errors": state.errors, "source": state.source,
            "activeHash": state.active_hash, "fileHash": state.file_hash, "unbuilt": snapshot.file.findings.unbuilt,
        },
        "journal": {
            "readonly": stats.readonly, "inboundWaiting": stats.inbound_waiting, "inboundClaimed": stats.inbound_claimed,
            "runsOpen": stats.runs_open, "outboxOpen": stats.outbox_open, "outboxUnknown": stats.outbox_unknown,
            "outboxFailed": stats.outbox_failed, "maybeDup": stats.maybe_dup,
            "orphanPlaceholders": stats.orphan_placeholders, "deadLetters": stats.dead_letters,
            "dbBytes": stats.db_bytes, "walBytes": stats.wal_bytes,
        },
        "runs": {
            "active": runs.active.len(), "queued": runs.queued, "draining": runs.draining,
            "list": runs.active.iter().map(run_row).collect::<Vec<_>>(),
        },
        "connections": {"open": open, "unauthenticated": unauthenticated},
        "upgrades": gw.restarts.upgrades(), "lastRestart": gw.restarts.last(),
        "controlGroups": gw.workers.groups(),
        "isolation": gw.workers.status().iter().filter_map(isolation_row).collect::<Vec<_>>(),
        "service": gw.about.service, "strays": gw.workers.strays(),
        "degraded": degraded,
    })
    .into())
}

/// `gateway.restart {delayMs?, reason?, useLastGood?}`.
///
/// # Errors
/// Malformed params; the file is invalid and `useLastGood` is not set.
pub async fn restart(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let read = Params::of("gateway.restart", &params);
    let delay_ms = read.count("delayMs")?.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let reason = read.text("reason")?.unwrap_or("gateway.restart").to_owned();
    let use_last_good = read.flag("useLastGood")?.unwrap_or(false);
    let config = gw.config.clone();
    let state = tokio::task::spawn_blocking(move || config.state()).await;
    if !use_last_good && state.as_ref().is_ok_and(|state| state.state == "invalid") {
        let errors = state.map(|state| state.errors.join("; ")).unwrap_or_default();
        let text = format!("the configuration file is invalid, so that a restart would not help: {errors}");
        return Err(RpcError::unavailable(text));
    }
    if use_last_good {
        gw.restarts.use_last_good();
    }
    let plan = gw.restarts.request(delay_ms, &reason);
    Ok(plan.to_value(gw.about.pid).into())
}

/// `gateway.drain {}`: takes no new work and answers when what was under way has ended.
///
/// # Errors
/// None.
pub async fn drain(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    gw.scheduler.drain().await;
    loop {
        let status = gw.scheduler.status().await;
        if status.active.is_empty() {
            return Ok(json!({"ok": true, "queued": status.queued}).into());
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// How often a drain looks; runs end in their own time.
const DRAIN_POLL: std::time::Duration = std::time::Duration::from_millis(50);
