//! Changing a file's text so that it says something else, with as much of its layout and comments as can be kept.

use super::syntax::{Kind, Member, Node, parse};
use serde_json::{Map, Value};
use std::ops::Range;

/// Single changes before the whole file is written anew.
const EDITS_MAX: usize = 256;

/// A text that reads as `target`: the old one with the differing places changed where that works, else printed anew
/// (two spaces, final newline).
#[must_use]
pub fn rewrite(text: &str, target: &Value) -> String {
    edited(text, target).unwrap_or_else(|| printed(target))
}

/// JSON with two spaces and a final newline.
#[must_use]
pub fn printed(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

fn edited(text: &str, target: &Value) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..EDITS_MAX {
        let tree = parse(&text).ok()?;
        if tree.to_value() == *target {
            return Some(text);
        }
        let (range, replacement) = next_edit(&text, &tree, target)?;
        if text.get(range.clone()) == Some(replacement.as_str()) {
            return None;
        }
        text.replace_range(range, &replacement);
    }
    None
}

/// The first difference, as one replacement.
fn next_edit(text: &str, node: &Node, target: &Value) -> Option<(Range<usize>, String)> {
    let (Kind::Object(members), Value::Object(wanted)) = (&node.kind, target) else {
        let indent = line_indent(text, node.span.start);
        return Some((node.span.clone(), rendered(target, &indent)));
    };
    for (index, member) in members.iter().enumerate() {
        let repeated = members.iter().skip(index + 1).any(|later| later.key == member.key);
        match wanted.get(&member.key) {
            None => return Some(deletion(text, members, index)),
            Some(_) if repeated => return Some(deletion(text, members, index)),
            Some(value) if member.value.to_value() != *value => return next_edit(text, &member.value, value),
            Some(_) => {}
        }
    }
    let (key, value) = wanted.iter().find(|(key, _)| !members.iter().any(|member| member.key == **key))?;
    Some(insertion(text, node, members, key, value, wanted))
}

fn line_indent(text: &str, at: usize) -> String {
    let start = text.get(..at).and_then(|head| head.rfind('\n')).map_or(0, |index| index + 1);
    text.get(start..at).unwrap_or("").chars().take_while(|c| *c == ' ' || *c == '\t').collect()
}

fn rendered(value: &Value, indent: &str) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.replace('\n', &format!("\n{indent}"))
}

/// The member, its comma, and its line when nothing else stands on it.
fn deletion(text: &str, members: &[Member], index: usize) -> (Range<usize>, String) {
    let Some(member) = members.get(index) else { return (0..0, String::new()) };
    let (mut start, mut end) = (member.key_span.start, member.value.span.end);
    let after = text.get(end..).unwrap_or("");
    let blank = after.len() - after.trim_start().len();
    if after.trim_start().starts_with(',') {
        end += blank + 1;
    } else {
        let head = text.get(..start).unwrap_or("").trim_end();
        if head.ends_with(',') {
            start = head.len() - 1;
            return (start..end, String::new());
        }
    }
    let line_start = text.get(..start).and_then(|head| head.rfind('\n')).map_or(0, |at| at + 1);
    let rest = text.get(end..).unwrap_or("");
    let line_rest = rest.find('\n').unwrap_or(rest.len());
    let alone = text.get(line_start..start).is_some_and(|head| head.trim().is_empty());
    if alone && rest.get(..line_rest).is_some_and(|tail| tail.trim().is_empty()) && line_rest < rest.len() {
        return (line_start..end + line_rest + 1, String::new());
    }
    (start..end, String::new())
}

fn insertion(
    text: &str,
    node: &Node,
    members: &[Member],
    key: &str,
    value: &Value,
    wanted: &Map<String, Value>,
) -> (Range<usize>, String) {
    let Some(last) = members.last() else {
        let indent = line_indent(text, node.span.start);
        return (node.span.clone(), rendered(&Value::Object(wanted.clone()), &indent));
    };
    let bare = members
        .iter()
        .all(|member| text.get(member.key_span.clone()).is_some_and(|key| !key.starts_with(['"', '\''])));
    let name = if bare && is_identifier(key) { key.to_owned() } else { Value::from(key).to_string() };
    let own_line = text.get(node.span.start..last.key_span.start).is_some_and(|head| {
        head.rsplit('\n').next().is_some_and(|line| line.trim().is_empty()) && head.contains('\n')
    });
    let end = last.value.span.end;
    if !own_line {
        let trailing = text.get(end..).unwrap_or("").trim_start().starts_with(',');
        let entry = format!("{name}: {}", serde_json::to_string(value).unwrap_or_default());
        return if trailing {
            let comma = text.get(end..).and_then(|tail| tail.find(',')).map_or(end, |at| end + at + 1);
            (comma..comma, format!(" {entry},"))
        } else {
            (end..end, format!(", {entry}"))
        };
    }
    let indent = line_indent(text, last.key_span.start);
    let entry = format!("{indent}{name}: {}", rendered(value, &indent));
    let tail = text.get(end..).unwrap_or("");
    let line = tail.get(..tail.find('\n').unwrap_or(tail.len())).unwrap_or("");
    let (comma, note) = match line.trim_start().strip_prefix(',') {
        Some(note) => (true, note),
        None => (false, line),
    };
    let note_is_comment = note.trim().is_empty() || note.trim_start().starts_with("//");
    if note_is_comment {
        let closing = if comma { "," } else { "" };
        return (end..end + line.len(), format!(",{}\n{entry}{closing}", note.trim_end()));
    }
    (end..end, format!(",\n{entry}"))
}

fn is_identifier(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn comments_and_layout_stay() {
        let text = "// head\n{\n  // the port\n  gateway: {\n    port: 1, // one\n    mode: 'local' // two\n  },\n  list: [1, 2], a: {b: 1},\n}\n";
        let rows = [
            (
                json!({"gateway": {"port": 2, "mode": "local"}, "list": [1, 2], "a": {"b": 1}}),
                "port: 2, // one",
            ),
            (
                json!({"gateway": {"port": 1, "mode": "local", "bind": "lan"}, "list": [1, 2], "a": {"b": 1}}),
                "mode: 'local', // two\n    bind: \"lan\"\n  },",
            ),
            (
                json!({"gateway": {"mode": "local"}, "list": [1, 2], "a": {"b": 1}}),
                "gateway: {\n     // one\n    mode: 'local' // two",
            ),
            (
                json!({"gateway": {"port": 1, "mode": "local"}, "list": [3], "a": {"b": 1, "c-d": null}}),
                "a: {b: 1, \"c-d\": null},",
            ),
            (json!({"list": [1, 2], "a": {}}), "// head\n{\n  // the port\n  list: [1, 2], a: {},\n}\n"),
        ];
        for (target, part) in rows {
            let out = rewrite(text, &target);
            assert_eq!(parse(&out).expect("json5").to_value(), target);
            assert!(
                out.contains(part) || out.replace("[1, 2]", "[\n    1,\n    2\n  ]").contains(part),
                "{out}"
            );
            assert!(out.starts_with("// head"), "{out}");
        }
    }

    #[test]
    fn strict_json_stays_strict_json() {
        let text = "{\n  \"a\": 1,\n  \"b\": 2\n}\n";
        for target in [json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2, "c": {"d": [1]}}), json!({})]
        {
            let out = rewrite(text, &target);
            assert_eq!(serde_json::from_str::<Value>(&out).ok(), Some(target), "{out}");
        }
        assert_eq!(rewrite("broken", &json!({"a": 1})), "{\n  \"a\": 1\n}\n");
        assert_eq!(rewrite("{}", &json!({"a": 1})), "{\n  \"a\": 1\n}");
    }

    proptest::proptest! {
        #[test]
        fn any_target_is_reached(keys in proptest::collection::btree_map("[a-d]{1,2}", 0..5u8, 0..6), more in proptest::collection::btree_map("[a-d]{1,2}", 0..5u8, 0..6), style in 0..3u8) {
            let value = |map: &std::collections::BTreeMap<String, u8>| json!({"x": map, "y": map.len(), "z": [map]});
            let text = match style {
                0 => value(&keys).to_string(),
                1 => printed(&value(&keys)),
                _ => printed(&value(&keys)).replace(": ", " /* c */: ").replace(",\n", ", // n\n"),
            };
            let out = rewrite(&text, &value(&more));
            proptest::prop_assert_eq!(parse(&out).expect("json5").to_value(), value(&more));
        }
    }
}
