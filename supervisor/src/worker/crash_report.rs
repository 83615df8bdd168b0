//! What is known about an end that nobody asked for, as a file for people and for bug reports.

use super::cgroup::limits::Account;
use super::exit::{Ended, ExitClass, KilledFor};
use super::proc_view::ProcView;
use super::reaper::Usage;
use proto::wire::control::Pong;
use proto::wire::state::Seen;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Reports kept in the folder; the oldest go.
const REPORTS_MAX: usize = 50;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashReport {
    pub worker: String,
    pub epoch: u64,
    pub pid: u32,
    pub started_ms: i64,
    pub ended_ms: i64,
    pub class: ExitClass,
    pub ended: Ended,
    pub killed_for: Option<KilledFor>,
    /// Why the link closed, when it closed before the process ended.
    pub link: Option<String>,
    pub usage: Usage,
    pub last_pong: Option<PongLine>,
    /// Last frames received, oldest first: code, corr, bytes.
    pub frames: Vec<(u16, u64, usize)>,
    /// Runs, deliveries and messages of the network that it worked on.
    pub in_flight: Vec<String>,
    /// Its process as it was when the first signal of ours went out; `None` when it ended by itself.
    pub process: Option<ProcView>,
    /// What its control group used, commands included; `None` when it had none.
    pub group: Option<Account>,
    /// Fingerprint of the sections and secrets that it ran with.
    pub config_hash: String,
    pub build: &'static str,
    /// Last lines of output, secrets cut out.
    pub log: Vec<String>,
}

/// What the worker said of itself last.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PongLine {
    age_ms: u64,
    inflight: u32,
    queue: u32,
    rss_kb: u64,
    last_progress_ms: u64,
    lag_ms: u64,
}

impl PongLine {
    pub fn of((pong, age_ms): (Pong, u64)) -> Self {
        let Pong { inflight, queue, rss_kb, last_progress_ms, lag_ms, .. } = pong;
        Self { age_ms, inflight, queue, rss_kb, last_progress_ms, lag_ms }
    }
}

pub fn frames(seen: &[Seen]) -> Vec<(u16, u64, usize)> {
    seen.iter().map(|seen| (seen.code, seen.corr, seen.bytes)).collect()
}

impl CrashReport {
    /// `<when>-<worker>.json`, safe as a file name.
    pub fn file_name(&self) -> String {
        let safe: String = self
            .worker
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .collect();
        format!("{:013}-{safe}-{}.json", self.ended_ms, self.epoch)
    }
}

/// Writes a report and removes the oldest above the limit. Blocks: for a blocking thread.
pub fn write(folder: &Path, report: &CrashReport) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(report.file_name());
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    serde_json::to_writer_pretty(file, report)?;
    prune(folder)?;
    Ok(path)
}

fn prune(folder: &Path) -> std::io::Result<()> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    // Names begin with the time in fixed width.
    names.sort();
    let surplus = names.len().saturating_sub(REPORTS_MAX);
    for path in names.into_iter().take(surplus) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_private_readable_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = CrashReport {
            worker: "channel:telegram:../x".into(),
            epoch: 1,
            pid: 2,
            started_ms: 0,
            ended_ms: 0,
            class: ExitClass::Crash,
            ended: Ended::Signal { number: 11, core: false },
            killed_for: None,
            link: None,
            usage: Usage::default(),
            last_pong: None,
            frames: Vec::new(),
            in_flight: vec!["run 1".into()],
            process: None,
            group: None,
            config_hash: String::new(),
            build: "0",
            log: vec!["last words".into()],
        };
        for n in 0..60 {
            report.ended_ms = n;
            write(folder.path(), &report).unwrap();
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|e| e.path()).collect();
        assert_eq!(names.len(), REPORTS_MAX);
        let last = folder.path().join("0000000000059-channel_telegram____x-1.json");
        let text = std::fs::read_to_string(&last).unwrap();
        assert!(text.contains("last words") && text.contains("\"number\": 11"), "{text}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&last).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
