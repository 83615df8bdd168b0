//! One open transcript: an append-only tree of entries in a JSONL file, locked while it is open, with the newest
//! entries in memory. The tail is repaired when the file is opened; what lies before it is never rewritten.
//!
//! Not here: what a turn writes and when it syncs (`turn`), and what clients see of it (`history`).

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proto::runtime::failpoint;

use super::disk::{self, with_suffix};
use super::entry::{Body, Entry, Fallback, Header, TURN_FINAL, TURN_START, iso};
use super::message::Message;

/// Entries that one open session keeps in memory. More text than this fits no model's window.
pub const WINDOW_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Entries of a turn that has not ended are kept beyond that, from its question on: without them the model would be asked
/// without the question (pictures are large), and a resumed run would not know that it had begun. Eighty results of the
/// largest size fit.
const TURN_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What no summary covers yet is kept up to this, until the next call of a model summarises it: otherwise a large picture
/// would push a conversation out before anybody could.
const LIVE_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Above this the conversation is summarised, whatever a model's window would hold: the rest of the window is for a turn.
pub const LIVE_BYTES_GOOD: usize = WINDOW_BYTES_MAX / 4 * 3;

/// Why a transcript cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TranscriptError {
    #[error("transcript {path} is in use by another process; stop the other gateway on this state directory")]
    Locked { path: PathBuf },
    #[error("transcript {path}: {source}; check the disk and the permissions of the sessions folder")]
    Io { path: PathBuf, source: io::Error },
}

/// What opening had to mend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Where the cut tail is kept.
    pub torn: Option<PathBuf>,
    /// The last line was whole and lacked only its newline.
    pub newline_added: bool,
    /// Unreadable lines before the tail; they stay in the file and are skipped.
    pub skipped_lines: usize,
}

/// See the module head.
#[derive(Debug)]
pub struct Transcript {
    path: PathBuf,
    file: File,
    /// Bytes in the file; a failed write is cut back to this.
    len: u64,
    header: Header,
    header_written: bool,
    window: VecDeque<(Entry, usize)>,
    window_bytes: usize,
    /// The turn that has a start and no final yet.
    open_turn: Option<OpenTurn>,
    /// Number of the first entry that the last summary does not cover.
    live_first: usize,
    /// Hex ids in use, so that a new one is new. Other ids cannot collide with ours.
    ids: HashSet<u32>,
    leaf: Option<String>,
    entries: usize,
    repairs: Repairs,
}

#[derive(Debug)]
struct OpenTurn {
    run_id: String,
    /// Number of its question among all entries.
    first: usize,
}

impl Transcript {
    /// Opens or creates the file, takes its lock, mends its tail and reads it. `header` is used for a new file.
    pub fn open(path: &Path, header: Header, now_ms: i64) -> Result<Self, TranscriptError> {
        let io = |source| TranscriptError::Io { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            disk::create_private_dir(dir).map_err(io)?;
        }
        let (file, created) = disk::open_locked(path, true).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => TranscriptError::Locked { path: path.to_owned() },
            _ => io(error),
        })?;
        if created {
            disk::sync_parent(path).map_err(io)?;
        }
        let mut transcript = Self {
            path: path.to_owned(),
            file,
            len: 0,
            header,
            header_written: false,
            window: VecDeque::new(),
            window_bytes: 0,
            open_turn: None,
            live_first: 0,
            ids: HashSet::new(),
            leaf: None,
            entries: 0,
            repairs: Repairs::default(),
        };
        transcript.load(now_ms).map_err(io)?;
        Ok(transcript)
    }

    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    /// Entries in the file, the header not counted.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// The next entry becomes a child of `parent` instead of the last one: starts a branch.
    pub fn branch_from(&mut self, parent: Option<String>) {
        self.leaf = parent;
    }

    /// Adds one entry below the leaf with a single write. Not durable before `sync`.
    pub fn append(&mut self, body: Body, now_ms: i64) -> Result<String, TranscriptError> {
        let entry = Entry { id: self.fresh_id(), parent_id: self.leaf.clone(), timestamp: iso(now_ms), body };
        let line = entry.to_line();
        let id = entry.id.clone();
        self.tear(&entry.body, &line);
        self.write_line(&line)?;
        self.remember(entry, line.len());
        Ok(id)
    }

    /// Makes everything appended so far survive a power loss.
    pub fn sync(&self) -> Result<(), TranscriptError> {
        self.file.sync_data().map_err(|source| TranscriptError::Io { path: self.path.clone(), source })
    }

    /// From the oldest remembered ancestor down to the leaf.
    pub fn branch(&self) -> Vec<&Entry> {
        let mut wanted = self.leaf.as_deref();
        let mut branch = Vec::new();
        // Entries follow their parents in the file, so one pass from the end sees every ancestor.
        for (entry, _) in self.window.iter().rev() {
            if wanted == Some(entry.id.as_str()) {
                branch.push(entry);
                wanted = entry.parent_id.as_deref();
            }
        }
        branch.reverse();
        branch
    }

    /// Messages of the branch that belong into the model's context, oldest first, after the last compaction.
    pub fn context(&self) -> Vec<Message> {
        super::context::build(&self.branch())
    }

    /// Test builds only: the power goes away in the middle of this record.
    fn tear(&mut self, body: &Body, line: &[u8]) {
        let point = match body {
            Body::Message { message: Message::User(_) } => "ag.c3.mid_write",
            Body::Message { message: Message::Assistant(_) } => "ag.c4.mid_write",
            Body::Message { message: Message::ToolResult(_) } => "ag.c6.mid_write",
            Body::Compaction { .. } => "ag.compact.mid_write",
            body if body.custom_data(TURN_FINAL).is_some() => "ag.c7.mid_write",
            _ => return,
        };
        if let Some(bytes) = failpoint::torn(point) {
            drop(self.file.write_all(line.get(..bytes).unwrap_or(line)));
            failpoint::die();
        }
    }

    fn fresh_id(&self) -> String {
        let mut bytes = [0_u8; 4];
        // Without entropy the id comes from the count: still unique in this file.
        if getrandom::fill(&mut bytes).is_err() {
            bytes = (self.entries as u32).to_le_bytes();
        }
        let mut id = u32::from_le_bytes(bytes);
        while self.ids.contains(&id) {
            id = id.wrapping_add(1);
        }
        format!("{id:08x}")
    }

    /// One `write(2)` for the record; the header of a new file goes in front of it in the same write.
    fn write_line(&mut self, line: &[u8]) -> Result<(), TranscriptError> {
        let io = |path: &Path, source| TranscriptError::Io { path: path.to_owned(), source };
        let with_header;
        let bytes = if self.header_written {
            line
        } else {
            with_header = [self.header.to_line().as_slice(), line].concat();
            &with_header
        };
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match written {
            Ok(count) if count == bytes.len() => {
                self.len += count as u64;
                self.header_written = true;
                Ok(())
            }
            short => {
                // A half record must not stay in front of the next one.
                self.file.set_len(self.len).map_err(|source| io(&self.path, source))?;
                let source =
                    short.err().unwrap_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "short write"));
                Err(io(&self.path, source))
            }
        }
    }

    fn remember(&mut self, entry: Entry, bytes: usize) {
        if let Some(id) = hex_id(&entry.id) {
            self.ids.insert(id);
        }
        self.leaf = Some(entry.id.clone());
        self.entries += 1;
        self.window_bytes += bytes;
        self.window.push_back((entry, bytes));
        self.follow_turn();
        self.follow_summary();
        while self.window.len() > 1 && self.is_oldest_dispensable() {
            if let Some((_, dropped)) = self.window.pop_front() {
                self.window_bytes -= dropped;
            }
        }
    }

    fn is_oldest_dispensable(&self) -> bool {
        let oldest = self.entries - self.window.len();
        let limit = match &self.open_turn {
            Some(turn) if oldest >= turn.first => TURN_BYTES_MAX,
            _ if oldest >= self.live_first => LIVE_BYTES_MAX,
            _ => WINDOW_BYTES_MAX,
        };
        self.window_bytes > limit
    }

    /// After a summary only what it does not cover is needed.
    fn follow_summary(&mut self) {
        let Some((Entry { body: Body::Compaction { first_kept_entry_id, .. }, .. }, _)) = self.window.back()
        else {
            return;
        };
        let oldest = self.entries - self.window.len();
        let kept = self.window.iter().position(|(entry, _)| entry.id == *first_kept_entry_id);
        self.live_first = kept.map_or(self.entries - 1, |at| oldest + at);
    }

    /// Bytes of the entries that the last summary does not cover.
    pub fn live_bytes(&self) -> usize {
        let oldest = self.entries - self.window.len();
        self.window.iter().skip(self.live_first.saturating_sub(oldest)).map(|(_, bytes)| bytes).sum()
    }

    /// Looks whether the newest entry begins a turn or ends the open one.
    fn follow_turn(&mut self) {
        let Some((newest, _)) = self.window.back() else { return };
        let run_id = |data: &serde_json::Value| Some(data.get("runId")?.as_str()?.to_owned());
        if let Some(run_id) = newest.body.custom_data(TURN_START).and_then(run_id) {
            // A resumed run writes another start: its turn began with the first one.
            if self.open_turn.as_ref().is_none_or(|turn| turn.run_id != run_id) {
                let before = self.window.iter().rev().skip(1);
                let is_user =
                    |(entry, _): &&(Entry, usize)| matches!(entry.body.message(), Some(Message::User(_)));
                let questions = before.take_while(is_user).count();
                self.open_turn = Some(OpenTurn { run_id, first: self.entries - 1 - questions });
            }
        } else if let Some(ended) = newest.body.custom_data(TURN_FINAL).and_then(run_id)
            && self.open_turn.as_ref().is_some_and(|turn| turn.run_id == ended)
        {
            self.open_turn = None;
        }
    }

    fn load(&mut self, now_ms: i64) -> io::Result<()> {
        let mut scan = Scan::default();
        let reader = self.file.try_clone()?;
        (&reader).seek(SeekFrom::Start(0))?;
        let mut header = None;
        let mut first_ids: Vec<String> = Vec::new();
        let total = disk::scan_lines(&reader, |line| {
            if line.offset == 0 {
                header = Header::parse(line.bytes);
                if header.is_some() {
                    scan.good(&line);
                    return;
                }
            }
            let legacy = header.as_ref().is_some_and(|header: &Header| header.version < 2);
            let fallback = Fallback { id: format!("{:08x}", scan.lines + 1), parent: self.leaf.as_deref() };
            match Entry::parse(line.bytes, &fallback) {
                Some(mut entry) => {
                    if legacy {
                        first_ids.push(entry.id.clone());
                        migrate_compaction(&mut entry, line.bytes, &first_ids);
                    }
                    scan.good(&line);
                    self.remember(entry, line.bytes.len() + 1);
                }
                None => scan.bad(),
            }
        })?;
        self.len = total;
        if let Some(found) = header {
            self.header = found;
        }
        // A file whose first line is lost keeps its entries; only an empty one gets a header.
        self.header_written = scan.good_end > 0;
        self.repairs.skipped_lines = scan.bad_inside;
        self.mend(&scan, now_ms)
    }

    /// Cuts what lies behind the last readable line, or adds the newline that a whole last line lacks.
    fn mend(&mut self, scan: &Scan, now_ms: i64) -> io::Result<()> {
        if scan.good_end < self.len {
            let mut tail = vec![0; usize::try_from(self.len - scan.good_end).unwrap_or(usize::MAX)];
            self.file.read_exact_at(&mut tail, scan.good_end)?;
            let kept = with_suffix(&self.path, &format!("torn-{now_ms}"));
            disk::replace(&kept, &tail)?;
            self.file.set_len(scan.good_end)?;
            self.file.sync_all()?;
            self.len = scan.good_end;
            self.repairs.torn = Some(kept);
        } else if scan.newline_missing {
            self.file.write_all(b"\n")?;
            self.file.sync_data()?;
            self.len += 1;
            self.repairs.newline_added = true;
        }
        Ok(())
    }

    /// Replaces the file by `lines` (whole lines, header first) and reads it again. The old file is kept as
    /// `<file>.<suffix>`.
    pub fn rewrite(&mut self, lines: &[u8], suffix: &str, now_ms: i64) -> Result<PathBuf, TranscriptError> {
        let path = self.path.clone();
        let io = |source| TranscriptError::Io { path: path.clone(), source };
        let backup = with_suffix(&self.path, suffix);
        fs::hard_link(&self.path, &backup).map_err(io)?;
        failpoint::hit("ag.compact.mid");
        let named = || failpoint::hit("ag.compact.before_rename");
        disk::replace_after(&self.path, lines, named).map_err(io)?;
        failpoint::hit("ag.compact.after");
        let header = self.header.clone();
        // The old lock goes with the old file only after the new one is held.
        let fresh = Self::open(&self.path, header, now_ms)?;
        *self = fresh;
        Ok(backup)
    }
}

/// Where the readable part of a file ends.
#[derive(Default)]
struct Scan {
    lines: usize,
    good_end: u64,
    newline_missing: bool,
    bad_inside: usize,
    bad_run: usize,
}

impl Scan {
    fn good(&mut self, line: &disk::Line<'_>) {
        self.lines += 1;
        self.bad_inside += std::mem::take(&mut self.bad_run);
        self.good_end = line.offset + line.bytes.len() as u64 + u64::from(line.complete);
        self.newline_missing = !line.complete;
    }

    fn bad(&mut self) {
        self.lines += 1;
        self.bad_run += 1;
    }
}

fn hex_id(id: &str) -> Option<u32> {
    (id.len() == 8).then(|| u32::from_str_radix(id, 16).ok()).flatten()
}

/// Version 1 named the first kept entry by its line number (the header is line 0).
fn migrate_compaction(entry: &mut Entry, line: &[u8], ids: &[String]) {
    let Body::Compaction { first_kept_entry_id, .. } = &mut entry.body else { return };
    let index = serde_json::from_slice::<serde_json::Value>(line)
        .ok()
        .and_then(|value| value.get("firstKeptEntryIndex")?.as_u64())
        .and_then(|index| usize::try_from(index).ok());
    if let Some(id) = index.and_then(|index| ids.get(index.saturating_sub(1))) {
        first_kept_entry_id.clone_from(id);
    }
}

#[cfg(test)]
mod tests;
