//! JSON5 text to a tree that remembers where every key and value stands, so that a refusal names line and column
//! and an edit touches only what it changes.
//!
//! Not here: meaning. Error texts follow the `json5` package that people know (`JSON5: invalid character 'j' at 1:6`).

mod number;
mod scan;

use serde_json::{Map, Value};
use std::ops::Range;
use thiserror::Error;

/// Deeper nesting than any sane file; bounds the recursion of the reader.
pub const DEPTH_LEVELS_MAX: usize = 100;

/// Where a thing starts. `line` and `column` count from 1; a column is a UTF-16 unit, as editors count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Index into the list of files read: 0 is the main file, others are included ones.
    pub file: u16,
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Position,
    /// Bytes of the value in its own file.
    pub span: Range<usize>,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub key: String,
    pub at: Position,
    pub key_span: Range<usize>,
    pub value: Node,
}

/// The text is not JSON5.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("JSON5: {what} at {line}:{column}")]
pub struct SyntaxError {
    pub what: String,
    pub line: u32,
    pub column: u32,
}

/// Reads a whole text.
///
/// # Errors
/// The first place that is not JSON5, or a number that JSON cannot hold.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    parse_file(text, 0)
}

/// Like [`parse`], for the included file with this index.
///
/// # Errors
/// As [`parse`].
pub fn parse_file(text: &str, file: u16) -> Result<Node, SyntaxError> {
    scan::Scanner::new(text, file).document()
}

impl Node {
    /// Of a key that stands twice the later wins.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Kind::Object(members) => {
                let pairs = members.iter().map(|member| (member.key.clone(), member.value.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    #[must_use]
    pub fn members(&self) -> &[Member] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// The member that counts: the last with this key.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().rev().find(|member| member.key == key)
    }

    /// Where the deepest existing part of a dotted path stands: the key of a member, the value of a list's item.
    #[must_use]
    pub fn position(&self, path: &str) -> Position {
        let (mut node, mut at) = (self, self.at);
        for part in path.split('.') {
            if let Some(member) = node.member(part) {
                (node, at) = (&member.value, member.at);
            } else if let Kind::List(items) = &node.kind {
                let Some(item) = part.parse::<usize>().ok().and_then(|index| items.get(index)) else { break };
                (node, at) = (item, item.at);
            } else {
                break;
            }
        }
        at
    }

    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.member(key).map(|member| &member.value)
    }
}

#[cfg(test)]
mod tests;
