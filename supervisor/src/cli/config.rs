//! `openclaw config`: the file by key, as text and as a schema. Reading needs no gateway. A write goes through the running
//! gateway, the one owner of the file; without one it is made here, under the instance lock.

mod plan;

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::advice::invalid_for_commands;
use crate::config::file_command::{self, FileCommandError, Stopped, Target};
use crate::config::handle::NewText;
use crate::config::worker_check::WorkerPrograms;
use crate::config::{ConfigDisk, ConfigFile, ConfigSnapshot, ConfigSource, load_env, rpc};
use crate::{exit_code, lock};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The gateway asks both worker programs before it writes; each may take 5 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// A change whose file was changed meanwhile is made again: dozens of commands side by side are done long before.
const REPEAT_WITHIN: Duration = Duration::from_secs(60);
/// The lock of a gateway that is stopped is another command's, for one write, or a gateway's that starts or stops.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
/// The same while other commands write one after the other.
const COMMANDS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at the lock.
const LOCK_LOOK: Duration = Duration::from_millis(20);

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

/// What a gateway of this file runs with: the file, or the last good configuration while it is invalid.
pub fn in_force(invocation: &Invocation) -> Result<ConfigSnapshot, Failure> {
    let disk = disk(invocation);
    let file = Arc::new(disk.read());
    ConfigSnapshot::new(Arc::clone(&file), ConfigSource::File).or_else(|issues| {
        let good = disk.store().load(&disk.paths.config_file, &disk.env);
        good.map_err(|_| Failure::new(invalid_for_commands(&file.source.path, &issues)))
    })
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
    let file = Arc::new(read_file(invocation)?);
    let issues = match plan::problems(invocation, &file) {
        Some(issues) => issues,
        None => file_command::validation_issues(&file, &invocation.paths, &WorkerPrograms::find()),
    };
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
    act: impl Fn(&mut Place) -> Result<String, FileCommandError>,
) -> Result<u8, Failure> {
    let mut place = Place::open(invocation)?;
    let end = Instant::now() + REPEAT_WITHIN;
    let done = loop {
        match act(&mut place) {
            // Each time somebody else's write went through, so that this ends with them.
            Err(FileCommandError::Stale) if Instant::now() < end => {}
            done => break done.map_err(|error| failure(&error))?,
        }
    };
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
        lock::LockError::Command { .. } => Failure::new(error.to_string()),
        _ => Failure::new(format!(
            "{error}\nIt is starting or stopping, or another command writes: try again."
        )),
    }
}

impl Place {
    fn open(invocation: &Invocation) -> Result<Self, Failure> {
        let disk = disk(invocation);
        let begun = Instant::now();
        loop {
            match Client::connect(&invocation.paths) {
                Ok(client) => return Ok(Self::Running(Running { disk, client })),
                Err(ClientError::NotRunning) => {}
                Err(error) => return Err(invocation.unreachable(&error)),
            }
            let state = &invocation.paths.state_dir;
            lock::create_private_dir(state)
                .map_err(|error| Failure::new(format!("state directory {}: {error}", state.display())))?;
            match lock::lock_instance(state) {
                Ok(held) => {
                    held.note_command("openclaw config");
                    disk.use_workers(WorkerPrograms::find());
                    return Ok(Self::Stopped { disk, _lock: held });
                }
                Err(lock::LockError::Command { .. }) if begun.elapsed() < COMMANDS_WITHIN => {}
                Err(lock::LockError::StateDir { .. }) if begun.elapsed() < LOCK_WITHIN => {}
                Err(error) => return Err(lock_failure(&error)),
            }
            std::thread::sleep(LOCK_LOOK);
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
    let issues = details["issues"].as_array().into_iter().flatten().map(plan::issue).collect::<Vec<_>>();
    match (!issues.is_empty()).then_some(issues) {
        Some(issues) => FileCommandError::Invalid(file_command::validation_failures(&issues)),
        None if error.message == rpc::CHANGED_MEANWHILE => FileCommandError::Stale,
        None => FileCommandError::Change(error.message),
    }
}
