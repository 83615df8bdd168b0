//! `update.command`: a program of the operator's that makes or fetches a release, as a child without a shell.

use super::Step;
use crate::worker::Claimed;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// What the child sees of the gateway's environment, which may hold secrets.
const PASSED_ON: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "XDG_CACHE_HOME",
];
/// Of its output, what is kept: the last lines say how it ended.
const TAIL_BYTES: usize = 8 * 1024;
/// How often its end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What it started may hold its output open after it has ended.
const OUTPUT_WITHIN: Duration = Duration::from_secs(2);

/// Runs `words` in `cwd` and gives what its last line names; `None` when it failed, as the step says.
pub fn run(words: &[String], cwd: &Path, within: Duration) -> (Step, Option<PathBuf>) {
    let begin = Instant::now();
    let mut step = Step {
        name: "command",
        command: words.join(" "),
        cwd: cwd.to_owned(),
        duration_ms: 0,
        exit_code: None,
        stdout_tail: None,
        stderr_tail: None,
    };
    let named = attempt(words, cwd, within, &mut step);
    step.duration_ms = super::millis(begin);
    match named {
        Ok(path) => (step, Some(path)),
        Err(why) => {
            let said = step.stderr_tail.take().filter(|said| !said.is_empty());
            step.stderr_tail = Some(said.map_or(why.clone(), |said| format!("{said}\n{why}")));
            (step, None)
        }
    }
}

fn attempt(words: &[String], cwd: &Path, within: Duration, step: &mut Step) -> Result<PathBuf, String> {
    let (program, arguments) = words.split_first().ok_or("update.command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(cwd).env_clear();
    command.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, _claim) = Claimed::spawn(&mut command).map_err(|error| format!("{program}: {error}"))?;
    let (out, err) = (tail(child.stdout.take()), tail(child.stderr.take()));
    let status = wait(&mut child, within);
    // What it left running is not wanted any more.
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let _none_left = group.map(|group| killpg(group, Signal::SIGKILL));
    let text = |bytes: &Receiver<Vec<u8>>| {
        let bytes = bytes.recv_timeout(OUTPUT_WITHIN).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    };
    let (out, err) = (text(&out), text(&err));
    let last = out.lines().last().map(|line| line.trim().to_owned());
    (step.stdout_tail, step.stderr_tail) = (Some(out), Some(err));
    let status = status.map_err(|why| format!("{program}: {why}"))?;
    step.exit_code = status.code();
    if !status.success() {
        return Err(format!("{program} ended with {status}"));
    }
    let path = last.map(PathBuf::from).filter(|path| path.is_absolute());
    path.ok_or_else(|| {
        format!("the last line that {program} prints must be the absolute path of a directory or an archive")
    })
}

/// Waits for the end; kills when it is late. The process group is killed by the caller in any case.
fn wait(child: &mut Child, within: Duration) -> Result<ExitStatus, String> {
    let begin = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begin.elapsed() < within => std::thread::sleep(LOOK_EVERY),
            Ok(None) => {
                let _killed = child.kill().and_then(|()| child.wait());
                return Err(format!("did not end within {} s", within.as_secs()));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Reads to the end and gives the last bytes.
fn tail(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (done, tail) = mpsc::sync_channel(1);
    let read = move || {
        let mut kept: Vec<u8> = Vec::new();
        let mut chunk = [0; 4096];
        if let Some(mut stream) = stream {
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
                kept.drain(..kept.len().saturating_sub(TAIL_BYTES));
            }
        }
        let _nobody_waits = done.send(kept);
    };
    // Without a thread there is no output, and the step fails for want of a last line.
    let _started = std::thread::Builder::new().name("update-output".into()).spawn(read);
    tail
}
