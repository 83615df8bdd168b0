//! Where everything lies: home, state directory, configuration file, and how a profile moves them.
//!
//! Not here: creating or reading anything, and the log and lock files of others.

use crate::config::Environment;
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// Profile that also moves the default port.
const DEV_PROFILE: &str = "dev";
/// Port of the `dev` profile, so that it runs beside a normal gateway.
pub const DEV_PORT: u16 = 19_001;
const STATE_DIR_NAME: &str = ".openclaw";
const CONFIG_FILE_NAME: &str = "openclaw.json";
/// Names of the state directory in earlier lives of the product, used when one exists and ours does not.
const LEGACY_STATE_DIR_NAMES: [&str; 3] = [".clawdbot", ".moldbot", ".moltbot"];

/// `--profile` and `--dev`, as given before the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileFlags {
    /// The value of `--profile`, when the flag was given.
    pub profile: Option<String>,
    pub dev: bool,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ProfileError {
    #[error("--profile requires a value")]
    MissingValue,
    #[error("Invalid --profile (use letters, numbers, \"_\", \"-\" only)")]
    InvalidName,
    #[error("Cannot combine --dev with --profile")]
    DevAndProfile,
}

/// All places of one instance; every path is absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub home: PathBuf,
    pub state_dir: PathBuf,
    pub config_file: PathBuf,
    pub credentials_dir: PathBuf,
    /// `None` for the default profile.
    pub profile: Option<String>,
    /// Port when neither flag, environment nor file names one.
    pub default_port: u16,
}

impl Paths {
    /// Resolves from the environment; `cwd` makes relative paths absolute, `exists` tells of legacy directories.
    ///
    /// # Errors
    /// A profile that is malformed or given twice.
    pub fn resolve(
        env: &Environment,
        flags: &ProfileFlags,
        cwd: &Path,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Self, ProfileError> {
        let profile = profile(env, flags)?;
        let home = home(env, cwd);
        let expand = |text: &str| expanded(text, &home, cwd);
        let by_profile = home.join(match &profile {
            Some(name) => format!("{STATE_DIR_NAME}-{name}"),
            None => STATE_DIR_NAME.to_owned(),
        });
        let legacy = || {
            let known = LEGACY_STATE_DIR_NAMES.iter().map(|name| home.join(name)).find(|path| exists(path));
            known.filter(|_| profile.is_none() && !exists(&by_profile))
        };
        let set = |name: &str, old: &str| env.get(name).or_else(|| env.get(old)).map(expand);
        let state_dir = set("OPENCLAW_STATE_DIR", "CLAWDBOT_STATE_DIR").or_else(legacy).unwrap_or(by_profile);
        let config_file = set("OPENCLAW_CONFIG_PATH", "CLAWDBOT_CONFIG_PATH")
            .unwrap_or_else(|| state_dir.join(CONFIG_FILE_NAME));
        let credentials_dir =
            env.get("OPENCLAW_OAUTH_DIR").map(expand).unwrap_or_else(|| state_dir.join("credentials"));
        let dev = profile.as_deref() == Some(DEV_PROFILE);
        let default_port = if dev { DEV_PORT } else { crate::config::PORT_DEFAULT };
        Ok(Self { home, state_dir, config_file, credentials_dir, profile, default_port })
    }

    /// Of this process, on this disk.
    ///
    /// # Errors
    /// As [`Paths::resolve`].
    pub fn of_process(env: &Environment, flags: &ProfileFlags) -> Result<Self, ProfileError> {
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let mut env = env.clone();
        // A service manager may give no HOME; the account's entry still has one.
        if env.get("USERPROFILE").is_none()
            && let Some(home) = std::env::home_dir().as_deref().and_then(Path::to_str)
        {
            env.add_missing("HOME", home);
        }
        Self::resolve(&env, flags, &cwd, Path::exists)
    }

    /// `~` and relative paths made absolute. Relative ones are taken from the configuration file's directory, so
    /// that they mean the same however the gateway was started.
    #[must_use]
    pub fn expand(&self, text: &str) -> PathBuf {
        expanded(text, &self.home, self.config_file.parent().unwrap_or(&self.state_dir))
    }

    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// Last good configuration, history, refused files.
    #[must_use]
    pub fn config_store_dir(&self) -> PathBuf {
        self.state_dir.join("config")
    }

    #[must_use]
    pub fn audit_file(&self) -> PathBuf {
        self.logs_dir().join("config-audit.jsonl")
    }

    #[must_use]
    pub fn restart_sentinel(&self) -> PathBuf {
        self.state_dir.join("restart-sentinel.json")
    }

    #[must_use]
    pub fn sessions_dir(&self, agent_id: &str) -> PathBuf {
        self.state_dir.join("agents").join(agent_id).join("sessions")
    }
}

fn profile(env: &Environment, flags: &ProfileFlags) -> Result<Option<String>, ProfileError> {
    if flags.dev && flags.profile.is_some() {
        return Err(ProfileError::DevAndProfile);
    }
    let named = match (&flags.profile, flags.dev) {
        (Some(name), _) if name.trim().is_empty() => return Err(ProfileError::MissingValue),
        (Some(name), _) => Some(name.trim()),
        (None, true) => Some(DEV_PROFILE),
        (None, false) => env.get("OPENCLAW_PROFILE"),
    };
    let Some(name) = named else { return Ok(None) };
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        return Err(ProfileError::InvalidName);
    }
    Ok((!name.eq_ignore_ascii_case("default")).then(|| name.to_owned()))
}

fn home(env: &Environment, cwd: &Path) -> PathBuf {
    let system = env.get("HOME").or_else(|| env.get("USERPROFILE")).unwrap_or("/");
    let system = absolute(Path::new(system), cwd);
    env.get("OPENCLAW_HOME").map_or_else(|| system.clone(), |own| expanded(own, &system, cwd))
}

fn expanded(text: &str, home: &Path, base: &Path) -> PathBuf {
    let text = text.trim();
    match text.strip_prefix('~') {
        Some("") => home.to_path_buf(),
        Some(rest) if rest.starts_with('/') => absolute(Path::new(rest.trim_start_matches('/')), home),
        _ => absolute(Path::new(text), base),
    }
}

/// Joined to `base` and without `.` and `..`, by letters only.
fn absolute(path: &Path, base: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests;
