use super::*;
use serde_json::json;

const NOW_MS: f64 = 1_000_000.0;

fn profiles(value: Value) -> AuthProfiles {
    serde_json::from_value(value).unwrap()
}

fn of(stored: &AuthProfiles) -> impl Fn(&str) -> Stats {
    let stats = stored.usage_stats.clone();
    move |id: &str| stats.get(id).cloned().unwrap_or_default()
}

fn sources(choices: &[KeyChoice]) -> Vec<&str> {
    choices.iter().map(|c| c.source.as_str()).collect()
}

#[test]
fn oauth_then_token_then_key_and_the_tired_ones_last() {
    let stored = profiles(json!({ "version": 1, "profiles": {
        "p:key": { "type": "api_key", "provider": "p", "key": "k1" },
        "p:key2": { "type": "api_key", "provider": "p", "key": "k2" },
        "p:tok": { "type": "token", "provider": "p", "token": "t" },
        "p:old": { "type": "token", "provider": "p", "token": "t", "expires": 5 },
        "p:oauth": { "type": "oauth", "provider": "p", "access": "a", "refresh": "r", "expires": 9e12 },
        "q:key": { "type": "api_key", "provider": "q", "key": "other" },
        "p:new-kind": { "type": "quantum", "provider": "p" },
    }, "usageStats": { "p:oauth": { "cooldownUntil": 2e6 }, "p:key": { "lastUsed": 9 }, "p:tok": { "disabledUntil": 3e6 } } }));
    let order = stored.ordered("p", &AuthSection::default(), &of(&stored), NOW_MS);
    assert_eq!(sources(&order), ["profile:p:key2", "profile:p:key", "profile:p:oauth", "profile:p:tok"]);
    assert!(order[2].bearer && !order[0].bearer);
    let auth: AuthSection =
        serde_json::from_value(json!({ "order": { "p": ["p:key", "p:missing", "p:key2"] } })).unwrap();
    assert_eq!(
        sources(&stored.ordered("p", &auth, &of(&stored), NOW_MS)),
        ["profile:p:key", "profile:p:key2"]
    );
}

#[test]
fn profile_then_environment_then_config() {
    let stored = profiles(
        json!({ "profiles": { "anthropic:default": { "type": "api_key", "provider": "anthropic", "key": "k" } } }),
    );
    let secret = |text: &str| Secret::new(text);
    let secrets = BTreeMap::from([
        ("ANTHROPIC_API_KEY".to_owned(), secret("from-env")),
        ("provider:anthropic".to_owned(), secret("sk-ant-oat01-x")),
        ("MY_KEY".to_owned(), secret("named")),
    ]);
    let config: ProviderSettings = serde_json::from_value(json!({ "apiKey": "MY_KEY" })).unwrap();
    let found =
        keys("anthropic", Some(&config), &AuthSection::default(), &stored, &secrets, &of(&stored), NOW_MS);
    assert_eq!(
        sources(&found),
        [
            "profile:anthropic:default",
            "env: ANTHROPIC_API_KEY",
            "models.providers.anthropic.apiKey",
            "env: MY_KEY"
        ]
    );
    assert!(found[2].bearer, "a set-up token is told by its prefix");
    let unresolved: ProviderSettings = serde_json::from_value(json!({ "apiKey": "${NOT_SET}" })).unwrap();
    assert!(
        keys(
            "mine",
            Some(&unresolved),
            &AuthSection::default(),
            &AuthProfiles::default(),
            &secrets,
            &|_| Stats::default(),
            NOW_MS
        )
        .is_empty()
    );
    assert_eq!(env_names("my-own.host"), ["MY_OWN_HOST_API_KEY"]);
}

#[test]
fn files_are_read_through_to_main_and_bad_ones_are_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (own, main) = (dir.path().join("own.json"), dir.path().join("main.json"));
    let profile = |key: &str| json!({ "type": "api_key", "provider": "p", "key": key });
    std::fs::write(&own, json!({ "profiles": { "p:a": profile("own") } }).to_string()).unwrap();
    std::fs::write(
        &main,
        json!({ "profiles": { "p:a": profile("main"), "p:b": profile("main") } }).to_string(),
    )
    .unwrap();
    let read = AuthProfiles::read(&own, Some(&main));
    let found = read.ordered("p", &AuthSection::default(), &of(&read), NOW_MS);
    let texts: Vec<&str> = found.iter().map(|c| c.secret.expose()).collect();
    assert_eq!(texts, ["own", "main"]);
    assert!(!format!("{found:?}").contains("own\""), "secrets never print");
    std::fs::write(&own, "{ not json").unwrap();
    assert!(
        AuthProfiles::read(&own, None)
            .ordered("p", &AuthSection::default(), &|_| Stats::default(), NOW_MS)
            .is_empty()
    );
    assert!(AuthProfiles::read(&dir.path().join("none.json"), None).profiles.is_empty());
}

#[test]
fn a_pinned_profile_comes_first_and_a_chosen_one_alone() {
    let key = |id: &str, rests: bool| KeyChoice {
        profile: Some(id.to_owned()),
        rest: rests.then(|| Rest { reason: "rate_limit".to_owned(), until_ms: 9e12 }),
        ..KeyChoice::plain(Secret::new(id), format!("profile:{id}"), false)
    };
    let pin = |profile: &str, by_user: bool| Some(Pin { profile: profile.to_owned(), by_user });
    let order = |rests: bool, pin: Option<Pin>| -> Vec<String> {
        let keys = vec![key("a", false), key("b", false), key("c", rests)];
        pinned(keys, pin.as_ref()).into_iter().filter_map(|key| key.profile).collect()
    };
    assert_eq!(order(false, None), ["a", "b", "c"]);
    assert_eq!(order(false, pin("c", false)), ["c", "a", "b"]);
    assert_eq!(order(true, pin("c", false)), ["a", "b", "c"], "a resting one is not preferred");
    assert_eq!(order(true, pin("c", true)), ["c"], "a person's choice is not second-guessed");
    assert_eq!(order(false, pin("gone", true)), ["a", "b", "c"]);
}
