//! What happens to a message while its session is busy (PURE): the queue of one session.
//!
//! ```text
//! arrive ─┬─ idle, nothing waits ──────────────> run
//!         ├─ steer, the model is speaking ─────> into the live run
//!         ├─ interrupt ─> abort the run, then this one
//!         └─ wait ─ full? drop by policy ─ quiet for `debounce` ─> take ─> turn ─> settle
//! ```
//!
//! Not here: when the active run ends, what a turn does, whether anything is durable. The caller tells the time, commits
//! what it takes (and what is dropped) to the journal, and settles each turn it took.

pub mod settings;
mod text;

use std::collections::VecDeque;

use proto::view::{DropPolicy, QueueMode};

pub use settings::Settings;
pub use text::{merged_prompt, overflow_summary};

/// Where a message came from and its answer goes. Turns never mix destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Route {
    pub channel: String,
    pub to: String,
    pub account: String,
    pub thread: String,
}

impl Route {
    /// Came from inside: goes with whatever it is merged with.
    fn neutral(&self) -> bool {
        self.channel.is_empty() && self.to.is_empty() && self.account.is_empty() && self.thread.is_empty()
    }

    fn routable(&self) -> bool {
        !self.channel.is_empty() && !self.to.is_empty()
    }
}

/// One waiting message. `payload` is whatever the caller needs to make a run input of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<P> {
    /// The journal's number of the message; the order of acceptance.
    pub seq: i64,
    pub text: String,
    /// The network's id, by which a repetition is told.
    pub message_id: Option<String>,
    pub route: Route,
    pub payload: P,
}

/// What the session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    Idle,
    /// A run is active and can take input.
    Streaming,
    /// A run is active and cannot (waiting for a lane, compacting, ending).
    Busy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Message,
    /// A heartbeat is worth nothing once the session is busy anyway.
    Heartbeat,
}

/// What to do with the message that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<P> {
    Run(Item<P>),
    /// Hand it to the live run. If that refuses, give it back by [`Queue::steer_refused`] (unless `also_queued`).
    Steer {
        item: Item<P>,
        also_queued: bool,
    },
    /// Abort the active run; the message is first in the queue and ready at once.
    Interrupt,
    Queued,
    /// Already waiting or running: forget it.
    Duplicate(Item<P>),
    /// The queue is full and keeps what it has.
    Rejected(Item<P>),
    DroppedHeartbeat(Item<P>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival<P> {
    pub action: Action<P>,
    /// Waiting messages that had to make room: suppress them in the journal.
    pub dropped: Vec<Item<P>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnKind {
    /// One message as it is.
    Single,
    /// Several under one heading ([`merged_prompt`]).
    Merged,
    /// Only the summary of what was dropped.
    Summary,
}

/// The next turn. Run settings come from the last item, the destination from the first item that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<P> {
    pub kind: TurnKind,
    pub prompt: String,
    /// What had to be dropped, when something had; part of `prompt` too.
    pub summary: Option<String>,
    pub route: Route,
    pub items: Vec<Item<P>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next<P> {
    Empty,
    /// More may come: ask again at this time (milliseconds, the caller's clock).
    Wait {
        until_ms: u64,
    },
    Turn(Turn<P>),
    /// A turn that was taken has not been settled.
    Unsettled,
}

/// What is in the turn that was taken.
#[derive(Debug, Clone)]
struct InFlight<P> {
    items: Vec<Item<P>>,
    overflow: Overflow,
    urgent: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Overflow {
    dropped: u32,
    lines: VecDeque<String>,
}

/// The waiting messages of one session.
#[derive(Debug, Clone)]
pub struct Queue<P> {
    settings: Settings,
    items: VecDeque<Item<P>>,
    /// The first item is to run alone and at once (mode interrupt).
    urgent: bool,
    in_flight: Option<InFlight<P>>,
    overflow: Overflow,
    last_enqueue_ms: u64,
    /// Destinations were mixed: one by one until the queue is empty.
    one_by_one: bool,
    last_route: Route,
}

impl<P> Default for Queue<P> {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            items: VecDeque::new(),
            urgent: false,
            in_flight: None,
            overflow: Overflow::default(),
            last_enqueue_ms: 0,
            one_by_one: false,
            last_route: Route::default(),
        }
    }
}

impl<P: Clone> Queue<P> {
    /// Messages that wait; the turn that was taken is not counted.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.overflow.dropped == 0
    }

    /// Everything that waits, in order, for `status` and for clearing.
    pub fn items(&self) -> impl Iterator<Item = &Item<P>> {
        self.items.iter()
    }

    /// A message arrives. `settings` are those that hold for it; they then hold for the queue.
    pub fn arrive(
        &mut self,
        item: Item<P>,
        kind: Kind,
        activity: Activity,
        settings: Settings,
        now_ms: u64,
    ) -> Arrival<P> {
        let only = |action| Arrival { action, dropped: Vec::new() };
        let busy = activity != Activity::Idle || self.in_flight.is_some();
        if kind == Kind::Heartbeat && (busy || !self.items.is_empty()) {
            return only(Action::DroppedHeartbeat(item));
        }
        if self.knows(&item) {
            return only(Action::Duplicate(item));
        }
        // Idle with messages waiting out their quiet time: this one goes behind them, order is order.
        if !busy && self.is_empty() {
            return only(Action::Run(item));
        }
        self.settings = settings;
        match (settings.mode, activity) {
            (QueueMode::Steer, Activity::Streaming) => only(Action::Steer { item, also_queued: false }),
            (QueueMode::SteerBacklog, Activity::Streaming) => {
                let mut arrival = self.enqueue(item.clone(), now_ms);
                if matches!(arrival.action, Action::Queued) {
                    arrival.action = Action::Steer { item, also_queued: true };
                }
                arrival
            }
            (QueueMode::Interrupt, _) if busy => {
                self.items.push_front(item);
                self.urgent = true;
                only(Action::Interrupt)
            }
            _ => self.enqueue(item, now_ms),
        }
    }

    /// The live run did not take it: it waits like any other.
    pub fn steer_refused(&mut self, item: Item<P>, now_ms: u64) -> Arrival<P> {
        self.enqueue(item, now_ms)
    }

    /// Puts back what the journal still holds as queued after a restart: no dedupe, no cap, no waiting.
    pub fn restore(&mut self, item: Item<P>, settings: Settings) {
        self.settings = settings;
        self.items.push_back(item);
    }

    fn knows(&self, item: &Item<P>) -> bool {
        let Some(id) = &item.message_id else { return false };
        let running = self.in_flight.iter().flat_map(|turn| &turn.items);
        self.items
            .iter()
            .chain(running)
            .any(|known| known.message_id.as_ref() == Some(id) && known.route == item.route)
    }

    fn enqueue(&mut self, item: Item<P>, now_ms: u64) -> Arrival<P> {
        let cap = self.settings.cap.max(1);
        let mut dropped = Vec::new();
        if self.items.len() >= cap {
            if self.settings.drop == DropPolicy::New {
                return Arrival { action: Action::Rejected(item), dropped };
            }
            // A message that interrupted is what the run was ended for: it stays, the oldest behind it goes.
            let oldest = usize::from(self.urgent);
            while self.items.len() >= cap
                && let Some(old) = self.items.remove(oldest)
            {
                dropped.push(old);
            }
            if self.settings.drop == DropPolicy::Summarize {
                self.overflow.note(&dropped, cap);
            }
        }
        self.last_route = item.route.clone();
        self.items.push_back(item);
        self.last_enqueue_ms = now_ms;
        Arrival { action: Action::Queued, dropped }
    }

    /// The next turn, once nothing is active. What it holds stays the queue's until [`Queue::settle`].
    pub fn take(&mut self, now_ms: u64) -> Next<P> {
        if self.in_flight.is_some() {
            return Next::Unsettled;
        }
        if self.is_empty() {
            self.one_by_one = false;
            return Next::Empty;
        }
        if self.urgent {
            return self.single(true);
        }
        let ready = self.last_enqueue_ms.saturating_add(self.settings.debounce_ms);
        if now_ms < ready {
            return Next::Wait { until_ms: ready };
        }
        self.one_by_one |= self.mixed();
        if self.settings.mode == QueueMode::Collect && !self.one_by_one && !self.items.is_empty() {
            return self.merged();
        }
        if self.overflow.dropped > 0 {
            return self.summary();
        }
        self.single(false)
    }

    /// Several destinations, or one that has no address.
    fn mixed(&self) -> bool {
        let mut routes = self.items.iter().map(|item| &item.route).filter(|route| !route.neutral());
        let Some(first) = routes.next() else { return false };
        !first.routable() || routes.any(|route| route != first)
    }

    fn single(&mut self, urgent: bool) -> Next<P> {
        self.urgent = false;
        let Some(item) = self.items.pop_front() else { return Next::Empty };
        let turn = Turn {
            kind: TurnKind::Single,
            prompt: item.text.clone(),
            summary: None,
            route: item.route.clone(),
            items: vec![item.clone()],
        };
        self.in_flight = Some(InFlight { items: vec![item], overflow: Overflow::default(), urgent });
        Next::Turn(turn)
    }

    fn merged(&mut self) -> Next<P> {
        let items: Vec<Item<P>> = self.items.drain(..).collect();
        let overflow = std::mem::take(&mut self.overflow);
        let summary = overflow_summary(overflow.dropped, overflow.lines.iter().map(String::as_str));
        let prompt = merged_prompt(summary.as_deref(), items.iter().map(|item| item.text.as_str()));
        let route =
            items.iter().map(|item| &item.route).find(|route| !route.neutral()).cloned().unwrap_or_default();
        self.in_flight = Some(InFlight { items: items.clone(), overflow, urgent: false });
        Next::Turn(Turn { kind: TurnKind::Merged, prompt, summary, route, items })
    }

    fn summary(&mut self) -> Next<P> {
        let overflow = std::mem::take(&mut self.overflow);
        let prompt =
            overflow_summary(overflow.dropped, overflow.lines.iter().map(String::as_str)).unwrap_or_default();
        let route = self.items.front().map_or_else(|| self.last_route.clone(), |item| item.route.clone());
        self.in_flight = Some(InFlight { items: Vec::new(), overflow, urgent: false });
        let summary = Some(prompt.clone());
        Next::Turn(Turn { kind: TurnKind::Summary, prompt, summary, route, items: Vec::new() })
    }

    /// The turn that was taken is over: `true` = it ran, `false` = it did not, so everything goes back to its place and
    /// the quiet time starts again.
    pub fn settle(&mut self, ran: bool, now_ms: u64) {
        let Some(turn) = self.in_flight.take() else { return };
        if ran {
            return;
        }
        // What interrupted meanwhile stays first.
        let behind = usize::from(self.urgent);
        for (n, item) in turn.items.into_iter().enumerate() {
            self.items.insert((behind + n).min(self.items.len()), item);
        }
        self.urgent |= turn.urgent;
        self.overflow.put_back(turn.overflow);
        self.last_enqueue_ms = now_ms;
    }

    /// Takes single messages out (the sender withdrew them); what was summarised stays summarised.
    pub fn remove(&mut self, wanted: impl Fn(&Item<P>) -> bool) -> Vec<Item<P>> {
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.items).into_iter().partition(wanted);
        self.items = kept.into();
        self.urgent &= !self.items.is_empty();
        gone
    }

    /// Forgets everything that waits (reset, delete, abort); gives what was forgotten.
    pub fn clear(&mut self) -> Vec<Item<P>> {
        self.overflow = Overflow::default();
        self.urgent = false;
        self.one_by_one = false;
        self.items.drain(..).collect()
    }
}

impl Overflow {
    fn note<P>(&mut self, dropped: &[Item<P>], lines_max: usize) {
        for item in dropped {
            self.dropped = self.dropped.saturating_add(1);
            self.lines.push_back(text::summary_line(&item.text));
        }
        while self.lines.len() > lines_max {
            self.lines.pop_front();
        }
    }

    fn put_back(&mut self, earlier: Overflow) {
        self.dropped = self.dropped.saturating_add(earlier.dropped);
        for line in earlier.lines.into_iter().rev() {
            self.lines.push_front(line);
        }
    }
}

#[cfg(test)]
mod tests;
