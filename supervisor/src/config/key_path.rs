//! Names of places in the configuration: `agents.list[0].id` as people type it, `agents.list.0.id` as errors print it.

use serde_json::{Map, Value};
use std::fmt;
use thiserror::Error;

/// Longer than any real path; bounds work on input from a command line or the network.
const PATH_PARTS_MAX: usize = 64;
/// Highest list index that a write may create.
const INDEX_MAX: usize = 10_000;
/// Keys that would touch an object's prototype in the original; refused everywhere.
pub const FORBIDDEN_KEYS: [&str; 3] = ["__proto__", "constructor", "prototype"];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Key(String),
    Index(usize),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(pub Vec<Part>);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    #[error("Invalid path: {0}")]
    Malformed(String),
    #[error("Invalid path segment: {0}")]
    Forbidden(String),
}

impl KeyPath {
    /// Reads `a.b[0]["x.y"]`; a number after a dot is an index only where the value is a list.
    ///
    /// # Errors
    /// Empty parts, unclosed brackets, prototype keys, absurd lengths.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let malformed = || PathError::Malformed(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text.trim();
        let mut first = true;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (part, tail) = bracket(after).ok_or_else(malformed)?;
                parts.push(part);
                rest = tail;
            } else {
                let body = if first { rest } else { rest.strip_prefix('.').ok_or_else(malformed)? };
                let end = body.find(['.', '[']).unwrap_or(body.len());
                let (name, tail) = body.split_at_checked(end).ok_or_else(malformed)?;
                if name.is_empty() {
                    return Err(malformed());
                }
                parts.push(Part::Key(name.to_owned()));
                rest = tail;
            }
            first = false;
        }
        if parts.is_empty() || parts.len() > PATH_PARTS_MAX {
            return Err(malformed());
        }
        let forbidden = parts.iter().find_map(|part| match part {
            Part::Key(key) if FORBIDDEN_KEYS.contains(&key.as_str()) => Some(key.clone()),
            _ => None,
        });
        forbidden.map_or(Ok(Self(parts)), |key| Err(PathError::Forbidden(key)))
    }

    #[must_use]
    pub fn join(&self, part: Part) -> Self {
        let mut parts = self.0.clone();
        parts.push(part);
        Self(parts)
    }

    #[must_use]
    pub fn get<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(root, |value, part| match (part, value) {
            (Part::Key(key), Value::Object(map)) => map.get(key),
            (Part::Key(key), Value::Array(items)) => items.get(key.parse::<usize>().ok()?),
            (Part::Index(index), Value::Array(items)) => items.get(*index),
            _ => None,
        })
    }

    /// Writes a value, making the objects and lists on the way.
    ///
    /// # Errors
    /// The place where a list index is needed or too far, or something that is neither object nor list is in the way.
    pub fn set(&self, root: &mut Value, value: Value) -> Result<(), PathError> {
        let fail = || PathError::Malformed(self.to_string());
        let mut slot = root;
        for part in &self.0 {
            if slot.is_null() {
                let list = matches!(part, Part::Index(_));
                *slot = if list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
            }
            slot = match (part, slot) {
                (Part::Key(key), Value::Object(map)) => map.entry(key.clone()).or_insert(Value::Null),
                (Part::Key(key), Value::Array(items)) => {
                    item(items, key.parse().map_err(|_| fail())?).ok_or_else(fail)?
                }
                (Part::Index(index), Value::Array(items)) => item(items, *index).ok_or_else(fail)?,
                _ => return Err(fail()),
            };
        }
        *slot = value;
        Ok(())
    }

    /// Takes a value out; objects that became empty on the way up go too. False when there was nothing.
    pub fn remove(&self, root: &mut Value) -> bool {
        remove_at(&self.0, root)
    }
}

fn item(items: &mut Vec<Value>, index: usize) -> Option<&mut Value> {
    if index > INDEX_MAX || index > items.len() {
        return None;
    }
    if index == items.len() {
        items.push(Value::Null);
    }
    items.get_mut(index)
}

fn remove_at(parts: &[Part], value: &mut Value) -> bool {
    let Some((part, rest)) = parts.split_first() else { return false };
    match (part, value) {
        (Part::Key(key), Value::Object(map)) => {
            if rest.is_empty() {
                return map.shift_remove(key).is_some();
            }
            let Some(child) = map.get_mut(key) else { return false };
            let removed = remove_at(rest, child);
            if removed && child.as_object().is_some_and(Map::is_empty) {
                map.shift_remove(key);
            }
            removed
        }
        (part, Value::Array(items)) => {
            let index = match part {
                Part::Index(index) => Some(*index),
                Part::Key(key) => key.parse().ok(),
            };
            let Some(index) = index.filter(|index| *index < items.len()) else { return false };
            if rest.is_empty() {
                items.remove(index);
                return true;
            }
            items.get_mut(index).is_some_and(|child| remove_at(rest, child))
        }
        _ => false,
    }
}

fn bracket(after: &str) -> Option<(Part, &str)> {
    let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
    if let Some(quote) = quote {
        let (name, tail) = after.get(1..)?.split_once(quote)?;
        return Some((Part::Key(name.to_owned()), tail.strip_prefix(']')?));
    }
    let (name, tail) = after.split_once(']')?;
    let name = name.trim();
    if name.is_empty() {
        return None;
    }
    Some((name.parse().map_or_else(|_| Part::Key(name.to_owned()), Part::Index), tail))
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            match part {
                Part::Key(key) => f.write_str(key)?,
                Part::Index(index) => write!(f, "{index}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_dots_brackets_and_quotes() {
        for (text, shown) in [
            ("a.b", "a.b"),
            ("agents.list[0].id", "agents.list.0.id"),
            ("agents.defaults.models[\"a/b.c\"].alias", "agents.defaults.models.a/b.c.alias"),
            ("channels.telegram.groups[-100]", "channels.telegram.groups.-100"),
        ] {
            assert_eq!(KeyPath::parse(text).map(|path| path.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", ".", "a..b", "a[", "a[]", "[\"x]", "a.__proto__.b", "constructor"] {
            assert!(KeyPath::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sets_and_removes_with_what_is_on_the_way() {
        let mut root = json!({"keep": 1});
        let path = KeyPath::parse("a.b[0].c").expect("path");
        path.set(&mut root, json!(5)).expect("set");
        assert_eq!(root, json!({"keep": 1, "a": {"b": [{"c": 5}]}}));
        assert!(KeyPath::parse("a.b[7]").expect("path").set(&mut root, json!(1)).is_err());
        assert!(KeyPath::parse("keep.x").expect("path").set(&mut root, json!(1)).is_err());
        assert!(KeyPath::parse("a.b").expect("path").remove(&mut root));
        assert_eq!(root, json!({"keep": 1}));
        assert!(!path.remove(&mut root));
    }
}
