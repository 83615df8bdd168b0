//! Memory of a gateway that has nothing to do: default agent warm, one Telegram account polling.

use super::report::Row;
use super::{Options, process, scene};
use crate::telegram_server::TelegramServer;
use std::time::Instant;

const KIB_PER_MB: f64 = 1e6 / 1024.0;

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let telegram = TelegramServer::start().await;
    let gateway = scene::with_channel(options, &telegram).start().await;
    scene::warm(&gateway, &telegram, Instant::now()).await?;
    let cpu = process::cpu_time(gateway.pid());
    tokio::time::sleep(options.idle_wait).await;
    let used = process::cpu_time(gateway.pid()) - cpu;
    let usage = process::usage(gateway.pid())?;
    let mb = |kib: u64| kib as f64 / KIB_PER_MB;
    let total: u64 = usage.iter().map(|one| one.pss_kib).sum();
    let note = format!("{} processes, {} s after ready", usage.len(), options.idle_wait.as_secs());
    let mut rows = vec![Row::new("idle", "PSS of the tree", mb(total), "MB").target(20.0).note(note)];
    for (at, one) in usage.iter().enumerate() {
        let row = Row::new("idle", format!("PSS of {}", short(&one.name)), mb(one.pss_kib), "MB")
            .note(format!("{} threads", one.threads));
        rows.push(if at == 0 { row.target(10.0) } else { row });
    }
    let per_minute = used.as_secs_f64() * 1000.0 * 60.0 / options.idle_wait.as_secs_f64().max(1.0);
    rows.push(Row::new("idle", "processor time per minute", per_minute, "ms"));
    Ok(rows)
}

/// Without the flags.
fn short(command: &str) -> &str {
    command.split(" --").next().unwrap_or(command)
}
