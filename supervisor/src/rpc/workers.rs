//! `workers.*` and `system.info`: what runs here, and what an operator wants of it. All answer from memory, also when
//! every worker hangs.

use super::params::Params;
use super::{Answer, RpcError, degraded};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::journal::Journal;
use crate::scheduler::ActiveRun;
use crate::worker::{Refusal, WorkerStatus, Workers};
use proto::wire::handshake::WorkerId;
use serde_json::{Value, json};

/// `workers.list {}`.
///
/// # Errors
/// None.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let workers: Vec<Value> = gw.workers.status().iter().map(row).collect();
    Ok(json!({"workers": workers}).into())
}

/// `workers.restart {id}`: lets the worker finish its work, then starts it again; also ends a quarantine.
///
/// # Errors
/// Unknown worker, or too many commands wait for it.
pub async fn restart_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    verb(gw, "workers.restart", &params, Workers::restart)
}

/// `workers.stop {id}`: stops the worker now. It starts again when somebody wants it.
///
/// # Errors
/// As [`restart_one`].
pub async fn stop_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    verb(gw, "workers.stop", &params, Workers::stop)
}

/// `workers.start {id}`: starts one that rests; also ends what `workers.release` ends.
///
/// # Errors
/// As [`restart_one`].
pub async fn start_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    verb(gw, "workers.start", &params, Workers::start_one)
}

/// `workers.release {id}`: ends quarantine, back-off and the wait for a login.
///
/// # Errors
/// As [`restart_one`].
pub async fn release_one(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    verb(gw, "workers.release", &params, Workers::retry)
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

fn verb(
    gw: &Handles,
    method: &'static str,
    params: &Value,
    act: fn(&Workers, &WorkerId) -> Result<(), Refusal>,
) -> Answer {
    let id = worker_id(gw, method, params)?;
    match act(&gw.workers, &id) {
        Ok(()) => Ok(json!({"ok": true, "id": id.0}).into()),
        Err(refusal) => Err(RpcError::unavailable(refusal.to_string())),
    }
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
        "state": worker.state, "why": worker.why, "sinceMs": worker.since_ms,
        "restarts": worker.restarts, "rssKb": worker.pid.and_then(rss_kb).unwrap_or(worker.rss_kb),
        "pssKb": worker.pid.and_then(pss_kb),
        "inflight": worker.inflight, "queue": worker.queue, "lagMs": worker.lag_ms, "lastCrash": crash,
        "sandbox": worker.sandbox,
    })
}

/// How far one worker is confined.
fn isolation_row(worker: &WorkerStatus) -> Option<Value> {
    let sandbox = worker.sandbox.as_ref()?;
    Some(json!({"id": worker.id.0, "tier": sandbox.tier, "text": sandbox.text, "amiss": sandbox.amiss}))
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

/// `system.info {}`: the gateway itself.
///
/// # Errors
/// The journal is closed: the gateway is stopping.
pub async fn info(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let stats = gw.journal.stats().await.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let runs = gw.scheduler.status().await;
    let config = gw.config.clone();
    let state = tokio::task::spawn_blocking(move || config.state()).await;
    let state = state.map_err(|error| RpcError::unavailable(error.to_string()))?;
    let snapshot = gw.config.current();
    let (host, port) = ("127.0.0.1", gw.about.port());
    let (open, unauthenticated) = gw.front.slots.counts();
    let degraded = degraded::problems(&state, &stats, &gw.workers.status());
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
