//! `edit`: replaces one exact piece of a text file. The rules are pure ([`replace_once`]); the driver reads and writes.

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    read::{Target, whole_text},
    write,
};

mod diff;
pub(super) mod text;

use text::{EditError, replace_once};

/// Largest file that is edited, in bytes: it is held in memory a few times.
pub(super) const EDIT_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub struct Edit;

impl Tool for Edit {
    fn name(&self) -> &'static str {
        "edit"
    }

    fn description(&self) -> String {
        "Edit a file by replacing one piece of text. oldText must match exactly, whitespace included, and must occur once; \
         give more lines around it if it does not. Use write to replace a whole file."
            .to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["path", "oldText", "newText"],
            "properties": {
                "path": {"type": "string", "description": "File to edit (relative to the workspace, absolute, or ~)"},
                "oldText": {"type": "string", "description": "Text to find, exactly as it is in the file"},
                "newText": {"type": "string", "description": "Text to put in its place"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("file_path", "path"),
            ("filePath", "path"),
            ("old_string", "oldText"),
            ("new_string", "newText"),
            ("old_text", "oldText"),
            ("new_text", "newText"),
        ]
    }

    fn effect(&self, _args: &Value) -> Effect {
        Effect::Write
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let target = Target::of(&call.args, env)?;
            let text =
                |name: &str| call.args.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (old, new) = (text("oldText"), text("newText"));
            confined::blocking(move || edit(&target, &old, &new)).await
        })
    }
}

fn edit(target: &Target, old: &str, new: &str) -> Result<ToolOutcome, ToolError> {
    let path = target.checked()?;
    let before = whole_text(target, &path, EDIT_BYTES_MAX)?;
    let after = replace_once(&before, old, new).map_err(|error| explain(error, &target.shown))?;
    write::replace(&path, after.as_bytes()).map_err(|error| target.error("write", &error))?;
    let (diff, first_changed) = diff::unified(&before, &after);
    Ok(ToolOutcome::text(format!("Successfully replaced text in {}.", target.shown))
        .with_details(json!({"diff": diff, "firstChangedLine": first_changed}))
        .with_meta(target.shown.clone()))
}

fn explain(error: EditError, shown: &str) -> ToolError {
    match error {
        EditError::Empty => ToolError::params("Invalid parameter: oldText is empty (oldText or old_string)"),
        EditError::NotFound => ToolError::failed(format!(
            "Could not find the exact text in {shown}. The old text must match exactly including all whitespace and newlines."
        )),
        EditError::NotUnique(count) => ToolError::failed(format!(
            "Found {count} occurrences of the text in {shown}. The text must be unique. Please provide more context to make it unique."
        )),
        EditError::NoChange => ToolError::failed(format!(
            "No changes made to {shown}. The replacement produced identical content."
        )),
    }
}
