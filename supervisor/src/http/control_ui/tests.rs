use crate::front::accept::tests::Running;
use serde_json::json;

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_from_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("index.html"), "<script>1</script>").unwrap();
    let ui = json!({ "root": dir.path(), "basePath": "/app" });
    let running = Running::start(&json!({ "gateway": { "auth": { "token": "tok" }, "controlUi": ui } }));
    let page = running.http(&get("/app/chat?session=main", "Accept: text/html\r\n")).await;
    assert_eq!(status(&page), "200");
    assert!(page.contains("x-frame-options: DENY") && page.contains("script-src 'self' 'sha256-"), "{page}");
    let moved = running.http(&get("/app?a=b", "")).await;
    assert!(status(&moved) == "302" && moved.contains("location: /app/?a=b"), "{moved}");
    assert_eq!(status(&running.http(&get("/other", "")).await), "404");
    assert_eq!(status(&running.http(&get("/app/nope.js", "")).await), "404");
    assert_eq!(status(&running.http(&get("/app/nope", "Accept: application/json\r\n")).await), "404");
    assert_eq!(status(&running.http(&get("/app/..%2f..%2fetc%2fpasswd", "")).await), "404");
    let post = "POST /app/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let refused = running.http(post).await;
    assert!(status(&refused) == "405" && refused.contains("allow: GET, HEAD"), "{refused}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_config_needs_the_secret() {
    let agents = json!({ "list": [{ "id": "huda", "identity": { "name": "Huda", "avatar": "https://a.example/h.png" } }] });
    let running = Running::start(&json!({ "gateway": { "auth": { "token": "tok" } }, "agents": agents }));
    for path in [
        "/control-ui-config.json",
        "/__openclaw/control-ui-config.json",
        "/__openclaw__/control-ui-config.json",
    ] {
        let refused = running.http(&get(path, "")).await;
        assert!(
            refused.ends_with(r#"{"error":{"message":"Unauthorized","type":"unauthorized"}}"#),
            "{refused}"
        );
        let told = running.http(&get(path, "Authorization: Bearer tok\r\n")).await;
        assert!(
            told.contains(r#""assistantName":"Huda""#) && told.contains(r#""assistantAgentId":"huda""#),
            "{told}"
        );
    }
    let meta = running.http(&get("/avatar/huda?meta=1", "Authorization: bearer tok\r\n")).await;
    assert!(meta.contains("https://a.example/h.png"), "{meta}");
    assert_eq!(status(&running.http(&get("/avatar/huda?meta=1", "")).await), "401");
    assert_eq!(status(&running.http(&get("/avatar/nobody?meta=1", "")).await), "404");
    running.stop().await;
}
