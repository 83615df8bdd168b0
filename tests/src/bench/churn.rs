//! Many lives and many turns: what is left behind of them. Thousands of restarts of workers, then thousands of turns; the
//! descriptors, threads, processes and memory of the supervisor after the first tenth and at the end.

use super::listener::Listener;
use super::model::{self, Model, Pace};
use super::report::Row;
use super::{Options, process, scene};
use crate::gateway::TestGateway;
use crate::wait;
use anyhow::Context;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const AGENTS: usize = 4;
/// Sessions that have a turn under way at any time.
const SESSIONS: usize = 32;
/// A session is left for a new one after this many turns, so that no history grows beyond what people have.
const TURNS_PER_SESSION: usize = 50;
/// The shortest answer that still is a stream.
const PACE: Pace = Pace { pieces: 2, pause: Duration::ZERO };
/// Growth that is called none.
const GROWTH_PERCENT: f64 = 5.0;

/// What must not grow.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: usize,
    threads: usize,
    processes: usize,
    rss_kib: u64,
}

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let model = Model::start(PACE).await?;
    let agents: Vec<Value> = (0..AGENTS).map(|n| json!({"id": name(n), "default": n == 0})).collect();
    let gateway = scene::with_model(options, &model, SESSIONS)
        .config(json!({"agents": {"list": agents}}))
        .start()
        .await;
    let mut rows = Vec::new();
    restart_all(&gateway, options.restarts.div_ceil(10)).await?;
    let warm = held(&gateway).await?;
    let began = Instant::now();
    let left = options.restarts - options.restarts.div_ceil(10);
    restart_all(&gateway, left).await?;
    rows.extend(report("restarts", options.restarts, began.elapsed(), warm, held(&gateway).await?));
    run_all(&gateway, "w", options.runs.div_ceil(10)).await?;
    let warm = held(&gateway).await?;
    let began = Instant::now();
    run_all(&gateway, "m", options.runs - options.runs.div_ceil(10)).await?;
    rows.extend(report("turns", options.runs, began.elapsed(), warm, held(&gateway).await?));
    Ok(rows)
}

fn name(n: usize) -> String {
    format!("c{n}")
}

fn report(what: &str, count: usize, took: Duration, warm: Held, end: Held) -> Vec<Row> {
    let row =
        |name: &str, value: f64, unit| Row::new("churn", format!("{name} after {count} {what}"), value, unit);
    let grown = |end: usize, warm: usize| end as f64 - warm as f64;
    let percent = (end.rss_kib as f64 / warm.rss_kib as f64 - 1.0) * 100.0;
    let note = format!(
        "{} KiB, {} KiB after the first tenth; {:.0} s",
        end.rss_kib,
        warm.rss_kib,
        took.as_secs_f64()
    );
    vec![
        row("more descriptors", grown(end.descriptors, warm.descriptors), "")
            .target(0.0)
            .note(format!("{end:?}")),
        row("more threads", grown(end.threads, warm.threads), "").target(0.0),
        row("more processes", grown(end.processes, warm.processes), "").target(0.0),
        row("growth of the supervisor's memory", percent, "%").target(GROWTH_PERCENT).note(note),
    ]
}

/// What the gateway holds once every agent is up and idle again.
async fn held(gateway: &TestGateway) -> anyhow::Result<Held> {
    let mut client = Listener::open(gateway.port).await?;
    wait::until("all agents are up", async || {
        let listed = client.call("workers.list", json!({})).await.ok()?;
        let ready = listed["workers"].as_array()?.iter().filter(|row| row["state"] == "ready").count();
        (ready == AGENTS).then_some(())
    })
    .await;
    let pid = gateway.pid();
    let count =
        |place: &str| Ok::<_, std::io::Error>(std::fs::read_dir(format!("/proc/{pid}/{place}"))?.count());
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss_kib = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).context("VmRSS")?;
    let descriptors = count("fd").context("descriptors of the supervisor are shown to root only")?;
    Ok(Held { descriptors, threads: count("task")?, processes: process::tree(pid).len(), rss_kib })
}

/// `count` restarts, all agents at once; each is waited for.
async fn restart_all(gateway: &TestGateway, count: usize) -> anyhow::Result<()> {
    let mut working = JoinSet::new();
    for n in 0..AGENTS {
        let client = Listener::open(gateway.port).await?;
        working.spawn(restart(client, format!("agent:{}", name(n)), count / AGENTS));
    }
    while let Some(one) = working.join_next().await {
        one??;
    }
    Ok(())
}

async fn restart(mut client: Listener, id: String, count: usize) -> anyhow::Result<()> {
    // A turn wakes it.
    let agent = id.trim_start_matches("agent:").to_owned();
    let key = format!("wake-{id}-{count}");
    let params = json!({"sessionKey": format!("agent:{agent}:main"), "message": model::mark(&key), "idempotencyKey": key});
    client.call("chat.send", params).await?;
    let mut epoch = ready_epoch(&mut client, &id, 0).await?;
    for _ in 0..count {
        client.call("workers.restart", json!({"id": id})).await?;
        epoch = ready_epoch(&mut client, &id, epoch).await?;
    }
    Ok(())
}

/// Waits until the worker is ready in a life after `epoch`.
async fn ready_epoch(client: &mut Listener, id: &str, epoch: u64) -> anyhow::Result<u64> {
    let deadline = Instant::now() + wait::PATIENCE;
    loop {
        let listed = client.call("workers.list", json!({})).await?;
        let row = listed["workers"].as_array().into_iter().flatten().find(|row| row["id"] == id);
        let now = row.and_then(|row| row["epoch"].as_u64()).unwrap_or(0);
        if now > epoch && row.is_some_and(|row| row["state"] == "ready") {
            return Ok(now);
        }
        anyhow::ensure!(Instant::now() < deadline, "{id} does not come back: {row:?}");
        tokio::time::sleep(scene::POLL).await;
    }
}

/// `count` turns, one at a time in each of [`SESSIONS`].
async fn run_all(gateway: &TestGateway, round: &str, count: usize) -> anyhow::Result<()> {
    let mut client = Listener::open(gateway.port).await?;
    let mut turns = [0_usize; SESSIONS];
    let mut free: Vec<usize> = (0..SESSIONS).collect();
    let mut sent = 0;
    while sent < count || free.len() < SESSIONS {
        while sent < count
            && let Some(session) = free.pop()
        {
            let turn = turns.get_mut(session).context("a session")?;
            let key =
                format!("agent:{}:{round}-{session}-{}", name(session % AGENTS), *turn / TURNS_PER_SESSION);
            let id = format!("{round}-{session}-{turn}");
            let params = json!({"sessionKey": key, "message": model::mark(&id), "idempotencyKey": id});
            client.send("chat.send", params).await?;
            (sent, *turn) = (sent + 1, *turn + 1);
        }
        let arrival = client.next().await?;
        if arrival.text.contains(r#""event":"chat""#) && !arrival.text.contains(r#""state":"delta""#) {
            anyhow::ensure!(arrival.text.contains(r#""state":"final""#), "a turn failed: {}", arrival.text);
            let run = arrival.text.split(r#""runId":""#).nth(1).context("a run id")?;
            let session = run.split('-').nth(1).and_then(|number| number.parse().ok());
            free.push(session.context("a run of ours")?);
        }
    }
    Ok(())
}
