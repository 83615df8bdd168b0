//! When a worker that ended is started again. Pure: time and randomness are parameters.
//!
//! A crash-looping worker is quarantined, never escalated: its siblings do not depend on it. A death that came from
//! outside is never held against the worker; only a flood of them slows the restarts down.

use super::exit::ExitClass;
use proto::runtime::backoff::Backoff;
use proto::wire::handshake::WorkerKind;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const MINUTE_MS: u64 = 60_000;
/// Kills from outside in one minute that are answered at once; more come from something that will go on.
const OUTSIDE_FREE: usize = 20;
/// Temporary failures in one hour; above it they count like crashes.
const TEMPORARY_FREE: usize = 5;
/// How long a probe of a quarantined worker must stay up to close the quarantine.
const PROBE_GOOD_MS: u64 = 2 * MINUTE_MS;
/// Poison messages in ten minutes that are blamed instead of the worker. One that dies of more messages than these is
/// itself to blame.
const BLAMED_MESSAGES_MAX: usize = 3;
/// Crashes that one poison message causes before it is set aside.
const CRASHES_PER_MESSAGE: usize = 3;
/// History kept: above every limit below.
const HISTORY_MAX: usize = 64;

/// Limits of one kind of worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub backoff: Backoff,
    /// More crashes than this in one minute show as degraded.
    pub degraded_per_minute: usize,
    /// More crashes than this in ten minutes open the quarantine.
    pub quarantine_per_ten_minutes: usize,
    pub probe_after_ms: u64,
    /// Uptime after which earlier crashes no longer lengthen the delay.
    pub reset_after_ms: u64,
}

impl Policy {
    pub fn of(kind: WorkerKind) -> Self {
        match kind {
            WorkerKind::Channel => Self {
                backoff: Backoff { first_ms: 250, cap_ms: MINUTE_MS },
                degraded_per_minute: 5,
                quarantine_per_ten_minutes: 10,
                probe_after_ms: 15 * MINUTE_MS,
                reset_after_ms: 10 * MINUTE_MS,
            },
            WorkerKind::Agent => Self {
                backoff: Backoff { first_ms: 250, cap_ms: MINUTE_MS / 2 },
                degraded_per_minute: 3,
                quarantine_per_ten_minutes: 6,
                probe_after_ms: 60 * MINUTE_MS,
                reset_after_ms: 2 * MINUTE_MS,
            },
        }
    }
}

/// Why a worker is not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Quarantine {
    CrashLoop,
    /// Until its configuration changes.
    Config,
    /// Until the gateway is restarted with executables of one release.
    VersionSkew,
}

impl Quarantine {
    pub fn text(self) -> &'static str {
        match self {
            Self::CrashLoop => "crash loop",
            Self::Config => "config",
            Self::VersionSkew => "version skew: restart the gateway",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Restart { delay_ms: u64 },
    Quarantine { why: Quarantine, probe_after_ms: Option<u64> },
    NeedsLogin,
    Stopped,
}

/// A worker's past.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restarts {
    policy: Policy,
    crashes: VecDeque<u64>,
    outside: VecDeque<u64>,
    temporary: VecDeque<u64>,
    /// Times at which crashes were put down to a message.
    blamed: VecDeque<u64>,
    /// Delays since the last long uptime.
    streak: u32,
    half_open: bool,
    total: u32,
}

impl Restarts {
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            crashes: VecDeque::new(),
            outside: VecDeque::new(),
            temporary: VecDeque::new(),
            blamed: VecDeque::new(),
            streak: 0,
            half_open: false,
            total: 0,
        }
    }

    /// Takes the limits of this release: the past may come from another one.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Starts after an end that nobody asked for.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// More crashes in the last minute than a healthy worker has.
    pub fn is_degraded(&self, now_ms: u64) -> bool {
        count(&self.crashes, now_ms, MINUTE_MS) > self.policy.degraded_per_minute
    }

    /// The next start is a try-out.
    pub fn probe(&mut self) {
        self.half_open = true;
    }

    /// The past no longer counts: somebody changed something (configuration, an operator's restart).
    pub fn forgive(&mut self) {
        let (total, blamed) = (self.total, std::mem::take(&mut self.blamed));
        *self = Self { total, blamed, ..Self::new(self.policy) };
    }

    /// The last crashes were a message's doing: they no longer count. `false` when there were too many such messages
    /// lately: then the worker stays blamed.
    pub fn blame_message(&mut self, now_ms: u64) -> bool {
        if count(&self.blamed, now_ms, 10 * MINUTE_MS) >= BLAMED_MESSAGES_MAX {
            return false;
        }
        remember(&mut self.blamed, now_ms);
        let kept = self.crashes.len().saturating_sub(CRASHES_PER_MESSAGE);
        self.crashes.truncate(kept);
        self.streak = 0;
        true
    }

    /// Decides after an end. `ready_ms` is how long the worker had been ready.
    pub fn on_exit(&mut self, class: ExitClass, ready_ms: u64, now_ms: u64, random: u32) -> Verdict {
        if class == ExitClass::Asked {
            return Verdict::Stopped;
        }
        self.total = self.total.saturating_add(1);
        if ready_ms >= self.policy.reset_after_ms || (self.half_open && ready_ms >= PROBE_GOOD_MS) {
            self.forgive();
        }
        match class {
            ExitClass::Asked => Verdict::Stopped,
            ExitClass::Config => Verdict::Quarantine { why: Quarantine::Config, probe_after_ms: None },
            ExitClass::Protocol => Verdict::Quarantine { why: Quarantine::VersionSkew, probe_after_ms: None },
            ExitClass::Login => Verdict::NeedsLogin,
            ExitClass::KilledOutside => self.outside(now_ms, random),
            ExitClass::Temporary => {
                remember(&mut self.temporary, now_ms);
                if count(&self.temporary, now_ms, 60 * MINUTE_MS) > TEMPORARY_FREE {
                    return self.crash(now_ms, random);
                }
                self.again(random)
            }
            ExitClass::Crash | ExitClass::OutOfMemory => self.crash(now_ms, random),
        }
    }

    fn outside(&mut self, now_ms: u64, random: u32) -> Verdict {
        remember(&mut self.outside, now_ms);
        let recent = count(&self.outside, now_ms, MINUTE_MS);
        let delay_ms = match recent.checked_sub(OUTSIDE_FREE + 1) {
            None => 0,
            Some(over) => self.policy.backoff.delay_ms(over as u32, random),
        };
        Verdict::Restart { delay_ms }
    }

    fn crash(&mut self, now_ms: u64, random: u32) -> Verdict {
        remember(&mut self.crashes, now_ms);
        let many = count(&self.crashes, now_ms, 10 * MINUTE_MS) > self.policy.quarantine_per_ten_minutes;
        if many || self.half_open {
            self.half_open = false;
            let probe_after_ms = Some(self.policy.probe_after_ms);
            return Verdict::Quarantine { why: Quarantine::CrashLoop, probe_after_ms };
        }
        self.again(random)
    }

    /// The first time at once, then slower and slower.
    fn again(&mut self, random: u32) -> Verdict {
        let delay_ms = match self.streak {
            0 => 0,
            n => self.policy.backoff.delay_ms(n - 1, random),
        };
        self.streak += 1;
        Verdict::Restart { delay_ms }
    }
}

fn remember(times: &mut VecDeque<u64>, now_ms: u64) {
    if times.len() >= HISTORY_MAX {
        times.pop_front();
    }
    times.push_back(now_ms);
}

fn count(times: &VecDeque<u64>, now_ms: u64, within_ms: u64) -> usize {
    times.iter().filter(|at| now_ms.saturating_sub(**at) < within_ms).count()
}

#[cfg(test)]
mod tests;
