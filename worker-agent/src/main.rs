//! `openclaw-agent`: one process per agent. Transcripts, prompt, model calls and tools; no network port.

mod prompt;
mod provider;
mod session;
mod tool;
mod turn;

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|verb| verb == tool::launcher::VERB) {
        return tool::launcher::main(args);
    }
    std::process::ExitCode::SUCCESS
}
