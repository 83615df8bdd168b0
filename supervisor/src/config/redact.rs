//! Hiding secrets from readers, and putting them back when a reader writes what it was shown.
//!
//! In text, values are hidden by their place from the parser, never by searching for them: a short secret such as
//! `a` would destroy the file. Only comments are searched, for long secrets.

/// What stands for a hidden value; on a write it means "keep what is stored".
pub use proto::view::HIDDEN_SECRET as SENTINEL;

use super::sensitive::{is_sensitive, is_sensitive_object};
use super::substitute::has_reference;
use super::syntax::{Kind, Node};
use serde_json::Value;
use std::ops::Range;
use thiserror::Error;

/// Shorter secrets are not searched for in comments: they would match ordinary words.
const COMMENT_SECRET_CHARS_MIN: usize = 8;

/// A hidden value came back where nothing is stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Sentinel value \"{SENTINEL}\" in key {path} is not valid as real data")]
pub struct SentinelError {
    pub path: String,
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn hides_text(path: &str, text: &str) -> bool {
    is_sensitive(path) && !text.is_empty() && !has_reference(text)
}

/// A copy with every secret hidden.
#[must_use]
pub fn redact(value: &Value) -> Value {
    redact_at(value, "")
}

/// Like [`redact`], for the part of a configuration that stands at `path`.
#[must_use]
pub fn redact_at(value: &Value, path: &str) -> Value {
    match value {
        Value::String(text) if hides_text(path, text) => Value::from(SENTINEL),
        Value::Number(_) if is_sensitive(path) => Value::from(SENTINEL),
        Value::Object(map) if !map.is_empty() && is_sensitive_object(path) => Value::from(SENTINEL),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| (key.clone(), redact_at(value, &below(path, key))));
            Value::Object(pairs.collect())
        }
        Value::Array(items) => {
            let hidden = items.iter().enumerate();
            Value::Array(
                hidden.map(|(index, item)| redact_at(item, &below(path, &index.to_string()))).collect(),
            )
        }
        other => other.clone(),
    }
}

/// The text with every secret hidden, layout and comments kept.
#[must_use]
pub fn redact_text(text: &str, tree: &Node) -> String {
    let mut found = Tokens::default();
    found.collect(tree, "");
    let quoted = format!("\"{SENTINEL}\"");
    let mut out = String::with_capacity(text.len());
    let mut last = 0;
    for (span, hidden) in &found.tokens {
        let gap = text.get(last..span.start).unwrap_or("");
        out.push_str(&found.clean_comment(gap));
        out.push_str(if *hidden { &quoted } else { text.get(span.clone()).unwrap_or("") });
        last = span.end;
    }
    out.push_str(&found.clean_comment(text.get(last..).unwrap_or("")));
    out
}

/// Keys and scalar values in file order; what lies between is punctuation and comments.
#[derive(Default)]
struct Tokens {
    tokens: Vec<(Range<usize>, bool)>,
    secrets: Vec<String>,
}

impl Tokens {
    fn collect(&mut self, node: &Node, path: &str) {
        match &node.kind {
            Kind::Object(members) if members.is_empty() || !is_sensitive_object(path) => {
                for member in members {
                    self.tokens.push((member.key_span.clone(), false));
                    self.collect(&member.value, &below(path, &member.key));
                }
            }
            Kind::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.collect(item, &below(path, &index.to_string()));
                }
            }
            Kind::Text(text) => {
                let hidden = hides_text(path, text);
                if hidden && text.chars().count() >= COMMENT_SECRET_CHARS_MIN {
                    self.secrets.push(text.clone());
                }
                self.tokens.push((node.span.clone(), hidden));
            }
            Kind::Object(_) => self.tokens.push((node.span.clone(), true)),
            Kind::Number(_) => self.tokens.push((node.span.clone(), is_sensitive(path))),
            Kind::Null | Kind::Bool(_) => self.tokens.push((node.span.clone(), false)),
        }
    }

    fn clean_comment(&self, gap: &str) -> String {
        if !gap.contains('/') {
            return gap.to_owned();
        }
        self.secrets.iter().fold(gap.to_owned(), |gap, secret| gap.replace(secret.as_str(), SENTINEL))
    }
}

/// Puts stored values back where the candidate says "keep". Items of lists are matched by `id` where both have one,
/// else by place.
///
/// # Errors
/// A placeholder where nothing is stored, or as a part of a longer text.
pub fn restore(candidate: &mut Value, stored: &Value) -> Result<(), SentinelError> {
    restore_at(candidate, Some(stored), "")
}

fn restore_at(candidate: &mut Value, stored: Option<&Value>, path: &str) -> Result<(), SentinelError> {
    match candidate {
        Value::String(text) if text.contains(SENTINEL) => {
            *candidate = kept(text, stored, path)?.clone();
            Ok(())
        }
        Value::Object(map) => map.iter_mut().try_for_each(|(key, value)| {
            restore_at(value, stored.and_then(|stored| stored.get(key)), &below(path, key))
        }),
        Value::Array(items) => items.iter_mut().enumerate().try_for_each(|(index, item)| {
            let id = item.get("id").and_then(Value::as_str).map(str::to_owned);
            let from = stored_item(stored, index, id.as_deref());
            restore_at(item, from, &below(path, &index.to_string()))
        }),
        _ => Ok(()),
    }
}

fn kept<'a>(text: &str, stored: Option<&'a Value>, path: &str) -> Result<&'a Value, SentinelError> {
    let refused = || SentinelError { path: path.to_owned() };
    let value = stored.filter(|_| text == SENTINEL).ok_or_else(refused)?;
    if value.as_str().is_some_and(|stored| stored.contains(SENTINEL)) { Err(refused()) } else { Ok(value) }
}

fn stored_item<'a>(stored: Option<&'a Value>, index: usize, id: Option<&str>) -> Option<&'a Value> {
    let items = stored.and_then(Value::as_array)?;
    match id {
        Some(id) => items.iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id)),
        None => items.get(index),
    }
}

/// The same in text: layout and comments of what the client sent stay.
///
/// # Errors
/// As [`restore`].
pub fn restore_text(text: &str, tree: &Node, stored: &Value) -> Result<String, SentinelError> {
    let mut edits = Vec::new();
    restore_spans(tree, Some(stored), "", &mut edits)?;
    let mut out = String::with_capacity(text.len());
    let mut last = 0;
    for (span, value) in edits {
        out.push_str(text.get(last..span.start).unwrap_or(""));
        out.push_str(&value.to_string());
        last = span.end;
    }
    out.push_str(text.get(last..).unwrap_or(""));
    Ok(out)
}

fn restore_spans(
    node: &Node,
    stored: Option<&Value>,
    path: &str,
    edits: &mut Vec<(Range<usize>, Value)>,
) -> Result<(), SentinelError> {
    match &node.kind {
        Kind::Text(text) if text.contains(SENTINEL) => {
            edits.push((node.span.clone(), kept(text, stored, path)?.clone()));
            Ok(())
        }
        Kind::Object(members) => members.iter().try_for_each(|member| {
            let from = stored.and_then(|stored| stored.get(&member.key));
            restore_spans(&member.value, from, &below(path, &member.key), edits)
        }),
        Kind::List(items) => items.iter().enumerate().try_for_each(|(index, item)| {
            let id = item.get("id").map(Node::to_value);
            let from = stored_item(stored, index, id.as_ref().and_then(Value::as_str));
            restore_spans(item, from, &below(path, &index.to_string()), edits)
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
