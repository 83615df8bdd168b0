//! Whether a file may run: one judgement for the reload, for `config.plan` and for `config validate`, so that none of them
//! is surprised by another.
//!
//! Not here: what can only be known by trying (a canary, a network's word, an address), which the reload does afterwards.

use super::handle::ConfigHandle;
use super::isolation::Settings;
use super::plan::ConfigPlan;
use super::startup::{self, BindFacts, Overrides, Refusal, StartPlan};
use super::worker_check::WorkerPrograms;
use super::{ConfigFile, ConfigSnapshot, ConfigSource, Issue};
use crate::paths::Paths;
use crate::worker::sandbox::OTHER_FOLDER;
use proto::wire::handshake::Isolation;
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// A file that may run, and what a start would make of it.
pub struct Candidate {
    pub snapshot: Arc<ConfigSnapshot>,
    pub start: StartPlan,
}

/// What a file is judged against.
struct Ground<'a> {
    /// What runs; `None` for a file that is judged by itself. What was wrong with it before is not the file's fault.
    before: Option<&'a ConfigFile>,
    overrides: &'a Overrides,
    paths: &'a Paths,
}

/// What this host says of addresses.
#[must_use]
pub fn start_facts() -> BindFacts {
    BindFacts {
        loopback: TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_ok(),
        tailnet: None,
        in_container: std::path::Path::new("/.dockerenv").exists(),
    }
}

impl ConfigHandle {
    /// Whether a file could take the place of what runs. Asks the workers' programs, and blocks for it.
    ///
    /// # Errors
    /// Every reason why not that can be had without trying.
    pub fn verdict(&self, file: &Arc<ConfigFile>) -> Result<Candidate, Vec<Issue>> {
        let before = self.current();
        let overrides = self.overrides();
        let ground = Ground { before: Some(&before.file), overrides: &overrides, paths: self.paths() };
        verdict(file, &ground, |after| {
            let plan = ConfigPlan::of(&before, after, self.paths());
            match plan.touched().next() {
                Some(_) => self.refused_of(&before.file, &after.file),
                None => Vec::new(),
            }
        })
    }

    /// What the reload would refuse of a change, and would not refuse of the file before it: such a change is not even
    /// written. A file that is refused already may be mended key by key.
    #[must_use]
    pub fn refused_anew(&self, before: &ConfigFile, after: &Arc<ConfigFile>) -> Vec<Issue> {
        let mut issues = self.verdict(after).err().unwrap_or_default();
        if !issues.is_empty() {
            let known = self.verdict(&Arc::new(before.clone())).err().unwrap_or_default();
            issues.retain(|issue| {
                !known.iter().any(|old| old.path == issue.path && old.message == issue.message)
            });
        }
        issues
    }

    /// What a start with this configuration would do, with the flags of the running gateway.
    ///
    /// # Errors
    /// The first refusal.
    pub fn start_plan(&self, snapshot: &ConfigSnapshot) -> Result<StartPlan, Refusal> {
        startup::plan(snapshot, &self.overrides(), self.paths(), &start_facts())
    }
}

/// Judges a file while no gateway runs that could: as a start without flags would.
#[must_use]
pub fn alone(file: &Arc<ConfigFile>, paths: &Paths, programs: &WorkerPrograms) -> Vec<Issue> {
    // Whether this is a gateway's machine is asked at its start.
    let overrides = Overrides { allow_unconfigured: true, ..Overrides::default() };
    let ground = Ground { before: None, overrides: &overrides, paths };
    let workers = |after: &Arc<ConfigSnapshot>| {
        let issues = programs.check(&after.file.for_workers());
        issues.into_iter().map(|issue| file.placed(issue)).collect()
    };
    verdict(file, &ground, workers).err().unwrap_or_default()
}

/// What of [`ConfigFile::missing_secrets`] came with this file. What failed before is not the fault of a change.
fn new_missing_secrets(before: Option<&ConfigFile>, after: &ConfigFile, paths: &Paths) -> Vec<Issue> {
    let known = before.map(|before| before.missing_secrets(&paths.state_dir)).unwrap_or_default();
    let mut found = after.missing_secrets(&paths.state_dir);
    found.retain(|issue| !known.iter().any(|old| old.path == issue.path));
    found
}

/// Whether a path that an agent is given would show it the gateway's own files, secrets included.
#[must_use]
pub fn opens_own_files(real: &Path, paths: &Paths) -> bool {
    paths.state_dir.starts_with(real) || paths.config_file.starts_with(real)
}

/// Paths that must not be given away, where an agent that sees them is not started.
fn own_files_given_away(snapshot: &ConfigSnapshot, paths: &Paths) -> Vec<Issue> {
    if Settings::of(&snapshot.config).mode != Isolation::Require {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (place, block) in agent_blocks(&snapshot.file.resolved) {
        for (key, value) in [
            ("workspace", block.get("workspace")),
            ("isolation.readOnly", block.pointer("/isolation/readOnly")),
            ("isolation.readWrite", block.pointer("/isolation/readWrite")),
        ] {
            let texts = value.into_iter().flat_map(|value| match value {
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                value => value.as_str().into_iter().collect::<Vec<_>>(),
            });
            for text in texts.filter(|text| opens_own_files(&paths.expand(text), paths)) {
                let message = format!("{text} contains the gateway's own files, secrets included");
                let issue = Issue::new(format!("{place}.{key}"), message).hint(OTHER_FOLDER);
                found.push(snapshot.file.placed(issue));
            }
        }
    }
    found
}

/// Places in which agents are given paths.
fn agent_blocks(config: &Value) -> Vec<(String, &Value)> {
    let listed = config.pointer("/agents/list").and_then(Value::as_array).into_iter().flatten().enumerate();
    let keyed = config.pointer("/agents/entries").and_then(Value::as_object).into_iter().flatten();
    let defaults = config.pointer("/agents/defaults").map(|block| ("agents.defaults".to_owned(), block));
    let listed = listed.map(|(index, block)| (format!("agents.list.{index}"), block));
    let keyed = keyed.map(|(id, block)| (format!("agents.entries.{id}"), block));
    defaults.into_iter().chain(listed).chain(keyed).collect()
}

/// What stands in the way of a file whatever a start or a worker's program says of it.
#[must_use]
pub fn in_the_way(before: Option<&ConfigFile>, after: &ConfigSnapshot, paths: &Paths) -> Vec<Issue> {
    let mut issues = new_missing_secrets(before, &after.file, paths);
    issues.extend(own_files_given_away(after, paths));
    issues
}

fn verdict(
    file: &Arc<ConfigFile>,
    ground: &Ground<'_>,
    workers: impl FnOnce(&Arc<ConfigSnapshot>) -> Vec<Issue>,
) -> Result<Candidate, Vec<Issue>> {
    if !file.source.exists && ground.before.is_some_and(|before| before.source.exists) {
        let missing = Issue::new("", format!("config file not found: {}", file.source.path.display()));
        return Err(vec![missing.hint("put it back; the gateway goes on with what it read")]);
    }
    let snapshot = Arc::new(ConfigSnapshot::new(Arc::clone(file), ConfigSource::File)?);
    let mut issues = in_the_way(ground.before, &snapshot, ground.paths);
    issues.extend(workers(&snapshot));
    match startup::plan(&snapshot, ground.overrides, ground.paths, &start_facts()) {
        Ok(start) if issues.is_empty() => return Ok(Candidate { snapshot, start }),
        Ok(_) => {}
        Err(refusal) => issues.push(placed(file, &refusal.message)),
    }
    Err(issues)
}

/// A refusal of the start names its key in the text; the place is that key's.
#[must_use]
pub fn placed(file: &ConfigFile, message: &str) -> Issue {
    let named = message.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').find(|word| {
        let word = word.trim_end_matches('.');
        word.starts_with("gateway.") || word.starts_with("hooks.")
    });
    let path = match named.map(|word| word.trim_end_matches('.')) {
        Some(path) => path.to_owned(),
        None if message.contains("auth") => "gateway.auth".to_owned(),
        None if message.contains("bind") => "gateway.bind".to_owned(),
        None => "gateway.mode".to_owned(),
    };
    file.placed(Issue::new(path, message.replace('\n', " ")))
}
