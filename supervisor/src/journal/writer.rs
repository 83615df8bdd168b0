//! The journal thread: one connection, group commit, and what happens when the disk says no.
//!
//! It takes what waits, at most 128 jobs, runs each in a savepoint of one transaction and commits once; it never waits for
//! more to come. When the disk is full the reserve file is given up and the batch tried again; when that fails too, the
//! journal is *read-only*: every write is refused (so nothing is acknowledged to a network) until a probe, each 5 s, finds
//! that writing works again. After an input/output error the connection writes its probe first, in the place of what failed
//! (else the frames of a refused transaction could count as committed when the log is read anew), and is then reopened and
//! checked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::runtime::failpoint;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::disk::{self, Reserve};
use super::open::{begin_life, check_in_background, has_room, make_dir, not_opened, open, quick_check};
use super::recover::KV_CLEAN;
use super::types::Integrity;
use super::{JournalError, ledger, noted};
use crate::trace::book::Book;

/// Jobs that may wait (one per request in flight of the whole gateway; senders wait beyond it).
pub const JOBS_WAITING_MAX: usize = 1024;
/// Jobs of one commit: enough to share an fsync, few enough that nobody waits long for it.
const BATCH_JOBS_MAX: usize = 128;
/// Between two probes of a disk that refused (5 s).
pub const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Idle time after which the log is merged into the file (30 s).
const CHECKPOINT_IDLE: Duration = Duration::from_secs(30);
/// Size of the log at which it is merged at once (4 MiB).
pub(super) const WAL_BYTES_MAX: u64 = 4 << 20;
/// Written by a probe: more than fits into slack that the log may have left (64 KiB).
const PROBE_BYTES: usize = 64 * 1024;
/// An operator's shell may hold the write lock for a moment (1 s).
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(1);
/// Page cache of the connection (1 MiB): the working set is the open rows.
pub(super) const CACHE_KIB: i64 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncLevel {
    /// Survives a power cut.
    #[default]
    Full,
    /// Survives a kill, not a power cut.
    #[cfg_attr(not(test), expect(dead_code, reason = "makes the tests quick"))]
    Normal,
}

#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// `<state>/journal`; made with mode 0700.
    pub dir: PathBuf,
    pub sync: SyncLevel,
    /// `--unsafe-fs`: accept a network file system.
    pub unsafe_fs: bool,
    /// Keep `reserve.bin`.
    pub reserve: bool,
    /// Between two probes of a disk that refused; [`PROBE_EVERY`].
    pub probe_every: Duration,
}

impl OpenOptions {
    /// As a gateway opens it: every commit synced, a reserve kept.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, sync: SyncLevel::Full, unsafe_fs: false, reserve: true, probe_every: PROBE_EVERY }
    }
}

/// What other threads may look at without asking the journal thread.
#[derive(Debug)]
pub(super) struct Shared {
    pub readonly: watch::Sender<Option<String>>,
    pub integrity: Mutex<Integrity>,
    pub db: PathBuf,
    pub wal: PathBuf,
    /// The last stop was orderly.
    pub clean: bool,
    /// `None`: none is kept.
    pub reserve: Option<Reserve>,
}

impl Shared {
    pub fn integrity(&self) -> Integrity {
        self.integrity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_integrity(&self, found: Integrity) {
        *self.integrity.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

pub(super) enum Msg {
    Work(Box<dyn Work>),
    /// Note a clean stop, close, end the thread.
    Close(oneshot::Sender<Result<(), JournalError>>),
    /// End at once, as a kill would.
    #[cfg(test)]
    Crash(oneshot::Sender<()>),
}

/// How one job went.
pub(super) enum Ran {
    Done,
    /// It was refused: undo it, keep the batch.
    Refused,
    /// The disk failed: undo the batch.
    Trouble(JournalError),
}

pub(super) trait Work: Send {
    fn writes(&self) -> bool;
    /// May be called again when the batch is tried again.
    fn run(&mut self, conn: &Connection) -> Ran;
    fn reply(self: Box<Self>, commit: Result<(), JournalError>);
}

pub(super) struct Writer {
    /// `None` between a failed disk and a successful reopen.
    conn: Option<Connection>,
    options: OpenOptions,
    reserve: Reserve,
    shared: Arc<Shared>,
    waiting: tokio::runtime::Runtime,
    probed: Instant,
    dirty: bool,
    /// An input/output error was seen: reopen as soon as it writes again.
    doubtful: bool,
    /// The reserve is wanted and not there.
    lacks_reserve: bool,
    book: Book,
}

/// A running journal thread.
pub(super) struct Started {
    pub jobs: mpsc::Sender<Msg>,
    pub shared: Arc<Shared>,
    /// For the operator.
    pub warnings: Vec<String>,
    pub book: Book,
}

/// Opens the store and starts its thread. Blocks: call it before the runtimes start.
pub(super) fn start(options: OpenOptions) -> Result<Started, JournalError> {
    let failed = |why: String| JournalError::Open { path: options.dir.display().to_string(), why };
    make_dir(&options.dir).map_err(|e| not_opened(&options.dir, JournalError::Sqlite(e.to_string())))?;
    let warnings: Vec<String> = disk::check(&options.dir, options.unsafe_fs)?.into_iter().collect();
    let reserve = Reserve::new(&options.dir);
    let db = options.dir.join("journal.db");
    let fresh = !db.exists();
    if fresh {
        has_room(&options.dir)?;
    }
    let opened = open(&db, options.sync).and_then(|conn| begin_life(&conn, fresh).map(|clean| (conn, clean)));
    let (conn, clean) = match opened {
        Err(JournalError::ReadOnly { .. }) if reserve.spend() => {
            let again =
                open(&db, options.sync).and_then(|conn| begin_life(&conn, fresh).map(|clean| (conn, clean)));
            again.map_err(|e| not_opened(&options.dir, e))?
        }
        other => other.map_err(|e| not_opened(&options.dir, e))?,
    };
    let lacks_reserve = options.reserve && !reserve.fill();
    let wal = options.dir.join("journal.db-wal");
    let shared = Arc::new(Shared {
        readonly: watch::Sender::new(None),
        integrity: Mutex::new(if clean { Integrity::NotNeeded } else { Integrity::Running }),
        db,
        wal,
        clean,
        reserve: options.reserve.then(|| reserve.clone()),
    });
    if !clean {
        check_in_background(&shared).map_err(|e| failed(e.to_string()))?;
    }
    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let book = Book::open(options.dir.join("trace")).map_err(|e| failed(e.to_string()))?;
    let (jobs, rx) = mpsc::channel(JOBS_WAITING_MAX);
    let writer = Writer {
        conn: Some(conn),
        reserve,
        shared: shared.clone(),
        waiting,
        probed: Instant::now(),
        doubtful: false,
        lacks_reserve,
        book: book.clone(),
        dirty: true,
        options: options.clone(),
    };
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || writer.serve(rx))
        .map_err(|e| failed(e.to_string()))?;
    Ok(Started { jobs, shared, warnings, book })
}

impl Writer {
    fn serve(mut self, mut rx: mpsc::Receiver<Msg>) {
        loop {
            let probes = self.readonly() || self.lacks_reserve;
            let wait = if probes { self.options.probe_every } else { CHECKPOINT_IDLE };
            let next = self.waiting.block_on(async { tokio::time::timeout(wait, rx.recv()).await });
            let mut end = None;
            match next {
                Err(_elapsed) => self.idle(),
                Ok(None) => return,
                Ok(Some(Msg::Work(first))) => {
                    let mut batch = vec![first];
                    while batch.len() < BATCH_JOBS_MAX && end.is_none() {
                        match rx.try_recv() {
                            Ok(Msg::Work(job)) => batch.push(job),
                            Ok(other) => end = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.batch(batch);
                }
                Ok(Some(other)) => end = Some(other),
            }
            match end {
                None | Some(Msg::Work(_)) => {}
                Some(Msg::Close(reply)) => {
                    // The caller may have gone; the stop is noted all the same.
                    let _gone = reply.send(self.close());
                    return;
                }
                #[cfg(test)]
                Some(Msg::Crash(reply)) => {
                    drop(self);
                    let _gone = reply.send(());
                    return;
                }
            }
            if self.probed.elapsed() >= self.options.probe_every {
                if self.readonly() {
                    self.probe();
                } else if self.lacks_reserve {
                    self.refill();
                }
            }
        }
    }

    fn readonly(&self) -> bool {
        self.shared.readonly.borrow().is_some()
    }

    fn refusal(&self) -> JournalError {
        let why = self.shared.readonly.borrow().clone();
        JournalError::ReadOnly { why: why.unwrap_or_else(|| "the store is being reopened".into()) }
    }

    fn batch(&mut self, mut jobs: Vec<Box<dyn Work>>) {
        if self.readonly() {
            return self.reads_only(jobs);
        }
        let mut outcome = self.attempt(&mut jobs);
        if outcome.is_err() && self.conn.is_some() && self.reserve.spend() {
            self.lacks_reserve = true;
            tracing::warn!(
                dir = %self.options.dir.display(),
                "the disk is full: the journal gave up its reserve; free some space, it is taken again by itself"
            );
            outcome = self.attempt(&mut jobs);
        }
        // Whatever kept the batch from being stored (another program's lock, no memory) may be gone at the next try: nobody may
        // take it for a refusal of his own step.
        let outcome = outcome.map_err(|e| JournalError::ReadOnly { why: reason(&e) });
        if let Err(e) = &outcome {
            self.enter_readonly(reason(e));
        }
        for job in jobs {
            job.reply(outcome.clone());
        }
        if outcome.is_ok() {
            self.checkpoint_if_large();
        }
    }

    fn reads_only(&mut self, jobs: Vec<Box<dyn Work>>) {
        for mut job in jobs {
            let outcome = match &self.conn {
                Some(conn) if !job.writes() => match job.run(conn) {
                    Ran::Done | Ran::Refused => Ok(()),
                    Ran::Trouble(e) => Err(e),
                },
                _ => Err(self.refusal()),
            };
            job.reply(outcome);
        }
    }

    /// One transaction around all jobs. On `Err` nothing of it is in the file.
    fn attempt(&mut self, jobs: &mut [Box<dyn Work>]) -> Result<(), JournalError> {
        let Some(conn) = &self.conn else { return Err(self.refusal()) };
        let outcome = commit_all(conn, jobs);
        match &outcome {
            Ok(()) => noted::tell(&self.book),
            Err(_) => noted::undo(0),
        }
        if let Err(e) = &outcome {
            if !conn.is_autocommit() && conn.execute_batch("ROLLBACK").is_err() {
                self.conn = None;
            } else if !full(e) {
                // Closing now would leave the refused frames, whole and with their mark of a commit, at the end of the log:
                // whoever opens it next takes them for committed, although nobody here knows of them.
                self.doubtful = true;
            }
        }
        self.dirty = true;
        outcome
    }

    fn enter_readonly(&mut self, why: String) {
        tracing::error!(
            event = "journal.readonly",
            why,
            "the journal cannot write: nothing is accepted until it can"
        );
        self.probed = Instant::now();
        self.shared.readonly.send_replace(Some(why));
    }

    fn probe(&mut self) {
        self.probed = Instant::now();
        if self.doubtful && self.conn.as_ref().is_some_and(|conn| probe_write(conn).is_ok()) {
            // What failed is overwritten. A failed sync may have dropped pages that the cache still shows as written.
            self.doubtful = false;
            self.conn = None;
        }
        if self.conn.is_none() {
            match open(&self.shared.db, self.options.sync) {
                Ok(conn) => match quick_check(&conn) {
                    Integrity::Bad(why) => {
                        self.shared.set_integrity(Integrity::Bad(why.clone()));
                        self.shared.readonly.send_replace(Some(why));
                        return;
                    }
                    good => {
                        self.shared.set_integrity(good);
                        self.conn = Some(conn);
                    }
                },
                Err(e) => {
                    self.shared.readonly.send_replace(Some(reason(&e)));
                    return;
                }
            }
        }
        let Some(conn) = &self.conn else { return };
        match probe_write(conn) {
            Ok(()) => {
                tracing::info!("the journal can write again");
                self.shared.readonly.send_replace(None);
                self.refill();
            }
            Err(e) => {
                if !conn.is_autocommit() && conn.execute_batch("ROLLBACK").is_err() {
                    self.conn = None;
                }
                self.shared.readonly.send_replace(Some(reason(&e)));
            }
        }
    }

    fn refill(&mut self) {
        self.probed = Instant::now();
        let lacked = self.lacks_reserve;
        self.lacks_reserve = self.options.reserve && !self.reserve.fill();
        if lacked && !self.lacks_reserve {
            tracing::info!("the journal has its reserve again");
        }
    }

    fn idle(&mut self) {
        if self.dirty && !self.readonly() {
            self.checkpoint("PASSIVE");
            self.dirty = false;
        }
    }

    fn checkpoint_if_large(&mut self) {
        let large = std::fs::metadata(&self.shared.wal).is_ok_and(|wal| wal.len() > WAL_BYTES_MAX);
        if large {
            self.checkpoint("PASSIVE");
        }
    }

    /// Failing is no harm: the log holds everything, the next one tries again.
    fn checkpoint(&self, how: &str) {
        failpoint::hit("sv.checkpoint.mid");
        if let Some(conn) = &self.conn
            && let Err(e) = conn.query_row(&format!("PRAGMA wal_checkpoint({how})"), [], |_| Ok(()))
        {
            tracing::debug!(error = %e, "checkpoint");
        }
    }

    fn close(&mut self) -> Result<(), JournalError> {
        let Some(conn) = &self.conn else { return Err(self.refusal()) };
        ledger::kv_put(conn, KV_CLEAN, Some(&[1]))?;
        self.checkpoint("TRUNCATE");
        self.conn = None;
        Ok(())
    }
}

/// The system's words, without those around them.
fn reason(e: &JournalError) -> String {
    match e {
        JournalError::ReadOnly { why } => why.clone(),
        other => other.to_string(),
    }
}

fn full(e: &JournalError) -> bool {
    matches!(e, JournalError::ReadOnly { why } if why.contains("disk is full"))
}

fn commit_all(conn: &Connection, jobs: &mut [Box<dyn Work>]) -> Result<(), JournalError> {
    if !jobs.iter().any(|job| job.writes()) {
        for job in jobs {
            if let Ran::Trouble(e) = job.run(conn) {
                return Err(e);
            }
        }
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for job in jobs.iter_mut() {
        if !job.writes() {
            if let Ran::Trouble(e) = job.run(conn) {
                return Err(e);
            }
            continue;
        }
        conn.prepare_cached("SAVEPOINT job")?.execute([])?;
        let mark = noted::mark();
        match job.run(conn) {
            Ran::Done => {}
            Ran::Refused => {
                noted::undo(mark);
                conn.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
            Ran::Trouble(e) => return Err(e),
        }
        conn.prepare_cached("RELEASE job")?.execute([])?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(())
}

fn probe_write(conn: &Connection) -> Result<(), JournalError> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    ledger::kv_put(conn, "probe", Some(&[0; PROBE_BYTES]))?;
    conn.execute_batch("COMMIT")?;
    ledger::kv_put(conn, "probe", None)
}
