//! What all runs of this agent share: configuration, sessions, tools, and the way to the supervisor.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use proto::wire::agent::{AgentToSup, AskGateway, SessionChanged, SessionRow};
use serde_json::Value;

use crate::session::reset;
use crate::session::sessions::{SessionError, Sessions};
use crate::session::store::SessionEntry;
use crate::setup::Setup;
use crate::tool::BoxFuture;
use crate::tool::registry::Registry;
use crate::tool::running::Table;
use crate::turn::control::Stopper;
use crate::turn::source::ModelSource;
use tokio::sync::Notify;

/// Where events and results go. The worker's is the link; tests have a queue.
pub trait Upstream: Send + Sync {
    /// Waits for room.
    fn send(&self, message: AgentToSup) -> BoxFuture<'_, ()>;
    /// Never waits: pieces of streamed text are merged while there is no room.
    fn send_lossy(&self, message: AgentToSup);
    /// Something moved forward.
    fn progressed(&self);
    /// Asks the supervisor for something on behalf of a run; the error is a text for the model.
    fn ask(&self, call: AskGateway, deadline_ms: u64) -> BoxFuture<'_, Result<Value, String>>;
}

/// One configuration with what it selects.
#[derive(Clone)]
pub struct Active {
    pub setup: Arc<Setup>,
    pub models: Arc<dyn ModelSource>,
}

/// See the module head.
pub struct Agent {
    pub sessions: Sessions,
    pub registry: Registry,
    pub up: Arc<dyn Upstream>,
    active: RwLock<Active>,
    runs: Mutex<HashMap<String, Busy>>,
    left: Notify,
    /// Lines for the next turn of a session: background commands that ended.
    notices: Mutex<HashMap<String, Vec<String>>>,
    pub commands: Arc<Table>,
}

/// What a session is busy with.
#[derive(Clone)]
struct Busy {
    stopper: Stopper,
    /// No run, but a summary after one.
    upkeep: bool,
}

/// Lines that wait for one session; older ones go first.
const NOTICES_MAX: usize = 20;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The parts that an agent is made of.
pub struct Parts {
    pub active: Active,
    pub sessions: Sessions,
    pub registry: Registry,
    pub up: Arc<dyn Upstream>,
    pub commands: Arc<Table>,
}

impl Agent {
    pub fn new(parts: Parts) -> Self {
        Self {
            sessions: parts.sessions,
            registry: parts.registry,
            up: parts.up,
            active: RwLock::new(parts.active),
            runs: Mutex::default(),
            left: Notify::new(),
            notices: Mutex::default(),
            commands: parts.commands,
        }
    }

    /// Keeps a line for the next turn of a session.
    pub fn notice(&self, session_key: &str, text: String) {
        let mut notices = locked(&self.notices);
        let lines = notices.entry(session_key.to_owned()).or_default();
        lines.push(text);
        if lines.len() > NOTICES_MAX {
            lines.remove(0);
        }
    }

    pub fn take_notices(&self, session_key: &str) -> Vec<String> {
        locked(&self.notices).remove(session_key).unwrap_or_default()
    }

    /// The configuration as it is now; a run keeps what it took.
    pub fn active(&self) -> Active {
        self.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn configure(&self, active: Active) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = active;
    }

    /// Notes that a session is in a run; false when it already is. One run per session is the supervisor's rule; this
    /// keeps a second one from ever writing the same transcript. A summary that is being made is waited for; a stop of
    /// the run stops it.
    pub async fn enter_run(&self, session_key: &str, stopper: Stopper) -> bool {
        loop {
            let left = self.left.notified();
            let mut left = std::pin::pin!(left);
            // Registered before the look: an end in between is not missed.
            left.as_mut().enable();
            match self.enter(session_key, Busy { stopper: stopper.clone(), upkeep: false }) {
                None => return true,
                Some(Busy { upkeep: false, .. }) => return false,
                Some(busy) => tokio::select! {
                    () = &mut left => {}
                    () = stopper.stopped() => {
                        busy.stopper.stop("abort");
                        left.await;
                    }
                },
            }
        }
    }

    /// The same for a summary after a run; false when something else has begun.
    pub fn enter_upkeep(&self, session_key: &str, stopper: Stopper) -> bool {
        self.enter(session_key, Busy { stopper, upkeep: true }).is_none()
    }

    /// What the session is busy with, if it is.
    fn enter(&self, session_key: &str, busy: Busy) -> Option<Busy> {
        match locked(&self.runs).entry(session_key.to_owned()) {
            Entry::Occupied(held) => Some(held.get().clone()),
            Entry::Vacant(free) => {
                free.insert(busy);
                None
            }
        }
    }

    pub fn leave(&self, session_key: &str) {
        locked(&self.runs).remove(session_key);
        self.left.notify_waiters();
    }

    /// Stops the run of a session and waits for its end; false when it does not end in time.
    pub async fn stop_run(&self, session_key: &str, why: &str, limit: Duration) -> bool {
        let wait = async {
            loop {
                let left = self.left.notified();
                let Some(busy) = locked(&self.runs).get(session_key).cloned() else { return };
                busy.stopper.stop(why);
                left.await;
            }
        };
        tokio::time::timeout(limit, wait).await.is_ok()
    }

    /// Tells the supervisor that an entry of `sessions.json` changed.
    pub async fn session_changed(&self, row: SessionRow, reason: &str) {
        self.up.send(AgentToSup::SessionChanged(SessionChanged { row, reason: reason.to_owned() })).await;
    }
}

/// The index row of an entry.
pub fn row(agent_id: &str, key: &str, entry: &SessionEntry) -> SessionRow {
    // Large, and nothing that a list of sessions shows.
    let mut shown = entry.0.clone();
    shown.shift_remove("systemPromptReport");
    shown.shift_remove("skillsSnapshot");
    SessionRow {
        key: key.to_owned(),
        agent_id: agent_id.to_owned(),
        session_id: entry.session_id().unwrap_or_default().to_owned(),
        updated_ms: entry.updated_at(),
        entry_json: serde_json::Value::Object(shown).to_string(),
        deleted: false,
        title: entry.str("derivedTitle").map(str::to_owned),
        last_message: entry.str("lastMessagePreview").map(str::to_owned),
    }
}

impl Agent {
    /// Starts a session anew. `asked`: levels and model stay and the old transcript is put aside; on expiry they go and
    /// the file stays.
    pub async fn reset_session(
        &self,
        active: &Active,
        key: &str,
        asked: bool,
        reason: &str,
    ) -> Result<SessionEntry, SessionError> {
        let old = self.sessions.entry(key).await?.unwrap_or_default();
        let now = crate::clock::now_ms();
        if asked && old.session_id().is_some() {
            let stamp = crate::session::entry::iso(now).replace(':', "-");
            self.sessions.archive(&self.sessions.path_of(key, &old), format!("reset.{stamp}")).await?;
        }
        let mut next = reset::next_entry(&old, &uuid::Uuid::new_v4().to_string(), asked, now);
        let file = self.sessions.path_of(key, &next);
        next.set("sessionFile", file.display().to_string());
        self.sessions.put(key, next.clone()).await?;
        self.session_changed(row(&active.setup.agent_id, key, &next), reason).await;
        Ok(next)
    }
}
