//! States of one delivery (PURE): when something may leave the host, and what an unknown outcome means.
//!
//! ```text
//! Pending ──lease──> Leased ──go-ahead──> Wire ──> Delivered | Failed
//!    ^  ^               │                  │ ──retry──> Pending
//!    │  └──worker gone──┘                  v  worker gone, connection lost
//!    └───────────────────────────────── Unknown ──> by class: Pending | stays (ask the network) | Failed
//! any open state but Wire ──too old──> Expired
//! by hand: Unknown, Failed, Expired ──> Pending; all of these ──given up──> Failed
//! ```
//!
//! Bytes leave only in `Wire`, so whatever dies before it has sent nothing. After it, the class of the network decides
//! what may be repeated without a second copy becoming visible.

use crate::journal::sql::{Illegal, int_enum};

int_enum! {
    pub enum OutState {
        Pending = 0 "pending",
        Leased = 1 "leased",
        Wire = 2 "on the wire",
        Unknown = 3 "unknown",
        Delivered = 4 "delivered",
        Failed = 5 "failed",
        Expired = 6 "expired",
    }
}

int_enum! {
    /// What a network does with a repetition.
    pub enum SendClass {
        /// It recognises the key: repeating is harmless.
        A = 0 "A",
        /// It can be asked whether it has the message.
        B = 1 "B",
        /// Neither.
        C = 2 "C",
    }
}

int_enum! {
    /// Operator's choice for class C (`channels.<name>.onUnknown`).
    pub enum OnUnknown {
        /// Once, within ten minutes, marked as a possible repetition.
        Resend = 0 "resend",
        Hold = 1 "hold",
    }
}

int_enum! {
    /// What the latest go-ahead allowed to leave.
    pub enum WireKind {
        Nothing = 0 "nothing",
        /// A neutral message without content: losing track of it costs an empty line, not a reply.
        Placeholder = 1 "placeholder",
        /// Content; an edit, where the row has a message that stands already.
        Content = 2 "content",
        /// Content as a new message, whatever else of the row stands already: a file behind a text, say.
        Plain = 3 "plain",
    }
}

/// Age up to which a class C send of unknown outcome is repeated (10 min): later, an answer out of nowhere confuses more
/// than a missing one.
pub const RESEND_AGE_US_MAX: i64 = 10 * 60 * 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutEvent {
    Lease,
    SendStarted,
    WorkerGone,
    Delivered,
    Retry,
    Permanent,
    Unknown,
    NotSent,
    Expire,
    /// A person wants it sent now.
    Revive,
    /// A person wants it sent no more.
    Discard,
}

impl OutEvent {
    #[cfg(test)]
    pub const ALL: [Self; 11] = [
        Self::Lease,
        Self::SendStarted,
        Self::WorkerGone,
        Self::Delivered,
        Self::Retry,
        Self::Permanent,
        Self::Unknown,
        Self::NotSent,
        Self::Expire,
        Self::Revive,
        Self::Discard,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::SendStarted => "send started",
            Self::WorkerGone => "worker gone",
            Self::Delivered => "delivered",
            Self::Retry => "retry",
            Self::Permanent => "permanent failure",
            Self::Unknown => "unknown outcome",
            Self::NotSent => "not sent",
            Self::Expire => "expire",
            Self::Revive => "revive",
            Self::Discard => "discard",
        }
    }
}

/// What the decision depends on besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub class: SendClass,
    pub on_unknown: OnUnknown,
    pub wire: WireKind,
    /// The send is an edit of a message that stands there: repeating it changes nothing.
    pub is_edit: bool,
    pub maybe_dup: bool,
    /// Since the row was made.
    pub age_us: i64,
}

impl Facts {
    /// Repeating what may be out changes nothing: it was an edit.
    const fn harmless(self) -> bool {
        self.is_edit && !matches!(self.wire, WireKind::Plain)
    }
}

/// What is to be noted besides the new state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    None,
    /// The reader may see it twice: flag and count.
    MaybeDup,
    /// An empty placeholder may stand in the chat: count.
    OrphanPlaceholder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub to: OutState,
    pub effect: Effect,
}

impl OutState {
    /// Still to be delivered, and in the way of later rows of its chat.
    pub const fn open(self) -> bool {
        matches!(self, Self::Pending | Self::Leased | Self::Wire | Self::Unknown)
    }

    pub fn on(self, event: OutEvent, facts: Facts) -> Result<Step, Illegal> {
        use OutEvent as E;
        use OutState as S;
        let wired = facts.wire != WireKind::Nothing;
        let to = match (self, event) {
            (S::Pending, E::Lease) => S::Leased,
            (S::Leased, E::SendStarted) => S::Wire,
            // Without a go-ahead nothing left, whatever the worker feared.
            (S::Leased, E::WorkerGone | E::Retry | E::Unknown | E::NotSent) => S::Pending,
            (S::Leased | S::Wire | S::Unknown, E::Permanent) => S::Failed,
            (S::Wire, E::Retry | E::NotSent) => S::Pending,
            (S::Wire, E::WorkerGone | E::Unknown) => return Ok(resolve(facts)),
            (S::Wire | S::Unknown | S::Delivered, E::Delivered) => S::Delivered,
            // A late truth about an earlier go-ahead ends the row before it can be sent again.
            (S::Pending | S::Leased | S::Failed | S::Expired, E::Delivered) if wired => S::Delivered,
            (S::Unknown, E::NotSent) => S::Pending,
            (S::Unknown, E::WorkerGone | E::Unknown | E::Retry) => S::Unknown,
            (S::Pending | S::Leased | S::Unknown, E::Expire) => S::Expired,
            (S::Pending, E::Revive) => S::Pending,
            (S::Pending | S::Unknown | S::Failed | S::Expired, E::Discard) => S::Failed,
            (S::Unknown | S::Failed | S::Expired, E::Revive) => {
                let effect = if wired && facts.wire != WireKind::Placeholder && !facts.harmless() {
                    Effect::MaybeDup
                } else {
                    Effect::None
                };
                return Ok(Step { to: S::Pending, effect });
            }
            _ => return Err(Illegal { from: self.name(), event: event.name() }),
        };
        Ok(Step { to, effect: Effect::None })
    }
}

/// The bytes may be out or not.
fn resolve(facts: Facts) -> Step {
    let pending = |effect| Step { to: OutState::Pending, effect };
    if facts.harmless() {
        return pending(Effect::None);
    }
    if facts.wire == WireKind::Placeholder {
        return pending(Effect::OrphanPlaceholder);
    }
    match (facts.class, facts.on_unknown) {
        (SendClass::A, _) => pending(Effect::None),
        (SendClass::B, _) => Step { to: OutState::Unknown, effect: Effect::None },
        (SendClass::C, OnUnknown::Resend) if !facts.maybe_dup && facts.age_us < RESEND_AGE_US_MAX => {
            pending(Effect::MaybeDup)
        }
        (SendClass::C, _) => Step { to: OutState::Failed, effect: Effect::None },
    }
}

#[cfg(test)]
mod tests;
