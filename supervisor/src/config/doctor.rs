//! What `doctor` finds wrong with the configuration and its files, and what `doctor --fix` mends.
//!
//! Not here: printing, questions, and checks of anything but the configuration and its place.

use super::disk::{Allow, ConfigDisk, NewText};
use super::gateway::Mode;
use super::issue::Issue;
use super::key_path::{KeyPath, Part};
use super::read::ConfigFile;
use super::startup::auth::generate_token;
use super::{AuthMode, ConfigSnapshot, ConfigSource};
use crate::service::account::stranger_at;
use serde::Serialize;
use serde_json::json;
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable, for programs: `config.unknown_key`.
    pub id: &'static str,
    pub severity: Severity,
    /// A path, `<file>:<line>:<column>`, a worker or a process.
    pub place: String,
    pub message: String,
    /// What to do about it; empty when nothing need be done.
    pub remedy: String,
    /// Whether `--fix` mends it.
    pub fixable: bool,
}

impl Finding {
    #[must_use]
    pub fn new(
        id: &'static str,
        severity: Severity,
        place: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        let place = place.to_string();
        Self { id, severity, place, message: message.into(), remedy: String::new(), fixable: false }
    }

    /// What a person should do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// `--fix` mends it.
    #[must_use]
    pub fn fixable(self) -> Self {
        Self { fixable: true, ..self.remedy("openclaw doctor --fix") }
    }
}

/// Everything that can be said without changing anything.
#[must_use]
pub fn examine(disk: &ConfigDisk) -> Vec<Finding> {
    let file = disk.read();
    let path = file.source.path.display();
    let mut found = Vec::new();
    if !file.source.exists {
        let missing =
            Finding::new("config.missing", Severity::Warning, path.to_string(), "there is no configuration");
        found.push(missing.remedy("openclaw up"));
    }
    for issue in &file.findings.issues {
        found.push(if issue.unknown_key.is_some() {
            // The nearest valid name may be what was meant: worth reading before the key is removed.
            let nearest = issue.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let mut unknown = of_issue("config.unknown_key", Severity::Error, issue, &file);
            unknown.message.push_str(&nearest);
            unknown.fixable()
        } else {
            of_issue("config.invalid", Severity::Error, issue, &file)
        });
    }
    for issue in &file.findings.legacy {
        found.push(of_issue("config.legacy_key", Severity::Warning, issue, &file).fixable());
    }
    let legacy = &file.findings.legacy;
    let missing = file.missing_secrets(&disk.paths.state_dir);
    for issue in &missing {
        found.push(of_issue("config.secret", Severity::Warning, issue, &file));
    }
    let told = |issue: &Issue| legacy.contains(issue) || missing.iter().any(|told| told.path == issue.path);
    for issue in file.findings.warnings.iter().filter(|issue| !told(issue)) {
        found.push(of_issue("config.warning", Severity::Warning, issue, &file));
    }
    for key in &file.findings.unbuilt {
        let message = format!("{key}: known key, not built yet; it has no effect");
        found.push(Finding::new("config.not_built", Severity::Note, path.to_string(), message));
    }
    examine_modes(disk, &mut found);
    examine_start(&file, &mut found);
    found
}

/// `<file>:<line>:<column>` where it is known; the hint is the remedy.
fn of_issue(id: &'static str, severity: Severity, issue: &Issue, file: &ConfigFile) -> Finding {
    let path = issue.file.as_ref().unwrap_or(&file.source.path).display();
    let place = match issue.line {
        0 => path.to_string(),
        line => format!("{path}:{line}:{}", issue.column),
    };
    // Without a path it is the text, not a value of it.
    let usual = if issue.path.is_empty() { "correct the file there" } else { "correct the value" };
    let hint = issue.hint.clone().unwrap_or_else(|| usual.to_owned());
    let finding =
        Finding::new(id, severity, place, format!("{}: {}", issue.shown_path(), issue.message)).remedy(hint);
    match (severity, &issue.hint) {
        (Severity::Error, _) | (_, Some(_)) => finding,
        _ => finding.remedy(""),
    }
}

fn mode_bits(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|meta| meta.permissions().mode() & 0o777)
}

fn examine_modes(disk: &ConfigDisk, found: &mut Vec<Finding>) {
    for (path, wanted, id) in [
        (&disk.paths.config_file, 0o600, "config.file_mode"),
        (&disk.paths.state_dir, 0o700, "state.dir_mode"),
    ] {
        if let Some(bits) = mode_bits(path).filter(|bits| bits & !wanted != 0) {
            let message = format!("can be read or written by others (mode {bits:o}, should be {wanted:o})");
            found.push(Finding::new(id, Severity::Warning, path.display(), message).fixable());
        }
    }
    let own = rustix::process::getuid().as_raw();
    if let Ok(meta) = fs::metadata(&disk.paths.config_file)
        && meta.uid() != own
    {
        let path = disk.paths.config_file.display();
        let message = format!("belongs to uid {}, not to {own}", meta.uid());
        // In somebody else's directory it may well be right as it is: the gateway runs as that account.
        let remedy = stranger_at(&disk.paths.state_dir).unwrap_or_else(|| format!("chown {own} {path}"));
        found.push(Finding::new("config.owner", Severity::Warning, path, message).remedy(remedy));
    }
}

fn examine_start(file: &ConfigFile, found: &mut Vec<Finding>) {
    let Ok(snapshot) = ConfigSnapshot::new(Arc::new(file.clone()), ConfigSource::File) else { return };
    if !file.source.exists {
        return;
    }
    let path = file.source.path.display();
    match snapshot.gateway.mode {
        Some(Mode::Local) => {}
        Some(Mode::Remote) => {
            let message = "gateway.mode is remote: commands use another machine's gateway, none starts here";
            found.push(Finding::new("gateway.mode", Severity::Note, path.to_string(), message));
        }
        None => {
            let message = "gateway.mode is unset: the gateway will not start";
            let mode = Finding::new("gateway.mode", Severity::Warning, path.to_string(), message);
            found.push(mode.remedy("openclaw config set gateway.mode local"));
        }
    }
    if lacks_token(&snapshot) {
        let message = "no gateway token or password: one is generated at the next start";
        found.push(Finding::new("gateway.auth_missing", Severity::Warning, path, message).fixable());
    }
}

fn lacks_token(snapshot: &ConfigSnapshot) -> bool {
    let auth = &snapshot.gateway.auth;
    let from_env = |name: &str| snapshot.env().get(name).is_some();
    auth.mode.is_none_or(|mode| mode == AuthMode::Token)
        && auth.token.is_none()
        // A reference whose variable is not set now is a decision of the user, not a gap.
        && snapshot.file.parsed.pointer("/gateway/auth/token").is_none()
        && !from_env("OPENCLAW_GATEWAY_TOKEN")
        && (auth.mode.is_some() || (auth.password.is_none() && !from_env("OPENCLAW_GATEWAY_PASSWORD")))
}

/// Mends what can be mended in the file and says what it did. Nobody else may write meanwhile: the caller holds the
/// instance lock. A step that fails says so.
#[must_use]
pub fn repair(disk: &ConfigDisk, now_ms: i64) -> Vec<String> {
    let mut done = Vec::new();
    let before = disk.read();
    if !before.source.exists || !before.parsed.is_object() {
        return done;
    }
    let mut wanted =
        if before.findings.legacy.is_empty() { before.parsed.clone() } else { migrated(&before) };
    for issue in &before.findings.legacy {
        done.push(format!("Moved {}", issue.path));
    }
    for issue in &before.findings.issues {
        let Some(key) = &issue.unknown_key else { continue };
        let parent =
            if issue.path.is_empty() { Some(KeyPath::default()) } else { KeyPath::parse(&issue.path).ok() };
        if parent.is_some_and(|parent| parent.join(Part::Key(key.clone())).remove(&mut wanted)) {
            let dot = if issue.path.is_empty() { "" } else { "." };
            done.push(format!("Removed unknown key {}{dot}{key}", issue.path));
        }
    }
    let judged = super::judge(&disk.paths.config_file, &wanted.to_string(), &disk.env);
    if let Ok(snapshot) = ConfigSnapshot::new(Arc::new(judged), ConfigSource::File)
        && lacks_token(&snapshot)
        && let Some(token) = generate_token()
    {
        super::merge_patch(
            &mut wanted,
            &json!({"gateway": {"auth": {"mode": "token", "token": token.expose()}}}),
        );
        done.push("Generated gateway.auth.token".to_owned());
    }
    if wanted != before.parsed {
        let allow = Allow { loss: true, repair: true };
        if let Err(error) = disk.change(&before, NewText::Values(wanted), allow, now_ms) {
            done = vec![format!("The config was not changed: {error}")];
        }
    }
    done
}

/// Old keys in their new places, as authored: references stay references.
fn migrated(file: &ConfigFile) -> serde_json::Value {
    let text = file.source.raw.as_deref().unwrap_or("{}");
    let Ok(mut tree) = super::syntax::parse(text) else { return file.parsed.clone() };
    let _ = super::legacy::migrate(&mut tree, &[]);
    tree.to_value()
}

/// Takes the rights of others away from the configuration and the state directory; one line for each change.
pub fn repair_modes(disk: &ConfigDisk, done: &mut Vec<String>) {
    for (path, wanted) in [(&disk.paths.config_file, 0o600), (&disk.paths.state_dir, 0o700)] {
        let Some(bits) = mode_bits(path).filter(|bits| bits & !wanted != 0) else { continue };
        match fs::set_permissions(path, fs::Permissions::from_mode(bits & wanted)) {
            Ok(()) => done.push(format!("Set mode of {} to {:o}", path.display(), bits & wanted)),
            Err(error) => done.push(format!("Set mode of {} failed: {error}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::paths::{Paths, ProfileFlags};

    fn disk(text: &str) -> (tempfile::TempDir, ConfigDisk) {
        let dir = tempfile::tempdir().expect("dir");
        let env: Environment = [("HOME", dir.path().to_str().expect("utf-8"))].into_iter().collect();
        let paths = Paths::resolve(&env, &ProfileFlags::default(), dir.path(), |_| false).expect("paths");
        fs::create_dir_all(&paths.state_dir).expect("dir");
        fs::set_permissions(&paths.state_dir, fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(&paths.config_file, text).expect("write");
        fs::set_permissions(&paths.config_file, fs::Permissions::from_mode(0o644)).expect("chmod");
        (dir, ConfigDisk::new(paths, env))
    }

    fn ids(disk: &ConfigDisk) -> Vec<&'static str> {
        examine(disk).into_iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn findings_are_mended_and_stay_mended() {
        let (_dir, disk) = disk(
            "{\n  // kept\n  gateway: {mode: 'local', nope: 1},\n  telegram: {botToken: '${T}'},\n  browser: {enabled: true},\n}",
        );
        assert_eq!(
            ids(&disk),
            [
                "config.unknown_key",
                "config.legacy_key",
                "config.secret",
                "config.warning",
                "config.not_built",
                "config.file_mode",
                "state.dir_mode"
            ]
        );
        let first = &examine(&disk)[0];
        assert!(first.place.ends_with("openclaw.json:3:28") && first.fixable, "{first:?}");
        let mut done = repair(&disk, 1);
        repair_modes(&disk, &mut done);
        // The file that was written anew has its mode already.
        assert_eq!(done.len(), 4, "{done:?}");
        assert_eq!(ids(&disk), ["config.secret", "config.not_built"]);
        let text = fs::read_to_string(&disk.paths.config_file).expect("read");
        assert!(text.contains("// kept") && text.contains("${T}") && !text.contains("nope"), "{text}");
        let file = disk.read();
        assert_eq!(file.parsed["channels"]["telegram"]["botToken"], "${T}");
        assert_eq!(file.parsed["gateway"]["auth"]["token"].as_str().map(str::len), Some(48));
        assert_eq!(repair(&disk, 2), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_alone() {
        let (_dir, disk) = disk("{");
        assert_eq!(ids(&disk)[0], "config.invalid");
        assert_eq!(repair(&disk, 1), [""; 0]);
        assert_eq!(fs::read_to_string(&disk.paths.config_file).expect("read"), "{");
    }
}
