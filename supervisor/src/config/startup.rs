//! What must be decided before the gateway may listen: mode, port, addresses, authentication. Pure: facts in, a plan or
//! a refusal with its exact text out.
//!
//! Order: mode guard, port, bind, authentication, then the checks that need all of them.

pub mod auth;
pub mod bind;
pub mod guard;

pub use auth::{AuthPlan, GeneratedToken};
pub use bind::{BindFacts, BindPlan};

use super::gateway::Tailscale;
use super::{ConfigSnapshot, Environment, Secret};
use crate::exit_code;

/// Flags of `openclaw gateway`, as typed.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub port: Option<String>,
    pub bind: Option<String>,
    pub auth: Option<String>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    pub tailscale: Option<String>,
    pub allow_unconfigured: bool,
}

/// Why the gateway does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// For stderr; may have several lines.
    pub message: String,
    /// A different wording for the log, where people search for it.
    pub log: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A flag is wrong.
    Flag,
    /// The configuration must change first.
    Config,
}

impl Refusal {
    #[must_use]
    pub fn flag(message: &str) -> Self {
        Self { kind: RefusalKind::Flag, message: message.to_owned(), log: None }
    }

    #[must_use]
    pub fn config(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Config, message: message.into(), log: None }
    }

    /// 1 for a person; under a service manager the code that says "restarting does not help".
    #[must_use]
    pub fn exit_code(&self, service: bool) -> u8 {
        if service { exit_code::CONFIG } else { exit_code::FAILURE }
    }
}

/// Told once per start; a restart in place changes nothing about it.
pub const IN_CONTAINER: &str =
    "running in a container with bind=loopback: nothing outside can connect; use --bind lan to change that";

/// Everything decided.
#[derive(Clone, Debug)]
pub struct StartPlan {
    pub port: u16,
    pub port_source: PortSource,
    pub bind: BindPlan,
    pub auth: AuthPlan,
    /// Origins that the page may come from, seeded ones included.
    pub allowed_origins: Vec<String>,
    /// For the log, in order.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSource {
    Flag,
    Environment,
    Config,
    Default,
}

impl PortSource {
    /// As `gateway status` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Environment => "env",
            Self::Config => "config",
            Self::Default => "default",
        }
    }
}

/// Flag, then environment, then file, then default. An environment value that is no port is passed over silently.
///
/// # Errors
/// A flag that is no port.
pub fn port(
    flag: Option<&str>,
    env: &Environment,
    file: Option<u16>,
    default: u16,
) -> Result<(u16, PortSource), Refusal> {
    if let Some(flag) = flag {
        let port = flag.trim().parse::<u16>().ok().filter(|port| *port > 0);
        return port.map(|port| (port, PortSource::Flag)).ok_or_else(|| Refusal::flag("Invalid port"));
    }
    let from_env = env.get("OPENCLAW_GATEWAY_PORT").or_else(|| env.get("CLAWDBOT_GATEWAY_PORT"));
    if let Some(port) = from_env.and_then(leading_port) {
        return Ok((port, PortSource::Environment));
    }
    Ok(file.map_or((default, PortSource::Default), |port| (port, PortSource::Config)))
}

/// `19001`, `19001abc`; not `0`, `-1`, `x`.
fn leading_port(text: &str) -> Option<u16> {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u16>().ok().filter(|port| *port > 0)
}

/// The whole decision.
///
/// # Errors
/// The first refusal, in the documented order.
pub fn plan(
    snapshot: &ConfigSnapshot,
    overrides: &Overrides,
    paths: &crate::paths::Paths,
    facts: &BindFacts,
) -> Result<StartPlan, Refusal> {
    guard::check_mode(snapshot, overrides.allow_unconfigured, &paths.audit_file())?;
    let gateway = &snapshot.gateway;
    let file_port = gateway.port_in_file.then_some(gateway.port);
    let (port, port_source) = port(overrides.port.as_deref(), snapshot.env(), file_port, paths.default_port)?;
    let bind = bind::resolve(overrides.bind.as_deref(), gateway, facts)?;
    let tailscale = tailscale(overrides.tailscale.as_deref(), gateway.tailscale)?;
    let mut warnings = Vec::new();
    let auth = auth::resolve(snapshot, overrides, &bind, port, tailscale, &mut warnings)?;
    let allowed_origins = guard::allowed_origins(gateway, &bind, port);
    if bind.is_exposed() && allowed_origins.len() > gateway.control_ui.allowed_origins.len() {
        warnings.push(format!(
            "gateway.controlUi.allowedOrigins is not set; allowing {} for this start",
            allowed_origins.join(", ")
        ));
    }
    if facts.in_container && !bind.is_exposed() {
        warnings.push(IN_CONTAINER.to_owned());
    }
    Ok(StartPlan { port, port_source, bind, auth, allowed_origins, warnings })
}

fn tailscale(flag: Option<&str>, file: Tailscale) -> Result<Tailscale, Refusal> {
    match flag.map(str::trim) {
        None => Ok(file),
        Some("off") => Ok(Tailscale::Off),
        Some("serve") => Ok(Tailscale::Serve),
        Some("funnel") => Ok(Tailscale::Funnel),
        Some(_) => Err(Refusal::flag("Invalid --tailscale (use \"off\", \"serve\", or \"funnel\")")),
    }
}

#[cfg(test)]
mod tests;
