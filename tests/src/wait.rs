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
