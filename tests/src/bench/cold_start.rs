//! From the start of the process to readiness, and the command that an operator types most.

use super::Options;
use super::report::Row;
use super::scene::{self, Startup};
use super::stats::Sample;
use crate::telegram_server::TelegramServer;
use std::time::Instant;

/// Starts of each kind: enough for a median, few enough to end soon.
const STARTS: usize = 15;
/// Calls of `openclaw status`.
const CALLS: usize = 30;

/// Starts in an empty state directory, and starts after an orderly stop.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    let telegram = TelegramServer::start().await;
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut gateway = scene::with_channel(options, &telegram).start().await;
        fresh.push(scene::warm(&gateway, &telegram, began).await?);
        anyhow::ensure!(gateway.terminate().success(), "the gateway did not stop in order");
        let began = Instant::now();
        gateway.start_again();
        again.push(scene::warm(&gateway, &telegram, began).await?);
        gateway.terminate();
    }
    let row = |name: &str, starts: &[Startup], of: fn(&Startup) -> std::time::Duration| {
        let sample = Sample::of_durations(starts.iter().map(of));
        Row::new("cold-start", name, sample.p50(), "ms").note(format!(
            "median of {}, longest {:.1}",
            sample.count(),
            sample.max()
        ))
    };
    Ok(vec![
        row("/readyz answers, after an earlier stop", &again, |start| start.ready).target(120.0),
        row("agent warm and channel polling", &again, |start| start.warm).target(120.0),
        row("/readyz answers, empty state directory", &fresh, |start| start.ready),
        row("agent warm and channel polling, empty", &fresh, |start| start.warm),
    ])
}

/// `openclaw status` from the start of its process to its end.
pub async fn status_command(options: &Options) -> anyhow::Result<Vec<Row>> {
    let telegram = TelegramServer::start().await;
    let gateway = scene::with_channel(options, &telegram).start().await;
    scene::warm(&gateway, &telegram, Instant::now()).await?;
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        let output = gateway.cli(&["status"]);
        times.push(began.elapsed());
        let complaint = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "openclaw status failed: {complaint}");
    }
    let sample = Sample::of_durations(times);
    let note = format!("median of {}, longest {:.1}", sample.count(), sample.max());
    Ok(vec![Row::new("status", "openclaw status", sample.p50(), "ms").target(30.0).note(note)])
}
