use super::*;
use proptest::prelude::*;

fn rules(allowed: &[&str], fallback: bool) -> OriginRules {
    OriginRules { allowed: allowed.iter().map(|s| (*s).to_owned()).collect(), host_header_fallback: fallback }
}

#[test]
fn table_of_decisions() {
    let listed = rules(&["https://ui.example.org"], false);
    let open = rules(&[], true);
    let none = rules(&[], false);
    let cases: Vec<(&OriginRules, Option<&str>, Option<&str>)> = vec![
        (&none, None, Some("localhost:18789")),
        (&none, Some("null"), Some("localhost:18789")),
        (&none, Some("http://localhost:18789"), Some("localhost:18789")),
        (&none, Some("http://127.0.0.1:18789"), Some("localhost:18789")),
        (&none, Some("http://localhost:5173"), Some("127.0.0.1:18789")),
        (&none, Some("http://192.168.1.5:18789"), Some("192.168.1.5:18789")),
        (&none, Some("http://192.168.1.5:9"), Some("192.168.1.5:18789")),
        (&none, Some("https://box.tail1.ts.net"), Some("box.tail1.ts.net")),
        (&none, Some("http://evil.example:18789"), Some("evil.example:18789")),
        (&none, Some("http://evil.example"), Some("localhost:18789")),
        (&none, Some("http://localhost:18789"), Some("evil.example:18789")),
        (&none, Some("http://localhost@evil.example"), Some("localhost:18789")),
        (&none, Some("file:///etc/passwd"), Some("localhost:18789")),
        (&listed, Some("https://UI.example.org/"), Some("gw.example.org")),
        (&listed, Some("https://ui.example.org:444"), Some("gw.example.org")),
        (&open, Some("https://gw.example.org"), Some("gw.example.org")),
        (&open, Some("https://other.example.org"), Some("gw.example.org")),
    ];
    let table: Vec<String> = cases
        .iter()
        .map(|(r, o, h)| {
            let verdict = check(r, *o, *h).map_or_else(OriginRefusal::as_str, |()| "allowed");
            let fallback = if r.host_header_fallback { " fallback" } else { "" };
            format!("{} at {}{fallback}: {verdict}", o.unwrap_or("-"), h.unwrap_or("-"))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

proptest! {
    #[test]
    fn a_foreign_name_is_never_allowed_by_default(name in "[a-z]{1,12}\\.[a-z]{2,5}", port in 1_u16..) {
        prop_assume!(!name.ends_with(".localhost"));
        let origin = format!("http://{name}:{port}");
        let host = format!("{name}:{port}");
        let refused = check(&OriginRules::default(), Some(&origin), Some(&host));
        prop_assert_eq!(refused, Err(OriginRefusal::NotAllowed));
    }

    #[test]
    fn never_panics(origin in ".{0,60}", host in ".{0,60}") {
        let _ = check(&OriginRules::default(), Some(&origin), Some(&host));
    }
}
