//! The worker programs beside this one, and what they say of the sections that they own.

use super::{Finding, Severity};
use crate::config::ConfigFile;
use crate::config::worker_check::WorkerPrograms;
use crate::worker::{Binary, run_to_end};
use std::collections::BTreeMap;
use std::time::Duration;

const PROGRAMS: [&str; 2] = ["openclaw-agent", "openclaw-channel"];
/// Printing a version; longer means that it is another program.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Both exist and are of this release.
pub fn examine() -> Vec<Finding> {
    PROGRAMS.iter().filter_map(|name| fault(name)).collect()
}

fn fault(name: &str) -> Option<Finding> {
    let own = env!("CARGO_PKG_VERSION");
    let program = match Binary::find(name) {
        Ok(program) => program,
        Err(error) => {
            let missing = Finding::new("program.missing", Severity::Error, name, error.to_string());
            return Some(missing.remedy("install it beside the openclaw program"));
        }
    };
    let place = program.path().display();
    let printed = run_to_end(&program, &["--version"], &BTreeMap::new(), b"", VERSION_TIMEOUT)
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match printed {
        Ok(version) if version == format!("{name} {own}") => None,
        Ok(version) => {
            let message = format!("is \"{version}\", but openclaw is {own}");
            let other = Finding::new("program.version", Severity::Error, place, message);
            Some(other.remedy("install all three programs from one release"))
        }
        Err(error) => {
            let broken =
                Finding::new("program.broken", Severity::Error, place, format!("cannot be run: {error}"));
            Some(broken.remedy("install it again"))
        }
    }
}

/// What the workers will refuse.
pub fn sections(file: &ConfigFile) -> Vec<Finding> {
    let issues = WorkerPrograms::find().check(&file.for_workers());
    let place = file.source.path.display().to_string();
    let finding = |issue: crate::config::Issue| {
        let message = format!("{}: {}", issue.shown_path(), issue.message);
        let hint = issue.hint.unwrap_or_else(|| "correct the value".to_owned());
        Finding::new("config.invalid", Severity::Error, place.clone(), message).remedy(hint)
    };
    issues.into_iter().map(finding).collect()
}
