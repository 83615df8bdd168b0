//! `openclaw up`.

use super::invocation::{Failure, Invocation};

#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub fn run(self, _invocation: &Invocation) -> Result<u8, Failure> {
        Ok(0)
    }
}
