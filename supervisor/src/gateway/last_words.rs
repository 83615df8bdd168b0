//! A panic in the core or the journal ends the process: their state may be inconsistent, and a start takes a fraction of a
//! second. A panic elsewhere is contained by the task or connection that it happened in.

use crate::exit_code;
use serde_json::json;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};

/// Threads whose panic is the end.
const FATAL: [&str; 2] = ["main", "journal"];

/// Installs the hook. Reports go into `crash_dir`.
pub fn install(crash_dir: PathBuf) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        if FATAL.contains(&thread) {
            report(&crash_dir, thread, info);
            eprintln!(
                "the gateway's {thread} thread panicked; exiting, the next start goes on from the journal"
            );
            std::process::exit(i32::from(exit_code::INTERNAL));
        }
    }));
}

/// A report that cannot be written is no reason to stay.
fn report(crash_dir: &Path, thread: &str, info: &PanicHookInfo<'_>) {
    let at_ms = crate::scheduler::shared::now_ms();
    let report = json!({
        "worker": "supervisor", "thread": thread, "atMs": at_ms, "panic": info.payload_as_str(),
        "place": info.location().map(ToString::to_string), "build": env!("CARGO_PKG_VERSION"),
    });
    let path = crash_dir.join(format!("supervisor-{at_ms}.json"));
    let written = std::fs::create_dir_all(crash_dir).and_then(|()| std::fs::write(&path, report.to_string()));
    if let Err(error) = written {
        eprintln!("crash report {}: {error}", path.display());
    }
}
