//! The JSON Schema (draft-07) of the configuration and the hints for forms. Built from the list of known keys, with the
//! descriptions of the sections that are typed here and the parts that workers give of theirs.

use super::gateway::GatewayFile;
use super::isolation::IsolationFile;
use super::known::{Shape, shapes};
use super::logging::LoggingFile;
use super::reach::{is_built, reach};
use super::sensitive::is_sensitive;
use serde_json::{Map, Value, json};

/// `$schema` of the document.
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
/// Sections in the order in which forms show them.
const SECTION_ORDER: [&str; 13] = [
    "gateway",
    "agents",
    "models",
    "channels",
    "session",
    "messages",
    "tools",
    "commands",
    "bindings",
    "isolation",
    "hooks",
    "cron",
    "logging",
];

/// `{schema, uiHints, version, generatedAt}`.
#[must_use]
pub fn document(parts: &[(String, Value)], generated_at: &str) -> Value {
    let mut schema = full(parts);
    let mut hints = Map::new();
    collect_hints(&schema, "", &mut hints);
    if let Some(map) = schema.as_object_mut() {
        map.insert("$schema".to_owned(), json!(DRAFT));
        map.insert("title".to_owned(), json!("OpenClawConfig"));
    }
    json!({"schema": schema, "uiHints": hints, "version": env!("CARGO_PKG_VERSION"), "generatedAt": generated_at})
}

/// Keys, types and classes of all known keys, with every part laid over its place.
fn full(parts: &[(String, Value)]) -> Value {
    let mut schema = of_shape(&shapes(), "");
    let typed_here = [
        ("gateway", typed::<GatewayFile>()),
        ("isolation", typed::<IsolationFile>()),
        ("logging", typed::<LoggingFile>()),
    ];
    for (section, part) in typed_here {
        overlay_at(&mut schema, section, &part);
    }
    for (path, part) in parts {
        overlay_at(&mut schema, path, &inlined(part, &Value::Null, 0));
    }
    schema
}

/// The schema of a typed section with its definitions folded in.
fn typed<T: schemars::JsonSchema>() -> Value {
    let settings =
        schemars::generate::SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn of_shape(shape: &Shape, path: &str) -> Value {
    let mut node = annotations(path);
    if shape.is_anything() {
        return Value::Object(node);
    }
    let mut options: Vec<Map<String, Value>> = Vec::new();
    let mut scalar = |name: &str| options.push(map(json!({ "type": name })));
    for (allowed, name) in [
        (shape.string, "string"),
        (shape.number, "number"),
        (shape.integer && !shape.number, "integer"),
        (shape.boolean, "boolean"),
        (shape.null, "null"),
    ] {
        if allowed {
            scalar(name);
        }
    }
    let literals: Vec<Value> =
        shape.literals.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    if !literals.is_empty() && !shape.string {
        let strings = literals.iter().all(Value::is_string);
        let mut option = map(json!({ "enum": literals }));
        if strings {
            option.insert("type".to_owned(), json!("string"));
        }
        options.push(option);
    }
    if let Some(item) = &shape.item {
        options.push(map(json!({"type": "array", "items": of_shape(item, &below(path, "*"))})));
    }
    if shape.allows_object() {
        options.push(object(shape, path));
    }
    if options.len() == 1 {
        node.extend(options.pop().into_iter().flatten());
    } else {
        node.insert("anyOf".to_owned(), json!(options));
    }
    Value::Object(node)
}

fn object(shape: &Shape, path: &str) -> Map<String, Value> {
    let properties = shape.keys.iter().map(|(key, child)| (key.clone(), of_shape(child, &below(path, key))));
    let properties: Map<String, Value> = properties.collect();
    let more = match &shape.any_key {
        Some(child) => of_shape(child, &below(path, "*")),
        None => json!(shape.free_object),
    };
    let mut out = map(json!({"type": "object"}));
    if !properties.is_empty() {
        out.insert("properties".to_owned(), Value::Object(properties));
    }
    out.insert("additionalProperties".to_owned(), more);
    out
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// `x-class`: what a change restarts; `x-sensitive`; `x-built: false` where nothing reads the key yet.
fn annotations(path: &str) -> Map<String, Value> {
    let mut out = Map::new();
    if path.is_empty() {
        return out;
    }
    out.insert("x-class".to_owned(), json!(reach(path).class()));
    if is_sensitive(path) {
        out.insert("x-sensitive".to_owned(), json!(true));
    }
    if !is_built(path) {
        out.insert("x-built".to_owned(), json!(false));
    }
    out
}

/// A part with its `$ref`s to `$defs` (or `definitions`) folded in; a type that contains itself ends as "anything".
fn inlined(part: &Value, outer: &Value, depth: usize) -> Value {
    const DEPTH_LEVELS_MAX: usize = 24;
    match part {
        _ if depth > DEPTH_LEVELS_MAX => json!({}),
        Value::Object(keys) => {
            let own = keys.get("$defs").or_else(|| keys.get("definitions")).unwrap_or(outer);
            let name = keys.get("$ref").and_then(Value::as_str).and_then(|at| at.rsplit('/').next());
            let mut out = match name.and_then(|name| own.get(name)) {
                Some(target) => map(inlined(target, own, depth + 1)),
                None => Map::new(),
            };
            for (key, value) in keys
                .iter()
                .filter(|(key, _)| !["$defs", "definitions", "$ref", "$schema"].contains(&key.as_str()))
            {
                out.insert(key.clone(), inlined(value, own, depth + 1));
            }
            // `anyOf [T, null]` is how an optional T is written: what counts here are T's own keys.
            if let Some(first) =
                out.get("anyOf").and_then(Value::as_array).and_then(|all| all.first()).cloned()
            {
                for key in ["properties", "items", "additionalProperties", "description"] {
                    if let (None, Some(value)) = (out.get(key), first.get(key)) {
                        out.insert(key.to_owned(), value.clone());
                    }
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| inlined(item, outer, depth + 1)).collect())
        }
        other => other.clone(),
    }
}

/// Lays a part over the node at a path (`channels.telegram`, `agents.list.*`); places that do not exist are made.
fn overlay_at(schema: &mut Value, path: &str, part: &Value) {
    let mut node = schema;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        node = step_mut(node, key);
    }
    overlay(node, part);
}

fn step_mut<'a>(node: &'a mut Value, key: &str) -> &'a mut Value {
    if !node.is_object() {
        *node = json!({});
    }
    let direct = if key == "*" {
        ["items", "additionalProperties"]
            .into_iter()
            .find(|name| node.get(*name).is_some_and(Value::is_object))
    } else {
        None
    };
    match direct {
        Some(name) => &mut node[name],
        None if key == "*" => &mut node["additionalProperties"],
        None => {
            if !node.get("properties").is_some_and(Value::is_object) {
                node["properties"] = json!({});
            }
            &mut node["properties"][key]
        }
    }
}

/// Descriptions, limits and new properties come from the part; types and closedness of known nodes stay, since the
/// part may know fewer keys than the list.
fn overlay(node: &mut Value, part: &Value) {
    if !node.is_object() {
        *node = part.clone();
        return;
    }
    let Some(part) = part.as_object() else { return };
    for key in ["description", "minimum", "maximum", "default", "examples", "x-sensitive"] {
        if let Some(value) = part.get(key).filter(|value| !value.is_null()) {
            node[key] = value.clone();
        }
    }
    for (key, child) in part.get("properties").and_then(Value::as_object).into_iter().flatten() {
        overlay(step_mut(node, key), child);
    }
    for key in ["items", "additionalProperties"] {
        if let (Some(child), true) =
            (part.get(key).filter(|child| child.is_object()), node.get(key).is_some_and(Value::is_object))
        {
            overlay(&mut node[key], child);
        }
    }
}

/// Forms need a label for sections, a help text where there is a description, and to know what to hide.
fn collect_hints(node: &Value, path: &str, hints: &mut Map<String, Value>) {
    let section = !path.is_empty() && !path.contains('.');
    let description = node.get("description").and_then(Value::as_str);
    let sensitive = node.get("x-sensitive") == Some(&json!(true));
    if section || sensitive || description.is_some() {
        hints.insert(path.to_owned(), hint(path, node));
    }
    for (key, child) in children(node) {
        collect_hints(child, &below(path, key), hints);
    }
}

fn hint(path: &str, node: &Value) -> Value {
    let name = path.rsplit('.').next().unwrap_or(path);
    let mut out = map(json!({"label": label(name), "advanced": node.get("x-built") == Some(&json!(false))}));
    if let Some(help) = node.get("description").and_then(Value::as_str) {
        out.insert("help".to_owned(), json!(help));
    }
    if node.get("x-sensitive") == Some(&json!(true)) {
        out.insert("sensitive".to_owned(), json!(true));
    }
    if let Some(order) = SECTION_ORDER.iter().position(|section| *section == path) {
        out.insert("order".to_owned(), json!(order * 10 + 10));
    }
    Value::Object(out)
}

/// `maxFileBytes` → `Max File Bytes`.
fn label(name: &str) -> String {
    let mut out = String::new();
    for (index, c) in name.chars().enumerate() {
        if index == 0 {
            out.extend(c.to_uppercase());
        } else if c.is_uppercase() {
            out.push(' ');
            out.push(c);
        } else {
            out.push(c);
        }
    }
    out
}

/// Named children, items and values of maps (both as `*`), also inside alternatives.
fn children(node: &Value) -> Vec<(&str, &Value)> {
    let mut out: Vec<(&str, &Value)> = Vec::new();
    let alternatives = node.get("anyOf").and_then(Value::as_array);
    for option in std::iter::once(node).chain(alternatives.into_iter().flatten()) {
        let named = option.get("properties").and_then(Value::as_object);
        out.extend(named.into_iter().flatten().map(|(key, child)| (key.as_str(), child)));
        let rest = [option.get("items"), option.get("additionalProperties")];
        out.extend(rest.into_iter().flatten().filter(|child| child.is_object()).map(|child| ("*", child)));
    }
    out
}

/// `config.schema.lookup`: one node without its children, its hint, and a line per child.
#[must_use]
pub fn lookup(parts: &[(String, Value)], path: &str) -> Option<Value> {
    let schema = full(parts);
    let path = path.replace("[]", ".*").replace('[', ".").replace(']', "");
    let path = path.trim_matches('.');
    let mut node = &schema;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        let found = children(node);
        let exact = found.iter().find(|(name, _)| *name == key);
        node = exact.or_else(|| found.iter().find(|(name, _)| *name == "*")).map(|(_, child)| *child)?;
    }
    let listed: Vec<Value> =
        children(node).into_iter().map(|(key, child)| child_line(path, key, child)).collect();
    Some(json!({
        "path": path,
        "schema": bare(node),
        "reloadKind": reach(path).reload_kind(),
        "hint": hint(path, node),
        "hintPath": path,
        "children": listed,
    }))
}

fn child_line(path: &str, key: &str, child: &Value) -> Value {
    let at = below(path, key);
    json!({
        "key": key,
        "path": at,
        "type": child.get("type"),
        "required": false,
        "hasChildren": !children(child).is_empty(),
        "reloadKind": reach(&at).reload_kind(),
        "hint": hint(&at, child),
        "hintPath": at,
    })
}

fn bare(node: &Value) -> Value {
    let mut out = map(node.clone());
    out.remove("properties");
    out.remove("items");
    if out.get("additionalProperties").is_some_and(Value::is_object) {
        out.insert("additionalProperties".to_owned(), json!(true));
    }
    if let Some(options) = out.get_mut("anyOf").and_then(Value::as_array_mut) {
        for option in options {
            *option = bare(option);
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_covers_all_keys_with_classes_and_hides_secrets() {
        let part = json!({"properties": {"apiRoot": {"description": "Another server.", "x-class": "worker-channel"},
            "brandNew": {"type": "string"}}});
        let out = document(&[("channels.telegram".to_owned(), part)], "2026-01-01T00:00:00.000Z");
        assert_eq!(out["schema"]["title"], "OpenClawConfig");
        let port = &out["schema"]["properties"]["gateway"]["properties"]["port"];
        assert_eq!(
            (&port["type"], &port["maximum"], &port["x-class"]),
            (&json!("integer"), &json!(65535), &json!("rebind"))
        );
        assert!(port["description"].as_str().is_some_and(|text| text.contains("port")));
        let telegram = &out["schema"]["properties"]["channels"]["properties"]["telegram"]["properties"];
        assert_eq!(telegram["apiRoot"]["description"], "Another server.");
        assert_eq!(telegram["brandNew"]["type"], "string");
        let part = json!({"properties": {"agents": {"$defs": {"D": {"properties": {"workspace": {"description": "Home."}}}},
            "properties": {"defaults": {"anyOf": [{"$ref": "#/$defs/D"}, {"type": "null"}]}}}}});
        let out = document(&[(String::new(), part)], "");
        let defaults = &out["schema"]["properties"]["agents"]["properties"]["defaults"];
        assert_eq!(defaults["properties"]["workspace"]["description"], "Home.");
        let hints = &out["uiHints"];
        for path in
            ["gateway.auth.token", "models.providers.*.apiKey", "channels.telegram.accounts.*.botToken"]
        {
            assert_eq!(hints[path]["sensitive"], json!(true), "{path}");
        }
        assert_eq!(hints["gateway"]["label"], "Gateway");
        assert_eq!(out["schema"]["properties"]["browser"]["x-built"], json!(false));
    }

    #[test]
    fn lookups_show_one_level() {
        let port = lookup(&[], "gateway.port").expect("port");
        assert_eq!(
            (&port["reloadKind"], &port["children"], &port["hint"]["label"]),
            (&json!("restart"), &json!([]), &json!("Port"))
        );
        let root = lookup(&[], "").expect("root");
        assert!(
            root["children"].as_array().is_some_and(|all| all.len() > 40)
                && root["schema"].get("properties").is_none()
        );
        let agent = lookup(&[], "agents.list[0].identity").expect("agent");
        assert!(
            agent["children"].as_array().is_some_and(|all| all.iter().any(|child| child["key"] == "emoji"))
        );
        assert!(lookup(&[], "models.providers.any.apiKey").is_some());
        assert_eq!(lookup(&[], "gateway.nope"), None);
    }
}
