//! `gateway`: restart, configure or update the gateway that this agent belongs to. The worker only asks; the supervisor
//! knows the run, checks that its sender is the owner, and decides.

use serde_json::{Map, Value, json};

use super::{BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome};

/// The actions, each with the method that the supervisor is asked for.
const ACTIONS: &[(&str, &str)] = &[
    ("restart", "gateway.restart"),
    ("config.get", "config.get"),
    ("config.schema", "config.schema"),
    ("config.apply", "config.apply"),
    ("config.patch", "config.patch"),
    ("update.run", "update.run"),
];

/// Parameters that name another gateway or another way in; the one that runs the agent is the only one.
const ELSEWHERE: &[&str] = &["gatewayUrl", "gatewayToken"];

pub struct Gateway;

impl Tool for Gateway {
    fn name(&self) -> &'static str {
        "gateway"
    }

    fn description(&self) -> String {
        "Restart, configure or update the gateway that you run in. restart: in place, runs and connections go on. \
         config.get, config.schema (path: one key with its children), config.patch (raw: JSON5 merge patch, null deletes; \
         prefer it), config.apply (raw: the whole file), update.run (installs what update.command brings). Always pass note: \
         what to tell the user once the gateway is back. Only when the user asked for it."
            .to_owned()
    }

    fn schema(&self) -> Value {
        let actions: Vec<&str> = ACTIONS.iter().map(|(action, _)| *action).collect();
        let text = |description: &str| json!({"type": "string", "description": description});
        let number = |description: &str| json!({"type": "integer", "description": description});
        json!({
            "type": "object",
            "properties": {
                "action": {"type": "string", "enum": actions},
                "delayMs": number("restart: milliseconds until it begins (default 2000, at most 60000)"),
                "reason": text("restart: why, for the log"),
                "note": text("Told to the session after the restart"),
                "path": text("config.schema: key to describe (default: everything)"),
                "raw": text("config.patch, config.apply: JSON5 text"),
                "baseHash": text("Hash that config.get gave (default: the file as it is)"),
                "sessionKey": text("Session that is told (default: this one)"),
                "restartDelayMs": number("config.patch, config.apply, update.run: milliseconds until the restart"),
                "timeoutMs": number("update.run: milliseconds that the update may take"),
            },
            "required": ["action"],
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("delay_ms", "delayMs"),
            ("base_hash", "baseHash"),
            ("session_key", "sessionKey"),
            ("message", "note"),
        ]
    }

    fn effect(&self, args: &Value) -> Effect {
        match args.get("action").and_then(Value::as_str) {
            Some("config.get" | "config.schema") => Effect::Read,
            _ => Effect::Write,
        }
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let action = call.args.get("action").and_then(Value::as_str).unwrap_or_default();
            let Some((_, method)) = ACTIONS.iter().find(|(known, _)| *known == action) else {
                return Err(ToolError::params(format!("Unknown action: {action}")));
            };
            let answer = env.gateway.ask(method, params(&call.args)?).await.map_err(ToolError::Failed)?;
            let shown = json!({"ok": true, "result": answer});
            let text = serde_json::to_string_pretty(&shown).unwrap_or_else(|_| shown.to_string());
            Ok(ToolOutcome::text(text).with_details(shown).with_meta(action.to_owned()))
        })
    }
}

/// What goes to the supervisor: everything but the action.
fn params(args: &Value) -> Result<Value, ToolError> {
    let given = args.as_object().cloned().unwrap_or_default();
    if let Some(name) = ELSEWHERE.iter().find(|name| given.contains_key(**name)) {
        return Err(ToolError::Refused(format!(
            "{name} is not accepted: this tool acts on the gateway that runs the agent; leave it out"
        )));
    }
    let kept: Map<String, Value> = given.into_iter().filter(|(name, _)| name != "action").collect();
    Ok(Value::Object(kept))
}
