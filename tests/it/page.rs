//! The web page as it is served: the one inside the executable, another one from a directory, and its own rules.

use harness::gateway::{TOKEN, TestGateway};
use harness::http::{self, Answer};
use harness::npm_clients;
use hyper::{Method, header};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

async fn get(gateway: &TestGateway, path: &str) -> Answer {
    http::get(gateway.port, path, None).await.expect("an answer")
}

async fn ask(gateway: &TestGateway, method: Method, path: &str) -> Answer {
    http::request(gateway.port, method, path, None, &[], bytes::Bytes::new()).await.expect("an answer")
}

fn head<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Relative addresses in a text: what stands between `before` and the next quote, when it begins with a dot.
fn addresses(text: &str, before: &str) -> Vec<String> {
    let found = text.split(before).skip(1).filter_map(|rest| rest.split('"').next());
    found.filter(|address| address.starts_with("./")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_own_page_is_whole_and_allows_nothing_that_it_does_not_need() {
    let gateway = TestGateway::start().await;
    let page = get(&gateway, "/").await;
    assert_eq!((page.status, head(&page, "content-type")), (200, "text/html; charset=utf-8"));
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(head(&page, name), value, "{name}");
    }
    let policy = head(&page, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let html = page.text();
    assert!(!html.contains(TOKEN) && !html.contains("<style") && !html.contains(" style="), "{html}");
    assert!(!html.contains(" onclick=") && !html.contains("<script>"), "{html}");

    let mut wanted: BTreeSet<String> = addresses(&html, "href=\"").into_iter().collect();
    wanted.extend(addresses(&html, "src=\""));
    let mut open: Vec<String> = wanted.iter().map(|address| address.replacen("./", "/", 1)).collect();
    let mut seen = BTreeSet::new();
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let file = get(&gateway, &path).await;
        assert_eq!(file.status, 200, "{path}");
        let kind = head(&file, "content-type");
        assert!(!kind.starts_with("text/html"), "{path} is the page instead of a file");
        if kind.starts_with("text/javascript") {
            let imports = addresses(&file.text(), "from \"");
            open.extend(imports.iter().map(|address| address.replacen("./", "/assets/", 1)));
        }
    }
    assert!(seen.len() > 10, "the page's scripts were followed: {seen:?}");
    for path in ["/assets/nope.js", "/nope.css", "/assets/../../Cargo.toml", "/ui", "/ui/x"] {
        assert_eq!(get(&gateway, path).await.status, 404, "{path}");
    }
}

/// A part of the page without a row of its own is put beside the others, and squeezes all of them into one corner.
#[tokio::test]
async fn every_part_of_the_page_has_a_row_of_its_own() {
    let gateway = TestGateway::start().await;
    let (html, css) = (get(&gateway, "/").await.text(), get(&gateway, "/assets/app.css").await.text());
    let parts: usize =
        ["\n<header", "\n<section", "\n<main", "\n<form"].iter().map(|tag| html.matches(tag).count()).sum();
    let tracks =
        css.split("grid-template-rows: ").nth(1).and_then(|rest| rest.split(';').next()).expect("rows");
    let tracks = tracks.replace("minmax(0, 1fr)", "1fr").split_whitespace().count();
    let rows = css.split("grid-row: ").skip(1).filter_map(|rest| rest.split(';').next()?.parse().ok());
    let mut rows: Vec<usize> = rows.collect();
    rows.sort_unstable();
    assert_eq!((tracks, rows), (parts, (1..=parts).collect()), "rows of body, of its parts, and the parts");
}

#[tokio::test]
async fn routes_lead_to_the_page_and_only_reading_is_allowed() {
    let gateway = TestGateway::start().await;
    let page = get(&gateway, "/").await.body;
    for path in ["/x/y", "/chat?session=main", "/chat/agent%3Amain%3Amain"] {
        let answer = get(&gateway, path).await;
        assert_eq!((answer.status, &answer.body), (200, &page), "{path}");
    }
    assert_eq!(
        get(&gateway, "/chat/assets/app.css").await.status,
        200,
        "assets lie at the root for every route"
    );
    let head_only = ask(&gateway, Method::HEAD, "/").await;
    assert_eq!((head_only.status, head_only.body.len()), (200, 0));
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = ask(&gateway, method, "/").await;
        assert_eq!((answer.status, answer.text().as_str()), (405, "Method Not Allowed"));
        assert_eq!(head(&answer, header::ALLOW.as_str()), "GET, HEAD");
    }
}

/// A page of somebody else's, with every trick that leads out of its directory.
fn write_page(root: &Path, secret: &Path) {
    fs::create_dir_all(root.join("assets")).expect("the page's directory");
    fs::write(root.join("index.html"), "<p>another page</p><script>1</script>").expect("its page");
    fs::write(root.join("assets/app.js"), "other()").expect("its script");
    fs::write(secret, "secret").expect("a secret");
    std::os::unix::fs::symlink(secret, root.join("leak.txt")).expect("a link out");
    std::os::unix::fs::symlink(root.join("assets/app.js"), root.join("inside.js")).expect("a link inside");
    std::os::unix::fs::symlink(secret.parent().expect("a parent"), root.join("assets/up")).expect("a link");
    fs::hard_link(secret, root.join("second.txt")).expect("a second name");
}

#[tokio::test]
async fn another_page_is_served_from_a_directory_and_nothing_beside_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("page");
    write_page(&root, &dir.path().join("secret.txt"));
    let config = json!({"gateway": {"controlUi": {"root": root}}});
    let gateway = TestGateway::builder().config(config).start().await;
    for path in ["/", "/x/y", "/chat"] {
        let page = get(&gateway, path).await;
        assert!(page.status == 200 && page.text().contains("another page"), "{path}: {}", page.text());
        let policy = head(&page, "content-security-policy");
        assert!(
            policy.contains("script-src 'self' 'sha256-"),
            "its inline script is allowed by hash: {policy}"
        );
    }
    assert_eq!(get(&gateway, "/assets/app.js").await.text(), "other()");
    for path in [
        "/leak.txt",
        "/inside.js",
        "/assets/up/secret.txt",
        "/second.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%252e%252e/secret.txt",
        "/a%00.txt",
        "/assets",
        "/assets/app.css",
    ] {
        let answer = get(&gateway, path).await;
        let is_page = path == "/assets" && answer.status == 200;
        assert!(answer.status == 404 || is_page, "{path}: {}", answer.status);
        assert!(!answer.text().contains("secret") && !answer.text().contains("other()"), "{path}");
    }
    fs::remove_file(root.join("index.html")).expect("its page");
    let gone = get(&gateway, "/").await;
    assert!(gone.status == 503 && gone.text().starts_with("Control UI assets not found."), "{}", gone.text());
}

#[tokio::test]
async fn a_base_path_moves_the_page_and_a_switch_turns_it_off() {
    let config = json!({"gateway": {"controlUi": {"basePath": "/claw/"}}});
    let gateway = TestGateway::builder().config(config).start().await;
    let moved = get(&gateway, "/claw?session=main").await;
    assert_eq!((moved.status, head(&moved, "location")), (302, "/claw/?session=main"));
    assert_eq!(get(&gateway, "/claw/").await.status, 200);
    assert_eq!(get(&gateway, "/claw/assets/app.js").await.status, 200);
    assert_eq!(get(&gateway, "/claw/chat/x").await.status, 200);
    for path in ["/", "/assets/app.js", "/clawed", "/other"] {
        assert_eq!(get(&gateway, path).await.status, 404, "{path}");
    }
    let config = json!({"gateway": {"controlUi": {"enabled": false}}});
    let off = TestGateway::builder().config(config).start().await;
    for path in ["/", "/assets/app.js", "/control-ui-config.json"] {
        assert_eq!(get(&off, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn what_the_page_decides_without_a_browser_is_right() {
    let Some(said) = npm_clients::run("--test", &["page_rules.mjs"]).await else { return };
    assert!(said.contains("fail 0") && !said.contains("pass 0"), "{said}");
}
