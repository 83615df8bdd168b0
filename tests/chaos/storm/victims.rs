//! Who is killed: a process of the gateway's tree, found in /proc at the moment of the kill.

use harness::gateway::{children_of, command_line};
use harness::matrix::chance::Chance;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Supervisor,
    /// `main`, which is always kept running.
    Agent,
    /// An agent that is started when it is wanted.
    OtherAgent,
    Channel,
    Tool,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Agent => "agent",
            Self::OtherAgent => "other agent",
            Self::Channel => "channel",
            Self::Tool => "tool",
        }
    }

    /// Its id in `workers.list`.
    pub fn worker(self) -> &'static str {
        match self {
            Self::Channel => "channel:telegram:default",
            Self::OtherAgent => "agent:second",
            _ => "agent:main",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Victim {
    pub kind: Kind,
    pid: u32,
}

impl Victim {
    /// A process that is gone already needs no signal.
    pub fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid) {
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// Of a hundred kills so many go to each.
const SUPERVISOR: u64 = 6;
const CHANNEL: u64 = 34;
const TOOL: u64 = 50;

/// None when there is nobody of the chosen kind just now.
pub fn pick(supervisor: u32, chance: &mut Chance) -> Option<Victim> {
    let die = chance.between(0, 100);
    if die < SUPERVISOR {
        return Some(Victim { kind: Kind::Supervisor, pid: supervisor });
    }
    let workers: Vec<(u32, String)> =
        children_of(supervisor).into_iter().map(|pid| (pid, command_line(pid))).collect();
    let named = |name: &str| -> Vec<u32> {
        workers.iter().filter(|(_, line)| line.contains(name)).map(|(pid, _)| *pid).collect()
    };
    let agents = named("openclaw-agent");
    if die < CHANNEL {
        let channels = named("openclaw-channel");
        return chance.one_of(&channels).map(|pid| Victim { kind: Kind::Channel, pid: *pid });
    }
    if die < TOOL {
        let tools: Vec<u32> = agents.iter().flat_map(|agent| below(*agent)).collect();
        return chance.one_of(&tools).map(|pid| Victim { kind: Kind::Tool, pid: *pid });
    }
    let pid = *chance.one_of(&agents)?;
    // The agent that is kept running is started first, so it is the oldest; after its death it may be any.
    let kind = if agents.len() == 1 { Kind::Agent } else { kind_of(pid) };
    Some(Victim { kind, pid })
}

/// An agent works in its own workspace or says who it is by an open transcript.
fn kind_of(pid: u32) -> Kind {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let files: Vec<String> = entries
        .filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string()))
        .collect();
    let has = |part: &str| files.iter().any(|file| file.contains(part));
    if has("/agents/main/") {
        Kind::Agent
    } else if has("/agents/second/") {
        Kind::OtherAgent
    } else {
        // Nobody whose return is measured.
        Kind::Tool
    }
}

fn below(pid: u32) -> Vec<u32> {
    let children = children_of(pid);
    let deeper: Vec<u32> = children.iter().flat_map(|child| below(*child)).collect();
    children.into_iter().chain(deeper).collect()
}
