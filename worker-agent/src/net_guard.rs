//! Fetches of URLs that somebody else chose: a model, a user, a page. Such a URL must lead out into the internet and to nothing else,
//! since what lies inside (this host, its network, a cloud's metadata server) trusts whoever can reach it.
//!
//! ```text
//! URL ─ host.rs: scheme, host's name, port ─ resolve once ─ address.rs: every answer ─ connect to those addresses only
//!   └──────────────────────────── a redirect begins again, at most three times ────────────────────────────┘
//! ```
//! Not here: requests to models. Those go to the servers that the operator has configured.

mod address;
mod fetch;
mod host;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;

use serde::Deserialize;

use crate::tool::BoxFuture;
pub use fetch::{Fetched, Guard};

/// A source on the web may say so this often that it lies elsewhere.
const REDIRECTS_MAX: usize = 3;
/// Ports that the web uses. Another one is more likely a service that does not expect a request.
const PORTS: [u16; 2] = [80, 443];

/// What the operator allows and forbids, in the words of the original (`…ssrfPolicy`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Policy {
    /// Every address is allowed. Not the names of metadata servers.
    pub dangerously_allow_private_network: bool,
    /// Hosts that may have private addresses: `name`, or `*.name` for everything below it.
    pub allowed_hostnames: Vec<String>,
    /// When not empty, the only hosts that may be asked.
    pub hostname_allowlist: Vec<String>,
    /// Ports beyond 80 and 443.
    pub allowed_ports: Vec<u16>,
}

/// Why a URL was not fetched. The texts of the first two are known to users of the original.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("Blocked hostname or private/internal/special-use IP address")]
    Host,
    #[error("Blocked: resolves to private/internal/special-use IP address")]
    Resolved,
    #[error("Blocked: {0}")]
    Url(&'static str),
    #[error("Blocked: {0} is not in the list of hosts that may be fetched (hostnameAllowlist)")]
    NotListed(String),
    #[error("Blocked: port {0} is neither 80 nor 443 (allowedPorts)")]
    Port(u16),
    #[error("Blocked: more than {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("cannot find the address of {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{host} answers with status {status}")]
    Status { host: String, status: u16 },
    #[error("{host} sends more than {limit} bytes")]
    TooLarge { host: String, limit: u64 },
    #[error("{host}: {detail}")]
    Transport { host: String, detail: String },
}

/// Where names get their addresses. A double stands in for it in tests.
pub trait Resolve: Send + Sync {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The system's resolver.
pub struct System;

impl Resolve for System {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// One step on the way to a source: it may be asked, and at these addresses.
#[derive(Debug)]
struct Checked {
    url: reqwest::Url,
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// Checks the URL, then every address of its host.
async fn check(text: &str, policy: &Policy, resolver: &dyn Resolve) -> Result<Checked, GuardError> {
    let target = host::target(text, policy)?;
    let addresses = match target.address {
        Some(address) => vec![address],
        None => resolver
            .addresses(&target.host)
            .await
            .map_err(|source| GuardError::Resolve { host: target.host.clone(), source })?,
    };
    if addresses.is_empty() {
        let source = io::Error::from(io::ErrorKind::NotFound);
        return Err(GuardError::Resolve { host: target.host, source });
    }
    // All of them: which one is taken is the client's choice, and the next question may get another order.
    if !target.may_be_private && addresses.iter().any(|address| address::is_special(*address)) {
        return Err(if target.address.is_some() { GuardError::Host } else { GuardError::Resolved });
    }
    Ok(Checked { url: target.url, host: target.host, port: target.port, addresses })
}
