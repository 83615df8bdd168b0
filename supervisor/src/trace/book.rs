//! The files that steps are kept in: who writes them, how many there are, and how those of one run are found.

use super::Step;
use proto::wire::Id;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Steps that wait to be written (about 1 MiB): more than all lanes make while a slow disk takes a write. Further ones are
/// left out and counted.
const WAITING_MAX: usize = 4096;
/// Bytes of one file, and files that are kept: together 64 MiB, some 15 000 runs with tools.
const FILE_BYTES_MAX: u64 = 8 << 20;
const FILES_MAX: usize = 8;
/// Bytes that are written at once at most.
const BATCH_BYTES_MAX: usize = 64 << 10;
/// Longest line that is read back; ours are far shorter, and a file may have been damaged.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Steps of one run that are shown: thirty for each of its model calls at the most of a run.
pub const STEPS_MAX: usize = 4_000;

/// The place where steps are told. Cheap to clone; the thread ends with the last one.
#[derive(Clone, Debug)]
pub struct Book {
    steps: SyncSender<Step>,
    left_out: Arc<AtomicU64>,
    dir: Arc<PathBuf>,
}

impl Book {
    /// Starts the thread that writes below `dir`, which is made when the first step comes.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn open(dir: PathBuf) -> std::io::Result<Self> {
        let (steps, told) = sync_channel(WAITING_MAX);
        let dir = Arc::new(dir);
        let writer = Writer { dir: dir.clone(), file: None, bytes: 0, refused: false };
        std::thread::Builder::new().name("trace".into()).spawn(move || writer.serve(&told))?;
        Ok(Self { steps, left_out: Arc::default(), dir })
    }

    /// Never waits.
    pub fn note(&self, step: Step) {
        if self.steps.try_send(step).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Steps of this life that were not written since too many waited.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// The steps of a run in the order in which they were told. Reads files: not for an async thread.
    pub fn steps_of(&self, run_id: Id) -> Vec<Step> {
        let mark = run_id.to_string();
        let mut found = Vec::new();
        for (_, path) in files(&self.dir) {
            let Ok(file) = File::open(path) else { continue };
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while found.len() < STEPS_MAX && next_line(&mut lines, &mut line) {
                let text = std::str::from_utf8(&line).unwrap_or_default();
                if text.contains(&mark)
                    && let Ok(step) = serde_json::from_str::<Step>(text)
                    && step.run_id == run_id
                {
                    found.push(step);
                }
            }
        }
        found
    }
}

/// False at the end. A line that is too long is passed over in pieces.
fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::Read::take(from, limit).read_until(b'\n', line).is_ok_and(|bytes| bytes > 0)
}

/// Number and path of each file, oldest first.
fn files(dir: &Path) -> Vec<(u64, PathBuf)> {
    let number = |path: &Path| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix("trace-")?.strip_suffix(".jsonl")?.parse().ok()
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.filter_map(|entry| Some((number(&entry.path())?, entry.path()))).collect();
    found.sort();
    found
}

struct Writer {
    dir: Arc<PathBuf>,
    file: Option<File>,
    bytes: u64,
    /// The disk refused, and the log said so.
    refused: bool,
}

impl Writer {
    fn serve(mut self, told: &Receiver<Step>) {
        let mut batch = Vec::new();
        while let Ok(first) = told.recv() {
            batch.clear();
            let mut next = Some(first);
            while let Some(step) = next {
                if serde_json::to_writer(&mut batch, &step).is_ok() {
                    batch.push(b'\n');
                }
                next = (batch.len() < BATCH_BYTES_MAX).then(|| told.try_recv().ok()).flatten();
            }
            match self.write(&batch) {
                Ok(()) => self.refused = false,
                Err(error) => {
                    self.file = None;
                    if !std::mem::replace(&mut self.refused, true) {
                        let dir = self.dir.display();
                        tracing::warn!(%dir, %error, "steps of runs cannot be written; `openclaw trace` will not show them");
                    }
                }
            }
        }
    }

    fn write(&mut self, batch: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() || self.bytes >= FILE_BYTES_MAX {
            self.turn_over()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(batch)?;
        self.bytes = self.bytes.saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Goes on with the newest file, or begins the next one and drops the oldest.
    fn turn_over(&mut self) -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir.as_path())?;
        let known = files(&self.dir);
        let last = known.last().map_or(0, |(number, _)| *number);
        let size = known.last().map_or(0, |(_, path)| fs::metadata(path).map_or(0, |facts| facts.len()));
        let number = if size < FILE_BYTES_MAX { last.max(1) } else { last.saturating_add(1) };
        let path = self.dir.join(format!("trace-{number:08}.jsonl"));
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        self.bytes = file.metadata()?.len();
        if self.bytes > 0 {
            // What a power cut left of a line must not swallow the next one.
            file.write_all(b"\n")?;
        }
        self.file = Some(file);
        for (_, old) in known.iter().rev().skip(FILES_MAX - 1) {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Written when the thread has ended.
    fn told(dir: &Path, steps: Vec<Step>) -> Book {
        let book = Book::open(dir.to_owned()).unwrap();
        let reader = Book { steps: sync_channel(1).0, ..book.clone() };
        let count = steps.len();
        let run_id = steps[0].run_id;
        steps.into_iter().for_each(|step| book.note(step));
        while reader.steps_of(run_id).len() < count.min(STEPS_MAX) {
            std::thread::yield_now();
        }
        reader
    }

    #[test]
    fn steps_of_one_run_are_found_again_over_lives_and_torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (Id([1; 16]), Id([2; 16]));
        let step = |run, n: i64| Step::new(run, "gateway", "model", json!({"n": n}));
        told(dir.path(), vec![step(one, 1), step(one, 2)]);
        let path = files(dir.path())[0].1.clone();
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"atUs\":1,\"runId\":\"0101")
            .unwrap();
        let book = told(dir.path(), vec![step(other, 3)]);
        let found: Vec<_> = book.steps_of(one).iter().map(|step| step.detail["n"].clone()).collect();
        assert_eq!(found, [1, 2]);
        assert_eq!(book.steps_of(other).len(), 1);
        assert_eq!(
            fs::metadata(&path)
                .map(|facts| std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o777)
                .unwrap(),
            0o600
        );
    }

    #[test]
    fn a_full_file_is_followed_by_the_next_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=FILES_MAX {
            let file = File::create(dir.path().join(format!("trace-{number:08}.jsonl"))).unwrap();
            file.set_len(FILE_BYTES_MAX).unwrap();
        }
        told(dir.path(), vec![Step::new(Id([1; 16]), "gateway", "model", json!({}))]);
        let numbers: Vec<u64> = files(dir.path()).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (2..=9).collect::<Vec<u64>>());
    }
}
