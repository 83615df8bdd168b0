//! What reaches a run from outside while it goes on: messages, a stop, the end of its time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use proto::wire::agent::RunInput;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::state::Stop;

/// Messages that may wait for one run; the supervisor queues further ones itself.
const STEER_MAX: usize = 16;

/// The reason of a stop that is no end: the run goes on in the next process.
pub const SHUTDOWN: &str = "shutdown";
const TIMEOUT: &str = "timeout";

/// The outer end: held by the worker.
#[derive(Clone, Debug)]
pub struct Reins {
    steer: mpsc::Sender<RunInput>,
    cancel: CancellationToken,
    why: Arc<OnceLock<String>>,
}

/// Stops one run; held by whoever looks the run up by its session.
#[derive(Clone, Debug)]
pub struct Stopper {
    cancel: CancellationToken,
    why: Arc<OnceLock<String>>,
}

impl Stopper {
    /// Waits for the stop.
    pub async fn stopped(&self) {
        self.cancel.cancelled().await;
    }

    /// The first reason counts.
    pub fn stop(&self, why: &str) {
        let _first_counts = self.why.set(why.to_owned());
        self.cancel.cancel();
    }
}

/// The inner end: held by the run.
#[derive(Debug)]
pub struct Control {
    steer: mpsc::Receiver<RunInput>,
    pub cancel: CancellationToken,
    why: Arc<OnceLock<String>>,
    timer: Option<tokio::task::JoinHandle<()>>,
}

pub fn pair() -> (Reins, Control) {
    let (sender, receiver) = mpsc::channel(STEER_MAX);
    let cancel = CancellationToken::new();
    let why = Arc::new(OnceLock::new());
    let reins = Reins { steer: sender, cancel: cancel.clone(), why: why.clone() };
    (reins, Control { steer: receiver, cancel, why, timer: None })
}

impl Reins {
    /// False when the run takes no more messages.
    pub fn steer(&self, input: RunInput) -> bool {
        !self.cancel.is_cancelled() && self.steer.try_send(input).is_ok()
    }

    /// The first reason counts.
    pub fn stop(&self, why: &str) {
        let _first_counts = self.why.set(why.to_owned());
        self.cancel.cancel();
    }
}

impl Control {
    /// Starts the clock of the run. 0 = no limit.
    pub fn limit(&mut self, active_ms: u64) {
        if active_ms == 0 {
            return;
        }
        let (cancel, why) = (self.cancel.clone(), self.why.clone());
        self.timer = Some(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(active_ms)).await;
            let _first_counts = why.set(TIMEOUT.to_owned());
            cancel.cancel();
        }));
    }

    pub fn stopper(&self) -> Stopper {
        Stopper { cancel: self.cancel.clone(), why: self.why.clone() }
    }

    /// A message that waits.
    pub fn take(&mut self) -> Option<RunInput> {
        self.steer.try_recv().ok()
    }

    /// Refuses further messages; those that came before are still taken.
    pub fn close(&mut self) {
        self.steer.close();
    }

    pub fn stopped(&self) -> Option<Stop> {
        self.cancel.is_cancelled().then(|| if self.why() == TIMEOUT { Stop::TimedOut } else { Stop::Aborted })
    }

    /// `rpc`, `stop-command`, `timeout`, `shutdown`.
    pub fn why(&self) -> &str {
        self.why.get().map_or("rpc", String::as_str)
    }

    /// The process ends, not the run.
    pub fn is_shutdown(&self) -> bool {
        self.cancel.is_cancelled() && self.why() == SHUTDOWN
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}
