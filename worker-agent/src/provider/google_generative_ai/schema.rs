//! JSON schemas in the words that the Gemini API knows: it answers 400 to some of the others and counts the rest as
//! prompt. Pure.

use serde_json::{Map, Value, json};

/// Keywords of JSON schema that are kept ("Structured output", "JSON schema support").
const KEPT: [&str; 17] = [
    "type",
    "title",
    "description",
    "enum",
    "format",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "anyOf",
    "oneOf",
    "properties",
    "additionalProperties",
    "required",
    "$ref",
];
/// Deeper schemas are cut off: no tool nests as far, and it bounds the recursion.
const DEPTH_MAX: usize = 24;

/// The schema without what the API does not know. A `const` becomes an `enum` of one.
pub fn known(schema: &Value) -> Value {
    at_depth(schema, 0)
}

fn at_depth(schema: &Value, depth: usize) -> Value {
    let Some(fields) = schema.as_object() else { return schema.clone() };
    if depth >= DEPTH_MAX {
        return json!({});
    }
    let inner = |value: &Value| at_depth(value, depth.saturating_add(1));
    let mut out = Map::new();
    for (key, value) in fields {
        let kept = match (key.as_str(), value) {
            // The names below are the tool's own, not keywords.
            ("properties" | "$defs", Value::Object(named)) => {
                Value::Object(named.iter().map(|(name, schema)| (name.clone(), inner(schema))).collect())
            }
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(list)) => list.iter().map(inner).collect(),
            ("items" | "additionalProperties", _) => inner(value),
            ("const", _) if !fields.contains_key("enum") => {
                out.insert("enum".to_owned(), json!([value]));
                continue;
            }
            (key, _) if KEPT.contains(&key) => value.clone(),
            _ => continue,
        };
        out.insert(key.clone(), kept);
    }
    Value::Object(out)
}
