//! The time that the journal's rows are kept in, and what a change of the host's clock does to it.
//!
//! Rows carry wall-clock times, because they outlive this process and the host's boot. A clock that is set by an hour would
//! make every reply that waits stale at once, or hold it back for an hour. So a jump is noticed by comparing the wall clock
//! with the time since the boot, which nobody can set; until the journal has moved its open rows along ([`follow`]),
//! [`now_us`] goes on as if nothing had happened. What only measures how long something takes uses [`steady_ms`].

use crate::journal::{Journal, JournalError, JournalHandle};
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

/// Differences below are corrections (a time daemon steps by less); no row has a limit that is shorter.
const JUMP_US_MIN: i64 = 10_000_000;
/// How often the clocks are compared: two readings without a system call.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a leap of this size no row is thrown away for its age while this process lives: which of the two times was wrong
/// nobody knows (a day: the shortest time for which rows are kept).
const LEAP_US_MIN: i64 = 24 * 3600 * 1_000_000;
/// Name of the basis in the journal's `kv`.
pub const KV_CLOCK: &str = "clock";

/// Wall clock less time since the boot, as the rows know it; `i64::MIN` until it is known.
static BASIS_US: AtomicI64 = AtomicI64::new(i64::MIN);
static LEAPT: AtomicBool = AtomicBool::new(false);

/// Microseconds since the Unix epoch, for everything that is stored or compared with what is stored.
pub fn now_us() -> i64 {
    let (wall, up) = (wall_us(), up_us());
    let basis = BASIS_US.load(Ordering::Relaxed);
    if basis == i64::MIN || jump(wall - up, basis).is_none() { wall } else { up.saturating_add(basis) }
}

/// Milliseconds since the Unix epoch, the same clock.
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Milliseconds since the boot of the host, sleep included: for spans. Survives a restart in place.
pub fn steady_ms() -> u64 {
    u64::try_from(up_us() / 1000).unwrap_or_default()
}

/// The clock was set by more than a day in this life.
pub fn leapt() -> bool {
    LEAPT.load(Ordering::Relaxed)
}

fn wall_us() -> i64 {
    // Through the standard library and not by a system call of our own, so that a test can set this process's clock.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn up_us() -> i64 {
    let up = clock_gettime(ClockId::Boottime);
    up.tv_sec.saturating_mul(1_000_000).saturating_add(up.tv_nsec / 1000)
}

/// By how much the clock was set, when that is more than a correction.
fn jump(now: i64, basis: i64) -> Option<i64> {
    let by = now.saturating_sub(basis);
    (by.saturating_abs() >= JUMP_US_MIN).then_some(by)
}

/// What the journal keeps: the basis means something only within one boot of the host.
fn basis_text(basis_us: i64) -> Vec<u8> {
    format!("{} {basis_us}", boot()).into_bytes()
}

fn basis_of(stored: &[u8]) -> Option<i64> {
    let (stored_boot, basis) = std::str::from_utf8(stored).ok()?.split_once(' ')?;
    (stored_boot == boot()).then(|| basis.parse().ok())?
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Before anything is recovered: a clock that was set while no gateway ran is followed too.
///
/// # Errors
/// The journal's.
pub async fn begin(journal: &JournalHandle) -> Result<(), JournalError> {
    let stored = journal.kv_get(KV_CLOCK.to_owned()).await?;
    let now = wall_us() - up_us();
    BASIS_US.store(stored.and_then(|stored| basis_of(&stored)).unwrap_or(now), Ordering::Relaxed);
    look(journal).await?;
    journal.kv_put(KV_CLOCK.to_owned(), Some(basis_text(now))).await
}

/// Compares the clocks for the life of the gateway.
pub async fn follow(journal: JournalHandle) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if let Err(error) = look(&journal).await {
            tracing::warn!(%error, "the clock was set, and open work cannot follow it yet; tried again");
        }
    }
}

async fn look(journal: &JournalHandle) -> Result<(), JournalError> {
    let (now, basis) = (wall_us() - up_us(), BASIS_US.load(Ordering::Relaxed));
    if let Some(by_us) = jump(now, basis) {
        journal.rebase(by_us, basis_text(now)).await?;
        if by_us.saturating_abs() >= LEAP_US_MIN {
            LEAPT.store(true, Ordering::Relaxed);
        }
        tracing::warn!(
            seconds = by_us / 1_000_000,
            "the clock of this host was set; all deadlines moved with it"
        );
    }
    BASIS_US.store(now, Ordering::Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_are_no_jumps() {
        assert_eq!(jump(9_999_999, 0), None);
        assert_eq!(jump(-10_000_000, 0), Some(-10_000_000));
        assert_eq!(jump(3_600_000_000, 5), Some(3_599_999_995));
    }

    #[test]
    fn a_basis_counts_for_its_boot_only() {
        assert_eq!(basis_of(&basis_text(-7)), Some(-7));
        assert_eq!(basis_of(b"another-boot 5"), None);
        assert_eq!(basis_of(b"garbage"), None);
    }

    #[test]
    fn time_goes_on() {
        let (wall, steady) = (now_us(), steady_ms());
        assert!(now_us() >= wall && steady_ms() >= steady && now_ms() > 1_600_000_000_000);
    }
}
