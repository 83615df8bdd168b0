//! What a URL says, before any address is known. Pure.

use std::net::IpAddr;

use reqwest::Url;

use super::{GuardError, PORTS, Policy};

/// Longer ones are no addresses of pictures or pages.
const URL_BYTES_MAX: usize = 4096;
/// Names that mean this host or the machine that it runs on; whatever the resolver says.
const NAMES: [&str; 5] =
    ["localhost", "localhost.localdomain", "metadata", "metadata.google.internal", "instance-data"];
/// Zones that the public name system does not have.
const ZONES: [&str; 7] =
    [".localhost", ".local", ".internal", ".localdomain", ".lan", ".home.arpa", ".intranet"];
/// Asked for by name or by address: credentials of the machine. No setting opens them.
const METADATA: [&str; 5] =
    ["metadata", "metadata.google.internal", "instance-data", "169.254.169.254", "fd00:ec2::254"];

/// A URL that may be asked, if its addresses may.
#[derive(Debug)]
pub struct Target {
    pub url: Url,
    /// Lower case, without a dot at the end, without brackets.
    pub host: String,
    pub port: u16,
    /// The host when it is written as an address.
    pub address: Option<IpAddr>,
    /// The operator has allowed private addresses for it.
    pub may_be_private: bool,
}

/// Reads a URL and applies every rule that needs no address.
pub fn target(text: &str, policy: &Policy) -> Result<Target, GuardError> {
    if text.len() > URL_BYTES_MAX {
        return Err(GuardError::Url("the URL is too long"));
    }
    // A browser's parser drops some of these and turns others into something else; a person sees neither.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(GuardError::Url("the URL holds spaces, control characters or backslashes"));
    }
    let url = Url::parse(text).map_err(|_| GuardError::Url("this is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(GuardError::Url("only http and https can be fetched"));
    }
    let written = written_host(text).ok_or(GuardError::Url("the URL has no host"))?;
    if !url.username().is_empty() || url.password().is_some() || written.contains('@') {
        return Err(GuardError::Url("a URL with a user name is not fetched"));
    }
    let parsed = url.host_str().ok_or(GuardError::Url("the URL has no host"))?;
    let host = parsed.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    // 0177.0.0.1, 0x7f.1, 2130706433 and 127%2e0.0.1 are all read as 127.0.0.1. An address has one spelling here.
    let plain = written.trim_end_matches('.').to_ascii_lowercase();
    if matches!(address, Some(IpAddr::V4(_))) && plain != host || plain.contains('%') {
        return Err(GuardError::Host);
    }
    if !policy.hostname_allowlist.is_empty() && !listed(&host, &policy.hostname_allowlist) {
        return Err(GuardError::NotListed(host));
    }
    let allowed = policy.dangerously_allow_private_network || listed(&host, &policy.allowed_hostnames);
    if METADATA.contains(&host.as_str()) || !allowed && is_inside(&host, address) {
        return Err(GuardError::Host);
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if !PORTS.contains(&port) && !policy.allowed_ports.contains(&port) {
        return Err(GuardError::Port(port));
    }
    Ok(Target { host, port, address, may_be_private: allowed, url })
}

/// The host as it stands in the text: what is between the slashes and the port.
fn written_host(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(':')?;
    let rest = rest.trim_start_matches('/');
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    if authority.starts_with('[') {
        return authority.split_once(']').map(|(host, _)| host);
    }
    Some(authority.rsplit_once(':').map_or(authority, |(host, _port)| host))
}

/// A name of this host or of a network that is not public. One without a dot is found in the network around.
fn is_inside(host: &str, address: Option<IpAddr>) -> bool {
    match address {
        Some(address) => super::address::is_special(address),
        None => NAMES.contains(&host) || !host.contains('.') || ZONES.iter().any(|zone| host.ends_with(zone)),
    }
}

/// `name` means that host, `*.name` every host below it and not itself.
fn listed(host: &str, list: &[String]) -> bool {
    list.iter().any(|entry| {
        let entry = entry.trim().trim_end_matches('.').to_ascii_lowercase();
        match entry.strip_prefix("*.") {
            Some(above) => {
                let below = host.strip_suffix(above).and_then(|rest| rest.strip_suffix('.'));
                !above.is_empty() && below.is_some_and(|rest| !rest.is_empty())
            }
            None => host == entry,
        }
    })
}
