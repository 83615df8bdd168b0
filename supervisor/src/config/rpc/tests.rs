use super::super::Environment;
use super::super::handle::StartPolicy;
use super::super::read::sha256_hex;
use super::super::redact::SENTINEL;
use super::*;
use crate::paths::{Paths, ProfileFlags};
use std::fs;

const TEXT: &str = "{\n  // mine\n  gateway: { mode: 'local', auth: { token: 'abcdefgh12345678' } },\n  models: { providers: { x: { baseUrl: 'http://x', apiKey: '${X_KEY}' } } },\n  agents: { list: [ { id: 'a', name: 'A' }, { id: 'b' } ] },\n}\n";

fn opened(text: &str) -> (tempfile::TempDir, ConfigHandle) {
    let dir = tempfile::tempdir().expect("dir");
    let env: Environment =
        [("HOME", dir.path().to_str().expect("utf-8")), ("X_KEY", "resolved-key")].into_iter().collect();
    let paths = Paths::resolve(&env, &ProfileFlags::default(), dir.path(), |_| false).expect("paths");
    fs::create_dir_all(&paths.state_dir).expect("dir");
    fs::write(&paths.config_file, text).expect("write");
    let handle = ConfigHandle::start(paths, env, StartPolicy::default()).expect("valid");
    (dir, handle)
}

fn writer(protocol: u8) -> Writer {
    Writer {
        client_id: "cli".into(),
        device_id: None,
        ip: Some("127.0.0.1".into()),
        connection: "c1".into(),
        protocol,
    }
}

fn hash(handle: &ConfigHandle) -> String {
    handle.on_disk().source.hash.clone()
}

fn file(handle: &ConfigHandle) -> String {
    fs::read_to_string(&handle.paths().config_file).expect("read")
}

#[test]
fn get_hides_secrets_and_keeps_the_hash_of_the_real_bytes() {
    let (_dir, handle) = opened(TEXT);
    let out = get(&handle);
    assert_eq!(out["hash"], sha256_hex(TEXT.as_bytes()));
    let text = out.to_string();
    assert!(!text.contains("abcdefgh12345678") && !text.contains("resolved-key"), "{text}");
    assert!(out["raw"].as_str().is_some_and(|raw| raw.contains("// mine") && raw.contains("${X_KEY}")));
    assert_eq!(out["resolved"]["models"]["providers"]["x"]["apiKey"], SENTINEL);
    assert_eq!(out["config"]["agents"]["defaults"]["maxConcurrent"], 4);
    assert_eq!(out["resolved"].get("commands"), None);
    assert_eq!((&out["valid"], &out["issues"]), (&json!(true), &json!([])));
}

#[test]
fn an_invalid_file_shows_issues_and_no_values() {
    let (_dir, handle) = opened(TEXT);
    fs::write(&handle.paths().config_file, "{nope: 1, gateway: {auth: {token: 'abcdefgh12345678'}}}")
        .expect("write");
    let out = get(&handle);
    assert_eq!(
        (&out["valid"], &out["config"], &out["raw"], &out["parsed"]),
        (&json!(false), &json!({}), &Value::Null, &Value::Null)
    );
    assert_eq!(out["issues"][0]["message"], "Unrecognized key: \"nope\"");
    assert_eq!(out["active"]["state"], "invalid");
    let params = json!({"raw": "{}", "baseHash": out["hash"]});
    let error = patch(&handle, &params, &writer(3), 1).expect_err("refused");
    assert_eq!(error.message, "invalid config; fix before patching");
}

#[test]
fn refusals_have_the_known_texts() {
    let (_dir, handle) = opened(TEXT);
    let base = hash(&handle);
    let rows: Vec<(Value, u8, &str)> = vec![
        (json!({}), 3, "invalid config.patch params: raw (string) required"),
        (json!({"raw": 5}), 3, "invalid config.patch params: raw (string) required"),
        (json!({"raw": "{}"}), 3, "config base hash required; re-run config.get and retry"),
        (
            json!({"raw": "{}", "baseHash": "bad"}),
            3,
            "config changed since last load; re-run config.get and retry",
        ),
        (
            json!({"raw": "{bad json", "baseHash": base}),
            3,
            "SyntaxError: JSON5: invalid character 'j' at 1:6",
        ),
        (json!({"raw": "[]", "baseHash": base}), 3, "config.patch raw must be an object"),
        (json!({"raw": "{nope:1}", "baseHash": base}), 3, "invalid config"),
        (
            json!({"raw": "{nope:1}", "baseHash": base}),
            4,
            "invalid config: <root>: Unrecognized key: \"nope\"",
        ),
        (
            json!({"raw": format!("{{hooks:{{token:'{SENTINEL}'}}}}"), "baseHash": base}),
            3,
            "Sentinel value \"__OPENCLAW_REDACTED__\" in key hooks.token is not valid as real data",
        ),
    ];
    for (params, protocol, wanted) in rows {
        let error = patch(&handle, &params, &writer(protocol), 1).expect_err(wanted);
        assert_eq!((error.code, error.message.as_str()), ("INVALID_REQUEST", wanted));
    }
    let error =
        patch(&handle, &json!({"raw": "{nope:1}", "baseHash": base}), &writer(3), 1).expect_err("refused");
    let issue = &error.details.expect("details")["issues"][0];
    assert_eq!((&issue["path"], &issue["message"]), (&json!(""), &json!("Unrecognized key: \"nope\"")));
    for (method, result) in [
        ("config.set", set(&handle, &json!({}), &writer(3), 1)),
        ("config.apply", apply(&handle, &json!({}), &writer(3), 1)),
    ] {
        let wanted = format!("invalid {method} params: raw (string) required");
        assert_eq!(result.map(|_| ()).map_err(|error| error.message), Err(wanted));
    }
    assert_eq!(file(&handle), TEXT, "nothing was written");
    assert!(handle.paths().config_store_dir().join("rejected").is_dir());
}

#[test]
fn a_limit_error_has_the_recorded_shape() {
    let limited = Limited { retry_after_ms: 59_989, limit: "3 per 60s".into() };
    let error = ConfigRpcError::limited("config.patch", &limited);
    assert_eq!(
        (error.code, error.message.as_str()),
        ("UNAVAILABLE", "rate limit exceeded for config.patch; retry after 60s")
    );
    assert_eq!(error.details, Some(Box::new(json!({"method": "config.patch", "limit": "3 per 60s"}))));
    assert_eq!(error.retry_after_ms, Some(59_989));
}

#[test]
fn a_patch_keeps_comments_references_and_secrets() {
    let (_dir, handle) = opened(TEXT);
    let raw = "{messages: {ackReaction: '👀'}, agents: {list: [{id: 'b', name: 'B'}]}, gateway: {auth: {token: '__OPENCLAW_REDACTED__'}, tailscale: {mode: 'off'}}}";
    let params = json!({"raw": raw, "baseHash": hash(&handle), "note": "from test", "sessionKey": "agent:main:main", "restartDelayMs": 1500});
    let out = patch(&handle, &params, &writer(4), 1_700_000_000_000).expect("written");
    let text = file(&handle);
    assert!(
        text.contains("// mine") && text.contains("${X_KEY}") && text.contains("abcdefgh12345678"),
        "{text}"
    );
    assert!(
        text.contains("lastTouchedAt: \"2023-11-14T22:13:20.000Z\"")
            || text.contains("\"lastTouchedAt\": \"2023-11-14T22:13:20.000Z\""),
        "{text}"
    );
    let mut changed: Vec<&str> =
        out.payload["changedPaths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    changed.sort_unstable();
    assert_eq!(changed, ["agents.list", "gateway.tailscale.mode", "messages.ackReaction"]);
    assert_eq!(out.payload["config"]["agents"]["list"][1], json!({"id": "b", "name": "B"}));
    assert_eq!(out.payload["config"]["gateway"]["auth"]["token"], SENTINEL);
    assert_eq!(out.payload["hash"], hash(&handle));
    assert_eq!(out.restart, Some(RestartRequest { delay_ms: Some(1500), reason: "config.patch".into() }));
    let sentinel = fs::read_to_string(handle.paths().restart_sentinel()).expect("sentinel");
    let sentinel: Value = serde_json::from_str(&sentinel).expect("json");
    assert_eq!(
        (&sentinel["payload"]["kind"], &sentinel["payload"]["message"]),
        (&json!("config-patch"), &json!("from test"))
    );
    let log = out.log.expect("log");
    assert!(
        log.starts_with(
            "config.patch write actor=cli device=unknown-device ip=127.0.0.1 conn=c1 changedPaths="
        ),
        "{log}"
    );
}

#[test]
fn a_patch_that_changes_nothing_writes_nothing() {
    let (_dir, handle) = opened(TEXT);
    let params = json!({"raw": "{gateway: {mode: 'local'}}", "baseHash": hash(&handle)});
    let out = patch(&handle, &params, &writer(4), 1).expect("fine");
    assert_eq!((&out.payload["changedPaths"], out.restart, file(&handle).as_str()), (&json!([]), None, TEXT));
    assert!(!handle.paths().restart_sentinel().exists());
}

#[test]
fn what_get_shows_can_be_set_again() {
    let (_dir, handle) = opened(TEXT);
    let shown = get(&handle);
    let raw = shown["raw"].as_str().expect("raw").replace("name: 'A'", "name: 'Z'");
    let out = set(&handle, &json!({"raw": raw, "baseHash": shown["hash"]}), &writer(3), 1).expect("written");
    assert!(out.restart.is_none() && out.payload.get("restart").is_none());
    let text = file(&handle);
    assert!(
        text.contains("abcdefgh12345678") && text.contains("// mine") && text.contains("name: 'Z'"),
        "{text}"
    );
    let shown = get(&handle);
    let whole = shown["config"].to_string();
    let out =
        apply(&handle, &json!({"raw": whole, "baseHash": shown["hash"]}), &writer(3), 2).expect("applied");
    assert!(out.restart.is_none(), "what it changes is hot");
    let key = handle.on_disk().resolved["models"]["providers"]["x"]["apiKey"].clone();
    assert_eq!((key, file(&handle).contains("${X_KEY}")), (json!("resolved-key"), true));
}
