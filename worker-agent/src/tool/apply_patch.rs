//! `apply_patch`: adds, changes, moves and deletes several files by one text.
//!
//! `parse` reads the text, `hunks` applies changes to lines; both are pure. The driver computes every new content
//! before it writes the first file, so that a hunk that does not fit changes nothing at all.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    edit::EDIT_BYTES_MAX,
    read::{Target, whole_text},
    write,
};

mod hunks;
mod parse;

use parse::{Operation, Patch};

/// Files in one patch.
const FILES_MAX: usize = 200;

pub struct ApplyPatch;

impl Tool for ApplyPatch {
    fn name(&self) -> &'static str {
        "apply_patch"
    }

    fn description(&self) -> String {
        "Apply a patch to one or more files. Format: '*** Begin Patch', then any of '*** Add File: path' (lines with +), \
         '*** Delete File: path', '*** Update File: path' (optionally '*** Move to: path', then hunks that start with @@ \
         and have lines with space, - or +), then '*** End Patch'."
            .to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["input"],
            "properties": {"input": {"type": "string", "description": "The whole patch, from Begin Patch to End Patch"}}
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("patch", "input"), ("diff", "input")]
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
            let input = call.args.get("input").and_then(Value::as_str).unwrap_or_default();
            let patch =
                parse::patch(input).map_err(|error| ToolError::failed(format!("invalid patch: {error}")))?;
            let files = targets(patch, env)?;
            confined::blocking(move || apply(files)).await
        })
    }
}

/// One operation with its checked-to-be paths.
struct File {
    target: Target,
    moved: Option<Target>,
    operation: Operation,
}

fn targets(patch: Patch, env: &ToolEnv) -> Result<Vec<File>, ToolError> {
    if patch.files.is_empty() {
        return Err(ToolError::failed("invalid patch: it changes no file"));
    }
    if patch.files.len() > FILES_MAX {
        return Err(ToolError::failed(format!("invalid patch: more than {FILES_MAX} files")));
    }
    let guard = if env.settings.apply_patch.workspace_only {
        Some("tools.exec.applyPatch.workspaceOnly")
    } else {
        env.settings.workspace_only.then_some("tools.fs.workspaceOnly")
    };
    let file = |(path, operation): (String, Operation)| {
        let moved = match &operation {
            Operation::Update { moved: Some(to), .. } => Some(Target::guarded(to, env, guard)?),
            _ => None,
        };
        Ok(File { target: Target::guarded(&path, env, guard)?, moved, operation })
    };
    patch.files.into_iter().map(file).collect()
}

/// What will be done to the disk.
enum Change {
    Write(PathBuf, String),
    Remove(PathBuf),
}

fn apply(files: Vec<File>) -> Result<ToolOutcome, ToolError> {
    let mut changes: Vec<(Change, String)> = Vec::new();
    let (mut added, mut modified, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for File { target, moved, operation } in files {
        let path = target.checked()?;
        match operation {
            Operation::Add { content } => {
                changes.push((Change::Write(path, content), target.shown.clone()));
                added.push(target.shown);
            }
            Operation::Delete => {
                if !path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
                    return Err(ToolError::failed(format!("cannot delete {}: no such file", target.shown)));
                }
                changes.push((Change::Remove(path), target.shown.clone()));
                deleted.push(target.shown);
            }
            Operation::Update { hunks, .. } => {
                let before = current(&changes, &path)
                    .map_or_else(|| whole_text(&target, &path, EDIT_BYTES_MAX), Ok)?;
                let after = hunks::apply(&before, &hunks)
                    .map_err(|error| ToolError::failed(format!("{}: {error}", target.shown)))?;
                match moved {
                    Some(to) => {
                        changes.push((Change::Write(to.checked()?, after), to.shown.clone()));
                        changes.push((Change::Remove(path), target.shown));
                        modified.push(to.shown);
                    }
                    None => {
                        changes.push((Change::Write(path, after), target.shown.clone()));
                        modified.push(target.shown);
                    }
                }
            }
        }
    }
    for (change, shown) in changes {
        let done = match change {
            Change::Write(path, content) => write::replace(&path, content.as_bytes()),
            Change::Remove(path) => std::fs::remove_file(path),
        };
        done.map_err(|error| ToolError::failed(format!("cannot change {shown}: {error}")))?;
    }
    let lines =
        |mark: char, files: &[String]| files.iter().map(|f| format!("\n{mark} {f}")).collect::<String>();
    let listed = [lines('A', &added), lines('M', &modified), lines('D', &deleted)].concat();
    let meta = [added.clone(), modified.clone(), deleted.clone()].concat().join(", ");
    Ok(ToolOutcome::text(format!("Success. Updated the following files:{listed}"))
        .with_details(json!({"summary": {"added": added, "modified": modified, "deleted": deleted}}))
        .with_meta(meta))
}

/// What an earlier part of the same patch made of a file.
fn current(changes: &[(Change, String)], path: &PathBuf) -> Option<String> {
    changes.iter().rev().find_map(|(change, _)| match change {
        Change::Write(written, content) if written == path => Some(content.clone()),
        _ => None,
    })
}
