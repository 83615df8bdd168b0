//! `openclaw-agent`: one process per agent. Transcripts, prompt, model calls and tools; no network port.

mod agent;
mod clock;
mod command;
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
    if args.next().is_some_and(|verb| verb == tool::launcher::VERB) {
        return tool::launcher::main(args);
    }
    worker::main()
}
