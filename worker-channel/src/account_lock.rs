//! One process per network account, on the whole host: two pollers of one bot steal each other's messages.
//!
//! The kernel's `flock` is the truth. The file's content only names the owner, for people; a file without a lock
//! means nothing, so nothing here is ever stale or removed. Two locks are taken: one in a folder that all gateways
//! of the host share, so that two state folders with the same token exclude each other, and one in the state
//! folder, for state that several hosts' containers mount.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Held for as long as the account is used; the kernel lets go when the process ends.
#[derive(Debug)]
pub struct AccountLock {
    _files: Vec<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Also the text of the state that people see.
    #[error("session in use by pid {0}")]
    Taken(u32),
    #[error("session in use by another process")]
    TakenByUnknown,
    #[error("no folder for the account's lock: {path}: {source}; make it writable for this user")]
    NoFolder { path: PathBuf, source: std::io::Error },
}

/// Where locks of this host may lie, best first. `runtime` is `$XDG_RUNTIME_DIR`.
pub fn host_folders(runtime: Option<&str>) -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/run/openclaw")];
    folders.extend(runtime.filter(|path| path.starts_with('/')).map(|path| Path::new(path).join("openclaw")));
    folders.push(PathBuf::from(format!("/tmp/openclaw-{}", rustix::process::getuid().as_raw())));
    folders
}

/// Takes the account's locks at once or names the owner. `identity` is who we are on that network (the bot's id).
pub fn take(
    channel: &str,
    identity: &str,
    host_folders: &[PathBuf],
    state_dir: &Path,
) -> Result<AccountLock, LockError> {
    let name = file_name(channel, identity);
    let mut files = Vec::with_capacity(2);
    for folder in host_folders {
        // The first folder that can be used decides; the others are for hosts that lack it.
        match open(folder, &name) {
            Ok(file) => {
                files.push(lock(file)?);
                break;
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "not used for the account's lock")
            }
        }
    }
    let folder = state_dir.join("locks");
    match open(&folder, &name) {
        Ok(file) => files.push(lock(file)?),
        Err(source) if files.is_empty() => return Err(LockError::NoFolder { path: folder, source }),
        Err(error) => tracing::warn!(folder = %folder.display(), %error, "account locked on this host only"),
    }
    Ok(AccountLock { _files: files })
}

fn file_name(channel: &str, identity: &str) -> String {
    let digest = Sha256::digest(format!("{channel}\0{identity}"));
    let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("account-{channel}-{hex}.lock")
}

fn open(folder: &Path, name: &str) -> std::io::Result<File> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In a folder for everyone (`/tmp`) the name may have been taken by somebody else.
    let seen = fs::symlink_metadata(folder)?;
    let ours = seen.uid() == rustix::process::getuid().as_raw() || seen.uid() == 0;
    if !seen.is_dir() || !ours {
        return Err(std::io::Error::other("not a folder of this user"));
    }
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(i32::try_from(nofollow).unwrap_or(0)).open(folder.join(name))
}

fn lock(mut file: File) -> Result<File, LockError> {
    match file.try_lock() {
        Ok(()) => {
            let line = format!("{{\"pid\":{}}}\n", std::process::id());
            let written =
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
            if let Err(error) = written {
                tracing::debug!(%error, "the lock's owner is not written down");
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => Err(owner(&mut file)),
    }
}

fn owner(file: &mut File) -> LockError {
    let mut text = String::new();
    let read = file.take(256).read_to_string(&mut text).is_ok();
    let pid = serde_json::from_str::<serde_json::Value>(&text).ok().filter(|_| read);
    match pid.and_then(|value| u32::try_from(value.get("pid")?.as_u64()?).ok()) {
        Some(pid) => LockError::Taken(pid),
        None => LockError::TakenByUnknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{LockError, take};

    #[test]
    fn a_second_holder_is_refused_and_told_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (host, one, two) = (dir.path().join("host"), dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let folders = [dir.path().join("missing/deep"), host];
        let held = take("telegram", "42", &folders, &one).unwrap();
        let refused = take("telegram", "42", &folders, &two).unwrap_err();
        assert!(matches!(refused, LockError::Taken(pid) if pid == std::process::id()), "{refused}");
        assert!(take("telegram", "43", &folders, &two).is_ok(), "another account is free");
        drop(held);
        assert!(take("telegram", "42", &folders, &two).is_ok(), "free once the holder is gone");
        std::os::unix::fs::symlink(&one, dir.path().join("link")).unwrap();
        assert!(take("telegram", "44", &[dir.path().join("link")], &two).is_ok(), "the state folder is left");
        assert!(
            !std::fs::read_dir(&one).unwrap().flatten().any(|entry| entry.path().is_file()),
            "no link is followed"
        );
    }

    #[test]
    fn without_any_folder_it_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let error = take("telegram", "42", &[], &dir.path().join("no/such")).unwrap_err();
        assert!(error.to_string().contains("no/such/locks"), "{error}");
    }
}
