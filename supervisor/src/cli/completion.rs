//! `openclaw completion <shell>`.

use super::{Cli, Failure};
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

impl Args {
    pub fn run(self) -> Result<u8, Failure> {
        clap_complete::generate(self.shell, &mut Cli::command(), "openclaw", &mut std::io::stdout());
        Ok(crate::exit_code::OK)
    }
}
