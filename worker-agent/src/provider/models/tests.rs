use super::*;
use serde_json::json;

fn models(config: Value, secrets: &[(&str, &str)]) -> Models {
    let secrets = secrets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Models::new("main", &config, secrets, AuthProfiles::default())
}

fn select(models: &Models, text: &str) -> Result<Selected, SelectError> {
    models.select(&select::parse(text, "anthropic").unwrap())
}

#[test]
fn built_in_providers_work_with_a_key_alone() {
    let all = models(json!({}), &[("OPENROUTER_API_KEY", "or-key")]);
    let known = select(&all, "openrouter/moonshotai/kimi-k2.5").unwrap();
    assert_eq!(known.endpoint.base_url, "https://openrouter.ai/api/v1");
    assert_eq!(known.key_source.as_deref(), Some("env: OPENROUTER_API_KEY"));
    assert!(known.model.reasoning && known.missing_key.is_none());
    let unknown = select(&all, "openrouter/new/model").unwrap();
    assert_eq!(
        (unknown.model.context_window, unknown.model.max_tokens, unknown.model.reasoning),
        (200_000, 8192, false)
    );
    assert!(
        select(&all, "groq/llama-3.3-70b-versatile").unwrap().missing_key.unwrap().contains("GROQ_API_KEY")
    );
    assert!(select(&all, "ollama/qwen3").unwrap().missing_key.is_none(), "a local server needs no key");
}

#[test]
fn the_vendors_own_servers_are_asked_in_their_own_way() {
    let at = |url: Value| {
        let all = models(
            json!({ "models": { "providers": { "openai": url, "google": url, "ollama": url } } }),
            &[],
        );
        ["openai/gpt-5.2", "google/gemini-3-pro-preview", "ollama/m"]
            .map(|m| select(&all, m).unwrap().model.api.clone())
    };
    let own = ["openai-responses", "google-generative-ai", "ollama"];
    assert_eq!(at(json!({})), own);
    assert_eq!(
        at(json!({ "baseUrl": "http://proxy/v1" })),
        ["openai-completions", "openai-completions", "ollama"]
    );
    assert_eq!(
        at(json!({ "baseUrl": "http://proxy/v1", "api": "openai-responses" })),
        ["openai-responses"; 3]
    );
    let all = models(
        json!({ "models": { "providers": { "openai": { "baseUrl": "https://api.openai.com/v1" } } } }),
        &[],
    );
    assert_eq!(select(&all, "openai/gpt-5.2").unwrap().model.api, "openai-responses");
}

#[test]
fn mistakes_are_named() {
    let config = json!({ "models": { "providers": { "mine": { "api": "openai-completions" }, "odd": { "baseUrl": "http://h", "api": "smoke-signals" } } } });
    let all = models(config, &[]);
    let said = |text: &str| select(&all, text).unwrap_err().to_string();
    assert!(said("opneai/gpt").contains("there is no provider \"opneai\""), "{}", said("opneai/gpt"));
    assert!(said("opneai/gpt").contains("openai"), "names those there are");
    assert!(said("mine/x").contains("models.providers.mine.baseUrl"));
    assert!(said("odd/x").contains("smoke-signals") && said("odd/x").contains("anthropic-messages"));
    assert!(said("demo/gpt").contains("demo/demo"));
    let listed = models(
        json!({ "agents": { "defaults": { "models": { "openai/gpt-5.2": { "alias": "gpt" } } } } }),
        &[],
    );
    assert_eq!(listed.permitted("gpt").unwrap().to_string(), "openai/gpt-5.2");
    assert!(listed.permitted("xai/grok-4").unwrap_err().to_string().contains("/model list"));
}

#[test]
fn config_wins_over_the_catalogue() {
    let config = json!({
        "models": { "providers": {
            "OpenAI": { "baseUrl": "http://127.0.0.1:9/v1/", "apiKey": "literal", "headers": { "X-Team": "a" },
                "models": [{ "id": "gpt-5.2", "contextWindow": 1000, "headers": { "X-Model": "b" } }] },
        } },
        "agents": { "defaults": { "models": { "openai/gpt-5.2": { "params": { "temperature": 0.1, "maxTokens": 5 } } } },
            "list": [{ "id": "main", "params": { "temperature": 0.9 } }] },
    });
    let all = models(config, &[]);
    let own = select(&all, "openai/gpt-5.2").unwrap();
    assert_eq!(own.endpoint.base_url, "http://127.0.0.1:9/v1");
    assert_eq!((own.model.context_window, own.model.max_tokens), (1000, 128_000));
    assert_eq!(own.endpoint.headers.keys().collect::<Vec<_>>(), ["X-Model", "X-Team"]);
    assert_eq!((own.params["temperature"].as_f64(), own.params["maxTokens"].as_u64()), (Some(0.9), Some(5)));
    let replaced = models(json!({ "models": { "mode": "replace" } }), &[]);
    assert_eq!(replaced.provider_ids(), ["demo"]);
}

#[test]
fn rows_have_the_fields_of_their_protocol() {
    let config = json!({ "agents": { "defaults": { "model": "openai/gpt-5.2", "models": { "openai/gpt-5.2": { "alias": "g" }, "demo/demo": {} } } } });
    let all = models(config, &[]);
    assert_eq!(
        all.rows(3, "default"),
        [
            json!({ "id": "gpt-5.2", "name": "GPT-5.2", "provider": "openai", "contextWindow": 400_000, "reasoning": true }),
            json!({ "id": "demo", "name": "Built-in demo (offline, not a language model)", "provider": "demo", "contextWindow": 32_000, "reasoning": false }),
        ]
    );
    let row = &all.rows(4, "default")[0];
    assert_eq!(
        (&row["available"], &row["unavailableReason"], &row["alias"]),
        (&json!(false), &json!("missing-auth"), &json!("g"))
    );
    let everything = models(json!({}), &[]).rows(4, "default");
    assert!(everything.len() > 20 && everything.iter().any(|r| r["provider"] == "groq"));
}
