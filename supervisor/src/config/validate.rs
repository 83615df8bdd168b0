//! Strict validation by key and type: every issue with its place, and for an unknown key the name that was meant.
//!
//! Not here: rules between values (`check`), and whether a known key does anything yet (`reach`).

use super::issue::Issue;
use super::known::Shape;
use super::nearest::nearest;
use super::sensitive::is_sensitive;
use super::syntax::{Kind, Member, Node, Position};
use std::path::PathBuf;

/// More issues than anybody reads; the rest shows after the first are fixed.
const ISSUES_MAX: usize = 200;
/// Longest value that an error repeats.
const SHOWN_CHARS_MAX: usize = 40;
/// Keys that people put in the wrong place: where they belong.
const MISPLACED: [(&str, &str); 12] = [
    ("port", "gateway.port"),
    ("bind", "gateway.bind"),
    ("token", "gateway.auth.token"),
    ("model", "agents.defaults.model"),
    ("workspace", "agents.defaults.workspace"),
    ("gateway.token", "gateway.auth.token"),
    ("gateway.password", "gateway.auth.password"),
    ("gateway.host", "gateway.bind"),
    ("gateway.allowedOrigins", "gateway.controlUi.allowedOrigins"),
    ("agents.workspace", "agents.defaults.workspace"),
    ("agents.model", "agents.defaults.model"),
    ("channels.telegram.token", "channels.telegram.botToken"),
];

/// Where a tier is asked for that we know and do not offer.
const TIER_KEY: &str = "isolation.min";

struct Walk<'a> {
    files: &'a [PathBuf],
    ignored: &'a [String],
    issues: Vec<Issue>,
}

/// Checks a resolved tree. `ignored` are the paths of `compat.ignoreUnknown`.
#[must_use]
pub fn validate(root: &Node, shape: &Shape, files: &[PathBuf], ignored: &[String]) -> Vec<Issue> {
    let mut walk = Walk { files, ignored, issues: Vec::new() };
    walk.value(root, root.at, shape, "");
    walk.issues
}

impl Walk<'_> {
    fn report(&mut self, issue: Issue, at: Position) {
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(issue.at(at, self.files));
        }
    }

    /// `at` is the key of a member and the value itself in a list, so that the cursor lands on the line's start.
    fn value(&mut self, node: &Node, at: Position, shape: &Shape, path: &str) {
        if shape.is_anything() {
            return;
        }
        match &node.kind {
            Kind::Object(members) if shape.allows_object() => self.object(members, shape, path),
            Kind::List(items) if shape.item.is_some() => {
                let item_shape = shape.item.as_deref().unwrap_or(shape);
                for (index, item) in items.iter().enumerate() {
                    self.value(item, item.at, item_shape, &joined(path, &index.to_string()));
                }
            }
            kind if accepts(shape, kind) => {}
            kind => {
                let message = format!("expected {}, got {}", expected(shape), got(kind, is_sensitive(path)));
                let mut issue = Issue::new(path, message);
                if let (Kind::Text(text), Some(name)) = (kind, nearest_literal(shape, kind)) {
                    issue = issue.hint(format!("did you mean {name} instead of \"{text}\"?"));
                }
                if path == TIER_KEY && matches!(kind, Kind::Text(text) if text == "T1") {
                    issue = issue.hint("this gateway does not offer T1: \"T2\" is the strongest tier that a worker can reach");
                }
                self.report(issue, at);
            }
        }
    }

    fn object(&mut self, members: &[Member], shape: &Shape, path: &str) {
        for member in members {
            let below = joined(path, &member.key);
            match shape.child(&member.key) {
                Some(child) => self.value(&member.value, member.at, child, &below),
                None if shape.free_object || self.ignored.contains(&below) => {}
                None => {
                    let mut issue = Issue::new(path, format!("Unrecognized key: \"{}\"", member.key));
                    issue.unknown_key = Some(member.key.clone());
                    issue.hint = unknown_hint(&below, &member.key, shape);
                    self.report(issue, member.at);
                }
            }
        }
    }
}

fn unknown_hint(path: &str, key: &str, shape: &Shape) -> Option<String> {
    if path == "gateway.token" {
        return Some("Found \"gateway.token\" in config. Use \"gateway.auth.token\" instead.".to_owned());
    }
    if let Some((_, home)) = MISPLACED.iter().find(|(wrong, _)| *wrong == path) {
        return Some(format!("use \"{home}\" instead"));
    }
    if let Some(name) = nearest(key, shape.keys.keys().map(String::as_str)) {
        return Some(format!("did you mean \"{name}\"?"));
    }
    let mut names: Vec<&str> = shape.keys.keys().map(String::as_str).collect();
    names.truncate(9);
    let few = !names.is_empty() && shape.keys.len() <= names.len();
    few.then(|| format!("valid here: {}", names.join(", ")))
}

fn nearest_literal<'a>(shape: &'a Shape, kind: &Kind) -> Option<&'a str> {
    let Kind::Text(text) = kind else { return None };
    nearest(text, shape.literals.iter().map(String::as_str))
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn accepts(shape: &Shape, kind: &Kind) -> bool {
    let literal = |text: &str| shape.literals.iter().any(|known| known == text);
    match kind {
        Kind::Null => shape.null || literal("null"),
        Kind::Bool(flag) => shape.boolean || literal(&flag.to_string()),
        Kind::Text(text) => {
            shape.string
                || serde_json::to_string(text).is_ok_and(|quoted| literal(&quoted))
                || unresolved(shape, text)
        }
        Kind::Number(number) => {
            shape.number
                || (shape.integer && (number.is_i64() || number.is_u64()))
                || literal(&number.to_string())
        }
        Kind::List(_) | Kind::Object(_) => false,
    }
}

/// A `${NAME}` that stands for nothing yet is not a type error: its own warning says what is missing.
fn unresolved(shape: &Shape, text: &str) -> bool {
    !shape.literals.is_empty() && super::substitute::is_reference(text)
}

fn expected(shape: &Shape) -> String {
    let mut names: Vec<String> = Vec::new();
    for (allowed, name) in [
        (shape.string, "string"),
        (shape.number, "number"),
        (shape.integer && !shape.number, "integer"),
        (shape.boolean, "boolean"),
        (shape.allows_object(), "object"),
        (shape.item.is_some(), "list"),
        (shape.null, "null"),
    ] {
        if allowed {
            names.push(name.to_owned());
        }
    }
    if !shape.string && !shape.literals.is_empty() {
        let prefix = if shape.literals.len() > 1 { "one of " } else { "" };
        names.push(format!("{prefix}{}", shape.literals.join(", ")));
    }
    names.join(" or ")
}

fn got(kind: &Kind, secret: bool) -> String {
    match kind {
        Kind::Null => "null".to_owned(),
        Kind::Bool(flag) => flag.to_string(),
        Kind::Text(_) if secret => "a string".to_owned(),
        Kind::Number(_) if secret => "a number".to_owned(),
        Kind::Number(number) => number.to_string(),
        Kind::Text(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            let head: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{:?}…", head)
        }
        Kind::Text(text) => format!("{text:?}"),
        Kind::List(_) => "a list".to_owned(),
        Kind::Object(_) => "an object".to_owned(),
    }
}
