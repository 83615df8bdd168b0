//! Rules for files, TCP ports, signals and abstract sockets, kept by the kernel's Landlock for the calling thread and what
//! it starts. Best effort: a kernel that lacks a right keeps the others, and the answer tells its version.

use super::places::{Place, Right};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use std::io;

/// What we know of Landlock: rights of later versions are left alone.
const KNOWN: ABI = ABI::V6;
/// Versions from which on TCP ports, and signals with abstract sockets, are ruled.
pub const ABI_PORTS: u32 = 4;
pub const ABI_SCOPES: u32 = 6;

/// TCP as Landlock rules it; sockets of other kinds are seccomp's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    Any,
    /// Connections to these, and no listening.
    Only(Vec<u16>),
}

/// A rule set that is ready to be enforced, on any number of threads.
#[derive(Debug)]
pub struct Rules(RulesetCreated);

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

fn rights(right: Right) -> BitFlags<AccessFs> {
    let devices = AccessFs::MakeChar | AccessFs::MakeBlock;
    match right {
        Right::ReadOnly => AccessFs::from_read(KNOWN),
        Right::ReadWrite => AccessFs::from_all(KNOWN) & !devices & !AccessFs::IoctlDev,
        Right::List => AccessFs::ReadDir.into(),
        Right::Device => {
            AccessFs::ReadFile
                | AccessFs::WriteFile
                | AccessFs::ReadDir
                | AccessFs::IoctlDev
                | AccessFs::Truncate
        }
    }
}

impl Rules {
    /// Opens every place; one that is missing, or that cannot be reached anyhow, is left out.
    pub fn prepare(places: &[Place], ports: &Ports) -> io::Result<Self> {
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN)).map_err(other)?;
        if matches!(ports, Ports::Only(_)) {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN)).map_err(other)?;
        }
        let ruleset = ruleset.scope(Scope::from_all(KNOWN)).map_err(other)?;
        let mut created = ruleset.create().map_err(other)?;
        for place in places {
            if let Ok(opened) = PathFd::new(&place.path) {
                created = created.add_rule(PathBeneath::new(opened, rights(place.right))).map_err(other)?;
            }
        }
        if let Ports::Only(ports) = ports {
            for port in ports {
                created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(other)?;
            }
        }
        Ok(Self(created))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Puts the rules in force for this thread; sets `no_new_privs`. Returns the version that keeps them, 0 for none.
    pub fn enforce(self) -> io::Result<u32> {
        let status = self.0.restrict_self().map_err(other)?;
        Ok(match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => effective_abi as u32,
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
        })
    }
}
