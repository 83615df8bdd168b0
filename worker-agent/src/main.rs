//! `openclaw-agent`: one process per agent. Transcripts, prompt, model calls and tools; no network port.

mod prompt;
mod provider;
mod session;
mod tool;
mod turn;

fn main() {}
