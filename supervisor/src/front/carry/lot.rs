//! How far the front is on its way down, what it still waits for, and where connections are parked. Cheap to clone.

use super::park::Parked;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Bytes of all carried connections together: queues, and what was read or is half written. Beyond it a
/// connection is closed, so that the state of a restart stays small beside the gateway itself.
const CARRIED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Stages of the front's life, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everything is served.
    Serving,
    /// HTTP connections end with the answer that is under way.
    Finishing,
    /// Nothing new is accepted or read.
    Held,
    /// The last events are told.
    Freezing,
    /// Connections are taken apart.
    Parking,
    /// Everything is closed.
    Stopping,
}

/// What a way down waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// HTTP connections that said something and are not upgraded.
    Http,
    /// Handshakes.
    Greeting,
    /// Calls that can be asked again.
    Question,
    /// Calls that change something.
    Change,
    /// Calls that wait for something else: nobody waits for these.
    Wait,
    /// Accepted sockets that have said nothing.
    Silent,
    /// Clients that said hello.
    Client,
}

/// How many there are of each.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts([usize; 7]);

impl Counts {
    /// Of one kind.
    pub fn of(&self, work: Work) -> usize {
        self.0.get(work as usize).copied().unwrap_or(0)
    }
}

/// The lot.
#[derive(Clone)]
pub struct Lot(Arc<Inner>);

struct Inner {
    stage: watch::Sender<Stage>,
    counts: Mutex<Counts>,
    changed: Condvar,
    parked: Mutex<Vec<Parked>>,
    fresh: Mutex<Vec<(TcpStream, IpAddr)>>,
    /// Connections are kept, not closed.
    keep: AtomicBool,
    carried_bytes: AtomicUsize,
    /// Milliseconds since the epoch when event `tick` was told last.
    ticked_ms: AtomicU64,
}

impl Default for Lot {
    fn default() -> Self {
        Self(Arc::new(Inner {
            stage: watch::Sender::new(Stage::Serving),
            counts: Mutex::default(),
            changed: Condvar::new(),
            parked: Mutex::default(),
            fresh: Mutex::default(),
            keep: AtomicBool::new(true),
            carried_bytes: AtomicUsize::new(0),
            ticked_ms: AtomicU64::new(0),
        }))
    }
}

/// One piece of work under way; ends when it is dropped.
pub struct Busy {
    lot: Lot,
    work: Work,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.lot.count(self.work, |n| n.saturating_sub(1));
    }
}

impl Lot {
    /// Now.
    pub fn stage(&self) -> Stage {
        *self.0.stage.borrow()
    }

    /// Go on to a later stage; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.stage.send_if_modified(|now| {
            let later = stage > *now;
            if later {
                *now = stage;
            }
            later
        });
    }

    /// Follow the stage.
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.0.stage.subscribe()
    }

    /// Wait for a stage, or a later one.
    pub async fn reached(&self, stage: Stage) -> Stage {
        let mut watch = self.watch();
        // The sender lives as long as `self`.
        watch.wait_for(|now| *now >= stage).await.map_or(Stage::Stopping, |now| *now)
    }

    /// Count a piece of work.
    pub fn begin(&self, work: Work) -> Busy {
        self.count(work, |n| n + 1);
        Busy { lot: self.clone(), work }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, work: Work, change: impl FnOnce(usize) -> usize) {
        if let Some(n) = self.counts().0.get_mut(work as usize) {
            *n = change(*n);
        }
        self.0.changed.notify_all();
    }

    /// How many there are now.
    pub fn count_of(&self, work: Work) -> usize {
        self.counts().of(work)
    }

    /// Blocks until `done`, at most for `within`. Returns whether it is.
    pub fn wait(&self, within: Duration, done: impl Fn(&Counts) -> bool) -> bool {
        let end = Instant::now() + within;
        let mut counts = self.counts();
        while !done(&counts) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            counts = self.0.changed.wait_timeout(counts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Connections are closed instead of carried.
    pub fn close_all(&self) {
        self.0.keep.store(false, Ordering::Relaxed);
    }

    /// Whether connections are carried.
    pub fn keeps(&self) -> bool {
        self.0.keep.load(Ordering::Relaxed)
    }

    /// Take room for a connection's bytes. False: no room, it is to be closed.
    pub fn take_room(&self, bytes: usize) -> bool {
        self.0.carried_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= CARRIED_BYTES_MAX
    }

    /// Park a client.
    pub fn park(&self, parked: Parked) {
        self.0.parked.lock().unwrap_or_else(PoisonError::into_inner).push(parked);
    }

    /// Park a socket from which nothing was read.
    pub fn park_fresh(&self, socket: TcpStream, ip: IpAddr) {
        self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner).push((socket, ip));
    }

    /// All that is parked.
    pub fn collect(&self) -> (Vec<Parked>, Vec<(TcpStream, IpAddr)>) {
        let parked = std::mem::take(&mut *self.0.parked.lock().unwrap_or_else(PoisonError::into_inner));
        let fresh = std::mem::take(&mut *self.0.fresh.lock().unwrap_or_else(PoisonError::into_inner));
        (parked, fresh)
    }

    /// Event `tick` was told.
    pub fn ticked(&self, at_ms: u64) {
        self.0.ticked_ms.store(at_ms, Ordering::Relaxed);
    }

    /// When event `tick` was told last.
    pub fn ticked_ms(&self) -> u64 {
        self.0.ticked_ms.load(Ordering::Relaxed)
    }
}
