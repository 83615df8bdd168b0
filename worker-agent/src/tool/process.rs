//! `process`: looks at, talks to and ends the commands that `exec` left in the background of this session.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    BoxFuture, Effect, Progress, Tool, ToolCall, ToolEnv, ToolError, ToolOutcome,
    launcher::Exit,
    output,
    running::{Ended, Running},
};

mod keys;

/// Longest wait of one `poll`, in milliseconds.
const POLL_MS_MAX: u64 = 120_000;
/// Characters of new output in one `poll`; the rest stays readable with `log`.
const POLL_CHARS_MAX: usize = 30_000;
/// Lines of a `log` without offset and limit.
const LOG_LINES: usize = 200;
/// Characters of a command in a list.
const NAME_CHARS: usize = 80;

const ACTIONS: [&str; 10] =
    ["list", "poll", "log", "write", "send-keys", "submit", "paste", "kill", "clear", "remove"];

pub struct Process;

impl Tool for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn description(&self) -> String {
        "Manage background exec sessions: list; poll (new output; waits up to timeout milliseconds for the end); log (all \
         output by lines); write (to stdin), send-keys, submit (Enter), paste; kill; clear (forget a finished one); remove \
         (kill and forget)."
            .to_owned()
    }

    fn schema(&self) -> Value {
        json!({
            "type": "object",
            "required": ["action"],
            "properties": {
                "action": {"type": "string", "enum": ACTIONS, "description": "What to do"},
                "sessionId": {"type": "string", "description": "Session id, for every action except list"},
                "data": {"type": "string", "description": "Text for write"},
                "keys": {"type": "array", "items": {"type": "string"}, "description": "Keys for send-keys: Enter, Tab, Escape, Up, C-c, M-x, F1 or single characters"},
                "hex": {"type": "array", "items": {"type": "string"}, "description": "Bytes for send-keys, as hexadecimal"},
                "literal": {"type": "string", "description": "Text for send-keys, sent as it is"},
                "text": {"type": "string", "description": "Text for paste"},
                "bracketed": {"type": "boolean", "description": "Mark pasted text as pasted (default true)"},
                "eof": {"type": "boolean", "description": "Close stdin after write"},
                "offset": {"type": "integer", "description": "First line of log (from 0)"},
                "limit": {"type": "integer", "description": "Lines of log"},
                "timeout": {"type": "number", "description": "Milliseconds that poll waits for the end (at most 120000)"},
            }
        })
    }

    fn aliases(&self) -> &'static [(&'static str, &'static str)] {
        &[("session_id", "sessionId"), ("id", "sessionId")]
    }

    fn effect(&self, args: &Value) -> Effect {
        match args.get("action").and_then(Value::as_str) {
            Some("list" | "log") => Effect::Read,
            Some("kill" | "clear" | "remove") => Effect::Idempotent,
            _ => Effect::Write,
        }
    }

    fn run<'a>(
        &'a self,
        call: ToolCall,
        env: &'a ToolEnv,
        _progress: Progress,
    ) -> BoxFuture<'a, Result<ToolOutcome, ToolError>> {
        Box::pin(run(call.args, env))
    }
}

async fn run(args: Value, env: &ToolEnv) -> Result<ToolOutcome, ToolError> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let action = text("action").unwrap_or_default();
    env.commands.forget_old(Duration::from_millis(env.settings.exec.cleanup_ms));
    if action == "list" {
        return Ok(list(env).with_meta("list"));
    }
    let id = text("sessionId").ok_or_else(|| ToolError::params("Missing required parameter: sessionId"))?;
    let running = env.commands.get(id, &env.session_key);
    let running = running.ok_or_else(|| ToolError::failed(format!("No session found for {id}")))?;
    let outcome = match action {
        "poll" => poll(&running, args.get("timeout").and_then(Value::as_f64), env).await?,
        "log" => {
            let number = |name: &str| {
                args.get(name).and_then(Value::as_u64).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
            };
            log(&running, number("offset"), number("limit"))
        }
        "kill" => kill(&running, env).await?,
        "clear" if running.ended().is_none() => {
            return Err(ToolError::failed(format!("Session {id} is still running; use kill or remove")));
        }
        "clear" => {
            env.commands.remove(id);
            ToolOutcome::text(format!("Cleared session {id}."))
        }
        "remove" => {
            let killed = kill(&running, env).await?;
            env.commands.remove(id);
            ToolOutcome { content: ToolOutcome::text(format!("Removed session {id}.")).content, ..killed }
        }
        _ => send(&running, action, &args).await?,
    };
    Ok(outcome.with_meta(format!("{action} {id}")))
}

fn status(running: &Running) -> &'static str {
    match running.ended() {
        None => "running",
        Some(Ended { exit, killed: None, .. }) if exit.success() => "completed",
        Some(Ended { killed: Some(_), .. }) => "killed",
        Some(_) => "failed",
    }
}

fn details(running: &Running) -> Value {
    let exit_code = match running.ended().map(|ended| ended.exit) {
        Some(Exit::Code(code)) => json!(code),
        _ => Value::Null,
    };
    json!({
        "status": status(running),
        "sessionId": running.id,
        "pid": running.pid,
        "exitCode": exit_code,
        "runtimeMs": u64::try_from(running.runtime().as_millis()).unwrap_or(u64::MAX),
        "cwd": running.about.cwd.display().to_string(),
        "name": output::head_chars(&running.about.command, NAME_CHARS),
    })
}

fn list(env: &ToolEnv) -> ToolOutcome {
    let all = env.commands.list(&env.session_key);
    let line = |running: &Arc<Running>| {
        let name = output::head_chars(running.about.command.trim(), NAME_CHARS).replace('\n', " ");
        format!("{} {:<9} {} :: {name}", running.id, status(running), duration(running.runtime()))
    };
    let lines: Vec<String> = all.iter().map(line).collect();
    let text = if lines.is_empty() { "No running or recent sessions.".to_owned() } else { lines.join("\n") };
    let sessions: Vec<Value> = all.iter().map(|running| details(running)).collect();
    ToolOutcome::text(text).with_details(json!({"status": "completed", "sessions": sessions}))
}

/// "45s", "3m 5s", "2h 10m".
fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        secs => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
    }
}

fn state_line(running: &Running) -> String {
    match running.ended() {
        None => "Process still running.".to_owned(),
        Some(ended) => format!("Process exited with {}.", ended.exit.describe()),
    }
}

async fn poll(
    running: &Arc<Running>,
    timeout_ms: Option<f64>,
    env: &ToolEnv,
) -> Result<ToolOutcome, ToolError> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    let wait = Duration::from_millis((timeout_ms.unwrap_or(0.0) as u64).min(POLL_MS_MAX));
    tokio::select! {
        biased;
        _ended = running.wait() => {}
        () = env.cancel.cancelled() => return Err(ToolError::Aborted),
        () = tokio::time::sleep(wait) => {}
    }
    let (new, lost) = running.poll();
    let shown = output::tail_chars(new.trim_end(), POLL_CHARS_MAX);
    let cut =
        if lost > 0 || shown.len() < new.trim_end().len() { "[earlier output is left out]\n" } else { "" };
    let shown = if shown.trim().is_empty() { "(no new output)" } else { shown };
    Ok(ToolOutcome::text(format!("{cut}{shown}\n\n{}", state_line(running))).with_details(details(running)))
}

fn log(running: &Running, offset: Option<usize>, limit: Option<usize>) -> ToolOutcome {
    let (text, lost) = running.text();
    let lines: Vec<&str> = text.lines().collect();
    let count =
        limit.filter(|limit| *limit > 0).unwrap_or(if offset.is_some() { usize::MAX } else { LOG_LINES });
    let from = offset.unwrap_or(lines.len().saturating_sub(count)).min(lines.len());
    let page: Vec<&str> = lines.iter().skip(from).take(count).copied().collect();
    let mut shown = page.join("\n");
    if shown.is_empty() {
        shown = "(no output recorded)".to_owned();
    }
    if page.len() < lines.len() {
        let to = from + page.len();
        let total = lines.len();
        shown.push_str(&format!("\n\n[lines {from} to {to} of {total}; page with offset and limit]"));
    }
    if lost > 0 {
        shown.push_str(&format!("\n[{} of older output is gone]", output::size(lost)));
    }
    ToolOutcome::text(shown).with_details(details(running))
}

async fn kill(running: &Arc<Running>, env: &ToolEnv) -> Result<ToolOutcome, ToolError> {
    let was_running = running.ended().is_none();
    running.kill();
    tokio::select! {
        _ended = running.wait() => {}
        () = env.cancel.cancelled() => return Err(ToolError::Aborted),
    }
    let text = if was_running {
        format!("Killed session {}.", running.id)
    } else {
        format!("Session {} has already ended. {}", running.id, state_line(running))
    };
    Ok(ToolOutcome::text(text).with_details(details(running)))
}

/// The actions that write to the command.
async fn send(running: &Running, action: &str, args: &Value) -> Result<ToolOutcome, ToolError> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let flag = |name: &str| args.get(name).and_then(Value::as_bool);
    let list = |name: &str| -> Vec<&str> {
        let items = args.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let bytes = match action {
        "write" => text("data").unwrap_or_default().as_bytes().to_vec(),
        "submit" => b"\r".to_vec(),
        "paste" => keys::paste(text("text").unwrap_or_default(), flag("bracketed").unwrap_or(true)),
        _ => keys::encode(&list("keys"), &list("hex"), text("literal")).map_err(ToolError::params)?,
    };
    let eof = flag("eof").unwrap_or(false);
    if bytes.is_empty() && !eof {
        return Err(ToolError::params(format!("Nothing to send: {action} needs data")));
    }
    if running.ended().is_some() {
        return Err(ToolError::failed(format!(
            "Session {} is not running. {}",
            running.id,
            state_line(running)
        )));
    }
    // A pipe has no line discipline: Enter is a newline there.
    let pipe = running.about.input != super::spawner::Input::Pty;
    let bytes = if action == "submit" && pipe { b"\n".to_vec() } else { bytes };
    let sent = running.write(&bytes, eof).await;
    sent.map_err(|error| ToolError::failed(format!("Session {}: {error}", running.id)))?;
    let closed = if eof { " (stdin closed)" } else { "" };
    let text = format!("Wrote {} bytes to session {}{closed}.", bytes.len(), running.id);
    Ok(ToolOutcome::text(text).with_details(details(running)))
}
