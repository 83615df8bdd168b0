//! One accepted message on its way to a run.

use super::queue::{self, Route};
use super::{RunProgress, stored::StoredTurn};
use tokio::sync::watch;

/// How a message may share a turn with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// By the session's queue mode (chat networks, `chat.send`).
    ByMode,
    /// Always a turn of its own under its own id (`agent`, HTTP callers): the caller waits for this run.
    Alone,
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
