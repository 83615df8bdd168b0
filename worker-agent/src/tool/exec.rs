//! `exec`: runs a shell command, in the foreground or the background.
//!
//! A command that ends with any exit code is a successful call; the call fails only when the command could not run
//! (126, 127), was killed or ran out of time. Whatever a command leaves behind dies with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome,
    config::{EXEC_YIELD_MS_RANGE, ExecAsk, ExecHost, ExecSecurity, ExecSettings},
    confined, environ,
    launcher::Exit,
    output, paths,
    running::{About, Ended, Killed, Leash, Running},
    spawner::Input,
};

/// Characters of the newest output in updates and in the answer of a command that goes on.
const TAIL_CHARS: usize = 2000;
/// Between two updates of a running command: often enough to watch, rare enough to cost nothing.
const UPDATE_EVERY: Duration = Duration::from_millis(500);
/// Longest time-out that a call may ask for, in seconds (one week).
const TIMEOUT_SECS_MAX: u64 = 7 * 86_400;
/// Characters of a command in one line for people.
const META_CHARS: usize = 100;

pub struct Exec;

impl Tool for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn description(&self) -> String {
        "Run a shell command. Returns stdout and stderr together (the newest 200000 characters). A command that runs longer \
         than yieldMs continues in the background and is then handled with the process tool; background=true does so at \
         once and keeps its input open. Processes that a command leaves behind (with & or nohup) are killed when it ends: \
         use background=true for servers. pty=true gives it a terminal."
            .to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["command"],
            "properties": {
                "command": {"type": "string", "description": "Shell command to run"},
                "workdir": {"type": "string", "description": "Working directory (default: the workspace)"},
                "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Environment variables to add"},
                "yieldMs": {"type": "number", "description": "Milliseconds to wait before the command goes to the background (default 10000)"},
                "background": {"type": "boolean", "description": "Run in the background at once"},
                "timeout": {"type": "number", "description": "Kill the command after this many seconds"},
                "pty": {"type": "boolean", "description": "Run in a pseudo-terminal (for programs that need one)"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("cmd", "command"), ("cwd", "workdir")]
    }

    fn effect(&self, _args: &Value) -> Effect {
        Effect::Write
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(run(call.args, env, progress))
    }
}

/// A call as meant.
struct Plan {
    about: About,
    /// None: wait for the end.
    yield_after: Option<Duration>,
    warnings: Vec<String>,
}

async fn run(args: Value, env: &ToolEnv, progress: Progress) -> Result<ToolOutcome, ToolError> {
    let exec = &env.settings.exec;
    gate(exec, &args)?;
    let plan = plan(&args, env).await?;
    let meta = output::head_chars(plan.about.command.trim(), META_CHARS).replace('\n', " ");
    let keep = Duration::from_millis(exec.cleanup_ms);
    let started = env.commands.start(plan.about.clone(), keep).await;
    let running = started.map_err(|error| ToolError::failed(format!("cannot run the command: {error}")))?;
    let leash = Leash::new(&running);
    let ended = follow(&running, plan.yield_after, env, &progress).await;
    let warnings: String = plan.warnings.iter().map(|w| format!("{w}\n\n")).collect();
    let Some(ended) = ended else {
        env.commands.to_background(&running);
        leash.let_go();
        return Ok(still_running(&running, &warnings).with_meta(meta));
    };
    env.commands.remove(&running.id);
    leash.let_go();
    if ended.killed == Some(Killed::Asked) && env.cancel.is_cancelled() {
        return Err(ToolError::Aborted);
    }
    let outcome = finished(&running, ended, &warnings).with_meta(meta);
    if outcome.is_error { Err(ToolError::Outcome(Box::new(outcome))) } else { Ok(outcome) }
}

/// Does the configuration let this call run? Rules only: host, security, ask. Without any of the three set, commands run
/// on this host. Where an approval would be needed the call is refused, since there is nobody to ask.
pub fn gate(exec: &ExecSettings, args: &Value) -> Result<(), ToolError> {
    let text = |name: &str| args.get(name).and_then(Value::as_str).map(str::to_lowercase);
    let asked_host: Option<ExecHost> =
        text("host").and_then(|host| serde_json::from_value(Value::String(host)).ok());
    match asked_host.or(exec.host) {
        Some(ExecHost::Sandbox) => {
            return Err(ToolError::Refused(
                "exec host sandbox is not available: no sandbox is active (set tools.exec.host to gateway)"
                    .to_owned(),
            ));
        }
        Some(ExecHost::Node) => {
            return Err(ToolError::Refused(
                "exec host node is not available: no node is connected (set tools.exec.host to gateway)"
                    .to_owned(),
            ));
        }
        Some(ExecHost::Gateway) | None => {}
    }
    let unset = exec.host.is_none() && exec.security.is_none() && exec.ask.is_none();
    let (mut security, mut ask) = if unset {
        (ExecSecurity::Full, ExecAsk::Off)
    } else {
        (exec.security.unwrap_or(ExecSecurity::Allowlist), exec.ask.unwrap_or(ExecAsk::OnMiss))
    };
    let asked = |name: &str| text(name).map(Value::String);
    if let Some(call) = asked("security").and_then(|v| serde_json::from_value::<ExecSecurity>(v).ok()) {
        security = security.min(call);
    }
    if let Some(call) = asked("ask").and_then(|v| serde_json::from_value::<ExecAsk>(v).ok()) {
        ask = ask.max(call);
    }
    match (security, ask) {
        (ExecSecurity::Deny, _) => Err(ToolError::Refused("exec is denied (tools.exec.security is deny)".to_owned())),
        (ExecSecurity::Full, ExecAsk::Off | ExecAsk::OnMiss) => Ok(()),
        (ExecSecurity::Allowlist, _) | (_, ExecAsk::Always) => Err(ToolError::Refused(
            "this command needs an approval, and approvals are not available; to run commands without, set tools.exec.security to full and tools.exec.ask to off".to_owned(),
        )),
    }
}

async fn plan(args: &Value, env: &ToolEnv) -> Result<Plan, ToolError> {
    let exec = &env.settings.exec;
    let flag = |name: &str| args.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |name: &str| args.get(name).and_then(Value::as_f64).filter(|n| *n > 0.0);
    let command = args.get("command").and_then(Value::as_str).unwrap_or_default().to_owned();
    if command.trim().is_empty() {
        return Err(ToolError::params("Missing required parameter: command"));
    }
    let cwd = match args.get("workdir").and_then(Value::as_str).filter(|dir| !dir.trim().is_empty()) {
        Some(dir) => paths::resolve(env, dir)?,
        None => env.workspace.clone(),
    };
    if !tokio::fs::metadata(&cwd).await.is_ok_and(|meta| meta.is_dir()) {
        return Err(ToolError::failed(format!("workdir is not a directory: {}", cwd.display())));
    }
    let shell = environ::shell(&env.env);
    let mut vars = variables(args, env)?;
    vars.insert("PWD".to_owned(), cwd.display().to_string());
    let mut warnings = Vec::new();
    let background = flag("background") && env.process_offered;
    if flag("background") && !env.process_offered {
        warnings.push(
            "Warning: the process tool is not allowed here; the command runs in the foreground.".to_owned(),
        );
    }
    let input = match (flag("pty"), background) {
        (true, _) => Input::Pty,
        (false, true) => Input::Pipe,
        (false, false) => Input::Null,
    };
    if input == Input::Pty {
        vars.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    }
    let (low, high) = EXEC_YIELD_MS_RANGE;
    let yield_ms = number("yieldMs").map(|ms| millis(ms).clamp(low, high));
    let yield_after = match (env.process_offered, background) {
        (false, _) => None,
        (true, true) => Some(0),
        (true, false) => Some(yield_ms.unwrap_or(exec.yield_ms)),
    };
    let asked_timeout = number("timeout").map(|secs| Duration::from_millis(millis(secs.min(1e9) * 1000.0)));
    let timeout = match asked_timeout {
        Some(asked) => Some(asked.min(Duration::from_secs(TIMEOUT_SECS_MAX))),
        None if background || (yield_ms.is_some() && env.process_offered) => None,
        None => Some(Duration::from_secs(exec.timeout_secs)),
    };
    let about = About {
        session_key: env.session_key.clone(),
        argv: vec![shell.into(), "-c".into(), command.clone().into()],
        command,
        cwd,
        env: Arc::new(vars),
        input,
        timeout,
        notify: exec.notify_on_exit.then_some(exec.notify_on_exit_empty_success),
    };
    Ok(Plan { about, yield_after: yield_after.map(Duration::from_millis), warnings })
}

/// The worker's scrubbed environment, the configured PATH and what the call adds.
fn variables(args: &Value, env: &ToolEnv) -> Result<BTreeMap<String, String>, ToolError> {
    let mut vars: BTreeMap<String, String> = env.env.as_ref().clone();
    environ::with_path(&mut vars, &env.settings.exec.path_prepend);
    for (name, value) in args.get("env").and_then(Value::as_object).into_iter().flatten() {
        environ::check(name).map_err(ToolError::Refused)?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vars.insert(name.clone(), value);
    }
    Ok(vars)
}

fn millis(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and `as` saturates"
    )]
    let whole = value as u64;
    whole
}

/// Waits for the end or for the moment to go to the background (then none), telling the progress meanwhile.
async fn follow(
    running: &Arc<Running>,
    yield_after: Option<Duration>,
    env: &ToolEnv,
    progress: &Progress,
) -> Option<Ended> {
    let mut every = tokio::time::interval(UPDATE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    every.tick().await;
    let go_on = async {
        match yield_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(go_on);
    let mut told = 0;
    let mut aborted = false;
    loop {
        tokio::select! {
            biased;
            ended = running.wait() => return Some(ended),
            () = env.cancel.cancelled(), if !aborted => { aborted = true; running.kill(); }
            () = &mut go_on, if !aborted => return None,
            _ = every.tick() => {
                let bytes = running.output_bytes();
                if bytes != told {
                    told = bytes;
                    progress.update(still_running(running, ""));
                }
            }
        }
    }
}

/// Unix time in milliseconds.
fn unix_ms(time: std::time::SystemTime) -> u64 {
    let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn still_running(running: &Running, warnings: &str) -> ToolOutcome {
    let (text, _) = running.text();
    let tail = output::tail_chars(&text, TAIL_CHARS);
    let shown = if tail.trim().is_empty() { String::new() } else { format!("\n\nOutput so far:\n{tail}") };
    ToolOutcome::text(format!(
        "{warnings}Command still running (session {}, pid {}). Use process (list, poll, log, write, kill, remove) to follow it.{shown}",
        running.id, running.pid
    ))
    .with_details(json!({
        "status": "running",
        "sessionId": running.id,
        "pid": running.pid,
        "startedAt": unix_ms(running.started_at),
        "cwd": running.about.cwd.display().to_string(),
        "tail": tail,
    }))
}

/// The outcome of a command that has ended; shared by `exec` and nobody else.
fn finished(running: &Running, ended: Ended, warnings: &str) -> ToolOutcome {
    let (text, lost) = running.text();
    let text = text.trim_end();
    let cut = if lost > 0 {
        format!("[{} of earlier output dropped]\n", output::size(lost))
    } else {
        String::new()
    };
    let shown = if text.is_empty() { "(no output)" } else { text };
    let (reason, failed) = ending(running, ended);
    let reason = reason.map(|reason| format!("\n\n{reason}")).unwrap_or_default();
    let exit_code = match ended.exit {
        Exit::Code(code) => json!(code),
        Exit::Signal(_) => Value::Null,
    };
    let why = confined::current().and_then(|known| {
        let memory = || running.memory_ran_out().then(|| confined::explain_memory(&known.policy));
        confined::explain_end(ended.exit, text, &known.policy).or_else(memory)
    });
    let why = why.map(|why| format!("\n\n{why}")).unwrap_or_default();
    let mut outcome = ToolOutcome::text(format!("{warnings}{cut}{shown}{reason}{why}")).with_details(json!({
        "status": if failed { "failed" } else { "completed" },
        "exitCode": exit_code,
        "durationMs": u64::try_from(ended.after.as_millis()).unwrap_or(u64::MAX),
        "aggregated": text,
        "cwd": running.about.cwd.display().to_string(),
    }));
    outcome.is_error = failed;
    outcome
}

/// The line that tells how a command ended, and whether the call counts as failed.
fn ending(running: &Running, ended: Ended) -> (Option<String>, bool) {
    match (ended.killed, ended.exit) {
        (Some(Killed::TimedOut), _) => {
            let secs = running.about.timeout.unwrap_or_default().as_secs_f64();
            (
                Some(format!(
                    "Command timed out after {secs} seconds. If it needs longer, run it again with a higher timeout, or in the background."
                )),
                true,
            )
        }
        (Some(Killed::Asked), _) => (Some("Command aborted".to_owned()), true),
        (None, Exit::Signal(_)) => (Some(format!("Command aborted by {}", ended.exit.describe())), true),
        (None, Exit::Code(0)) => (None, false),
        (None, Exit::Code(126)) => (Some("Command not executable (exit code 126)".to_owned()), true),
        (None, Exit::Code(127)) => (Some("Command not found (exit code 127)".to_owned()), true),
        (None, Exit::Code(code)) => (Some(format!("(Command exited with code {code})")), false),
    }
}
