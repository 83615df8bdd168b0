//! Which addresses are not part of the public internet. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 blocks by their first address and the bits that count (IANA's special-purpose registry, and multicast and above).
const BLOCKS_V4: [([u8; 4], u32); 17] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 3),
];

/// IPv6 is allowed by what it is, not by what it is not: only 2000::/3 is given out, and of that these are not for hosts.
const BLOCKS_V6: [([u16; 8], u32); 6] = [
    // Teredo, and the rest of the protocol assignments with it.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32),
    // 6to4: an IPv4 address inside, which a relay would be asked to reach.
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x2620, 0x004f, 0x8000, 0, 0, 0, 0, 0], 48),
    ([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];
/// The one block from which addresses are given to hosts.
const GLOBAL_V6: ([u16; 8], u32) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Whether an address belongs to this host, its network, a group or a transition mechanism, or to nobody.
pub fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_special_v4(address),
        IpAddr::V6(address) => is_special_v6(address),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    BLOCKS_V4.iter().any(|(first, prefix)| {
        let mask = u32::MAX << (32 - prefix);
        bits & mask == u32::from_be_bytes(*first) & mask
    })
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let bits = u128::from(address);
    let within = |(first, prefix): ([u16; 8], u32)| {
        let mask = u128::MAX << (128 - prefix);
        bits & mask == u128::from(Ipv6Addr::from(first)) & mask
    };
    !within(GLOBAL_V6) || BLOCKS_V6.into_iter().any(within)
}
