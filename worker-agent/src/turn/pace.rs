//! How often a text that is being written is shown: its first piece at once, the next ones joined to about 25 a second. More
//! nobody sees, and each costs every process and every client on its way a wake-up.

use proto::wire::agent::DeltaKind;
use tokio::time::{Duration, Instant};

use super::events::Events;

/// From one piece to the next.
const WINDOW: Duration = Duration::from_millis(40);

/// Pieces of one model call on their way up.
pub struct Pace {
    events: Events,
    waiting: Option<(u32, DeltaKind, String)>,
    last: Option<Instant>,
}

impl Pace {
    pub fn new(events: Events) -> Self {
        Self { events, waiting: None, last: None }
    }

    /// Shows a piece of this message now or a moment later.
    pub fn say(&mut self, message: u32, kind: DeltaKind, text: String) {
        if self.waiting.as_ref().is_some_and(|(of, as_, _)| (*of, *as_) != (message, kind)) {
            self.flush();
        }
        if text.is_empty() {
            // It still counts as progress.
            self.events.delta(message, kind, text);
        } else if let Some((_, _, waiting)) = &mut self.waiting {
            waiting.push_str(&text);
        } else if self.last.is_none_or(|last| last.elapsed() >= WINDOW) {
            self.last = Some(Instant::now());
            self.events.delta(message, kind, text);
        } else {
            self.waiting = Some((message, kind, text));
        }
    }

    /// Shows what waits.
    pub fn flush(&mut self) {
        if let Some((message, kind, text)) = self.waiting.take() {
            self.last = Some(Instant::now());
            self.events.delta(message, kind, text);
        }
    }

    /// Waits until what waits is due; for ever when nothing does.
    pub async fn due(&self) {
        match (&self.waiting, self.last) {
            (Some(_), Some(last)) => tokio::time::sleep_until(last + WINDOW).await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::rig::Ear;
    use proto::wire::Id;
    use proto::wire::agent::AgentToSup;
    use std::sync::Arc;

    fn heard(ear: &Ear) -> Vec<String> {
        let heard = ear.heard.lock().unwrap();
        let texts = heard.iter().filter_map(|message| match message {
            AgentToSup::Delta(delta) => Some(format!("{}{:?} {}", delta.message, delta.kind, delta.text)),
            _ => None,
        });
        texts.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_piece_goes_at_once_and_the_rest_is_joined_in_order() {
        let ear = Arc::new(Ear::default());
        let mut pace = Pace::new(Events { up: ear.clone(), run_id: Id::NIL, attempt: 1 });
        for piece in ["a", "b", "", "c"] {
            pace.say(0, DeltaKind::Text, piece.to_owned());
        }
        assert_eq!(heard(&ear), ["0Text a"]);
        pace.due().await;
        pace.flush();
        assert_eq!(heard(&ear), ["0Text a", "0Text bc"]);
        pace.say(0, DeltaKind::Text, "d".into());
        pace.say(0, DeltaKind::Thinking, "hm".into());
        pace.say(1, DeltaKind::Text, "e".into());
        pace.flush();
        assert_eq!(heard(&ear)[2..], ["0Text d", "0Thinking hm", "1Text e"]);
        tokio::time::advance(WINDOW).await;
        pace.say(1, DeltaKind::Text, "f".into());
        assert_eq!(heard(&ear).last().unwrap(), "1Text f");
    }
}
