//! Defaults that the original fills in at load and shows in `config.get`. Never written to the file.

use serde_json::{Map, Value, json};

/// A copy with the defaults.
#[must_use]
pub fn apply(resolved: &Value) -> Value {
    let mut config = resolved.clone();
    let Some(root) = config.as_object_mut() else { return config };
    fill(section(root, "messages"), &json!({"ackReactionScope": "group-mentions"}));
    let commands = json!({"native": "auto", "nativeSkills": "auto", "restart": true, "ownerDisplay": "raw"});
    fill(section(root, "commands"), &commands);
    if let Some(agents) = section(root, "agents") {
        let agent_defaults = json!({"maxConcurrent": 4, "subagents": {"maxConcurrent": 8},
            "compaction": {"mode": "safeguard"}});
        fill(section(agents, "defaults"), &agent_defaults);
    }
    if root.contains_key("logging") {
        fill(section(root, "logging"), &json!({"redactSensitive": "tools"}));
    }
    if let Some(session) = root.get_mut("session").and_then(Value::as_object_mut)
        && session.contains_key("mainKey")
    {
        session.insert("mainKey".to_owned(), json!("main"));
    }
    let providers = root.get_mut("models").and_then(|models| models.get_mut("providers"));
    for (id, provider) in providers.and_then(Value::as_object_mut).into_iter().flatten() {
        model_entries(id, provider);
    }
    config
}

fn section<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    parent.entry(key.to_owned()).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Adds what is missing, into nested objects too.
fn fill(target: Option<&mut Map<String, Value>>, defaults: &Value) {
    let (Some(target), Some(defaults)) = (target, defaults.as_object()) else { return };
    for (key, default) in defaults {
        match target.get_mut(key) {
            None => {
                target.insert(key.clone(), default.clone());
            }
            Some(Value::Object(present)) => fill(Some(present), default),
            Some(_) => {}
        }
    }
}

fn model_entries(provider_id: &str, provider: &mut Value) {
    const CONTEXT_TOKENS_DEFAULT: u64 = 200_000;
    const OUTPUT_TOKENS_DEFAULT: u64 = 8_192;
    let Some(provider) = provider.as_object_mut() else { return };
    if provider_id == "anthropic" {
        provider.entry("api").or_insert_with(|| json!("anthropic-messages"));
    }
    let api = provider.get("api").cloned();
    for model in provider.get_mut("models").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(model) = model.as_object_mut() else { continue };
        let window = model.get("contextWindow").and_then(Value::as_u64).unwrap_or(CONTEXT_TOKENS_DEFAULT);
        let cost = json!({"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0});
        let rest = json!({"reasoning": false, "input": ["text"], "cost": cost, "contextWindow": window,
            "maxTokens": window.min(OUTPUT_TOKENS_DEFAULT)});
        fill(Some(model), &rest);
        if let Some(api) = &api {
            model.entry("api").or_insert_with(|| api.clone());
        }
    }
}
