//! Requests to restart the gateway: joined, delayed and carried out by the main task.

use crate::config::restart::{RestartPlan, RestartRequest, RestartSchedule};
use crate::scheduler::shared::now_ms;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Duration;

/// Handle of the one schedule. Cheap to clone.
#[derive(Clone)]
pub struct Restarts {
    schedule: Arc<Mutex<RestartSchedule>>,
    due_ms: watch::Sender<Option<i64>>,
}

impl Restarts {
    /// `last_ms`: when this process was restarted last, if it was.
    pub fn new(last_ms: Option<i64>) -> Self {
        let schedule = Arc::new(Mutex::new(RestartSchedule::after(last_ms)));
        Self { schedule, due_ms: watch::Sender::new(None) }
    }

    /// Plans a restart (default delay 2 s, so that the answer to who asked gets out).
    pub fn request(&self, delay_ms: Option<i64>, reason: &str) -> RestartPlan {
        let wish = RestartRequest { delay_ms, reason: reason.to_owned() };
        let plan = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).request(&wish, now_ms());
        if plan.reschedule {
            self.due_ms.send_replace(Some(plan.due_ms));
        }
        plan
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
                    () = tokio::time::sleep(wait) => {
                        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).emitted(now_ms());
                        return;
                    }
                    changed = planned.changed() => if changed.is_err() { return },
                },
            }
        }
    }
}
