//! What a model may change of the configuration through its tool `gateway`: a list of keys, everything else is for people.
//! A list of what is forbidden would be open for every key that is added later (advisory GHSA-cwj3-vqpp-pmxr).
//!
//! Not here: whether the sender is the owner (`rpc/agent_ask.rs`), and the writing.

use super::handle::ConfigHandle;
use super::patch::merge_patch;
use super::redact::restore;
use super::rpc::ConfigRpcError;
use super::syntax::parse;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Keys with everything below them; `*` is any one name. How an agent talks, thinks and looks, none that opens a door, runs
/// a program, reads a file or says where something is sent.
const ALLOWED: &[&str] = &[
    "agents.defaults.model",
    "agents.defaults.imageModel",
    "agents.defaults.thinkingDefault",
    "agents.defaults.verboseDefault",
    "agents.defaults.timeoutSeconds",
    "agents.defaults.maxConcurrent",
    "agents.defaults.bootstrapMaxChars",
    "agents.defaults.userTimezone",
    "agents.defaults.timeFormat",
    "agents.defaults.heartbeat.every",
    "agents.list.*.name",
    "agents.list.*.identity",
    "agents.list.*.model",
    "agents.list.*.heartbeat.every",
    "agents.list.*.groupChat.mentionPatterns",
    "messages.queue",
    "messages.responsePrefix",
    "messages.ackReaction",
    "messages.ackReactionScope",
    "messages.groupChat",
    "session.reset",
    "session.resetByType",
    "channels.*.streaming",
    "channels.*.textChunkLimit",
    "channels.*.groups.*.requireMention",
    "channels.*.accounts.*.streaming",
    "channels.*.accounts.*.groups.*.requireMention",
    "logging.level",
    "ui.assistant",
];

/// The parameters of `config.patch` or `config.apply` for a call of the tool, with the hash of the file that was looked at.
/// Blocks on the disk.
///
/// # Errors
/// A text that cannot be read, a file that is not valid, a key that a model may not change.
pub fn checked(handle: &ConfigHandle, method: &str, params: &Value) -> Result<Value, ConfigRpcError> {
    let before = handle.on_disk();
    if !before.is_valid() {
        return Err(ConfigRpcError::invalid("invalid config; a person has to mend the file first"));
    }
    let raw = params["raw"].as_str().unwrap_or_default();
    let written = parse(raw)?.to_value();
    if !written.is_object() {
        return Err(ConfigRpcError::invalid(format!("{method}: raw must be the text of an object")));
    }
    let mut after = if method == "config.patch" { before.parsed.clone() } else { json!({}) };
    merge_patch(&mut after, &written);
    restore(&mut after, &before.parsed)?;
    let refused = refused(&before.parsed, &after);
    if !refused.is_empty() {
        return Err(ConfigRpcError::invalid(format!(
            "{method}: this tool may not change {}; ask the owner to do it with `openclaw config set <key> <value>`",
            refused.join(", ")
        )));
    }
    let mut params = params.clone();
    let given = params["baseHash"].as_str().is_some_and(|hash| !hash.trim().is_empty());
    if !given {
        params["baseHash"] = json!(before.source.hash);
    }
    Ok(params)
}

/// Dotted paths of changed values that are not on the list.
fn refused(before: &Value, after: &Value) -> Vec<String> {
    let (old, new) = (leaves(before), leaves(after));
    let mut found: Vec<String> = Vec::new();
    for path in old.keys().chain(new.keys()) {
        let (was, is) = (old.get(path), new.get(path));
        let dotted = path.join(".");
        if was != is && !(may_change(path) && is.is_none_or(is_plain)) && !found.contains(&dotted) {
            found.push(dotted);
        }
    }
    found
}

/// A value says itself: it takes nothing from the environment, which holds secrets.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains("${"),
        Value::Array(items) => items.iter().all(is_plain),
        Value::Object(map) => map.iter().all(|(key, value)| !key.starts_with('$') && is_plain(value)),
        _ => true,
    }
}

fn may_change(path: &[String]) -> bool {
    // `$include` would bring in a file.
    let names = path.iter().any(|name| name.starts_with('$'));
    !names
        && path.first().is_none_or(|first| first != "meta")
        && ALLOWED.iter().any(|allowed| {
            let mut below = path.iter();
            allowed.split('.').all(|want| below.next().is_some_and(|name| want == "*" || want == name))
        })
}

/// Every value that is no object, by its path. Lists of entries with ids are taken apart by id, their order is a value.
fn leaves(value: &Value) -> BTreeMap<Vec<String>, Value> {
    let mut found = BTreeMap::new();
    collect(value, &mut Vec::new(), &mut found);
    found
}

fn collect(value: &Value, path: &mut Vec<String>, found: &mut BTreeMap<Vec<String>, Value>) {
    let mut below = |name: &str, value: &Value, found: &mut BTreeMap<Vec<String>, Value>| {
        path.push(name.to_owned());
        collect(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, v)| below(key, v, found)),
        Value::Array(items) => match ids(items) {
            Some(ids) => {
                items.iter().zip(&ids).for_each(|(item, id)| below(id, item, found));
                path.push("order".to_owned());
                found.insert(path.clone(), json!(ids));
                path.pop();
            }
            None => drop(found.insert(path.clone(), value.clone())),
        },
        _ => drop(found.insert(path.clone(), value.clone())),
    }
}

/// The ids of a list whose entries all have one of their own.
fn ids(items: &[Value]) -> Option<Vec<&str>> {
    let ids: Option<Vec<&str>> = items.iter().map(|item| item.get("id").and_then(Value::as_str)).collect();
    let mut seen = std::collections::BTreeSet::new();
    ids.filter(|ids| !ids.is_empty() && ids.iter().all(|id| *id != "order" && seen.insert(*id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(patch: Value) -> Vec<String> {
        let before = json!({
            "agents": {"list": [{"id": "main", "model": "a/b"}, {"id": "x.model"}], "defaults": {"workspace": "/w"}},
            "gateway": {"auth": {"token": "t"}},
        });
        let mut changed = before.clone();
        merge_patch(&mut changed, &patch);
        refused(&before, &changed)
    }

    #[test]
    fn only_listed_keys_may_change() {
        assert!(after(json!({})).is_empty());
        assert!(after(json!({"agents": {"defaults": {"model": {"primary": "a/c"}}}})).is_empty());
        assert!(after(json!({"agents": {"list": [{"id": "main", "model": "a/c"}]}})).is_empty());
        assert!(after(json!({"messages": {"queue": {"mode": "collect"}}})).is_empty());
        let rows = [
            (json!({"gateway": {"auth": {"mode": "none"}}}), "gateway.auth.mode"),
            (json!({"gateway": null}), "gateway.auth.token"),
            (json!({"agents": "x"}), "agents"),
            (
                json!({"agents": {"list": [{"id": "main", "tools": {"allow": ["*"]}}]}}),
                "agents.list.main.tools.allow",
            ),
            (json!({"agents": {"list": [{"id": "new"}]}}), "agents.list.order"),
            (
                json!({"agents": {"list": [{"id": "x.model", "tools": {"a": 1}}]}}),
                "agents.list.x.model.tools.a",
            ),
            (json!({"messages": {"responsePrefix": "${KEY}"}}), "messages.responsePrefix"),
            (json!({"messages": {"queue": {"$include": "/etc/x"}}}), "messages.queue.$include"),
            (json!({"channels": {"telegram": {"allowFrom": ["*"]}}}), "channels.telegram.allowFrom"),
        ];
        for (patch, path) in rows {
            let found = after(patch.clone());
            assert!(found.iter().any(|found| found == path), "{patch}: {found:?}");
        }
    }
}
