//! All sessions of this agent: the store, and the transcripts that are open. Async face of `store` and `transcript`:
//! every file operation runs on the blocking pool, one at a time per file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::entry::{Body, Header};
use super::full_disk::wait_for_room;
use super::store::{SessionEntry, SessionStore, StoreError, StoreFile};
use super::transcript::{Transcript, TranscriptError};

/// Transcripts that stay open: half as many again as the 64 sessions that may well be busy at once, because one that was
/// put away is read from its beginning at every step of a turn. Each holds a descriptor, a lock and up to 4 MiB (a usual
/// one far less), so that even all of them full stay below half of what this process may use.
const OPEN_MAX: usize = 96;

/// How long a turn's facts may be in memory only: many turns share one write.
const STORE_LAG: Duration = Duration::from_millis(200);

/// A session cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Transcript(#[from] TranscriptError),
    #[error("the session's file task ended early: {0}")]
    Task(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// See the module head. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    store: Mutex<SessionStore>,
    /// Taken after `store` is released: writing waits for the disk, reading does not.
    file: Mutex<StoreFile>,
    /// A write of the store is due.
    flushing: AtomicBool,
    /// Least recently used first.
    open: Mutex<Vec<(PathBuf, Arc<Mutex<Transcript>>)>>,
}

/// One transcript, by its file. Opened when first used, and again after it was put away.
#[derive(Clone, Debug)]
pub struct Log {
    sessions: Sessions,
    path: PathBuf,
    session_id: String,
    cwd: String,
}

/// What one commit writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives a kill of this process.
    Written,
    /// Survives a power loss.
    Synced,
}

/// A panic inside a file operation leaves plain data behind that the next one checks again.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| SessionError::Task(error.to_string()))?
}

impl Sessions {
    /// Opens the store of `<state>/agents/<id>/sessions`. Notes of the repair are logged.
    pub async fn open(dir: PathBuf, now_ms: i64) -> Result<Self, SessionError> {
        blocking(move || {
            super::disk::create_private_dir(&dir)?;
            let store = SessionStore::load(&dir, now_ms)?;
            for note in &store.notes {
                tracing::warn!(note, "session store repaired");
            }
            let file = Mutex::new(StoreFile::new(&dir));
            let (store, open) = (Mutex::new(store), Mutex::new(Vec::new()));
            Ok(Self(Arc::new(Inner { dir, store, file, flushing: AtomicBool::new(false), open })))
        })
        .await
    }

    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    pub fn store_path(&self) -> PathBuf {
        self.0.dir.join("sessions.json")
    }

    pub async fn entry(&self, key: &str) -> Result<Option<SessionEntry>, SessionError> {
        let (inner, key) = (self.0.clone(), key.to_owned());
        blocking(move || Ok(locked(&inner.store).get(&key))).await
    }

    pub async fn entries(&self) -> Result<Vec<(String, SessionEntry)>, SessionError> {
        let inner = self.0.clone();
        blocking(move || {
            Ok(locked(&inner.store).entries().map(|(key, entry)| (key.to_owned(), entry)).collect())
        })
        .await
    }

    /// Changes one entry (an empty one when it is new) and writes the store. `change` may refuse.
    pub async fn update<E: Send + 'static>(
        &self,
        key: &str,
        change: impl FnOnce(&mut SessionEntry) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<SessionEntry, E>, SessionError> {
        let (inner, key) = (self.0.clone(), key.to_owned());
        let changed = blocking(move || {
            let changed = inner.change(&key, change);
            Ok(changed.map(|(entry, generation)| {
                let written = generation.map(|generation| (generation, inner.reach(generation)));
                (entry, written)
            }))
        })
        .await?;
        match changed {
            Err(refusal) => Ok(Err(refusal)),
            Ok((entry, None)) => Ok(Ok(entry)),
            Ok((entry, Some((generation, written)))) => {
                self.settled(generation, written).await?;
                Ok(Ok(entry))
            }
        }
    }

    /// Like [`Self::update`], for what a turn knows of itself (counters, times, titles): readers see it at once, the file
    /// has it within [`STORE_LAG`]. A kill in between costs these facts of the last turns; transcripts and the
    /// supervisor's index have them.
    pub async fn update_soon<E: Send + 'static>(
        &self,
        key: &str,
        change: impl FnOnce(&mut SessionEntry) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<SessionEntry, E>, SessionError> {
        let (inner, key) = (self.0.clone(), key.to_owned());
        let changed = blocking(move || Ok(inner.change(&key, change))).await?;
        Ok(changed.map(|(entry, generation)| {
            if generation.is_some() && !self.0.flushing.swap(true, Ordering::AcqRel) {
                // Holds nothing open: an agent that is gone has flushed.
                let sessions = Arc::downgrade(&self.0);
                tokio::spawn(async move {
                    tokio::time::sleep(STORE_LAG).await;
                    let Some(sessions) = sessions.upgrade().map(Self) else { return };
                    sessions.0.flushing.store(false, Ordering::Release);
                    if let Err(error) = sessions.flush().await {
                        tracing::error!(%error, "the session store is behind");
                    }
                });
            }
            entry
        }))
    }

    /// Writes what is only in memory.
    pub async fn flush(&self) -> Result<(), SessionError> {
        let inner = self.0.clone();
        let (generation, written) = blocking(move || {
            let generation = locked(&inner.store).generation();
            Ok((generation, inner.reach(generation)))
        })
        .await?;
        self.settled(generation, written).await
    }

    /// What a full disk refused is written as soon as there is room.
    async fn settled(&self, generation: u64, first: Result<(), StoreError>) -> Result<(), SessionError> {
        let again = || {
            let inner = self.0.clone();
            blocking(move || Ok(inner.reach(generation)?))
        };
        wait_for_room(first.map_err(SessionError::from), again).await
    }

    pub async fn put(&self, key: &str, entry: SessionEntry) -> Result<(), SessionError> {
        let (inner, key) = (self.0.clone(), key.to_owned());
        blocking(move || {
            let generation = locked(&inner.store).put(&key, entry);
            Ok(inner.reach(generation)?)
        })
        .await
    }

    pub async fn remove(&self, key: &str) -> Result<Option<SessionEntry>, SessionError> {
        let (inner, key) = (self.0.clone(), key.to_owned());
        blocking(move || {
            let removed = locked(&inner.store).remove(&key);
            let Some((entry, generation)) = removed else { return Ok(None) };
            inner.reach(generation)?;
            Ok(Some(entry))
        })
        .await
    }

    /// The file of a session: as its entry says, if that lies in our folder, else by its id.
    pub fn path_of(&self, key: &str, entry: &SessionEntry) -> PathBuf {
        let named = entry.str("sessionFile").map(PathBuf::from).filter(|file| {
            file.parent() == Some(self.dir()) && file.extension().is_some_and(|ext| ext == "jsonl")
        });
        named.unwrap_or_else(|| self.dir().join(file_name(key, entry.session_id().unwrap_or("unknown"))))
    }

    pub fn log(&self, key: &str, entry: &SessionEntry, cwd: &str) -> Log {
        Log {
            sessions: self.clone(),
            path: self.path_of(key, entry),
            session_id: entry.session_id().unwrap_or_default().to_owned(),
            cwd: cwd.to_owned(),
        }
    }

    /// Closes a transcript, so that its file may be renamed.
    pub async fn close(&self, path: &Path) -> Result<(), SessionError> {
        let (inner, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            locked(&inner.open).retain(|(open, _)| *open != path);
            Ok(())
        })
        .await
    }

    /// Renames a transcript to `<file>.<suffix>`; false when there is none.
    pub async fn archive(&self, path: &Path, suffix: String) -> Result<Option<PathBuf>, SessionError> {
        self.close(path).await?;
        let path = path.to_owned();
        blocking(move || {
            if !path.exists() {
                return Ok(None);
            }
            let target = super::disk::with_suffix(&path, &suffix);
            std::fs::rename(&path, &target)?;
            super::disk::sync_parent(&path)?;
            Ok(Some(target))
        })
        .await
    }

    fn transcript(&self, log: &Log) -> Result<Arc<Mutex<Transcript>>, TranscriptError> {
        let mut open = locked(&self.0.open);
        if let Some(at) = open.iter().position(|(path, _)| *path == log.path) {
            let held = open.remove(at);
            let transcript = held.1.clone();
            open.push(held);
            return Ok(transcript);
        }
        let now_ms = crate::clock::now_ms();
        let header = Header::new(&log.session_id, &log.cwd, now_ms);
        let transcript = Transcript::open(&log.path, header, now_ms)?;
        if transcript.repairs() != &Default::default() {
            tracing::warn!(file = %log.path.display(), repairs = ?transcript.repairs(), "transcript repaired");
        }
        let transcript = Arc::new(Mutex::new(transcript));
        while open.len() >= OPEN_MAX {
            // One in use stays: closing it would give its lock away.
            let Some(idle) = open.iter().position(|(_, held)| Arc::strong_count(held) == 1) else { break };
            open.remove(idle);
        }
        open.push((log.path.clone(), transcript.clone()));
        Ok(transcript)
    }
}

impl Inner {
    /// Changes an entry in memory; gives it with the store's new generation, if it is another than before.
    fn change<E>(
        &self,
        key: &str,
        change: impl FnOnce(&mut SessionEntry) -> Result<(), E>,
    ) -> Result<(SessionEntry, Option<u64>), E> {
        let mut store = locked(&self.store);
        let before = store.get(key);
        let mut entry = before.clone().unwrap_or_default();
        change(&mut entry)?;
        let generation = (before.as_ref() != Some(&entry)).then(|| store.put(key, entry.clone()));
        Ok((entry, generation))
    }

    /// Waits until the file holds this generation of the store.
    fn reach(&self, generation: u64) -> Result<(), StoreError> {
        let mut file = locked(&self.file);
        proto::runtime::failpoint::hit("ag.store.mid");
        file.reach(generation, || locked(&self.store).image())
    }
}

impl Log {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Whether there is anything to read.
    pub async fn exists(&self) -> bool {
        let path = self.path.clone();
        blocking(move || Ok(path.exists())).await.unwrap_or(false)
    }

    /// Works on the open transcript, on the blocking pool.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Transcript) -> Result<T, TranscriptError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let log = self.clone();
        blocking(move || {
            let transcript = log.sessions.transcript(&log)?;
            let mut transcript = locked(&transcript);
            Ok(work(&mut transcript)?)
        })
        .await
    }

    /// The same, repeated from its beginning when the disk had no room.
    pub async fn with_room(
        &self,
        work: impl Fn(&mut Transcript) -> Result<(), TranscriptError> + Clone + Send + 'static,
    ) -> Result<(), SessionError> {
        let attempt = || {
            let (log, work) = (self.clone(), work.clone());
            async move { log.with(move |transcript| work(transcript)).await }
        };
        wait_for_room(attempt().await, attempt).await
    }

    /// Appends entries in one go; returns their ids.
    pub async fn commit(
        &self,
        bodies: Vec<Body>,
        durability: Durability,
    ) -> Result<Vec<String>, SessionError> {
        // What is written stays written when a later entry finds no room.
        let batch = Arc::new(Mutex::new((VecDeque::from(bodies), Vec::new())));
        let attempt = || {
            let (log, batch) = (self.clone(), batch.clone());
            async move {
                let append = move |transcript: &mut Transcript| {
                    let (waiting, ids) = &mut *locked(&batch);
                    let now_ms = crate::clock::now_ms();
                    while let Some(body) = waiting.front() {
                        ids.push(transcript.append(body.clone(), now_ms)?);
                        waiting.pop_front();
                    }
                    if durability == Durability::Synced { transcript.sync() } else { Ok(()) }
                };
                log.with(append).await
            }
        };
        wait_for_room(attempt().await, attempt).await?;
        Ok(std::mem::take(&mut locked(&batch).1))
    }
}

/// `<id>.jsonl`, or `<id>-topic-<thread>.jsonl` for a topic of a group.
fn file_name(key: &str, session_id: &str) -> String {
    match key.split_once(":topic:") {
        Some((_, thread)) => format!("{session_id}-topic-{}.jsonl", percent_encoded(thread)),
        None => format!("{session_id}.jsonl"),
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::Message;

    fn entry(id: &str) -> SessionEntry {
        let mut entry = SessionEntry::default();
        entry.set("sessionId", id);
        entry
    }

    #[tokio::test]
    async fn at_most_so_many_files_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::open(dir.path().join("s"), 1).await.unwrap();
        for at in 0..OPEN_MAX + 5 {
            let log = sessions.log("k", &entry(&format!("id-{at}")), "/w");
            let body = Body::Message { message: Message::user("hi", 1) };
            log.commit(vec![body], Durability::Written).await.unwrap();
        }
        assert_eq!(locked(&sessions.0.open).len(), OPEN_MAX);
        let again = sessions.log("k", &entry("id-0"), "/w");
        assert_eq!(again.with(|transcript| Ok(transcript.len())).await.unwrap(), 1);
    }

    #[test]
    fn file_names() {
        assert_eq!(file_name("agent:main:main", "a"), "a.jsonl");
        assert_eq!(file_name("agent:m:telegram:group:-1:topic:4/2", "a"), "a-topic-4%2F2.jsonl");
    }
}
