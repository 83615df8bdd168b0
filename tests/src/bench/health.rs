//! The method `health`, asked by a client one call after the other: while nothing happens, and while eight agents spin.

use super::listener::Listener;
use super::report::Row;
use super::stats::Sample;
use super::{Options, process};
use crate::gateway::{Builder, TestGateway};
use crate::wait;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Calls per sample: one in a hundred must be more than one call.
const CALLS: usize = 1000;
const AGENTS: usize = 8;
/// The loops end by themselves if nobody ends them; longer than the calls can take.
const SPIN_S: u64 = 60;
/// Between calls, as a dashboard or a probe asks: back to back the client would be the load.
const PAUSE: Duration = Duration::from_millis(2);

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let agents: Vec<Value> = (0..AGENTS).map(|n| json!({"id": agent(n), "default": n == 0})).collect();
    let gateway = Builder::default()
        .bin(&options.bin)
        .config(json!({"agents": {"defaults": {"maxConcurrent": AGENTS}, "list": agents}}))
        .start()
        .await;
    let mut client = Listener::open(gateway.port).await?;
    let idle = calls(&mut client).await?;
    let mut rows = rows("idle", &idle, 5.0);
    spin(&gateway).await?;
    let before = process::load_average();
    let busy = calls(&mut client).await?;
    anyhow::ensure!(spinning(&gateway) == AGENTS, "an agent stopped spinning before the end");
    rows.extend(rows_busy(&busy, before));
    Ok(rows)
}

fn rows_busy(busy: &Sample, load: f64) -> Vec<Row> {
    let mut rows = rows("8 agents spinning", busy, 20.0);
    if let Some(row) = rows.last_mut() {
        row.note = format!("{}; load average {load}", row.note);
    }
    rows
}

fn rows(when: &str, sample: &Sample, target_ms: f64) -> Vec<Row> {
    let note = format!("{} calls, longest {:.1}", sample.count(), sample.max());
    vec![
        Row::new("health", format!("p50, {when}"), sample.p50(), "ms"),
        Row::new("health", format!("p99, {when}"), sample.p99(), "ms").target(target_ms).note(note),
    ]
}

fn agent(n: usize) -> String {
    format!("a{n}")
}

async fn calls(client: &mut Listener) -> anyhow::Result<Sample> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        client.call("health", json!({})).await?;
        times.push(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Sample::of_durations(times))
}

/// Gives every agent a tool call that is a busy loop, and waits until all of them burn processor time.
async fn spin(gateway: &TestGateway) -> anyhow::Result<()> {
    let mut client = Listener::open(gateway.port).await?;
    for n in 0..AGENTS {
        let message = format!("run: timeout {SPIN_S} sh -c 'while :; do :; done'");
        let key = format!("spin-{n}");
        let params = json!({"sessionKey": format!("agent:{}:main", agent(n)), "message": message, "idempotencyKey": key});
        client.call("chat.send", params).await?;
    }
    wait::until("eight agents spin", async || (spinning(gateway) == AGENTS).then_some(())).await;
    Ok(())
}

/// Shells below the gateway that run the loop.
fn spinning(gateway: &TestGateway) -> usize {
    let is_loop = |pid: &u32| crate::gateway::command_line(*pid).starts_with("sh -c while :");
    process::tree(gateway.pid()).iter().filter(|pid| is_loop(pid)).count()
}
