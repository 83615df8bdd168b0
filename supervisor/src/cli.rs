//! The command line. Reaches a running gateway only from outside: by its control socket, or by files when it is stopped.
//!
//! One file per command below `cli/`, one line each in [`Command`] and in [`Cli::run`].

mod agent;
mod channels;
mod client;
mod completion;
mod config;
mod dashboard;
mod dead_letters;
mod devices;
mod doctor;
mod gateway;
mod health;
mod invocation;
mod logs;
mod models;
mod node_name;
mod operator;
mod outbox;
mod output;
mod pairing;
mod service;
mod sessions;
mod status;
mod stop;
mod trace;
mod up;
mod update;
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
    /// Say whether this executable could go on in place of the running one
    #[arg(long, hide = true)]
    preflight: bool,
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
    /// Set up what is missing and end: `up --no-run`
    Setup(up::Args),
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
    /// List and approve browsers and command lines that asked to be let in
    Devices(devices::Args),
    /// Print the page's address with its token, and open it
    Dashboard(dashboard::Args),
    /// Read and change the configuration file
    Config(config::Args),
    /// Print the gateway's log
    Logs(logs::Args),
    /// Show the models that agents use
    Models(models::Args),
    /// Show and steer the worker processes
    Workers(workers::Args),
    /// Show replies on their way, send one now or give one up
    Outbox(outbox::Args),
    /// Show messages that could not be delivered or answered
    DeadLetters(dead_letters::Args),
    /// Tell step by step what became of a message
    Trace(trace::Args),
    /// Check this installation and repair what can be repaired
    Doctor(doctor::Args),
    /// Run the gateway as a service of systemd
    #[command(visible_alias = "daemon")]
    Service(service::Args),
    /// Stop the running gateway
    Stop(stop::StopArgs),
    /// Restart the running gateway in place
    Restart(stop::RestartArgs),
    /// Bring in a new release and go on with it
    Update(update::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
}

/// The answer to the gateway that would give way to this executable.
fn preflight(invocation: &Invocation) -> Result<u8, Failure> {
    let use_last_good = std::env::args().any(|argument| argument == "--use-last-good");
    let answer = crate::upgrade::preflight::serve(&invocation.paths, invocation.env.clone(), use_last_good);
    let code = if answer.ok { crate::exit_code::OK } else { crate::exit_code::FAILURE };
    output::line(&serde_json::to_string(&answer).unwrap_or_default())?;
    Ok(code)
}

impl Cli {
    /// Reads this process's arguments.
    ///
    /// # Errors
    /// What is wrong with them; the help, which is none, is printed.
    pub fn of_process() -> Result<Self, Failure> {
        let words = node_name::arguments(std::env::args_os().collect())
            .map_err(|why| Failure::with_code(why, crate::exit_code::USAGE))?;
        Self::try_parse_from(words).map_err(|error| Failure::usage(&error))
    }

    /// Runs the command; the error is printed by `main`.
    pub fn run(self) -> Result<u8, Failure> {
        if self.version {
            output::line(env!("CARGO_PKG_VERSION"))?;
            return Ok(crate::exit_code::OK);
        }
        let invocation = Invocation::new(self.global)?;
        if self.preflight {
            return preflight(&invocation);
        }
        let Some(command) = self.command else {
            Self::command().print_help().map_err(Failure::output)?;
            return Ok(crate::exit_code::OK);
        };
        match command {
            Command::Up(args) => args.run(&invocation),
            Command::Setup(args) => args.without_running().run(&invocation),
            Command::Gateway(args) => args.run(&invocation),
            Command::Status(args) => args.run(&invocation),
            Command::Health(args) => args.run(&invocation),
            Command::Agent(args) => args.run(&invocation),
            Command::Sessions(args) => args.run(&invocation),
            Command::Channels(args) => args.run(&invocation),
            Command::Pairing(args) => args.run(&invocation),
            Command::Devices(args) => args.run(&invocation),
            Command::Dashboard(args) => args.run(&invocation),
            Command::Config(args) => args.run(&invocation),
            Command::Logs(args) => args.run(&invocation),
            Command::Models(args) => args.run(&invocation),
            Command::Workers(args) => args.run(&invocation),
            Command::Outbox(args) => args.run(&invocation),
            Command::DeadLetters(args) => args.run(&invocation),
            Command::Trace(args) => args.run(&invocation),
            Command::Doctor(args) => args.run(&invocation),
            Command::Service(args) => args.run(&invocation),
            Command::Stop(args) => args.run(&invocation),
            Command::Restart(args) => args.run(&invocation),
            Command::Update(args) => args.run(&invocation),
            Command::Completion(args) => args.run(),
        }
    }
}
