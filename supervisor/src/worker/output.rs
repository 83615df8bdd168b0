//! What a worker prints: forwarded to our log under its name, and the end of it kept for a crash report.

use proto::wire::handshake::WorkerId;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

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
}

impl Ring {
    pub fn push(&self, line: String) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += line.len();
        ring.lines.push_back(line);
        while ring.lines.len() > RING_LINES_MAX || ring.bytes > RING_BYTES_MAX {
            let Some(gone) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.len();
        }
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.iter().cloned().collect()
    }
}

/// Reads one stream of a worker to its end.
pub async fn follow(worker: WorkerId, mut stream: pipe::Receiver, ring: Ring) {
    let mut budget = Budget::new();
    let mut line = Vec::new();
    let mut cut = false;
    let mut chunk = [0u8; 4096];
    loop {
        let read = match stream.read(&mut chunk).await {
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
    let rest = if fields.is_empty() { String::new() } else { Value::Object(fields).to_string() };
    match level.as_deref() {
        Some("ERROR") => tracing::error!(target: "worker", %worker, from, rest, "{message}"),
        Some("WARN") => tracing::warn!(target: "worker", %worker, from, rest, "{message}"),
        Some("DEBUG") => tracing::debug!(target: "worker", %worker, from, rest, "{message}"),
        Some("TRACE") => tracing::trace!(target: "worker", %worker, from, rest, "{message}"),
        _ => tracing::info!(target: "worker", %worker, from, rest, "{message}"),
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
    }
}
