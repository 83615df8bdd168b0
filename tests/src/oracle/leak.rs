//! I9: planted secrets in places where they do not belong.

use crate::gateway::{TOKEN, command_line};
use crate::matrix::scene::{MODEL_KEY, Scene};
use std::fs;
use std::path::{Path, PathBuf};

/// Files larger than this are not logs.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Owners of secrets: the configuration with its copies, and what it is made of.
const OWNERS: [&str; 3] = ["openclaw.json", "config-history", "credentials"];

/// Where secrets were found.
pub fn found(scene: &Scene) -> Vec<String> {
    let bot = scene.telegram.token().to_owned();
    let secrets = [
        ("the model's key", MODEL_KEY.to_owned()),
        ("the bot's token", bot),
        ("the token", TOKEN.to_owned()),
    ];
    let mut found = Vec::new();
    let mut files = Vec::new();
    walk(scene.gateway.home.path(), &mut files);
    walk(&scene.gateway.state_dir(), &mut files);
    files.sort();
    files.dedup();
    for path in files {
        let text = fs::read(&path).unwrap_or_default();
        for (name, secret) in &secrets {
            if contains(&text, secret) {
                found.push(format!("{name} stands in {}", path.display()));
            }
        }
    }
    for process in scene.processes() {
        let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let arguments = command_line(process.pid);
        for (name, secret) in &secrets {
            if arguments.contains(secret) || contains(&environment, secret) {
                found.push(format!("{name} in arguments or environment of {}", process.command));
            }
        }
    }
    found
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        let owner = OWNERS.iter().any(|owner| name.starts_with(owner)) || name.contains("openclaw.json");
        if owner || name.contains("last-good") || name.contains("history") {
            continue;
        }
        if kind.is_dir() {
            walk(&path, files);
        } else if kind.is_file() && entry.metadata().is_ok_and(|meta| meta.len() < FILE_BYTES_MAX) {
            files.push(path);
        }
    }
}

fn contains(text: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(text).contains(word)
}
