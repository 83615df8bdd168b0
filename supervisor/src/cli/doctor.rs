//! `openclaw doctor`: checks this installation, mends with `--fix`, and says the rest line by line.

use super::client::Client;
use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::{ConfigDisk, load_env};
use crate::doctor::{self, Finding, Gateway, Severity};
use crate::exit_code;
use crate::lock::{self, Held, LockError};
use serde_json::json;
use std::time::Duration;

/// The gateway answers this from memory.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Mend what can be mended: unknown and old config keys, a missing token, file modes
    #[arg(long, visible_alias = "repair")]
    fix: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Ask nothing (nothing is ever asked; accepted for scripts)
    #[arg(long, alias = "yes")]
    non_interactive: bool,
    /// Accepted for scripts: every check is made always
    #[arg(long, hide = true)]
    deep: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let Self { fix, json, non_interactive: _, deep: _ } = self;
        let paths = &invocation.paths;
        let cwd = std::env::current_dir().ok();
        let env = load_env(invocation.env.clone(), paths, cwd.as_deref());
        let disk = ConfigDisk::new(paths.clone(), env);
        // The lock is held to the end: no gateway starts in the middle of a check or repair.
        let (gateway, _lock) = gateway(invocation);
        let mut fixed = Vec::new();
        if fix {
            if gateway.is_stopped() {
                fixed.extend(doctor::mend_config(&disk, output::now_ms()));
            }
            fixed.extend(doctor::mend_modes(&disk));
        }
        let mut findings = doctor::examine(&disk, &gateway);
        if fix && !gateway.is_stopped() {
            // What is left over needs the file, and that is the running gateway's.
            for finding in findings.iter_mut().filter(|finding| finding.fixable) {
                finding.remedy =
                    "openclaw stop, then openclaw doctor --fix (the running gateway owns the config)"
                        .to_owned();
            }
        }
        if json {
            print_json(&findings, &fixed)?;
        } else {
            let head =
                format!("OpenClaw doctor {} · {}", env!("CARGO_PKG_VERSION"), paths.state_dir.display());
            output::line(&format!("{head}\n{}", report(&findings, &fixed, fix, invocation.color)))?;
        }
        let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
        Ok(if failed { exit_code::FAILURE } else { exit_code::OK })
    }
}

/// Who has the state directory; its lock, when nobody has.
fn gateway(invocation: &Invocation) -> (Gateway, Option<Held>) {
    let paths = &invocation.paths;
    if let Ok(mut client) = Client::connect(paths) {
        return match client.call("system.info", &json!({}), INFO_TIMEOUT) {
            Ok(info) => (Gateway::Running(info), None),
            Err(_) => (Gateway::Silent(Some(client.pid)), None),
        };
    }
    if !paths.state_dir.is_dir() {
        return (Gateway::Stopped, None);
    }
    match lock::lock_instance(&paths.state_dir) {
        Ok(held) => {
            held.note_command("openclaw doctor");
            (Gateway::Stopped, Some(held))
        }
        Err(LockError::StateDir { pid, .. }) => (Gateway::Silent(pid), None),
        Err(error) => (Gateway::Unknown(error.to_string()), None),
    }
}

fn count(findings: &[Finding], severity: Severity) -> usize {
    findings.iter().filter(|finding| finding.severity == severity).count()
}

fn print_json(findings: &[Finding], fixed: &[String]) -> Result<(), Failure> {
    output::json(&json!({
        "ok": count(findings, Severity::Error) == 0,
        "version": env!("CARGO_PKG_VERSION"),
        "summary": {
            "errors": count(findings, Severity::Error),
            "warnings": count(findings, Severity::Warning),
            "notes": count(findings, Severity::Note),
        },
        "fixed": fixed,
        "findings": findings,
    }))
}

/// One line for each repair and each finding, then the sum.
fn report(findings: &[Finding], fixed: &[String], fix: bool, color: bool) -> String {
    let mut lines: Vec<String> = fixed.iter().map(|line| format!("fixed    {line}")).collect();
    lines.extend(findings.iter().map(|finding| finding_line(finding, color)));
    let fixable = findings.iter().filter(|finding| finding.fixable).count();
    let (errors, warnings) = (count(findings, Severity::Error), count(findings, Severity::Warning));
    lines.push(if errors + warnings == 0 {
        "All well.".to_owned()
    } else {
        let hint = match fixable {
            0 => String::new(),
            _ if fix => String::new(),
            some => format!(" `openclaw doctor --fix` mends {some} of them."),
        };
        format!("{}, {}.{hint}", counted(errors, "error"), counted(warnings, "warning"))
    });
    lines.join("\n")
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn finding_line(finding: &Finding, color: bool) -> String {
    let (name, code) = match finding.severity {
        Severity::Error => ("error", "31"),
        Severity::Warning => ("warning", "33"),
        Severity::Note => ("note", "2"),
    };
    let name = format!("{name:<8}");
    let name = if color { format!("\u{1b}[{code}m{name}\u{1b}[0m") } else { name };
    let remedy = if finding.remedy.is_empty() { String::new() } else { format!(" → {}", finding.remedy) };
    format!("{name} {}: {}{remedy}", finding.place, finding.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_line_each_and_a_sum() {
        let unknown =
            Finding::new("config.unknown_key", Severity::Error, "c.json:3:5", "x: unknown key").fixable();
        let note = Finding::new("config.not_built", Severity::Note, "c.json", "browser: not built");
        let text = report(&[unknown, note.clone()], &[], false, false);
        let wanted = "error    c.json:3:5: x: unknown key → openclaw doctor --fix\n\
            note     c.json: browser: not built\n\
            1 error, 0 warnings. `openclaw doctor --fix` mends 1 of them.";
        assert_eq!(text, wanted);
        let mended = report(&[note], &["Removed unknown key x".to_owned()], true, false);
        assert!(mended.starts_with("fixed    Removed") && mended.ends_with("All well."), "{mended}");
    }
}
