//! Readers that turn a value of the wrong type into the default instead of an error.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) fn read<T: DeserializeOwned + Default>(value: Value) -> T {
    serde_json::from_value(value).unwrap_or_default()
}

/// The readable items of a list.
pub(super) fn items<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(|item| serde_json::from_value(item.clone()).ok()).collect()
}

pub(super) fn field<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    input: D,
) -> Result<T, D::Error> {
    Value::deserialize(input).map(read)
}

/// A number stands for its digits, as people write ids without quotes.
pub(super) fn string_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    Ok(string_of(&Value::deserialize(input)?).unwrap_or_default())
}

pub(super) fn strings<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let value = Value::deserialize(input)?;
    Ok(value.as_array().into_iter().flatten().filter_map(string_of).collect())
}

/// `None` when the key is absent, so that an empty list keeps its own meaning.
pub(super) fn strings_or_absent<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let value = Value::deserialize(input)?;
    Ok(value.as_array().map(|list| list.iter().filter_map(string_of).collect()))
}

/// The readable entries of a map.
pub(super) fn map<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    input: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let Value::Object(entries) = Value::deserialize(input)? else { return Ok(BTreeMap::new()) };
    Ok(entries
        .into_iter()
        .filter_map(|(key, value)| Some((key, serde_json::from_value(value).ok()?)))
        .collect())
}
