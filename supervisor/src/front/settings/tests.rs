use super::*;
use serde_json::json;

#[test]
fn an_empty_config_has_the_documented_defaults() {
    let settings = Settings::from_config(&json!({}), &AuthEnvironment::default());
    assert_eq!(settings.auth.mode, AuthMode::Token);
    assert!(settings.auth.token.is_none());
    assert!(settings.control_ui.enabled && settings.auto_approve_local && !settings.chat_completions);
    assert_eq!(settings.main_session_key(), "agent:main:main");
    assert_eq!(settings.auth.rate, RateRules::default());
}

#[test]
fn secrets_come_from_flag_then_file_then_environment() {
    let config = json!({ "gateway": { "auth": { "token": "file" } } });
    let mut env = AuthEnvironment { token: Some("env".into()), ..AuthEnvironment::default() };
    let token = |config: &Value, env: &AuthEnvironment| {
        Settings::from_config(config, env).auth.token.map(|t| t.expose().to_owned())
    };
    assert_eq!(token(&config, &env).as_deref(), Some("file"));
    assert_eq!(token(&json!({}), &env).as_deref(), Some("env"));
    env.token_override = Some("flag".into());
    assert_eq!(token(&config, &env).as_deref(), Some("flag"));
    let password = AuthEnvironment { password: Some("p".into()), ..AuthEnvironment::default() };
    assert_eq!(Settings::from_config(&json!({}), &password).auth.mode, AuthMode::Password);
}

#[test]
fn agents_ui_and_proxies_are_read() {
    let config = json!({
        "gateway": { "trustedProxies": ["10.0.0.0/8", "bogus"],
            "controlUi": { "basePath": "/ui/", "allowedOrigins": ["HTTPS://A.example/"] } },
        "agents": { "defaults": { "model": { "primary": "p/m" } },
            "list": [{ "id": "Ops", "model": "q/n" }, { "id": "huda", "default": true, "identity": { "name": "Huda" } }] }
    });
    let settings = Settings::from_config(&config, &AuthEnvironment::default());
    assert_eq!(settings.proxies.trusted.len(), 1);
    assert_eq!(settings.control_ui.base_path, "/ui");
    assert_eq!(settings.control_ui.origins.allowed, ["https://a.example"]);
    assert_eq!(settings.main_session_key(), "agent:huda:main");
    let models: Vec<_> = settings.agents.iter().map(|a| (a.id.as_str(), a.model.as_deref())).collect();
    assert_eq!(models, [("ops", Some("q/n")), ("huda", Some("p/m"))]);
}
