//! What waits to be written to one socket: bounded by count and bytes, and by a budget over all sockets.
//!
//! Events are skipped before a socket is given up: first droppable ones, then the socket itself
//! (1008 `slow consumer`). A skipped event uses up its `seq`, so the client sees the gap.

use super::frame::{self, StateVersion};
use super::limits::{
    OUT_BYTES_GLOBAL_MAX, OUT_QUEUE_BYTES_MAX, OUT_QUEUE_BYTES_SOFT, OUT_QUEUE_ITEMS_MAX,
    OUT_QUEUE_ITEMS_SOFT,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// An event, encoded once for all sockets of one protocol.
#[derive(Debug)]
pub struct Encoded {
    /// Event name.
    pub name: &'static str,
    /// JSON text of the payload.
    pub payload: Bytes,
    /// `stateVersion`, for events that carry it.
    pub version: Option<StateVersion>,
    /// The event may be left out for a slow reader.
    pub droppable: bool,
}

/// One thing to write.
#[derive(Debug, Clone)]
pub enum Out {
    /// A response, complete.
    Text(Bytes),
    /// An event; head and tail are added at writing.
    Event(Arc<Encoded>, u64),
    /// Close and stop.
    Close(CloseWith),
}

impl Out {
    /// The text of a message; `None` for a close.
    pub fn into_text(self) -> Option<Bytes> {
        match self {
            Self::Text(text) => Some(text),
            Self::Event(event, seq) => {
                Some(frame::write_event(event.name, &event.payload, Some(seq), event.version).into())
            }
            Self::Close(_) => None,
        }
    }
}

/// A close code and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseWith {
    /// RFC 6455 7.4, or 4000..4999.
    pub code: u16,
    /// For people; cut to what fits.
    pub reason: String,
}

impl CloseWith {
    /// Code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// Bytes waiting in all queues together.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// Whether some queue has to go.
    pub fn exceeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) > OUT_BYTES_GLOBAL_MAX
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be written.
    Queued,
    /// Left out: the reader is slow and the event is droppable.
    Skipped,
    /// The socket is being closed.
    Closed,
}

/// The queue of one socket.
#[derive(Debug)]
pub struct OutQueue {
    state: Mutex<State>,
    wake: Notify,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Out>,
    bytes: usize,
    /// `seq` of the last event.
    seq: u64,
    /// Nothing more is taken.
    closing: bool,
}

impl OutQueue {
    /// An empty queue.
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { state: Mutex::new(State::default()), wake: Notify::new(), budget }
    }

    /// A queue that goes on where one of an earlier image of this process stopped: `seq` of the last event, and
    /// the messages that waited.
    pub fn resumed(budget: Arc<Budget>, seq: u64, waiting: Vec<Vec<u8>>) -> Self {
        let queue = Self::new(budget);
        queue.with(|s| {
            s.seq = seq;
            for text in waiting {
                let text = Out::Text(text.into());
                s.bytes += size_of_out(&text);
                s.items.push_back(text);
            }
            queue.budget.0.fetch_add(s.bytes, Ordering::Relaxed);
        });
        queue
    }

    /// All that waits, as it would be written, and `seq` of the last event. Nothing more is taken.
    pub fn take_all(&self) -> (Vec<Vec<u8>>, u64) {
        self.with(|s| {
            self.budget.0.fetch_sub(s.bytes, Ordering::Relaxed);
            s.bytes = 0;
            s.closing = true;
            (s.items.drain(..).filter_map(|item| item.into_text()).map(Vec::from).collect(), s.seq)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queue an event under the next `seq`.
    pub fn push_event(&self, event: &Arc<Encoded>) -> Pushed {
        let pushed = self.with(|s| {
            if s.closing {
                return Pushed::Closed;
            }
            s.seq += 1;
            let full = s.bytes > OUT_QUEUE_BYTES_SOFT || s.items.len() >= OUT_QUEUE_ITEMS_SOFT;
            if full && event.droppable {
                return Pushed::Skipped;
            }
            let seq = s.seq;
            self.take(s, Out::Event(event.clone(), seq))
        });
        self.wake.notify_one();
        pushed
    }

    /// Queue a response.
    pub fn push_text(&self, text: impl Into<Bytes>) -> Pushed {
        let text = text.into();
        let pushed = self.with(|s| if s.closing { Pushed::Closed } else { self.take(s, Out::Text(text)) });
        self.wake.notify_one();
        pushed
    }

    /// Close after what is queued has been written.
    pub fn close(&self, with: CloseWith) {
        self.with(|s| {
            if !s.closing {
                s.closing = true;
                s.items.push_back(Out::Close(with));
            }
        });
        self.wake.notify_one();
    }

    /// Throw away what is queued and close.
    pub fn cut(&self, with: CloseWith) {
        self.with(|s| self.cut_state(s, with));
        self.wake.notify_one();
    }

    /// The next thing to write; `None` after the close.
    pub async fn pop(&self) -> Option<Out> {
        loop {
            let wake = self.wake.notified();
            let (item, done) = self.with(|s| {
                let item = s.items.pop_front();
                let size = item.as_ref().map_or(0, size_of_out);
                s.bytes = s.bytes.saturating_sub(size);
                self.budget.0.fetch_sub(size, Ordering::Relaxed);
                (item, s.closing)
            });
            match item {
                Some(item) => return Some(item),
                None if done => return None,
                None => wake.await,
            }
        }
    }

    /// Whether the socket is about to be closed.
    pub fn is_closing(&self) -> bool {
        self.with(|s| s.closing)
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.with(|s| s.bytes)
    }

    fn take(&self, s: &mut State, item: Out) -> Pushed {
        let size = size_of_out(&item);
        // One message alone may be larger than the limit; a queue on top of it may not.
        let too_much = !s.items.is_empty() && s.bytes.saturating_add(size) > OUT_QUEUE_BYTES_MAX;
        if too_much || s.items.len() >= OUT_QUEUE_ITEMS_MAX {
            self.cut_state(s, CloseWith::new(1008, "slow consumer"));
            return Pushed::Closed;
        }
        s.bytes += size;
        self.budget.0.fetch_add(size, Ordering::Relaxed);
        s.items.push_back(item);
        Pushed::Queued
    }

    fn cut_state(&self, s: &mut State, with: CloseWith) {
        self.budget.0.fetch_sub(s.bytes, Ordering::Relaxed);
        s.items.clear();
        s.bytes = 0;
        s.closing = true;
        s.items.push_back(Out::Close(with));
    }
}

impl Drop for OutQueue {
    fn drop(&mut self) {
        let bytes = self.with(|s| s.bytes);
        self.budget.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn size_of_out(item: &Out) -> usize {
    match item {
        Out::Text(text) => text.len(),
        Out::Event(event, _) => event.payload.len(),
        Out::Close(_) => 0,
    }
}

#[cfg(test)]
mod tests;
