//! What every command knows: environment, places, how to print.

use super::Global;
use super::client::{Client, ClientError};
use crate::config::Environment;
use crate::exit_code;
use crate::paths::{Paths, ProfileFlags};
use std::fmt;
use std::io::IsTerminal;

pub struct Invocation {
    pub env: Environment,
    pub paths: Paths,
    pub color: bool,
    pub log_level: Option<String>,
}

impl Invocation {
    pub(super) fn new(global: Global) -> Result<Self, Failure> {
        let env = Environment::of_process();
        let flags = ProfileFlags { profile: global.profile, dev: global.dev };
        let paths = Paths::of_process(&env, &flags).map_err(|error| Failure::new(error.to_string()))?;
        let color = !global.no_color && env.get("NO_COLOR").is_none() && std::io::stdout().is_terminal();
        Ok(Self { env, paths, color, log_level: global.log_level })
    }

    /// The running gateway of this state directory; fails at once when there is none.
    pub fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.paths).map_err(|error| self.unreachable(&error))
    }

    /// The refusal that every command prints when no gateway answers.
    pub fn unreachable(&self, error: &ClientError) -> Failure {
        let hint = match error {
            // It says itself what to do.
            ClientError::Denied(_) => "",
            _ => {
                "\nHint: start it with `openclaw gateway`, or set one up with `openclaw up`; `openclaw doctor` checks this installation."
            }
        };
        Failure::new(format!(
            "{error}\nGateway target: {}\nConfig: {}{hint}",
            self.paths.control_socket().display(),
            self.paths.config_file.display(),
        ))
    }
}

/// A command that did not do what it was asked, with the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    pub message: String,
    pub code: u8,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit_code::FAILURE }
    }
    pub fn with_code(message: impl Into<String>, code: u8) -> Self {
        Self { message: message.into(), code }
    }
    /// A command line that is wrong. Help and version, which clap gives as errors too, are printed here.
    pub fn usage(error: &clap::Error) -> Self {
        if !error.use_stderr() {
            return error.print().map_or_else(Self::output, |()| Self::with_code("", exit_code::OK));
        }
        let text = error.render();
        let text = if std::io::stderr().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        Self::with_code(text.trim_end(), exit_code::USAGE)
    }
    /// Standard output is gone. Says nothing and is no failure when a pipe's reader left.
    #[expect(clippy::needless_pass_by_value, reason = "used as a function value in map_err")]
    pub fn output(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::with_code("", exit_code::OK);
        }
        Self::new(format!("cannot print: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::new(error.to_string())
    }
}
