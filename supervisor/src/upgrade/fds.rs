//! Descriptors that cross an exec: collected by the old image, taken up by number by the new one.

use proto::runtime::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Of the next image's own until it works: journal, log, runtimes, the workers' processes it looks at.
const SPARE: u64 = 96;

/// Open files of the gateway: every connection twice while the image is replaced, and the rest many times over. As in our
/// units.
const OPEN_FILES: u64 = 65_536;

/// Descriptors that stay open over the exec. The state names them by their numbers.
#[derive(Debug, Default)]
pub struct Kept(Vec<OwnedFd>);

impl Kept {
    /// Keeps `fd` open and gives the number under which the next image finds it.
    pub fn keep(&mut self, fd: OwnedFd) -> i32 {
        let number = fd.as_raw_fd();
        self.0.push(fd);
        number
    }

    /// Keeps a second descriptor of the same open file; its holder goes on using its own.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn keep_copy(&mut self, fd: &impl AsFd) -> io::Result<i32> {
        Ok(self.keep(fd.as_fd().try_clone_to_owned()?))
    }

    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub fn numbers(&self) -> Vec<i32> {
        self.0.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Lets the next image inherit all of them, or none.
    ///
    /// # Errors
    /// The kernel refused one.
    pub fn inherit(&self, on: bool) -> io::Result<()> {
        self.0.iter().try_for_each(|fd| sys::inherit(fd, on))
    }
}

/// Raises the limit: a shell's usual 1024 is too few for all connections and a replacement in place. Workers lower theirs.
pub fn make_room() {
    if let Err(error) = sys::open_files_at_least(OPEN_FILES) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// Whether there is room for what a replacement needs: the next image holds every descriptor twice until it is known to
/// work ([`take`]), so that the one before can be gone back to.
///
/// # Errors
/// There is not, and what to do.
pub fn room() -> Result<(), String> {
    let told = |error: io::Error| format!("open files cannot be counted: {error}");
    let open = std::fs::read_dir("/proc/self/fd").map_err(told)?.count() as u64;
    let limit = sys::open_files_limit().map_err(told)?;
    if open * 2 + SPARE <= limit {
        return Ok(());
    }
    Err(format!(
        "{open} files are open and the limit is {limit}: a replacement in place needs room for twice as many and {SPARE} more. Raise the limit (LimitNOFILE= of the unit, `ulimit -n`) and start anew with `openclaw service restart`"
    ))
}

/// Descriptors of the image before, in the hands of this one.
#[derive(Debug, Default)]
pub struct Taken(Vec<(i32, OwnedFd)>);

impl Taken {
    /// Takes all of them up.
    ///
    /// # Errors
    /// One is not there.
    pub fn all(numbers: impl IntoIterator<Item = i32>) -> io::Result<Self> {
        numbers.into_iter().map(|number| Ok((number, take(number)?))).collect::<io::Result<_>>().map(Self)
    }

    /// Gives one out, once.
    ///
    /// # Errors
    /// It is not among them.
    pub fn give(&mut self, number: i32) -> io::Result<OwnedFd> {
        let place = self.0.iter().position(|(known, _)| *known == number);
        Ok(self.0.swap_remove(place.ok_or(io::ErrorKind::NotFound)?).1)
    }
}

/// A second descriptor of the one that the image before left under `number`. The first stays open until this image is
/// known to work, so that another one can still take it up.
///
/// # Errors
/// There is none.
pub fn take(number: i32) -> io::Result<OwnedFd> {
    sys::copy_of(number)
}
