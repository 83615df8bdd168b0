//! Who may do what: each row is a published hole of earlier releases that must stay closed.

use bytes::Bytes;
use harness::gateway::{TOKEN, TestGateway};
use harness::http::{get, request};
use harness::ws_client::{Device, WsClient, cli_params};
use hyper::Method;
use serde_json::{Value, json};

/// A gateway that pairs nobody by itself.
async fn asking() -> TestGateway {
    TestGateway::builder()
        .config(json!({"gateway": {"nodes": {"pairing": {"autoApproveLocal": false}}}}))
        .start()
        .await
}

async fn connect(
    gateway: &TestGateway,
    device: &Device,
    scopes: &[&str],
    token: &str,
) -> (WsClient, Result<Value, Value>) {
    let mut client = WsClient::open(gateway.port).await.expect("the gateway answers");
    let mut params = cli_params(4);
    params["scopes"] = json!(scopes);
    let field = if token == TOKEN { "token" } else { "deviceToken" };
    params["auth"] = json!({ field: token });
    params["device"] = device.proof(&params, &client.nonce(), token);
    let answer = client.connect(params).await;
    (client, answer)
}

/// A command line client of this machine without a device, with these scopes only.
async fn with_scopes(gateway: &TestGateway, scopes: &[&str]) -> WsClient {
    let mut client = WsClient::open(gateway.port).await.expect("the gateway answers");
    let mut params = cli_params(4);
    params["scopes"] = json!(scopes);
    client.connect(params).await.expect("hello");
    client
}

async fn pending(client: &mut WsClient) -> String {
    let list = client.call("device.pair.list", json!({})).await.expect("a list");
    list["pending"][0]["requestId"].as_str().expect("a request").to_owned()
}

/// A new device waits; nobody approves more than they hold; its token works until it is revoked, at once.
#[tokio::test]
async fn a_device_is_approved_by_who_holds_as_much_and_ends_when_revoked() {
    let gateway = asking().await;
    let device = Device::new();
    let (_, answer) = connect(&gateway, &device, &["operator.admin"], TOKEN).await;
    let error = answer.expect_err("not paired");
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("NOT_PAIRED"), &json!("PAIRING_REQUIRED"))
    );

    let mut pairing = with_scopes(&gateway, &["operator.pairing"]).await;
    let id = pending(&mut pairing).await;
    let refused = pairing.call("device.pair.approve", json!({"requestId": id})).await.expect_err("too much");
    assert_eq!(refused["message"], "missing scope: operator.admin");
    let (_, still) = connect(&gateway, &device, &["operator.admin"], TOKEN).await;
    still.expect_err("a refused approval approves nothing");

    let mut admin = WsClient::cli(gateway.port, 4).await;
    let id = pending(&mut admin).await;
    admin.call("device.pair.approve", json!({"requestId": id})).await.expect("approved");
    let (mut client, answer) = connect(&gateway, &device, &["operator.admin"], TOKEN).await;
    let token = answer.expect("hello")["auth"]["deviceToken"].as_str().expect("a token").to_owned();
    let (_, by_token) = connect(&gateway, &device, &["operator.admin"], &token).await;
    by_token.expect("hello");

    let revoke = json!({"deviceId": device.id(), "role": "operator"});
    let rotate = json!({"deviceId": device.id(), "role": "operator", "scopes": ["operator.admin"]});
    for (method, params) in [("device.token.revoke", &revoke), ("device.token.rotate", &rotate)] {
        let error = pairing.call(method, params.clone()).await.expect_err(method);
        let text = "device token operation denied: only the device itself or an admin may do this";
        assert_eq!(error["message"], text, "{method}");
    }
    admin.call("device.token.revoke", revoke).await.expect("revoked");
    assert_eq!(client.closed().await.code, 4001);
    let (_, answer) = connect(&gateway, &device, &["operator.admin"], &token).await;
    assert_eq!(answer.expect_err("revoked")["details"]["code"], "AUTH_DEVICE_TOKEN_MISMATCH");
}

#[tokio::test]
async fn readers_change_nothing_and_self_made_scopes_count_for_nothing() {
    let gateway = TestGateway::start().await;
    let mut reader = with_scopes(&gateway, &["operator.read"]).await;
    let raw = json!({"raw": "{gateway:{auth:{mode:'none'}}}", "baseHash": "x"});
    for method in ["config.patch", "config.apply", "config.set", "gateway.restart", "workers.stop"] {
        let error = reader.call(method, raw.clone()).await.expect_err(method);
        assert_eq!(error["message"], "missing scope: operator.admin", "{method}");
    }
    let mut liar = WsClient::open(gateway.port).await.expect("open");
    let mut params = cli_params(4);
    params["client"] = json!({"id": "test", "mode": "test", "version": "1", "platform": "linux"});
    liar.connect(params).await.expect("hello");
    assert_eq!(liar.hello["auth"]["scopes"], json!([]));
    liar.call("config.get", json!({})).await.expect_err("no scope, nothing to read");
}

/// Wrong tokens lock out the address behind the proxy, in every spelling, and nobody else.
#[tokio::test]
async fn guessing_locks_the_guesser_out() {
    let config = json!({"gateway": {"trustedProxies": ["127.0.0.1"]}});
    let gateway = TestGateway::builder().config(config).start().await;
    let ask = async |from: &str, token: &str| {
        let headers = [("x-forwarded-for", from)];
        let path = "/v1/models";
        let answer = request(gateway.port, Method::GET, path, Some(token), &headers, Bytes::new()).await;
        answer.expect("an answer")
    };
    for n in 0..10 {
        assert_eq!(ask("203.0.113.7", "guess").await.status, 401, "try {n}");
    }
    for from in ["203.0.113.7", "::ffff:203.0.113.7"] {
        let locked = ask(from, TOKEN).await;
        assert_eq!(locked.status, 429, "{from}");
        assert!(locked.headers.contains_key("retry-after"));
        let text = "Too many failed authentication attempts. Please try again later.";
        assert_eq!(locked.json(), json!({"error": {"message": text, "type": "rate_limited"}}));
    }
    assert_eq!(ask("203.0.113.8", TOKEN).await.status, 200);
    assert_eq!(get(gateway.port, "/v1/models", Some(TOKEN)).await.expect("an answer").status, 200);
}

/// The page is public, what it configures itself with is not; nothing outside it is served.
#[tokio::test]
async fn the_page_serves_itself_and_nothing_else() {
    let gateway = TestGateway::start().await;
    let index = get(gateway.port, "/", None).await.expect("an answer");
    assert_eq!(index.status, 200);
    assert!(index.headers.contains_key("content-security-policy"), "{:?}", index.headers);
    assert!(!index.text().contains(TOKEN));
    let deep = get(gateway.port, "/x/y", None).await.expect("an answer");
    assert_eq!((deep.status, deep.text() == index.text()), (200, true));
    for path in ["/nope.js", "/../openclaw.json", "/%2e%2e/openclaw.json", "/assets/..%2f..%2fopenclaw.json"]
    {
        let answer = get(gateway.port, path, None).await.expect("an answer");
        assert!(answer.status >= 400 || answer.text() == index.text(), "{path}: {}", answer.status);
        assert!(!answer.text().contains("\"gateway\""), "{path}");
    }
    let posted = request(gateway.port, Method::POST, "/", None, &[], Bytes::new()).await.expect("an answer");
    assert_eq!(posted.status, 405);
}
