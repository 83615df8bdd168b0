//! `${NAME}` in values: filled from the environment when read, put back when written.
//!
//! `NAME` is `[A-Z_][A-Z0-9_]*`; any other `${…}` is plain text; `$${NAME}` is the literal `${NAME}`. Keys are never
//! touched. A name without a value leaves its text in place, so that only who needs the value fails.

use super::environment::Environment;
use super::syntax::{Kind, Node, Position};
use serde_json::Value;

/// A reference that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub name: String,
    pub path: String,
    pub at: Position,
}

/// Fills every string of the tree; the result lists what had no value.
pub fn substitute(node: &mut Node, env: &Environment) -> Vec<Missing> {
    let mut missing = Vec::new();
    walk(node, "", env, &mut missing);
    missing
}

fn walk(node: &mut Node, path: &str, env: &Environment, missing: &mut Vec<Missing>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match &mut node.kind {
        Kind::Text(text) if text.contains("${") => {
            let (filled, names) = fill(text, |name| env.get(name).map(str::to_owned));
            *text = filled;
            let at = node.at;
            missing.extend(names.into_iter().map(|name| Missing { name, path: path.to_owned(), at }));
        }
        Kind::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, &below(&index.to_string()), env, missing);
            }
        }
        Kind::Object(members) => {
            for member in members {
                walk(&mut member.value, &below(&member.key), env, missing);
            }
        }
        _ => {}
    }
}

/// One text with its references filled, and the names that had no value.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> (String, Vec<String>) {
    let mut out = String::with_capacity(text.len());
    let mut missing = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let Some(name) = reference_at(from) else {
            out.push_str(before);
            out.push_str("${");
            rest = from.get(2..).unwrap_or("");
            continue;
        };
        let whole = from.get(..name.len() + 3).unwrap_or(from);
        rest = from.get(name.len() + 3..).unwrap_or("");
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str(whole);
            continue;
        }
        out.push_str(before);
        match value(name) {
            Some(value) => out.push_str(&value),
            None => {
                out.push_str(whole);
                missing.push(name.to_owned());
            }
        }
    }
    out.push_str(rest);
    (out, missing)
}

/// The name at the start of `${NAME}…`.
fn reference_at(text: &str) -> Option<&str> {
    let body = text.strip_prefix("${")?;
    let name = body.get(..body.find('}')?)?;
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_uppercase() || c == '_');
    let rest = chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (first && rest).then_some(name)
}

/// Whether a text is exactly one reference, as `"${NAME}"`.
#[must_use]
pub fn is_reference(text: &str) -> bool {
    reference_at(text).is_some_and(|name| name.len() + 3 == text.len())
}

/// Whether a text contains any reference.
#[must_use]
pub fn has_reference(text: &str) -> bool {
    text.match_indices("${").any(|(at, _)| text.get(at..).is_some_and(|tail| reference_at(tail).is_some()))
}

/// Puts references back into a tree that is about to be written: where the value is still what the reference stood
/// for, the file keeps the reference.
pub fn restore_references(candidate: &mut Value, authored: &Value, resolved: &Value) {
    match (&mut *candidate, authored, resolved) {
        (Value::String(text), Value::String(written), Value::String(meant))
            if text == meant && text != written && has_reference(written) =>
        {
            text.clone_from(written);
        }
        (Value::Object(map), Value::Object(written), Value::Object(meant)) => {
            for (key, value) in map {
                if let (Some(written), Some(meant)) = (written.get(key), meant.get(key)) {
                    restore_references(value, written, meant);
                }
            }
        }
        (Value::Array(items), Value::Array(written), Value::Array(meant)) if items.len() == written.len() => {
            for ((value, written), meant) in items.iter_mut().zip(written).zip(meant) {
                restore_references(value, written, meant);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn filled(text: &str) -> (String, Vec<String>) {
        fill(text, |name| (name == "A_1").then(|| "v${A_1}".to_owned()))
    }

    #[test]
    fn references_are_filled_once_and_only_in_the_documented_form() {
        for (text, wanted) in [
            ("x${A_1}y", "xv${A_1}y"),
            ("${a}", "${a}"),
            ("${1A}", "${1A}"),
            ("$${A_1}", "${A_1}"),
            ("${A_1", "${A_1"),
            ("${}${A_1}", "${}v${A_1}"),
            ("$A_1", "$A_1"),
        ] {
            assert_eq!(filled(text), (wanted.to_owned(), vec![]), "{text}");
        }
        assert_eq!(filled("a${NONE}b"), ("a${NONE}b".to_owned(), vec!["NONE".to_owned()]));
        assert!(
            is_reference("${A}")
                && !is_reference("x${A}")
                && has_reference("x${A}")
                && !has_reference("${a}")
        );
    }

    #[test]
    fn unchanged_values_are_written_back_as_references() {
        let authored = json!({"a": {"k": "${K}", "n": 1}, "l": ["${K}"], "changed": "${K}"});
        let resolved = json!({"a": {"k": "secret", "n": 1}, "l": ["secret"], "changed": "secret"});
        let mut candidate = json!({"a": {"k": "secret", "n": 2}, "l": ["secret"], "changed": "new"});
        restore_references(&mut candidate, &authored, &resolved);
        assert_eq!(candidate, json!({"a": {"k": "${K}", "n": 2}, "l": ["${K}"], "changed": "new"}));
    }

    proptest! {
        #[test]
        fn texts_without_references_are_untouched(text in "[a-z${} ]{0,30}") {
            prop_assert_eq!(filled(&text), (text, vec![]));
        }
    }
}
