//! Asking the workers' executables about the sections that they own: `--check-config` before a change is written,
//! `--schema` for forms. A short child process each, without network and without secrets.
//!
//! Not done at start: a worker that cannot read its section says so itself, and start-up stays fast.

use super::issue::Issue;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// A check reads a file's worth of JSON and answers; longer means it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer read; a schema of all channels is far below.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The executables that own sections.
#[derive(Debug)]
pub struct WorkerPrograms {
    programs: Vec<PathBuf>,
    schemas: OnceLock<Vec<Value>>,
}

impl WorkerPrograms {
    #[must_use]
    pub fn new(programs: Vec<PathBuf>) -> Self {
        Self { programs, schemas: OnceLock::new() }
    }

    /// What the workers refuse in a resolved configuration whose secrets are hidden. A program that cannot be asked
    /// refuses nothing: its worker will say more when it starts.
    #[must_use]
    pub fn check(&self, config: &Value) -> Vec<Issue> {
        let input = config.to_string();
        let mut issues = Vec::new();
        for program in &self.programs {
            match ask(program, "--check-config", &input) {
                Ok(answer) => issues.extend(read_issues(&answer)),
                Err(why) => tracing::warn!("{} --check-config: {why}", program.display()),
            }
        }
        issues
    }

    /// `{"properties": {section: schema}}` of each program, laid over the root.
    #[must_use]
    pub fn schemas(&self) -> Vec<(String, Value)> {
        let parts =
            self.schemas.get_or_init(|| self.programs.iter().filter_map(|program| schema(program)).collect());
        parts.iter().map(|part| (String::new(), part.clone())).collect()
    }
}

fn schema(program: &Path) -> Option<Value> {
    let answer = ask(program, "--schema", "").inspect_err(|why| {
        tracing::warn!("{} --schema: {why}", program.display());
    });
    let answer = answer.ok()?;
    // The channels' program names its sections without the wrapping of a schema.
    match answer.get("channels") {
        Some(channels) => Some(serde_json::json!({"properties": {"channels": {"properties": channels}}})),
        None => Some(answer),
    }
}

fn read_issues(answer: &Value) -> Vec<Issue> {
    let text = |item: &Value, key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
    let items = answer.get("issues").and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .map(|item| {
            let issue =
                Issue::new(text(item, "path").unwrap_or_default(), text(item, "message").unwrap_or_default());
            Issue { hint: text(item, "hint"), ..issue }
        })
        .collect()
}

/// One question: standard input in, JSON on standard output out.
fn ask(program: &Path, flag: &str, input: &str) -> Result<Value, String> {
    let mut command = Command::new(program);
    command.arg(flag).env_clear().process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let answer = converse(&mut child, input);
    // The gateway's reaper may have taken the child already, so its pid is nothing to send signals to by number.
    let _ = child.wait();
    serde_json::from_str(&answer?).map_err(|error| format!("the answer is no JSON: {error}"))
}

fn converse(child: &mut Child, input: &str) -> Result<String, String> {
    let pid = rustix::process::Pid::from_child(child);
    let guard = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    let (sender, receiver) = sync_channel(1);
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let text = input.to_owned();
    // Both ends on threads of their own: a child that reads nothing or says nothing must not hold us.
    std::thread::spawn(move || {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(text.as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut answer = String::new();
        let read = stdout.map(|stdout| stdout.take(ANSWER_BYTES_MAX).read_to_string(&mut answer));
        let _ = sender.send(match read {
            Some(Ok(_)) => Ok(answer),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("no standard output".to_owned()),
        });
    });
    receiver.recv_timeout(ANSWER_TIMEOUT).unwrap_or_else(|_| {
        if let Ok(pidfd) = &guard {
            let _ = rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL);
        }
        Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn program(dir: &Path, name: &str, body: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        path
    }

    #[test]
    fn findings_of_all_programs_are_joined_and_silent_ones_skipped() {
        let dir = tempfile::tempdir().expect("dir");
        let echo = "read -r line; printf '{\"issues\":[{\"path\":\"tools\",\"message\":\"got %s\",\"hint\":\"h\"}]}' \"${#line}\"";
        let programs = WorkerPrograms::new(vec![
            program(dir.path(), "a", echo),
            program(dir.path(), "b", "echo no json"),
            dir.path().join("missing"),
        ]);
        let issues = programs.check(&json!({"a": 1}));
        let wanted = Issue { hint: Some("h".into()), ..Issue::new("tools", "got 0") };
        // `read` sees no newline at the end of the input and still fills the variable.
        assert_eq!(issues, [Issue { message: "got 7".into(), ..wanted }]);
    }

    #[test]
    fn schemas_are_asked_once_and_wrapped() {
        let dir = tempfile::tempdir().expect("dir");
        let one = "echo '{\"channels\":{\"telegram\":{\"type\":\"object\"}}}'; echo x >> \"$(dirname \"$0\")/asked\"";
        let programs = WorkerPrograms::new(vec![program(dir.path(), "a", one)]);
        for _ in 0..2 {
            let parts = programs.schemas();
            assert_eq!(
                parts[0].1["properties"]["channels"]["properties"]["telegram"],
                json!({"type": "object"})
            );
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("asked")).expect("asked"), "x\n");
    }
}
