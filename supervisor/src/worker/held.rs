//! Workers that an operator stopped for good. Who starts or stops them stores it; here it is only known.

use proto::wire::handshake::WorkerId;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Held(Mutex<BTreeSet<WorkerId>>);

impl Held {
    pub fn new(workers: BTreeSet<WorkerId>) -> Self {
        Self(Mutex::new(workers))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<WorkerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn contains(&self, worker: &WorkerId) -> bool {
        self.lock().contains(worker)
    }

    pub fn hold(&self, worker: &WorkerId) {
        self.lock().insert(worker.clone());
    }

    /// True when it was held.
    pub fn release(&self, worker: &WorkerId) -> bool {
        self.lock().remove(worker)
    }
}

/// For an operator, behind the state.
pub(super) fn why(worker: &WorkerId) -> String {
    format!("by an operator; `openclaw workers start {worker}` ends it")
}
