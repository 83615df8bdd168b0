//! How a worker ended, and whose fault it was. Pure.

use crate::exit_code;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    Code(i32),
    Signal { number: i32, core: bool },
}

/// Why we were the ones who ended it, if we were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KilledFor {
    /// No pong for 30 s.
    Hung,
    /// It broke the link's protocol.
    Violation,
    /// `Hello` or `Ready` did not come in time.
    StartDeadline,
    /// It closed its link and stayed alive.
    LinkLost,
    /// Somebody had stopped it (SIGSTOP) for so long that it counted as hung.
    Stopped,
}

/// What an end means for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitClass {
    /// We asked, and it went (or was pushed).
    Asked,
    /// Self-inflicted: own signal, abort, panic, exit that nobody asked for.
    Crash,
    /// The kernel ended it for its memory.
    OutOfMemory,
    /// Killed by somebody who is neither us nor the OOM killer.
    KilledOutside,
    /// Exit 75, or the process could not be started: the host's trouble, not the worker's.
    Temporary,
    /// Exit 64 or 78: no restart helps until the configuration changes.
    Config,
    /// Exit 76: executables of two releases.
    Protocol,
    /// Exit 77.
    Login,
}

impl ExitClass {
    /// Counts against the run or message that was in flight.
    pub fn own_fault(self) -> bool {
        matches!(self, Self::Crash | Self::OutOfMemory | Self::Config | Self::Protocol)
    }
}

impl fmt::Display for ExitClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "stopped",
            Self::Crash => "crashed",
            Self::OutOfMemory => "out of memory",
            Self::KilledOutside => "killed from outside",
            Self::Temporary => "temporary failure",
            Self::Config => "configuration error",
            Self::Protocol => "version skew",
            Self::Login => "login needed",
        })
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal { number, core } => {
                let name = Signal::try_from(*number).map_or("unknown signal", Signal::as_str);
                write!(f, "{name}{}", if *core { ", core dumped" } else { "" })
            }
        }
    }
}

/// Facts about an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub ended: Ended,
    /// A stop, drain or kill that somebody wanted was under way.
    pub asked: bool,
    pub killed_for: Option<KilledFor>,
    /// The kernel's OOM killer was at work since the last look.
    pub oom: bool,
}

/// The class of an end.
pub fn classify(end: End) -> ExitClass {
    if end.asked {
        return ExitClass::Asked;
    }
    match end.killed_for {
        Some(KilledFor::Stopped) => return ExitClass::KilledOutside,
        Some(_) => return ExitClass::Crash,
        None => {}
    }
    match end.ended {
        Ended::Code(code) => class_of_code(code),
        Ended::Signal { number, .. } if number == Signal::SIGKILL as i32 => {
            if end.oom {
                ExitClass::OutOfMemory
            } else {
                ExitClass::KilledOutside
            }
        }
        // Nobody here sends TERM unasked; a worker that obeys a stranger's is not to blame.
        Ended::Signal { number, .. } if number == Signal::SIGTERM as i32 => ExitClass::KilledOutside,
        Ended::Signal { .. } => ExitClass::Crash,
    }
}

fn class_of_code(code: i32) -> ExitClass {
    // 128 + 15: the guard thread obeyed a TERM that was not ours.
    if code == proto::runtime::shutdown::EXIT_STUCK {
        return ExitClass::KilledOutside;
    }
    match u8::try_from(code) {
        Ok(exit_code::USAGE | exit_code::CONFIG) => ExitClass::Config,
        Ok(exit_code::TEMPORARY) => ExitClass::Temporary,
        Ok(exit_code::PROTOCOL) => ExitClass::Protocol,
        Ok(exit_code::LOGIN) => ExitClass::Login,
        _ => ExitClass::Crash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_class() {
        let ends = [
            Ended::Code(0),
            Ended::Code(1),
            Ended::Code(64),
            Ended::Code(75),
            Ended::Code(76),
            Ended::Code(77),
            Ended::Code(78),
            Ended::Code(101),
            Ended::Code(143),
            Ended::Signal { number: 6, core: true },
            Ended::Signal { number: 9, core: false },
            Ended::Signal { number: 11, core: false },
            Ended::Signal { number: 15, core: false },
        ];
        let mut table = String::new();
        for ended in ends {
            let class = |asked, killed_for, oom| classify(End { ended, asked, killed_for, oom });
            table += &format!(
                "{ended:<24} unasked: {:<20} asked: {:<8} oom: {:<20} we killed it: {}\n",
                class(false, None, false).to_string(),
                class(true, None, false).to_string(),
                class(false, None, true).to_string(),
                class(false, Some(KilledFor::Hung), false).to_string()
                    + if class(false, Some(KilledFor::Stopped), false) == ExitClass::KilledOutside {
                        ", unless it was stopped"
                    } else {
                        ""
                    },
                ended = ended.to_string()
            );
        }
        insta::assert_snapshot!(table);
    }
}
