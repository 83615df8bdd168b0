//! The few file operations that transcripts and the session store share: lock, durable create, atomic replace,
//! line scan. All of them block; callers run them on the blocking pool.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// A line longer than this is skipped: the longest that we write holds one tool result of 400 000 characters.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Opens (creating if asked) for reading and appending, and takes the exclusive lock of the open file description.
/// `WouldBlock` means that another process holds it.
pub fn open_locked(path: &Path, create: bool) -> io::Result<(File, bool)> {
    for _ in 0..8 {
        let existed = path.exists();
        let file = OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(path)?;
        lock(&file)?;
        // The file may have been replaced between open and lock: the lock counts only on the inode of that name.
        let (ours, named) = (file.metadata()?, fs::metadata(path));
        if named.is_ok_and(|named| named.ino() == ours.ino() && named.dev() == ours.dev()) {
            return Ok((file, !existed));
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "the file keeps being replaced"))
}

/// An OFD lock: it goes with the open file, so neither a fork nor a crash can leave it behind.
fn lock(file: &File) -> io::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "locked by another process"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates a private directory with its parents.
pub fn create_private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Makes a creation or rename in `path`'s directory survive a power loss.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Replaces a file as a whole: temporary file beside it, fsync, rename, fsync of the directory.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_after(path, bytes, || ())
}

/// The same; `written` is called between the temporary file and its new name.
pub fn replace_after(path: &Path, bytes: &[u8], written: impl FnOnce()) -> io::Result<()> {
    let temp = temp_beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        written();
        fs::rename(&temp, path)?;
        sync_parent(path)
    })();
    if written.is_err() {
        // Best effort: the temporary file is of no use to anyone.
        drop(fs::remove_file(&temp));
    }
    written
}

/// `<file>.<pid>.<random>.tmp`, the name that the original uses as well.
pub fn temp_beside(path: &Path) -> PathBuf {
    with_suffix(path, &format!("{}.{}.tmp", std::process::id(), uuid::Uuid::new_v4()))
}

/// `path` with `.suffix` added to the whole name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// One line of a file. `complete` is false for a last line without its newline.
pub struct Line<'a> {
    pub offset: u64,
    pub bytes: &'a [u8],
    pub complete: bool,
}

/// Calls `each` for every line of at most `LINE_BYTES_MAX` bytes; longer ones come as empty.
pub fn scan_lines(file: &File, mut each: impl FnMut(Line<'_>)) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let mut line = Vec::new();
    let mut offset = 0_u64;
    loop {
        line.clear();
        let (read, complete) = read_line(&mut reader, &mut line)?;
        if read == 0 {
            return Ok(offset);
        }
        each(Line { offset, bytes: &line, complete });
        offset += read as u64;
    }
}

/// Reads up to and with the next newline, which is not kept; keeps nothing of an overlong line.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(usize, bool)> {
    let mut read = 0;
    let mut overlong = false;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok((read, false));
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let body = &chunk[..end.unwrap_or(chunk.len())];
        overlong |= line.len() + body.len() > LINE_BYTES_MAX;
        if overlong {
            line.clear();
        } else {
            line.extend_from_slice(body);
        }
        let used = body.len() + usize::from(end.is_some());
        reader.consume(used);
        read += used;
        if end.is_some() {
            return Ok((read, true));
        }
    }
}
