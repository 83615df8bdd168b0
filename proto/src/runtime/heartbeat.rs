//! When to ping a worker, and what its silence means. Pure: the driver gives the time and carries out the beats.
//!
//! ```text
//! Alive ──3 pings without pong──► Suspect ──30 s of silence──► Hung
//!   ▲──────────────any pong──────────┴──────────────────────────┘
//! ```

use crate::wire::limits::{HUNG_MS, PING_MS, PINGS_MISSED_SUSPECT};

/// A timer that fires this much late was not late because of the peer (suspended host, stopped process, overload): all
/// deadlines start anew, otherwise waking up would kill every worker.
pub const REBASE_MS: u64 = 5_000;
/// The driver calls [`Heartbeat::tick`] at least this often.
pub const TICK_MS: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Ping {
        seq: u64,
    },
    Suspect,
    Hung,
    Recovered,
    /// Our own timer was late; nothing is held against the peer.
    Rebased {
        late_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Alive,
    Suspect,
    Hung,
}

/// Liveness of one peer.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    phase: Phase,
    heard_ms: u64,
    next_ping_ms: u64,
    last_tick_ms: u64,
    seq: u64,
    missed: u32,
    ping_ms: u64,
    hung_ms: u64,
}

impl Heartbeat {
    pub fn new(now_ms: u64) -> Self {
        Self::with_periods(now_ms, PING_MS, HUNG_MS)
    }

    /// Other periods, for tests that cannot wait for half a minute.
    pub fn with_periods(now_ms: u64, ping_ms: u64, hung_ms: u64) -> Self {
        Self {
            phase: Phase::Alive,
            heard_ms: now_ms,
            next_ping_ms: now_ms + ping_ms,
            last_tick_ms: now_ms,
            seq: 0,
            missed: 0,
            ping_ms,
            hung_ms,
        }
    }

    pub fn tick(&mut self, now_ms: u64) -> Vec<Beat> {
        let late_ms = now_ms.saturating_sub(self.last_tick_ms).saturating_sub(TICK_MS);
        self.last_tick_ms = now_ms;
        let mut beats = Vec::new();
        if late_ms > REBASE_MS {
            self.heard_ms = now_ms;
            self.missed = 0;
            self.next_ping_ms = now_ms;
            beats.push(Beat::Rebased { late_ms });
            if self.phase == Phase::Suspect {
                self.phase = Phase::Alive;
                beats.push(Beat::Recovered);
            }
        }
        if now_ms >= self.next_ping_ms {
            if self.missed >= PINGS_MISSED_SUSPECT && self.phase == Phase::Alive {
                self.phase = Phase::Suspect;
                beats.push(Beat::Suspect);
            }
            self.seq += 1;
            self.missed += 1;
            self.next_ping_ms = now_ms + self.ping_ms;
            beats.push(Beat::Ping { seq: self.seq });
        }
        if now_ms.saturating_sub(self.heard_ms) >= self.hung_ms && self.phase != Phase::Hung {
            self.phase = Phase::Hung;
            beats.push(Beat::Hung);
        }
        beats
    }

    /// A pong arrived. One that answers no ping of ours proves nothing.
    pub fn pong(&mut self, seq: u64, now_ms: u64) -> Option<Beat> {
        if seq == 0 || seq > self.seq {
            return None;
        }
        self.heard_ms = now_ms;
        self.missed = 0;
        let was = std::mem::replace(&mut self.phase, Phase::Alive);
        (was != Phase::Alive).then_some(Beat::Recovered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(heart: &mut Heartbeat, from_s: u64, to_s: u64) -> Vec<(u64, Beat)> {
        (from_s..=to_s).flat_map(|s| heart.tick(s * 1000).into_iter().map(move |beat| (s, beat))).collect()
    }

    #[test]
    fn silence_becomes_suspect_then_hung() {
        let mut heart = Heartbeat::new(0);
        let beats = run(&mut heart, 1, 40);
        let other: Vec<_> =
            beats.iter().filter(|(_, beat)| !matches!(beat, Beat::Ping { .. })).copied().collect();
        assert_eq!(other, [(20, Beat::Suspect), (30, Beat::Hung)]);
        assert_eq!(heart.pong(4, 41_000), Some(Beat::Recovered));
    }

    #[test]
    fn a_late_timer_forgives_the_peer() {
        let mut heart = Heartbeat::new(0);
        run(&mut heart, 1, 21);
        let beats = heart.tick(90_000);
        assert!(matches!(beats[..], [Beat::Rebased { .. }, Beat::Recovered, Beat::Ping { .. }]), "{beats:?}");
        assert!(!run(&mut heart, 91, 104).iter().any(|(_, beat)| matches!(beat, Beat::Hung | Beat::Suspect)));
    }

    #[test]
    fn a_pong_nobody_asked_for_proves_nothing() {
        assert_eq!(Heartbeat::new(0).pong(9, 1), None);
    }

    proptest! {
        #[test]
        fn a_peer_that_always_answers_is_never_suspect(steps in proptest::collection::vec(1u64..30_000, 1..200)) {
            let mut heart = Heartbeat::new(0);
            let mut now = 0;
            for step in steps {
                now += step;
                for beat in heart.tick(now) {
                    prop_assert!(!matches!(beat, Beat::Hung | Beat::Suspect) || step <= TICK_MS + REBASE_MS);
                    prop_assert!(!matches!(beat, Beat::Hung));
                    if let Beat::Ping { seq } = beat {
                        heart.pong(seq, now);
                    }
                }
            }
        }
    }
}
