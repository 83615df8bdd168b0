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
/// A smaller one (64 KiB) would not hold a single message with its answer; the disk is as good as full then.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
/// A reserve that was given up is taken again when this many times its size is free: at once would take away what it gave.
const REFILL_FACTOR: u64 = 4;
/// Less than this is a full disk for a start (1 MiB): the journal's log and its index are made before anything is written.
pub const START_BYTES_MIN: u64 = 1 << 20;

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

/// Bytes that an unprivileged process may still write where `dir` lies.
pub fn free_bytes(dir: &Path) -> Option<u64> {
    statvfs(dir).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// `812 KiB`, `6.4 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xF_FFFF) * 10) >> 20),
    }
}

/// The journal goes without its reserve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    pub dir: PathBuf,
    pub free_bytes: u64,
    /// It is taken again when this much is free.
    pub wanted_bytes: u64,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (free, wanted) = (bytes_text(self.free_bytes), bytes_text(self.wanted_bytes));
        let dir = self.dir.display();
        write!(
            f,
            "the disk is nearly full: {free} free at {dir}, and the journal goes without its reserve; free some space: from {wanted} on it is taken again by itself"
        )
    }
}

/// A file of real blocks that is given up first when the disk is full. What was given up is remembered by an empty file with
/// the same (apparent) length, so that the next start and the next image know it too.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
    spent: PathBuf,
}

impl Reserve {
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("reserve.bin"), spent: dir.join("reserve.spent") }
    }

    /// `None` while it exists.
    pub fn lack(&self) -> Option<Lack> {
        if self.path.exists() {
            return None;
        }
        let dir = self.path.parent()?.to_owned();
        let free_bytes = free_bytes(&dir)?;
        let (_, wanted_bytes) = self.wanted(free_bytes);
        Some(Lack { dir, free_bytes, wanted_bytes })
    }

    /// Its size, and the free space from which on it is taken.
    fn wanted(&self, free: u64) -> (u64, u64) {
        match fs::metadata(&self.spent).map(|spent| spent.len()) {
            Ok(bytes) if bytes > 0 => (bytes, bytes.saturating_mul(REFILL_FACTOR)),
            _ => (reserve_bytes(free).max(RESERVE_BYTES_MIN), RESERVE_BYTES_MIN * RESERVE_PART),
        }
    }

    /// Makes sure that it exists. False: it does not, there is too little space; what it leaves free is worth more.
    pub fn fill(&self) -> bool {
        if self.path.exists() {
            return true;
        }
        let Some(free) = self.path.parent().and_then(free_bytes) else { return false };
        let (bytes, from) = self.wanted(free);
        if free < from {
            return false;
        }
        if let Err(e) = self.allocate(bytes) {
            tracing::debug!(path = %self.path.display(), error = %e, "no reserve file");
            let _ignored = fs::remove_file(&self.path);
            return false;
        }
        let _none = fs::remove_file(&self.spent);
        true
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
        self.hollow().is_ok() || fs::remove_file(&self.path).is_ok()
    }

    /// Only its length stays, which takes no space: a hole, under another name.
    fn hollow(&self) -> std::io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        let bytes = file.metadata()?.len();
        file.set_len(0)?;
        file.set_len(bytes)?;
        fs::rename(&self.path, &self.spent)
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
