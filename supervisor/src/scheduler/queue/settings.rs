//! Which queue settings hold for a message, and how people spell them (PURE).

use proto::view::{DropPolicy, QueueMode, QueueView};

/// Quiet time where nothing is set (1 s): people send a thought in several messages.
pub const DEBOUNCE_MS_DEFAULT: u64 = 1000;
/// Waiting messages per session where nothing is set.
pub const CAP_DEFAULT: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub mode: QueueMode,
    pub debounce_ms: u64,
    /// At least 1.
    pub cap: usize,
    pub drop: DropPolicy,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: QueueMode::default(),
            debounce_ms: DEBOUNCE_MS_DEFAULT,
            cap: CAP_DEFAULT,
            drop: DropPolicy::default(),
        }
    }
}

/// What one level says; `None` leaves it to the next. Session entries: `queueMode, queueDebounceMs, queueCap, queueDrop`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    pub mode: Option<QueueMode>,
    pub debounce_ms: Option<u64>,
    pub cap: Option<usize>,
    pub drop: Option<DropPolicy>,
}

/// Inline directive, then session, then the channel's row, then the channel's own default (debounce only), then the
/// general value. Cap and drop have no row per channel.
pub fn resolve(
    inline: Overrides,
    session: Overrides,
    channel: &str,
    channel_debounce_ms: Option<u64>,
    config: &QueueView,
) -> Settings {
    let debounce = inline.debounce_ms.or(session.debounce_ms);
    let debounce = debounce.or_else(|| config.debounce_ms_by_channel.get(channel).copied());
    Settings {
        mode: inline.mode.or(session.mode).unwrap_or_else(|| config.mode_for(channel)),
        debounce_ms: debounce.or(channel_debounce_ms).unwrap_or(config.debounce_ms),
        cap: inline.cap.or(session.cap).unwrap_or(config.cap as usize).max(1),
        drop: inline.drop.or(session.drop).unwrap_or(config.drop),
    }
}

#[cfg_attr(not(test), expect(dead_code, reason = "words of the command /queue, which comes later"))]
/// The mode's usual name, or one of the other spellings that people and old files use.
pub fn parse_mode(text: &str) -> Option<QueueMode> {
    Some(match text.trim().to_lowercase().as_str() {
        "queue" | "queued" | "steer" | "steering" => QueueMode::Steer,
        "followup" | "follow-up" | "follow-ups" | "followups" => QueueMode::Followup,
        "collect" | "coalesce" => QueueMode::Collect,
        "steer+backlog" | "steer-backlog" | "steer_backlog" => QueueMode::SteerBacklog,
        "interrupt" | "interrupts" | "abort" => QueueMode::Interrupt,
        _ => return None,
    })
}

#[cfg_attr(not(test), expect(dead_code, reason = "words of the command /queue, which comes later"))]
pub const fn mode_name(mode: QueueMode) -> &'static str {
    match mode {
        QueueMode::Collect => "collect",
        QueueMode::Steer => "steer",
        QueueMode::Followup => "followup",
        QueueMode::SteerBacklog => "steer-backlog",
        QueueMode::Interrupt => "interrupt",
    }
}

#[cfg_attr(not(test), expect(dead_code, reason = "words of the command /queue, which comes later"))]
pub fn parse_drop(text: &str) -> Option<DropPolicy> {
    Some(match text.trim().to_lowercase().as_str() {
        "old" | "oldest" => DropPolicy::Old,
        "new" | "newest" => DropPolicy::New,
        "summarize" | "summary" => DropPolicy::Summarize,
        _ => return None,
    })
}

#[cfg_attr(not(test), expect(dead_code, reason = "words of the command /queue, which comes later"))]
/// `250ms`, `2s`, `1.5s`, `1m`; a bare number is milliseconds. Gives milliseconds.
pub fn parse_debounce(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let (number, unit_ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1000.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000.0)
    } else {
        (text.as_str(), 1.0)
    };
    let value: f64 = number.trim().parse().ok()?;
    let ms = (value * unit_ms).round();
    // One day: anything longer is a slip, and the bound makes the conversion exact.
    (ms.is_finite() && (0.0..=86_400_000.0).contains(&ms)).then_some(ms as u64)
}
