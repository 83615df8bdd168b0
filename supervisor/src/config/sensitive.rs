//! Which paths hold secrets, by name: what is never shown, logged, or handed to a worker that does not need it.

use serde_json::Value;

/// Key names that hold a secret, compared in lower case.
const ENDINGS: [&str; 9] = [
    "token",
    "password",
    "secret",
    "apikey",
    "api_key",
    "privatekey",
    "passphrase",
    "accesskey",
    "encryptkey",
];
/// Names that end like a secret and are none.
const HARMLESS: [&str; 14] = [
    "maxtokens",
    "maxoutputtokens",
    "maxinputtokens",
    "maxcompletiontokens",
    "contexttokens",
    "totaltokens",
    "tokencount",
    "tokenlimit",
    "tokenbudget",
    "reservetokens",
    "keeprecenttokens",
    "passwordfile",
    "tokenfile",
    "secretfile",
];

/// Whether the value at a dotted path is a secret. `*` and `[]` stand for any part.
#[must_use]
pub fn is_sensitive(path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    let named = parts.iter().rev().find(|part| part.parse::<usize>().is_err() && **part != "[]");
    let Some(name) = named.map(|part| part.to_ascii_lowercase()) else { return false };
    if HARMLESS.contains(&name.as_str()) {
        return false;
    }
    if ENDINGS.iter().any(|ending| name.ends_with(ending)) || name.starts_with("serviceaccount") {
        return true;
    }
    matches!(
        parts.as_slice(),
        ["env", "vars", _] | ["skills", "entries", _, "env", _] | ["models", "providers", _, "headers", _]
    ) || matches!(parts.as_slice(), ["env", key] if *key != "vars" && *key != "shellEnv")
        || is_server_setting(&parts)
}

/// Visits every value that is a secret and that something reads.
pub fn each(config: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    walk(config, "", visit);
}

fn walk(value: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if !path.is_empty() && is_sensitive(path) {
        if super::is_built(path) && super::reach(path) != super::Reach::None {
            visit(path, value);
        }
        return;
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, &below(key), visit)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| walk(value, &below(&index.to_string()), visit));
        }
        _ => {}
    }
}

/// Variables and headers of servers that we start or call for others.
fn is_server_setting(parts: &[&str]) -> bool {
    let Some((_, [.., group])) = parts.split_last() else { return false };
    matches!(
        parts.first().copied(),
        Some("mcp" | "secrets" | "plugins" | "nodeHost" | "hooks" | "diagnostics")
    ) && (*group == "env" || *group == "headers")
}

/// A whole object is hidden, not its parts (key files of service accounts).
#[must_use]
pub fn is_sensitive_object(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
    name.starts_with("serviceaccount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_name() {
        for path in [
            "gateway.auth.token",
            "gateway.auth.password",
            "models.providers.x.apiKey",
            "channels.telegram.accounts.a.botToken",
            "channels.slack.signingSecret",
            "oauth.providers.x.clientSecret",
            "hooks.token",
            "env.vars.FOO",
            "env.FOO",
            "skills.entries.x.env.KEY",
            "models.providers.x.headers.Authorization",
            "channels.googlechat.serviceAccount",
            "cron.webhookToken",
            "mcp.servers.x.env.KEY",
        ] {
            assert!(is_sensitive(path), "{path}");
        }
        for path in [
            "agents.defaults.maxTokens",
            "models.providers.x.models.0.maxTokens",
            "channels.telegram.tokenFile",
            "gateway.port",
            "agents.defaults.compaction.reserveTokens",
            "env.shellEnv",
            "session.parentForkMaxTokens",
            "",
        ] {
            assert!(!is_sensitive(path), "{path}");
        }
    }
}
