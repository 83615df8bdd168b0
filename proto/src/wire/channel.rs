//! The conversation with a channel worker: what the network says, and what goes out to it.

use super::{
    Id,
    agent::{ConfigDelta, Drain, RpcCall, RpcResult, Sender, Shutdown},
};
use serde::{Deserialize, Serialize};

/// A file in the state directory's media folder, or a small blob inside the message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MediaRef {
    /// `image`, `audio`, `video`, `document`.
    pub kind: String,
    pub mime: String,
    pub bytes: u64,
    /// Lower-case hex of the content's SHA-256.
    #[serde(default)]
    pub sha256: String,
    /// Path below the state directory.
    #[serde(default)]
    pub path: Option<String>,
    #[serde(default)]
    pub name: Option<String>,
    /// Content, for blobs up to `INLINE_BLOB_BYTES_MAX`.
    #[serde(default, with = "serde_bytes")]
    pub inline: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    #[default]
    Direct,
    Group,
    Channel,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatRef {
    pub id: String,
    pub kind: ChatKind,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub thread: Option<String>,
    /// Name of the thread, where the network tells it.
    #[serde(default)]
    pub thread_label: Option<String>,
    /// The chat is divided into topics.
    #[serde(default)]
    pub is_forum: bool,
}

/// The network's position after this message: stored in the same transaction as the message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    pub scope: String,
    pub value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplyRef {
    pub id: String,
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub sender: Option<String>,
    /// `text` is a passage that the person chose, not the whole message.
    #[serde(default)]
    pub is_quote: bool,
}

/// One message from the network. Facts only: whether it is let in is decided by the supervisor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InboundMsg {
    /// The network's whole identity of the message (Telegram: `update_id|chat|message_id`).
    pub ext_id: String,
    /// The message id that a reply names.
    pub message_id: String,
    pub chat: ChatRef,
    pub sender: Sender,
    pub ts_ms: i64,
    pub text: String,
    #[serde(default)]
    pub media: Vec<MediaRef>,
    #[serde(default)]
    pub reply_to: Option<ReplyRef>,
    /// The bot was named, by entity or by a configured pattern.
    #[serde(default)]
    pub mentioned: bool,
    #[serde(default)]
    pub reply_to_bot: bool,
    /// Label of the origin when the message was forwarded.
    #[serde(default)]
    pub forwarded_from: Option<String>,
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

/// Only the position moved (an update that carries nothing for us).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CursorMoved {
    pub cursor: Cursor,
}

/// The worker is about to read what the network sent under these ids (handed to the kernel before it begins); an empty list
/// says that all of it is through. When the worker dies by its own doing in between, one of them is to blame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Examining {
    pub ids: Vec<String>,
}

/// Something from the network that was not read, because it killed this worker each time ([`SCOPE_SKIP`]). It is kept as it
/// came. Acknowledged like a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unreadable {
    pub ext_id: String,
    /// As the network sent it, cut to [`RAW_BYTES_MAX`].
    pub raw: String,
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

/// Largest raw content of an [`Unreadable`]: several times the longest text of any network, and far below a frame.
pub const RAW_BYTES_MAX: usize = 256 * 1024;
/// Scope among the cursors of a `Welcome`: ids that were being read when a worker died, joined by `,`. They are read one at a
/// time.
pub const SCOPE_SUSPECTS: &str = "suspects";
/// Scope among the cursors of a `Welcome`: ids that are not to be read at all, joined by `,`.
pub const SCOPE_SKIP: &str = "skip";

/// C1 is committed for these messages: the network may be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboundAck {
    pub ext_ids: Vec<String>,
}

/// Not stored (journal full, draining): do not tell the network; offer it again later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InboundNack {
    pub ext_id: String,
    pub why: String,
    pub retry_ms: u32,
}

/// Why an item answers a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplyReason {
    /// The text asked for it.
    #[default]
    Asked,
    /// It is the first part of what a message started: the account's rule decides.
    First,
    /// A later part of the same.
    Later,
}

/// One outbox row to deliver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutboundItem {
    pub out_id: Id,
    pub chat: String,
    #[serde(default)]
    pub thread: Option<String>,
    /// Markdown.
    pub text: String,
    #[serde(default)]
    pub media: Vec<MediaRef>,
    #[serde(default)]
    pub reply_to: Option<String>,
    #[serde(default)]
    pub reply_reason: ReplyReason,
    /// Key that the network can tell a repetition by, where it has such a thing.
    pub idem_key: String,
    /// Messages of ours that are already there for this row (placeholders, parts that went out before) and become its
    /// text by edits: their ids in order, joined by `,`. Opaque to the supervisor.
    #[serde(default)]
    pub prior: Option<String>,
    /// Put a neutral placeholder first and make it this message by an edit.
    #[serde(default)]
    pub two_phase: bool,
    /// This may be a repetition whose first copy is out there.
    #[serde(default)]
    pub maybe_dup: bool,
    pub deadline_ms: u64,
}

/// Bytes of this item are about to leave (request). The reply `Done` is the go-ahead; an error means: do not send.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SendStarted {
    pub out_id: Id,
}

/// The row's messages so far are there under these ids, joined by `,` (request). Replaces what was noted before and
/// comes back as `prior`. The reply `Done` means that the journal knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    pub out_id: Id,
    pub ext_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SendResult {
    pub out_id: Id,
    pub outcome: SendOutcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum SendOutcome {
    /// All message ids that the item became (a long text is several).
    Delivered { ext_ids: Vec<String> },
    /// The network did not take it; try again.
    Retry { after_ms: u64, why: String },
    /// The network will never take it.
    Permanent { why: String },
    /// The connection was lost after the bytes left.
    Unknown { why: String },
}

/// A reply is coming: put the placeholder of this row, so that it can be edited while the text streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DraftOpen {
    pub out_id: Id,
    pub chat: String,
    #[serde(default)]
    pub thread: Option<String>,
    #[serde(default)]
    pub reply_to: Option<String>,
    #[serde(default)]
    pub reply_reason: ReplyReason,
}

/// Whole text so far. Only the newest of a row counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftUpdate {
    pub out_id: Id,
    pub text: String,
}

/// No reply will come under this row: take the placeholder away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DraftDiscard {
    pub out_id: Id,
    #[serde(default)]
    pub chat: String,
    #[serde(default)]
    pub ext_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Typing {
    pub chat: String,
    #[serde(default)]
    pub thread: Option<String>,
    pub on: bool,
}

/// "Did this go out?" (request; class B networks). Answered by `SendResult`'s outcome in `Reconciled`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconcile {
    pub out_id: Id,
    pub idem_key: String,
    pub chat: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconciled {
    pub found: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelState {
    pub state: ChannelPhase,
    #[serde(default)]
    pub why: Option<String>,
    /// Who we are on this network (`@bot`), once known.
    #[serde(default)]
    pub identity: Option<String>,
    /// Until when a rate limit holds, milliseconds since the epoch.
    #[serde(default)]
    pub until_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelPhase {
    #[default]
    Connecting,
    Up,
    LoginNeeded,
    RateLimited,
    Down,
}

/// The network reported what became of a message of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub ext_id: String,
    /// `delivered` or `read`.
    pub kind: String,
}

wire_enum! {
    /// Supervisor → channel worker.
    pub enum SupToChannel {
        0x0102 Durable Drain(Drain),
        0x0103 Durable Shutdown(Shutdown),
        0x0110 Durable InboundAck(InboundAck),
        0x0111 Durable InboundNack(InboundNack),
        0x0120 Durable Send(OutboundItem),
        0x0121 Lossy Typing(Typing),
        /// Request; answered by `Reconciled`.
        0x0122 Durable Reconcile(Reconcile),
        0x0123 Durable DraftOpen(DraftOpen),
        0x0124 Lossy DraftUpdate(DraftUpdate),
        0x0125 Durable DraftDiscard(DraftDiscard),
        0x0130 Durable ConfigDelta(ConfigDelta),
        /// Request; answered by `RpcResult` (`probe`, `logout`, …).
        0x0131 Durable Rpc(RpcCall),
    }
}

wire_enum! {
    /// Channel worker → supervisor.
    pub enum ChannelToSup {
        0x0203 Durable State(ChannelState),
        0x0210 Durable Inbound(InboundMsg),
        0x0211 Durable CursorMoved(CursorMoved),
        0x0212 Durable Examining(Examining),
        0x0213 Durable Unreadable(Unreadable),
        /// Request; `Done` is the go-ahead.
        0x0220 Durable SendStarted(SendStarted),
        0x0221 Durable SendResult(SendResult),
        0x0222 Durable Receipt(Receipt),
        /// Request; `Done` once the journal knows the id.
        0x0223 Durable Placed(Placed),
        0x0224 Durable Reconciled(Reconciled),
        0x0230 Durable RpcResult(RpcResult),
    }
}
