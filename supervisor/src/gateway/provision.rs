//! The wanted set of workers, from the configuration: one per agent, one per active channel account.

use crate::config::isolation::{AgentSettings, Settings};
use crate::config::plan::{Prints, policy, worker_ids, workspace};
use crate::config::worker_check::WorkerPrograms;
use crate::config::{ConfigHandle, ConfigSnapshot, missing_for, worker_config};
use crate::journal::{Journal, JournalHandle};
use crate::worker::sandbox;
use crate::worker::{
    Binary, BinaryError, IDLE_STOP_SECONDS, ProvideError, Provision, WorkerSpec, worker_env, worker_proxies,
};
use proto::wire::handshake::{SecretMap, WorkerConfig, WorkerId, WorkerPaths};
use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// What one worker would be given with a configuration that does not run yet.
    ///
    /// # Errors
    /// A secret is missing, or the journal does not answer.
    pub async fn provide(
        &self,
        snapshot: &ConfigSnapshot,
        worker: &WorkerId,
    ) -> Result<Provision, ProvideError> {
        provide(&self.config, snapshot, &self.journal, worker).await
    }

    pub fn agent(&self) -> Arc<Binary> {
        self.agent.clone()
    }

    pub fn channel(&self) -> Arc<Binary> {
        self.channel.clone()
    }

    /// Every worker that the running configuration wants.
    pub fn specs(&self) -> Vec<WorkerSpec> {
        let config = self.config.current();
        let default = config.view.agents.default_id();
        let spec = |id: WorkerId| match id.agent_id().map(|agent| agent == default) {
            Some(is_default) => self.spec(&config, id, self.agent.clone(), is_default),
            None => self.spec(&config, id, self.channel.clone(), true),
        };
        worker_ids(&config).into_iter().map(spec).collect()
    }

    fn spec(
        &self,
        config: &ConfigSnapshot,
        id: WorkerId,
        binary: Arc<Binary>,
        keep_warm: bool,
    ) -> WorkerSpec {
        let prints = Prints::of(config, self.config.paths(), &id);
        let policy = policy(config, self.config.paths(), &id);
        let env: BTreeMap<String, String> =
            config.env().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut env_of_worker = worker_env(&env);
        // A channel's network is reached without: its section names a proxy, or there is none.
        let proxies = if id.agent_id().is_some() { worker_proxies(&env) } else { SecretMap::default() };
        env_of_worker.insert("TMPDIR".to_owned(), policy.temp.clone());
        let (handle, journal, worker) = (self.config.clone(), self.journal.clone(), id.clone());
        WorkerSpec {
            id,
            binary,
            args: Vec::new(),
            provide: Arc::new(move || {
                let (handle, journal, worker) = (handle.clone(), journal.clone(), worker.clone());
                Box::pin(async move { provide(&handle, &handle.current(), &journal, &worker).await })
            }),
            keep_warm,
            idle_stop_ms: (!keep_warm).then_some(IDLE_STOP_SECONDS * 1000),
            isolation: Settings::of(&config.config).mode,
            policy: Some(policy),
            log_level: config.logging.level.name().to_owned(),
            env: env_of_worker,
            proxies,
            failpoints: config.env().get("OPENCLAW_FAILPOINTS").unwrap_or_default().to_owned(),
            fingerprint: prints.process,
            told: prints.told,
        }
    }
}

async fn provide(
    config: &ConfigHandle,
    snapshot: &ConfigSnapshot,
    journal: &JournalHandle,
    worker: &WorkerId,
) -> Result<Provision, ProvideError> {
    let paths = config.paths();
    let missing = missing_for(snapshot, worker, &paths.state_dir);
    if !missing.is_empty() {
        return Err(ProvideError::Config(
            missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        ));
    }
    let (config_json, secrets) = worker_config(snapshot, worker);
    let workspace = worker.agent_id().map(|agent| workspace(snapshot, paths, agent).display().to_string());
    let mut cursors = BTreeMap::new();
    if let Some(account) = worker.0.strip_prefix("channel:") {
        for scope in CURSOR_SCOPES {
            let position = journal.cursor_get(account.to_owned(), scope.to_owned()).await;
            if let Some(value) = position.map_err(|error| ProvideError::NotNow(error.to_string()))? {
                cursors.insert(scope.to_owned(), value);
            }
        }
    }
    let own = snapshot.env().iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let named = worker.agent_id().map(|agent| {
        AgentSettings::of(&snapshot.config, crate::config::own_entry(&snapshot.config, agent)).env
    });
    let mut tool_env = proto::wire::tool_env::choose(own, &named.unwrap_or_default());
    tool_env.insert("TMPDIR".to_owned(), sandbox::temp_dir(&paths.state_dir, worker).display().to_string());
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
