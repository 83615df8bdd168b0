//! `--canary`: tries a configuration before the agent's real process gets it. It does what a start does up to the point
//! where sessions are opened, which only one process may, and says how it went.
//!
//! Standard input is one JSON document with the same parts as a `Welcome`; standard output `{"ok": true}` or
//! `{"ok": false, "error": …}`. A configuration that kills this process would have killed the agent.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use proto::runtime::{failpoint, sys};
use proto::wire::handshake::{SecretMap, WorkerConfig};
use serde::Deserialize;
use serde_json::json;

use crate::setup::Setup;
use crate::tool::registry::Registry;

/// The configuration file may have 2 MiB; `${NAME}` adds to it.
const INPUT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What a test build reads as failpoints, so that a configuration can be one that kills.
const FAULT_PREFIX: &str = "failpoint:";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    agent_id: String,
    config: WorkerConfig,
    secrets: SecretMap,
}

/// See the module head. Exit 0 when there is an answer.
pub fn main() -> ExitCode {
    // Keys are on their way in: nobody may look.
    if sys::not_dumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut text);
    let given = read.map_err(|error| error.to_string()).and_then(|_| {
        serde_json::from_slice::<Given>(&text).map_err(|error| format!("not a configuration: {error}"))
    });
    let answer = match given.and_then(|given| try_it(&given)) {
        Ok(()) => json!({"ok": true}),
        Err(error) => json!({"ok": false, "error": error}),
    };
    println!("{answer}");
    ExitCode::SUCCESS
}

fn try_it(given: &Given) -> Result<(), String> {
    let setup = Setup::new(&given.agent_id, &given.config, &given.secrets);
    init(&setup);
    let _tools = Registry::of_all();
    let workspace = &setup.paths.workspace;
    usable(workspace).map_err(|error| format!("workspace {}: {error}", workspace.display()))
}

/// The last step of taking over a configuration, at a start and later.
pub fn init(setup: &Setup) {
    let theme = setup.agent.identity.theme.as_deref().unwrap_or_default();
    failpoint::arm(theme.strip_prefix(FAULT_PREFIX).unwrap_or_default());
    failpoint::hit("ag.init");
}

/// A folder that can be read, and made if it is not there.
fn usable(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::read_dir(dir).map(drop)
}
