//! `openclaw config plan`: asks the running gateway what a change would do.

use super::WRITE_TIMEOUT;
use crate::cli::client::Client;
use crate::cli::invocation::{Failure, Invocation};
use crate::cli::output::{self, text};
use crate::config::file_command::add_unresolved;
use crate::config::{ConfigFile, Issue};
use crate::exit_code;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The file, a text or a patch. Exit 78 when the gateway would refuse it.
pub fn show(
    invocation: &Invocation,
    file: Option<&Path>,
    patch: Option<String>,
    as_json: bool,
) -> Result<u8, Failure> {
    let raw = match file {
        Some(path) if path == Path::new("-") => Some(
            std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::new(format!("standard input: {error}")))?,
        ),
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("--file {}: {error}", path.display())))?,
        ),
        None => None,
    };
    let mut params = json!({});
    for (key, value) in [("raw", raw), ("patch", patch)] {
        if let Some(value) = value {
            params[key] = value.into();
        }
    }
    let plan = invocation.client()?.call("config.plan", &params, WRITE_TIMEOUT)?;
    let code = if plan["valid"] == true { exit_code::OK } else { exit_code::CONFIG };
    if as_json {
        output::json(&plan)?;
    } else {
        print(&plan, file)?;
    }
    Ok(code)
}

/// What the gateway that runs with this file would refuse of it, and what it cannot fill in: it knows its own environment
/// and flags, this command does not. `None`: no gateway, or not with this file.
pub fn problems(invocation: &Invocation, file: &ConfigFile) -> Option<Vec<Issue>> {
    let mut client = Client::connect(&invocation.paths).ok()?;
    let plan = client.call("config.plan", &json!({}), WRITE_TIMEOUT).ok()?;
    if text(&plan, "/path") != file.source.path.to_string_lossy() {
        return None;
    }
    let mut issues: Vec<Issue> = rows(&plan, "issues").map(issue).collect();
    add_unresolved(&mut issues, rows(&plan, "unresolved").map(issue).collect());
    Some(issues)
}

/// An issue as the gateway sends it.
pub fn issue(value: &Value) -> Issue {
    let place = |key: &str| u32::try_from(output::number(value, key)).unwrap_or_default();
    let message = text(value, "/message");
    let unknown = message.strip_prefix("Unrecognized key: \"").and_then(|rest| rest.strip_suffix('"'));
    Issue {
        unknown_key: unknown.map(str::to_owned),
        hint: value.get("hint").and_then(Value::as_str).map(str::to_owned),
        file: value.get("file").and_then(Value::as_str).map(PathBuf::from),
        line: place("/line"),
        column: place("/column"),
        ..Issue::new(text(value, "/path"), message)
    }
}

fn rows<'a>(plan: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    plan[key].as_array().into_iter().flatten()
}

fn print(plan: &Value, given: Option<&Path>) -> Result<(), Failure> {
    let main = text(plan, "/path");
    for mut issue in rows(plan, "issues").map(issue) {
        // The gateway judges a text as if it stood in its file; the place to mend is the one that was given.
        if let (Some(given), true) = (given, issue.file.as_deref() == Some(Path::new(main))) {
            issue.file = Some(given.to_path_buf());
        }
        output::line(&format!("! {issue}"))?;
    }
    if plan["valid"] != true {
        output::line("The gateway would refuse this and go on with what it runs.")?;
        return Ok(());
    }
    let changes: Vec<Vec<String>> = rows(plan, "changes")
        .map(|change| {
            let class = text(change, "/class");
            vec![text(change, "/path").to_owned(), class.to_owned(), meaning(class).to_owned()]
        })
        .collect();
    if changes.is_empty() {
        output::line("Nothing would change.")?;
        return Ok(());
    }
    output::line(&output::table(&["Key", "Class", "Needs"], changes))?;
    let workers: Vec<Vec<String>> = rows(plan, "workers")
        .map(|worker| vec![text(worker, "/id").to_owned(), action(text(worker, "/action")).to_owned()])
        .collect();
    output::line(&output::table(&["Worker", "Effect"], workers))?;
    if plan["listener"] == "rebind" {
        output::line("Listener: the new address is bound before the old one is closed.")?;
    }
    output::line(match text(plan, "/decision") {
        "apply" => "It is applied to the running gateway.",
        "applyHot" => {
            "Only the hot keys are applied (gateway.reload.mode=hot); the rest waits for a restart."
        }
        "wait" => "It waits for a restart: `openclaw restart`.",
        "restart" => "The gateway restarts in place; workers and clients stay.",
        _ => "Nothing would change.",
    })?;
    Ok(())
}

fn meaning(class: &str) -> &'static str {
    match class {
        "none" => "nothing",
        "hot" => "nothing is restarted",
        "worker-agent" => "the agent's process is replaced",
        "worker-channel" => "the account's process is replaced",
        "rebind" => "the port moves",
        _ => "the gateway restarts in place",
    }
}

fn action(action: &str) -> &'static str {
    match action {
        "start" => "starts",
        "restart" => "finishes its work and is replaced",
        "told" => "is told, keeps its process",
        "stop" => "stops",
        _ => "nothing",
    }
}
