use super::*;
use serde_json::{Value, json};

fn settings(config: Value) -> Settings {
    Settings::from_config(&config)
}

fn names(chain: Result<Vec<ModelRef>, SelectError>) -> Vec<String> {
    chain.unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn references_split_at_the_first_slash() {
    let read = |text: &str| parse(text, "anthropic").map(|r| (r.provider, r.id));
    let pair = |p: &str, m: &str| Ok((p.to_owned(), m.to_owned()));
    assert_eq!(read("openrouter/moonshotai/kimi-k2.5"), pair("openrouter", "moonshotai/kimi-k2.5"));
    assert_eq!(read(" Z.AI/glm-4.7 "), pair("zai", "glm-4.7"));
    assert_eq!(read("claude-opus-4-6"), pair("anthropic", "claude-opus-4-6"));
    for nothing in ["", "/", "openai/", "/x"] {
        assert_eq!(read(nothing), Err(SelectError::Empty), "{nothing}");
    }
}

#[test]
fn aliases_count_only_for_listed_models() {
    let listed = settings(json!({ "agents": { "defaults": { "models": {
        "openai/gpt-5.2": {}, "openrouter/x-ai/grok-4.1-fast": { "alias": "Fast" } } } } }));
    let meant = |text| meant(text, &listed).unwrap().to_string();
    assert_eq!(meant("fast"), "openrouter/x-ai/grok-4.1-fast");
    assert_eq!(meant("gpt"), "openai/gpt-5.2");
    assert_eq!(meant("opus"), "anthropic/opus", "opus is not in the list, so it is only a name");
}

#[test]
fn chains_of_fallbacks() {
    let config = settings(json!({ "agents": {
        "defaults": { "model": { "primary": "openai/a", "fallbacks": ["openai/b", "groq/c", "openai/a", "/"] } },
        "list": [{ "id": "solo", "model": "xai/d" }, { "id": "own", "model": { "primary": "xai/e", "fallbacks": [] } }],
    } }));
    assert_eq!(names(chain(None, &config, "main")), ["openai/a", "openai/b", "groq/c"]);
    assert_eq!(
        names(chain(Some("openai/z"), &config, "main")),
        ["openai/z", "openai/b", "groq/c", "openai/a"]
    );
    assert_eq!(names(chain(Some("groq/c"), &config, "main")), ["groq/c", "openai/b", "openai/a"]);
    assert_eq!(
        names(chain(Some("xai/z"), &config, "main")),
        ["xai/z", "openai/a"],
        "a foreign one gets the primary only"
    );
    assert_eq!(names(chain(None, &config, "solo")), ["xai/d", "openai/b", "groq/c", "openai/a"]);
    assert_eq!(names(chain(None, &config, "OWN")), ["xai/e"]);
    assert_eq!(names(chain(None, &Settings::default(), "main")), ["anthropic/claude-opus-4-6"]);
}

#[test]
fn a_list_of_models_is_an_allow_list() {
    let config = settings(json!({
        "agents": { "defaults": { "model": { "primary": "openai/a", "fallbacks": ["groq/b"] }, "models": { "xai/c": {} } } },
        "models": { "providers": { "mine": { "baseUrl": "http://x", "models": [{ "id": "d" }] } } },
    }));
    let may = |text: &str| allowed(&meant(text, &config).unwrap(), &config, "main");
    for text in ["xai/c", "openai/a", "groq/b", "mine/d"] {
        assert!(may(text), "{text}");
    }
    assert!(!may("openai/other") && !may("mine/other"));
    assert!(allowed(&meant("any/thing", &Settings::default()).unwrap(), &Settings::default(), "main"));
}
