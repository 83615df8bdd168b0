//! Pure rules about addresses: who is really calling, and does the call come from this very machine.
//!
//! Not here: sockets. Everything works on text and `IpAddr`.

use std::net::{IpAddr, Ipv4Addr};

/// IPv4-mapped IPv6 becomes IPv4, so that one client has one key.
pub fn normalise(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// An address or a block of `gateway.trustedProxies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    base: IpAddr,
    bits: u8,
}

impl Block {
    /// `10.0.0.1`, `10.0.0.0/8`, `::1`, `fd00::/8`. `None` when malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let base = normalise(addr.parse().ok()?);
        let max = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(max);
        (bits <= max).then_some(Self { base, bits })
    }

    /// Whether `ip` lies in the block.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, normalise(ip)) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32_u32.saturating_sub(u32::from(self.bits));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                u32::from(a) & mask == u32::from(b) & mask
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128_u32.saturating_sub(u32::from(self.bits));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                u128::from(a) & mask == u128::from(b) & mask
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// Which proxies may speak for others.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// `gateway.trustedProxies`.
    pub trusted: Vec<Block>,
    /// `gateway.allowRealIpFallback`.
    pub allow_real_ip: bool,
}

impl Proxies {
    fn trusts(&self, ip: IpAddr) -> bool {
        self.trusted.iter().any(|b| b.contains(ip))
    }
}

/// What the request head says about where it comes from, as written.
#[derive(Debug, Clone, Default)]
pub struct HeadFacts {
    /// `Host`.
    pub host: Option<String>,
    /// `Origin`.
    pub origin: Option<String>,
    /// `X-Forwarded-For`, all fields joined by commas.
    pub forwarded_for: Option<String>,
    /// `X-Real-IP`.
    pub real_ip: Option<String>,
    /// `X-Forwarded-Host` or `Forwarded` is present.
    pub forwarded_host: bool,
}

/// Who is calling, worked out from the socket and the head.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the caller, through trusted proxies only.
    pub ip: IpAddr,
    /// Address at the other end of the socket.
    pub socket: IpAddr,
    /// `Host`, as written.
    pub host: Option<String>,
    /// `Origin`, as written.
    pub origin: Option<String>,
    /// Some forwarding header is present.
    pub forwarded: bool,
    /// The socket's peer is a trusted proxy.
    pub trusted_proxy: bool,
}

impl Peer {
    /// Apply the client address rule: right to left through `X-Forwarded-For`, stopping at the first hop
    /// that is not a trusted proxy.
    pub fn resolve(socket: IpAddr, head: HeadFacts, proxies: &Proxies) -> Self {
        let socket = normalise(socket);
        let trusted_proxy = proxies.trusts(socket);
        let forwarded = head.forwarded_for.is_some() || head.real_ip.is_some() || head.forwarded_host;
        let mut ip = socket;
        if trusted_proxy {
            if let Some(hop) = head.forwarded_for.as_deref().and_then(|l| nearest_hop(l, proxies)) {
                ip = hop;
            } else if proxies.allow_real_ip
                && let Some(real) = head.real_ip.as_deref().and_then(parse_hop)
            {
                ip = real;
            }
        }
        Self { ip, socket, host: head.host, origin: head.origin, forwarded, trusted_proxy }
    }

    /// The caller sits on this machine and came straight to us: loopback address, local `Host`, no
    /// forwarding header unless a trusted proxy set it.
    pub fn local_direct(&self) -> bool {
        self.ip.is_loopback()
            && self.host.as_deref().is_some_and(host_is_local)
            && (!self.forwarded || self.trusted_proxy)
    }
}

fn nearest_hop(list: &str, proxies: &Proxies) -> Option<IpAddr> {
    for hop in list.rsplit(',') {
        let ip = parse_hop(hop)?;
        if !proxies.trusts(ip) {
            return Some(ip);
        }
    }
    None
}

fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(normalise(ip));
    }
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next()?.parse().ok().map(normalise);
    }
    let (host, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// The host part of `host`, `host:port`, `[v6]`, `[v6]:port`, lower case.
pub fn host_name(authority: &str) -> String {
    let authority = authority.trim().to_ascii_lowercase();
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default().to_owned();
    }
    match authority.split_once(':') {
        // more than one colon without brackets is a bare IPv6 address
        Some((_, rest)) if rest.contains(':') => authority,
        Some((host, _)) => host.to_owned(),
        None => authority,
    }
}

/// `localhost`, 127/8, `::1` and their mapped forms.
pub fn host_is_loopback(authority: &str) -> bool {
    let host = host_name(authority);
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| normalise(ip).is_loopback())
}

/// Loopback names, and the names that `tailscale serve` answers on for this machine.
pub fn host_is_local(authority: &str) -> bool {
    host_is_loopback(authority) || host_name(authority).ends_with(".ts.net")
}

/// A name that nobody's DNS server can point at us: loopback, an address literal, a tailnet name.
pub fn host_is_unspoofable(authority: &str) -> bool {
    host_is_local(authority) || host_name(authority).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests;
