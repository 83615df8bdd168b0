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
mod takeover;
mod worker;

use clap::Parser;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(code) => code.into(),
        Err(failure) => {
            // A standard error that is closed is no reason to panic.
            if !failure.message.is_empty() {
                let _closed = writeln!(std::io::stderr(), "{failure}");
            }
            failure.code.into()
        }
    }
}
