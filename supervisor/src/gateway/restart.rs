//! Requests to restart the gateway: joined, delayed and carried out by the main task.

use crate::config::restart::{RestartPlan, RestartRequest, RestartSchedule};
use crate::scheduler::shared::now_ms;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::Duration;

/// Handle of the one schedule. Cheap to clone.
#[derive(Clone)]
pub struct Restarts {
    inner: Arc<Mutex<Inner>>,
    due_ms: watch::Sender<Option<i64>>,
}

struct Inner {
    schedule: RestartSchedule,
    /// Executable that the planned restart goes on with; `None`: the one at its usual place.
    target: Option<PathBuf>,
    reason: String,
    /// An invalid file is passed over.
    use_last_good: bool,
    upgrades: u32,
    last: Option<LastRestart>,
}

/// How the last restart in place went, as `system.info` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRestart {
    /// Unix milliseconds.
    pub at_ms: i64,
    pub ok: bool,
    pub reason: String,
    pub from_build: String,
    /// Of what runs now.
    pub build: String,
    /// Why not, or why the image before goes on.
    pub why: Option<String>,
}

/// A restart that is due.
pub struct Begun {
    /// Executable to go on with, if one was named.
    pub target: Option<PathBuf>,
    pub reason: String,
    pub use_last_good: bool,
}

impl Restarts {
    /// `last_ms`: when this process was restarted last, if it was. `upgrades`: how often it was replaced in place.
    pub fn new(last_ms: Option<i64>, upgrades: u32, last: Option<LastRestart>) -> Self {
        let schedule = RestartSchedule::after(last_ms);
        let inner =
            Inner { schedule, target: None, reason: String::new(), use_last_good: false, upgrades, last };
        Self { inner: Arc::new(Mutex::new(inner)), due_ms: watch::Sender::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a restart (default delay 2 s, so that the answer to who asked gets out).
    pub fn request(&self, delay_ms: Option<i64>, reason: &str) -> RestartPlan {
        let wish = RestartRequest { delay_ms, reason: reason.to_owned() };
        let mut inner = self.lock();
        let plan = inner.schedule.request(&wish, now_ms());
        plan.reason.clone_into(&mut inner.reason);
        drop(inner);
        if plan.reschedule {
            self.due_ms.send_replace(Some(plan.due_ms));
        }
        plan
    }

    /// The planned restart goes on with the last good configuration when the file is invalid.
    pub fn use_last_good(&self) {
        self.lock().use_last_good = true;
    }

    /// The same with another executable (an update).
    pub fn request_to(&self, target: PathBuf, delay_ms: Option<i64>, reason: &str) -> RestartPlan {
        self.lock().target = Some(target);
        self.request(delay_ms, reason)
    }

    /// The executable that a planned restart goes on with, and when (Unix milliseconds).
    pub fn waits_for(&self) -> Option<(PathBuf, i64)> {
        let due_ms = (*self.due_ms.borrow())?;
        self.lock().target.clone().map(|target| (target, due_ms))
    }

    /// Waits until a planned restart is due.
    pub async fn due(&self) {
        let mut planned = self.due_ms.subscribe();
        loop {
            let due = *planned.borrow_and_update();
            let wait = due.map(|due| Duration::from_millis(u64::try_from(due - now_ms()).unwrap_or(0)));
            match wait {
                None => {
                    if planned.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Some(wait) => tokio::select! {
                    () = tokio::time::sleep(wait) => return,
                    changed = planned.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    /// The restart begins, planned or not.
    pub fn begin(&self, unplanned: Option<&str>) -> Begun {
        let mut inner = self.lock();
        inner.schedule.emitted(now_ms());
        self.due_ms.send_replace(None);
        let reason = unplanned.map_or_else(|| std::mem::take(&mut inner.reason), str::to_owned);
        let use_last_good = std::mem::take(&mut inner.use_last_good);
        Begun { target: inner.target.take(), reason, use_last_good }
    }

    /// It did not happen; everything goes on.
    pub fn failed(&self, last: LastRestart) {
        let mut inner = self.lock();
        inner.schedule.failed();
        inner.last = Some(last);
    }

    /// How often this process was replaced in place.
    pub fn upgrades(&self) -> u32 {
        self.lock().upgrades
    }

    pub fn last(&self) -> Option<LastRestart> {
        self.lock().last.clone()
    }
}
