//! Rules between values that types cannot say: who may be reached by whom, what must be unique, what is missing.

use super::issue::Issue;
use super::syntax::Node;
use proto::view::normalize_agent_id;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything a rule may look at.
pub struct Checked<'a> {
    pub root: &'a Node,
    pub value: &'a Value,
    pub files: &'a [PathBuf],
}

/// Issues refuse the file, warnings do not.
#[derive(Default)]
pub struct Found {
    pub issues: Vec<Issue>,
    pub warnings: Vec<Issue>,
}

/// Applies every rule to a tree whose keys and types are right.
#[must_use]
pub fn check(input: &Checked<'_>) -> Found {
    let mut found = Found::default();
    input.agents(&mut found);
    input.bindings(&mut found);
    input.channels(&mut found);
    input.gateway(&mut found);
    input.hooks(&mut found);
    input.loop_detection(&mut found);
    if let Some(key) = input.text("session.mainKey").filter(|key| *key != "main") {
        found.warnings.push(
            input.place(
                "session.mainKey",
                format!("\"{key}\" is ignored; the main session is always \"main\""),
            ),
        );
    }
    found
}

impl<'a> Checked<'a> {
    fn get(&self, path: &str) -> Option<&'a Value> {
        path.split('.').try_fold(self.value, |value, part| match value {
            Value::Object(map) => map.get(part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
    }

    fn text(&self, path: &str) -> Option<&'a str> {
        self.get(path).and_then(Value::as_str)
    }

    fn whole(&self, path: &str) -> Option<i64> {
        self.get(path).and_then(Value::as_i64)
    }

    fn place(&self, path: &str, message: impl Into<String>) -> Issue {
        Issue::new(path, message).at(self.root.position(path), self.files)
    }

    fn agents(&self, found: &mut Found) {
        let (mut ids, mut dirs, mut rooms) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut defaults = 0;
        let rows: Vec<(String, String, &Value)> = match (self.get("agents.list"), self.get("agents.entries"))
        {
            (Some(Value::Array(items)), _) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let id = item.get("id").and_then(Value::as_str).unwrap_or("").to_owned();
                    (format!("agents.list.{index}"), id, item)
                })
                .collect(),
            (_, Some(Value::Object(map))) => {
                map.iter().map(|(id, item)| (format!("agents.entries.{id}"), id.clone(), item)).collect()
            }
            _ => Vec::new(),
        };
        for (path, raw_id, item) in rows {
            let id_path = format!("{path}.id");
            if raw_id.trim().is_empty() {
                found.issues.push(self.place(&path, "every agent needs an \"id\""));
                continue;
            }
            let id = normalize_agent_id(&raw_id);
            if id != raw_id {
                found
                    .warnings
                    .push(self.place(&id_path, format!("agent id \"{raw_id}\" is read as \"{id}\"")));
            }
            if let Some(first) = ids.insert(id.clone(), path.clone()) {
                found
                    .issues
                    .push(self.place(&id_path, format!("agent id \"{id}\" is used twice (also at {first})")));
            }
            defaults += usize::from(item.get("default") == Some(&Value::Bool(true)));
            if let Some(dir) = item.get("agentDir").and_then(Value::as_str)
                && let Some(first) = dirs.insert(dir.to_owned(), id.clone())
            {
                let message = format!(
                    "Duplicate agentDir: \"{dir}\" is used by agents \"{first}\" and \"{id}\"; each agent needs its own"
                );
                found.issues.push(self.place(&format!("{path}.agentDir"), message));
            }
            if let Some(room) = item.get("workspace").and_then(Value::as_str)
                && let Some(first) = rooms.insert(room.to_owned(), id.clone())
            {
                let message = format!("agents \"{first}\" and \"{id}\" share the workspace {room}");
                found.warnings.push(self.place(&format!("{path}.workspace"), message));
            }
        }
        if defaults > 1 {
            found
                .warnings
                .push(self.place("agents.list", "more than one agent says default: true; the first counts"));
        }
    }

    fn bindings(&self, found: &mut Found) {
        let view = proto::view::ConfigView::from_value(self.value);
        let rows = self.get("bindings").and_then(Value::as_array).map_or(0, Vec::len);
        for index in 0..rows {
            let path = format!("bindings.{index}");
            let agent = self.text(&format!("{path}.agentId")).unwrap_or("");
            if agent.is_empty() {
                found.issues.push(self.place(&path, "a binding needs an \"agentId\""));
            } else if !view.agents.contains(&normalize_agent_id(agent)) {
                let message =
                    format!("agent \"{agent}\" is not in agents.list; the default agent answers instead");
                found.warnings.push(self.place(&format!("{path}.agentId"), message));
            }
            if self.text(&format!("{path}.match.channel")).is_none_or(|channel| channel.trim().is_empty()) {
                found.issues.push(self.place(&path, "a binding needs \"match.channel\""));
            }
        }
    }

    fn channels(&self, found: &mut Found) {
        let channels = self.get("channels").and_then(Value::as_object);
        for (id, channel) in channels.into_iter().flatten() {
            self.open_policy(&format!("channels.{id}"), channel, None, found);
            self.open_policy(
                &format!("channels.{id}.dm"),
                channel.get("dm").unwrap_or(&Value::Null),
                None,
                found,
            );
            let accounts = channel.get("accounts").and_then(Value::as_object);
            for (name, account) in accounts.into_iter().flatten() {
                self.open_policy(&format!("channels.{id}.accounts.{name}"), account, Some(channel), found);
            }
        }
        self.telegram_tokens(found);
    }

    /// `dmPolicy: "open"` lets everybody in, so the list must say so too.
    fn open_policy(&self, path: &str, account: &Value, channel: Option<&Value>, found: &mut Found) {
        for key in ["dmPolicy", "policy"] {
            if account.get(key).and_then(Value::as_str) != Some("open")
                || (key == "policy" && !path.ends_with(".dm"))
            {
                continue;
            }
            let list =
                account.get("allowFrom").or_else(|| channel.and_then(|channel| channel.get("allowFrom")));
            let everybody =
                list.and_then(Value::as_array).is_some_and(|list| list.iter().any(|item| item == "*"));
            if !everybody {
                let message = format!("{path}.{key}=\"open\" requires {path}.allowFrom to include \"*\"");
                let fix = format!(
                    "openclaw config set {path}.allowFrom '[\"*\"]', or openclaw config set {path}.{key} \"pairing\""
                );
                found.issues.push(self.place(&format!("{path}.{key}"), message).hint(fix));
            }
        }
    }

    /// Two pollers of one bot steal each other's messages.
    fn telegram_tokens(&self, found: &mut Found) {
        let base = "channels.telegram";
        let accounts = self.get(&format!("{base}.accounts")).and_then(Value::as_object);
        let mut places: Vec<(String, String)> = accounts
            .into_iter()
            .flatten()
            .map(|(id, _)| (id.clone(), format!("{base}.accounts.{id}.botToken")))
            .collect();
        places.push(("default".to_owned(), format!("{base}.botToken")));
        let mut seen: BTreeMap<&str, String> = BTreeMap::new();
        for (id, path) in places {
            let Some(token) = self.text(&path).map(str::trim).filter(|token| !token.is_empty()) else {
                continue;
            };
            if super::substitute::is_reference(token) {
                continue;
            }
            match seen.get(token) {
                Some(first) if *first != id => {
                    let message = format!(
                        "the same bot token is used by accounts \"{first}\" and \"{id}\"; one bot can serve one account"
                    );
                    found.issues.push(self.place(&path, message));
                }
                _ => {
                    seen.insert(token, id);
                }
            }
        }
    }

    fn gateway(&self, found: &mut Found) {
        for (path, low, high) in [
            ("gateway.port", 1, 65_535),
            ("gateway.reload.debounceMs", 0, 3_600_000),
            ("gateway.reload.settleSeconds", 0, 3_600),
            ("gateway.limits.maxConnections", 1, 1_000_000),
            ("gateway.limits.maxRuns", 1, 1_000_000),
            ("agents.defaults.maxConcurrent", 1, 1_000_000),
            ("agents.defaults.timeoutSeconds", 1, 31_536_000),
            ("agents.defaults.retry.maxRetries", 0, 100),
            ("session.reset.atHour", 0, 23),
            ("logging.maxFileBytes", 1, i64::MAX),
        ] {
            if let Some(value) = self.whole(path).filter(|value| *value < low || *value > high) {
                let range = if high == i64::MAX {
                    format!("at least {low}")
                } else {
                    format!("between {low} and {high}")
                };
                found.issues.push(self.place(path, format!("expected a number {range}, got {value}")));
            }
        }
        for secret in ["gateway.auth.token", "gateway.auth.password"] {
            if let Some(text) = self.text(secret).filter(|text| super::substitute::is_reference(text.trim()))
            {
                let name = text.trim().trim_start_matches("${").trim_end_matches('}');
                let message = format!("Missing env var \"{name}\" referenced at config path: {secret}");
                found.issues.push(self.place(secret, message).hint(format!("set {name}, or remove the key")));
            }
        }
        if self.get("gateway.tls.enabled") == Some(&Value::Bool(true)) {
            let message = "TLS in the gateway is not built yet, and serving without it would be worse than not starting";
            found.issues.push(
                self.place("gateway.tls.enabled", message).hint("set it false and put a TLS proxy in front"),
            );
        }
    }

    fn hooks(&self, found: &mut Found) {
        if self.get("hooks.enabled") != Some(&Value::Bool(true)) {
            return;
        }
        if self.text("hooks.token").is_none_or(|token| token.trim().is_empty())
            && self.get("hooks.token").is_none_or(Value::is_string)
        {
            found.issues.push(self.place("hooks", "hooks.enabled requires hooks.token"));
        }
        if self.text("hooks.path").is_some_and(|path| path.trim().trim_matches('/').is_empty()) {
            found.issues.push(self.place("hooks.path", "hooks.path may not be '/'"));
        }
        let prefixes = self
            .get("hooks.allowedSessionKeyPrefixes")
            .and_then(Value::as_array)
            .filter(|list| !list.is_empty());
        let Some(prefixes) = prefixes else { return };
        let allows = |key: &str| {
            let key = key.trim().to_ascii_lowercase();
            prefixes
                .iter()
                .filter_map(Value::as_str)
                .any(|prefix| key.starts_with(&prefix.trim().to_ascii_lowercase()))
        };
        let message = match self.text("hooks.defaultSessionKey") {
            Some(key) if !allows(key) => "hooks.defaultSessionKey must match hooks.allowedSessionKeyPrefixes",
            None if !allows("hook:") => {
                "hooks.allowedSessionKeyPrefixes must include 'hook:' when hooks.defaultSessionKey is unset"
            }
            _ => return,
        };
        found.issues.push(self.place("hooks.allowedSessionKeyPrefixes", message));
    }

    fn loop_detection(&self, found: &mut Found) {
        let base = "tools.loopDetection";
        let limit = |key: &str, default: i64| self.whole(&format!("{base}.{key}")).unwrap_or(default);
        let warning = limit("warningThreshold", 10);
        let critical = limit("criticalThreshold", 20);
        let breaker = limit("globalCircuitBreakerThreshold", 30);
        if self.get(base).is_some() && !(warning < critical && critical < breaker) {
            let message = format!(
                "warningThreshold ({warning}) < criticalThreshold ({critical}) < globalCircuitBreakerThreshold ({breaker}) must hold"
            );
            found.issues.push(self.place(base, message));
        }
    }
}
