//! I5: the transcripts on disk, read without any code of the gateway.

use super::Verdict;
use crate::matrix::scene::Scene;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One file: its entries after the header, and lines that are no JSON.
#[derive(Debug, Default)]
pub struct Transcript {
    pub path: PathBuf,
    pub entries: Vec<Value>,
    pub bad_lines: usize,
    /// The file does not end with a newline.
    pub open_end: bool,
}

impl Transcript {
    /// From the root to the last entry; what a repeated attempt left beside it is not in it.
    pub fn branch(&self) -> Vec<&Value> {
        let by_id: BTreeMap<&str, &Value> =
            self.entries.iter().filter_map(|entry| Some((entry["id"].as_str()?, entry))).collect();
        let mut branch = Vec::new();
        let mut wanted = self.entries.last().and_then(|entry| entry["id"].as_str());
        while let Some(entry) = wanted.and_then(|id| by_id.get(id)) {
            branch.push(*entry);
            wanted = entry["parentId"].as_str();
            if branch.len() > self.entries.len() {
                break;
            }
        }
        branch.reverse();
        branch
    }
}

#[derive(Debug, Default)]
pub struct Transcripts {
    pub files: Vec<Transcript>,
}

fn paths(state: &Path) -> Vec<PathBuf> {
    let agents = fs::read_dir(state.join("agents")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = agents
        .flat_map(|agent| fs::read_dir(agent.path().join("sessions")).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    paths
}

/// Names and lengths, to see whether anything was written.
pub fn sizes(state: &Path) -> Vec<(String, u64)> {
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    paths(state).iter().map(|path| (path.display().to_string(), size(path))).collect()
}

pub fn read(state: &Path) -> Transcripts {
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut file = Transcript { open_end: !text.ends_with('\n'), path, ..Transcript::default() };
        for line in text.lines().skip(1) {
            match serde_json::from_str(line) {
                Ok(entry) => file.entries.push(entry),
                Err(_) => file.bad_lines += 1,
            }
        }
        file
    };
    Transcripts { files: paths(state).into_iter().map(read).collect() }
}

/// All text of a message entry.
pub fn text_of(entry: &Value) -> String {
    match &entry["message"]["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

pub fn check(_scene: &Scene, read: &Transcripts, verdict: &mut Verdict) {
    let mut finals: BTreeMap<String, usize> = BTreeMap::new();
    for file in &read.files {
        let name = file.path.display();
        if file.bad_lines > 0 || file.open_end {
            let text = format!("{name}: {} bad lines, open end {}", file.bad_lines, file.open_end);
            verdict.check("I5", [text]);
        }
        let mut known: BTreeSet<&str> = BTreeSet::new();
        for entry in &file.entries {
            let parent = entry["parentId"].as_str();
            if parent.is_some_and(|parent| !known.contains(parent)) {
                verdict.check("I5", [format!("{name}: entry {} has no parent {parent:?}", entry["id"])]);
            }
            if let Some(id) = entry["id"].as_str()
                && !known.insert(id)
            {
                verdict.check("I5", [format!("{name}: entry {id} stands twice")]);
            }
            if entry["customType"] == "openclaw.turn-final" {
                let run = entry["data"]["runId"].as_str().unwrap_or_default();
                *finals.entry(run.to_owned()).or_default() += 1;
            }
        }
    }
    let twice = finals.into_iter().filter(|(_, times)| *times > 1);
    verdict.check("I5", twice.map(|(run, times)| format!("run {run} has {times} ends")));
}
