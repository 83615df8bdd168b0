use super::*;

fn request<'a>(path: &'a Path, audit: &'a Path, before: Option<&'a str>, after: &'a str) -> WriteRequest<'a> {
    WriteRequest {
        path,
        before,
        after,
        paths_changed: 1,
        allow_loss: false,
        audit_file: audit,
        now_ms: 1_700_000_000_123,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

#[test]
fn five_backups_private_files_and_one_audit_line_each() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("state/openclaw.json");
    let audit = dir.path().join("state/logs/config-audit.jsonl");
    let mut before: Option<String> = None;
    for n in 0..7 {
        let after = format!("{{\"meta\":{{}},\"n\":{n}}}\n");
        let written = write(&request(&path, &audit, before.as_deref(), &after)).expect("written");
        assert_eq!(written.hash, sha256_hex(after.as_bytes()));
        assert_eq!(written.anomalies, Vec::<String>::new());
        before = Some(after);
    }
    let read = |name: &str| fs::read_to_string(dir.path().join("state").join(name)).expect(name);
    assert!(read("openclaw.json").contains("\"n\":6"));
    for (name, n) in [("bak", 5), ("bak.1", 4), ("bak.2", 3), ("bak.3", 2), ("bak.4", 1)] {
        assert!(read(&format!("openclaw.json.{name}")).contains(&format!("\"n\":{n}")), "{name}");
    }
    assert_eq!((mode(&path), mode(path.parent().expect("dir")), mode(&audit)), (0o600, 0o700, 0o600));
    let names = fs::read_dir(dir.path().join("state")).expect("list").count();
    assert_eq!(names, 7, "no temporary file is left");
    let lines: Vec<Value> = read("logs/config-audit.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("json"))
        .collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(lines[0]["ts"], "2023-11-14T22:13:20.123Z");
    assert_eq!(
        (lines[0]["existsBefore"].clone(), lines[6]["result"].clone()),
        (json!(false), json!("rename"))
    );
}

#[test]
fn losses_are_refused_and_kept_unless_allowed() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("openclaw.json");
    let audit = dir.path().join("audit.jsonl");
    let before = format!("{{\"gateway\":{{\"mode\":\"local\"}},\"x\":\"{}\"}}", "y".repeat(600));
    fs::write(&path, &before).expect("write");
    let mut wish = request(&path, &audit, Some(&before), "{}");
    let error = write(&wish).expect_err("refused").to_string();
    assert!(error.contains("size-drop:635->2, missing-meta-before-write, gateway-mode-removed"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), before);
    assert_eq!(
        fs::read_to_string(dir.path().join("openclaw.json.rejected.1700000000123")).expect("kept"),
        "{}"
    );
    wish.allow_loss = true;
    let written = write(&wish).expect("allowed");
    assert_eq!(written.log.len(), 2);
    assert!(written.log[0].starts_with("Config overwrite: "), "{:?}", written.log);
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let dir = tempfile::tempdir().expect("dir");
    let real = dir.path().join("real.json");
    let link = dir.path().join("openclaw.json");
    fs::write(&real, "{}").expect("write");
    std::os::unix::fs::symlink(&real, &link).expect("link");
    write(&request(&link, &dir.path().join("audit.jsonl"), Some("{}"), "{\"a\":1}")).expect("written");
    assert!(fs::symlink_metadata(&link).expect("link").file_type().is_symlink());
    assert_eq!(fs::read_to_string(&real).expect("read"), "{\"a\":1}");
}

#[test]
fn command_lines_in_the_audit_hold_no_secrets() {
    let args = ["openclaw", "config", "set", "gateway.auth.token", "s3cret", "--json"].map(str::to_owned);
    assert_eq!(audited_args(args.into_iter())[4], "__OPENCLAW_REDACTED__");
    let args = ["openclaw", "gateway", "--token", "s", "--password=p"].map(str::to_owned);
    let shown = audited_args(args.into_iter());
    assert_eq!(shown, ["openclaw", "gateway", "--token", "__OPENCLAW_REDACTED__", "__OPENCLAW_REDACTED__"]);
}

#[test]
fn what_killed_writes_left_is_swept_and_nothing_else() {
    let dir = tempfile::tempdir().expect("dir");
    let env = [("HOME", dir.path().to_str().expect("utf-8"))].into_iter().collect();
    let profile = crate::paths::ProfileFlags::default();
    let paths = Paths::resolve(&env, &profile, dir.path(), |_| false).expect("paths");
    let store = paths.config_store_dir();
    fs::create_dir_all(store.join("history")).expect("store");
    let id = "0190a1b2-0000-7000-8000-000000000001";
    let left = |file: &Path| suffixed(file, &format!(".4242.{id}.tmp"));
    let gone =
        [left(&paths.config_file), left(&store.join("last-good.json")), left(&store.join("history/1.json"))];
    let names = ["openclaw.json.tmp", "openclaw.json.bak", "notes.4242.tmp", &format!(".4242.{id}.tmp")];
    let kept = names.map(|name| paths.state_dir.join(name));
    for path in gone.iter().chain(&kept) {
        fs::write(path, "{").expect("write");
    }
    sweep_unfinished(&paths);
    assert_eq!(gone.iter().filter(|path| path.exists()).count(), 0);
    assert!(kept.iter().all(|path| path.exists()), "{kept:?}");
}

#[test]
fn what_root_writes_stays_the_users() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI runs this as root");
        println!("skipped: not root");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(dir.path(), Some(1234), Some(1234)).expect("root may");
    let (path, audit) = (dir.path().join("openclaw.json"), dir.path().join("audit.jsonl"));
    write(&request(&path, &audit, None, "{}")).expect("written");
    let owner = || fs::metadata(&path).expect("the file").uid();
    assert_eq!(owner(), 1234);
    std::os::unix::fs::chown(&path, Some(77), Some(77)).expect("root may");
    write(&request(&path, &audit, Some("{}"), "{gateway: {}}")).expect("written");
    assert_eq!(owner(), 77);
}
