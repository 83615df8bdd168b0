use super::*;
use crate::paths::ProfileFlags;
use std::fs;

pub fn home(text: Option<&str>) -> (tempfile::TempDir, Paths) {
    let dir = tempfile::tempdir().expect("dir");
    let env: Environment = [("HOME", dir.path().to_str().expect("utf-8"))].into_iter().collect();
    let paths = Paths::resolve(&env, &ProfileFlags::default(), dir.path(), |_| false).expect("paths");
    fs::create_dir_all(&paths.state_dir).expect("state dir");
    if let Some(text) = text {
        fs::write(&paths.config_file, text).expect("config");
    }
    (dir, paths)
}

fn start(paths: &Paths, policy: StartPolicy) -> Result<ConfigHandle, String> {
    ConfigHandle::start(paths.clone(), Environment::default(), policy).map_err(|error| error.message)
}

const FOREGROUND: StartPolicy = StartPolicy { service: false, use_last_good: false, restarted: false };
const SERVICE: StartPolicy = StartPolicy { service: true, ..FOREGROUND };

#[test]
fn an_invalid_file_stops_a_person_and_not_a_service() {
    let (_dir, paths) = home(Some("{gateway: {mode: 'local', port: 5}}"));
    let handle = start(&paths, FOREGROUND).expect("valid");
    handle.mark_good("start", 1_700_000_000_000);
    fs::write(&paths.config_file, "{\n  gateway: {\n    prot: 1\n  }\n}").expect("write");
    let error = start(&paths, FOREGROUND).map(|_| ()).expect_err("refused");
    let wanted = format!(
        "Invalid config at {}.\nopenclaw.json:3:5 gateway: Unrecognized key: \"prot\" (did you mean \"port\"?)\nRun \"openclaw doctor\" to repair, then retry.\nTo start with the last good config (2023-11-14T22:13:20.000Z), add --use-last-good.",
        paths.config_file.display()
    );
    assert_eq!(error, wanted);
    for policy in [SERVICE, StartPolicy { use_last_good: true, ..FOREGROUND }] {
        let handle = start(&paths, policy).expect("last good");
        assert_eq!((handle.current().gateway.port, handle.current().source), (5, ConfigSource::LastGood));
        let state = handle.state();
        assert_eq!((state.state, state.source, state.errors.len()), ("invalid", "lastGood", 1));
    }
    fs::write(&paths.config_file, "{gateway: {onInvalidConfig: 'fail', prot: 1}}").expect("write");
    assert!(start(&paths, SERVICE).is_err());
}

#[test]
fn without_a_last_good_one_nothing_stands_in() {
    let (_dir, paths) = home(Some("{"));
    for policy in [FOREGROUND, SERVICE, StartPolicy { use_last_good: true, ..FOREGROUND }] {
        let error = start(&paths, policy).map(|_| ()).expect_err("refused");
        assert!(
            error.contains("JSON5 parse failed: SyntaxError: JSON5: invalid end of input at 1:2"),
            "{error}"
        );
        assert!(error.contains("last good config"), "{error}");
    }
}

#[test]
fn edits_show_as_pending_until_they_are_active() {
    let (_dir, paths) = home(Some("{gateway: {port: 5}}"));
    let handle = start(&paths, FOREGROUND).expect("valid");
    assert_eq!(handle.state().state, "ok");
    fs::write(&paths.config_file, "{gateway: {port: 6}}").expect("write");
    assert_eq!((handle.state().state, handle.current().gateway.port), ("pending", 5));
    handle.activate(handle.on_disk()).expect("valid");
    assert_eq!((handle.state().state, handle.current().gateway.port), ("ok", 6));
}

#[test]
fn included_values_are_not_written_over() {
    let (_dir, paths) = home(Some("{$include: './base.json', ui: {seamColor: '#fff'}}"));
    fs::write(paths.state_dir.join("base.json"), "{gateway: {port: 5}}").expect("write");
    let handle = start(&paths, FOREGROUND).expect("valid");
    assert_eq!(handle.current().gateway.port, 5);
    let before = handle.on_disk();
    let mut wanted = before.parsed.clone();
    wanted["gateway"] = json!({"port": 6});
    let error = handle.change(&before, NewText::Values(wanted), Allow::default(), 1).expect_err("refused");
    assert_eq!(error.to_string(), "gateway.port comes from an included file; edit that file instead");
    let mut wanted = before.parsed.clone();
    wanted["ui"]["seamColor"] = json!("#000");
    let changed = handle.change(&before, NewText::Values(wanted), Allow::default(), 1).expect("own key");
    assert_eq!(
        (changed.paths, changed.file.resolved["gateway"]["port"].clone()),
        (vec!["ui.seamColor".to_owned()], json!(5))
    );
    handle.activate(handle.on_disk()).expect("valid");
    handle.mark_good("test", 5);
    fs::remove_file(paths.state_dir.join("base.json")).expect("remove");
    let alone = start(&paths, SERVICE).expect("last good needs no include");
    assert_eq!(alone.current().gateway.port, 5);
}

#[test]
fn dotenv_files_fill_what_the_process_does_not_say() {
    let (dir, paths) = home(Some(
        "{gateway: {auth: {token: '${TOKEN}'}}, env: {vars: {LATE: 'x'}}, ui: {seamColor: '${LATE}${NONE}'}}",
    ));
    fs::write(paths.state_dir.join(".env"), "TOKEN=from-state\nA=state").expect("write");
    fs::write(dir.path().join(".env"), "A=cwd\nS=cwd").expect("write");
    fs::write(paths.state_dir.join("service.env"), "S=\"service\"\nB=\"service\"\n").expect("write");
    let process: Environment = [("B", "process")].into_iter().collect();
    let env = crate::config::load_env(process.clone(), &paths, Some(dir.path()));
    assert_eq!(
        (env.get("A"), env.get("B"), env.get("S"), env.get("TOKEN")),
        (Some("cwd"), Some("process"), Some("service"), Some("from-state"))
    );
    assert_eq!(crate::config::load_env(process, &paths, None).get("A"), Some("state"));
    let handle = ConfigHandle::start(paths, env, FOREGROUND).expect("valid");
    let snapshot = handle.current();
    assert_eq!(snapshot.gateway.auth.token.as_ref().map(super::super::Secret::expose), Some("from-state"));
    assert_eq!(snapshot.config["ui"]["seamColor"], "x${NONE}");
    let warnings = lines(&snapshot.file.findings.warnings);
    assert!(
        warnings.contains("Missing env var \"NONE\" referenced at config path: ui.seamColor"),
        "{warnings}"
    );
}
