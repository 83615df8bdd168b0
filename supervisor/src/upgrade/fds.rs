//! Descriptors that cross an exec: collected by the old image, taken up by number by the new one.

use proto::runtime::sys;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
