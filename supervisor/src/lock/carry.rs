//! Locks that go on over an exec: the open file holds them, whoever has a descriptor of it.

use super::{Held, HostLock};
use crate::upgrade::fds::{self, Kept};
use crate::upgrade::locks::{CarriedHost, CarriedLock};
use std::io;

impl Held {
    /// # Errors
    /// No descriptor is free.
    pub fn carry(&self, kept: &mut Kept) -> io::Result<CarriedLock> {
        Ok(CarriedLock { path: self.path.clone(), fd: kept.keep_copy(&self.file)? })
    }

    /// # Errors
    /// The descriptor is not there.
    pub fn adopt(carried: &CarriedLock) -> io::Result<Self> {
        Ok(Self { file: fds::take(carried.fd)?, path: carried.path.clone() })
    }
}

impl HostLock {
    /// # Errors
    /// No descriptor is free.
    pub fn carry(&self, kept: &mut Kept) -> io::Result<CarriedHost> {
        let file = self.file.as_ref().map(|file| file.carry(kept)).transpose()?;
        Ok(CarriedHost { file, guard: kept.keep_copy(&self.guard)? })
    }

    /// # Errors
    /// A descriptor is not there.
    pub fn adopt(carried: &CarriedHost) -> io::Result<Self> {
        let file = carried.file.as_ref().map(Held::adopt).transpose()?;
        Ok(Self { file, guard: fds::take(carried.guard)?.into() })
    }
}
