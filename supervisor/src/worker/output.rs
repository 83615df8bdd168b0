//! What a worker prints: forwarded to our log under its name, and the end of it kept for a crash report.

use proto::wire::handshake::WorkerId;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const RING_BYTES_MAX: usize = 64 * 1024;
const RING_LINES_MAX: usize = 200;
/// A longer line is cut: nobody reads it, and it must not cost memory.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Lines per second that reach our log from one worker; the ring gets them all.
const LINES_PER_SECOND_MAX: u32 = 500;

/// The last lines of one worker, over all its starts.
#[derive(Clone, Debug, Default)]
pub struct Ring(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines ever pushed.
    total: u64,
}

impl Ring {
    pub fn push(&self, line: String) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.total += 1;
        ring.bytes += line.len();
        ring.lines.push_back(line);
        while ring.lines.len() > RING_LINES_MAX || ring.bytes > RING_BYTES_MAX {
            let Some(gone) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.len();
        }
    }

    /// Lines ever pushed.
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// The lines since that many had been pushed, as far as they are still there.
    pub fn since(&self, total: u64) -> Vec<String> {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(ring.total.saturating_sub(total)).unwrap_or(usize::MAX);
        ring.lines.iter().skip(ring.lines.len().saturating_sub(new)).cloned().collect()
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }
}

/// The task that reads one stream of a worker to its end.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<Notify>,
    task: JoinHandle<Option<(pipe::Receiver, Vec<u8>)>>,
}

impl Follower {
    /// `begun`: start of a line that another image of this program had read.
    pub fn start(worker: WorkerId, stream: pipe::Receiver, ring: Ring, begun: Vec<u8>) -> Self {
        let stop = Arc::new(Notify::new());
        let task = tokio::spawn(follow(worker, stream, ring, begun, stop.clone()));
        Self { stop, task }
    }

    /// Gives the stream back with the line that it is in; `None` when it had ended.
    pub async fn freeze(self) -> Option<(pipe::Receiver, Vec<u8>)> {
        self.stop.notify_one();
        self.task.await.ok().flatten()
    }
}

async fn follow(
    worker: WorkerId,
    mut stream: pipe::Receiver,
    ring: Ring,
    mut line: Vec<u8>,
    stop: Arc<Notify>,
) -> Option<(pipe::Receiver, Vec<u8>)> {
    let mut budget = Budget::new();
    let mut cut = false;
    let mut chunk = [0u8; 4096];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut chunk) => read,
            () = stop.notified() => return Some((stream, line)),
        };
        let read = match read {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for &byte in chunk.iter().take(read) {
            if byte == b'\n' {
                finish(&worker, &mut line, &ring, &mut budget);
                cut = false;
            } else if line.len() < LINE_BYTES_MAX {
                line.push(byte);
            } else if !cut {
                line.extend_from_slice("…".as_bytes());
                cut = true;
            }
        }
    }
    finish(&worker, &mut line, &ring, &mut budget);
    None
}

fn finish(worker: &WorkerId, line: &mut Vec<u8>, ring: &Ring, budget: &mut Budget) {
    if line.is_empty() {
        return;
    }
    let text = proto::runtime::telemetry::redact(&String::from_utf8_lossy(line)).into_owned();
    line.clear();
    if budget.take(worker) {
        forward(worker, &text);
    }
    ring.push(text);
}

/// Lines of the last second.
struct Budget {
    since: Instant,
    used: u32,
}

impl Budget {
    fn new() -> Self {
        Self { since: Instant::now(), used: 0 }
    }

    fn take(&mut self, worker: &WorkerId) -> bool {
        if self.since.elapsed() > Duration::from_secs(1) {
            if let Some(lost) = self.used.checked_sub(LINES_PER_SECOND_MAX).filter(|lost| *lost > 0) {
                tracing::warn!(%worker, lost, "log lines of this worker were dropped");
            }
            *self = Self::new();
        }
        self.used += 1;
        self.used <= LINES_PER_SECOND_MAX
    }
}

/// A worker's own JSON line keeps its level and message; anything else is a warning as it stands.
fn forward(worker: &WorkerId, text: &str) {
    let Ok(Value::Object(mut fields)) = serde_json::from_str::<Value>(text) else {
        tracing::warn!(target: "worker", %worker, "{text}");
        return;
    };
    let mut take = |name: &str| fields.shift_remove(name).and_then(|value| value.as_str().map(str::to_owned));
    let (level, message, from) = (take("level"), take("message").unwrap_or_default(), take("target"));
    take("timestamp");
    let from = from.unwrap_or_default();
    // A name that the log takes apart again.
    let fields_of_worker = if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() };
    match level.as_deref() {
        Some("ERROR") => tracing::error!(target: "worker", %worker, from, fields_of_worker, "{message}"),
        Some("WARN") => tracing::warn!(target: "worker", %worker, from, fields_of_worker, "{message}"),
        Some("DEBUG") => tracing::debug!(target: "worker", %worker, from, fields_of_worker, "{message}"),
        Some("TRACE") => tracing::trace!(target: "worker", %worker, from, fields_of_worker, "{message}"),
        _ => tracing::info!(target: "worker", %worker, from, fields_of_worker, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_end_within_both_bounds() {
        let ring = Ring::default();
        for n in 0..1000 {
            ring.push(format!("{n} {}", "x".repeat(if n % 2 == 0 { 10 } else { 1000 })));
        }
        let lines = ring.lines();
        assert!(
            lines.len() <= RING_LINES_MAX && lines.iter().map(String::len).sum::<usize>() <= RING_BYTES_MAX
        );
        assert!(lines.last().unwrap().starts_with("999 "));
        assert_eq!((ring.total(), ring.since(998).len(), ring.since(0).len()), (1000, 2, lines.len()));
    }
}
