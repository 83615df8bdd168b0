//! `openclaw config`: the file by key, as text and as a schema. Reading needs no gateway. A write goes through the running
//! gateway, the one owner of the file; without one it is made here, under the instance lock.

mod plan;

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::file_command::{self, FileCommandError, Stopped, Target};
use crate::config::handle::{NewText, invalid_for_commands, load_env};
use crate::config::worker_check::WorkerPrograms;
use crate::config::{ConfigDisk, ConfigFile, Issue, rpc};
use crate::{exit_code, lock};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The gateway asks both worker programs before it writes; each may take 5 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a value, for example `gateway.port` or `agents.list[0].id`; secrets are hidden
    Get {
        path: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Change a value: JSON5, or text where it is none
    Set {
        path: String,
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Refuse a value that is not JSON5
        #[arg(long, visible_alias = "json")]
        strict_json: bool,
    },
    /// Remove a key
    Unset { path: String },
    /// Print where the file is
    File {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Check the file
    Validate {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON schema of the file
    Schema,
    /// Show what a change would do to the running gateway; nothing is written
    Plan {
        /// A whole configuration (`-` is standard input); without it, the file as it is now
        #[arg(long, value_name = "path")]
        file: Option<PathBuf>,
        /// A merge patch on the file, as JSON5
        #[arg(long, value_name = "json5", conflicts_with = "file")]
        patch: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command {
            None => Err(Failure::new(format!(
                "the setup assistant is not built; use `openclaw config set <path> <value>`, or edit {}",
                invocation.paths.config_file.display()
            ))),
            Some(Command::Get { path, json }) => get(invocation, &path, json),
            Some(Command::Set { path, value, strict_json }) => {
                change(invocation, |target| target.set(&path, &value, strict_json))
            }
            Some(Command::Unset { path }) => change(invocation, |target| target.unset(&path)),
            Some(Command::File { json }) => file(invocation, json),
            Some(Command::Validate { json }) => validate(invocation, json),
            Some(Command::Schema) => schema(),
            Some(Command::Plan { file, patch, json }) => plan::show(invocation, file.as_deref(), patch, json),
        }
    }
}

/// The configuration as commands see it, with the `.env` files that the gateway would read.
pub fn read_file(invocation: &Invocation) -> Result<ConfigFile, Failure> {
    Ok(disk(invocation).read())
}

fn disk(invocation: &Invocation) -> ConfigDisk {
    let cwd = std::env::current_dir().ok();
    let env = load_env(invocation.env.clone(), &invocation.paths, cwd.as_deref());
    ConfigDisk::new(invocation.paths.clone(), env)
}

fn get(invocation: &Invocation, path: &str, as_json: bool) -> Result<u8, Failure> {
    let file = read_file(invocation)?;
    if !file.is_valid() {
        return Err(Failure::new(invalid_for_commands(&file.source.path, &file.findings.issues)));
    }
    let value = file_command::get(&file, path).map_err(|error| failure(&error))?;
    output::line(&file_command::shown(&value, as_json))?;
    Ok(exit_code::OK)
}

fn file(invocation: &Invocation, as_json: bool) -> Result<u8, Failure> {
    let path = &invocation.paths.config_file;
    if as_json {
        output::json(&json!({"path": path, "exists": path.exists()}))?;
    } else {
        output::line(&path.display().to_string())?;
    }
    Ok(exit_code::OK)
}

fn validate(invocation: &Invocation, as_json: bool) -> Result<u8, Failure> {
    let file = read_file(invocation)?;
    let issues = file_command::validation_issues(&file, &WorkerPrograms::find());
    let code = if issues.is_empty() { exit_code::OK } else { exit_code::CONFIG };
    if as_json {
        output::json(&file_command::validation_json(&file, &issues))?;
        return Ok(code);
    }
    if !issues.is_empty() {
        return Err(Failure::with_code(invalid_for_commands(&file.source.path, &issues), code));
    }
    let missing = if file.source.exists { "" } else { " (no file: defaults)" };
    output::line(&format!("Config valid: {}{missing}", file.source.path.display()))?;
    for warning in &file.findings.warnings {
        output::line(&format!("  - warning: {warning}"))?;
    }
    for path in &file.findings.unbuilt {
        output::line(&format!("  - note: {path}: known key, not built yet"))?;
    }
    Ok(code)
}

fn schema() -> Result<u8, Failure> {
    let document = rpc::schema_document(&WorkerPrograms::find().schemas(), output::now_ms());
    output::json(&document["schema"])?;
    Ok(exit_code::OK)
}

fn change(
    invocation: &Invocation,
    act: impl FnOnce(&mut Place) -> Result<String, FileCommandError>,
) -> Result<u8, Failure> {
    let mut place = Place::open(invocation)?;
    let done = act(&mut place).map_err(|error| failure(&error))?;
    output::line(&done)?;
    Ok(exit_code::OK)
}

/// Refusals of a change are errors; what is wrong with the file or the question stands for itself.
fn failure(error: &FileCommandError) -> Failure {
    match error {
        FileCommandError::NotFound(_) | FileCommandError::Unreadable(_) => Failure::new(error.to_string()),
        _ => Failure::new(format!("Error: {error}")),
    }
}

/// Who writes.
enum Place {
    Running(Running),
    /// With the lock that keeps a gateway from starting meanwhile.
    Stopped {
        disk: ConfigDisk,
        _lock: lock::Held,
    },
}

fn lock_failure(error: &lock::LockError) -> Failure {
    match error {
        lock::LockError::Io { .. } => Failure::new(format!(
            "{error}\nThe state directory and its files must belong to the user that runs this."
        )),
        _ => Failure::new(format!(
            "{error}\nIt is starting or stopping, or another command writes: try again."
        )),
    }
}

impl Place {
    fn open(invocation: &Invocation) -> Result<Self, Failure> {
        let disk = disk(invocation);
        match Client::connect(&invocation.paths) {
            Ok(client) => Ok(Self::Running(Running { disk, client })),
            Err(ClientError::NotRunning) => {
                let state = &invocation.paths.state_dir;
                lock::create_private_dir(state)
                    .map_err(|error| Failure::new(format!("state directory {}: {error}", state.display())))?;
                let held = lock::lock_instance(state).map_err(|error| lock_failure(&error))?;
                disk.use_workers(WorkerPrograms::find());
                Ok(Self::Stopped { disk, _lock: held })
            }
            Err(error) => Err(invocation.unreachable(&error)),
        }
    }

    fn set(&mut self, path: &str, value: &str, strict: bool) -> Result<String, FileCommandError> {
        match self {
            Self::Running(running) => file_command::set(running, path, value, strict),
            Self::Stopped { disk, .. } => file_command::set(&mut stopped(disk), path, value, strict),
        }
    }

    fn unset(&mut self, path: &str) -> Result<String, FileCommandError> {
        match self {
            Self::Running(running) => file_command::unset(running, path),
            Self::Stopped { disk, .. } => file_command::unset(&mut stopped(disk), path),
        }
    }
}

fn stopped(disk: &ConfigDisk) -> Stopped<'_> {
    Stopped { disk, now_ms: output::now_ms() }
}

/// The file's owner is the gateway: it checks the text, writes it and tells its clients.
struct Running {
    disk: ConfigDisk,
    client: Client,
}

impl Target for Running {
    fn disk(&self) -> &ConfigDisk {
        &self.disk
    }

    fn write(&mut self, before: &ConfigFile, wanted: Value) -> Result<(), FileCommandError> {
        let file = self.disk.judged(before, &NewText::Values(wanted)).map_err(file_command::failed)?;
        let raw = file.source.raw.unwrap_or_default();
        let params = json!({"raw": raw, "baseHash": before.source.hash, "repair": true});
        self.client.call("config.set", &params, WRITE_TIMEOUT).map(drop).map_err(refused)
    }
}

fn refused(error: ClientError) -> FileCommandError {
    let ClientError::Method(error) = error else { return FileCommandError::Change(error.to_string()) };
    let details: Value =
        error.details_json.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let first = details.pointer("/issues/0").map(|issue| {
        let hint = issue.get("hint").and_then(Value::as_str).map(str::to_owned);
        Issue { hint, ..Issue::new(output::text(issue, "/path"), output::text(issue, "/message")) }
    });
    match first {
        Some(issue) => FileCommandError::Invalid(file_command::validation_failure(&issue)),
        None => FileCommandError::Change(error.message),
    }
}
