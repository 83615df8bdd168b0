//! What a worker is, before it runs.

use super::process::Binary;
use futures_util::future::BoxFuture;
use proto::wire::handshake::{Isolation, SecretMap, WorkerConfig, WorkerId};
use proto::wire::isolation::Policy;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What one start of a worker gets in its `Welcome`.
#[derive(Clone, Debug)]
pub struct Provision {
    pub config: WorkerConfig,
    pub secrets: SecretMap,
    /// Channel workers: the network's position by scope.
    pub cursors: BTreeMap<String, String>,
}

/// Why a worker gets nothing to start with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvideError {
    /// Trying again later may help.
    #[error("{0}")]
    NotNow(String),
    /// The configuration names a secret that cannot be had: nothing helps but another configuration or environment.
    #[error("{0}")]
    Config(String),
}

/// Fetches the provision anew for each start. The error is shown; where it may help, the start is tried again later.
pub type Provide = Arc<dyn Fn() -> BoxFuture<'static, Result<Provision, ProvideError>> + Send + Sync>;

/// One worker of the wanted set.
#[derive(Clone)]
pub struct WorkerSpec {
    pub id: WorkerId,
    pub binary: Arc<Binary>,
    /// Arguments; none for our own executables.
    pub args: Vec<String>,
    pub provide: Provide,
    /// Started with the gateway and always restarted (channels, the default agent). Others start when they are wanted.
    pub keep_warm: bool,
    /// Stop after this long without work; `None` never.
    pub idle_stop_ms: Option<u64>,
    pub isolation: Isolation,
    /// What it may reach; `None`: no rules for files and ports (tests).
    pub policy: Option<Policy>,
    pub log_level: String,
    /// The whole environment of the process; see [`worker_env`].
    pub env: BTreeMap<String, String>,
    /// See [`worker_proxies`].
    pub proxies: SecretMap,
    /// Failpoints of a test build; empty otherwise.
    pub failpoints: String,
    /// Changes when a running process must be replaced.
    pub fingerprint: u64,
    /// Changes when a running process must be told its configuration anew; the `ConfigDelta` is enough.
    pub told: u64,
}

impl fmt::Debug for WorkerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSpec")
            .field("id", &self.id)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// An agent without work is stopped after this many seconds: starting one takes milliseconds, keeping one costs memory.
pub const IDLE_STOP_SECONDS: u64 = 900;

/// Names that a worker inherits. Everything else stays with the supervisor: tokens in variables are for it alone.
const INHERITED: [&str; 9] =
    ["PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "RUST_BACKTRACE"];

/// What a worker that makes requests is told of proxies, over its link: an address may carry a password.
pub fn worker_proxies(supervisor: &BTreeMap<String, String>) -> SecretMap {
    let wanted = |name: &str| {
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].contains(&name.to_ascii_uppercase().as_str())
    };
    let proxies = supervisor.iter().filter(|(name, value)| wanted(name) && !value.trim().is_empty());
    SecretMap(proxies.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The environment of a worker, cut out of the supervisor's.
pub fn worker_env(supervisor: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut env: BTreeMap<_, _> = supervisor
        .iter()
        .filter(|(name, _)| INHERITED.contains(&name.as_str()) || name.starts_with("LC_"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // One arena instead of eight per core: a worker is mostly one busy thread, and resident memory is what we promise.
    env.insert("MALLOC_ARENA_MAX".into(), "1".into());
    env.insert("MALLOC_TRIM_THRESHOLD_".into(), "131072".into());
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stay_with_the_supervisor() {
        let supervisor = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("OPENCLAW_GATEWAY_TOKEN", "t"),
            ("OPENAI_API_KEY", "k"),
            ("https_proxy", "http://me:pass@proxy"),
            ("HTTP_PROXY", ""),
        ];
        let supervisor = supervisor.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let env = worker_env(&supervisor);
        let proxies = worker_proxies(&supervisor);
        assert_eq!(proxies.0.keys().collect::<Vec<_>>(), ["https_proxy"]);
        let names: Vec<_> = env.keys().map(String::as_str).collect();
        assert_eq!(names, ["LC_ALL", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "PATH"]);
    }
}
