//! The ground under the journal: which file systems it trusts, and the reserve that buys time on a full disk.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statfs, statvfs};

use super::JournalError;

/// Most that the reserve takes (64 MiB): enough for every run in progress to write its end.
pub const RESERVE_BYTES_MAX: u64 = 64 << 20;
/// Share of the free space that it may take: one part in a hundred.
const RESERVE_PART: u64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsVerdict {
    Local,
    /// Works as well as the program behind it.
    Doubtful(&'static str),
    /// Locks or syncs are known to lie.
    Unsafe(&'static str),
}

/// By `statfs(2)` `f_type`; numbers from `linux/magic.h` and the file systems' own headers.
pub fn judge(magic: u64) -> FsVerdict {
    match magic {
        0x6969 => FsVerdict::Unsafe("NFS"),
        0x0102_1997 => FsVerdict::Unsafe("9p"),
        0x517B => FsVerdict::Unsafe("SMB"),
        0xFF53_4D42 => FsVerdict::Unsafe("CIFS"),
        0xFE53_4D42 => FsVerdict::Unsafe("SMB2"),
        0x6573_5546 => FsVerdict::Doubtful("FUSE"),
        _ => FsVerdict::Local,
    }
}

/// Refuses network file systems unless `unsafe_fs`; gives a warning for what may work.
pub fn check(dir: &Path, unsafe_fs: bool) -> Result<Option<String>, JournalError> {
    let stat = statfs(dir)
        .map_err(|e| JournalError::Open { path: dir.display().to_string(), why: format!("statfs: {e}") })?;
    // The field's width and sign differ by target; the magic numbers are 32 bits.
    let magic = (stat.f_type as u64) & 0xFFFF_FFFF;
    match judge(magic) {
        FsVerdict::Local => Ok(None),
        FsVerdict::Doubtful(fs) => {
            Ok(Some(format!("{} is on {fs}: durability depends on the program behind it", dir.display())))
        }
        FsVerdict::Unsafe(fs) if unsafe_fs => Ok(Some(format!(
            "{} is on {fs} and --unsafe-fs is given: messages may be lost or doubled",
            dir.display()
        ))),
        FsVerdict::Unsafe(fs) => Err(JournalError::UnsafeFilesystem { path: dir.display().to_string(), fs }),
    }
}

/// `min(64 MiB, 1 % of the free space)`.
pub fn reserve_bytes(free: u64) -> u64 {
    (free / RESERVE_PART).min(RESERVE_BYTES_MAX)
}

/// A file of real blocks that is given up first when the disk is full.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("reserve.bin") }
    }

    /// Makes sure that it exists. Failing is no error: without space there is nothing to reserve.
    pub fn fill(&self) {
        if self.path.exists() {
            return;
        }
        let Some(dir) = self.path.parent() else { return };
        let Ok(stat) = statvfs(dir) else { return };
        let bytes = reserve_bytes(stat.f_bavail.saturating_mul(stat.f_frsize));
        if bytes == 0 {
            return;
        }
        if let Err(e) = self.allocate(bytes) {
            tracing::debug!(path = %self.path.display(), error = %e, "no reserve file");
            let _ignored = fs::remove_file(&self.path);
        }
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.path)?;
        if fallocate(&file, FallocateFlags::empty(), 0, bytes).is_ok() {
            return Ok(());
        }
        write_zeros(&mut file, bytes)
    }

    /// Gives the space back. `true` when there was some.
    pub fn spend(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

/// For file systems without `fallocate`: the blocks must be real, a hole reserves nothing.
fn write_zeros(file: &mut File, bytes: u64) -> std::io::Result<()> {
    let block = [0_u8; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(block.len()).min(block.len());
        file.write_all(block.get(..n).unwrap_or(&block))?;
        left -= n as u64;
    }
    Ok(())
}
