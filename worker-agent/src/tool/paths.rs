//! Paths as models write them: relative to the workspace, with `~`, with a leading `@`, with odd spaces; and the guard
//! that keeps file tools inside the workspace when the configuration says so.

use std::path::{Component, Path, PathBuf};

use super::{ToolEnv, ToolError};

/// The absolute path of `raw`, without `.` and `..`; symbolic links stay as they are.
pub fn resolve(env: &ToolEnv, raw: &str) -> Result<PathBuf, ToolError> {
    resolve_in(&env.workspace, env.home.as_deref(), raw)
}

/// [`resolve`] without an environment.
pub fn resolve_in(workspace: &Path, home: Option<&Path>, raw: &str) -> Result<PathBuf, ToolError> {
    let text = plain_spaces(raw.trim());
    let text = text.strip_prefix('@').unwrap_or(&text);
    let text = text.strip_prefix("file://").unwrap_or(text);
    if text.is_empty() {
        return Err(ToolError::params("Missing required parameter: path"));
    }
    if text.contains('\0') {
        return Err(ToolError::params("Invalid parameter: path contains a zero byte"));
    }
    let path = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = home.ok_or_else(|| ToolError::failed("~ means nothing here: HOME is not set"))?;
            home.join(rest.trim_start_matches('/'))
        }
        _ => workspace.join(text),
    };
    Ok(normalise(&path))
}

/// Spaces that look like a space but are none; copied from web pages and from names that a desktop made.
fn plain_spaces(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
            c => c,
        })
        .collect()
}

/// Removes `.` and `..` by the text alone.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

/// A path as it is shown to the model: relative inside the workspace, absolute outside.
pub fn shown(env: &ToolEnv, path: &Path) -> String {
    let relative = path.strip_prefix(&env.workspace).ok().filter(|path| !path.as_os_str().is_empty());
    relative.unwrap_or(path).display().to_string()
}

/// Blocking: the file that exists under `path`, also when its name has a narrow space before AM or PM (macOS screenshots).
pub fn existing(path: PathBuf) -> PathBuf {
    if path.symlink_metadata().is_ok() {
        return path;
    }
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return path };
    let narrow = name.replace(" AM.", "\u{202f}AM.").replace(" PM.", "\u{202f}PM.");
    let other = path.with_file_name(narrow);
    if other.symlink_metadata().is_ok() { other } else { path }
}

/// Blocking: refuses a path that leads out of `workspace`, through `..`, a symbolic link or a hard link. `key` is the
/// configuration key that asks for it. The answer is the path with every link resolved; what does not exist yet stays.
pub fn inside(workspace: &Path, path: &Path, key: &str) -> Result<PathBuf, ToolError> {
    let refused = |what: &str| {
        ToolError::Refused(format!(
            "{} {what} ({key} is on); use a path inside the workspace",
            path.display()
        ))
    };
    let root = workspace
        .canonicalize()
        .map_err(|error| ToolError::failed(format!("the workspace {}: {error}", workspace.display())))?;
    let real = real_path(path).map_err(|error| ToolError::failed(format!("{}: {error}", path.display())))?;
    if !real.starts_with(&root) {
        return Err(refused("is outside of the workspace"));
    }
    if let Ok(meta) = real.symlink_metadata() {
        use std::os::unix::fs::MetadataExt as _;
        if meta.is_symlink() {
            return Err(refused("is a symbolic link to nowhere"));
        }
        if meta.is_file() && meta.nlink() > 1 {
            return Err(refused("has a second name elsewhere (hard link)"));
        }
    }
    Ok(real)
}

/// The deepest existing ancestor with links resolved, then the rest as written.
fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    let mut rest: Vec<std::ffi::OsString> = Vec::new();
    let mut at = path;
    loop {
        // A link to nowhere exists: it must not be taken for a name that is free.
        if at.symlink_metadata().is_ok() {
            let mut real = match at.canonicalize() {
                Ok(real) => real,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && rest.is_empty() => {
                    at.to_path_buf()
                }
                Err(error) => return Err(error),
            };
            real.extend(rest.iter().rev());
            return Ok(real);
        }
        match (at.parent(), at.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                at = parent;
            }
            _ => return Ok(path.to_path_buf()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_models_write_them() {
        let resolve = |raw: &str| {
            resolve_in(Path::new("/w"), Some(Path::new("/home/me")), raw).unwrap().display().to_string()
        };
        assert_eq!(resolve("a/b"), "/w/a/b");
        assert_eq!(resolve("@a.txt"), "/w/a.txt");
        assert_eq!(resolve("./x/../y"), "/w/y");
        assert_eq!(resolve("/etc/passwd"), "/etc/passwd");
        assert_eq!(resolve("~/x"), "/home/me/x");
        assert_eq!(resolve("~user"), "/w/~user");
        assert_eq!(resolve("a\u{202f}b"), "/w/a b");
        assert!(resolve_in(Path::new("/w"), None, "~/x").is_err());
        assert!(resolve_in(Path::new("/w"), None, " ").is_err());
    }

    #[test]
    fn links_out_of_the_workspace_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (work, outside) = (dir.path().join("work"), dir.path().join("outside"));
        std::fs::create_dir(&work).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        std::os::unix::fs::symlink(&outside, work.join("soft")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("nowhere"), work.join("dangling")).unwrap();
        std::os::unix::fs::symlink(dir.path(), work.join("up")).unwrap();
        std::fs::hard_link(&outside, work.join("hard")).unwrap();
        std::fs::write(work.join("plain"), "x").unwrap();
        let inside = |name: &str| inside(&work, &normalise(&work.join(name)), "tools.fs.workspaceOnly");
        for bad in ["soft", "hard", "dangling", "up/outside", "up/new", "../outside", "dangling/x"] {
            assert!(inside(bad).is_err(), "{bad}");
        }
        assert!(inside("plain").is_ok());
        assert!(inside("new/deep/file").is_ok());
    }
}
