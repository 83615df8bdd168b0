//! The pairing files: read whole, replaced whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PairingError, Request};

/// Larger than any honest file of this kind (1 MiB): checked before it is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Requests {
    version: u32,
    #[serde(default)]
    requests: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Allowed {
    version: u32,
    #[serde(default)]
    allow_from: Vec<Value>,
}

fn fail(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PairingError {
    let path = path.to_owned();
    move |source| PairingError::File { act, path, source }
}

/// Held while a file is changed. The kernel lets go of it when we die; the file itself stays for ever.
pub fn lock(dir: &Path) -> Result<File, PairingError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail("create", dir))?;
    let path = dir.join(".pairing.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(fail("open", &path))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| fail("lock", &path)(e.into()))?;
    Ok(file)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PairingError> {
    let size = match fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail("read", path)(e)),
    };
    let broken = |why: String| PairingError::Broken { path: path.to_owned(), why };
    if size > FILE_BYTES_MAX {
        return Err(broken(format!("{size} bytes")));
    }
    let text = fs::read(path).map_err(fail("read", path))?;
    serde_json::from_slice(&text).map(Some).map_err(|e| broken(e.to_string()))
}

/// Entries that are not understood are left out; they would be too old soon anyway.
pub fn read_requests(path: &Path) -> Result<Vec<Request>, PairingError> {
    let stored: Option<Requests> = read(path)?;
    let entries = stored.map(|stored| stored.requests).unwrap_or_default();
    Ok(entries.into_iter().filter_map(|entry| serde_json::from_value(entry).ok()).collect())
}

pub fn write_requests(path: &Path, requests: &[Request]) -> Result<(), PairingError> {
    let requests = requests.iter().filter_map(|request| serde_json::to_value(request).ok()).collect();
    replace(path, &Requests { version: 1, requests })
}

/// Ids as text, blanks and `*` left out, each once.
pub fn read_allowed(path: &Path) -> Result<Vec<String>, PairingError> {
    let stored: Option<Allowed> = read(path)?;
    let mut list = Vec::new();
    for entry in stored.map(|stored| stored.allow_from).unwrap_or_default() {
        let id = match entry {
            Value::String(text) => text.trim().to_owned(),
            Value::Number(number) => number.to_string(),
            _ => continue,
        };
        if !id.is_empty() && id != "*" && !list.contains(&id) {
            list.push(id);
        }
    }
    Ok(list)
}

pub fn write_allowed(path: &Path, list: &[String]) -> Result<(), PairingError> {
    let allow_from = list.iter().map(|id| Value::String(id.clone())).collect();
    replace(path, &Allowed { version: 1, allow_from })
}

/// Written aside, synced, renamed: a reader sees the old or the new, whatever happens.
fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), PairingError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| fail("write", path)(e.into()))?;
    text.push(b'\n');
    let temporary = path.with_extension(format!("json.{}.tmp", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(fail("write", path))
}

/// `2026-11-22T11:25:17.123Z`, as `Date.toISOString` writes it.
pub fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| "1970-01-01T00:00:00.000Z".into(), |ts| format!("{ts:.3}"))
}

pub fn parse_iso(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}
