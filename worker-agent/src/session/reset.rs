//! When a session starts anew by itself, and what a reset keeps. PURE: settings, times and entries in, verdicts out.

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::store::SessionEntry;

/// Minutes of silence in mode `idle` without a figure.
const IDLE_MINUTES: u64 = 60;
/// Hour of the daily reset, local time.
const DAILY_HOUR: u8 = 4;

/// The part of section `session` that decides about resets. The section's owner is the supervisor: unknown keys
/// are none of our business here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResetSettings {
    pub reset: Option<Rule>,
    pub reset_by_type: Map<String, Value>,
    pub reset_by_channel: Map<String, Value>,
    /// Older spelling: idle-only.
    pub idle_minutes: Option<u64>,
    pub reset_triggers: Option<Vec<String>>,
}

/// One rule as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub mode: Option<Mode>,
    pub at_hour: Option<u8>,
    pub idle_minutes: Option<u64>,
}

/// `none` never resets by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Daily,
    Idle,
    None,
}

/// What a session key says about its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Direct,
    Group,
    Thread,
}

impl Kind {
    pub fn of(key: &str) -> Self {
        if key.contains(":thread:") || key.contains(":topic:") {
            Self::Thread
        } else if key.contains(":group:") || key.contains(":channel:") {
            Self::Group
        } else {
            Self::Direct
        }
    }
}

/// Why a session is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    Daily,
    Idle,
}

impl ResetSettings {
    /// The rule for one session: its channel's, else its type's, else the general one.
    pub fn rule(&self, key: &str, channel: Option<&str>) -> Rule {
        let parse = |value: &Value| serde_json::from_value::<Rule>(value.clone()).ok();
        if let Some(rule) = channel.and_then(|channel| self.reset_by_channel.get(channel)).and_then(parse) {
            return rule;
        }
        let names: &[&str] = match Kind::of(key) {
            Kind::Direct => &["direct", "dm"],
            Kind::Group => &["group"],
            Kind::Thread => &["thread"],
        };
        let by_type = names.iter().find_map(|name| self.reset_by_type.get(*name)).and_then(parse);
        if let Some(rule) = by_type {
            return rule;
        }
        match (&self.reset, self.idle_minutes) {
            (Some(rule), idle) => Rule { idle_minutes: rule.idle_minutes.or(idle), ..rule.clone() },
            (None, Some(minutes)) => {
                Rule { mode: Some(Mode::Idle), at_hour: None, idle_minutes: Some(minutes) }
            }
            (None, None) => Rule::default(),
        }
    }

    /// `/new` and `/reset` unless configured otherwise; the rest of the line is the message.
    pub fn trigger<'a>(&self, text: &'a str) -> Option<Trigger<'a>> {
        let text = text.trim();
        let builtin = ["/new".to_owned(), "/reset".to_owned()];
        let triggers = self.reset_triggers.as_deref().unwrap_or(&builtin);
        triggers.iter().find_map(|trigger| {
            let head = text.get(..trigger.len())?;
            let rest = text.get(trigger.len()..)?;
            let whole = rest.is_empty() || rest.starts_with(char::is_whitespace);
            (head.eq_ignore_ascii_case(trigger) && whole)
                .then(|| Trigger { is_new: trigger.eq_ignore_ascii_case("/new"), rest: rest.trim() })
        })
    }
}

/// A reset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger<'a> {
    pub is_new: bool,
    pub rest: &'a str,
}

/// Whether a session last used at `last_ms` is stale at `now_ms`. With both rules set, whichever fires first.
pub fn stale(rule: &Rule, last_ms: i64, now_ms: i64, zone: &TimeZone) -> Option<Stale> {
    let mode = rule.mode.unwrap_or(Mode::Daily);
    if mode == Mode::Daily {
        let boundary = last_boundary(now_ms, rule.at_hour.unwrap_or(DAILY_HOUR), zone);
        if boundary.is_some_and(|boundary| last_ms < boundary) {
            return Some(Stale::Daily);
        }
    }
    let minutes = match mode {
        Mode::None => None,
        Mode::Idle => Some(rule.idle_minutes.unwrap_or(IDLE_MINUTES)),
        Mode::Daily => rule.idle_minutes,
    }?;
    let idle_ms = i64::try_from(minutes.max(1)).unwrap_or(i64::MAX).saturating_mul(60_000);
    (now_ms.saturating_sub(last_ms) > idle_ms).then_some(Stale::Idle)
}

/// The last `hour`:00 local time that has passed, in Unix milliseconds.
fn last_boundary(now_ms: i64, hour: u8, zone: &TimeZone) -> Option<i64> {
    let now = Timestamp::from_millisecond(now_ms).ok()?.to_zoned(zone.clone());
    let hour = i8::try_from(hour.min(23)).ok()?;
    let today = now.date().at(hour, 0, 0, 0).to_zoned(zone.clone()).ok()?;
    let boundary = if today <= now {
        today
    } else {
        now.date().checked_sub(1.day()).ok()?.at(hour, 0, 0, 0).to_zoned(zone.clone()).ok()?
    };
    Some(boundary.timestamp().as_millisecond())
}

/// Fields that an asked-for reset keeps beside the route: levels, model choice, policy, names.
const KEPT_ON_RESET: &[&str] = &[
    "label",
    "displayName",
    "spawnedBy",
    "spawnDepth",
    "chatType",
    "thinkingLevel",
    "verboseLevel",
    "reasoningLevel",
    "elevatedLevel",
    "ttsAuto",
    "responseUsage",
    "execHost",
    "execSecurity",
    "execAsk",
    "execNode",
    "providerOverride",
    "modelOverride",
    "modelProvider",
    "model",
    "contextTokens",
    "sendPolicy",
    "queueMode",
    "queueDebounceMs",
    "queueCap",
    "queueDrop",
    "skillsSnapshot",
];

/// Fields that say where the conversation takes place; every reset keeps them.
const ROUTE: &[&str] = &[
    "label",
    "displayName",
    "chatType",
    "channel",
    "groupId",
    "subject",
    "groupChannel",
    "space",
    "groupActivation",
    "origin",
    "deliveryContext",
    "lastChannel",
    "lastTo",
    "lastAccountId",
    "lastThreadId",
    "spawnedBy",
    "spawnDepth",
];

/// The entry of the session that follows. `asked` keeps levels and the model, expiry drops them; counters start
/// at zero either way.
pub fn next_entry(old: &SessionEntry, session_id: &str, asked: bool, now_ms: i64) -> SessionEntry {
    let mut next = SessionEntry::default();
    next.set("sessionId", session_id);
    next.set("updatedAt", now_ms);
    next.set("systemSent", false);
    next.set("abortedLastRun", false);
    next.set("compactionCount", 0);
    for counter in ["inputTokens", "outputTokens", "totalTokens"].iter().filter(|_| asked) {
        next.set(counter, 0);
    }
    let kept = ROUTE.iter().chain(if asked { KEPT_ON_RESET } else { &[] });
    for field in kept {
        if let Some(value) = old.0.get(*field) {
            next.set(field, value.clone());
        }
    }
    next
}

#[cfg(test)]
mod tests;
