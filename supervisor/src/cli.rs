//! The command line. Reaches a running gateway only from outside: by its control socket, or by files when it is stopped.
//!
//! One file per command below `cli/`, one line each in [`Command`] and in [`Cli::run`].

mod agent;
mod channels;
mod client;
mod completion;
mod config;
mod dead_letters;
mod doctor;
mod gateway;
mod health;
mod invocation;
mod logs;
mod models;
mod output;
mod pairing;
mod sessions;
mod status;
mod stop;
mod up;
mod workers;

use clap::{CommandFactory, Parser, Subcommand};
use invocation::Invocation;

pub use invocation::Failure;

/// A personal-agent gateway whose parts cannot take it down.
#[derive(Debug, Parser)]
#[command(name = "openclaw", version, about, long_about = None, disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the version
    #[arg(short = 'V', short_alias = 'v', long = "version")]
    version: bool,
}

/// Flags that stand before the command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Use the profile `<name>`: state directory ~/.openclaw-<name>
    #[arg(long, value_name = "name")]
    profile: Option<String>,
    /// Use the profile `dev`: state directory ~/.openclaw-dev, port 19001
    #[arg(long)]
    dev: bool,
    /// Print without colours
    #[arg(long, global = true)]
    no_color: bool,
    /// Log level: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "level")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up what is missing, then run the gateway in the foreground
    Up(up::Args),
    /// Run the gateway, or ask a running one (`gateway call <method>`)
    Gateway(gateway::Args),
    /// Show what runs and how it is
    Status(status::Args),
    /// Ask the gateway for its health
    Health(health::Args),
    /// Send one message to an agent and print its answer
    Agent(agent::Args),
    /// List sessions
    Sessions(sessions::Args),
    /// Show chat channels
    Channels(channels::Args),
    /// List and approve senders who asked to be let in
    Pairing(pairing::Args),
    /// Read and change the configuration file
    Config(config::Args),
    /// Print the gateway's log
    Logs(logs::Args),
    /// Show the models that agents use
    Models(models::Args),
    /// Show and steer the worker processes
    Workers(workers::Args),
    /// Show messages that could not be delivered or answered
    DeadLetters(dead_letters::Args),
    /// Check this installation and repair what can be repaired
    Doctor(doctor::Args),
    /// Stop the running gateway
    Stop(stop::StopArgs),
    /// Restart the running gateway in place
    Restart(stop::RestartArgs),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

impl Cli {
    /// Runs the command; the error is printed by `main`.
    pub fn run(self) -> Result<u8, Failure> {
        if self.version {
            output::line(env!("CARGO_PKG_VERSION"))?;
            return Ok(crate::exit_code::OK);
        }
        let invocation = Invocation::new(self.global)?;
        let Some(command) = self.command else {
            Self::command().print_help().map_err(Failure::output)?;
            return Ok(crate::exit_code::OK);
        };
        match command {
            Command::Up(args) => args.run(&invocation),
            Command::Gateway(args) => args.run(&invocation),
            Command::Status(args) => args.run(&invocation),
            Command::Health(args) => args.run(&invocation),
            Command::Agent(args) => args.run(&invocation),
            Command::Sessions(args) => args.run(&invocation),
            Command::Channels(args) => args.run(&invocation),
            Command::Pairing(args) => args.run(&invocation),
            Command::Config(args) => args.run(&invocation),
            Command::Logs(args) => args.run(&invocation),
            Command::Models(args) => args.run(&invocation),
            Command::Workers(args) => args.run(&invocation),
            Command::DeadLetters(args) => args.run(&invocation),
            Command::Doctor(args) => args.run(&invocation),
            Command::Stop(args) => args.run(&invocation),
            Command::Restart(args) => args.run(&invocation),
            Command::Completion(args) => args.run(),
        }
    }
}
