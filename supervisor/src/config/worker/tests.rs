use super::*;
use crate::config::{ConfigSource, judge};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const TEXT: &str = "{
  gateway: { mode: 'local', auth: { token: 'S-gateway' } },
  hooks: { enabled: true, token: 'S-hooks' },
  agents: { defaults: { model: 'openrouter/a' }, list: [ { id: 'Main', name: 'M' }, { id: 'ops', workspace: '/o' } ] },
  models: { providers: {
    openrouter: { baseUrl: 'http://o', apiKey: 'MY_OPENROUTER', headers: { 'X-Key': 'S-header' } },
    other: { baseUrl: 'http://p', apiKey: { source: 'env', provider: 'default', id: 'OTHER_SECRET' }, headers: { a: 'S-other-header' } },
  } },
  skills: { entries: { s: { apiKey: 'S-skill', env: { K: 'S-skill-env' } } } },
  channels: { telegram: { botToken: '1:S-default', webhookSecret: 'S-hook', tokenFile: '/f',
    accounts: { work: { botToken: '2:S-work', allowFrom: [1] }, home: {} } } },
}";

fn made(text: &str, worker: &WorkerId) -> (Value, SecretMap) {
    let env: Environment = [
        ("MY_OPENROUTER", "S-openrouter"),
        ("OTHER_SECRET", "S-other"),
        ("OPENAI_API_KEY", "S-openai"),
        ("TELEGRAM_BOT_TOKEN", "9:S-env"),
        ("OPENCLAW_GATEWAY_TOKEN", "S-env-gateway"),
    ]
    .into_iter()
    .collect();
    let file = judge(Path::new("/c/openclaw.json"), text, &env);
    let snapshot = ConfigSnapshot::new(Arc::new(file), ConfigSource::File).expect("valid");
    let (text, secrets) = worker_config(&snapshot, worker);
    (serde_json::from_str(&text).expect("json"), secrets)
}

fn names(secrets: &SecretMap) -> Vec<(&str, &str)> {
    secrets.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn an_agent_gets_its_sections_and_provider_keys_and_nothing_of_the_gateway() {
    let (config, secrets) = made(TEXT, &WorkerId::agent("main"));
    assert_eq!(
        names(&secrets),
        [
            ("OPENAI_API_KEY", "S-openai"),
            ("provider:openrouter", "S-openrouter"),
            ("provider:other", "S-other"),
            ("skills.entries.s.apiKey", "S-skill"),
            ("skills.entries.s.env.K", "S-skill-env"),
        ]
    );
    for gone in ["gateway", "hooks", "channels"] {
        assert_eq!(config.get(gone), None, "{gone}");
    }
    assert_eq!(
        config["models"]["providers"]["openrouter"],
        json!({"baseUrl": "http://o", "headers": {"X-Key": "S-header"}})
    );
    let text = config.to_string();
    assert!(
        !text.contains("S-openrouter") && !text.contains("S-skill") && !text.contains("MY_OPENROUTER"),
        "{text}"
    );
}

#[test]
fn with_a_list_of_models_only_their_providers_are_given() {
    let text = TEXT.replace("model: 'openrouter/a'", "model: 'openrouter/a', models: { 'openrouter/a': {} }");
    let (config, secrets) = made(&text, &WorkerId::agent("ops"));
    let given: Vec<&str> =
        secrets.0.keys().map(String::as_str).filter(|name| !name.starts_with("skills")).collect();
    assert_eq!(given, ["provider:openrouter"]);
    assert!(!config.to_string().contains("S-other-header"));
}

#[test]
fn an_account_gets_its_own_secrets_only() {
    let (config, secrets) = made(TEXT, &WorkerId::channel("telegram", "work"));
    assert_eq!(names(&secrets), [("botToken", "2:S-work"), ("webhookSecret", "S-hook")]);
    assert_eq!(config["channels"]["telegram"], json!({"allowFrom": [1]}));
    assert_eq!(config["agents"]["list"][1], json!({"id": "ops"}));
    assert_eq!((config.get("gateway"), config.get("models")), (None, None));
    assert!(!config.to_string().contains("S-"));
}

#[test]
fn the_variable_serves_the_default_account_without_a_token() {
    let plain = "{channels: {telegram: {}}}";
    let (_, secrets) = made(plain, &WorkerId::channel("telegram", "default"));
    assert_eq!(names(&secrets), [("botToken", "9:S-env")]);
    let (_, secrets) =
        made("{channels: {telegram: {accounts: {a: {}}}}}", &WorkerId::channel("telegram", "a"));
    assert_eq!(names(&secrets), []);
}
