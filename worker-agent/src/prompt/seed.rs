//! The files that a workspace starts with: written where they are missing, never written over. The texts are the
//! `*.md` files in `texts/workspace`.
//!
//! `BOOTSTRAP.md`, which opens the first conversation, comes only into a brand-new workspace and only once; its
//! deletion is the sign that this conversation took place. What was done stands in
//! `<workspace>/.openclaw/workspace-state.json`, in the form of the original.

use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Argument with which the executable only seeds one workspace.
pub const VERB: &str = "--seed-workspace";
/// A larger state file is not ours.
const STATE_BYTES_MAX: u64 = 64 * 1024;

const IDENTITY: (&str, &str) = ("IDENTITY.md", include_str!("texts/workspace/IDENTITY.md"));
const USER: (&str, &str) = ("USER.md", include_str!("texts/workspace/USER.md"));
const BOOTSTRAP: (&str, &str) = ("BOOTSTRAP.md", include_str!("texts/workspace/BOOTSTRAP.md"));
const FILES: [(&str, &str); 6] = [
    ("AGENTS.md", include_str!("texts/workspace/AGENTS.md")),
    ("SOUL.md", include_str!("texts/workspace/SOUL.md")),
    ("TOOLS.md", include_str!("texts/workspace/TOOLS.md")),
    IDENTITY,
    USER,
    ("HEARTBEAT.md", include_str!("texts/workspace/HEARTBEAT.md")),
];
/// What only a workspace in use has.
const SIGNS_OF_USE: [&str; 3] = ["memory", "MEMORY.md", ".git"];

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct State {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bootstrap_seeded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    onboarding_completed_at: Option<String>,
}

/// Makes the workspace of an agent ready: the folder and, unless `skip`, its files.
///
/// # Errors
/// The folder cannot be created. A folder that takes no files is still one to work in: that is only logged.
pub async fn open(workspace: PathBuf, skip: bool) -> io::Result<()> {
    tokio::fs::create_dir_all(&workspace).await?;
    if skip {
        return Ok(());
    }
    let dir = workspace.clone();
    let seeded = tokio::task::spawn_blocking(move || seed(&dir)).await?;
    match seeded {
        Ok(names) if names.is_empty() => {}
        Ok(names) => {
            tracing::info!(workspace = %workspace.display(), files = names.join(" "), "workspace files written");
        }
        Err(error) => {
            tracing::warn!(workspace = %workspace.display(), %error, "workspace files not written");
        }
    }
    Ok(())
}

/// `--seed-workspace <dir>`: prints the names of the files that it wrote, one a line.
pub fn main(mut args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let Some(workspace) = args.next().map(PathBuf::from) else {
        eprintln!("openclaw-agent: {VERB} needs the path of a workspace");
        return ExitCode::from(64);
    };
    match fs::create_dir_all(&workspace).and_then(|()| seed(&workspace)) {
        Ok(names) => {
            names.iter().for_each(|name| println!("{name}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("openclaw-agent: workspace {}: {error}", workspace.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes what is missing and gives the names of what was written. Blocks.
///
/// # Errors
/// The disk's refusal, with the name of the file.
pub fn seed(workspace: &Path) -> io::Result<Vec<&'static str>> {
    let mut written = Vec::new();
    // Asked before anything is written: afterwards every workspace looks alike.
    let in_use = is_in_use(workspace);
    for (name, text) in FILES {
        if write_new(&workspace.join(name), text)? {
            written.push(name);
        }
    }
    let mut state = read_state(workspace);
    let before = (state.bootstrap_seeded_at.is_some(), state.onboarding_completed_at.is_some());
    let now = jiff::Timestamp::now().to_string();
    let bootstrap = workspace.join(BOOTSTRAP.0);
    match (before, bootstrap.exists()) {
        ((false, _), true) => state.bootstrap_seeded_at = Some(now),
        ((true, false), false) => state.onboarding_completed_at = Some(now),
        ((false, false), false) if in_use => state.onboarding_completed_at = Some(now),
        ((false, false), false) => {
            if write_new(&bootstrap, BOOTSTRAP.1)? {
                written.push(BOOTSTRAP.0);
            }
            state.bootstrap_seeded_at = Some(now);
        }
        ((true, true) | (false, true), false) | ((true, _), true) => {}
    }
    if before != (state.bootstrap_seeded_at.is_some(), state.onboarding_completed_at.is_some()) {
        write_state(workspace, &state)?;
    }
    Ok(written)
}

/// Somebody works here already: their own words about themselves or the agent, memories, a repository.
fn is_in_use(workspace: &Path) -> bool {
    let changed = |(name, text): (&str, &str)| {
        fs::read_to_string(workspace.join(name)).is_ok_and(|found| found.trim() != text.trim())
    };
    changed(IDENTITY) || changed(USER) || SIGNS_OF_USE.iter().any(|name| workspace.join(name).exists())
}

/// False when there is a file of that name, or a link, wherever it leads.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true).map_err(named),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(named(error)),
    }
}

fn state_path(workspace: &Path) -> PathBuf {
    workspace.join(".openclaw/workspace-state.json")
}

fn read_state(workspace: &Path) -> State {
    let path = state_path(workspace);
    let small = fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= STATE_BYTES_MAX);
    let text = small.then(|| fs::read(&path).ok()).flatten();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn write_state(workspace: &Path, state: &State) -> io::Result<()> {
    let path = state_path(workspace);
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut text = serde_json::to_vec_pretty(&State { version: 1, ..state.clone() })?;
    text.push(b'\n');
    crate::session::disk::replace(&path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<&'static str> {
        seed(dir).expect("seeded")
    }

    fn state(dir: &Path) -> State {
        read_state(dir)
    }

    #[test]
    fn a_new_workspace_gets_all_files_once_and_the_first_conversation_ends_with_its_file() {
        let dir = tempfile::tempdir().expect("dir");
        let all =
            ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md"];
        assert_eq!(names(dir.path()), all);
        assert_eq!(names(dir.path()), [""; 0]);
        assert!(state(dir.path()).bootstrap_seeded_at.is_some_and(|at| at.ends_with('Z')));
        fs::write(dir.path().join("SOUL.md"), "mine").expect("write");
        fs::remove_file(dir.path().join("BOOTSTRAP.md")).expect("remove");
        fs::remove_file(dir.path().join("TOOLS.md")).expect("remove");
        assert_eq!(names(dir.path()), ["TOOLS.md"]);
        assert_eq!(fs::read_to_string(dir.path().join("SOUL.md")).expect("read"), "mine");
        assert!(state(dir.path()).onboarding_completed_at.is_some());
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn a_workspace_in_use_has_had_its_first_conversation() {
        for sign in ["memory/x", "MEMORY.md", ".git/HEAD", "USER.md"] {
            let dir = tempfile::tempdir().expect("dir");
            let path = dir.path().join(sign);
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(&path, "- **Name:** Ada").expect("write");
            assert!(!names(dir.path()).contains(&"BOOTSTRAP.md"), "{sign}");
            let state = state(dir.path());
            assert!(state.onboarding_completed_at.is_some() && state.version == 1, "{sign}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("dir");
        let outside = tempfile::tempdir().expect("dir");
        let target = outside.path().join("target");
        std::os::unix::fs::symlink(&target, dir.path().join("AGENTS.md")).expect("link");
        assert!(!names(dir.path()).contains(&"AGENTS.md"));
        assert!(!target.exists());
    }
}
