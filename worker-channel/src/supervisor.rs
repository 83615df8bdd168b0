//! The supervisor as this process sees it: the few things that a channel may tell or ask. Cloneable.
//!
//! Waiting for room on the link is the back-pressure: a channel whose messages are not taken stops reading its
//! network, which keeps them for us.

use proto::runtime::link::{LinkHandle, RequestError};
use proto::wire::Id;
use proto::wire::channel::{
    ChannelPhase, ChannelState, ChannelToSup, Cursor, CursorMoved, Examining, InboundMsg, Placed,
    SendOutcome, SendResult, SendStarted, Unreadable,
};
use proto::wire::state::SendRefusal;

/// How long the journal may take to note that bytes are about to leave, or that a message is there. It answers in
/// milliseconds; this is the time after which its disk must be taken for stuck.
const JOURNAL_MS: u64 = 20_000;

/// The link, as verbs.
#[derive(Clone, Debug)]
pub struct Supervisor {
    link: LinkHandle,
}

impl Supervisor {
    pub fn new(link: LinkHandle) -> Self {
        Self { link }
    }

    /// Hands over a message from the network; waits for room. The acknowledgement comes later.
    pub async fn offer(&self, message: InboundMsg) -> Result<(), SendRefusal> {
        self.link.send(&ChannelToSup::Inbound(message)).await
    }

    /// Says what is read next, and waits until the kernel has it: whatever the reading does to this process, the
    /// supervisor will know.
    pub async fn examining(&self, ids: Vec<String>) {
        // A link that is gone takes this process with it.
        if self.link.send(&ChannelToSup::Examining(Examining { ids })).await.is_ok() {
            self.link.flush().await;
        }
    }

    /// Hands over what is not read.
    pub async fn unreadable(&self, message: Unreadable) -> Result<(), SendRefusal> {
        self.link.send(&ChannelToSup::Unreadable(message)).await
    }

    /// Only the network's position moved.
    pub async fn moved(&self, cursor: Cursor) -> Result<(), SendRefusal> {
        self.link.send(&ChannelToSup::CursorMoved(CursorMoved { cursor })).await
    }

    /// Shows what the account is doing. A state that does not fit into the outbox is dropped: the next one tells more.
    pub fn state(&self, state: ChannelPhase, why: Option<String>, identity: Option<String>) {
        let message = ChannelToSup::State(ChannelState { state, why, identity, until_ms: None });
        if let Err(refused) = self.link.try_send(&message) {
            tracing::debug!(%refused, "state not sent");
        }
    }

    /// Asks for the go-ahead: after it the bytes of this item may leave.
    pub async fn may_start(&self, out_id: Id) -> Result<(), RequestError> {
        self.link.request(&ChannelToSup::SendStarted(SendStarted { out_id }), JOURNAL_MS).await.map(drop)
    }

    /// Has the journal remember the ids that an item has on the network so far.
    pub async fn placed(&self, out_id: Id, ext_id: String) -> Result<(), RequestError> {
        self.link.request(&ChannelToSup::Placed(Placed { out_id, ext_id }), JOURNAL_MS).await.map(drop)
    }

    /// What became of an item.
    pub async fn result(&self, out_id: Id, outcome: SendOutcome) {
        self.link.progressed();
        let message = ChannelToSup::SendResult(SendResult { out_id, outcome });
        if let Err(refused) = self.link.send(&message).await {
            // The link is gone, and this process with it: the journal treats the item as unknown.
            tracing::warn!(%refused, %out_id, "result of a send not told");
        }
    }

    /// Something came from the network, so the account is alive.
    pub fn progressed(&self) {
        self.link.progressed();
    }
}
