//! The sign of life that a service manager waits for. Sent only when core, front and journal have each answered: a thread
//! that lives says nothing about the others.
//!
//! Not here: watching workers. A worker that hangs is ended by the supervisor, not by the service manager.

use super::sd_notify::Notify;
use super::{Handles, status_line};
use crate::journal::{Journal, JournalHandle};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Longest wait for an answer. Each part answers in well below a millisecond unless it is stuck; a loaded host gets room.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Signs of life per time that the manager waits: two may be lost.
const PER_TIMEOUT: u32 = 3;

/// One part of the gateway and the question that it has not answered yet.
struct Part {
    name: &'static str,
    ask: Box<dyn Fn() -> Receiver<()> + Send>,
    asked: Option<Receiver<()>>,
}

impl Part {
    fn new(name: &'static str, ask: impl Fn() -> Receiver<()> + Send + 'static) -> Self {
        Self { name, ask: Box::new(ask), asked: None }
    }

    /// A part has one question at a time: one that is stuck does not get a growing pile of them.
    fn ask(&mut self) {
        if self.asked.is_none() {
            self.asked = Some((self.ask)());
        }
    }

    fn answered(&mut self, until: Instant) -> bool {
        let Some(asked) = &self.asked else { return true };
        match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => false,
            // A part that drops the question is ending or gone: it is not alive.
            Err(RecvTimeoutError::Disconnected) => {
                self.asked = None;
                false
            }
            Ok(()) => {
                self.asked = None;
                true
            }
        }
    }
}

/// Keeps the service manager informed from now on: signs of life and the status line.
pub fn attend(notify: &Notify, handles: &Handles, front: Handle) {
    if let Err(error) = start(notify, Handle::current(), front, handles.journal.clone()) {
        tracing::error!(%error, "no watchdog thread: the service manager will take the gateway for hung");
    }
    tokio::task::spawn_local(status_line::run(handles.clone(), notify.clone()));
}

/// Starts the thread, when there is a manager that wants signs of life. It ends with the process.
///
/// # Errors
/// No thread.
fn start(notify: &Notify, core: Handle, front: Handle, journal: JournalHandle) -> std::io::Result<()> {
    let Some(timeout) = notify.watchdog() else { return Ok(()) };
    let every = timeout / PER_TIMEOUT;
    let through = front.clone();
    let parts = vec![
        Part::new("core", move || ask_runtime(&core)),
        Part::new("front", move || ask_runtime(&front)),
        Part::new("journal", move || ask_journal(&through, &journal)),
    ];
    let notify = notify.clone();
    std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        super::stop::leave_signals_to_main();
        watch(&notify, parts, every);
    })?;
    tracing::debug!(every_ms = u64::try_from(every.as_millis()).unwrap_or(0), "watchdog");
    Ok(())
}

fn ask_runtime(runtime: &Handle) -> Receiver<()> {
    let (answer, answered) = sync_channel(1);
    runtime.spawn(async move {
        let _gone = answer.send(());
    });
    answered
}

/// A read that waits behind everything that the journal's thread does, `fsync` included.
fn ask_journal(runtime: &Handle, journal: &JournalHandle) -> Receiver<()> {
    let (answer, answered) = sync_channel(1);
    let journal = journal.clone();
    runtime.spawn(async move {
        // A disk that is full is told elsewhere; the journal lives when it says so.
        let _stats = journal.stats().await;
        let _gone = answer.send(());
    });
    answered
}

fn watch(notify: &Notify, mut parts: Vec<Part>, every: Duration) {
    let mut silent: Vec<&'static str> = Vec::new();
    loop {
        let begin = Instant::now();
        for part in &mut parts {
            part.ask();
        }
        let until = begin + ANSWER_MAX.min(every);
        let now: Vec<_> =
            parts.iter_mut().filter_map(|part| (!part.answered(until)).then_some(part.name)).collect();
        if now.is_empty() {
            notify.send("WATCHDOG=1");
        } else {
            notify.status(&format!("not answering: {}", now.join(", ")));
        }
        if now != silent {
            report(&now);
            silent = now;
        }
        std::thread::sleep(every.saturating_sub(begin.elapsed()));
    }
}

fn report(silent: &[&str]) {
    if silent.is_empty() {
        tracing::info!("every part answers again");
    } else {
        let parts = silent.join(", ");
        tracing::error!(
            parts,
            "a part of the gateway does not answer; the service manager gets no sign of life"
        );
    }
}
