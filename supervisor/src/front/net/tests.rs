use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn proxies(list: &[&str], real: bool) -> Proxies {
    Proxies { trusted: list.iter().filter_map(|b| Block::parse(b)).collect(), allow_real_ip: real }
}

fn head(xff: Option<&str>, real: Option<&str>) -> HeadFacts {
    HeadFacts {
        host: Some("localhost:18789".into()),
        forwarded_for: xff.map(Into::into),
        real_ip: real.map(Into::into),
        ..HeadFacts::default()
    }
}

#[test]
fn blocks_match_by_prefix() {
    let block = Block::parse("10.1.0.0/16").unwrap();
    assert!(block.contains(ip("10.1.255.3")));
    assert!(block.contains(ip("::ffff:10.1.2.3")));
    assert!(!block.contains(ip("10.2.0.1")));
    assert!(!block.contains(ip("fd00::1")));
    assert!(Block::parse("0.0.0.0/0").unwrap().contains(ip("8.8.8.8")));
    assert!(Block::parse("::/0").unwrap().contains(ip("fd00::1")));
    assert!(Block::parse("fd00::/8").unwrap().contains(ip("fd12::1")));
    for bad in ["", "10.0.0.0/33", "nope", "10.0.0.0/x", "::1/129"] {
        assert!(Block::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn forwarded_for_counts_only_behind_a_trusted_proxy() {
    let none = proxies(&[], true);
    let some = proxies(&["127.0.0.1", "10.0.0.0/8"], true);
    let far = Peer::resolve(ip("127.0.0.1"), head(Some("1.2.3.4"), None), &none);
    assert_eq!(far.ip, ip("127.0.0.1"));
    assert!(far.forwarded && !far.local_direct());

    let through = Peer::resolve(ip("127.0.0.1"), head(Some("9.9.9.9, 1.2.3.4, 10.0.0.7"), None), &some);
    assert_eq!(through.ip, ip("1.2.3.4"));
    assert!(!through.local_direct());

    let garbage = Peer::resolve(ip("127.0.0.1"), head(Some("9.9.9.9, ???"), None), &some);
    assert_eq!(garbage.ip, ip("127.0.0.1"));

    let real = Peer::resolve(ip("127.0.0.1"), head(None, Some("5.6.7.8")), &some);
    assert_eq!(real.ip, ip("5.6.7.8"));
    let off = Peer::resolve(ip("127.0.0.1"), head(None, Some("5.6.7.8")), &proxies(&["127.0.0.1"], false));
    assert_eq!(off.ip, ip("127.0.0.1"));
}

#[test]
fn local_direct_needs_address_host_and_a_bare_head() {
    let plain = Peer::resolve(ip("::ffff:127.0.0.1"), head(None, None), &Proxies::default());
    assert!(plain.local_direct());
    let lan = Peer::resolve(ip("192.168.1.9"), head(None, None), &Proxies::default());
    assert!(!lan.local_direct());
    let mut rebound = plain;
    rebound.host = Some("evil.example:18789".into());
    assert!(!rebound.local_direct());
    rebound.host = None;
    assert!(!rebound.local_direct());
}

#[test]
fn hosts_are_recognised_in_every_spelling() {
    for local in ["localhost", "LOCALHOST:1", "127.0.0.1:18789", "127.9.9.9", "[::1]:5", "::1", "box.ts.net"]
    {
        assert!(host_is_local(local), "{local}");
    }
    for far in ["example.org", "localhost.evil.org", "10.0.0.1", "[fd00::1]:1", ""] {
        assert!(!host_is_local(far), "{far}");
    }
    assert!(host_is_unspoofable("192.168.1.2:18789"));
    assert!(!host_is_unspoofable("gw.example.org"));
}

proptest! {
    #[test]
    fn an_untrusted_peer_is_never_renamed(xff in ".{0,60}", real in ".{0,30}") {
        let peer = Peer::resolve(ip("203.0.113.5"), head(Some(&xff), Some(&real)), &proxies(&["10.0.0.0/8"], true));
        prop_assert_eq!(peer.ip, ip("203.0.113.5"));
        prop_assert!(!peer.local_direct());
    }

    #[test]
    fn host_rules_never_panic(host in ".{0,60}") {
        let _ = (host_is_local(&host), host_is_unspoofable(&host), parse_hop(&host), Block::parse(&host));
    }
}
