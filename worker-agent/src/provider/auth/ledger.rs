//! How the auth profiles fare: kept in memory while the worker runs, and in `usageStats` of the agent's own
//! `auth-profiles.json`, so that a restart does not ask a resting key again. The main agent's file is never written from here.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value, json};

use super::super::cooldown::{self, Rest, Rules, Stats};
use super::super::failure::Reason;

/// Waits for another writer (`openclaw models auth …`), which holds the lock for one write.
const LOCK_TRIES_MAX: u32 = 20;
const LOCK_WAIT_MS: u64 = 50;

/// See the module head. Cheap to clone; clones share one state.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    /// Nothing is written without one.
    file: Option<PathBuf>,
    rules: Rules,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stats: BTreeMap<String, Stats>,
    /// When a resting model was last asked all the same, by provider.
    probes: BTreeMap<String, f64>,
    /// Profiles whose stats are newer than the file.
    unwritten: Vec<String>,
    writing: bool,
}

impl Ledger {
    /// `stats` as read from `file` (or inherited), which need not exist.
    pub fn new(file: Option<PathBuf>, rules: Rules, stats: BTreeMap<String, Stats>) -> Self {
        Self(Arc::new(Inner { file, rules, state: Mutex::new(State { stats, ..State::default() }) }))
    }

    pub fn of(&self, id: &str) -> Stats {
        self.with(|state| state.stats.get(id).cloned().unwrap_or_default())
    }

    /// Whether a provider all of whose profiles rest may be asked now; says yes once in a while.
    pub fn may_probe(&self, provider: &str, rest: &Rest, now_ms: f64) -> bool {
        self.with(|state| {
            let due = cooldown::probe_due(rest, state.probes.get(provider).copied(), now_ms);
            if due {
                state.probes.insert(provider.to_owned(), now_ms);
            }
            due
        })
    }

    /// One request with this profile ended: `None` with a reply. Written to the file in the background.
    pub fn record(&self, id: &str, provider: &str, failure: Option<Reason>, now_ms: f64) {
        if cooldown::exempt(provider) {
            return;
        }
        let write = self.with(|state| {
            let stats = state.stats.entry(id.to_owned()).or_default();
            let changed = match failure {
                Some(reason) => stats.failed(reason, provider, &self.0.rules, now_ms),
                None => stats.succeeded(now_ms),
            };
            if let (true, Some(rest)) = (changed, stats.rest(now_ms)) {
                let seconds = ((rest.until_ms - now_ms) / 1000.0).ceil();
                tracing::warn!(profile = id, reason = rest.reason, seconds, "the auth profile rests");
            }
            if changed && !state.unwritten.iter().any(|waiting| waiting == id) {
                state.unwritten.push(id.to_owned());
            }
            let start = !state.unwritten.is_empty() && !state.writing;
            state.writing |= start;
            start
        });
        if write && self.0.file.is_some() {
            let ledger = self.clone();
            tokio::task::spawn_blocking(move || ledger.write_all());
        }
    }

    /// Writes until nothing is left; only one at a time runs.
    fn write_all(&self) {
        loop {
            let due: Vec<(String, Stats)> = self.with(|state| {
                let ids = std::mem::take(&mut state.unwritten);
                state.writing = !ids.is_empty();
                ids.into_iter().filter_map(|id| state.stats.get(&id).cloned().map(|s| (id, s))).collect()
            });
            let Some(file) = self.0.file.as_deref().filter(|_| !due.is_empty()) else { return };
            if let Err(error) = write(file, &due) {
                tracing::warn!(file = %file.display(), %error, "how the auth profiles fare could not be written; it is kept until the next restart");
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Sets the profiles' stats in the file and leaves the rest of it as it is.
fn write(file: &Path, due: &[(String, Stats)]) -> io::Result<()> {
    let dir = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    crate::session::disk::create_private_dir(dir)?;
    let _lock = locked(dir)?;
    let mut content = match std::fs::read(file) {
        // The error must not quote the file: it holds keys.
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes)
            .map_err(|error| io::Error::other(format!("line {}: not a JSON object", error.line())))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Map::from_iter([("version".to_owned(), json!(1)), ("profiles".to_owned(), json!({}))])
        }
        Err(error) => return Err(error),
    };
    let stats = content.entry("usageStats").or_insert_with(|| json!({}));
    let Some(stats) = stats.as_object_mut() else {
        return Err(io::Error::other("usageStats is not an object"));
    };
    for (id, value) in due {
        stats.insert(id.clone(), serde_json::to_value(value)?);
    }
    let mut text = serde_json::to_vec_pretty(&content)?;
    text.push(b'\n');
    crate::session::disk::replace(file, &text)
}

/// The directory's lock: the file itself is replaced by every write, so it cannot carry one.
fn locked(dir: &Path) -> io::Result<Flock<File>> {
    let mut handle = File::open(dir)?;
    for _ in 0..LOCK_TRIES_MAX {
        match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::Error::EWOULDBLOCK)) => handle = back,
            Err((_, error)) => return Err(error.into()),
        }
        std::thread::sleep(Duration::from_millis(LOCK_WAIT_MS));
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock of the folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_reach_the_file_and_leave_the_rest_of_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent/auth-profiles.json");
        crate::session::disk::create_private_dir(file.parent().unwrap()).unwrap();
        let before = json!({"version": 1, "profiles": {"p:a": {"type": "api_key", "key": "k"}}, "lastGood": {"p": "p:a"}, "usageStats": {"p:other": {"lastUsed": 5}}});
        std::fs::write(&file, before.to_string()).unwrap();
        let ledger = Ledger::new(Some(file.clone()), Rules::default(), BTreeMap::new());
        ledger.record("p:a", "p", Some(Reason::Billing), 1000.0);
        ledger.record("or:a", "openrouter", Some(Reason::RateLimit), 1000.0);
        let read = || -> Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
        let patience = std::time::Instant::now() + Duration::from_secs(30);
        while read()["usageStats"]["p:a"]["disabledReason"] != "billing" {
            assert!(std::time::Instant::now() < patience, "{}", read());
            tokio::task::yield_now().await;
        }
        let mut after = read();
        assert_eq!(after["usageStats"]["p:a"]["disabledUntil"], 1000.0 + 5.0 * 3_600_000.0);
        assert!(after["usageStats"].get("or:a").is_none(), "openrouter's keys never rest");
        after["usageStats"].as_object_mut().unwrap().remove("p:a");
        assert_eq!(after, before);
        assert!(ledger.of("p:a").rest(1001.0).is_some());
        ledger.record("p:a", "p", None, 2000.0);
        assert_eq!(ledger.of("p:a").rest(2000.0), None);
    }

    #[test]
    fn a_file_that_is_no_json_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth-profiles.json");
        std::fs::write(&file, "{ \"key\": \"secret").unwrap();
        let error = write(&file, &[("p:a".to_owned(), Stats::default())]).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ \"key\": \"secret");
    }
}
