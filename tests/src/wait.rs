//! Waiting for conditions. The only place where a test pauses, and never for a time that has to be long enough.

use std::time::{Duration, Instant};

/// A condition that does not come true in this time never will: the slowest legal thing (a drain) takes 30 s.
pub const PATIENCE: Duration = Duration::from_secs(45);
const STEP: Duration = Duration::from_millis(5);

/// Waits until `probe` gives a value; panics with `what` when it does not in [`PATIENCE`].
pub async fn until<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < end, "did not happen in {PATIENCE:?}: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// The same with another patience: an error instead of a panic, for callers that have more to say.
pub async fn within<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(STEP).await;
    }
}

/// A pause that is part of the load, not of the waiting: the time between two messages of a person, say.
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// One pause between two looks, for loops that do more than look.
pub async fn step() {
    tokio::time::sleep(STEP).await;
}

/// The same for threads.
pub fn until_blocking<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "did not happen in {PATIENCE:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Waits until these processes are gone or dead (a dead one that nobody reaped is gone for us); gives those that stay.
pub fn until_gone(pids: &[u32]) -> Vec<u32> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left: Vec<u32> = pids.iter().copied().filter(|pid| crate::gateway::is_alive(*pid)).collect();
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        std::thread::sleep(STEP);
    }
}
