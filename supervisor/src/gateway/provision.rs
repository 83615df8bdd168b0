//! The wanted set of workers, from the configuration: one per agent, one per active channel account.

use crate::config::worker_check::WorkerPrograms;
use crate::config::{ConfigHandle, ConfigSnapshot, worker_config};
use crate::journal::{Journal, JournalHandle};
use crate::worker::{Binary, BinaryError, IDLE_STOP_SECONDS, OnChange, Provision, WorkerSpec, worker_env};
use proto::wire::handshake::{Isolation, WorkerConfig, WorkerId, WorkerPaths};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Channels for which an adapter exists.
const BUILT_CHANNELS: [&str; 1] = ["telegram"];
/// Positions that a network's adapter keeps.
const CURSOR_SCOPES: [&str; 2] = ["updates", ""];

/// Makes worker specs. The executables are opened once, so that an update of the package cannot mix releases.
pub struct Provisioner {
    config: ConfigHandle,
    journal: JournalHandle,
    agent: Arc<Binary>,
    channel: Arc<Binary>,
}

impl Provisioner {
    pub fn new(config: ConfigHandle, journal: JournalHandle) -> Result<Self, BinaryError> {
        Ok(Self {
            config,
            journal,
            agent: Arc::new(Binary::find("openclaw-agent")?),
            channel: Arc::new(Binary::find("openclaw-channel")?),
        })
    }

    /// The executables that check and describe the sections that they own.
    pub fn programs(&self) -> WorkerPrograms {
        WorkerPrograms::new(vec![self.agent.clone(), self.channel.clone()])
    }

    /// Every worker that the running configuration wants.
    pub fn specs(&self) -> Vec<WorkerSpec> {
        let config = self.config.current();
        let default = config.view.agents.default_id().to_owned();
        let agents = config.view.agents.list.iter().map(|agent| {
            let id = WorkerId::agent(&agent.id);
            self.spec(&config, id, self.agent.clone(), agent.id == default)
        });
        let accounts =
            config.view.channels.iter().filter(|(name, _)| BUILT_CHANNELS.contains(&name.as_str()));
        let channels = accounts.flat_map(|(name, channel)| {
            channel.active().map(|(account, _)| WorkerId::channel(name, account)).collect::<Vec<_>>()
        });
        let channels = channels.map(|id| self.spec(&config, id, self.channel.clone(), true));
        agents.chain(channels).collect()
    }

    fn spec(
        &self,
        config: &ConfigSnapshot,
        id: WorkerId,
        binary: Arc<Binary>,
        keep_warm: bool,
    ) -> WorkerSpec {
        let (config_json, secrets) = worker_config(config, &id);
        let mut hasher = DefaultHasher::new();
        config_json.hash(&mut hasher);
        secrets.0.hash(&mut hasher);
        let env: BTreeMap<String, String> =
            config.env().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (handle, journal, worker) = (self.config.clone(), self.journal.clone(), id.clone());
        WorkerSpec {
            id,
            binary,
            args: Vec::new(),
            provide: Arc::new(move || {
                let (handle, journal, worker) = (handle.clone(), journal.clone(), worker.clone());
                Box::pin(async move { provide(&handle, &journal, &worker).await })
            }),
            keep_warm,
            idle_stop_ms: (!keep_warm).then_some(IDLE_STOP_SECONDS * 1000),
            isolation: Isolation::BestEffort,
            log_level: config.logging.level.name().to_owned(),
            env: worker_env(&env),
            failpoints: config.env().get("OPENCLAW_FAILPOINTS").unwrap_or_default().to_owned(),
            fingerprint: hasher.finish(),
            on_change: OnChange::Restart,
        }
    }
}

async fn provide(
    config: &ConfigHandle,
    journal: &JournalHandle,
    worker: &WorkerId,
) -> Result<Provision, String> {
    let snapshot = config.current();
    let paths = config.paths();
    let (config_json, secrets) = worker_config(&snapshot, worker);
    let workspace = worker.agent_id().map(|agent| {
        let state = paths.state_dir.display().to_string();
        paths.expand(&snapshot.view.agents.workspace_of(agent, &state)).display().to_string()
    });
    let mut cursors = BTreeMap::new();
    if let Some(account) = worker.0.strip_prefix("channel:") {
        for scope in CURSOR_SCOPES {
            let position = journal.cursor_get(account.to_owned(), scope.to_owned()).await;
            if let Some(value) = position.map_err(|error| error.to_string())? {
                cursors.insert(scope.to_owned(), value);
            }
        }
    }
    let own = config.base_env().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tool_env = proto::wire::tool_env::scrub(own, &BTreeMap::new());
    Ok(Provision {
        config: WorkerConfig {
            config_json,
            paths: WorkerPaths {
                state_dir: paths.state_dir.display().to_string(),
                workspace: workspace.unwrap_or_default(),
                config_path: paths.config_file.display().to_string(),
                home: paths.home.display().to_string(),
            },
            tool_env,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        secrets,
        cursors,
    })
}
