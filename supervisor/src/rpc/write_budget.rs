//! Pure rule: how often one client may change the gateway (`config.apply`, `config.patch`, `update.run`
//! together). Failed calls count too, since each costs a full validation.

use super::RpcError;
use serde_json::json;
use std::collections::HashMap;

/// The window.
const WINDOW_MS: u64 = 60_000;
/// Calls per window in protocol 3.
const CALLS_V3_MAX: usize = 3;
/// Calls per window in protocol 4.
const CALLS_V4_MAX: usize = 30;
/// Callers remembered; the one that called longest ago is forgotten first.
const CALLERS_MAX: usize = 1024;

/// Calls by caller.
#[derive(Debug, Default)]
pub struct WriteBudget {
    calls_ms: HashMap<String, Vec<u64>>,
}

impl WriteBudget {
    /// Count one call.
    ///
    /// # Errors
    /// The budget is used up; says when to try again.
    pub fn spend(&mut self, caller: &str, protocol: u8, method: &str, now_ms: u64) -> Result<(), RpcError> {
        let max = if protocol < 4 { CALLS_V3_MAX } else { CALLS_V4_MAX };
        if self.calls_ms.len() >= CALLERS_MAX && !self.calls_ms.contains_key(caller) {
            let oldest = self.calls_ms.iter().min_by_key(|(_, c)| c.last().copied()).map(|(k, _)| k.clone());
            oldest.map(|key| self.calls_ms.remove(&key));
        }
        let calls = self.calls_ms.entry(caller.to_owned()).or_default();
        calls.retain(|t| now_ms.saturating_sub(*t) < WINDOW_MS);
        if calls.len() < max {
            calls.push(now_ms);
            return Ok(());
        }
        let first = calls.first().copied().unwrap_or(now_ms);
        let wait_ms = first.saturating_add(WINDOW_MS).saturating_sub(now_ms);
        let text = format!("rate limit exceeded for {method}; retry after {}s", wait_ms.div_ceil(1000));
        let details = json!({ "method": method, "limit": format!("{max} per {}s", WINDOW_MS / 1000) });
        Err(RpcError { retry_after_ms: Some(wait_ms), ..RpcError::unavailable(text).with_details(details) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_per_minute_then_a_refusal_with_the_wait() {
        let mut budget = WriteBudget::default();
        for t in [0, 1_000, 1_627] {
            assert!(budget.spend("a", 3, "config.patch", t).is_ok());
        }
        let refused = budget.spend("a", 3, "update.run", 1_627).unwrap_err();
        assert_eq!(refused.message, "rate limit exceeded for update.run; retry after 59s");
        assert_eq!(refused.retry_after_ms, Some(58_373));
        assert_eq!(refused.details.unwrap()["limit"], "3 per 60s");
        assert!(budget.spend("b", 3, "config.patch", 1_627).is_ok());
        assert!(budget.spend("a", 3, "config.patch", 60_000).is_ok());
    }
}
