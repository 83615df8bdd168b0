//! Thinking levels: their names, aliases, and what each api kind makes of them. Pure.

use serde::{Deserialize, Serialize};

/// How much a model shall reason before it answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThinkingLevel {
    #[default]
    Off,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
}

impl ThinkingLevel {
    pub const ALL: [ThinkingLevel; 6] =
        [Self::Off, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh];

    /// Name as in config, RPC and transcripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
        }
    }

    /// A level as people type it, aliases included; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let key: String =
            text.trim().to_lowercase().chars().filter(|c| !matches!(c, ' ' | '-' | '_')).collect();
        Some(match key.as_str() {
            "off" | "none" | "disable" | "disabled" | "no" | "false" => Self::Off,
            "minimal" | "min" | "think" => Self::Minimal,
            "low" | "on" | "enable" | "enabled" | "yes" | "true" | "thinkhard" => Self::Low,
            "medium" | "mid" | "med" | "adaptive" | "thinkharder" | "harder" => Self::Medium,
            "high" | "max" | "highest" | "ultra" | "ultrathink" | "thinkhardest" => Self::High,
            "xhigh" | "extrahigh" => Self::Xhigh,
            _ => return None,
        })
    }

    /// The level that this model can do: `xhigh` exists only in a few OpenAI families.
    pub fn fitted(self, model_id: &str) -> Self {
        if self == Self::Xhigh && !has_xhigh(model_id) { Self::High } else { self }
    }

    /// Anthropic's `budget_tokens` (their lower bound is 1024); `None` switches thinking off.
    pub fn anthropic_budget_tokens(self) -> Option<u32> {
        match self {
            Self::Off => None,
            Self::Minimal => Some(1024),
            Self::Low => Some(2048),
            Self::Medium => Some(8192),
            Self::High | Self::Xhigh => Some(16_384),
        }
    }

    /// `thinkingConfig` of Gemini. `Off` is the least that the model can do; `None` leaves it to the model.
    pub fn gemini(self, model_id: &str) -> Option<GeminiThinking> {
        use GeminiThinking::{Budget, Level};
        let id = model_id.rsplit('/').next().unwrap_or(model_id);
        if id.contains("gemini-3") {
            // Flash has all four words, Pro the outer two, and `MEDIUM` from 3.1 on.
            let (flash, medium) = (id.contains("flash"), !id.contains("gemini-3-pro"));
            return Some(Level(match self {
                Self::Off | Self::Minimal if flash => "MINIMAL",
                Self::Off | Self::Minimal | Self::Low => "LOW",
                Self::Medium if medium => "MEDIUM",
                _ => "HIGH",
            }));
        }
        if !id.contains("2.5") {
            return (self != Self::Off).then_some(Budget(GEMINI_ANY_BUDGET));
        }
        // Smallest and largest budget; Pro cannot be switched off.
        let (least, most) = match (id.contains("pro"), id.contains("lite")) {
            (true, _) => (128, 32_768),
            (_, true) => (512, 24_576),
            _ => (1, 24_576),
        };
        Some(Budget(match self {
            Self::Off if id.contains("pro") => least,
            Self::Off => 0,
            Self::High | Self::Xhigh => most,
            level => i64::from(level.anthropic_budget_tokens().unwrap_or(0)).clamp(least, most),
        }))
    }

    /// `reasoning_effort` of OpenAI and `reasoning.effort` of OpenRouter; `None` sends no field.
    pub fn effort(self) -> Option<&'static str> {
        (self != Self::Off).then(|| self.as_str())
    }
}

/// What Gemini is told about thinking: a word from Gemini 3 on, a number of tokens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeminiThinking {
    Level(&'static str),
    /// Tokens; 0 is off.
    Budget(i64),
}

/// The budget that leaves the length of its thoughts to the model.
const GEMINI_ANY_BUDGET: i64 = -1;

/// Whether the OpenAI model with this id knows `xhigh`.
pub fn has_xhigh(model_id: &str) -> bool {
    let id = model_id.rsplit('/').next().unwrap_or(model_id);
    id.starts_with("gpt-5")
        && (id.contains("codex") || !matches!(id, "gpt-5" | "gpt-5-mini" | "gpt-5-nano" | "gpt-5.1"))
}

/// The least `reasoning.effort` of the OpenAI model with this id, for when it shall not think: without the field it
/// thinks as much as it likes. `None` where no such word is known.
pub fn openai_least_effort(model_id: &str) -> Option<&'static str> {
    let id = model_id.rsplit('/').next().unwrap_or(model_id);
    let kept_thinking = ["codex", "pro", "chat"].iter().any(|w| id.contains(w));
    match id {
        "gpt-5" | "gpt-5-mini" | "gpt-5-nano" => Some("minimal"),
        _ if id.starts_with("gpt-5.") && !kept_thinking => Some("none"),
        _ => None,
    }
}

/// The level of a turn: what was asked for, else what the session or config says, else `low` for a model
/// that reasons and `off` for one that does not.
pub fn resolve(wishes: &[Option<ThinkingLevel>], reasoning: bool) -> ThinkingLevel {
    let wish = wishes.iter().find_map(|w| *w);
    match (wish, reasoning) {
        (Some(level), _) => level,
        (None, true) => ThinkingLevel::Low,
        (None, false) => ThinkingLevel::Off,
    }
}

/// The level to repeat a request with after the vendor refused `now`: the highest one that its words offer below
/// `now`, else `off`; where reasoning cannot be switched off, the lowest one that they offer, else `low`. `None` when the refusal is about
/// something else.
pub fn after_refusal(now: ThinkingLevel, words: &str) -> Option<ThinkingLevel> {
    let text = words.to_lowercase();
    let mandatory = ["reasoning is mandatory", "reasoning cannot be disabled", "only works in thinking mode"];
    if mandatory.iter().any(|w| text.contains(w)) {
        return (now == ThinkingLevel::Off).then_some(ThinkingLevel::Low);
    }
    let about_thinking = ["reasoning", "thinking", "effort"].iter().any(|w| text.contains(w));
    let refused = ["not support", "unsupported", "supported values", "invalid value", "does not allow"];
    if !about_thinking || !refused.iter().any(|w| text.contains(w)) {
        return None;
    }
    let offered = text.split_once("supported values").map(|(_, list)| list).unwrap_or_default();
    let words: Vec<&str> = offered.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let offers = |l: &ThinkingLevel| *l != ThinkingLevel::Off && words.contains(&l.as_str());
    if now == ThinkingLevel::Off {
        // The model cannot do without: the least that it offers.
        return ThinkingLevel::ALL.into_iter().find(offers);
    }
    let best = ThinkingLevel::ALL.into_iter().rev().find(|l| *l < now && offers(l));
    Some(best.unwrap_or(ThinkingLevel::Off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_levels_in_many_ways() {
        for (text, level) in [
            ("think hard", ThinkingLevel::Low),
            ("ULTRATHINK", ThinkingLevel::High),
            ("extra-high", ThinkingLevel::Xhigh),
            ("on", ThinkingLevel::Low),
            (" off ", ThinkingLevel::Off),
        ] {
            assert_eq!(ThinkingLevel::parse(text), Some(level), "{text}");
        }
        assert_eq!(ThinkingLevel::parse("a lot"), None);
        for level in ThinkingLevel::ALL {
            assert_eq!(ThinkingLevel::parse(level.as_str()), Some(level));
        }
    }

    #[test]
    fn xhigh_is_lowered_where_unknown() {
        assert_eq!(ThinkingLevel::Xhigh.fitted("claude-opus-4-6"), ThinkingLevel::High);
        assert_eq!(ThinkingLevel::Xhigh.fitted("openai/gpt-5.2"), ThinkingLevel::Xhigh);
    }

    #[test]
    fn a_refused_level_is_lowered_to_an_offered_one() {
        use ThinkingLevel::*;
        let openai = "Unsupported value: 'xhigh' is not supported with the 'gpt-5' model. Supported values are: 'minimal', 'low', 'medium', and 'high'. (reasoning_effort)";
        assert_eq!(after_refusal(Xhigh, openai), Some(High));
        assert_eq!(after_refusal(Medium, "\"llama\" does not support thinking"), Some(Off));
        assert_eq!(
            after_refusal(Off, "Reasoning is mandatory for this endpoint and cannot be disabled."),
            Some(Low)
        );
        let none = "Unsupported value: 'none' is not supported with this model. Supported values are: 'medium' and 'high'. (reasoning.effort)";
        assert_eq!(after_refusal(Off, none), Some(Medium));
        let gemini = "Budget 0 is invalid. This model only works in thinking mode.";
        assert_eq!(after_refusal(Off, gemini), Some(Low));
        assert_eq!(after_refusal(Off, "\"llama\" does not support thinking"), None);
        assert_eq!(after_refusal(High, "messages.3: tool id is not valid"), None);
    }

    #[test]
    fn gemini_thinks_in_words_or_in_tokens() {
        use GeminiThinking::{Budget, Level};
        use ThinkingLevel::*;
        for (level, id, wanted) in [
            (Off, "gemini-3-flash-preview", Some(Level("MINIMAL"))),
            (Off, "gemini-3-pro-preview", Some(Level("LOW"))),
            (Medium, "gemini-3-pro-preview", Some(Level("HIGH"))),
            (Medium, "gemini-3.1-pro-preview", Some(Level("MEDIUM"))),
            (Off, "gemini-2.5-pro", Some(Budget(128))),
            (Off, "gemini-2.5-flash", Some(Budget(0))),
            (Low, "gemini-2.5-flash-lite", Some(Budget(2048))),
            (High, "gemini-2.5-flash", Some(Budget(24_576))),
            (High, "some-other", Some(Budget(-1))),
            (Off, "some-other", None),
        ] {
            assert_eq!(level.gemini(id), wanted, "{id} {level:?}");
        }
    }

    #[test]
    fn first_wish_wins() {
        use ThinkingLevel::*;
        assert_eq!(resolve(&[None, Some(High), Some(Low)], false), High);
        assert_eq!(resolve(&[None], true), Low);
        assert_eq!(resolve(&[], false), Off);
    }
}
