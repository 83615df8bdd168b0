//! Pure rule: may a web page of this origin open a socket here?
//!
//! A browser sends `Origin` by itself and a page can't change it, so this is what stops a foreign web
//! page from talking to the gateway of the person who looks at it. It is no authentication.

use super::net::{host_is_loopback, host_is_unspoofable, host_name};

/// Refusal text, also the close reason.
pub const ORIGIN_REFUSED: &str = "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)";

/// `gateway.controlUi` as far as origins go.
#[derive(Debug, Clone, Default)]
pub struct OriginRules {
    /// `allowedOrigins`, lower case, without trailing slash. `*` allows all.
    pub allowed: Vec<String>,
    /// `dangerouslyAllowHostHeaderOriginFallback`.
    pub host_header_fallback: bool,
}

/// Why an origin was refused, for `error.details.reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginRefusal {
    /// No `Origin`, or the literal `null` (a sandboxed frame, a file).
    Missing,
    /// Not an `http(s)://host[:port]` text.
    Malformed,
    /// A well-formed origin that is not on the list.
    NotAllowed,
}

impl OriginRefusal {
    /// Text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "origin missing or invalid",
            Self::Malformed => "origin malformed",
            Self::NotAllowed => "origin not allowed",
        }
    }
}

/// Decide on `origin` for a request that was sent to `host`.
///
/// Allowed are: a listed origin; an origin equal to the host it was served from, when that host is a
/// loopback name, an address literal or a tailnet name, so that no DNS answer can forge it (or any
/// host, when the fallback is switched on); two loopback names, on whatever ports.
///
/// # Errors
/// The reason of the refusal.
pub fn check(rules: &OriginRules, origin: Option<&str>, host: Option<&str>) -> Result<(), OriginRefusal> {
    let origin = origin.map(str::trim).filter(|o| !o.is_empty() && *o != "null");
    let origin = origin.ok_or(OriginRefusal::Missing)?.to_ascii_lowercase();
    let origin = origin.trim_end_matches('/');
    if rules.allowed.iter().any(|a| a == origin || a == "*") {
        return Ok(());
    }
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let authority = authority.filter(|a| !a.is_empty() && !a.contains(['/', '@', '?', '#', ' ']));
    let authority = authority.ok_or(OriginRefusal::Malformed)?;
    let host = host.map(|h| h.trim().to_ascii_lowercase()).unwrap_or_default();
    let same_host = !host.is_empty() && same_authority(authority, &host);
    if same_host && (rules.host_header_fallback || host_is_unspoofable(&host)) {
        return Ok(());
    }
    if host_is_loopback(authority) && host_is_loopback(&host) {
        return Ok(());
    }
    Err(OriginRefusal::NotAllowed)
}

fn same_authority(a: &str, b: &str) -> bool {
    let strip = |text: &str| text.trim_end_matches(":80").trim_end_matches(":443").to_owned();
    a == b || (strip(a) == strip(b) && host_name(a) == host_name(b))
}

#[cfg(test)]
mod tests;
