//! A small file system of its own, for tests of a full disk. Mounting needs root: elsewhere the test says that it is
//! skipped, and in CI (`CI=true`) it fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs. Unmounted when dropped; drop whatever runs on it first.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None where this user may not mount.
    pub fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a mount point");
        let size = format!("size={bytes},mode=0700");
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { dir }),
            refused => {
                let why = refused.map_or_else(
                    |error| error.to_string(),
                    |output| String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                );
                assert!(std::env::var_os("CI").is_none(), "a tmpfs cannot be mounted: {why}");
                eprintln!("skipped: a tmpfs cannot be mounted ({why})");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all space that is left. Gives the file that holds it: remove it to have room again.
    pub fn fill(&self) -> PathBuf {
        Self::fill_at(self.dir.path())
    }

    /// The same for a disk that somebody else holds.
    pub fn fill_at(disk: &Path) -> PathBuf {
        let path = disk.join("filler");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).expect("a filler");
        for block in [64 * 1024, 4096, 512, 64, 1] {
            let block = vec![b'x'; block];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}
