//! Keys that stand twice in one object: the later one counts, which is seldom what was meant.

use super::issue::Issue;
use super::syntax::{Kind, Node};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// More than anybody reads; a machine that writes such files writes many.
const SHOWN_MAX: usize = 20;

/// One warning for each, with both lines.
#[must_use]
pub fn duplicates(root: &Node, files: &[PathBuf]) -> Vec<Issue> {
    let mut found = Vec::new();
    walk(root, "", files, &mut found);
    found.truncate(SHOWN_MAX);
    found
}

fn walk(node: &Node, path: &str, files: &[PathBuf], found: &mut Vec<Issue>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match &node.kind {
        Kind::Object(members) => {
            let mut seen = BTreeMap::new();
            for member in members {
                if let Some(first) = seen.insert(member.key.as_str(), member.at.line) {
                    let message =
                        format!("stands twice (lines {first} and {}); the later one counts", member.at.line);
                    found.push(
                        Issue::new(below(&member.key), message).at(member.at, files).hint("remove one"),
                    );
                }
                walk(&member.value, &below(&member.key), files, found);
            }
        }
        Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &below(&index.to_string()), files, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, judge};
    use std::path::Path;

    #[test]
    fn both_lines_are_named_and_the_later_one_counts() {
        let text = "{\n gateway: {\n  port: 1,\n  port: 2,\n },\n}";
        let file = judge(Path::new("/c/openclaw.json"), text, &Environment::default());
        assert!(file.is_valid());
        assert_eq!(file.resolved["gateway"]["port"], 2);
        let warning = file.findings.warnings.first().map(ToString::to_string);
        let wanted =
            "openclaw.json:4:3 gateway.port: stands twice (lines 3 and 4); the later one counts (remove one)";
        assert_eq!(warning.as_deref(), Some(wanted));
    }
}
