//! The configuration: one file, one owner, one snapshot that everyone reads.
//!
//! [`read`] turns bytes into a judged [`ConfigFile`]; a valid one becomes a [`ConfigSnapshot`], which is all that the
//! running gateway ever sees. An invalid file never stands in for a valid one and never becomes an empty one.
//!
//! Order of the pipeline: text → JSON5 → `$include` → `env` section → `${NAME}` → keys of earlier releases → keys and
//! types → rules between values → defaults.

pub mod advice;
pub mod agent_writes;
mod check;
mod defaults;
mod disk;
pub mod doctor;
mod duplicates;
mod edit;
mod environment;
pub mod file_command;
pub mod gateway;
pub mod handle;
mod include;
pub mod isolation;
mod issue;
mod key_path;
mod known;
mod legacy;
pub mod logging;
pub mod model_choice;
mod nearest;
mod patch;
pub mod plan;
mod reach;
mod read;
mod redact;
pub mod restart;
pub mod rpc;
mod schema;
mod secret;
mod sensitive;
pub mod startup;
mod state;
mod store;
mod substitute;
mod syntax;
mod validate;
pub mod verdict;
pub mod watch;
mod worker;
pub mod worker_check;
pub mod write;
pub mod write_limit;

pub use disk::ConfigDisk;
pub use environment::{Environment, load_env};
pub use gateway::{AuthMode, Gateway, PORT_DEFAULT};
pub use handle::{ConfigHandle, ConfigState, StartPolicy, Trouble};
pub use issue::{Issue, lines};
pub use key_path::{KeyPath, Part};
pub use logging::Logging;
pub use patch::merge_patch;
pub use reach::{Reach, is_built, reach};
pub use read::{ConfigFile, MISSING_VARIABLE, judge};
pub use secret::Secret;
pub use sensitive::is_sensitive;
pub use worker::{missing_for, own_entry, worker_config};

use proto::view::ConfigView;
use serde_json::Value;
use std::sync::Arc;

/// Where a snapshot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// The configuration file itself.
    File,
    /// The copy kept from the last good start, because the file is invalid.
    LastGood,
}

impl ConfigSource {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::LastGood => "lastGood",
        }
    }
}

/// A valid configuration, read once and shared.
#[derive(Clone, Debug)]
pub struct ConfigSnapshot {
    /// Text, hash, authored and resolved values, warnings.
    pub file: Arc<ConfigFile>,
    pub source: ConfigSource,
    /// Resolved values with defaults.
    pub config: Value,
    pub gateway: Gateway,
    pub logging: Logging,
    /// What the supervisor needs of the workers' sections.
    pub view: ConfigView,
}

impl ConfigSnapshot {
    /// Types a judged file.
    ///
    /// # Errors
    /// The file's issues; or a place where the strict typed form disagrees with the list of known keys.
    pub fn new(file: Arc<ConfigFile>, source: ConfigSource) -> Result<Self, Vec<Issue>> {
        if !file.is_valid() {
            return Err(file.findings.issues.clone());
        }
        let read = reach::without_unbuilt(&file.resolved);
        let gateway: gateway::GatewayFile = typed(&read, "gateway")?;
        let logging: logging::LoggingFile = typed(&read, "logging")?;
        Ok(Self {
            source,
            config: file.with_defaults(),
            gateway: Gateway::from_file(gateway, &file.env),
            logging: logging.into(),
            view: ConfigView::from_value(&file.resolved),
            file,
        })
    }

    /// SHA-256 of the file's bytes, in hex.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.file.source.hash
    }

    #[must_use]
    pub fn env(&self) -> &Environment {
        &self.file.env
    }
}

fn typed<T: serde::de::DeserializeOwned + Default>(config: &Value, section: &str) -> Result<T, Vec<Issue>> {
    let Some(value) = config.get(section) else { return Ok(T::default()) };
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = if inner == "." { section.to_owned() } else { format!("{section}.{inner}") };
        vec![Issue::new(path, error.into_inner().to_string())]
    })
}

#[cfg(test)]
mod tests;
