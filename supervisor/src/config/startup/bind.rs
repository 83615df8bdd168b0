//! `gateway.bind` to addresses. What cannot be had is refused or falls back to loopback, never to all interfaces.

use super::Refusal;
use crate::config::gateway::{Bind, Gateway};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the host says.
#[derive(Clone, Copy, Debug)]
pub struct BindFacts {
    /// Whether 127.0.0.1 can be bound.
    pub loopback: bool,
    /// First IPv4 address of a Tailscale interface (100.64.0.0/10).
    pub tailnet: Option<Ipv4Addr>,
    pub in_container: bool,
}

impl Default for BindFacts {
    fn default() -> Self {
        Self { loopback: true, tailnet: None, in_container: false }
    }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindPlan {
    pub mode: Bind,
    /// All of these, or the start fails.
    pub required: Vec<IpAddr>,
    /// Also these, where they can be bound.
    pub optional: Vec<IpAddr>,
}

impl BindPlan {
    /// Whether others than this host can connect.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.required.iter().any(|address| !address.is_loopback())
    }

    /// The address that messages name.
    #[must_use]
    pub fn host(&self) -> IpAddr {
        self.required.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Flag, then file, then loopback.
///
/// # Errors
/// A flag that names no mode, a custom address that is none, a loopback that cannot be bound.
pub fn resolve(flag: Option<&str>, gateway: &Gateway, facts: &BindFacts) -> Result<BindPlan, Refusal> {
    let mode = match flag {
        Some(text) => Bind::parse(text).ok_or_else(|| {
            Refusal::flag("Invalid --bind (use \"loopback\", \"lan\", \"tailnet\", \"auto\", or \"custom\")")
        })?,
        None => gateway.bind,
    };
    let loopback = || {
        if facts.loopback {
            return Ok((vec![LOOPBACK], vec![IpAddr::V6(Ipv6Addr::LOCALHOST)]));
        }
        Err(Refusal::config(format!(
            "gateway bind=loopback resolved to non-loopback host {ALL}; refusing fallback to a network bind"
        )))
    };
    let (required, optional) = match mode {
        Bind::Loopback => loopback()?,
        Bind::Auto if facts.loopback => loopback()?,
        Bind::Auto | Bind::Lan => (vec![ALL], Vec::new()),
        Bind::Tailnet => match facts.tailnet {
            Some(address) => (vec![IpAddr::V4(address), LOOPBACK], Vec::new()),
            None => loopback()?,
        },
        Bind::Custom => custom(gateway)?,
    };
    Ok(BindPlan { mode, required, optional })
}

fn custom(gateway: &Gateway) -> Result<(Vec<IpAddr>, Vec<IpAddr>), Refusal> {
    let Some(host) = gateway.custom_bind_host.as_deref().filter(|host| !host.is_empty()) else {
        return Err(Refusal::config("gateway.bind=custom requires gateway.customBindHost"));
    };
    gateway.custom_address().map(|address| (vec![IpAddr::V4(address)], Vec::new())).ok_or_else(|| {
        Refusal::config(format!("gateway.bind=custom requires a valid IPv4 customBindHost (got {host})"))
    })
}
