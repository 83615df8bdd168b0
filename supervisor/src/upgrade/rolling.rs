//! U8: workers of the old release are replaced once the new image has proved itself, without disturbing anybody: agents when
//! they have nothing to do, channels one after the other. Until then both releases speak the older one's protocol.

use crate::gateway::Handles;
use proto::wire::handshake::{WorkerId, WorkerKind};
use std::time::Duration;

/// A new image that lives this long is healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often idle agents are looked for. Runs end in their own time: a busy agent is left alone until it is idle.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A channel logs in again within this, or the next one waits no longer for it.
const CHANNEL_WITHIN: Duration = Duration::from_secs(60);
/// Overrides the first wait, in milliseconds, for tests that cannot sit it out.
const HEALTHY_AFTER_VARIABLE: &str = "OPENCLAW_TEST_HEALTHY_AFTER_MS";

/// Runs until no worker is outdated.
pub async fn run(handles: Handles) {
    let env = handles.config.current().env().get(HEALTHY_AFTER_VARIABLE).and_then(|ms| ms.parse().ok());
    tokio::time::sleep(env.map_or(HEALTHY_AFTER, Duration::from_millis)).await;
    let (mut replaced, workers) = (0u32, &handles.workers);
    loop {
        let outdated = workers.outdated();
        if outdated.is_empty() {
            break;
        }
        for worker in outdated {
            let ready = worker.kind() == WorkerKind::Channel || is_idle(&handles, &worker);
            if ready && replace(&handles, &worker).await {
                replaced += 1;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if replaced > 0 {
        tracing::info!(replaced, "all workers run the new release");
    }
}

fn is_idle(handles: &Handles, worker: &WorkerId) -> bool {
    let status = handles.workers.status_of(worker);
    status.is_none_or(|status| status.inflight == 0 && status.queue == 0)
}

/// Drains and starts anew; a drain waits for what the worker is doing.
async fn replace(handles: &Handles, worker: &WorkerId) -> bool {
    tracing::info!(%worker, "replaced by the new release");
    if let Err(refusal) = handles.workers.restart(worker) {
        tracing::warn!(%worker, %refusal, "stays with the old release for now");
        return false;
    }
    if worker.kind() == WorkerKind::Channel {
        let up = handles.workers.ensure_started(worker.clone());
        if tokio::time::timeout(CHANNEL_WITHIN, up).await.is_err() {
            tracing::warn!(%worker, "the new release of this channel is not up yet");
        }
    }
    true
}
