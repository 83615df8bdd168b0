//! What the parts of the public side share, and what method handlers reach of it. Cheap to clone.

use super::auth::rate::{LOOPBACK_BROWSER, RateLimiter, RateRules, RateScope};
use super::carry::lot::Lot;
use super::fanout::{Fanout, Item, now_ms};
use super::net::Peer;
use super::pairing::store::{Devices, StoreError};
use super::presence::Presence;
use super::settings::Settings;
use super::slots::Slots;
use crate::gateway::About;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::{mpsc, watch};

/// How far the gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Not yet taking clients; what it waits for.
    Starting(&'static str),
    /// Serving.
    Ready,
    /// Finishing what runs, taking nothing new.
    Draining,
}

/// Where things lie.
#[derive(Debug, Clone, Default)]
pub struct Paths {
    /// State directory.
    pub state_dir: PathBuf,
    /// Config file.
    pub config_path: PathBuf,
    /// Log file that `logs.tail` shows.
    pub log_file: PathBuf,
}

/// The shared part.
#[derive(Clone)]
pub struct Shared {
    /// Events to the sockets.
    pub fanout: Fanout,
    /// Paired devices.
    pub devices: Devices,
    /// Current view of the config.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where things lie.
    pub paths: Arc<Paths>,
    /// Places for connections.
    pub slots: Slots,
    /// How far the front is on its way down.
    pub lot: Lot,
    phase: Arc<watch::Sender<Phase>>,
    health: Arc<RwLock<Arc<Value>>>,
    limiter: Arc<Mutex<RateLimiter>>,
}

impl Shared {
    /// Open the device book and make the rest. The second part feeds [`super::fanout::run`].
    ///
    /// # Errors
    /// The device book can't be read.
    pub fn open(
        paths: Paths,
        settings: watch::Receiver<Arc<Settings>>,
        about: &About,
    ) -> Result<(Self, mpsc::Receiver<Item>), StoreError> {
        let host = rustix::system::uname();
        let platform = format!("linux {}", host.release().to_string_lossy());
        let presence =
            Presence::new(&host.nodename().to_string_lossy(), &about.version, &platform, &about.boot_id);
        let (fanout, source) = Fanout::new(presence);
        let shared = Self {
            fanout,
            devices: Devices::open(&paths.state_dir)?,
            settings,
            paths: Arc::new(paths),
            slots: Slots::default(),
            lot: Lot::default(),
            phase: Arc::new(watch::channel(Phase::Starting("core")).0),
            health: Arc::new(RwLock::new(Arc::new(json!({ "ok": true })))),
            limiter: Arc::default(),
        };
        Ok((shared, source))
    }

    /// The current config view.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.borrow().clone()
    }

    /// How far the gateway is.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Waits until clients are taken.
    pub async fn started(&self) {
        // The sender lives as long as `self`.
        let mut phase = self.phase.subscribe();
        let _gone = phase.wait_for(|phase| !matches!(phase, Phase::Starting(_))).await;
    }

    /// The gateway got further.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// The last health snapshot.
    pub fn health(&self) -> Arc<Value> {
        self.health.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keep a new health snapshot.
    pub fn set_health(&self, health: Value) {
        *self.health.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(health);
    }

    /// For how many milliseconds this caller's tries are not looked at.
    pub fn locked_ms(&self, scope: RateScope, peer: &Peer) -> Option<u64> {
        let (rules, ip) = self.rate_key(peer);
        self.limiter(|l| l.check(rules, scope, ip, now_ms())).err()
    }

    /// A wrong secret came from this caller.
    pub fn try_failed(&self, scope: RateScope, peer: &Peer) {
        let (rules, ip) = self.rate_key(peer);
        self.limiter(|l| l.failed(rules, scope, ip, now_ms()));
    }

    /// The right secret came from this caller.
    pub fn try_succeeded(&self, scope: RateScope, peer: &Peer) {
        let (_, ip) = self.rate_key(peer);
        self.limiter(|l| l.succeeded(scope, ip));
    }

    /// Drop old counts of wrong secrets.
    pub fn prune_limiter(&self) {
        let rules = self.settings().auth.rate;
        self.limiter(|l| l.prune(rules, now_ms()));
    }

    fn limiter<T>(&self, act: impl FnOnce(&mut RateLimiter) -> T) -> T {
        act(&mut self.limiter.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A page can be made to guess by any web site, so loopback browsers are not exempt.
    fn rate_key(&self, peer: &Peer) -> (RateRules, IpAddr) {
        let rules = self.settings().auth.rate;
        let browser = peer.origin.is_some() && peer.ip.is_loopback();
        (rules, if browser { LOOPBACK_BROWSER } else { peer.ip })
    }
}
