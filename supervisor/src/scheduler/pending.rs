//! One accepted message on its way to a run.

use super::queue::{self, Route};
use super::{RunProgress, stored::StoredTurn};
use proto::wire::agent::OriginKind;
use tokio::sync::watch;

/// How a message may share a turn with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// By the session's queue mode (chat networks, `chat.send`).
    ByMode,
    /// Always a turn of its own under its own id (`agent`, HTTP callers): the caller waits for this run.
    Alone,
}

impl Grouping {
    /// How this message is grouped. A command is answered by itself: among other messages it would be words for the
    /// model.
    pub fn of(turn: &StoredTurn) -> Self {
        let by_mode = matches!(turn.origin.kind, OriginKind::Chat | OriginKind::Channel);
        if by_mode && !(turn.input.authorised && looks_like_command(&turn.input.raw)) {
            Self::ByMode
        } else {
            Self::Alone
        }
    }
}

/// `/word`, alone or with something behind it. Which words are commands is the worker's to know; any other is a message
/// that gets a turn of its own.
fn looks_like_command(text: &str) -> bool {
    let Some(body) = text.trim_start().strip_prefix('/') else { return false };
    let end = body.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(body.len());
    let behind = body.get(end..).and_then(|rest| rest.chars().next());
    end > 0 && behind.is_none_or(|c| c.is_whitespace() || c == ':' || c == '@')
}

/// A message that waits for its turn. The journal holds it already.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Journal sequence: the order of acceptance.
    pub seq: i64,
    pub turn: StoredTurn,
    /// It had to wait, so its own run id is closed: the turn runs under another.
    pub waited: bool,
    /// Followers of the message's own run id, if it has one.
    pub progress: Option<watch::Sender<RunProgress>>,
}

impl Pending {
    /// As the session's queue holds it.
    pub fn into_item(self) -> queue::Item<Self> {
        let origin = &self.turn.origin;
        queue::Item {
            seq: self.seq,
            text: self.turn.input.text.clone(),
            message_id: None,
            route: Route {
                channel: origin.channel.clone(),
                to: origin.chat.clone().unwrap_or_else(|| "client".to_owned()),
                account: origin.account.clone().unwrap_or_default(),
                thread: origin.thread.clone().unwrap_or_default(),
            },
            payload: self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_alone() {
        for text in ["/status", " /new sonnet hi", "/context@bot list", "/think: high"] {
            assert!(looks_like_command(text), "{text}");
        }
        for text in ["/", "/etc/passwd", "say /status", "//", ""] {
            assert!(!looks_like_command(text), "{text}");
        }
    }
}
