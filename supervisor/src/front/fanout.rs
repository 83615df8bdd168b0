//! From core's events to many sockets: rendered once per protocol, filtered by scope and audience, queued
//! per socket. Nothing is kept for later: a new connection gets a snapshot with its hello.

use super::caller::Caller;
use super::carry::lot::{Lot, Stage};
use super::frame::StateVersion;
use super::limits::FANOUT_QUEUE_MAX;
use super::outq::{Budget, CloseWith, Encoded, OutQueue};
use super::presence::Presence;
use super::render::{Audience, Rendered, Renderer};
use super::scope;
use crate::events::{ChatState, GatewayEvent, RunData};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::mpsc;

/// Runs, sessions and keys that one connection may follow.
const FOLLOWED_MAX: usize = 512;

/// A connection that said hello.
pub struct Conn {
    /// Who it is and what it may do.
    pub caller: Arc<Caller>,
    /// What waits to be written to it.
    pub out: Arc<OutQueue>,
    follows: Mutex<Follows>,
}

/// What a connection follows. Carried over an in-place restart: fields are only added.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Follows {
    /// `sessions.subscribe`.
    sessions: bool,
    /// `sessions.messages.subscribe`.
    messages: HashSet<String>,
    /// Runs that it started.
    runs: HashSet<String>,
    /// Sessions in which it started a run.
    run_sessions: HashSet<String>,
}

impl Conn {
    fn with<T>(&self, act: impl FnOnce(&mut Follows) -> T) -> T {
        act(&mut self.follows.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it follows now.
    pub fn follows(&self) -> Follows {
        self.with(|follows| follows.clone())
    }

    fn wants(&self, event: &Rendered) -> bool {
        if let Some(needed) = event.scope
            && !scope::covers(&self.caller.scopes, needed)
        {
            return false;
        }
        match &event.audience {
            Audience::All => true,
            Audience::Participants { run_id, session_key } => {
                self.caller.has_cap("tool-events")
                    && self.with(|f| f.runs.contains(&**run_id) || f.run_sessions.contains(&**session_key))
            }
            Audience::SessionSubscribers => self.with(|f| f.sessions),
            Audience::MessageSubscribers(key) => self.with(|f| f.messages.contains(key)),
        }
    }
}

/// Handle of the fanout. Cheap to clone.
#[derive(Clone)]
pub struct Fanout(Arc<Inner>);

/// What waits to be worked off, in order.
pub enum Item {
    /// Tell the clients.
    Event(GatewayEvent),
    /// Close every socket after what was told before.
    CloseAll(CloseWith),
}

struct Inner {
    events: mpsc::Sender<Item>,
    conns: RwLock<HashMap<String, Arc<Conn>>>,
    budget: Arc<Budget>,
    presence: Presence,
    health_version: AtomicU64,
    /// An event that must not be lost did not fit: every client has to start afresh.
    overrun: AtomicBool,
}

impl Fanout {
    /// The handle, and the end that [`run`] works off.
    pub fn new(presence: Presence) -> (Self, mpsc::Receiver<Item>) {
        let (events, source) = mpsc::channel(FANOUT_QUEUE_MAX);
        let inner = Inner {
            events,
            conns: RwLock::default(),
            budget: Arc::default(),
            presence,
            health_version: AtomicU64::new(1),
            overrun: AtomicBool::new(false),
        };
        (Self(Arc::new(inner)), source)
    }

    /// Tell the clients. Never blocks: from a half-full queue on, events that a client can do without
    /// are left out; when even the rest has no room, all clients are closed and start from a snapshot.
    pub fn emit(&self, event: GatewayEvent) {
        let crowded = self.0.events.capacity() < FANOUT_QUEUE_MAX / 2;
        if crowded && can_do_without(&event) {
            return;
        }
        if self.0.events.try_send(Item::Event(event)).is_err() {
            self.0.overrun.store(true, Ordering::Relaxed);
        }
    }

    /// The list of who is here.
    pub fn presence(&self) -> &Presence {
        &self.0.presence
    }

    /// The budget that new queues share.
    pub fn budget(&self) -> Arc<Budget> {
        self.0.budget.clone()
    }

    /// Versions of the two lists that clients cache.
    pub fn versions(&self) -> StateVersion {
        StateVersion { presence: self.0.presence.version(), health: self.health_version() }
    }

    /// Version of the health snapshot.
    pub fn health_version(&self) -> u64 {
        self.0.health_version.load(Ordering::Relaxed)
    }

    /// Go on counting where an earlier image of this process stopped.
    pub fn resume_health_version(&self, version: u64) {
        self.0.health_version.fetch_max(version, Ordering::Relaxed);
    }

    /// Add a connection that said hello.
    pub fn join(&self, caller: Arc<Caller>, out: Arc<OutQueue>) -> Arc<Conn> {
        self.rejoin(caller, out, Follows::default())
    }

    /// Add a connection that an earlier image of this process has served.
    pub fn rejoin(&self, caller: Arc<Caller>, out: Arc<OutQueue>, follows: Follows) -> Arc<Conn> {
        let conn = Arc::new(Conn { caller, out, follows: Mutex::new(follows) });
        self.conns_mut(|conns| conns.insert(conn.caller.conn_id.clone(), conn.clone()));
        conn
    }

    /// Remove a connection.
    pub fn leave(&self, conn_id: &str) {
        self.conns_mut(|conns| conns.remove(conn_id));
    }

    /// Connections that said hello.
    pub fn count(&self) -> usize {
        self.conns(HashMap::len)
    }

    /// Whether a device is connected.
    pub fn device_connected(&self, device_id: &str) -> bool {
        self.conns(|conns| conns.values().any(|c| c.caller.device_id.as_deref() == Some(device_id)))
    }

    /// This connection follows a run it started: tool events go to it if it can show them.
    pub fn follow_run(&self, conn_id: &str, run_id: &str, session_key: &str) {
        self.follow(conn_id, |f| {
            bounded_insert(&mut f.runs, run_id);
            bounded_insert(&mut f.run_sessions, session_key);
        });
    }

    /// `sessions.subscribe`, `sessions.unsubscribe`.
    pub fn follow_sessions(&self, conn_id: &str, on: bool) {
        self.follow(conn_id, |f| f.sessions = on);
    }

    /// `sessions.messages.subscribe`, `sessions.messages.unsubscribe`.
    pub fn follow_messages(&self, conn_id: &str, session_key: &str, on: bool) {
        self.follow(conn_id, |f| {
            if on {
                bounded_insert(&mut f.messages, session_key);
            } else {
                f.messages.remove(session_key);
            }
        });
    }

    /// Close all connections once they were told everything so far, e.g. 1012 `service restart`.
    pub fn close_all(&self, with: CloseWith) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.0.events.try_send(Item::CloseAll(with.clone()))
        {
            self.close_where(&with, |_| true);
        }
    }

    /// Close the connections of which `which` holds.
    pub fn close_where(&self, with: &CloseWith, which: impl Fn(&Caller) -> bool) {
        self.conns(|conns| {
            conns.values().filter(|c| which(&c.caller)).for_each(|c| c.out.cut(with.clone()));
        });
    }

    fn follow(&self, conn_id: &str, act: impl FnOnce(&mut Follows)) {
        if let Some(conn) = self.conns(|conns| conns.get(conn_id).cloned()) {
            conn.with(act);
        }
    }

    fn conns<T>(&self, look: impl FnOnce(&HashMap<String, Arc<Conn>>) -> T) -> T {
        look(&self.0.conns.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn conns_mut<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Conn>>) -> T) -> T {
        act(&mut self.0.conns.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tell all that waits, and what the throttle of protocol 3 holds back.
    pub fn finish(&self, renderer: &mut Renderer, source: &mut mpsc::Receiver<Item>) {
        while let Ok(item) = source.try_recv() {
            self.work_off(renderer, Some(item));
        }
        for event in &renderer.due(u64::MAX) {
            self.deliver(event);
        }
    }

    fn work_off(&self, renderer: &mut Renderer, item: Option<Item>) {
        let now = now_ms();
        let mut rendered = renderer.due(now);
        match item {
            Some(Item::Event(event)) => {
                if matches!(event, GatewayEvent::Health(_)) {
                    self.0.health_version.fetch_add(1, Ordering::Relaxed);
                }
                let presence = || self.0.presence.list(i64::try_from(now).unwrap_or(i64::MAX));
                rendered.extend(renderer.render(event, now, presence));
            }
            Some(Item::CloseAll(with)) => {
                self.conns(|conns| conns.values().for_each(|c| c.out.close(with.clone())));
            }
            None => {}
        }
        for event in &rendered {
            self.deliver(event);
        }
    }

    fn deliver(&self, event: &Rendered) {
        let version = event.versioned.then(|| self.versions());
        let encode = |payload: &Option<Value>| {
            payload.as_ref().map(|p| {
                let payload = Bytes::from(p.to_string());
                Arc::new(Encoded { name: event.name, payload, version, droppable: event.droppable })
            })
        };
        let (mut v3, mut v4) = (None, None);
        self.conns(|conns| {
            for conn in conns.values().filter(|c| c.wants(event)) {
                let (cell, payload) =
                    if conn.caller.protocol < 4 { (&mut v3, &event.v3) } else { (&mut v4, &event.v4) };
                if let Some(encoded) = cell.get_or_insert_with(|| encode(payload)) {
                    conn.out.push_event(encoded);
                }
            }
        });
        self.relieve();
    }

    /// While all queues together are too large, close the largest.
    pub fn relieve(&self) {
        while self.0.budget.exceeded() {
            let largest = self.conns(|conns| {
                conns.values().max_by_key(|c| c.out.bytes()).filter(|c| c.out.bytes() > 0).cloned()
            });
            match largest {
                Some(conn) => conn.out.cut(CloseWith::new(1008, "slow consumer")),
                None => return,
            }
        }
    }
}

fn bounded_insert(set: &mut HashSet<String>, item: &str) {
    if set.len() >= FOLLOWED_MAX && !set.contains(item) {
        set.clear();
    }
    set.insert(item.to_owned());
}

fn can_do_without(event: &GatewayEvent) -> bool {
    match event {
        GatewayEvent::Run(run) => matches!(run.data, RunData::Assistant { .. } | RunData::Thinking { .. }),
        GatewayEvent::Chat(chat) => matches!(chat.state, ChatState::Delta { .. }),
        GatewayEvent::Presence | GatewayEvent::Health(_) => true,
        _ => false,
    }
}

/// Work off the events until the last handle is gone or the front freezes; gives both ends back.
pub async fn run(
    fanout: Fanout,
    mut source: mpsc::Receiver<Item>,
    mut renderer: Renderer,
    lot: Lot,
) -> (mpsc::Receiver<Item>, Renderer) {
    let mut freezing = std::pin::pin!(lot.reached(Stage::Freezing));
    loop {
        let wait = renderer.next_due_ms().map(|due| due.saturating_sub(now_ms()));
        let item = tokio::select! {
            item = source.recv() => match item {
                Some(item) => Some(item),
                None => return (source, renderer),
            },
            stage = &mut freezing, if lot.stage() < Stage::Stopping => {
                if stage < Stage::Stopping {
                    fanout.finish(&mut renderer, &mut source);
                    return (source, renderer);
                }
                None
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(wait.unwrap_or(0))), if wait.is_some() => None,
        };
        if fanout.0.overrun.swap(false, Ordering::Relaxed) {
            tracing::warn!("events for clients piled up; all clients are closed and start from a snapshot");
            fanout.close_where(&CloseWith::new(1008, "slow consumer"), |_| true);
        }
        fanout.work_off(&mut renderer, item);
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
