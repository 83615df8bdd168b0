//! `session_status`: the status card of a session, with the current time, and its model selection.

use serde_json::{Value, json};

use super::{BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome};

pub struct SessionStatus;

impl Tool for SessionStatus {
    fn name(&self) -> &'static str {
        "session_status"
    }

    fn description(&self) -> String {
        "Show the status card of a session: current date and time, model, tokens, context, queue. model selects another \
         model for the session; the value default goes back to the configured one."
            .to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "sessionKey": {"type": "string", "description": "Session (default: this one)"},
                "model": {"type": "string", "description": "Model to use from now on, or default"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("session_key", "sessionKey")]
    }

    fn effect(&self, args: &Value) -> Effect {
        if args.get("model").is_some_and(|model| !model.is_null()) {
            Effect::Idempotent
        } else {
            Effect::Read
        }
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let text = |name: &str| {
                call.args.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
            };
            let key = text("sessionKey").filter(|key| *key != "current").unwrap_or(&env.session_key);
            let card = env.status.card(key, text("model")).await.map_err(ToolError::Failed)?;
            let details = json!({"sessionKey": key, "statusText": card});
            Ok(ToolOutcome::text(card).with_details(details).with_meta(key.to_owned()))
        })
    }
}
