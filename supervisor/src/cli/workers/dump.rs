//! What `workers dump` prints for people: one fact a line, under a title each.

use crate::cli::output::{self, number, text};
use proto::wire::Wire;
use proto::wire::agent::AgentToSup;
use proto::wire::channel::ChannelToSup;
use proto::wire::control::LinkControl;
use proto::wire::handshake::WorkerHandshake;
use serde_json::Value;

/// The answer of `workers.dump`; `now_ms`: Unix milliseconds.
pub(super) fn lines(id: &str, shown: &Value, now_ms: i64) -> Vec<String> {
    let list = |pointer: &str| shown.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let texts =
        |pointer: &str| list(pointer).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let said: Vec<String> =
        texts("/dump/said").iter().map(|line| line.trim_start_matches("dump: ").to_owned()).collect();
    let (state, pid) = (text(shown, "/worker/state"), number(shown, "/worker/pid"));
    let pid = if pid == 0 { "no process".to_owned() } else { format!("pid {pid}") };
    let mut lines = vec![format!("{id}: {state}, {pid}, restarts {}", number(shown, "/worker/restarts"))];
    for (title, facts) in [
        ("Runs", list("/runs").map(|run| run_line(run, now_ms)).collect()),
        ("Works on", texts("/dump/inFlight")),
        ("Last pong", pong(shown.pointer("/dump/lastPong")).into_iter().collect()),
        ("Its own word", said),
        ("Process, by the kernel", process(shown.pointer("/dump/process"))),
        ("Threads, by the kernel", list("/dump/process/threads").map(thread).collect()),
        ("Last frames, oldest first", list("/dump/frames").map(|frame| frame_line(id, frame)).collect()),
        ("Its last lines", texts("/dump/log").iter().map(|line| log_line(line)).collect()),
    ] {
        let nothing = if facts.is_empty() { " none" } else { "" };
        lines.push(format!("\n{title}:{nothing}"));
        lines.extend(facts.into_iter().map(|line: String| format!("  {line}")));
    }
    lines
}

fn run_line(run: &Value, now_ms: i64) -> String {
    let age = output::age(number(run, "/startedAtMs"), now_ms);
    let (id, session, attempt) = (text(run, "/runId"), text(run, "/sessionKey"), number(run, "/attempt"));
    format!("{id} of {session}, attempt {attempt}, for {age}")
}

/// What it said of itself when it was last asked whether it lives.
fn pong(pong: Option<&Value>) -> Option<String> {
    let pong = pong.filter(|pong| pong.is_object())?;
    let memory = output::megabytes(pong["rssKb"].as_u64().unwrap_or_default());
    let (age, progress) = (number(pong, "/ageMs"), number(pong, "/lastProgressMs"));
    Some(format!(
        "{age} ms ago: {} under way, {} waiting, {memory}, its timer {} ms late, progress {progress} ms before",
        number(pong, "/inflight"),
        number(pong, "/queue"),
        number(pong, "/lagMs"),
    ))
}

fn process(process: Option<&Value>) -> Vec<String> {
    let Some(process) = process.filter(|process| process.is_object()) else { return Vec::new() };
    let status = process["status"].as_object().into_iter().flatten();
    let mut lines: Vec<String> =
        status.map(|(name, value)| format!("{name:<28}{}", value.as_str().unwrap_or_default())).collect();
    for (name, key) in [("waits in", "wchan"), ("kernel stack", "stack")] {
        let told = process[key].as_str().unwrap_or_default().trim();
        if !matches!(told, "" | "0") {
            lines.push(format!("{name:<28}{}", told.replace('\n', "\n    ")));
        }
    }
    lines
}

fn thread(thread: &Value) -> String {
    let state = match text(thread, "/state") {
        "R" => "runs",
        "S" => "waits",
        "D" => "waits, cannot be killed",
        "T" | "t" => "stopped",
        other => other,
    };
    let place = Some(text(thread, "/wchan")).filter(|place| !matches!(*place, "" | "0"));
    let place = place.map(|place| format!(" in {place}")).unwrap_or_default();
    format!("{:<8}{:<16} {state}{place}", number(thread, "/tid"), text(thread, "/name"))
}

/// `[code, corr, bytes]`.
fn frame_line(id: &str, frame: &Value) -> String {
    let part = |index: usize| frame.get(index).and_then(Value::as_u64).unwrap_or_default();
    let code = u16::try_from(part(0)).unwrap_or_default();
    let own = if id.starts_with("channel:") { ChannelToSup::registry() } else { AgentToSup::registry() };
    let known = [LinkControl::registry(), WorkerHandshake::registry(), own];
    let known = known.iter().flat_map(|direction| direction.iter()).find(|(known, _, _)| *known == code);
    let name = known.map_or_else(|| format!("{code:#06x}"), |(_, name, _)| (*name).to_owned());
    let answers = if part(1) == 0 { String::new() } else { format!(", request {}", part(1)) };
    format!("{name:<18} {} bytes{answers}", part(2))
}

/// A line of its log, which is JSON, as `openclaw logs` shows it.
fn log_line(line: &str) -> String {
    let Ok(Value::Object(mut entry)) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let mut take = |key: &str| {
        entry.shift_remove(key).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let (time, level, message) = (take("timestamp"), take("level"), take("message"));
    take("target");
    let rest: String = entry.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{time} {level:<5} {message}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_line_is_for_programs() {
        let log = r#"{"timestamp":"t","level":"INFO","message":"up","target":"x","code":77}"#;
        let shown = json!({
            "worker": {"state": "ready", "pid": 7, "restarts": 1},
            "runs": [{"runId": "k", "sessionKey": "agent:main:main", "attempt": 1, "startedAtMs": 0}],
            "dump": {
                "inFlight": ["run k"], "said": ["dump: run k: model for 3 ms"], "log": [log, "plain"],
                "frames": [[17, 0, 165], [65535, 3, 1]],
                "lastPong": {"ageMs": 4, "inflight": 1, "queue": 0, "rssKb": 2048, "lagMs": 1, "lastProgressMs": 9},
                "process": {"status": {"State": "S (sleeping)"}, "wchan": "0",
                    "threads": [{"tid": 8, "name": "guard", "state": "S", "wchan": "do_poll"}]},
            },
        });
        let lines = lines("agent:main", &shown, 5_000);
        let text = lines.join("\n");
        assert!(!text.contains(['[', '{', '"']), "{text}");
        for part in [
            "k of agent:main:main, attempt 1, for 5s",
            "4 ms ago: 1 under way, 0 waiting, 2.0 MB, its timer 1 ms late",
            "8       guard            waits in do_poll",
            "0xffff             1 bytes, request 3",
            "  t INFO  up code=77",
            "  run k: model for 3 ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let none =
            super::lines("channel:telegram:default", &json!({"worker": {"state": "idle"}}), 0).join("\n");
        assert!(
            none.contains("no process") && none.contains("Last pong: none") && !none.contains("null"),
            "{none}"
        );
    }
}
