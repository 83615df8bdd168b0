//! `openclaw config`.

use super::invocation::{Failure, Invocation};
use crate::config::ConfigFile;

#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub fn run(self, _invocation: &Invocation) -> Result<u8, Failure> {
        Ok(0)
    }
}

/// The configuration as commands see it, with the `.env` files that the gateway would read.
pub fn read_file(invocation: &Invocation) -> Result<ConfigFile, Failure> {
    let cwd = std::env::current_dir().ok();
    let env = crate::config::handle::load_env(invocation.env.clone(), &invocation.paths, cwd.as_deref());
    Ok(crate::config::read_file(&invocation.paths.config_file, &env))
}
