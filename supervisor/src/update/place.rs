//! Where releases are installed: beside the running executable.

use super::{NAMES, SUMS, source};
use rustix::fs::{Access, FlockOperation};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const VERSIONS: &str = "versions";
/// A release that is being brought in; behind it the process that does it.
const STAGING: &str = ".staging-";
/// Releases kept beside the one that was brought in last: the one before, and the one before that.
const KEPT: usize = 2;
/// Of a checksum, in the name of a directory.
const SUM_CHARS: usize = 8;

/// An install dir.
#[derive(Clone, Debug)]
pub struct Place {
    pub dir: PathBuf,
    /// Executable of the release in use.
    program: PathBuf,
}

/// A directory that is removed unless it becomes a release. Locked while somebody fills it: process ids come again.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _lock: File,
}

impl Staging {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.path);
    }
}

/// The directory's lock, unless another holder of it lives.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

impl Place {
    /// Of the executable that was started as `program`.
    pub fn of(program: &Path) -> Self {
        let folder = program.parent().unwrap_or(Path::new("/"));
        let above = folder.parent().filter(|above| above.file_name().is_some_and(|name| name == VERSIONS));
        let dir = above.and_then(Path::parent).unwrap_or(folder);
        Self { dir: dir.to_owned(), program: program.to_owned() }
    }

    /// The executable that a start by hand would take: the release that the links lead to.
    pub fn usual(&self) -> PathBuf {
        let name = self.program.file_name().unwrap_or_default();
        fs::canonicalize(self.dir.join(name)).unwrap_or_else(|_| self.program.clone())
    }

    /// The path that stays when releases change, if it leads to the executable `program`.
    pub fn lasting(program: &Path) -> PathBuf {
        let place = Self::of(program);
        let link = place.dir.join(program.file_name().unwrap_or_default());
        let same = fs::canonicalize(&link).is_ok_and(|found| found == program);
        if same { link } else { program.to_owned() }
    }

    /// Name of the running release, when an update brought it in.
    pub fn in_use(&self) -> Option<String> {
        let folder = self.program.parent().filter(|folder| *folder != self.dir)?;
        Some(folder.file_name()?.to_string_lossy().into_owned())
    }

    /// Whether this is what lies where the running executable does.
    pub fn is_in_use(&self, sums: &source::Sums) -> bool {
        self.program.parent().is_some_and(|folder| is_release(folder, sums))
    }

    /// # Errors
    /// Nothing can be installed here, and what to do.
    pub fn check(&self) -> Result<(), String> {
        rustix::fs::access(&self.dir, Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
            format!(
                "{} is not writable for this user ({errno}): replace the executables there as its owner, or by the package or image that they came with, then run `openclaw restart`",
                self.dir.display()
            )
        })
    }

    fn versions(&self) -> PathBuf {
        self.dir.join(VERSIONS)
    }

    /// An empty directory for a new release, on the disk where it will lie.
    ///
    /// # Errors
    /// Another update is under way here, or the disk's refusal.
    pub fn stage(&self) -> Result<Staging, String> {
        self.sweep()?;
        let path = self.versions().join(format!("{STAGING}{}", std::process::id()));
        let made = fs::create_dir_all(self.versions()).and_then(|()| fs::create_dir(&path));
        match made.and_then(|()| lock(&path)) {
            Ok(lock) => Ok(Staging { path, _lock: lock }),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Removes what updates left that were ended in their middle.
    fn sweep(&self) -> Result<(), String> {
        for entry in fs::read_dir(self.versions()).into_iter().flatten().flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(STAGING.as_bytes()) {
                continue;
            }
            let path = entry.path();
            match lock(&path) {
                Ok(_left) => drop(fs::remove_dir_all(&path)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(format!("another update is under way ({})", path.display()));
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "left-over of an update not looked at")
                }
            }
        }
        Ok(())
    }

    /// Makes a release of what was staged, keeps the one in use beside it and removes old ones.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn install(&self, staging: Staging, build: &str, sums: &source::Sums) -> Result<PathBuf, String> {
        let dir = self.versions().join(label(build, sums));
        let done = (|| {
            self.adopt()?;
            if !is_release(&dir, sums) {
                list(staging.path(), sums)?;
                File::open(staging.path())?.sync_all()?;
                match fs::remove_dir_all(&dir) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => fs::rename(staging.path(), &dir)?,
                }
            }
            File::open(&dir)?.set_modified(SystemTime::now())?;
            File::open(self.versions())?.sync_all()
        })();
        done.map_err(|error| format!("{}: {error}", dir.display()))?;
        self.prune(&dir);
        Ok(dir)
    }

    /// The release in use, when it lies where the links will be, becomes one of the releases.
    fn adopt(&self) -> io::Result<()> {
        let links = fs::symlink_metadata(self.dir.join(NAMES[0])).is_ok_and(|facts| facts.is_symlink());
        if links || self.program.parent() != Some(&self.dir) {
            return Ok(());
        }
        let sums = NAMES.iter().map(|name| Ok((*name, source::sum_of(&self.dir.join(name))?)));
        // One that is not whole cannot be gone back to.
        let Ok(sums) = sums.collect::<io::Result<source::Sums>>() else { return Ok(()) };
        let dir = self.versions().join(label(env!("CARGO_PKG_VERSION"), &sums));
        if is_release(&dir, &sums) {
            return Ok(());
        }
        fs::create_dir_all(&dir)?;
        for name in NAMES {
            let (from, to) = (fs::canonicalize(self.dir.join(name))?, dir.join(name));
            fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ()))?;
        }
        list(&dir, &sums)
    }

    fn prune(&self, new: &Path) {
        let program = fs::canonicalize(&self.program).unwrap_or_default();
        let used =
            [self.program.as_path(), &program, &self.usual()].map(|path| path.parent().map(Path::to_owned));
        let mut old: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(self.versions()).into_iter().flatten().flatten() {
            let path = entry.path();
            let staged = entry.file_name().as_encoded_bytes().starts_with(STAGING.as_bytes());
            if let Ok(facts) = entry.metadata()
                && facts.is_dir()
                && path != new
                && !staged
            {
                old.push((facts.modified().unwrap_or(SystemTime::UNIX_EPOCH), path));
            }
        }
        old.sort_by(|a, b| b.cmp(a));
        for (_, path) in old.into_iter().skip(KEPT).filter(|(_, path)| !used.contains(&Some(path.clone()))) {
            let _gone = fs::remove_dir_all(&path);
        }
    }

    /// Lets every later start take the release in `dir`. The gateway's own name comes last and decides: workers are
    /// looked for beside what it leads to.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn point_at(&self, dir: &Path) -> io::Result<()> {
        let release = dir.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        for name in NAMES.iter().rev() {
            let (link, target) = (self.dir.join(name), Path::new(VERSIONS).join(release).join(name));
            if fs::read_link(&link).is_ok_and(|now| now == target) {
                continue;
            }
            let new = self.dir.join(format!(".{name}.{}", std::process::id()));
            let _left_over = fs::remove_file(&new);
            symlink(&target, &new)?;
            fs::rename(&new, &link).inspect_err(|_| drop(fs::remove_file(&new)))?;
        }
        File::open(&self.dir)?.sync_all()
    }

    /// The release in use has proved itself: later starts take it too. Nothing to do for one that was not brought in by an
    /// update.
    ///
    /// # Errors
    /// The disk's refusal.
    pub fn settle(&self) -> io::Result<()> {
        match self.program.parent() {
            Some(folder) if folder != self.dir && self.usual() != self.program => self.point_at(folder),
            _ => Ok(()),
        }
    }
}

/// Name of a release's directory.
pub fn label(build: &str, sums: &source::Sums) -> String {
    let build: String =
        build.chars().map(|c| if c.is_ascii_alphanumeric() || ".-+".contains(c) { c } else { '_' }).collect();
    // Of the whole list: releases may differ in a worker only.
    let sum: String = source::sum_of_bytes(text(sums).as_bytes()).chars().take(SUM_CHARS).collect();
    format!("{build}-{sum}")
}

fn is_release(dir: &Path, sums: &source::Sums) -> bool {
    sums.iter().all(|(name, sum)| source::sum_of(&dir.join(name)).is_ok_and(|found| found == *sum))
}

/// Writes the list, so that the release can be brought in again from where it lies.
fn list(dir: &Path, sums: &source::Sums) -> io::Result<()> {
    fs::write(dir.join(SUMS), text(sums))?;
    File::open(dir.join(SUMS))?.sync_all()
}

fn text(sums: &source::Sums) -> String {
    sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}
