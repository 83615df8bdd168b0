use super::*;
use crate::config::{ConfigSource, judge};
use std::path::Path;
use std::sync::Arc;

fn snapshot(text: &str, vars: &[(&str, &str)]) -> ConfigSnapshot {
    let env: Environment = vars.iter().copied().collect();
    let file = judge(Path::new("/c/openclaw.json"), text, &env);
    ConfigSnapshot::new(Arc::new(file), ConfigSource::File).expect("valid")
}

fn server(kind: LocalKind, models: &[&str]) -> LocalServer {
    LocalServer { kind, port: kind.port(), models: models.iter().map(|&name| name.to_owned()).collect() }
}

type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [LocalServer], &'a str);

#[test]
fn the_order_of_choice() {
    let servers =
        [server(LocalKind::LlamaCpp, &["l"]), server(LocalKind::Ollama, &["nomic-embed-text", "qwen3:8b"])];
    let keys = [("DEEPSEEK_API_KEY", "k"), ("OPENAI_API_KEY", "k")];
    let rows: [Row<'_>; 7] = [
        ("{agents:{defaults:{model:'a/b'}}}", &keys, &servers, "a/b (from the config)"),
        ("{}", &keys, &servers, "openai/gpt-5.2 (OPENAI_API_KEY is set)"),
        ("{env:{vars:{XAI_API_KEY:'k'}}}", &[], &servers, "xai/grok-4-1-fast (XAI_API_KEY is set)"),
        ("{}", &[("OPENROUTER_API_KEY", " ")], &servers, "ollama/qwen3:8b (Ollama answers on port 11434)"),
        ("{}", &[], &servers[..1], "llamacpp/l (llama.cpp answers on port 8080)"),
        (
            "{}",
            &[],
            &[server(LocalKind::Ollama, &[])],
            "demo/demo (built in; no key and no local model server found)",
        ),
        ("{agents:{list:[{id:'x',model:{primary:'p/q'}}]}}", &[], &[], "p/q (from the config)"),
    ];
    for (text, vars, servers, wanted) in rows {
        assert_eq!(choose(&snapshot(text, vars), None, servers).reason(), wanted);
    }
    let flag = |text: &str| choose(&snapshot(text, &keys), Some("p/q"), &servers).reason();
    assert_eq!(flag("{}"), "p/q (--model)");
    assert_eq!(flag("{agents:{defaults:{model:'a/b'}}}"), "a/b (from the config)");
    assert!(needs_probe(&snapshot("{}", &[]), None) && !needs_probe(&snapshot("{}", &keys), None));
    assert!(!needs_probe(&snapshot("{}", &[]), Some("p/q")));
}

#[test]
fn answers_of_the_servers() {
    let ollama = json!({"models": [{"name": "a:1"}, {}]});
    assert_eq!(LocalKind::Ollama.models(&ollama), Some(vec!["a:1".to_owned()]));
    assert_eq!(LocalKind::LmStudio.models(&json!({"data": [{"id": "m"}]})), Some(vec!["m".to_owned()]));
    assert_eq!(LocalKind::LlamaCpp.models(&json!({"hello": 1})), None);
}

#[test]
fn a_server_is_asked_where_the_config_says_that_it_is() {
    let rows = [
        ("", Some(11_434)),
        ("http://localhost:4000/", Some(4_000)),
        ("http://127.0.0.1", Some(80)),
        ("http://192.168.0.2:11434", None),
        ("https://localhost:1", None),
    ];
    for (url, port) in rows {
        let text = format!("{{models:{{providers:{{ollama:{{baseUrl:'{url}',models:[]}}}}}}}}");
        let text = if url.is_empty() { "{}" } else { &text };
        assert_eq!(LocalKind::Ollama.port_in(&snapshot(text, &[])), port, "{url}");
    }
    assert_eq!(key_names("google"), ["GEMINI_API_KEY", "GOOGLE_API_KEY"]);
    assert_eq!(key_names("demo"), [""; 0]);
}

#[test]
fn setup_adds_only_what_is_missing() {
    let empty = snapshot("{}", &[]);
    let patch = setup_patch(&empty, &choose(&empty, None, &[]), "T");
    let wanted = json!({"gateway": {"mode": "local", "auth": {"mode": "token", "token": "T"},
        "http": {"endpoints": {"chatCompletions": {"enabled": true}}}}, "agents": {"defaults": {"model": {"primary": "demo/demo"}}}});
    assert_eq!(patch, wanted);
    let full = snapshot(
        "{gateway:{mode:'local',auth:{password:'p'},http:{endpoints:{chatCompletions:{enabled:false}}}},agents:{defaults:{model:'a/b'}}}",
        &[],
    );
    assert_eq!(setup_patch(&full, &choose(&full, None, &[]), "T"), json!({}));
    let by_env = snapshot("{}", &[("OPENCLAW_GATEWAY_TOKEN", "t")]);
    assert_eq!(setup_patch(&by_env, &choose(&by_env, None, &[]), "T").pointer("/gateway/auth"), None);
}
