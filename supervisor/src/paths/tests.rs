use super::*;

fn resolve(vars: &[(&str, &str)], flags: &ProfileFlags) -> Result<Paths, ProfileError> {
    let env: Environment = vars.iter().copied().collect();
    Paths::resolve(&env, flags, Path::new("/cwd"), |path| path == Path::new("/h/.clawdbot"))
}

type Row<'a> = (&'a [(&'a str, &'a str)], &'a ProfileFlags, &'a str, &'a str, u16);

#[test]
fn environment_and_profiles_move_the_places() {
    let none = ProfileFlags::default();
    let dev = ProfileFlags { dev: true, ..none.clone() };
    let named = |name: &str| ProfileFlags { profile: Some(name.into()), dev: false };
    let rows: [Row<'_>; 9] = [
        (&[("HOME", "/u")], &none, "/u/.openclaw", "/u/.openclaw/openclaw.json", 18_789),
        (&[("HOME", "/h")], &none, "/h/.clawdbot", "/h/.clawdbot/openclaw.json", 18_789),
        (
            &[("HOME", "/u"), ("OPENCLAW_HOME", "~/o")],
            &none,
            "/u/o/.openclaw",
            "/u/o/.openclaw/openclaw.json",
            18_789,
        ),
        (
            &[("HOME", "/u"), ("OPENCLAW_STATE_DIR", "s/../t")],
            &none,
            "/cwd/t",
            "/cwd/t/openclaw.json",
            18_789,
        ),
        (&[("HOME", "/u"), ("OPENCLAW_CONFIG_PATH", "~/c.json")], &none, "/u/.openclaw", "/u/c.json", 18_789),
        (
            &[("HOME", "/u"), ("OPENCLAW_PROFILE", "x")],
            &none,
            "/u/.openclaw-x",
            "/u/.openclaw-x/openclaw.json",
            18_789,
        ),
        (&[("HOME", "/u")], &dev, "/u/.openclaw-dev", "/u/.openclaw-dev/openclaw.json", 19_001),
        (&[("HOME", "/u")], &named("default"), "/u/.openclaw", "/u/.openclaw/openclaw.json", 18_789),
        (&[("HOME", "/u"), ("OPENCLAW_STATE_DIR", "/s")], &named("b"), "/s", "/s/openclaw.json", 18_789),
    ];
    for (vars, flags, state, config, port) in rows {
        let paths = resolve(vars, flags).expect("valid");
        let shown = (paths.state_dir.to_str(), paths.config_file.to_str(), paths.default_port);
        assert_eq!(shown, (Some(state), Some(config), port), "{vars:?}");
    }
}

#[test]
fn bad_profiles_are_refused_with_the_known_texts() {
    let flags = |profile: Option<&str>, dev| ProfileFlags { profile: profile.map(str::to_owned), dev };
    for (flags, wanted) in [
        (flags(Some(""), false), "--profile requires a value"),
        (flags(Some("a b"), false), "Invalid --profile (use letters, numbers, \"_\", \"-\" only)"),
        (flags(Some("x"), true), "Cannot combine --dev with --profile"),
    ] {
        assert_eq!(
            resolve(&[("HOME", "/u")], &flags).map_err(|e| e.to_string()).err().as_deref(),
            Some(wanted)
        );
    }
    assert!(resolve(&[("OPENCLAW_PROFILE", "../x")], &ProfileFlags::default()).is_err());
}

#[test]
fn the_rest_follows_from_the_state_directory() {
    let paths =
        resolve(&[("HOME", "/u"), ("OPENCLAW_PROFILE", "x")], &ProfileFlags::default()).expect("valid");
    assert_eq!(paths.audit_file(), Path::new("/u/.openclaw-x/logs/config-audit.jsonl"));
    assert_eq!(paths.expand("~/w"), Path::new("/u/w"));
    assert_eq!(paths.expand("w"), Path::new("/u/.openclaw-x/w"));
}
