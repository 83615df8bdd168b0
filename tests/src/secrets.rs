//! Planted secrets and the search for them: whatever the gateway writes, prints, sends or hands on may hold none of them. Each is
//! distinct, so that a find names its source.

use crate::gateway::{children_of, command_line};
use std::fs;
use std::path::{Path, PathBuf};

/// A secret, and the files that are meant to hold it (by the end of their path, from the state directory).
#[derive(Debug, Clone)]
pub struct Planted {
    pub name: &'static str,
    pub value: String,
    pub owners: &'static [&'static str],
}

/// Larger files hold no text of ours.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Where the planted secrets stand in `text`: their names.
pub fn found_in(planted: &[Planted], text: &[u8]) -> Vec<&'static str> {
    let holds = |secret: &&Planted| {
        let value = secret.value.as_bytes();
        text.windows(value.len()).any(|window| window == value)
    };
    planted.iter().filter(holds).map(|secret| secret.name).collect()
}

/// Searches every file below `dir`; a file that owns a secret may hold that one.
pub fn in_files(planted: &[Planted], dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in files(dir) {
        let small = fs::metadata(&path).is_ok_and(|meta| meta.len() <= FILE_BYTES_MAX);
        let text = if small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let relative = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        for secret in planted {
            let owns = secret.owners.iter().any(|owner| relative.starts_with(owner));
            if !owns && !found_in(std::slice::from_ref(secret), &text).is_empty() {
                found.push(format!("{} in the file {relative}", secret.name));
            }
        }
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let kind = entry.file_type();
        if kind.as_ref().is_ok_and(fs::FileType::is_dir) {
            all.extend(files(&entry.path()));
        } else if kind.is_ok_and(|kind| kind.is_file()) {
            all.push(entry.path());
        }
    }
    all
}

/// Searches the arguments of a process and of everything below it, and the environment of everything below it. Gives the finds, and
/// how many processes were looked at. Needs the right to read other processes' environments.
pub fn in_processes(planted: &[Planted], root: u32) -> (Vec<String>, usize) {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(next) = all.get(at) {
        all.extend(children_of(*next));
        at += 1;
    }
    let mut found = Vec::new();
    for pid in &all {
        let line = command_line(*pid);
        for name in found_in(planted, line.as_bytes()) {
            found.push(format!("{name} in the arguments of {line}"));
        }
        // What the gateway itself was started with is its operator's choice.
        let environment = if *pid == root { Vec::new() } else { read_environment(*pid) };
        for name in found_in(planted, &environment) {
            found.push(format!("{name} in the environment of {line}"));
        }
    }
    (found, all.len())
}

fn read_environment(pid: u32) -> Vec<u8> {
    match fs::read(format!("/proc/{pid}/environ")) {
        Ok(bytes) => bytes,
        // Gone meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Vec::new(),
        Err(error) => panic!("the environment of {pid} cannot be searched: {error}"),
    }
}
