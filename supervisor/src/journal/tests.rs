//! SQLite as a backend: the conformance cases, and what only this backend has.

use std::time::Duration;

use tempfile::TempDir;

use super::conformance::{NOW, Store, accept, conformance, message};
use super::disk::{FsVerdict, judge, reserve_bytes};
use super::*;

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self) -> OpenOptions {
        let dir = self.0.path().join("journal");
        // Syncing proves nothing here: the kernel stays up.
        OpenOptions { sync: super::writer::SyncLevel::Normal, reserve: false, ..OpenOptions::new(dir) }
    }
}

impl Store for Sqlite {
    type Backend = JournalHandle;

    async fn open(&self) -> JournalHandle {
        JournalHandle::open(self.options()).unwrap().0
    }

    async fn crash(&self, journal: JournalHandle) {
        journal.crash().await;
    }
}

#[tokio::test]
async fn sqlite_conforms() {
    conformance(Sqlite::new).await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let store = Sqlite::new();
    let options = OpenOptions { probe_every: Duration::from_millis(20), reserve: true, ..store.options() };
    let reserve = options.dir.join("reserve.bin");
    let (journal, _) = JournalHandle::open(options).unwrap();
    accept(&journal, "before", "s").await;
    let had_reserve = reserve.exists();
    assert!(had_reserve);
    let pages = |n: &'static str| {
        journal
            .call(false, move |c| Ok(c.query_row(&format!("PRAGMA max_page_count = {n}"), [], |_| Ok(()))?))
    };
    pages("1").await.unwrap();
    let mut large = message("large", "s");
    large.inbound.body = vec![1; 512 * 1024];
    let mut readonly = journal.readonly();
    let refused = journal.accept_inbound(large.clone()).await.unwrap_err();
    assert!(matches!(&refused, JournalError::ReadOnly { why } if why.contains("full")), "{refused}");
    assert!(refused.retryable());
    assert!(!reserve.exists(), "given up first");
    assert!(readonly.borrow_and_update().is_some());
    assert!(journal.enqueue(1).await.is_err(), "no write at all");
    assert_eq!(journal.open_inbound(None).await.unwrap().len(), 1, "reading goes on");
    assert!(journal.stats().await.unwrap().readonly.is_some());
    pages("1000000").await.unwrap();
    readonly.wait_for(Option::is_none).await.unwrap();
    assert!(matches!(journal.accept_inbound(large).await.unwrap(), Accepted::New { .. }));
    assert!(reserve.exists(), "kept again");
}

#[tokio::test]
async fn an_unclean_stop_is_checked_in_the_background() {
    let store = Sqlite::new();
    let journal = store.open().await;
    assert_eq!(journal.stats().await.unwrap().integrity, Integrity::NotNeeded);
    accept(&journal, "1", "s").await;
    journal.crash().await;
    let journal = store.open().await;
    loop {
        match journal.stats().await.unwrap().integrity {
            Integrity::Running => tokio::task::yield_now().await,
            found => break assert_eq!(found, Integrity::Good),
        }
    }
    journal.close().await.unwrap();
    let journal = store.open().await;
    assert_eq!(journal.stats().await.unwrap().integrity, Integrity::NotNeeded);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let store = Sqlite::new();
    let journal = store.open().await;
    journal
        .call(true, |c| Ok(c.execute_batch("PRAGMA user_version = 99; PRAGMA application_id = 99")?))
        .await
        .unwrap();
    journal.close().await.unwrap();
    let refused = JournalHandle::open(store.options()).unwrap_err();
    assert_eq!(refused, JournalError::NewerSchema { found: 99, known: schema::SCHEMA_VERSION });
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_its_path() {
    let store = Sqlite::new();
    std::fs::create_dir_all(store.options().dir).unwrap();
    std::fs::write(store.options().dir.join("journal.db"), b"not a database, but long enough to be read")
        .unwrap();
    let refused = JournalHandle::open(store.options()).unwrap_err().to_string();
    assert!(refused.contains(&store.options().dir.display().to_string()), "{refused}");
}

#[tokio::test]
async fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let store = Sqlite::new();
    let journal = store.open().await;
    accept(&journal, "1", "s").await;
    let mode = std::fs::metadata(store.options().dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(journal.recover(NOW).await.unwrap().clean, "the first start follows no stop");
}

#[test]
fn file_systems_are_judged() {
    assert_eq!(judge(0xEF53), FsVerdict::Local);
    assert_eq!(judge(0x6969), FsVerdict::Unsafe("NFS"));
    assert_eq!(judge(0x0102_1997), FsVerdict::Unsafe("9p"));
    assert_eq!(judge(0x6573_5546), FsVerdict::Doubtful("FUSE"));
    assert_eq!(reserve_bytes(1 << 40), 64 << 20);
    assert_eq!(reserve_bytes(100 << 20), 1 << 20);
    assert_eq!(reserve_bytes(0), 0);
}
