//! Transcripts whose last write was cut off. Their agent mends them when it opens them; here they are only counted.

use super::{Finding, Severity};
use serde_json::Value;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files that are looked at; the agent looks at each that it opens.
const FILES_MAX: usize = 10_000;
/// End of a file that is read: a longer last line that ends properly is taken as whole.
const TAIL_BYTES_MAX: u64 = 64 * 1024;

pub fn examine(state: &Path) -> Option<Finding> {
    let agents = state.join("agents");
    let folders =
        fs::read_dir(&agents).into_iter().flatten().flatten().map(|entry| entry.path().join("sessions"));
    let files = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let transcripts =
        files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let torn = transcripts.take(FILES_MAX).filter(|path| is_torn(path).unwrap_or(false)).count();
    (torn > 0).then(|| {
        let what = if torn == 1 { "1 transcript ends".to_owned() } else { format!("{torn} transcripts end") };
        let message =
            format!("{what} in a torn line, which is cut off and kept beside the file at its next use");
        Finding::new("transcript.torn", Severity::Note, agents.display(), message)
    })
}

fn is_torn(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let start = len.saturating_sub(TAIL_BYTES_MAX);
    let mut tail = vec![0; usize::try_from(len - start).unwrap_or_default()];
    file.read_exact_at(&mut tail, start)?;
    let Some(lines) = tail.strip_suffix(b"\n") else { return Ok(!tail.is_empty()) };
    let last = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    // A line that begins before what was read cannot be judged by its end.
    let is_whole = start == 0 || last.len() < lines.len();
    Ok(is_whole && !last.is_empty() && serde_json::from_slice::<Value>(last).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_torn_end_counts() {
        let state = tempfile::tempdir().unwrap();
        let sessions = state.path().join("agents/main/sessions");
        fs::create_dir_all(&sessions).unwrap();
        let long = format!("{{}}\n\"{}\"\n", "x".repeat(100_000));
        for (name, text, torn) in [
            ("empty", "", false),
            ("good", "{\"a\":1}\n{\"b\":2}\n", false),
            ("long", long.as_str(), false),
            ("cut", "{\"a\":1}\n{\"b\":", true),
            ("no_newline", "{\"a\":1}", true),
            ("garbage", "{\"a\":1}\n{\"b\":\n", true),
        ] {
            let path = sessions.join(format!("{name}.jsonl"));
            fs::write(&path, text).unwrap();
            assert_eq!(is_torn(&path).unwrap(), torn, "{name}");
        }
        let found = examine(state.path()).unwrap();
        assert!(found.message.starts_with("3 transcripts"), "{}", found.message);
    }
}
