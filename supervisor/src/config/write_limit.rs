//! How often a client may change the configuration: a sliding window per client. Pure; the clock is given.

use std::collections::{BTreeMap, VecDeque};

/// The window of both releases.
const WINDOW_MS: i64 = 60_000;
/// February release, one budget over all methods.
const V3_WRITES_MAX: usize = 3;
/// Later release, a budget per method.
const V4_WRITES_MAX: usize = 30;
/// Clients remembered; the one silent longest is forgotten first, which needs its window to be over anyway.
const CLIENTS_MAX: usize = 4_096;

/// Who writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    pub client_id: String,
    pub device_id: Option<String>,
    pub ip: Option<String>,
    pub connection: String,
    /// Protocol that the connection speaks, 3 or 4.
    pub protocol: u8,
}

impl Writer {
    /// Device and address; the connection only when neither is known.
    fn key(&self, method: &str) -> String {
        let device = self.device_id.as_deref().unwrap_or("unknown-device");
        let ip = self.ip.as_deref().unwrap_or("unknown-ip");
        let unknown = self.device_id.is_none() && self.ip.is_none();
        let connection = if unknown { format!("|conn={}", self.connection) } else { String::new() };
        let budget = if self.protocol >= 4 { method } else { "all" };
        format!("{budget}|{device}|{ip}{connection}")
    }

    fn limit(&self) -> usize {
        if self.protocol >= 4 { V4_WRITES_MAX } else { V3_WRITES_MAX }
    }
}

/// Too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub retry_after_ms: i64,
    /// `3 per 60s`
    pub limit: String,
}

/// The windows of all clients.
#[derive(Debug, Default)]
pub struct WriteLimits {
    writes: BTreeMap<String, VecDeque<i64>>,
}

impl WriteLimits {
    /// Counts an attempt; failed ones count too, so this stands before everything else.
    ///
    /// # Errors
    /// When the budget of the window is used up; such an attempt is not counted again.
    pub fn count(&mut self, writer: &Writer, method: &str, now_ms: i64) -> Result<(), Limited> {
        self.forget(now_ms);
        let limit = writer.limit();
        let writes = self.writes.entry(writer.key(method)).or_default();
        while writes.front().is_some_and(|at| now_ms - at >= WINDOW_MS) {
            writes.pop_front();
        }
        if writes.len() >= limit {
            let oldest = writes.front().copied().unwrap_or(now_ms);
            let retry_after_ms = (WINDOW_MS - (now_ms - oldest)).max(1);
            return Err(Limited { retry_after_ms, limit: format!("{limit} per {}s", WINDOW_MS / 1_000) });
        }
        writes.push_back(now_ms);
        Ok(())
    }

    fn forget(&mut self, now_ms: i64) {
        if self.writes.len() < CLIENTS_MAX {
            return;
        }
        self.writes.retain(|_, writes| writes.back().is_some_and(|at| now_ms - at < WINDOW_MS));
        while self.writes.len() >= CLIENTS_MAX {
            let silent = self
                .writes
                .iter()
                .min_by_key(|(_, writes)| writes.back().copied())
                .map(|(key, _)| key.clone());
            let Some(silent) = silent else { return };
            self.writes.remove(&silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(protocol: u8) -> Writer {
        Writer {
            client_id: "cli".into(),
            device_id: Some("d".into()),
            ip: Some("::1".into()),
            connection: "c".into(),
            protocol,
        }
    }

    #[test]
    fn three_a_minute_over_all_methods_in_the_older_protocol() {
        let mut limits = WriteLimits::default();
        for (method, at) in [("config.patch", 0), ("config.apply", 10), ("update.run", 20)] {
            assert_eq!(limits.count(&writer(3), method, at), Ok(()));
        }
        let limited = Limited { retry_after_ms: 59_970, limit: "3 per 60s".into() };
        assert_eq!(limits.count(&writer(3), "config.patch", 30), Err(limited));
        let other = Writer { device_id: None, ip: None, ..writer(3) };
        assert_eq!(limits.count(&other, "config.patch", 30), Ok(()));
        assert_eq!(limits.count(&writer(3), "config.patch", 60_000), Ok(()));
    }

    #[test]
    fn thirty_a_minute_per_method_in_the_later_one() {
        let mut limits = WriteLimits::default();
        for at in 0..30 {
            assert_eq!(limits.count(&writer(4), "config.patch", at), Ok(()));
        }
        assert!(limits.count(&writer(4), "config.patch", 30).is_err());
        assert_eq!(limits.count(&writer(4), "config.apply", 30), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let mut limits = WriteLimits::default();
        for n in 0..(CLIENTS_MAX as i64 + 50) {
            let one = Writer { ip: Some(n.to_string()), ..writer(3) };
            assert_eq!(limits.count(&one, "config.patch", n), Ok(()));
        }
        assert!(limits.writes.len() <= CLIENTS_MAX);
    }
}
