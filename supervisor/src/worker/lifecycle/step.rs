//! What can happen to a worker, and what is to be done about it.

use super::ExitClass;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has work for it.
    Want,
    SpawnFailed,
    /// What it needs for a start is missing in the configuration or the environment; there is no process.
    Unconfigured,
    /// `Hello` was accepted and `Welcome` sent.
    Greeted,
    /// A channel worker reports its connection: it lives, however long the network takes.
    Progress,
    Ready,
    Degraded,
    Healthy,
    LoginLost,
    Suspect,
    Recovered,
    Hung,
    /// It does not answer because somebody stopped its process.
    HungStopped,
    Violation,
    LinkLost,
    /// No work for a long time.
    IdleTooLong,
    Drain {
        deadline_ms: u64,
        then: Then,
    },
    Stop {
        then: Then,
    },
    /// The time set by the last `Deadline` action is over.
    Deadline,
    Exited {
        class: ExitClass,
        random: u32,
    },
    /// Its configuration, credentials or binary changed, or an operator wants a fresh start.
    Fixed,
    /// Its last crashes were the doing of a message, which was set aside.
    MessageBlamed,
    Disable,
    Enable,
}

/// What follows an end that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    Restart,
    Idle,
    Disable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Quit,
    Abort,
    Kill,
    /// Write a dump and go on.
    Dump,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Spawn,
    /// Tell it to finish what it has.
    SendDrain {
        deadline_ms: u64,
    },
    /// Tell it to stop now.
    SendShutdown,
    Signal(Signal),
    /// Wake with [`Event::Deadline`] after this long; replaces the one before.
    Deadline {
        after_ms: u64,
    },
    NoDeadline,
    /// It takes work from now on.
    Up,
    /// Nobody who waits for it will get it.
    RefuseWaiters,
}
