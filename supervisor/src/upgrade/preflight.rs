//! U1: the new executable is asked whether it could go on, before anything is touched.
//!
//! It runs as a child with the arguments that it would be started with, so that a flag that it does not know is found here
//! and not when there is no way back.

use super::image;
use super::state::{READABLE_BY, SCHEMA, SCHEMA_MIN};
use crate::config::{ConfigHandle, Environment, StartPolicy};
use crate::paths::Paths;
use crate::worker::{Binary, run_to_end};
use proto::runtime::failpoint;
use proto::wire::version::{PROTO_MAX, PROTO_MIN};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// Hidden flag of the command line.
pub const FLAG: &str = "--preflight";
/// Reading the configuration takes milliseconds; a host that is busy may need much longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// First bytes of every executable that Linux starts without an interpreter.
const ELF: [u8; 4] = *b"\x7fELF";
/// Longest piece of a child's output that is quoted.
const QUOTE_CHARS_MAX: usize = 400;

/// What the running image tells the one that is asked. Standard input may be empty: then it is asked for itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Question {
    pub state_schema: u32,
    pub readable_by: u32,
    pub db_schema: i64,
    pub proto_min: u16,
    pub proto_max: u16,
    /// An invalid configuration file is passed over.
    pub use_last_good: bool,
}

impl Default for Question {
    fn default() -> Self {
        Self {
            state_schema: SCHEMA,
            readable_by: READABLE_BY,
            db_schema: crate::journal::SCHEMA_VERSION,
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            use_last_good: false,
        }
    }
}

/// The answer, one line of JSON on standard output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Answer {
    pub ok: bool,
    /// Version of the executable.
    pub build: String,
    pub proto_min: u16,
    pub proto_max: u16,
    pub state_schema: u32,
    pub state_schema_min: u32,
    pub db_schema: i64,
    /// Why not.
    pub problems: Vec<String>,
}

/// What this executable answers.
pub fn answer(question: &Question, paths: &Paths, env: Environment, use_last_good: bool) -> Answer {
    let mut problems = Vec::new();
    if !super::blob::is_readable(question.state_schema, question.readable_by) {
        let (schema, by) = (question.state_schema, question.readable_by);
        problems.push(format!(
            "state schema {schema} (readable from {by}) is not among those that this release reads ({SCHEMA_MIN} to {SCHEMA})"
        ));
    }
    if question.db_schema > crate::journal::SCHEMA_VERSION {
        let (found, known) = (question.db_schema, crate::journal::SCHEMA_VERSION);
        problems.push(format!("journal schema {found} is newer than this release's {known}"));
    }
    if question.proto_min > PROTO_MAX || question.proto_max < PROTO_MIN {
        problems.push("no common version of the worker protocol".to_owned());
    }
    let use_last_good = use_last_good || question.use_last_good;
    let env = crate::config::load_env(env, paths, None);
    if let Err(error) =
        ConfigHandle::start(paths.clone(), env, StartPolicy { use_last_good, ..StartPolicy::default() })
    {
        problems.push(error.to_string());
    }
    Answer {
        ok: problems.is_empty(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        state_schema: SCHEMA,
        state_schema_min: SCHEMA_MIN,
        db_schema: crate::journal::SCHEMA_VERSION,
        problems,
    }
}

/// Reads the question from standard input and prints the answer.
pub fn serve(paths: &Paths, env: Environment, use_last_good: bool) -> Answer {
    failpoint::arm(env.get("OPENCLAW_FAILPOINTS").unwrap_or_default());
    failpoint::hit("sv.up.answer");
    let mut text = String::new();
    let read = std::io::stdin().take(1 << 16).read_to_string(&mut text);
    let question = read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
    answer(&question, paths, env, use_last_good)
}

/// Asks the executable at `path`, as if it were the next image. Blocks for at most 10 s. `use_last_good`: an invalid
/// configuration file is no obstacle.
///
/// # Errors
/// It cannot be started, does not answer, or says why it could not go on.
pub fn ask(path: &Path, use_last_good: bool) -> Result<Answer, String> {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect();
    question(path, &arguments, BTreeMap::new(), use_last_good)
}

/// Asks the executable at `path` for the gateway of these places, which does not run.
///
/// # Errors
/// As [`ask`].
pub fn ask_for(path: &Path, paths: &Paths) -> Result<Answer, String> {
    let places = [("OPENCLAW_STATE_DIR", &paths.state_dir), ("OPENCLAW_CONFIG_PATH", &paths.config_file)];
    let places = places.map(|(name, place)| (name.to_owned(), place.display().to_string()));
    question(path, &[], places.into(), false)
}

fn question(
    path: &Path,
    arguments: &[String],
    more: BTreeMap<String, String>,
    use_last_good: bool,
) -> Result<Answer, String> {
    let named = path.display();
    let mut head = [0; 4];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .map_err(|error| format!("{named}: {error}"))?;
    if head != ELF {
        return Err(format!("{named} is no executable of this system"));
    }
    let binary = Binary::open(path).map_err(|error| error.to_string())?;
    let arguments: Vec<&str> = std::iter::once(FLAG).chain(arguments.iter().map(String::as_str)).collect();
    let mut env: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| !image::is_ours(name)).collect();
    env.extend(more);
    let question = Question { use_last_good, ..Question::default() };
    let question = serde_json::to_vec(&question).unwrap_or_default();
    let output = run_to_end(&binary, &arguments, &env, &question, ANSWER_WITHIN)
        .map_err(|error| format!("{named}: {error}"))?;
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said: String = String::from_utf8_lossy(&output.stderr).chars().take(QUOTE_CHARS_MAX).collect();
        let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("code {code}"));
        format!("{named} does not answer as a gateway does (ended with {code}): {}", said.trim())
    })?;
    if answer.ok { Ok(answer) } else { Err(answer.problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_executable_is_not_even_started() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("openclaw");
        std::fs::write(&text, "#!/bin/sh\necho '{\"ok\":true}'\n").unwrap();
        assert!(ask(&text, false).unwrap_err().contains("no executable"));
        assert!(ask(&dir.path().join("missing"), false).unwrap_err().contains("No such file"));
    }
}
