//! `find`: files below a directory by glob, `.gitignore` respected.

use std::time::Instant;

use globset::GlobBuilder;
use ignore::WalkBuilder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined,
    ls::{directory, existing_directory, limit, page},
    read::Target,
};

/// Results when the call names no limit, and at most.
const RESULTS_DEFAULT: usize = 1000;
const RESULTS_MAX: usize = 20_000;
/// A walk over a whole disk ends here; what was found until then is shown.
pub(super) const WALK_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);
/// Compiled size of one pattern, in bytes: a pattern is untrusted input.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 20;

pub struct Find;

impl Tool for Find {
    fn name(&self) -> &'static str {
        "find"
    }

    fn description(&self) -> String {
        format!(
            "Find files by glob (for example '*.ts', '**/*.json' or 'src/**/*.rs'). Paths are relative to the searched \
             directory; hidden files are included, what .gitignore names is not. At most {RESULTS_DEFAULT} results."
        )
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["pattern"],
            "properties": {
                "pattern": {"type": "string", "description": "Glob; without a slash it is matched against names"},
                "path": {"type": "string", "description": "Directory to search (default: the workspace)"},
                "limit": {"type": "integer", "description": "Results to show (default 1000)"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("glob", "pattern"), ("query", "pattern")]
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
            let pattern = call.args.get("pattern").and_then(Value::as_str).unwrap_or_default().to_owned();
            let limit = limit(&call.args, RESULTS_DEFAULT, RESULTS_MAX);
            let (cancel, meta) = (env.cancel.clone(), pattern.clone());
            let outcome = confined::blocking(move || find(&target, &pattern, limit, &cancel)).await?;
            Ok(outcome.with_meta(meta))
        })
    }
}

/// A glob; without a slash it matches the name at any depth.
pub(super) fn glob(pattern: &str) -> Result<globset::GlobMatcher, ToolError> {
    let deep = if pattern.contains('/') {
        pattern.trim_start_matches("./").to_owned()
    } else {
        format!("**/{pattern}")
    };
    let built = GlobBuilder::new(&deep).literal_separator(true).build();
    built
        .map(|glob| glob.compile_matcher())
        .map_err(|error| ToolError::params(format!("Invalid parameter: {pattern:?} is not a glob: {error}")))
}

/// A walk that respects ignore files, shows hidden files and stays out of version control's own directories.
pub(super) fn walk(path: &std::path::Path) -> ignore::Walk {
    WalkBuilder::new(path)
        .hidden(false)
        .require_git(false)
        .follow_links(false)
        .filter_entry(|entry| {
            entry.depth() == 0 || !matches!(entry.file_name().to_str(), Some(".git" | ".hg" | ".svn"))
        })
        .build()
}

fn find(
    target: &Target,
    pattern: &str,
    limit: usize,
    cancel: &CancellationToken,
) -> Result<ToolOutcome, ToolError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(ToolError::params("Invalid parameter: pattern is too long"));
    }
    let glob = glob(pattern)?;
    let root = existing_directory(target)?;
    let until = Instant::now() + WALK_LIMIT;
    let mut found: Vec<String> = Vec::new();
    let mut stopped = None;
    for entry in walk(&root).flatten() {
        if cancel.is_cancelled() {
            return Err(ToolError::Aborted);
        }
        if Instant::now() >= until {
            stopped = Some(format!("stopped after {} s; search a smaller directory", WALK_LIMIT.as_secs()));
            break;
        }
        let Ok(relative) = entry.path().strip_prefix(&root) else { continue };
        if relative.as_os_str().is_empty() || !glob.is_match(relative) {
            continue;
        }
        if found.len() == limit {
            stopped = Some(format!("{limit} results limit reached"));
            break;
        }
        let slash = if entry.file_type().is_some_and(|kind| kind.is_dir()) { "/" } else { "" };
        found.push(format!("{}{slash}", relative.display()));
    }
    if found.is_empty() {
        let text = stopped.map_or_else(String::new, |why| format!("\n\n[{why}]"));
        return Ok(ToolOutcome::text(format!("No files found matching pattern{text}")));
    }
    found.sort();
    Ok(ToolOutcome::text(page(&found.join("\n"), stopped)))
}
