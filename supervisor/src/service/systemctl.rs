//! Asking systemd, and saying in words what to do when it is not there.

use super::{Scope, account};
use crate::config::Environment;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Why systemd did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SystemctlError {
    /// There is no service manager for us.
    #[error("{} unavailable: {why}\n{remedy}", .scope.systemctl())]
    Unavailable { scope: Scope, why: String, remedy: String },
    /// It refused.
    #[error("{command} failed: {why}")]
    Failed { command: String, why: String },
}

/// systemd of one scope.
#[derive(Clone, Copy, Debug)]
pub struct Systemctl(pub Scope);

/// What systemd says of the unit, by the names of its properties. Empty values are left out.
pub type Shown = BTreeMap<String, String>;

/// What `status` needs to know.
const PROPERTIES: &str = "LoadState,ActiveState,SubState,MainPID,UnitFileState,Result,ExecMainStatus,NRestarts,\
     StatusText,FragmentPath,NeedDaemonReload";

impl Systemctl {
    /// Whether there is a service manager that answers.
    ///
    /// # Errors
    /// There is none, with what to do about it.
    pub fn check(self) -> Result<(), SystemctlError> {
        self.run(&["show-environment"]).map(|_| ())
    }

    /// Runs `systemctl [--user] <args>`; gives what it printed.
    ///
    /// # Errors
    /// There is no service manager, or it refused.
    pub fn run(self, args: &[&str]) -> Result<String, SystemctlError> {
        let output = self.command("systemctl", args).output().map_err(|error| self.missing(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(self.refusal(args, &output))
    }

    /// What systemd knows of the unit.
    ///
    /// # Errors
    /// There is no service manager.
    pub fn show(self, unit: &str) -> Result<Shown, SystemctlError> {
        let property = format!("--property={PROPERTIES}");
        let text = self.run(&["show", unit, &property])?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        let told = pairs.filter(|(_, value)| !value.is_empty());
        Ok(told.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// `journalctl` of the unit with these arguments, its output going where ours goes. Gives its exit code.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn journal(self, unit: &str, args: &[&str]) -> Result<i32, SystemctlError> {
        let mut command = self.command("journalctl", &["--unit", unit]);
        if self.0 == Scope::User {
            command = Command::new("journalctl");
            command.args(["--user", "--user-unit", unit]);
        }
        let ended = command.args(args).stdout(Stdio::inherit()).stderr(Stdio::inherit()).status();
        ended.map(|status| status.code().unwrap_or(1)).map_err(|error| self.missing(&error))
    }

    fn command(self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        if self.0 == Scope::User {
            command.arg("--user");
        }
        // The texts are looked at below.
        command.args(args).stdin(Stdio::null()).env("LC_ALL", "C").env("SYSTEMD_PAGER", "");
        command
    }

    fn missing(self, error: &io::Error) -> SystemctlError {
        let why = if error.kind() == io::ErrorKind::NotFound {
            "systemd is not installed here".to_owned()
        } else {
            error.to_string()
        };
        SystemctlError::Unavailable { scope: self.0, why, remedy: NO_SYSTEMD.to_owned() }
    }

    fn refusal(self, args: &[&str], output: &Output) -> SystemctlError {
        let said = String::from_utf8_lossy(&output.stderr);
        let why = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
        match remedy(self.0, &said, Path::new(BOOTED).exists()) {
            Some(remedy) => SystemctlError::Unavailable { scope: self.0, why: why.to_owned(), remedy },
            None => SystemctlError::Failed {
                command: format!("{} {}", self.0.systemctl(), args.join(" ")),
                why: said.trim().to_owned(),
            },
        }
    }
}

const NO_SYSTEMD: &str = "This host is not run by systemd (a container, perhaps). Run `openclaw gateway --service` as the main \
     process of the container, or under the service manager that there is.";

/// Made by systemd alone, when it is the first process.
const BOOTED: &str = "/run/systemd/system";

/// What helps when the words say that nobody answered; `None` when somebody did and refused.
/// `booted`: whether systemd runs this host.
fn remedy(scope: Scope, said: &str, booted: bool) -> Option<String> {
    let not_booted = ["not been booted with systemd", "Host is down"];
    if not_booted.iter().any(|words| said.contains(words)) {
        return Some(NO_SYSTEMD.to_owned());
    }
    if !said.contains("connect to bus") && !said.contains("connect to user scope bus") {
        return None;
    }
    if scope == Scope::System || !booted {
        return Some(NO_SYSTEMD.to_owned());
    }
    let (uid, name) = account::own();
    Some(format!(
        "No service manager of this user runs here. Log in as {name} by ssh (not by su or sudo), or set\n  export XDG_RUNTIME_DIR=/run/user/{uid}\nWithout a login it runs only after\n  sudo loginctl enable-linger {name}\nA service of the host needs neither: sudo openclaw service install --system"
    ))
}

/// Whether the user's services go on after the last log-out. `None`: it cannot be known here.
pub fn lingers(env: &Environment) -> Option<bool> {
    let (_, name) = account::own();
    // Tests put a folder of their own in its place.
    let folder =
        std::path::PathBuf::from(env.get("OPENCLAW_LINGER_DIR").unwrap_or("/var/lib/systemd/linger"));
    folder.parent()?.is_dir().then(|| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_manager_and_a_refusing_one_are_told_apart() {
        let silent = "Failed to connect to bus: No medium found\n";
        let bus = remedy(Scope::User, silent, true).unwrap();
        assert!(bus.contains("loginctl enable-linger") && bus.contains("XDG_RUNTIME_DIR"), "{bus}");
        let none = "System has not been booted with systemd as init system (PID 1). Can't operate.\n\
                    Failed to connect to bus: Host is down\n";
        assert_eq!(remedy(Scope::User, none, true).as_deref(), Some(NO_SYSTEMD));
        assert_eq!(remedy(Scope::System, none, true).as_deref(), Some(NO_SYSTEMD));
        assert_eq!(
            remedy(Scope::User, silent, false).as_deref(),
            Some(NO_SYSTEMD),
            "no log-in helps a container"
        );
        assert_eq!(remedy(Scope::User, "Failed to start x.service: Unit not found.\n", true), None);
    }
}
