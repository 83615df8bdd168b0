//! `sessions.json`: session key → entry. One writer (this process), whole-file replace, unknown fields kept. Memory and
//! file are two things: [`SessionStore`] changes at once, [`StoreFile`] follows.
//! A field of an entry is read and written by name, because most of them belong to parts that come and go.
//!
//! Not here: what a reset keeps (`reset`), and who is told about a change (`worker`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::disk;
use super::entry::Header;

/// A store above this is refused rather than read: 500 entries with prompt reports are about 4 MiB.
const STORE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why the store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("session store {path}: {source}; check the disk and the permissions of the sessions folder")]
    Io { path: PathBuf, source: io::Error },
    #[error("session store {path} has {bytes} bytes, more than {STORE_BYTES_MAX}; move it away and restart")]
    TooLarge { path: PathBuf, bytes: u64 },
}

/// One session as the store holds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionEntry(pub Map<String, Value>);

/// See the module head.
#[derive(Debug)]
pub struct SessionStore {
    entries: Map<String, Value>,
    /// Counts changes.
    generation: u64,
    /// What loading had to do, for the log.
    pub notes: Vec<String>,
}

impl SessionEntry {
    pub fn str(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str().filter(|text| !text.is_empty())
    }

    pub fn u64(&self, field: &str) -> u64 {
        self.0.get(field).and_then(Value::as_u64).unwrap_or(0)
    }

    pub fn bool(&self, field: &str) -> bool {
        self.0.get(field).and_then(Value::as_bool).unwrap_or(false)
    }

    /// `null` removes the field.
    pub fn set(&mut self, field: &str, value: impl Into<Value>) {
        match value.into() {
            Value::Null => drop(self.0.shift_remove(field)),
            value => drop(self.0.insert(field.to_owned(), value)),
        }
    }

    pub fn session_id(&self) -> Option<&str> {
        self.str("sessionId")
    }

    /// Unix milliseconds.
    pub fn updated_at(&self) -> i64 {
        self.0.get("updatedAt").and_then(Value::as_i64).unwrap_or(0)
    }

    /// The last call's prompt size, if it is known to be current.
    pub fn total_tokens(&self) -> Option<u64> {
        self.0.get("totalTokens").and_then(Value::as_u64)
    }
}

impl SessionStore {
    /// Reads the store. A missing file is an empty store; an unreadable one is kept aside and rebuilt from the
    /// headers of the transcripts beside it.
    pub fn load(sessions_dir: &Path, now_ms: i64) -> Result<Self, StoreError> {
        let path = sessions_dir.join("sessions.json");
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut store = Self { entries: Map::new(), generation: 0, notes: Vec::new() };
        match fs::metadata(&path) {
            Ok(meta) if meta.len() > STORE_BYTES_MAX => {
                return Err(StoreError::TooLarge { path, bytes: meta.len() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(store),
            Err(error) => return Err(io(error)),
        }
        let text = fs::read(&path).map_err(io)?;
        match serde_json::from_slice::<Map<String, Value>>(&text) {
            Ok(entries) => store.entries = entries,
            Err(error) => {
                let kept = disk::with_suffix(&path, &format!("corrupt-{now_ms}"));
                fs::rename(&path, &kept).map_err(io)?;
                store.notes.push(format!(
                    "sessions.json was not readable ({error}); kept as {}, rebuilt from the transcripts",
                    kept.display()
                ));
                store.rebuild(sessions_dir);
            }
        }
        store.entries.retain(|_, entry| entry.is_object());
        store.merge_case_variants();
        store.entries.values_mut().for_each(rename_old_fields);
        Ok(store)
    }

    pub fn get(&self, key: &str) -> Option<SessionEntry> {
        self.entries.get(key)?.as_object().cloned().map(SessionEntry)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, SessionEntry)> {
        self.entries.iter().filter_map(|(key, entry)| {
            entry.as_object().cloned().map(|entry| (key.as_str(), SessionEntry(entry)))
        })
    }

    /// Changes memory; returns the generation that has to reach the disk.
    pub fn put(&mut self, key: &str, entry: SessionEntry) -> u64 {
        self.entries.insert(key.to_owned(), Value::Object(entry.0));
        self.generation += 1;
        self.generation
    }

    pub fn remove(&mut self, key: &str) -> Option<(SessionEntry, u64)> {
        let Some(Value::Object(entry)) = self.entries.shift_remove(key) else { return None };
        self.generation += 1;
        Some((SessionEntry(entry), self.generation))
    }

    /// Of the newest change.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What a file of this generation holds.
    pub fn image(&self) -> (Vec<u8>, u64) {
        (serde_json::to_vec_pretty(&self.entries).unwrap_or_default(), self.generation)
    }

    /// Lookup ignores case, so only one spelling may live: the newest.
    fn merge_case_variants(&mut self) {
        let updated = |entry: &Value| entry.get("updatedAt").and_then(Value::as_i64).unwrap_or(0);
        let mut merged: Map<String, Value> = Map::new();
        for (key, entry) in std::mem::take(&mut self.entries) {
            let folded = key.to_lowercase();
            match merged.get(&folded) {
                Some(held) if updated(held) > updated(&entry) => {}
                _ => drop(merged.insert(folded, entry)),
            }
        }
        self.entries = merged;
    }

    /// Without the store nothing says which session a transcript belongs to except its own name; the sessions come
    /// back under a key of their own, so that no text is lost and none is mixed up.
    fn rebuild(&mut self, sessions_dir: &Path) {
        let Ok(dir) = fs::read_dir(sessions_dir) else { return };
        for file in dir.flatten() {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let Some(header) = read_header(&path) else { continue };
            let updated = file
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
                .and_then(|age| i64::try_from(age.as_millis()).ok())
                .unwrap_or(0);
            let mut entry = SessionEntry::default();
            entry.set("sessionId", header.id.clone());
            entry.set("updatedAt", updated);
            self.entries.insert(format!("recovered:{}", header.id), Value::Object(entry.0));
        }
    }
}

/// Where the store stands on disk. Its writer serves everybody who waits with one write: many sessions that end at once
/// cost one fsync, and nobody is told of a change before it is there.
#[derive(Debug)]
pub struct StoreFile {
    path: PathBuf,
    written: u64,
}

impl StoreFile {
    pub fn new(sessions_dir: &Path) -> Self {
        Self { path: sessions_dir.join("sessions.json"), written: 0 }
    }

    /// Makes sure that `wanted` is on disk; `image` is asked only if it is not. After a failure memory is ahead of the
    /// file, and the next write brings it up.
    pub fn reach(&mut self, wanted: u64, image: impl FnOnce() -> (Vec<u8>, u64)) -> Result<(), StoreError> {
        if self.written >= wanted {
            return Ok(());
        }
        let (bytes, generation) = image();
        disk::replace(&self.path, &bytes)
            .map_err(|source| StoreError::Io { path: self.path.clone(), source })?;
        self.written = generation;
        Ok(())
    }
}

/// The first line of a transcript, without opening it as one.
pub fn read_header(path: &Path) -> Option<Header> {
    use std::io::{BufRead, BufReader, Read};
    /// A header names a few paths at most.
    const HEADER_BYTES_MAX: u64 = 64 * 1024;
    let file = fs::File::open(path).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(HEADER_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
    Header::parse(&line)
}

/// Names that older releases used.
fn rename_old_fields(entry: &mut Value) {
    let Some(entry) = entry.as_object_mut() else { return };
    for (old, new) in [("provider", "channel"), ("lastProvider", "lastChannel"), ("room", "groupChannel")] {
        if let Some(value) = entry.shift_remove(old)
            && !entry.contains_key(new)
        {
            entry.insert(new.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests;
