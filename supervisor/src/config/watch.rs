//! Notices that the configuration file, or one that it includes, may have changed: inotify on the directories, since
//! editors rename, and a look now and then for where the kernel tells nothing (network file systems, exhausted watches).
//!
//! It tells only that something happened to one of the names; whoever listens reads the file.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Events of one read: a name is at most 255 bytes and an event some 16 more.
const EVENT_BYTES: usize = 4096;
/// Looks at the file when the kernel tells of changes; a directory that was replaced is found this way.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Looks at it when the kernel tells nothing.
const LOOK_OFTEN: Duration = Duration::from_secs(2);
/// A name that is taken away, put there, written or made unreadable.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::ONLYDIR);

/// Watches the directories of a set of files.
pub struct FileWatch {
    inotify: Option<AsyncFd<OwnedFd>>,
    names: BTreeSet<Vec<u8>>,
    dirs: BTreeSet<PathBuf>,
}

impl FileWatch {
    /// Must be called on a runtime.
    #[must_use]
    pub fn new() -> Self {
        #[expect(deprecated, reason = "sound here: the descriptor is owned, and closed when this is dropped")]
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(std::io::Error::from)
            .and_then(AsyncFd::new);
        if let Err(error) = &made {
            tracing::warn!(%error, "the kernel does not tell of changed files; looking every 2 s");
        }
        Self { inotify: made.ok(), names: BTreeSet::new(), dirs: BTreeSet::new() }
    }

    /// From now on these files; links are followed to where the bytes are.
    pub fn follow(&mut self, files: &[PathBuf]) {
        let targets = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
        let all: Vec<PathBuf> = files.iter().cloned().chain(targets).collect();
        self.names =
            all.iter().filter_map(|file| file.file_name()).map(|name| name.as_bytes().to_vec()).collect();
        self.dirs = all.iter().filter_map(|file| file.parent()).map(Path::to_path_buf).collect();
        self.watch_dirs();
    }

    /// A directory that is watched already is only looked up again; one that was replaced gets a new watch.
    fn watch_dirs(&self) {
        let Some(inotify) = &self.inotify else { return };
        for dir in &self.dirs {
            if let Err(error) = inotify::add_watch(inotify.get_ref(), dir, EVENTS) {
                tracing::debug!(dir = %dir.display(), %error, "directory not watched");
            }
        }
    }

    /// Waits until something happened to one of the names, or it is time to look anyway.
    pub async fn changed(&self) {
        let pause = if self.inotify.is_some() { LOOK_EVERY } else { LOOK_OFTEN };
        let told = tokio::time::timeout(pause, self.told()).await;
        if told.is_err() {
            self.watch_dirs();
        }
    }

    async fn told(&self) {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = inotify.readable().await else { return std::future::pending().await };
            if self.drain(inotify.get_ref()) {
                return;
            }
            ready.clear_ready();
        }
    }

    /// Reads all events that wait; true when one is about our names.
    fn drain(&self, inotify: &OwnedFd) -> bool {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut ours = false;
        while let Ok(event) = reader.next() {
            // Mounted secrets are swapped by a link that is called `..data`.
            let named = |name: &[u8]| self.names.contains(name) || name.starts_with(b"..");
            ours |= event.file_name().is_some_and(|name| named(name.to_bytes()));
            ours |= event.events().intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED);
        }
        ours
    }
}

impl Default for FileWatch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Whether the change is told at once, not by the look that comes anyway.
    async fn tells(watch: &FileWatch, change: impl FnOnce()) -> bool {
        let mut waiting = std::pin::pin!(watch.told());
        let early = tokio::time::timeout(Duration::from_millis(20), waiting.as_mut()).await;
        assert!(early.is_err(), "told before anything happened");
        change();
        tokio::time::timeout(Duration::from_secs(30), waiting).await.is_ok()
    }

    #[tokio::test]
    async fn edits_renames_and_links_are_noticed_and_neighbours_are_not() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("openclaw.json"), "{}").expect("write");
        let mut watch = FileWatch::new();
        watch.follow(&[at("openclaw.json"), at("extra.json5")]);
        assert!(tells(&watch, || fs::write(at("openclaw.json"), "{a: 1}").expect("write")).await);
        while tokio::time::timeout(Duration::from_millis(20), watch.told()).await.is_ok() {}
        let swap = || {
            fs::write(at("other.tmp"), "{b: 1}").expect("write");
            fs::rename(at("other.tmp"), at("openclaw.json")).expect("rename");
        };
        assert!(tells(&watch, swap).await);
        while tokio::time::timeout(Duration::from_millis(20), watch.told()).await.is_ok() {}
        assert!(tells(&watch, || fs::write(at("extra.json5"), "{}").expect("write")).await);
        while tokio::time::timeout(Duration::from_millis(20), watch.told()).await.is_ok() {}
        fs::write(at("neighbour"), "x").expect("write");
        let quiet = tokio::time::timeout(Duration::from_millis(100), watch.told()).await;
        assert!(quiet.is_err(), "a neighbour is nobody's business");
    }
}
