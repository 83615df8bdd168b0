//! When a conversation is summarised, how much of it stays, and what the summary is made of. PURE: settings, windows and
//! entries in; verdicts, cuts and texts out. Asking a model for the summary is `turn::compact`'s business.

pub mod cut;
pub mod estimate;
pub mod summary;

use serde::Deserialize;

/// Tokens that stay free for the answer and the summary when nothing else is configured.
const RESERVE_TOKENS: u64 = 16_384;
/// A smaller reserve leaves too little room for a summary and an answer.
const RESERVE_FLOOR_TOKENS: u64 = 20_000;
/// The newest part of the conversation, which is never summarised.
const KEEP_RECENT_TOKENS: u64 = 20_000;
/// Share of the window that one request for a summary may fill with conversation.
const CHUNK_SHARE: f64 = 0.4;
/// The same after a model refused a chunk as too long.
const CHUNK_SHARE_MIN: f64 = 0.15;
/// Estimates err: four characters are not always a token.
const ESTIMATE_MARGIN: f64 = 1.2;

/// A model with a smaller window is refused: prompt, tools and one answer do not fit.
pub const WINDOW_TOKENS_MIN: u64 = 16_000;
/// A model with a smaller window works, but is summarised every few turns.
pub const WINDOW_TOKENS_GOOD: u64 = 32_000;

/// `agents.defaults.compaction` as written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    pub mode: Option<Mode>,
    pub reserve_tokens: Option<u64>,
    /// 0 switches the floor off.
    pub reserve_tokens_floor: Option<u64>,
    pub keep_recent_tokens: Option<u64>,
    pub max_history_share: Option<f64>,
}

/// What goes into a summary beside the model's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Default,
    /// Failed tools and the workspace's own rules are added word for word.
    #[default]
    Safeguard,
}

/// The settings as meant for one window. Tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub window: u64,
    pub reserve: u64,
    pub keep_recent: u64,
    /// Share of the window that one request for a summary may fill.
    chunk_share: f64,
}

impl Settings {
    pub fn safeguard(&self) -> bool {
        self.mode.unwrap_or_default() == Mode::Safeguard
    }

    /// Half of a small window is the most that is held free, and half of the rest is the most that is kept: otherwise
    /// each turn would be summarised, and the summary would change nothing.
    pub fn budget(&self, window: u64) -> Budget {
        let floor = self.reserve_tokens_floor.unwrap_or(RESERVE_FLOOR_TOKENS);
        let reserve = self.reserve_tokens.unwrap_or(RESERVE_TOKENS).max(floor).min(window / 2);
        let keep = self.keep_recent_tokens.unwrap_or(KEEP_RECENT_TOKENS);
        let share = self.max_history_share.filter(|share| (0.1..=0.9).contains(share));
        Budget {
            window,
            reserve,
            keep_recent: keep.min((window - reserve) / 2),
            chunk_share: share.unwrap_or(CHUNK_SHARE).min(CHUNK_SHARE),
        }
    }
}

impl Budget {
    /// The conversation is summarised when it holds more than this.
    pub fn threshold(&self) -> u64 {
        self.window - self.reserve
    }

    /// Longest summary of the turns before the kept ones, and of the first part of a turn that is cut in two.
    pub fn summary_tokens(&self) -> u64 {
        self.reserve * 8 / 10
    }

    pub fn prefix_tokens(&self) -> u64 {
        self.reserve / 2
    }

    /// Characters of conversation in one request for a summary; `refused` counts the refusals so far.
    pub fn chunk_chars(&self, refused: u32) -> u64 {
        let share = self.chunk_share / f64::from(1_u32 << refused.min(8));
        let share = share.max(CHUNK_SHARE_MIN / f64::from(1_u32 << refused.saturating_sub(2).min(8)));
        let tokens = self.window as f64 * share / ESTIMATE_MARGIN;
        (tokens as u64).max(256) * estimate::CHARS_PER_TOKEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_figures_of_a_usual_window() {
        let budget = Settings::default().budget(200_000);
        assert_eq!((budget.reserve, budget.keep_recent, budget.threshold()), (20_000, 20_000, 180_000));
        assert_eq!(budget.summary_tokens(), 16_000);
        let own =
            Settings { reserve_tokens: Some(1000), reserve_tokens_floor: Some(0), ..Settings::default() };
        assert_eq!(own.budget(200_000).reserve, 1000);
        let small = Settings::default().budget(16_000);
        assert_eq!((small.threshold(), small.keep_recent), (8_000, 4_000));
    }

    proptest! {
        /// What is kept and the longest summary together never reach the threshold again.
        #[test]
        fn a_summary_always_makes_room(window in 16_000_u64..3_000_000, reserve in 0_u64..400_000, keep in 0_u64..400_000) {
            let settings = Settings { reserve_tokens: Some(reserve), keep_recent_tokens: Some(keep), ..Settings::default() };
            let budget = settings.budget(window);
            prop_assert!(budget.keep_recent * 2 <= budget.threshold());
            prop_assert!(budget.reserve * 2 <= window);
            prop_assert!(budget.chunk_chars(0) / estimate::CHARS_PER_TOKEN < window);
        }
    }
}
