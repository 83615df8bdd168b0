//! What is kept beside the configuration file: the last good one, the history of good ones, and refused texts.
//!
//! `<state>/config/last-good.json` with `last-good.meta.json`, `history/`, `rejected/`, `worker-check.txt`.

use super::issue::{Issue, lines};
use super::read::{ConfigFile, judge, sha256_hex};
use super::redact::SENTINEL;
use super::write::{iso_time, put_private};
use super::{ConfigSnapshot, ConfigSource, Environment, edit};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Good configurations kept.
const HISTORY_FILES_MAX: usize = 20;
/// Refused texts kept: enough to find an accident, bounded against a broken tool in a loop.
const REJECTED_FILES_MAX: usize = 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGoodMeta {
    /// Of the kept text.
    pub sha256: String,
    /// RFC 3339.
    pub at: String,
    /// What made it good: `start`, `config.patch`, …
    pub by: String,
    /// Release that wrote it.
    pub build: String,
}

/// The directory of all of it.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn last_good(&self) -> PathBuf {
        self.dir.join("last-good.json")
    }

    fn meta_path(&self) -> PathBuf {
        self.dir.join("last-good.meta.json")
    }

    #[must_use]
    pub fn meta(&self) -> Option<LastGoodMeta> {
        serde_json::from_str(&fs::read_to_string(self.meta_path()).ok()?).ok()
    }

    fn checked_path(&self) -> PathBuf {
        self.dir.join("worker-check.txt")
    }

    /// Key of the configuration that the workers' programs accepted last.
    #[must_use]
    pub fn checked(&self) -> Option<String> {
        fs::read_to_string(self.checked_path()).ok()
    }

    /// # Errors
    /// The disk's refusal.
    pub fn keep_checked(&self, key: &str) -> io::Result<()> {
        put_private(&self.checked_path(), key)
    }

    /// What is kept of a file: included files are folded in, so that the copy needs none of them.
    fn text_of(file: &ConfigFile) -> Option<String> {
        let raw = file.source.raw.as_deref().filter(|_| file.is_valid())?;
        Some(if file.source.files.len() > 1 { edit::printed(&file.expanded) } else { raw.to_owned() })
    }

    /// Whether this file is the last good one.
    #[must_use]
    pub fn is_last_good(&self, file: &ConfigFile) -> bool {
        let print = Self::text_of(file).map(|text| sha256_hex(text.as_bytes()));
        print.is_some() && self.meta().map(|meta| meta.sha256) == print
    }

    /// Keeps a configuration that has proved itself. A text with hidden values in it is never kept.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn promote(&self, file: &ConfigFile, by: &str, now_ms: i64) -> io::Result<bool> {
        let Some(text) = Self::text_of(file) else { return Ok(false) };
        if text.contains(SENTINEL) {
            return Ok(false);
        }
        let sha256 = sha256_hex(text.as_bytes());
        if self.meta().is_some_and(|meta| meta.sha256 == sha256) && self.last_good().exists() {
            return Ok(false);
        }
        put_private(&self.last_good(), &text)?;
        let meta = LastGoodMeta {
            sha256: sha256.clone(),
            at: iso_time(now_ms),
            by: by.to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        };
        put_private(&self.meta_path(), &serde_json::to_string_pretty(&meta).unwrap_or_default())?;
        let short = sha256.get(..12).unwrap_or(&sha256);
        put_private(&self.dir.join("history").join(format!("{now_ms:013}-{short}.json")), &text)?;
        prune(&self.dir.join("history"), HISTORY_FILES_MAX);
        Ok(true)
    }

    /// The last good configuration as a snapshot, read as if it stood at `config_path`.
    ///
    /// # Errors
    /// Why there is none: missing, damaged, or not valid for this release.
    pub fn load(&self, config_path: &Path, env: &Environment) -> Result<ConfigSnapshot, String> {
        let path = self.last_good();
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("no last good config ({}: {error})", path.display()))?;
        let meta =
            self.meta().ok_or_else(|| format!("{} is missing or damaged", self.meta_path().display()))?;
        if meta.sha256 != sha256_hex(text.as_bytes()) {
            return Err(format!("{} does not match its checksum", path.display()));
        }
        let file = judge(config_path, &text, env);
        ConfigSnapshot::new(Arc::new(file), ConfigSource::LastGood)
            .map_err(|issues| format!("{} is invalid too: {}", path.display(), lines(&issues)))
    }

    /// Keeps a refused text with the reasons, for whoever wants to know what a tool tried to write.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn keep_rejected(&self, text: &str, issues: &[Issue], now_ms: i64) -> io::Result<PathBuf> {
        let dir = self.dir.join("rejected");
        let path = dir.join(format!("{now_ms:013}.json"));
        put_private(&path, text)?;
        put_private(&dir.join(format!("{now_ms:013}.json.errors.txt")), &format!("{}\n", lines(issues)))?;
        prune(&dir, REJECTED_FILES_MAX * 2);
        Ok(path)
    }
}

/// Removes the oldest beyond `keep`; names start with the time.
fn prune(dir: &Path, keep: usize) {
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let surplus = names.len().saturating_sub(keep);
    for path in names.into_iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> ConfigFile {
        judge(Path::new("/c/openclaw.json"), text, &Environment::default())
    }

    #[test]
    fn good_ones_come_back_and_damaged_ones_do_not() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::new(dir.path().join("config"));
        let path = Path::new("/c/openclaw.json");
        assert!(store.load(path, &Environment::default()).is_err());
        let good = judged("{gateway: {mode: 'local', port: 5}} // kept");
        assert!(store.promote(&good, "start", 1).expect("promoted"));
        assert!(!store.promote(&good, "start", 2).expect("unchanged"));
        let snapshot = store.load(path, &Environment::default()).expect("loaded");
        assert_eq!((snapshot.gateway.port, snapshot.source), (5, ConfigSource::LastGood));
        assert!(!store.promote(&judged("{nope: 1}"), "start", 3).expect("invalid"));
        assert!(
            !store
                .promote(&judged(&format!("{{ui: {{seamColor: '{SENTINEL}'}}}}")), "start", 4)
                .expect("hidden")
        );
        fs::write(dir.path().join("config/last-good.json"), "{}").expect("damage");
        let error = store.load(path, &Environment::default()).expect_err("refused");
        assert!(error.contains("does not match its checksum"), "{error}");
    }

    #[test]
    fn history_and_rejected_are_bounded() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::new(dir.path().to_path_buf());
        for n in 0..30 {
            store
                .promote(&judged(&format!("{{gateway: {{port: {}}}}}", n + 1)), "start", n)
                .expect("promoted");
            store.keep_rejected("{nope: 1}", &judged("{nope: 1}").findings.issues, n).expect("kept");
        }
        let count = |name: &str| fs::read_dir(dir.path().join(name)).expect("dir").count();
        assert_eq!((count("history"), count("rejected")), (HISTORY_FILES_MAX, REJECTED_FILES_MAX * 2));
        let errors =
            fs::read_to_string(dir.path().join("rejected/0000000000029.json.errors.txt")).expect("errors");
        assert_eq!(errors, "openclaw.json:1:2 <root>: Unrecognized key: \"nope\"\n");
    }
}
