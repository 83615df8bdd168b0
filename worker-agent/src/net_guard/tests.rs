//! Addresses by property, URLs by example, fetches against a server of our own with a resolver that says what the test wants.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const HOST: &str = "Blocked hostname or private/internal/special-use IP address";
const RESOLVED: &str = "Blocked: resolves to private/internal/special-use IP address";

/// Answers in order; every question is counted.
struct Double(Mutex<VecDeque<Vec<IpAddr>>>, Mutex<Vec<String>>);

impl Double {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect()), Mutex::default()))
    }
    fn asked(&self) -> Vec<String> {
        self.1.lock().unwrap().clone()
    }
}

impl Resolve for Double {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.1.lock().unwrap().push(host.to_owned());
        let next = self.0.lock().unwrap().pop_front();
        Box::pin(async move { next.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)) })
    }
}

/// Ranges as people write them, kept apart from the code's table.
fn inside_by_hand(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    matches!(a, 0 | 10 | 127 | 224..)
        || (a, b) == (169, 254)
        || (a, b) == (192, 168)
        || a == 100 && (64..128).contains(&b)
        || a == 172 && (16..32).contains(&b)
        || a == 198 && matches!(b, 18 | 19)
        || matches!(
            (a, b, c),
            (192, 0, 0 | 2)
                | (192, 31, 196)
                | (192, 52, 193)
                | (192, 88, 99)
                | (192, 175, 48)
                | (198, 51, 100)
                | (203, 0, 113)
        )
}

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let near = prop::sample::select(vec![
        [9, 255, 255, 255],
        [10, 0, 0, 0],
        [100, 63, 255, 255],
        [100, 64, 0, 0],
        [100, 127, 255, 255],
        [100, 128, 0, 0],
        [126, 255, 255, 255],
        [128, 0, 0, 0],
        [169, 253, 255, 255],
        [169, 254, 169, 254],
        [172, 15, 255, 255],
        [172, 31, 255, 255],
        [172, 32, 0, 0],
        [192, 0, 1, 0],
        [192, 167, 255, 255],
        [192, 169, 0, 0],
        [198, 17, 255, 255],
        [198, 20, 0, 0],
        [223, 255, 255, 255],
        [224, 0, 0, 1],
        [255, 255, 255, 255],
    ]);
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from), near.prop_map(Ipv4Addr::from)]
}

proptest! {
    #[test]
    fn v4_blocks_are_those_of_the_registry(ip in any_v4()) {
        prop_assert_eq!(address::is_special(ip.into()), inside_by_hand(ip), "{}", ip);
    }

    /// However an IPv4 address is wrapped into an IPv6 one, it is refused: none of these is a host of the internet.
    #[test]
    fn no_v4_comes_through_in_a_v6(ip in any_v4(), client in any::<u32>(), port in any::<u16>()) {
        let [a, b, c, d] = ip.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let client = client.to_be_bytes();
        let obscured = [u16::from_be_bytes([client[0], client[1]]), u16::from_be_bytes([client[2], client[3]])];
        for wrapped in [
            [0, 0, 0, 0, 0, 0xffff, high, low],
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x64, 0xff9b, 1, port, 0, 0, high, low],
            [0x2002, high, low, port, 0, 0, 0, 1],
            [0x2001, 0, high, low, 0, port, obscured[0], obscured[1]],
            [0xfe80, 0, 0, 0, 0, 0x5efe, high, low],
        ] {
            let wrapped = Ipv6Addr::from(wrapped);
            prop_assert!(address::is_special(wrapped.into()), "{}", wrapped);
        }
    }

    /// Every other spelling of an address is refused, whether the address is public or not.
    #[test]
    fn an_address_has_one_spelling(ip in any_v4(), pad in 1usize..4) {
        let [a, b, c, d] = ip.octets();
        let (number, zeros) = (u32::from(ip), "0".repeat(pad));
        for spelled in [
            format!("{number}"), format!("0x{number:x}"), format!("0X{number:X}"), format!("{zeros}{number:o}"),
            format!("{a}.{}", number & 0xff_ffff), format!("{a}.{b}.{}", number & 0xffff), format!("0x{a:x}.{b}.{c}.{d}"),
            format!("{zeros}{a:o}.{b}.{c}.{d}"), format!("{a}.{b}.{c}.0x{d:x}"), format!("{a}%2e{b}.{c}.{d}"), format!("{a}。{b}.{c}.{d}"),
        ] {
            let plain = spelled == ip.to_string();
            let refused = host::target(&format!("http://{spelled}/"), &Policy::default()).is_err();
            prop_assert!(plain || refused, "{}", spelled);
        }
        let plain = host::target(&format!("http://{ip}/"), &Policy::default());
        prop_assert_eq!(plain.is_ok(), !inside_by_hand(ip), "{}", ip);
    }

    #[test]
    fn no_text_breaks_the_parser(text in any::<String>(), scheme in prop::sample::select(vec!["http://", "https://", "http:", ""])) {
        if let Ok(target) = host::target(&format!("{scheme}{text}"), &Policy::default()) {
            prop_assert!(target.address.is_none_or(|ip| !address::is_special(ip)));
            prop_assert!(target.host.contains('.') || target.address.is_some());
        }
    }
}

#[test]
fn hosts_of_the_internet_are_asked() {
    for ip in
        ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001::200e"]
    {
        assert!(!address::is_special(ip.parse().unwrap()), "{ip}");
    }
    for ip in [
        "::",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "100::1",
        "5f00::1",
        "4000::1",
    ] {
        assert!(address::is_special(ip.parse().unwrap()), "{ip}");
    }
    for url in [
        "https://example.com",
        "http://EXAMPLE.com./x?y#z",
        "https://example.com:443/",
        "http://[2606:4700:4700::1111]/",
        "https://bücher.example/",
    ] {
        assert!(host::target(url, &Policy::default()).is_ok(), "{url}");
    }
}

#[test]
fn urls_that_are_not_what_they_seem_are_refused() {
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:text/plain,x",
        "javascript:1",
        "http:///",
        "http://",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://example.com@127.0.0.1/",
        "http://127.0.0.1#@example.com/",
        "http://example.com\\@127.0.0.1/",
        "http://exam\tple.com/",
        "http://example.com /",
        "http://example.com:22/",
        "http://example.com:0/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
        "http://localhost.localdomain/",
        "http://printer.local/",
        "http://metadata.google.internal/",
        "http://metadata.google.internal./",
        "http://x.internal/",
        "http://intranet/",
        "http://router.lan/",
        "http://127.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1/",
        "http://[fe80::1%25eth0]/",
        "http://0x7f000001/",
        "http://017700000001/",
        "http://example.com%00.evil.com/",
    ] {
        assert!(host::target(url, &Policy::default()).is_err(), "{url}");
    }
}

#[test]
fn the_operator_allows_and_limits_by_name() {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let may = |policy: &Policy, url: &str| host::target(url, policy).is_ok();
    let inside = Policy {
        allowed_hostnames: list(&["nas.local", "*.corp.internal", "10.0.0.7"]),
        ..Policy::default()
    };
    for url in
        ["http://nas.local/", "http://wiki.corp.internal/", "http://a.b.corp.internal/", "http://10.0.0.7/"]
    {
        assert!(may(&inside, url), "{url}");
    }
    for url in ["http://corp.internal/", "http://xcorp.internal/", "http://x.nas.local/", "http://10.0.0.8/"]
    {
        assert!(!may(&inside, url), "{url}");
    }
    let only = Policy { hostname_allowlist: list(&["example.com", "*.example.org"]), ..Policy::default() };
    assert!(may(&only, "https://example.com/") && may(&only, "https://www.example.org/"));
    for url in [
        "https://www.example.com/",
        "https://example.org/",
        "https://example.com.evil.com/",
        "https://evilexample.com/",
    ] {
        assert!(!may(&only, url), "{url}");
    }
    let any =
        Policy { dangerously_allow_private_network: true, allowed_ports: vec![8080], ..Policy::default() };
    assert!(may(&any, "http://192.168.1.1:8080/") && may(&any, "http://localhost/"));
    for url in ["http://169.254.169.254/", "http://metadata.google.internal/", "http://192.168.1.1:22/"] {
        assert!(!may(&any, url), "{url}");
    }
}

#[tokio::test]
async fn every_answer_of_the_resolver_counts() {
    for answers in [
        &["93.184.216.34", "10.0.0.1"][..],
        &["127.0.0.1"],
        &["::1"],
        &["64:ff9b::a00:1"],
        &["2002:7f00:1::1"],
    ] {
        let guard = Guard::with(Policy::default(), Double::new(&[answers]));
        let error = guard.get("http://example.com/", 10).await.unwrap_err();
        assert_eq!(error.to_string(), RESOLVED, "{answers:?}");
    }
    let nobody = Double::new(&[&[]]);
    assert!(matches!(
        Guard::with(Policy::default(), nobody).get("http://example.com/", 10).await,
        Err(GuardError::Resolve { .. })
    ));
    let asked = Double::new(&[]);
    let error = Guard::with(Policy::default(), asked.clone()).get("http://127.0.0.1/", 10).await.unwrap_err();
    assert_eq!(error.to_string(), HOST);
    assert!(asked.asked().is_empty(), "an address is not looked up");
}

/// A server that gives each connection the next of these answers; then it is gone. Its port, and what was asked.
async fn server(answers: Vec<String>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let book = seen.clone();
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0u8; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let read = socket.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..read]);
            }
            book.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            let _left_early = socket.write_all(answer.as_bytes()).await;
        }
    });
    (port, seen)
}

fn page(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: Image/PNG; x=y\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn to(place: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n")
}

fn lab(port: u16) -> Policy {
    Policy { allowed_hostnames: vec!["lab.example".into()], allowed_ports: vec![port], ..Policy::default() }
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_checked() {
    let (port, seen) = server(vec![to("/b/pic.png?x"), page("picture")]).await;
    // A name that is rebound between the check and the request would lead to the second answer's address.
    let names = Double::new(&[&["127.0.0.2"], &["127.0.0.2"], &["127.0.0.3"]]);
    let guard = Guard::with(lab(port), names.clone());
    let got = guard.get(&format!("http://lab.example:{port}/a"), 100).await.unwrap();
    assert_eq!(
        (got.bytes.as_slice(), got.mime.as_str(), got.name.as_str()),
        (&b"picture"[..], "image/png", "pic.png")
    );
    assert_eq!(names.asked(), ["lab.example", "lab.example"], "once for each hop");
    let seen = seen.lock().unwrap();
    assert!(
        seen[1].starts_with("GET /b/pic.png?x ") && seen[1].contains(&format!("host: lab.example:{port}")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn every_redirect_is_checked() {
    for (place, names, want) in [
        ("http://169.254.169.254/latest/", &[&["127.0.0.2"][..]][..], HOST),
        ("http://evil.example/", &[&["127.0.0.2"], &["10.1.2.3"]], RESOLVED),
        ("file:///etc/passwd", &[&["127.0.0.2"]], "Blocked: only http and https can be fetched"),
        ("http://u:p@evil.example/", &[&["127.0.0.2"]], "Blocked: a URL with a user name is not fetched"),
        ("//metadata.google.internal/", &[&["127.0.0.2"]], HOST),
    ] {
        let (port, _) = server(vec![to(place)]).await;
        let guard = Guard::with(lab(port), Double::new(names));
        let error = guard.get(&format!("http://lab.example:{port}/"), 100).await.unwrap_err();
        assert_eq!(error.to_string(), want, "{place}");
    }
    let (port, seen) = server(vec![to("/1"), to("/2"), to("/3"), to("/4"), page("x")]).await;
    let names = Double::new(&[&["127.0.0.2"][..]; 5]);
    let error =
        Guard::with(lab(port), names).get(&format!("http://lab.example:{port}/"), 100).await.unwrap_err();
    assert!(matches!(error, GuardError::Redirects), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 4, "the first request and three redirects");
}

#[tokio::test]
async fn a_body_ends_at_its_limit() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5000));
    for answer in [page(&"x".repeat(101)), endless] {
        let (port, _) = server(vec![answer]).await;
        let guard = Guard::with(lab(port), Double::new(&[&["127.0.0.2"]]));
        let error = guard.get(&format!("http://lab.example:{port}/"), 100).await.unwrap_err();
        assert!(matches!(error, GuardError::TooLarge { limit: 100, .. }), "{error}");
    }
    let (port, _) = server(vec!["HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n".into()]).await;
    let guard = Guard::with(lab(port), Double::new(&[&["127.0.0.2"]]));
    let error = guard.get(&format!("http://lab.example:{port}/"), 100).await.unwrap_err();
    assert!(matches!(error, GuardError::Status { status: 404, .. }), "{error}");
}
