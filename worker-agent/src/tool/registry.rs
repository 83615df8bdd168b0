//! The tools that one run is offered, and the one way to call them: find, coerce, check, run, clean, bound.
//!
//! A call always ends in an outcome: unknown names, bad parameters, refusals, panics and aborts become error results that the
//! model can read. Nothing here knows what a tool does.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use serde_json::{Map, Value};

use super::{Block, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, output, policy};

/// How long a tool may tidy up (kill its processes) after an abort before its future is dropped.
const ABORT_GRACE: Duration = Duration::from_secs(3);

/// What a model is told of one tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    pub name: &'static str,
    pub description: String,
    /// JSON schema, an object.
    pub parameters: Value,
}

/// The tools of one run.
#[derive(Clone)]
pub struct Registry {
    tools: Vec<Arc<dyn Tool>>,
}

impl Registry {
    /// Every tool of this build.
    pub fn of_all() -> Self {
        Self::of(super::all())
    }

    /// These tools and no others.
    pub fn of(tools: Vec<Arc<dyn Tool>>) -> Self {
        Self { tools }
    }

    /// Only the tools named in `allowed` (the answer of [`policy::decide`]).
    pub fn only(&self, allowed: &[String]) -> Self {
        let tools = self.tools.iter().filter(|tool| allowed.iter().any(|name| name == tool.name()));
        Self { tools: tools.cloned().collect() }
    }

    pub fn names(&self) -> Vec<&'static str> {
        self.tools.iter().map(|tool| tool.name()).collect()
    }

    /// Finds a tool by the name that a model wrote (case and known aliases do not matter).
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        let name = policy::normalise(name);
        self.tools.iter().find(|tool| tool.name() == name)
    }

    pub fn definitions(&self) -> Vec<Definition> {
        let define = |tool: &Arc<dyn Tool>| Definition {
            name: tool.name(),
            description: tool.description(),
            parameters: tool.schema(),
        };
        self.tools.iter().map(define).collect()
    }

    /// Runs one call to its end. After `env.cancel` it ends within a few seconds.
    pub async fn call(&self, call: ToolCall, env: &ToolEnv, progress: Progress) -> ToolOutcome {
        let Some(tool) = self.get(&call.name) else {
            return ToolOutcome::error(format!("Tool {} not found", call.name));
        };
        let args = match coerce(&tool.schema(), tool.aliases(), &call.args) {
            Ok(args) => args,
            Err(error) => return finish(Err(error)),
        };
        if env.cancel.is_cancelled() {
            return finish(Err(ToolError::Aborted));
        }
        let running = tool.run(ToolCall { args, ..call }, env, progress);
        let mut running = std::pin::pin!(AssertUnwindSafe(running).catch_unwind());
        let ended = tokio::select! {
            ended = &mut running => Some(ended),
            () = env.cancel.cancelled() => tokio::time::timeout(ABORT_GRACE, running).await.ok(),
        };
        finish(match ended {
            Some(Ok(result)) => result,
            Some(Err(_panic)) => Err(ToolError::failed(format!(
                "{} failed inside; nothing is known of its result",
                tool.name()
            ))),
            None => Err(ToolError::Aborted),
        })
    }
}

/// Any end of a call as an outcome with clean, bounded text.
fn finish(result: Result<ToolOutcome, ToolError>) -> ToolOutcome {
    let mut outcome = match result {
        Ok(outcome) => outcome,
        Err(ToolError::Outcome(outcome)) => ToolOutcome { is_error: true, ..*outcome },
        Err(error) => ToolOutcome::error(error.to_string()),
    };
    for block in &mut outcome.content {
        if let Block::Text { text } = block {
            *text = output::cap_result(output::clean(text), output::RESULT_CHARS_MAX);
        }
    }
    outcome
}

/// The arguments as the schema wants them: aliases renamed, nulls dropped, numbers, booleans and lists made from text
/// where that is unambiguous, required ones present. Unknown ones stay; tools ignore them.
pub fn coerce(schema: &Value, aliases: &[(&str, &str)], args: &Value) -> Result<Value, ToolError> {
    let mut map = as_object(args)?;
    for (alias, name) in aliases {
        if let Some(value) = map.remove(*alias) {
            map.entry(*name).or_insert(value);
        }
    }
    map.retain(|_, value| !value.is_null());
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let Some(value) = map.get_mut(name) else { continue };
        let wanted = property.get("type").and_then(Value::as_str).unwrap_or_default();
        if !coerce_value(wanted, value) {
            return Err(ToolError::params(format!("Invalid parameter: {name} must be {}", article(wanted))));
        }
        let allowed = property.get("enum").and_then(Value::as_array);
        if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
            let names: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            return Err(ToolError::params(format!(
                "Invalid parameter: {name} must be one of {}",
                names.join(", ")
            )));
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    let missing: Vec<String> = required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| !map.contains_key(*name))
        .map(|name| with_aliases(name, aliases))
        .collect();
    match missing.len() {
        0 => Ok(Value::Object(map)),
        1 => Err(ToolError::params(format!("Missing required parameter: {}", missing.join("")))),
        _ => Err(ToolError::params(format!("Missing required parameters: {}", missing.join(", ")))),
    }
}

fn as_object(args: &Value) -> Result<Map<String, Value>, ToolError> {
    match args {
        Value::Object(map) => Ok(map.clone()),
        Value::Null => Ok(Map::new()),
        // Some models encode the object twice.
        Value::String(text) if text.trim().is_empty() => Ok(Map::new()),
        Value::String(text) => match serde_json::from_str(text) {
            Ok(Value::Object(map)) => Ok(map),
            _ => Err(ToolError::params("The parameters are not a JSON object")),
        },
        _ => Err(ToolError::params("The parameters are not a JSON object")),
    }
}

fn with_aliases(name: &str, aliases: &[(&str, &str)]) -> String {
    let mut names = vec![name];
    names.extend(aliases.iter().filter(|(_, target)| *target == name).map(|(alias, _)| *alias));
    match names.len() {
        1 => name.to_owned(),
        _ => format!("{name} ({})", names.join(" or ")),
    }
}

fn article(wanted: &str) -> String {
    match wanted {
        "integer" | "array" | "object" => format!("an {wanted}"),
        _ => format!("a {wanted}"),
    }
}

/// Makes `value` of the wanted JSON type where that loses nothing. False: it cannot be.
fn coerce_value(wanted: &str, value: &mut Value) -> bool {
    let new = match (wanted, &*value) {
        ("string", Value::Number(number)) => Value::String(number.to_string()),
        ("string", Value::Bool(flag)) => Value::String(flag.to_string()),
        ("string", other) => return other.is_string(),
        ("integer", Value::Number(n)) if n.is_i64() || n.is_u64() => return true,
        ("integer", Value::Number(n)) => match n.as_f64().and_then(whole) {
            Some(whole) => Value::from(whole),
            None => return false,
        },
        ("integer", Value::String(text)) => match text.trim().parse::<f64>().ok().and_then(whole) {
            Some(whole) => Value::from(whole),
            None => return false,
        },
        ("number", Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::from(number),
            _ => return false,
        },
        ("number", other) => return other.is_number(),
        ("boolean", Value::String(text)) => match text.trim().to_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" | "" => Value::Bool(false),
            _ => return false,
        },
        ("boolean", Value::Number(number)) => Value::Bool(number.as_f64() != Some(0.0)),
        ("boolean", other) => return other.is_boolean(),
        ("array", Value::Array(_)) | ("object", Value::Object(_)) => return true,
        ("array" | "object", Value::String(text)) => match serde_json::from_str::<Value>(text) {
            Ok(parsed) if (wanted == "array") == parsed.is_array() && !parsed.is_null() => parsed,
            _ if wanted == "array" => Value::Array(vec![Value::String(text.clone())]),
            _ => return false,
        },
        ("array", Value::Object(_)) | ("array" | "object" | "integer", _) => return false,
        _ => return true,
    };
    *value = new;
    true
}

/// A float without a fraction as an integer.
fn whole(number: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked in the same expression")]
    (number.fract() == 0.0 && number.abs() < 9.0e15).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["path"], "properties": {
            "path": {"type": "string"}, "limit": {"type": "integer"}, "all": {"type": "boolean"},
            "keys": {"type": "array"}, "action": {"type": "string", "enum": ["list", "kill"]}, "env": {"type": "object"}}})
    }

    const ALIASES: &[(&str, &str)] = &[("file_path", "path")];

    #[test]
    fn arguments_are_coerced_where_nothing_is_lost() {
        let args = json!({"file_path": "a", "limit": "10", "all": "yes", "keys": "x", "env": "{\"A\":\"b\"}", "other": null});
        let got = coerce(&schema(), ALIASES, &args).unwrap();
        assert_eq!(got, json!({"path": "a", "limit": 10, "all": true, "keys": ["x"], "env": {"A": "b"}}));
        let twice = Value::String(json!({"path": "a", "limit": 3.0}).to_string());
        assert_eq!(coerce(&schema(), ALIASES, &twice).unwrap(), json!({"path": "a", "limit": 3}));
    }

    #[test]
    fn mistakes_name_the_parameter_and_the_remedy() {
        let text = |args: Value| coerce(&schema(), ALIASES, &args).unwrap_err().to_string();
        assert_eq!(
            text(json!({})),
            "Missing required parameter: path (path or file_path). Supply correct parameters before retrying."
        );
        assert!(text(json!({"path": "a", "limit": "many"})).contains("limit must be an integer"));
        assert!(text(json!({"path": "a", "action": "stop"})).contains("one of list, kill"));
        assert!(text(json!([1])).contains("not a JSON object"));
    }

    proptest! {
        #[test]
        fn any_json_is_coerced_or_refused_without_a_panic(text in "[\\[\\]{}\":,a-z0-9.e+-]{0,40}", key in "path|limit|all|keys|env") {
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            let _ = coerce(&schema(), ALIASES, &json!({ key: value.clone() }));
            let _ = coerce(&schema(), ALIASES, &value);
        }
    }
}
