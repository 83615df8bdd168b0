//! The arrows between crates and parts go one way.

use super::{report, root, sources};
use std::fs;

/// Crates that a crate's manifest names under `[dependencies]`.
fn workspace_dependencies(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let names = dependencies.lines().filter_map(|line| line.split(['=', '.', ' ']).next());
    names
        .filter(|name| ["proto", "supervisor", "worker-agent", "worker-channel", "tests"].contains(name))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_three_processes_share_nothing_but_proto() {
    for name in ["supervisor", "worker-agent", "worker-channel", "tests"] {
        assert_eq!(workspace_dependencies(name), ["proto"], "dependencies of {name} inside the workspace");
    }
    assert!(workspace_dependencies("proto").is_empty(), "proto stands on its own");
}

/// Lines of a file that are code: neither comments nor inside `#[cfg(test)]`.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Files below one of `paths` whose code has one of `words`.
fn uses(folders: &[&str], paths: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources(folders) {
        if source.is_test() || !paths.iter().any(|path| source.path.starts_with(path)) {
            continue;
        }
        for (number, line) in code_lines(&source.text) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    found
}

#[test]
fn wire_types_do_no_io() {
    let words = ["tokio", "std::fs", "std::net", "std::process", "SystemTime", "Instant::now"];
    report("IO in proto::wire", &uses(&["proto/src"], &["proto/src/wire"], &words));
}

#[test]
fn pure_rules_know_no_driver() {
    let pure = [
        "supervisor/src/worker/lifecycle.rs",
        "supervisor/src/worker/restart.rs",
        "supervisor/src/scheduler/queue.rs",
        "supervisor/src/scheduler/lanes.rs",
        "supervisor/src/scheduler/outcome.rs",
        "supervisor/src/router/route.rs",
        "supervisor/src/router/access.rs",
        "worker-agent/src/turn/state.rs",
        "worker-agent/src/tool/policy.rs",
        "worker-channel/src/text",
    ];
    let words =
        ["tokio::", "std::fs", "std::net", "std::process", "SystemTime::now", "Instant::now", "rusqlite"];
    report(
        "a pure rule does IO or reads a clock",
        &uses(&["supervisor", "worker-agent", "worker-channel"], &pure, &words),
    );
}

#[test]
fn the_command_line_reaches_the_gateway_only_from_outside() {
    let words = [
        "crate::gateway::Handles",
        "crate::scheduler::",
        "crate::rpc::",
        "crate::journal::",
        "crate::delivery::",
    ];
    report("cli imports the gateway's modules", &uses(&["supervisor/src"], &["supervisor/src/cli/"], &words));
}

#[test]
fn only_the_journal_speaks_sql() {
    let found: Vec<String> = uses(&["supervisor/src"], &["supervisor/src"], &["rusqlite::"])
        .into_iter()
        .filter(|line| !line.starts_with("supervisor/src/journal"))
        .collect();
    report("SQL outside the journal", &found);
}

#[test]
fn no_vendor_is_named_outside_its_folder() {
    let telegram: Vec<String> =
        uses(&["worker-channel/src"], &["worker-channel/src"], &["api.telegram.org", "getUpdates"])
            .into_iter()
            .filter(|line| !line.starts_with("worker-channel/src/channel/telegram"))
            .collect();
    report("Telegram outside its folder", &telegram);
}
