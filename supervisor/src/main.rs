//! Binary `openclaw`: the command line and the gateway's supervisor.

mod cli;
mod config;
mod control_paths;
mod delivery;
mod doctor;
mod events;
mod exit_code;
mod front;
mod gateway;
mod http;
mod journal;
mod link;
mod lock;
mod paths;
mod router;
mod rpc;
mod scheduler;
mod service;
mod takeover;
mod update;
mod upgrade;
mod worker;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    upgrade::image::look();
    match cli::Cli::of_process().and_then(cli::Cli::run) {
        Ok(code) => code.into(),
        Err(failure) => {
            upgrade::image::roll_back(&failure.message);
            // A standard error that is closed is no reason to panic.
            if !failure.message.is_empty() {
                let _closed = writeln!(std::io::stderr(), "{failure}");
            }
            failure.code.into()
        }
    }
}
