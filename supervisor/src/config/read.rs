//! From bytes on disk to a judged configuration: read, parse, include, environment, old keys, types, rules, defaults.
//! One function, no state; an unreadable or invalid file never turns into an empty configuration.

use super::check::{Checked, check};
use super::duplicates::duplicates;
use super::environment::Environment;
use super::include::{FILE_BYTES_MAX, Includes};
use super::issue::Issue;
use super::key_path::KeyPath;
use super::known::shapes_of;
use super::redact::{SENTINEL, redact};
use super::secret::{SecretInput, SecretReference};
use super::substitute::{fill, is_reference, substitute};
use super::syntax::{Kind, Node, parse};
use super::{legacy, reach, validate};
use crate::service::account::stranger_at;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the disk holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceText {
    pub path: PathBuf,
    pub exists: bool,
    /// `None` when the file could not be read.
    pub raw: Option<String>,
    /// SHA-256 of the bytes as they are, secrets included, in hex; of nothing for a missing file.
    pub hash: String,
    /// Every file read: the main one first, then included ones.
    pub files: Vec<PathBuf>,
}

/// Everything that can be said about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Not empty means invalid.
    pub issues: Vec<Issue>,
    pub warnings: Vec<Issue>,
    /// Keys of earlier releases, read in their new place.
    pub legacy: Vec<Issue>,
    /// Known keys that nothing reads yet.
    pub unbuilt: Vec<String>,
    /// Errors of `config validate` that a running gateway only warns of.
    pub missing_env: Vec<Issue>,
}

/// A file with its verdict. Values are only present as far as the pipeline came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConfigFile {
    pub source: SourceText,
    /// As authored: JSON5 read, nothing replaced.
    pub parsed: Value,
    /// Includes replaced, references not.
    pub expanded: Value,
    /// Includes and references replaced, no defaults.
    pub resolved: Value,
    pub findings: Findings,
    /// The environment with `.env` files and the `env` section.
    pub env: Environment,
}

/// What to do about a secret of a source that is not read.
const ONLY_ENV: &str = "only secrets of source \"env\" are read so far; put it into a variable";

/// In the text of every secret whose variable has no value.
pub const MISSING_VARIABLE: &str = "cannot be had (set ";

/// What to do about a variable that has no value.
fn set_variables(names: &[String], state_dir: &Path) -> String {
    let (names, state) = (names.join(" and "), state_dir.display());
    format!(
        "set {names} in the gateway's environment, in {state}/.env or in {state}/service.env and restart the gateway, or give another reference"
    )
}

impl ConfigFile {
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.findings.issues.is_empty()
    }

    /// Puts an issue at its key, or at the nearest one above it that stands in the file.
    #[must_use]
    pub fn placed(&self, issue: Issue) -> Issue {
        let tree = self.source.raw.as_deref().and_then(|raw| parse(raw).ok());
        match tree {
            Some(tree) if issue.line == 0 => {
                let at = tree.position(&issue.path);
                issue.at(at, &self.source.files)
            }
            _ => issue,
        }
    }

    /// Secrets that are named and cannot be had. `state_dir`: where the files with variables lie.
    #[must_use]
    pub fn missing_secrets(&self, state_dir: &Path) -> Vec<Issue> {
        let mut found = Vec::new();
        let missing = |path: &str| self.findings.missing_env.iter().any(|missing| missing.path == path);
        super::sensitive::each(&self.resolved, &mut |path, value| {
            let (named, remedy) = match SecretInput::from_value(value) {
                Some(SecretInput::Text(text)) if is_reference(text.trim()) || missing(path) => {
                    let (_, names) = fill(&text, |_| None);
                    let shown = names.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>();
                    (shown.join(" and "), set_variables(&names, state_dir))
                }
                Some(SecretInput::Reference(to)) if self.env_of(&to).is_none() => {
                    let remedy = match to.source.as_str() {
                        "env" => set_variables(std::slice::from_ref(&to.id), state_dir),
                        _ => ONLY_ENV.to_owned(),
                    };
                    (format!("\"{}\" of source \"{}\"", to.id, to.source), remedy)
                }
                _ => return,
            };
            let issue = Issue::new(path, format!("the secret {named} cannot be had"));
            found.push(self.placed(issue.hint(remedy)));
        });
        found
    }

    /// What the workers' programs are asked about: secrets are hidden, those too that stand for nothing. They would take a
    /// reference for the secret and complain of its form.
    #[must_use]
    pub fn for_workers(&self) -> Value {
        let mut shown = redact(&self.resolved);
        for missing in self.missing_secrets(Path::new("")) {
            let path = KeyPath::parse(&missing.path).ok();
            if let Some(path) = path.filter(|path| path.get(&shown).is_some_and(Value::is_string)) {
                let _ = path.set(&mut shown, Value::from(SENTINEL));
            }
        }
        shown
    }

    fn env_of(&self, to: &SecretReference) -> Option<&str> {
        (to.source == "env").then(|| self.env.get(&to.id)).flatten()
    }

    /// Names the content, included files and variables too.
    #[must_use]
    pub fn print(&self) -> String {
        match self.source.files.len() {
            // It could not be read: what is there instead is all that can be told of it.
            0 => self.findings.issues.iter().map(ToString::to_string).collect(),
            1 => self.source.hash.clone(),
            _ => sha256_hex(format!("{}\n{}", self.source.hash, self.resolved).as_bytes()),
        }
    }

    /// The same bytes, and the same values where files are included.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.source.hash == other.source.hash
            && (self.source.files.len() < 2 || self.resolved == other.resolved)
    }

    /// With the defaults that the original fills in at load.
    #[must_use]
    pub fn with_defaults(&self) -> Value {
        super::defaults::apply(&self.resolved)
    }
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads and judges the file at `path`. `env` is the environment before the file's own `env` section.
#[must_use]
pub fn read_file(path: &Path, env: &Environment) -> ConfigFile {
    match read_text(path) {
        Ok(Some(text)) => judge(path, &text, env),
        Ok(None) => ConfigFile {
            source: SourceText {
                path: path.to_path_buf(),
                hash: sha256_hex(b""),
                files: vec![path.to_path_buf()],
                ..SourceText::default()
            },
            parsed: Value::Object(Map::new()),
            expanded: Value::Object(Map::new()),
            resolved: Value::Object(Map::new()),
            env: env.clone(),
            ..ConfigFile::default()
        },
        Err(issue) => ConfigFile {
            source: SourceText { path: path.to_path_buf(), exists: true, ..SourceText::default() },
            findings: Findings { issues: vec![*issue], ..Findings::default() },
            env: env.clone(),
            ..ConfigFile::default()
        },
    }
}

/// The bytes as text; `None` when there is no file. Never waits, and never reads more than a configuration may have.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, Box<Issue>> {
    let failed = |error: &std::io::Error| {
        let mut issue = Issue::new("", format!("read failed: {error}"));
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            issue = issue.hint(stranger_at(path.parent().unwrap_or(path)).unwrap_or_else(|| {
                let uid = rustix::process::getuid().as_raw();
                format!("chown {uid} \"{}\"", path.display())
            }));
        }
        Err(Box::new(issue))
    };
    let file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return failed(&error),
    };
    let mut bytes = Vec::new();
    if let Err(error) = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        return failed(&error);
    }
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Box::new(Issue::new(
            "",
            format!("read failed: file is larger than {FILE_BYTES_MAX} bytes"),
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Box::new(Issue::new("", "read failed: file is not UTF-8 text"))),
    }
}

/// Opens for reading and never waits: a named pipe without a writer would hold up the start.
///
/// # Errors
/// As `open`.
pub fn open_at_once(path: &Path) -> std::io::Result<std::fs::File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The same, and only a file that can be read again and again.
fn open_regular(path: &Path) -> std::io::Result<std::fs::File> {
    let file = open_at_once(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("not a regular file")) }
}

/// Judges a text as if it stood at `path`.
#[must_use]
pub fn judge(path: &Path, text: &str, env: &Environment) -> ConfigFile {
    let mut out = ConfigFile {
        source: SourceText {
            path: path.to_path_buf(),
            exists: true,
            raw: Some(text.to_owned()),
            hash: sha256_hex(text.as_bytes()),
            files: vec![path.to_path_buf()],
        },
        env: env.clone(),
        ..ConfigFile::default()
    };
    let tree = match parse(text) {
        Ok(tree) => tree,
        Err(error) => {
            let mut issue = Issue::new("", format!("JSON5 parse failed: SyntaxError: {error}"));
            issue.file = Some(path.to_path_buf());
            (issue.line, issue.column) = (error.line, error.column);
            out.findings.issues.push(issue);
            return out;
        }
    };
    out.parsed = tree.to_value();
    if !matches!(tree.kind, Kind::Object(_)) {
        out.findings
            .issues
            .push(Issue::new("", "expected object at the root of the file").at(tree.at, &out.source.files));
        return out;
    }
    out.findings.warnings.extend(duplicates(&tree, &out.source.files));
    let mut includes = Includes::new(path);
    match includes.expand(tree, &[path.to_path_buf()]) {
        Ok(tree) => {
            out.source.files = includes.files;
            judge_tree(tree, &mut out);
        }
        Err(error) => out.findings.issues.push(Issue::new("", error.to_string())),
    }
    out
}

fn judge_tree(mut tree: Node, out: &mut ConfigFile) {
    out.expanded = tree.to_value();
    let refused = out.env.add_section(&out.expanded);
    for name in refused {
        let path = format!("env.{name}");
        out.findings
            .warnings
            .push(Issue::new(path, "a configuration file may not set this variable; ignored"));
    }
    let missing = substitute(&mut tree, &out.env);
    let files = out.source.files.clone();
    out.findings.missing_env = missing
        .into_iter()
        .map(|missing| {
            let text =
                format!("Missing env var \"{}\" referenced at config path: {}", missing.name, missing.path);
            Issue::new(missing.path, text).at(missing.at, &files)
        })
        .collect();
    out.findings.legacy = legacy::migrate(&mut tree, &files);
    out.resolved = tree.to_value();
    let ignored = out.resolved.pointer("/compat/ignoreUnknown").and_then(Value::as_array);
    let ignored: Vec<String> =
        ignored.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let shapes = shapes_of(&|section| out.resolved.get(section).is_some());
    out.findings.issues.extend(validate::validate(&tree, &shapes, &files, &ignored));
    if out.is_valid() {
        let found = check(&Checked { root: &tree, value: &out.resolved, files: &files });
        out.findings.issues.extend(found.issues);
        out.findings.warnings.extend(found.warnings);
    }
    let unresolved = out.findings.missing_env.iter();
    let refused: Vec<Issue> =
        unresolved.filter(|m| !out.findings.issues.iter().any(|i| i.path == m.path)).cloned().collect();
    out.findings.warnings.extend(refused);
    out.findings.warnings.extend(out.findings.legacy.iter().cloned());
    if let Some(version) = newer_version(&out.resolved) {
        let own = env!("CARGO_PKG_VERSION");
        let text =
            format!("Config was last written by a newer OpenClaw ({version}); current version is {own}.");
        out.findings.warnings.push(Issue::new("meta.lastTouchedVersion", text));
    }
    let unknown: Vec<String> = out.findings.issues.iter().filter_map(Issue::unknown_path).collect();
    out.findings.unbuilt = reach::unbuilt(&out.resolved);
    out.findings.unbuilt.retain(|path| !unknown.contains(path));
}

/// The original counts years (`2026.2.26`); only our own release numbers can be compared with ours.
fn newer_version(config: &Value) -> Option<&str> {
    let written = config.pointer("/meta/lastTouchedVersion")?.as_str()?;
    let numbers =
        |text: &str| text.split(['.', '-']).map_while(|part| part.parse::<u64>().ok()).collect::<Vec<_>>();
    let (theirs, ours) = (numbers(written), numbers(env!("CARGO_PKG_VERSION")));
    let calendar = theirs.first().is_some_and(|major| *major >= 2_000);
    (!calendar && theirs > ours).then_some(written)
}
