//! How long an auth profile rests after a failure (PURE). Fields as in `usageStats` of `auth-profiles.json`, times in
//! milliseconds since the epoch.
//!
//! ```text
//! rate limit, auth, format ──> rests 1, 5, 25, 60 minutes, by the number of failures in a row
//! billing, revoked key ──────> is disabled 5, 10, 20, 24 hours
//! time-out, connection, … ───> nothing: says nothing of the key
//! a reply ───────────────────> everything is forgotten
//! ```
//!
//! A window that runs is not extended. The row of failures is broken by a reply or by `failureWindowHours` without one; a
//! window that merely ran out does not break it, or the second step could never be reached.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::failure::Reason;

const MINUTE_MS: f64 = 60_000.0;
const HOUR_MS: f64 = 60.0 * MINUTE_MS;
/// First rest, and by how much each further one is longer.
const REST_MINUTES: f64 = 1.0;
const REST_FACTOR: f64 = 5.0;
/// Longest rest: a limit that lasts longer is found again by one request an hour.
const REST_MINUTES_MAX: f64 = 60.0;
/// A resting model is asked again only this near to the end of its rest …
const PROBE_BEFORE_END_MS: f64 = 2.0 * MINUTE_MS;
/// … and not more often than this.
const PROBE_EVERY_MS: f64 = 30_000.0;

/// `auth.cooldowns` of the configuration; hours.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rules {
    pub billing_backoff_hours: f64,
    pub billing_backoff_hours_by_provider: BTreeMap<String, f64>,
    pub billing_max_hours: f64,
    pub failure_window_hours: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            billing_backoff_hours: 5.0,
            billing_backoff_hours_by_provider: BTreeMap::new(),
            billing_max_hours: 24.0,
            failure_window_hours: 24.0,
        }
    }
}

/// What is known of one profile. Fields that this release does not know are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    #[serde(skip_serializing_if = "zero")]
    pub last_used: f64,
    #[serde(skip_serializing_if = "zero")]
    pub cooldown_until: f64,
    #[serde(skip_serializing_if = "zero")]
    pub disabled_until: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    #[serde(skip_serializing_if = "none_yet")]
    pub error_count: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failure_counts: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "zero")]
    pub last_failure_at: f64,
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn zero(number: &f64) -> bool {
    *number == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn none_yet(count: &u32) -> bool {
    *count == 0
}

/// Why a profile is not used now.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// Class of the failure, as clients know it.
    pub reason: String,
    pub until_ms: f64,
}

impl Rest {
    /// It ends by a person's doing, not by waiting.
    pub fn is_disabled(&self) -> bool {
        matches!(self.reason.as_str(), "billing" | "auth_permanent" | "auth")
    }
}

impl Stats {
    pub fn blocked_until(&self) -> f64 {
        self.cooldown_until.max(self.disabled_until)
    }

    /// Whether it rests, and why.
    pub fn rest(&self, now_ms: f64) -> Option<Rest> {
        let until_ms = self.blocked_until();
        if until_ms <= now_ms {
            return None;
        }
        let disabled = (self.disabled_until > now_ms).then(|| self.disabled_reason.clone()).flatten();
        let counted = || self.failure_counts.iter().max_by_key(|(_, n)| **n).map(|(class, _)| class.clone());
        let reason = disabled.or_else(counted).unwrap_or_else(|| "rate_limit".to_owned());
        Some(Rest { reason, until_ms })
    }

    /// After a failed request. Whether anything changed.
    pub fn failed(&mut self, reason: Reason, provider: &str, rules: &Rules, now_ms: f64) -> bool {
        let Some(kind) = kind(reason) else { return false };
        if self.last_failure_at > 0.0 && now_ms - self.last_failure_at > rules.failure_window_hours * HOUR_MS
        {
            self.error_count = 0;
            self.failure_counts.clear();
        }
        let class = reason.class().to_owned();
        self.error_count = self.error_count.saturating_add(1);
        let of_class = self.failure_counts.entry(class.clone()).or_insert(0);
        *of_class = of_class.saturating_add(1);
        self.last_failure_at = now_ms;
        match kind {
            Kind::Rests if self.cooldown_until <= now_ms => {
                self.cooldown_until = now_ms + rest_ms(self.error_count);
            }
            Kind::Disabled if self.disabled_until <= now_ms => {
                self.disabled_until = now_ms + disabled_ms(*of_class, provider, rules);
                self.disabled_reason = Some(class);
            }
            Kind::Rests | Kind::Disabled => {}
        }
        true
    }

    /// After a reply. Whether anything but `lastUsed` changed.
    pub fn succeeded(&mut self, now_ms: f64) -> bool {
        let fresh = Self { last_used: now_ms, unknown: std::mem::take(&mut self.unknown), ..Self::default() };
        let changed = self.error_count > 0 || self.blocked_until() > 0.0 || !self.failure_counts.is_empty();
        *self = fresh;
        changed
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Rests,
    Disabled,
}

fn kind(reason: Reason) -> Option<Kind> {
    match reason {
        Reason::RateLimit | Reason::Overloaded | Reason::Auth | Reason::Format => Some(Kind::Rests),
        Reason::Billing | Reason::AuthPermanent => Some(Kind::Disabled),
        // Nothing that another key would cure.
        Reason::MissingKey
        | Reason::Timeout
        | Reason::Connection
        | Reason::Truncated
        | Reason::Server
        | Reason::ModelNotFound
        | Reason::ContextOverflow
        | Reason::ContentFilter
        | Reason::Malformed
        | Reason::Cancelled => None,
    }
}

/// 1, 5, 25, 60 minutes.
fn rest_ms(failures: u32) -> f64 {
    let steps = i32::try_from(failures.saturating_sub(1).min(8)).unwrap_or(8);
    (REST_MINUTES * REST_FACTOR.powi(steps)).min(REST_MINUTES_MAX) * MINUTE_MS
}

/// 5, 10, 20, 24 hours.
fn disabled_ms(failures: u32, provider: &str, rules: &Rules) -> f64 {
    let by_provider = rules.billing_backoff_hours_by_provider.get(provider);
    let first = by_provider.copied().unwrap_or(rules.billing_backoff_hours).max(0.0);
    let steps = i32::try_from(failures.saturating_sub(1).min(8)).unwrap_or(8);
    (first * 2_f64.powi(steps)).min(rules.billing_max_hours.max(0.0)) * HOUR_MS
}

/// Providers that spread their load themselves and answer for many vendors: one refusal says nothing of the next request.
pub fn exempt(provider: &str) -> bool {
    provider == "openrouter"
}

/// Whether a model whose keys all rest may be asked all the same, to find out whether the limit is over.
/// `last_probe_ms`: when it was last asked so.
pub fn probe_due(rest: &Rest, last_probe_ms: Option<f64>, now_ms: f64) -> bool {
    !rest.is_disabled()
        && rest.until_ms - now_ms <= PROBE_BEFORE_END_MS
        && last_probe_ms.is_none_or(|at| now_ms - at >= PROBE_EVERY_MS)
}

#[cfg(test)]
mod tests;
