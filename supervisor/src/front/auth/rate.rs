//! Pure rule: a sliding window of failed tries per address, and a lock when there were too many.
//!
//! Only wrong secrets count; a success clears the count. State is in memory: a restart forgets it, which
//! costs an attacker nothing that the window would not give back anyway.

use std::collections::HashMap;
use std::net::IpAddr;

/// `gateway.auth.rateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRules {
    /// Wrong tries inside the window that cause a lock.
    pub attempts_max: u32,
    /// The window.
    pub window_ms: u64,
    /// How long a lock lasts.
    pub lockout_ms: u64,
    /// Loopback is not limited (never applies to browsers, which any web page can drive).
    pub exempt_loopback: bool,
}

impl Default for RateRules {
    fn default() -> Self {
        Self { attempts_max: 10, window_ms: 60_000, lockout_ms: 300_000, exempt_loopback: true }
    }
}

/// What is being guessed; each has a count of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateScope {
    /// Gateway token or password.
    SharedSecret,
    /// A device's token.
    DeviceToken,
}

/// Address that a loopback browser counts under, so that the exemption of loopback does not cover it.
pub const LOOPBACK_BROWSER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 1));

/// Addresses remembered. When full, the one with the oldest try is forgotten.
const ENTRIES_MAX: usize = 4096;

#[derive(Debug, Default)]
struct Entry {
    /// Times of wrong tries, oldest first; at most `attempts_max`.
    tries_ms: Vec<u64>,
    locked_until_ms: u64,
}

/// All counts.
#[derive(Debug, Default)]
pub struct RateLimiter {
    entries: HashMap<(RateScope, IpAddr), Entry>,
}

impl RateLimiter {
    /// Whether a try is allowed now; if not, in how many milliseconds.
    pub fn check(&self, rules: RateRules, scope: RateScope, ip: IpAddr, now_ms: u64) -> Result<(), u64> {
        if rules.exempt_loopback && ip.is_loopback() {
            return Ok(());
        }
        match self.entries.get(&(scope, ip)) {
            Some(entry) if entry.locked_until_ms > now_ms => Err(entry.locked_until_ms - now_ms),
            _ => Ok(()),
        }
    }

    /// A wrong secret came from `ip`.
    pub fn failed(&mut self, rules: RateRules, scope: RateScope, ip: IpAddr, now_ms: u64) {
        if rules.exempt_loopback && ip.is_loopback() {
            return;
        }
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&(scope, ip)) {
            self.forget_oldest();
        }
        let entry = self.entries.entry((scope, ip)).or_default();
        entry.tries_ms.retain(|t| now_ms.saturating_sub(*t) < rules.window_ms);
        entry.tries_ms.push(now_ms);
        if entry.tries_ms.len() >= rules.attempts_max.max(1) as usize {
            entry.tries_ms.clear();
            entry.locked_until_ms = now_ms.saturating_add(rules.lockout_ms);
        }
    }

    /// The right secret came from `ip`.
    pub fn succeeded(&mut self, scope: RateScope, ip: IpAddr) {
        self.entries.remove(&(scope, ip));
    }

    /// Drop what no longer matters.
    pub fn prune(&mut self, rules: RateRules, now_ms: u64) {
        self.entries.retain(|_, e| {
            e.locked_until_ms > now_ms
                || e.tries_ms.iter().any(|t| now_ms.saturating_sub(*t) < rules.window_ms)
        });
    }

    fn forget_oldest(&mut self) {
        let last_seen = |e: &Entry| e.tries_ms.last().copied().unwrap_or(0).max(e.locked_until_ms);
        let oldest = self.entries.iter().min_by_key(|(_, e)| last_seen(e)).map(|(k, _)| *k);
        if let Some(key) = oldest {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: RateRules =
        RateRules { attempts_max: 3, window_ms: 1_000, lockout_ms: 5_000, exempt_loopback: true };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn locks_after_the_last_allowed_try_and_opens_again() {
        let (mut limiter, far) = (RateLimiter::default(), ip("203.0.113.1"));
        for t in [0, 10] {
            limiter.failed(RULES, RateScope::SharedSecret, far, t);
            assert!(limiter.check(RULES, RateScope::SharedSecret, far, t).is_ok());
        }
        limiter.failed(RULES, RateScope::SharedSecret, far, 20);
        assert_eq!(limiter.check(RULES, RateScope::SharedSecret, far, 20), Err(5_000));
        assert!(limiter.check(RULES, RateScope::DeviceToken, far, 20).is_ok());
        assert!(limiter.check(RULES, RateScope::SharedSecret, ip("203.0.113.2"), 20).is_ok());
        assert!(limiter.check(RULES, RateScope::SharedSecret, far, 5_020).is_ok());
    }

    #[test]
    fn old_tries_slide_out_success_clears_loopback_is_exempt_unless_it_is_a_browser() {
        let (mut limiter, far) = (RateLimiter::default(), ip("203.0.113.1"));
        for t in [0, 600, 1_200, 1_800, 2_400] {
            limiter.failed(RULES, RateScope::SharedSecret, far, t);
            assert!(limiter.check(RULES, RateScope::SharedSecret, far, t).is_ok(), "{t}");
        }
        limiter.succeeded(RateScope::SharedSecret, far);
        assert!(limiter.entries.is_empty());
        for _ in 0..20 {
            limiter.failed(RULES, RateScope::SharedSecret, ip("127.0.0.1"), 0);
            limiter.failed(RULES, RateScope::SharedSecret, LOOPBACK_BROWSER, 0);
        }
        assert!(limiter.check(RULES, RateScope::SharedSecret, ip("127.0.0.1"), 0).is_ok());
        assert!(limiter.check(RULES, RateScope::SharedSecret, LOOPBACK_BROWSER, 0).is_err());
    }

    #[test]
    fn memory_is_bounded_and_pruned() {
        let mut limiter = RateLimiter::default();
        for n in 0..ENTRIES_MAX as u32 + 50 {
            let far = IpAddr::V4(std::net::Ipv4Addr::from(0x4000_0000 | n));
            limiter.failed(RULES, RateScope::SharedSecret, far, u64::from(n));
        }
        assert_eq!(limiter.entries.len(), ENTRIES_MAX);
        assert!(!limiter.entries.contains_key(&(RateScope::SharedSecret, ip("64.0.0.0"))));
        limiter.prune(RULES, u64::MAX);
        assert!(limiter.entries.is_empty());
    }
}
