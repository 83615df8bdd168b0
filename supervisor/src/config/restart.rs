//! When a requested restart happens: delay, coalescing, cooldown. Pure; the owner of the gateway's life holds one
//! [`RestartSchedule`] and a timer.

use serde_json::{Value, json};

/// Time for the answer to reach the client before the gateway goes.
const DELAY_MS_DEFAULT: i64 = 2_000;
const DELAY_MS_MAX: i64 = 60_000;
/// Between two restarts: a loop of edits must not become a loop of starts.
const COOLDOWN_MS: i64 = 30_000;
/// Longest reason that is passed on.
const REASON_CHARS_MAX: usize = 200;

/// A wish for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRequest {
    pub delay_ms: Option<i64>,
    pub reason: String,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPlan {
    /// From now.
    pub delay_ms: i64,
    pub due_ms: i64,
    pub reason: String,
    pub coalesced: bool,
    pub cooldown_ms_applied: i64,
    /// Whether a timer must be set (again) for `due_ms`.
    pub reschedule: bool,
}

impl RestartPlan {
    /// The `restart` object of the answer.
    #[must_use]
    pub fn to_value(&self, pid: u32) -> Value {
        json!({"ok": true, "pid": pid, "signal": "SIGUSR1", "delayMs": self.delay_ms, "reason": self.reason,
            "mode": "emit", "coalesced": self.coalesced, "cooldownMsApplied": self.cooldown_ms_applied})
    }
}

#[derive(Clone, Debug, Default)]
pub struct RestartSchedule {
    last_emit_ms: Option<i64>,
    due_ms: Option<i64>,
    in_flight: bool,
}

impl RestartSchedule {
    /// `last_ms`: when the restart began that led to this start, if one did.
    #[must_use]
    pub fn after(last_ms: Option<i64>) -> Self {
        Self { last_emit_ms: last_ms, ..Self::default() }
    }

    /// Joins a wish with what is planned already.
    pub fn request(&mut self, wish: &RestartRequest, now_ms: i64) -> RestartPlan {
        let reason: String = wish.reason.trim().chars().take(REASON_CHARS_MAX).collect();
        let plan = |delay_ms, coalesced, cooldown_ms_applied, reschedule| RestartPlan {
            delay_ms,
            due_ms: now_ms + delay_ms,
            reason: reason.clone(),
            coalesced,
            cooldown_ms_applied,
            reschedule,
        };
        if self.in_flight {
            return plan(0, true, 0, false);
        }
        let delay = wish.delay_ms.unwrap_or(DELAY_MS_DEFAULT).clamp(0, DELAY_MS_MAX);
        let cool_ms = self.last_emit_ms.map_or(0, |at| (at + COOLDOWN_MS - now_ms).max(0));
        let due = now_ms + delay.max(cool_ms);
        let cooldown = (due - now_ms - delay).max(0);
        match self.due_ms {
            Some(earlier) if earlier <= due => plan((earlier - now_ms).max(0), true, cooldown, false),
            planned => {
                self.due_ms = Some(due);
                plan(due - now_ms, planned.is_some(), cooldown, true)
            }
        }
    }

    /// The restart that had begun did not happen: the next one need not wait.
    pub fn failed(&mut self) {
        self.in_flight = false;
        self.last_emit_ms = None;
    }

    /// The timer fired and the restart begins.
    pub fn emitted(&mut self, now_ms: i64) {
        self.last_emit_ms = Some(now_ms);
        self.due_ms = None;
        self.in_flight = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(delay_ms: Option<i64>) -> RestartRequest {
        RestartRequest { delay_ms, reason: " config.patch ".into() }
    }

    fn short(plan: &RestartPlan) -> (i64, bool, i64, bool) {
        (plan.delay_ms, plan.coalesced, plan.cooldown_ms_applied, plan.reschedule)
    }

    #[test]
    fn wishes_are_joined_delayed_and_bounded() {
        let mut schedule = RestartSchedule::default();
        assert_eq!(short(&schedule.request(&wish(None), 0)), (2_000, false, 0, true));
        assert_eq!(short(&schedule.request(&wish(Some(99_999_999)), 500)), (1_500, true, 0, false));
        assert_eq!(short(&schedule.request(&wish(Some(-5)), 500)), (0, true, 0, true));
        schedule.emitted(500);
        assert_eq!(short(&schedule.request(&wish(None), 600)), (0, true, 0, false));
        let mut schedule = RestartSchedule::after(Some(500));
        assert_eq!(short(&schedule.request(&wish(None), 10_500)), (20_000, false, 18_000, true));
    }

    #[test]
    fn the_answer_has_the_known_shape() {
        let plan = RestartSchedule::default().request(&wish(Some(1_500)), 0);
        let wanted = json!({"ok": true, "pid": 7, "signal": "SIGUSR1", "delayMs": 1500, "reason": "config.patch",
            "mode": "emit", "coalesced": false, "cooldownMsApplied": 0});
        assert_eq!(plan.to_value(7), wanted);
    }
}
