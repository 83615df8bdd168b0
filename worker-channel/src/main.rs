//! `openclaw-channel`: the network of one channel account. Started by the gateway with its link on standard input;
//! by hand it only describes itself: `--schema [channel]`, `--check-config <channel>` (the configuration as JSON on
//! standard input), `--version`.

mod account;
mod account_lock;
mod channel;
mod check;
mod dedup;
mod inbound;
mod media;
mod outbound;
mod probe;
mod supervisor;
mod text;
mod worker;

use std::process::ExitCode;

/// Exit code for a command line that makes no sense (sysexits.h, EX_USAGE).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [] => worker::main(),
        ["--version"] => {
            println!("openclaw-channel {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--probe"] => probe::main(),
        ["--schema", rest @ ..] => check::schema(rest.first().copied()),
        ["--check-config", rest @ ..] => check::config(rest.first().copied()),
        _ => {
            eprintln!("usage: openclaw-channel [--version | --schema [channel] | --check-config [channel]]");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
