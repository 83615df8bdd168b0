//! Binary `openclaw`: the command line and the gateway's supervisor.

mod cli;
mod clock;
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
mod trace;
mod update;
mod upgrade;
mod worker;

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Arguments and environment may hold secrets, and tools run as the same user: nobody but root may look into this
    // process, from its first moment on.
    if let Err(error) = proto::runtime::sys::not_dumpable() {
        let _closed =
            writeln!(std::io::stderr(), "other processes of this user can read this one's memory: {error}");
    }
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
