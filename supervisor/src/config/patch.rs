//! Merge patches (`null` deletes, objects join, lists replace) and the difference between two configurations.

use super::key_path::FORBIDDEN_KEYS;
use serde_json::{Map, Value};

/// Applies a merge patch (RFC 7396) with one addition: a list of which every entry has a text `id` is joined by id;
/// unknown ids and entries without one are appended.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    match (&mut *target, patch) {
        (Value::Object(map), Value::Object(changes)) => {
            for (key, change) in changes.iter().filter(|(key, _)| !FORBIDDEN_KEYS.contains(&key.as_str())) {
                if change.is_null() {
                    map.shift_remove(key);
                } else {
                    let slot = map.entry(key.clone()).or_insert(Value::Null);
                    merge_patch(slot, change);
                }
            }
        }
        (Value::Array(items), Value::Array(changes)) if joins_by_id(items) => {
            for change in changes {
                match items.iter_mut().find(|item| id_of(change).is_some() && id_of(item) == id_of(change)) {
                    Some(item) => merge_patch(item, change),
                    None => items.push(without_nulls(change)),
                }
            }
        }
        (target, patch) => *target = without_nulls(patch),
    }
}

fn id_of(value: &Value) -> Option<&str> {
    value.get("id").and_then(Value::as_str)
}

fn joins_by_id(items: &[Value]) -> bool {
    !items.is_empty() && items.iter().all(|item| id_of(item).is_some())
}

/// A value put where nothing was: `null` inside objects deletes nothing and is not stored.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept =
                map.iter().filter(|(key, value)| !value.is_null() && !FORBIDDEN_KEYS.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

/// Dotted paths whose values differ: objects are compared inside, lists as a whole.
#[must_use]
pub fn changed_paths(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(before, after, "", &mut found);
    found
}

fn collect(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    if before == after {
        return;
    }
    let empty = Map::new();
    let inside = |value: &Value| value.is_object() || value.is_null();
    let both = inside(before) && inside(after) && !(before.is_null() && after.is_null());
    if !both {
        found.push(path.to_owned());
        return;
    }
    let (old, new) = (before.as_object().unwrap_or(&empty), after.as_object().unwrap_or(&empty));
    let start = found.len();
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    for key in keys {
        let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(a), Some(b)) => collect(a, b, &at, found),
            (Some(only), None) => collect(only, &Value::Null, &at, found),
            (None, Some(only)) => collect(&Value::Null, only, &at, found),
            (None, None) => {}
        }
    }
    if found.len() == start {
        found.push(path.to_owned());
    }
}

/// At most eight paths and how many more there are, for a log line.
#[must_use]
pub fn summary(paths: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    let shown = paths.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(",");
    match paths.len().saturating_sub(SHOWN_MAX) {
        0 => shown,
        more => format!("{shown},+{more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_rules() {
        let rows = [
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": null, "d": 3}}),
                json!({"a": {"c": 2, "d": 3}}),
            ),
            (json!({"l": [1, 2]}), json!({"l": [3]}), json!({"l": [3]})),
            (json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            (
                json!({"l": [{"id": "a", "x": 1, "y": 1}, {"id": "b"}]}),
                json!({"l": [{"id": "a", "x": 2, "y": null}, {"id": "c"}, {"name": "n"}]}),
                json!({"l": [{"id": "a", "x": 2}, {"id": "b"}, {"id": "c"}, {"name": "n"}]}),
            ),
            (json!({"l": [{"id": "a"}, {"x": 1}]}), json!({"l": [{"id": "z"}]}), json!({"l": [{"id": "z"}]})),
            (json!({}), json!({"__proto__": {"x": 1}, "ok": 1}), json!({"ok": 1})),
            (json!({"keep": 1}), json!({"gone": null}), json!({"keep": 1})),
        ];
        for (mut target, patch, wanted) in rows {
            merge_patch(&mut target, &patch);
            assert_eq!(target, wanted, "{patch}");
        }
    }

    #[test]
    fn differences_go_into_objects_and_stop_at_lists() {
        let before = json!({"a": {"b": 1, "c": 1}, "l": [1], "gone": {"x": 1}, "empty": {}});
        let after = json!({"a": {"b": 2, "c": 1}, "l": [2], "new": {"y": {"z": 1}}});
        let paths = changed_paths(&before, &after);
        assert_eq!(paths, ["a.b", "l", "gone.x", "empty", "new.y.z"]);
        assert_eq!(changed_paths(&before, &before), [""; 0]);
        let many: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(summary(&many), "0,1,2,3,4,5,6,7,+2 more");
    }

    proptest::proptest! {
        #[test]
        fn a_patch_changes_only_what_it_names(a in 0..9u8, b in 0..9u8, c in 0..9u8) {
            let before = json!({"x": {"a": a, "b": b}, "y": c});
            let mut after = before.clone();
            merge_patch(&mut after, &json!({"x": {"a": c}}));
            let wanted: Vec<String> = if a == c { vec![] } else { vec!["x.a".to_owned()] };
            proptest::prop_assert_eq!(changed_paths(&before, &after), wanted);
        }
    }
}
