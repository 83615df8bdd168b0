//! `write`: creates or overwrites a file, parents included. Also the one way in which tools replace a file.

use std::{io, io::Write as _, path::Path};

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome, confined, read::Target,
};

pub struct Write;

impl Tool for Write {
    fn name(&self) -> &'static str {
        "write"
    }

    fn description(&self) -> String {
        "Write a file: creates it with its directories, or replaces its whole content.".to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["path", "content"],
            "properties": {
                "path": {"type": "string", "description": "File to write (relative to the workspace, absolute, or ~)"},
                "content": {"type": "string", "description": "The whole content"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("file_path", "path"), ("filePath", "path")]
    }

    fn effect(&self, _args: &Value) -> Effect {
        Effect::Idempotent
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(async move {
            let target = Target::of(&call.args, env)?;
            let content = call.args.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
            confined::blocking(move || {
                let path = target.checked()?;
                let bytes = content.len();
                replace(&path, content.as_bytes()).map_err(|error| target.error("write", &error))?;
                let text = format!("Successfully wrote {bytes} bytes to {}", target.shown);
                Ok(ToolOutcome::text(text).with_meta(target.shown))
            })
            .await
        })
    }
}

/// Blocking: gives a file new content, whole or not at all: a full disk must not cost the old content. Links are followed,
/// permissions are kept. Where a new file cannot be put beside the old one (only the file itself is writable, or it has
/// several names), it is overwritten in place.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let path = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error),
    };
    let old = match path.symlink_metadata() {
        Ok(meta) => meta,
        // A new file: nothing to lose. A link to nowhere is written through.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return std::fs::write(&path, content),
        Err(error) => return Err(error),
    };
    if old.is_symlink() {
        return std::fs::write(&path, content);
    }
    if !old.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let ours = old.uid() == rustix::process::geteuid().as_raw() && old.nlink() == 1;
    match ours.then(|| beside(&path, content, old.permissions())) {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) if !cannot_be_beside(&error) => Err(error),
        _ => std::fs::write(&path, content),
    }
}

/// Is this the directory's refusal, and not one of the disk?
fn cannot_be_beside(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn beside(path: &Path, content: &[u8], permissions: std::fs::Permissions) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // A read-only file is refused, as it would be in place.
    std::fs::OpenOptions::new().write(true).open(path)?;
    let short = super::output::head_chars(&name, 64);
    let new = path.with_file_name(format!(".{short}.{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mode = permissions.mode() & 0o7777;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&new)?;
        // A worker may not set modes: where its mask takes a bit away the file is overwritten in place.
        if file.metadata()?.permissions().mode() & 0o7777 != mode {
            file.set_permissions(permissions)?;
        }
        file.write_all(content)?;
        std::fs::rename(&new, path)
    })();
    if written.is_err() {
        let _never_created = std::fs::remove_file(&new);
    }
    written
}
