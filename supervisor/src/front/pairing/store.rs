//! Keeps the [`Book`] in `<state>/devices/{pending,paired}.json`: read at start, written whole after each
//! change (temporary file, fsync, rename, mode 0600).

use super::Book;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why the device files could not be kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {act} device file {path}: {source}; check the owner and the free space of the state directory"
)]
pub struct StoreError {
    act: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// Handle of the device book. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    book: Mutex<Book>,
    /// One writer at a time, so that an older state never lands on a newer one.
    writing: tokio::sync::Mutex<()>,
}

impl Devices {
    /// Read both files; a missing file is an empty list. An unreadable one is put aside, never overwritten.
    ///
    /// # Errors
    /// The directory or a file can't be read.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let dir = state_dir.join("devices");
        let book = Book {
            pending: read_map(&dir.join("pending.json"))?,
            paired: read_map(&dir.join("paired.json"))?,
        };
        Ok(Self {
            inner: Arc::new(Inner { dir, book: Mutex::new(book), writing: tokio::sync::Mutex::new(()) }),
        })
    }

    /// Look at the book.
    pub fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.inner.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Change the book and write it. When writing fails the change is undone, so that what was
    /// answered and what is on disk never differ.
    ///
    /// # Errors
    /// The file can't be written.
    pub async fn change<T: Send>(&self, act: impl FnOnce(&mut Book) -> T + Send) -> Result<T, StoreError> {
        let _turn = self.inner.writing.lock().await;
        let (result, before, after) = {
            let mut book = self.inner.book.lock().unwrap_or_else(PoisonError::into_inner);
            let before = book.clone();
            let result = act(&mut book);
            (result, before, book.clone())
        };
        let dir = self.inner.dir.clone();
        let written = tokio::task::spawn_blocking(move || write_book(&dir, &after)).await;
        match written {
            Ok(Ok(())) => Ok(result),
            Ok(Err(error)) => {
                *self.inner.book.lock().unwrap_or_else(PoisonError::into_inner) = before;
                Err(error)
            }
            Err(join) => Err(StoreError {
                act: "write",
                path: self.inner.dir.clone(),
                source: std::io::Error::other(join),
            }),
        }
    }
}

fn read_map<T: DeserializeOwned>(path: &Path) -> Result<BTreeMap<String, T>, StoreError> {
    let fail = |source| StoreError { act: "read", path: path.to_owned(), source };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(fail(e)),
    };
    let Ok(map) = serde_json::from_slice::<Map<String, Value>>(&text) else {
        let aside = path.with_extension("json.unreadable");
        std::fs::rename(path, &aside).map_err(fail)?;
        tracing::warn!(path = %path.display(), aside = %aside.display(), "device file is not JSON; put aside, pairing starts empty");
        return Ok(BTreeMap::new());
    };
    let mut out = BTreeMap::new();
    for (key, value) in map {
        match serde_json::from_value(value) {
            Ok(entry) => {
                out.insert(key, entry);
            }
            Err(e) => {
                tracing::warn!(path = %path.display(), device = %key, error = %e, "device entry is malformed; ignored")
            }
        }
    }
    Ok(out)
}

fn write_book(dir: &Path, book: &Book) -> Result<(), StoreError> {
    let fail = |path: &Path, source| StoreError { act: "write", path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| fail(dir, e))?;
    for (name, text) in [
        ("pending.json", serde_json::to_vec_pretty(&book.pending)),
        ("paired.json", serde_json::to_vec_pretty(&book.paired)),
    ] {
        let path = dir.join(name);
        let mut text = text.map_err(|e| fail(&path, std::io::Error::other(e)))?;
        text.push(b'\n');
        if std::fs::read(&path).is_ok_and(|old| old == text) {
            continue;
        }
        replace(&path, &text).map_err(|e| fail(&path, e))?;
    }
    Ok(())
}

fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("json.{}.tmp", std::process::id()));
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}
