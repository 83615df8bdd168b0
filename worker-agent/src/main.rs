//! `openclaw-agent`: one process per agent. Transcripts, prompt, model calls and tools; no network port.

mod agent;
mod canary;
mod clock;
mod command;
mod config;
mod net_guard;
mod prompt;
mod provider;
mod rpc;
mod session;
mod setup;
mod tool;
mod turn;
mod worker;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        None => worker::main(),
        Some(verb) if verb == tool::launcher::VERB => tool::launcher::main(args),
        Some(verb) if verb == proto::runtime::confine::attributes::VERB => {
            proto::runtime::confine::attributes::main(args)
        }
        Some(flag) if flag == "--check-config" => config::check_main(),
        Some(flag) if flag == "--canary" => canary::main(),
        Some(flag) if flag == "--schema" => config::schema_main(),
        Some(flag) if flag == prompt::seed::VERB => prompt::seed::main(args),
        Some(flag) if flag == "--version" => {
            println!("openclaw-agent {}", env!("CARGO_PKG_VERSION"));
            std::process::ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("openclaw-agent: unknown argument {other:?}; the gateway starts this program");
            std::process::ExitCode::from(64)
        }
    }
}
