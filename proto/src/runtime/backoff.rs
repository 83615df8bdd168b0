//! Delay before the n-th try. Pure: the caller brings the random number.

/// Exponential growth with a cap and jitter that only shortens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Backoff {
    pub first_ms: u64,
    pub cap_ms: u64,
}

/// Reconnects of a channel worker to its network.
pub const NETWORK: Backoff = Backoff { first_ms: 1_000, cap_ms: 60_000 };

impl Backoff {
    /// Delay before try `n` (0 = the first retry). `random` in 0..=u32::MAX becomes a factor in [0.5, 1): many workers
    /// that fell at once must not come back at once.
    pub fn delay_ms(&self, n: u32, random: u32) -> u64 {
        let full =
            self.first_ms.saturating_mul(1u64.checked_shl(n.min(32)).unwrap_or(u64::MAX)).min(self.cap_ms);
        let half = full / 2;
        half + (half.saturating_mul(u64::from(random))) / (u64::from(u32::MAX) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stays_between_half_and_whole_of_the_capped_power(n in 0u32..80, random: u32, first in 2u64..5_000) {
            let backoff = Backoff { first_ms: first, cap_ms: 60_000 };
            let full = (first as u128).saturating_mul(1u128 << n.min(64)).min(60_000) as u64;
            let delay = backoff.delay_ms(n, random);
            prop_assert!(delay >= full / 2 && delay < full.max(1));
        }
    }
}
