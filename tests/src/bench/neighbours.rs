//! Eight healthy agents beside three sick ones: one whose worker dies again and again, one whose tool eats memory, one
//! whose tool spins. What the healthy ones' clients see of it.

use super::listener::Listener;
use super::model::{self, Model, Pace};
use super::report::Row;
use super::stats::Sample;
use super::{Options, process};
use crate::gateway::{Builder, TestGateway};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const HEALTHY: usize = 8;
/// An answer of ten seconds at the pace of a usual model: long enough to meet every fault.
const PACE: Pace = Pace { pieces: 200, pause: Duration::from_millis(50) };
/// Connections that only listen; none may be closed.
const LISTENERS: usize = 20;
/// Between calls of `health`, as a dashboard or a probe asks.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two deaths of the dying agent: its worker has to come up to die.
const DEATH_EVERY: Duration = Duration::from_millis(200);
const SICK: [&str; 3] = ["dying", "hungry", "spinning"];

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let model = Model::start(PACE).await?;
    let gateway = Arc::new(start(options, &model).await);
    let mut idle = JoinSet::new();
    let over = Arc::new(AtomicBool::new(false));
    for _ in 0..LISTENERS {
        idle.spawn(stay(Listener::open(gateway.port).await?, over.clone()));
    }
    let mut rows = round(&gateway, &model, "alone", &over).await?;
    let deaths = Arc::new(AtomicU64::new(0));
    let sick = tokio::spawn(be_sick(gateway.clone(), over.clone(), deaths.clone()));
    rows.extend(round(&gateway, &model, "beside three sick ones", &over).await?);
    over.store(true, Ordering::Relaxed);
    sick.await??;
    // Each listener looks at the flag when it hears something: health says something.
    let mut closed = 0;
    while let Some(one) = idle.join_next().await {
        closed += u64::from(one?.is_err());
    }
    let note = format!("{} deaths of a worker meanwhile", deaths.load(Ordering::Relaxed));
    rows.push(Row::new("neighbours", "WebSockets closed", closed as f64, "").target(0.0).note(note));
    Ok(rows)
}

async fn start(options: &Options, model: &Model) -> TestGateway {
    let healthy = (0..HEALTHY).map(|n| json!({"id": name(n), "default": n == 0, "model": "double/m1"}));
    let sick = SICK.iter().map(|id| json!({"id": id, "model": "demo/demo"}));
    let agents: Vec<Value> = healthy.chain(sick).collect();
    let config = json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.url(), "apiKey": "sk-bench", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 200_000, "maxTokens": 4000}],
        }}},
        "agents": {"defaults": {"maxConcurrent": HEALTHY + SICK.len()}, "list": agents},
    });
    Builder::default().bin(&options.bin).config(config).start().await
}

fn name(n: usize) -> String {
    format!("h{n}")
}

/// One streamed answer of each healthy agent, and `health` asked all the while.
async fn round(
    gateway: &TestGateway,
    model: &Model,
    when: &str,
    over: &AtomicBool,
) -> anyhow::Result<Vec<Row>> {
    let load = process::load_average();
    let mut streams = JoinSet::new();
    let tag = when.split(' ').next().unwrap_or_default();
    for n in 0..HEALTHY {
        let id = format!("{tag}-{n}");
        let mut client = Listener::open(gateway.port).await?;
        let session = format!("agent:{}:main", name(n));
        let params = json!({"sessionKey": session, "message": model::mark(&id), "idempotencyKey": id});
        client.call("chat.send", params).await?;
        streams.spawn(listen(client, id));
    }
    let mut asking = Listener::open(gateway.port).await?;
    let mut times = Vec::new();
    let mut heard = Vec::new();
    while heard.len() < HEALTHY && !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        asking.call("health", json!({})).await?;
        times.push(began.elapsed());
        tokio::time::sleep(PAUSE).await;
        while let Some(one) = streams.try_join_next() {
            heard.push(one??);
        }
    }
    let health = Sample::of_durations(times);
    let mut late = Vec::new();
    for (id, arrivals) in &heard {
        let answer = model.answer(id).ok_or_else(|| anyhow::anyhow!("the model was never asked"))?;
        anyhow::ensure!(arrivals.len() == answer.pieces.len(), "{id}: {} pieces arrived", arrivals.len());
        late.extend(
            arrivals.iter().zip(&answer.pieces).map(|(got, sent)| got.saturating_duration_since(*sent)),
        );
    }
    let late = Sample::of_durations(late);
    let row = |name: &str, value: f64| Row::new("neighbours", format!("{name}, {when}"), value, "ms");
    Ok(vec![
        row("health p99", health.p99()).target(20.0).note(format!(
            "{} calls, longest {:.1}; load average {load}",
            health.count(),
            health.max()
        )),
        row("piece late p99", late.p99()).note(format!("{} pieces of {HEALTHY} streams", late.count())),
        row("piece late at most", late.max()).target(100.0),
    ])
}

async fn listen(mut client: Listener, id: String) -> anyhow::Result<(String, Vec<Instant>)> {
    let run = format!(r#""runId":"{id}""#);
    let mut arrivals = Vec::with_capacity(PACE.pieces);
    loop {
        let arrival = client.next().await?;
        if !arrival.text.contains(&run) {
            continue;
        }
        if arrival.text.contains(r#""stream":"assistant""#) {
            arrivals.push(arrival.at);
        } else if arrival.text.contains(r#""state":"final""#) {
            return Ok((id, arrivals));
        }
    }
}

/// Listens until the end; an error is a connection that was closed.
async fn stay(mut client: Listener, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        client.call("health", json!({})).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Keeps the three sick agents sick until it is over.
async fn be_sick(
    gateway: Arc<TestGateway>,
    over: Arc<AtomicBool>,
    deaths: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let mut client = Listener::open(gateway.port).await?;
    let mut n = 0_u32;
    while !over.load(Ordering::Relaxed) {
        for (agent, message) in [
            ("dying", "hello"),
            ("hungry", "run: timeout 20 tail /dev/zero"),
            ("spinning", "run: timeout 20 sh -c 'while :; do :; done'"),
        ] {
            // One more than its queue takes is refused or dropped: it has enough to do.
            let key = format!("sick-{agent}-{n}");
            let params = json!({"sessionKey": format!("agent:{agent}:s{}", n % 4), "message": message, "idempotencyKey": key});
            client.send("chat.send", params).await?;
        }
        n += 1;
        client.call("workers.release", json!({"id": "agent:dying"})).await?;
        let listed = client.call("workers.list", json!({})).await?;
        let rows = listed["workers"].as_array().into_iter().flatten();
        let pid = rows.filter(|row| row["id"] == "agent:dying").find_map(|row| row["pid"].as_i64());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).is_ok() {
                deaths.fetch_add(1, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(DEATH_EVERY).await;
    }
    Ok(())
}
