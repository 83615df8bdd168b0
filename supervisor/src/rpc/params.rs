//! Reading `params`: one field at a time, with the texts of the published schema's checker. Keys that a
//! method does not know are ignored.

use super::RpcError;
use serde_json::Value;

/// The params of one method.
pub struct Params<'a> {
    method: &'static str,
    value: &'a Value,
}

impl<'a> Params<'a> {
    /// Read `value` as the params of `method`.
    pub fn of(method: &'static str, value: &'a Value) -> Self {
        Self { method, value }
    }

    /// A refusal that names the method.
    pub fn refuse(&self, why: &str) -> RpcError {
        RpcError::invalid(format!("invalid {} params: {why}", self.method))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// A non-empty text that must be there.
    ///
    /// # Errors
    /// Missing, empty, or no text.
    pub fn required(&self, key: &str) -> Result<&'a str, RpcError> {
        match self.get(key) {
            None => Err(self.refuse(&format!("must have required property '{key}'"))),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
            Some(Value::String(_)) => {
                Err(self.refuse(&format!("at /{key}: must NOT have fewer than 1 characters")))
            }
            Some(_) => Err(self.refuse(&format!("at /{key}: must be string"))),
        }
    }

    /// A text; `None` when absent, null or empty.
    ///
    /// # Errors
    /// Not a text.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, RpcError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|t| !t.trim().is_empty())),
            Some(_) => Err(self.refuse(&format!("at /{key}: must be string"))),
        }
    }

    /// A number that is not negative.
    ///
    /// # Errors
    /// Not such a number.
    pub fn count(&self, key: &str) -> Result<Option<u64>, RpcError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(n) => Ok(Some(n)),
            None if value.is_number() => Err(self.refuse(&format!("at /{key}: must be >= 0"))),
            None => Err(self.refuse(&format!("at /{key}: must be integer"))),
        }
    }

    /// A yes or no.
    ///
    /// # Errors
    /// Not a boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, RpcError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.refuse(&format!("at /{key}: must be boolean")))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// Not a list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<String>>, RpcError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.refuse(&format!("at /{key}: must be array")))?;
        let texts: Option<Vec<String>> = list.iter().map(|i| i.as_str().map(str::to_owned)).collect();
        texts.map(Some).ok_or_else(|| self.refuse(&format!("at /{key}/0: must be string")))
    }
}
