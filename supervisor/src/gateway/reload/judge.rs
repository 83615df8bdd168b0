//! Whether a file may run: the same rules as at a start, and what the workers' programs say of what changed.

use super::{Candidate, Parts, Refused, Reloader};
use crate::config::plan::ConfigPlan;
use crate::config::startup::auth::GeneratedToken;
use crate::config::startup::{self, BindFacts, Refusal, StartPlan};
use crate::config::{ConfigFile, ConfigSnapshot, ConfigSource, Issue};
use std::net::TcpListener;
use std::sync::Arc;

/// What the host says of addresses.
#[must_use]
pub fn start_facts() -> BindFacts {
    BindFacts {
        loopback: TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_ok(),
        tailnet: None,
        in_container: std::path::Path::new("/.dockerenv").exists(),
    }
}

/// What a start with this file would do. A token that is no longer in the file stays the one that runs.
pub fn start_plan(parts: &Parts, snapshot: &ConfigSnapshot) -> Result<StartPlan, Refusal> {
    let paths = parts.gw.config.paths();
    let mut plan = startup::plan(snapshot, &parts.overrides, paths, &start_facts())?;
    if plan.auth.generated != GeneratedToken::No {
        plan.auth.token.clone_from(&parts.plan.auth.token);
        plan.auth.generated = GeneratedToken::No;
        plan.warnings
            .push("gateway.auth.token is gone from the file; the one that runs stays in use".to_owned());
    }
    Ok(plan)
}

impl Reloader {
    /// Every reason not to run it that can be had without trying.
    pub(super) async fn judge(&self, file: &Arc<ConfigFile>) -> Result<Candidate, Refused> {
        if !file.source.exists && self.parts.gw.config.current().file.source.exists {
            let missing = Issue::new("", format!("config file not found: {}", file.source.path.display()));
            return Err(Refused::invalid(vec![
                missing.hint("put it back; the gateway goes on with what it read"),
            ]));
        }
        let snapshot = ConfigSnapshot::new(file.clone(), ConfigSource::File).map_err(Refused::invalid)?;
        let start = start_plan(&self.parts, &snapshot)
            .map_err(|refusal| Refused::invalid(vec![placed(file, &refusal.message)]))?;
        let config = self.parts.gw.config.clone();
        let (before, after) = (config.current(), Arc::new(snapshot));
        let candidate = Candidate { snapshot: after.clone(), start };
        let asked = tokio::task::spawn_blocking(move || {
            let mut issues = missing_secrets(&before.file, &after.file);
            let plan = ConfigPlan::of(&before, &after, config.paths());
            if plan.touched().next().is_some() {
                issues.extend(config.refused_of(&before.file, &after.file));
            }
            issues
        });
        match asked.await {
            Ok(issues) if issues.is_empty() => {
                for warning in &candidate.start.warnings {
                    tracing::warn!("{warning}");
                }
                Ok(candidate)
            }
            Ok(issues) => Err(Refused::invalid(issues)),
            Err(error) => Err(Refused::invalid(vec![Issue::new("", error.to_string())])),
        }
    }
}

/// A refusal of the start names its key in the text; the place is that key's.
fn placed(file: &ConfigFile, message: &str) -> Issue {
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

/// References of changed secrets that stand for nothing: whoever uses them would fail.
fn missing_secrets(before: &ConfigFile, after: &ConfigFile) -> Vec<Issue> {
    let known = before.missing_secrets();
    after
        .missing_secrets()
        .into_iter()
        .filter(|issue| !known.iter().any(|old| old.path == issue.path))
        .collect()
}
