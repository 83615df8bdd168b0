//! Messages that may be merged with their successor while they wait: streamed text, drafts, typing.

use super::agent::{AgentToSup, SupToAgent};
use super::channel::SupToChannel;
use super::state::Outgoing;
use super::{Class, Wire};
use std::any::Any;

/// A message that can take its successor in.
pub trait Lossy: Wire {
    /// Messages with the same key are merged; `None` for a message of another class.
    fn key(&self) -> Option<Vec<u8>>;
    /// Takes in a newer message with the same key.
    fn absorb(&mut self, newer: Self);
    /// About how many bytes the payload has.
    fn weight(&self) -> usize;
}

/// Object-safe face of [`Lossy`], for queues that hold several kinds.
pub(crate) trait Slot: Send {
    /// Merges `newer`; gives it back when it is of another type.
    fn absorb(&mut self, newer: Box<dyn Slot>) -> Option<Box<dyn Slot>>;
    fn weight(&self) -> usize;
    fn outgoing(&self) -> Outgoing;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    fn is_like(&self, other: &dyn Slot) -> bool;
    fn type_key(&self) -> std::any::TypeId;
}

pub(super) struct SlotOf<M>(pub M);

impl<M: Lossy> Slot for SlotOf<M> {
    fn absorb(&mut self, newer: Box<dyn Slot>) -> Option<Box<dyn Slot>> {
        if !self.is_like(newer.as_ref()) {
            return Some(newer);
        }
        if let Ok(newer) = newer.into_any().downcast::<Self>() {
            self.0.absorb(newer.0);
        }
        None
    }

    fn weight(&self) -> usize {
        self.0.weight()
    }

    fn outgoing(&self) -> Outgoing {
        Outgoing::of(&self.0)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn is_like(&self, other: &dyn Slot) -> bool {
        self.type_key() == other.type_key()
    }

    fn type_key(&self) -> std::any::TypeId {
        std::any::TypeId::of::<Self>()
    }
}

impl Lossy for AgentToSup {
    fn key(&self) -> Option<Vec<u8>> {
        let Self::Delta(delta) = self else { return None };
        let mut key = delta.run_id.0.to_vec();
        key.extend_from_slice(&delta.attempt.to_le_bytes());
        key.extend_from_slice(&delta.message.to_le_bytes());
        key.push(delta.kind as u8);
        Some(key)
    }

    fn absorb(&mut self, newer: Self) {
        if let (Self::Delta(held), Self::Delta(newer)) = (self, newer) {
            held.text.push_str(&newer.text);
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Delta(delta) => delta.text.len() + 128,
            _ => 0,
        }
    }
}

/// Nothing that an agent is told may be lost.
impl Lossy for SupToAgent {
    fn key(&self) -> Option<Vec<u8>> {
        None
    }

    fn absorb(&mut self, _newer: Self) {}

    fn weight(&self) -> usize {
        0
    }
}

/// Only the newest draft of a row and the newest typing state of a chat count.
impl Lossy for SupToChannel {
    fn key(&self) -> Option<Vec<u8>> {
        match self {
            Self::DraftUpdate(draft) => Some([b"d", &draft.out_id.0[..]].concat()),
            Self::Typing(typing) => Some(
                format!("t{}\u{0}{}", typing.chat, typing.thread.as_deref().unwrap_or_default()).into_bytes(),
            ),
            other => {
                debug_assert_ne!(other.class(), Class::Lossy, "a lossy message needs a key");
                None
            }
        }
    }

    fn absorb(&mut self, newer: Self) {
        *self = newer;
    }

    fn weight(&self) -> usize {
        match self {
            Self::DraftUpdate(draft) => draft.text.len() + 128,
            _ => 256,
        }
    }
}
