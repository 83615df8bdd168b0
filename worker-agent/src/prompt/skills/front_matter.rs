//! The head of a `SKILL.md`: YAML-like lines between two `---`, with `metadata` as JSON on one line or several. PURE.
//! Not a YAML parser: nested maps other than `metadata` are not read.

use std::path::Path;

use serde_json::{Map, Value};

use super::Skill;

/// The skill that a file describes; None without a name and a description.
pub fn parse(text: &str, file: &Path) -> Option<Skill> {
    let fields = fields(text.trim_start_matches('\u{feff}'))?;
    let field = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let flag = |name: &str, default: bool| match field(name) {
        Some("true" | "yes" | "on") => true,
        Some("false" | "no" | "off") => false,
        _ => default,
    };
    let meta = field("metadata").and_then(metadata).unwrap_or_default();
    Some(Skill {
        name: field("name")?.to_owned(),
        description: field("description")?.to_owned(),
        homepage: field("homepage")
            .or_else(|| meta.get("homepage").and_then(Value::as_str))
            .map(str::to_owned),
        user_invocable: flag("user-invocable", true),
        hidden: flag("disable-model-invocation", false),
        meta,
        source: None,
        file: file.to_owned(),
    })
}

fn fields(text: &str) -> Option<std::collections::BTreeMap<String, String>> {
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut fields = std::collections::BTreeMap::new();
    let mut key: Option<String> = None;
    for line in lines {
        if line.trim_end() == "---" {
            return Some(fields);
        }
        if line.starts_with([' ', '\t']) || line.starts_with(['{', '}']) {
            if let Some(value) = key.as_ref().and_then(|key: &String| fields.get_mut(key)) {
                let value: &mut String = value;
                if !value.is_empty() {
                    value.push(' ');
                }
                value.push_str(line.trim());
            }
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        // `>` and `|` announce that the text follows on indented lines.
        let value = if matches!(value, ">" | "|" | ">-" | "|-") { "" } else { unquoted(value) };
        key = Some(name.trim().to_owned());
        fields.insert(name.trim().to_owned(), value.to_owned());
    }
    None
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

/// `metadata.openclaw` (or its older name), from JSON that may have trailing commas.
fn metadata(text: &str) -> Option<Map<String, Value>> {
    let value: Value = serde_json::from_str(&without_trailing_commas(text)).ok()?;
    ["openclaw", "clawdbot"].iter().find_map(|name| value.get(*name)?.as_object().cloned())
}

fn without_trailing_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for (at, char) in text.char_indices() {
        if in_string {
            in_string = escaped || char != '"';
            escaped = !escaped && char == '\\';
        } else if char == '"' {
            in_string = true;
        } else if char == ',' {
            let next = text.get(at + 1..).and_then(|rest| rest.trim_start().chars().next());
            if matches!(next, Some('}' | ']')) {
                continue;
            }
        }
        out.push(char);
    }
    out
}
