//! What a channel is to the rest of this process. To add one: a file and a folder below `channel/`, and one line in
//! [`all`].
//!
//! A channel reports facts and carries out sends. It decides neither who may talk nor when something is sent.

pub mod telegram;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use proto::wire::channel::{MediaRef, ReplyReason};
use serde_json::Value;

use crate::account::Account;
use crate::inbound::{Gone, Inbox};
use crate::media::MediaStore;
use crate::supervisor::Supervisor;
use crate::text::split::ChunkMode;
use crate::text::{Styled, Tables};

/// A future of a trait method.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One line per channel: its name in the configuration and what can be asked without an account.
#[derive(Clone, Copy)]
pub struct ChannelKind {
    /// Key below `channels` and first part of peers' names.
    pub name: &'static str,
    /// JSON schema of the section, with `x-class` and `x-sensitive`.
    pub schema: fn() -> Value,
    /// Problems of the section: path below it and what is wrong.
    pub check: fn(&Value) -> Vec<(String, String)>,
    /// Makes the channel of an account. No IO.
    pub open: fn(&Account) -> Result<Arc<dyn Channel>, OpenError>,
}

/// Every channel that this build knows.
pub fn all() -> [ChannelKind; 1] {
    [telegram::KIND]
}

/// Why an account cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {message}")]
    Config { path: String, message: String },
    /// Someone has to log in or give a token first.
    #[error("{0}")]
    NeedsLogin(String),
}

/// Where something goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    pub chat: String,
    pub thread: Option<String>,
    /// Message that is answered.
    pub reply_to: Option<String>,
}

/// What a new message shows.
#[derive(Debug)]
pub enum Body<'a> {
    Text(&'a Styled),
    File { media: &'a MediaRef, bytes: Vec<u8>, caption: Option<&'a Styled> },
}

/// Why something did not go out as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendFailure {
    /// The network did not take it and may do so later.
    Retry { after_ms: u64, why: String },
    /// It will never take it.
    Permanent(String),
    /// The bytes left and no answer came.
    Unknown(String),
    /// The message that was to be changed is not there any more.
    Gone,
}

/// Which messages of a reply answer the message that started it, where the text does not ask for it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replies {
    None,
    First,
    All,
}

impl Replies {
    /// Whether the message at this place of an item answers what the item answers.
    #[must_use]
    pub fn answers(self, reason: ReplyReason, at: usize) -> bool {
        match (self, reason) {
            (Self::All, _) => true,
            (_, ReplyReason::Asked) => at == 0,
            (Self::First, ReplyReason::First) => at == 0,
            (Self::First | Self::None, _) => false,
        }
    }
}

/// How texts are cut and shown; part of the account's settings.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Longest text of one message in UTF-16 units; 0: no limit.
    pub text_units_max: usize,
    /// Longest caption of a file.
    pub caption_units_max: usize,
    pub chunk_mode: ChunkMode,
    pub tables: Tables,
    pub replies: Replies,
    /// Whether a part fits once it is rendered.
    pub fits: fn(&Styled) -> bool,
    /// Shortest time between two changes of a preview in this chat.
    pub preview_pause: fn(&str) -> Duration,
}

/// Why receiving ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The network no longer knows us; someone has to log in.
    NeedsLogin(String),
    /// The supervisor is gone.
    Orphaned,
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Orphaned
    }
}

/// What receiving needs.
pub struct Feed {
    pub inbox: Inbox,
    pub supervisor: Supervisor,
    pub media: MediaStore,
    /// The network's position as the journal knows it, by scope.
    pub cursors: BTreeMap<String, String>,
}

/// One account of a network.
pub trait Channel: Send + Sync + 'static {
    /// Who the account is on its network, without asking it: the name of the account's lock.
    fn identity(&self) -> String;

    fn rules(&self) -> Rules;

    /// Largest file that is taken from the network.
    fn media_bytes_max(&self) -> u64;

    /// Receives for as long as the process lives: connects again after every loss, with pauses, and says so.
    fn receive(&self, feed: Feed) -> Pending<'_, Ended>;

    /// Puts a new message and returns its id.
    fn post<'a>(&'a self, to: &'a Target, body: Body<'a>) -> Pending<'a, Result<String, SendFailure>>;

    /// Changes the text of a message of ours. That it shows this text already is success.
    fn edit<'a>(
        &'a self,
        to: &'a Target,
        ext_id: &'a str,
        part: &'a Styled,
    ) -> Pending<'a, Result<(), SendFailure>>;

    /// Takes a message of ours away. That it is not there is success.
    fn remove<'a>(&'a self, to: &'a Target, ext_id: &'a str) -> Pending<'a, Result<(), SendFailure>>;

    /// Shows for a few seconds that an answer is being written.
    fn typing<'a>(&'a self, to: &'a Target) -> Pending<'a, Result<(), SendFailure>>;

    /// Takes over what changed and needs no new connection. The supervisor starts a new process for the rest.
    fn configure(&self, account: &Account);

    /// Asks the network who we are (`channels status --probe`).
    fn probe(&self) -> Pending<'_, Value>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_text_asks_for_is_answered_whatever_the_rule_and_the_rest_by_the_rule() {
        use ReplyReason::{Asked, First, Later};
        let table = |replies: Replies| {
            [(Asked, 0), (Asked, 1), (First, 0), (First, 1), (Later, 0), (Later, 1)]
                .map(|(reason, at)| replies.answers(reason, at))
        };
        assert_eq!(table(Replies::None), [true, false, false, false, false, false]);
        assert_eq!(table(Replies::First), [true, false, true, false, false, false]);
        assert_eq!(table(Replies::All), [true; 6]);
    }
}
