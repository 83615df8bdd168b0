use super::*;
use crate::config::Environment;
use crate::paths::{Paths, ProfileFlags};
use std::fs;

fn disk(text: &str) -> (tempfile::TempDir, ConfigDisk) {
    let dir = tempfile::tempdir().expect("dir");
    let env: Environment = [("HOME", dir.path().to_str().expect("utf-8"))].into_iter().collect();
    let paths = Paths::resolve(&env, &ProfileFlags::default(), dir.path(), |_| false).expect("paths");
    if !text.is_empty() {
        fs::create_dir_all(&paths.state_dir).expect("dir");
        fs::write(&paths.config_file, text).expect("write");
    }
    (dir, ConfigDisk::new(paths, env))
}

fn stopped(disk: &ConfigDisk) -> Stopped<'_> {
    Stopped { disk, now_ms: 1 }
}

fn text(disk: &ConfigDisk) -> String {
    fs::read_to_string(&disk.paths.config_file).expect("read")
}

#[test]
fn get_shows_values_and_hides_secrets() {
    let (_dir, disk) = disk("{gateway: {port: 5, auth: {token: 'abc'}}, agents: {list: [{id: 'x'}]}}");
    let file = disk.read();
    let get =
        |path: &str| get(&file, path).map(|value| shown(&value, false)).map_err(|error| error.to_string());
    assert_eq!(get("gateway.port"), Ok("5".to_owned()));
    assert_eq!(get("agents.list[0].id"), Ok("x".to_owned()));
    assert_eq!(get("gateway.auth.token"), Ok("__OPENCLAW_REDACTED__".to_owned()));
    assert_eq!(get("agents.list[0]"), Ok("{\n  \"id\": \"x\"\n}".to_owned()));
    assert_eq!(get("gateway.nope"), Err("Config path not found: gateway.nope".to_owned()));
    assert_eq!(shown(&json!("x"), true), "\"x\"");
}

#[test]
fn set_and_unset_write_what_is_valid_and_keep_the_rest() {
    let (_dir, disk) = disk("{\n  // mine\n  gateway: { port: 5 },\n}\n");
    let set = |path: &str, value: &str| {
        set(&mut stopped(&disk), path, value, false).map_err(|error| error.to_string())
    };
    assert_eq!(set("gateway.port", "6"), Ok("Updated gateway.port.".to_owned()));
    assert_eq!(set("gateway.bind", "lan"), Ok("Updated gateway.bind.".to_owned()));
    assert_eq!(set("gateway.auth.token", "12345"), Ok("Updated gateway.auth.token.".to_owned()));
    assert!(set("channels.telegram.allowFrom", "[1, '2']").is_ok());
    assert_eq!(set("gateway.reload.mode", "'off'"), Ok("Updated gateway.reload.mode.".to_owned()));
    assert_eq!(
        set("gateway.port", "many"),
        Err("Config validation failed: gateway.port: expected integer, got \"many\"".to_owned())
    );
    assert_eq!(
        set("gateway.prot", "1"),
        Err("Config validation failed: gateway: Unrecognized key: \"prot\" (did you mean \"port\"?)"
            .to_owned())
    );
    assert_eq!(
        set("channels.telegram.dmPolicy", "open"),
        Err("Config validation failed: channels.telegram.dmPolicy\nConfiguration mismatch: channels.telegram.dmPolicy is \"open\", but channels.telegram.allowFrom does not include \"*\".\nFix with:\n  openclaw config set channels.telegram.allowFrom '[\"*\"]'\nOr switch policy:\n  openclaw config set channels.telegram.dmPolicy \"pairing\"".to_owned())
    );
    assert_eq!(set("a.__proto__.b", "1"), Err("Invalid path segment: __proto__".to_owned()));
    assert!(set("gateway.auth.token", SENTINEL).is_err());
    let file = disk.read();
    assert_eq!(
        file.parsed["gateway"],
        json!({"port": 6, "bind": "lan", "auth": {"token": "12345"}, "reload": {"mode": "off"}})
    );
    assert!(text(&disk).contains("// mine"), "{}", text(&disk));
    assert_eq!(
        unset(&mut stopped(&disk), "gateway.auth.token").map_err(|e| e.to_string()),
        Ok("Removed gateway.auth.token.".to_owned())
    );
    assert_eq!(disk.read().parsed["gateway"].get("auth"), None);
    assert_eq!(
        unset(&mut stopped(&disk), "gateway.auth").map_err(|e| e.to_string()),
        Err("Config path not found: gateway.auth".to_owned())
    );
    assert!(super::set(&mut stopped(&disk), "gateway.bind", "lan", true).is_err(), "strict JSON");
}

#[test]
fn a_missing_file_is_made_and_a_broken_one_can_be_mended_key_by_key() {
    let (_dir, fresh) = disk("");
    set(&mut stopped(&fresh), "gateway.mode", "local", false).expect("made");
    assert_eq!(fresh.read().parsed["gateway"]["mode"], "local");
    let (_dir, broken) = disk("{nope: 1, also: 2, gateway: {port: 5}}");
    unset(&mut stopped(&broken), "nope").expect("fewer issues");
    assert_eq!(broken.read().findings.issues.len(), 1);
    unset(&mut stopped(&broken), "also").expect("none left");
    assert!(broken.read().is_valid());
    let (_dir, unreadable) = disk("{");
    let error = set(&mut stopped(&unreadable), "gateway.port", "1", false).expect_err("refused").to_string();
    assert!(
        error.starts_with("Config invalid\nFile: ") && error.ends_with("openclaw config validate"),
        "{error}"
    );
}

#[test]
fn validate_counts_missing_variables_as_errors() {
    let (_dir, disk) = disk("{ui: {seamColor: '${NONE}'}, browser: {enabled: true}}");
    let file = Arc::new(disk.read());
    assert!(file.is_valid());
    let none = WorkerPrograms::new(Vec::new());
    let out = validation_json(&file, &validation_issues(&file, &disk.paths, &none));
    assert_eq!(
        out["issues"][0]["message"],
        "Missing env var \"NONE\" referenced at config path: ui.seamColor"
    );
    assert_eq!(out["valid"], json!(false));
    fs::write(&disk.paths.config_file, "{browser: {enabled: true}}").expect("write");
    let file = Arc::new(disk.read());
    let out = validation_json(&file, &validation_issues(&file, &disk.paths, &none));
    assert_eq!((&out["valid"], &out["knownNotBuilt"]), (&json!(true), &json!(["browser"])));
}

#[test]
fn a_tier_that_no_worker_can_reach_is_refused_with_the_strongest_that_one_can() {
    let (_dir, disk) = disk("{isolation: {min: 'T3'}}");
    let told = set(&mut stopped(&disk), "isolation.min", "'T1'", false).map_err(|error| error.to_string());
    let told = told.expect_err("refused");
    assert!(told.contains("isolation.min: "), "{told}");
    assert!(told.contains("this gateway does not offer T1: \"T2\" is the strongest tier"), "{told}");
    assert!(!told.contains("did you mean"), "one hint: {told}");
    assert!(set(&mut stopped(&disk), "isolation.min", "'T2'", false).is_ok());
}
