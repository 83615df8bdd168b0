//! `ls`: the entries of one directory, sorted, directories marked with a slash.

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    output::{self, PAGE_BYTES_MAX},
    read::Target,
};

/// Entries shown when the call names no limit.
const ENTRIES_DEFAULT: usize = 500;
/// Entries read of one directory; a larger one is listed in part.
const ENTRIES_MAX: usize = 20_000;

pub struct Ls;

impl Tool for Ls {
    fn name(&self) -> &'static str {
        "ls"
    }

    fn description(&self) -> String {
        format!(
            "List a directory: sorted, hidden entries included, directories with a trailing slash. At most {ENTRIES_DEFAULT} \
             entries or {}.",
            output::size(PAGE_BYTES_MAX as u64)
        )
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Directory (default: the workspace)"},
                "limit": {"type": "integer", "description": "Entries to show (default 500)"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("dir", "path"), ("directory", "path")]
    }

    fn effect(&self, _args: &Value) -> Effect {
        Effect::Read
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let target = directory(&call.args, env)?;
            let limit = limit(&call.args, ENTRIES_DEFAULT, ENTRIES_MAX);
            let meta = target.shown.clone();
            let outcome = confined::blocking(move || list(&target, limit)).await?;
            Ok(outcome.with_meta(meta))
        })
    }
}

/// The parameter `path` of a tool that looks at directories; the workspace when there is none.
pub(super) fn directory(args: &Value, env: &ToolEnv) -> Result<Target, ToolError> {
    let raw = args.get("path").and_then(Value::as_str).filter(|path| !path.trim().is_empty()).unwrap_or(".");
    let guard = env.settings.workspace_only.then_some("tools.fs.workspaceOnly");
    Target::guarded(raw, env, guard)
}

/// The parameter `limit`, from 1 to `max`.
pub(super) fn limit(args: &Value, default: usize, max: usize) -> usize {
    let asked = args.get("limit").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    asked.unwrap_or(default).clamp(1, max)
}

/// Blocking: the checked path of a directory that must exist.
pub(super) fn existing_directory(target: &Target) -> Result<std::path::PathBuf, ToolError> {
    let path = target.checked()?;
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(ToolError::failed(format!("Path not found: {}", target.shown)))
        }
        Err(error) => Err(target.error("list", &error)),
        Ok(meta) if !meta.is_dir() => Err(ToolError::failed(format!("Not a directory: {}", target.shown))),
        Ok(_) => Ok(path),
    }
}

fn list(target: &Target, limit: usize) -> Result<ToolOutcome, ToolError> {
    let path = existing_directory(target)?;
    let entries = std::fs::read_dir(&path).map_err(|error| target.error("list", &error))?;
    let mut names: Vec<String> = Vec::new();
    let mut more = false;
    for entry in entries.flatten() {
        if names.len() == ENTRIES_MAX {
            more = true;
            break;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        // Follows a link, so that a link to a directory is marked too.
        let is_dir = entry.path().metadata().is_ok_and(|meta| meta.is_dir());
        names.push(if is_dir { format!("{name}/") } else { name });
    }
    names.sort_by_cached_key(|name| name.to_lowercase());
    if names.is_empty() {
        return Ok(ToolOutcome::text("(empty directory)"));
    }
    more |= names.len() > limit;
    names.truncate(limit);
    let text = names.join("\n");
    Ok(ToolOutcome::text(page(
        &text,
        more.then(|| format!("{limit} entries limit reached; use limit for more")),
    )))
}

/// Whole lines up to the page size, with a bracketed last line for each limit that was reached.
pub(super) fn page(text: &str, limit_reached: Option<String>) -> String {
    let page = output::head(text, usize::MAX, PAGE_BYTES_MAX);
    let size = page.cut.map(|_| format!("{} limit reached", output::size(PAGE_BYTES_MAX as u64)));
    let notices: Vec<String> = limit_reached.into_iter().chain(size).collect();
    if notices.is_empty() {
        return page.text.to_owned();
    }
    format!("{}\n\n[{}]", page.text, notices.join(". "))
}
