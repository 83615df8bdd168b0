//! Who is not let in, or may not do what they ask: words, codes, closes.

use harness::gateway::{TOKEN, TestGateway};
use harness::ws_client::{Closed, Device, WsClient, cli_params};
use serde_json::{Value, json};

/// Sends `connect` and gives the refusal and the close.
async fn refused(gateway: &TestGateway, params: Value) -> (Value, Closed) {
    let mut client = WsClient::open(gateway.port).await.expect("open");
    let error = client.connect(params).await.expect_err("refused");
    (error, client.closed().await)
}

/// The same for a device whose proof `spoil` has changed.
async fn refused_device(gateway: &TestGateway, protocol: u64, spoil: impl Fn(&mut Value)) -> (Value, Closed) {
    let mut client = WsClient::open(gateway.port).await.expect("open");
    let mut params = cli_params(protocol);
    params["device"] = Device::new().proof(&params, &client.nonce(), TOKEN);
    spoil(&mut params["device"]);
    let error = client.connect(params).await.expect_err("refused");
    (error, client.closed().await)
}

fn with(change: impl Fn(&mut Value)) -> Value {
    let mut params = cli_params(4);
    change(&mut params);
    params
}

#[tokio::test]
async fn first_words_that_are_not_connect_end_the_connection() {
    let gateway = TestGateway::start().await;
    let not_requests =
        ["null", "[]", r#"{"type":"event","event":"x"}"#, r#"{"type":"req","method":"connect"}"#];
    let silent = [("{not json", 1000, "")].into_iter();
    for (text, code, reason) in silent.chain(not_requests.map(|text| (text, 1008, "invalid request frame"))) {
        let mut client = WsClient::open(gateway.port).await.expect("open");
        client.send_raw(text).await;
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (code, reason), "{text}");
    }
    let mut client = WsClient::open(gateway.port).await.expect("open");
    let error = client.call("health", json!({})).await.expect_err("refused");
    let text = "invalid handshake: first request must be connect";
    assert_eq!((error["code"].as_str(), error["message"].as_str()), (Some("INVALID_REQUEST"), Some(text)));
    assert_eq!(client.closed().await, Closed { code: 1008, reason: text.to_owned() });
}

#[tokio::test]
async fn connect_params_are_checked() {
    let gateway = TestGateway::start().await;
    let cases = [
        (with(|p| p["client"]["id"] = "nobody".into()), "at /client/id: must be equal to"),
        (with(|p| p["client"]["mode"] = "operator".into()), "at /client/mode: must be equal to"),
        (
            with(|p| drop(p.as_object_mut().map(|p| p.remove("client")))),
            "must have required property 'client'",
        ),
        (with(|p| p["minProtocol"] = "4".into()), "at /minProtocol: must be integer"),
    ];
    for (params, text) in cases {
        let (error, closed) = refused(&gateway, params).await;
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("invalid connect params: ") && message.contains(text), "{error}");
        assert_eq!((error["code"].as_str(), closed.code), (Some("INVALID_REQUEST"), 1008));
    }
    let mut client = WsClient::open(gateway.port).await.expect("open");
    client
        .connect(with(|p| p["modelCatalog"] = json!({"sessionKey": "x"})))
        .await
        .expect("unknown keys are ignored");
    let (error, closed) = refused(&gateway, with(|p| p["role"] = "boss".into())).await;
    assert_eq!((error["message"].as_str(), closed.code), (Some("invalid role"), 1008));
}

#[tokio::test]
async fn protocols_that_we_do_not_speak_are_refused() {
    let gateway = TestGateway::start().await;
    for (min, max) in [(1, 2), (5, 6)] {
        let params = with(|p| {
            p["minProtocol"] = min.into();
            p["maxProtocol"] = max.into();
        });
        let (error, closed) = refused(&gateway, params).await;
        assert_eq!(
            (error["code"].as_str(), error["message"].as_str()),
            (Some("INVALID_REQUEST"), Some("protocol mismatch"))
        );
        let details = json!({
            "code": "PROTOCOL_MISMATCH", "clientMinProtocol": min, "clientMaxProtocol": max,
            "expectedProtocol": 4, "minimumProbeProtocol": 3,
        });
        assert_eq!(error["details"], details);
        assert_eq!(closed, Closed { code: 1002, reason: "protocol mismatch".to_owned() });
    }
}

#[tokio::test]
async fn a_wrong_or_missing_secret_is_refused() {
    let gateway = TestGateway::start().await;
    let (error, closed) = refused(&gateway, with(|p| p["auth"]["token"] = "wrong".into())).await;
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("unauthorized: gateway token mismatch ("), "{error}");
    assert_eq!(
        (error["details"]["code"].as_str(), error["details"]["authReason"].as_str()),
        (Some("AUTH_TOKEN_MISMATCH"), Some("token_mismatch"))
    );
    assert_eq!(error["details"]["canRetryWithDeviceToken"], false);
    assert!(error["details"]["recommendedNextStep"].is_string());
    assert_eq!((closed.code, closed.reason.as_str()), (1008, message));

    let (error, closed) = refused(&gateway, with(|p| p["auth"] = json!({}))).await;
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("NOT_PAIRED"), Some("device identity required"))
    );
    assert_eq!((error["details"]["code"].as_str(), closed.code), (Some("DEVICE_IDENTITY_REQUIRED"), 1008));

    let mut client = WsClient::open(gateway.port).await.expect("open");
    let mut params = with(|p| p["auth"] = json!({}));
    params["device"] = Device::new().proof(&params, &client.nonce(), "");
    let error = client.connect(params).await.expect_err("refused");
    assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISSING", "{error}");

    let mut client = WsClient::open(gateway.port).await.expect("open");
    let mut params = with(|p| p["auth"] = json!({"deviceToken": "wrong"}));
    params["device"] = Device::new().proof(&params, &client.nonce(), "wrong");
    let error = client.connect(params).await.expect_err("refused");
    let text = "unauthorized: device token mismatch (rotate/reissue device token)";
    assert_eq!(
        (error["message"].as_str(), error["details"]["code"].as_str()),
        (Some(text), Some("AUTH_DEVICE_TOKEN_MISMATCH"))
    );
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let auth =
        json!({"gateway": {"auth": {"mode": "password", "token": null, "password": "open-sesame-123"}}});
    let gateway = TestGateway::builder().config(auth).start().await;
    let mut client = WsClient::open(gateway.port).await.expect("open");
    client.connect(with(|p| p["auth"] = json!({"password": "open-sesame-123"}))).await.expect("hello");
    let (error, closed) = refused(&gateway, with(|p| p["auth"] = json!({"password": "wrong"}))).await;
    assert!(
        error["message"].as_str().is_some_and(|m| m.starts_with("unauthorized: gateway password mismatch")),
        "{error}"
    );
    assert_eq!((error["details"]["code"].as_str(), closed.code), (Some("AUTH_PASSWORD_MISMATCH"), 1008));
}

#[tokio::test]
async fn a_device_that_cannot_prove_itself_is_refused() {
    type Spoil = fn(&mut Value);
    let gateway = TestGateway::start().await;
    let cases: [(&str, &str, &str, Spoil); 5] = [
        ("device identity mismatch", "device-id-mismatch", "DEVICE_AUTH_DEVICE_ID_MISMATCH", |d| {
            d["id"] = "0".repeat(64).into();
        }),
        ("device signature expired", "device-signature-stale", "DEVICE_AUTH_SIGNATURE_EXPIRED", |d| {
            d["signedAt"] = (d["signedAt"].as_u64().unwrap_or(0) - 121_000).into();
        }),
        ("device nonce required", "device-nonce-missing", "DEVICE_AUTH_NONCE_REQUIRED", |d| {
            d["nonce"] = " ".into()
        }),
        ("device nonce mismatch", "device-nonce-mismatch", "DEVICE_AUTH_NONCE_MISMATCH", |d| {
            d["nonce"] = "old".into()
        }),
        ("device signature invalid", "device-signature", "DEVICE_AUTH_SIGNATURE_INVALID", |d| {
            d["signature"] = "AAAA".into();
        }),
    ];
    for (message, reason, code, spoil) in cases {
        for (protocol, code) in [(3, "DEVICE_AUTH_INVALID"), (4, code)] {
            let (error, closed) = refused_device(&gateway, protocol, spoil).await;
            assert_eq!(
                (error["code"].as_str(), error["message"].as_str()),
                (Some("INVALID_REQUEST"), Some(message))
            );
            assert_eq!(error["details"], json!({"code": code, "reason": reason}));
            assert_eq!(closed, Closed { code: 1008, reason: message.to_owned() });
        }
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_is_refused() {
    let gateway = TestGateway::start().await;
    let page = json!({"id": "openclaw-control-ui", "mode": "webchat", "version": "1", "platform": "linux"});
    let own = format!("http://127.0.0.1:{}", gateway.port);
    for (client, origin, allowed) in [
        (Some(&page), Some("http://evil.example"), false),
        (None, Some("http://evil.example"), false),
        (Some(&page), None, false),
        (Some(&page), Some(own.as_str()), true),
    ] {
        let mut socket = WsClient::open_from(gateway.port, origin).await.expect("open");
        let mut params = cli_params(4);
        if let Some(client) = client {
            params["client"] = client.clone();
        }
        params["device"] = Device::new().proof(&params, &socket.nonce(), TOKEN);
        let result = socket.connect(params).await;
        assert_eq!(result.is_ok(), allowed, "{client:?} {origin:?} {result:?}");
        if let Err(error) = result {
            assert_eq!(error["details"]["code"], "CONTROL_UI_ORIGIN_NOT_ALLOWED", "{error}");
            let text = "origin not allowed (open the Control UI from the gateway host or allow it in gateway.controlUi.allowedOrigins)";
            assert_eq!(error["message"], text);
            assert_eq!(socket.closed().await.code, 1008);
        }
    }
    let mut socket = WsClient::open_from(gateway.port, Some(&own)).await.expect("open");
    let error =
        socket.connect(with(|p| p["client"] = page.clone())).await.expect_err("a page needs a device");
    assert_eq!(error["details"]["code"], "CONTROL_UI_DEVICE_IDENTITY_REQUIRED", "{error}");
}

#[tokio::test]
async fn scopes_and_roles_bound_what_a_client_may_do() {
    let gateway = TestGateway::start().await;
    let mut reader = WsClient::open(gateway.port).await.expect("open");
    reader.connect(with(|p| p["scopes"] = json!(["operator.read"]))).await.expect("hello");
    let send = json!({"sessionKey": "main", "message": "x", "idempotencyKey": "x"});
    let error = reader.call("chat.send", send).await.expect_err("refused");
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("FORBIDDEN"), Some("missing scope: operator.write"))
    );
    let details = json!({"code": "MISSING_SCOPE", "missingScope": "operator.write", "requiredScopes": ["operator.write"]});
    assert_eq!(error["details"], details);
    assert!(reader.hello["snapshot"]["configPath"].is_null(), "paths are for administrators");

    // Admin implies the others: the page of protocol 3 asks for nothing else.
    let mut admin = WsClient::open(gateway.port).await.expect("open");
    admin.connect(with(|p| p["scopes"] = json!(["operator.admin"]))).await.expect("hello");
    admin.call("chat.history", json!({"sessionKey": "main"})).await.expect("read");
    admin.chat("main", "hello").await;

    // Not this machine's own tool, and no device: no scopes.
    let mut probe = WsClient::open(gateway.port).await.expect("open");
    probe.connect(with(|p| p["client"]["mode"] = "probe".into())).await.expect("hello");
    assert_eq!(probe.hello["auth"]["scopes"], json!([]));
    let error = probe.call("chat.history", json!({"sessionKey": "main"})).await.expect_err("refused");
    assert_eq!(error["message"], "missing scope: operator.read");
}

#[tokio::test]
async fn a_node_may_not_do_what_operators_do() {
    let gateway = TestGateway::start().await;
    let mut node = WsClient::open(gateway.port).await.expect("open");
    let mut params = with(|p| {
        p["client"] = json!({"id": "node-host", "mode": "node", "version": "1", "platform": "linux"});
        p["role"] = "node".into();
        p["scopes"] = json!([]);
    });
    params["device"] = Device::new().proof(&params, &node.nonce(), TOKEN);
    node.connect(params).await.expect("hello");
    let error = node.call("chat.history", json!({"sessionKey": "main"})).await.expect_err("refused");
    assert_eq!(
        (error["code"].as_str(), error["message"].as_str()),
        (Some("INVALID_REQUEST"), Some("unauthorized role: node"))
    );
    for _ in 0..10 {
        node.send("chat.history", json!({"sessionKey": "main"})).await;
    }
    let closed = node.closed().await;
    assert_eq!(closed, Closed { code: 1008, reason: "repeated unauthorized calls".to_owned() });
}
