//! One answer to two hundred clients: how long after the model wrote a piece each of them has it.

use super::Options;
use super::listener::Listener;
use super::model::{self, Model, Pace};
use super::report::Row;
use super::stats::Sample;
use super::{process, scene};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const CLIENTS: usize = 200;
/// One answer of a few seconds at the speed of a fast model.
const PACE: Pace = Pace { pieces: 100, pause: Duration::from_millis(20) };
const TURN: &str = "fanout";

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let model = Model::start(PACE).await?;
    let gateway = scene::with_model(options, &model, 4).start().await;
    let mut listening = JoinSet::new();
    for _ in 0..CLIENTS {
        let client = Listener::open(gateway.port).await?;
        listening.spawn(listen(client));
    }
    let mut sender = Listener::open(gateway.port).await?;
    let cpu = process::cpu_time(gateway.pid());
    let params = json!({"sessionKey": "main", "message": model::mark(TURN), "idempotencyKey": TURN});
    sender.call("chat.send", params).await?;
    let mut heard = Vec::with_capacity(CLIENTS);
    while let Some(one) = listening.join_next().await {
        heard.push(one??);
    }
    let cpu = process::cpu_time(gateway.pid()) - cpu;
    let answer = model.answer(TURN).ok_or_else(|| anyhow::anyhow!("the model was never asked"))?;
    let delays = heard.iter().flat_map(|one| one.arrivals.iter().zip(&answer.pieces));
    let delays = Sample::of_durations(delays.map(|(got, sent)| got.saturating_duration_since(*sent)));
    let faults: u64 = heard.iter().map(|one| one.faults).sum();
    let frames: u64 = heard.iter().map(|one| one.frames).sum();
    let per_frame = cpu.as_secs_f64() * 1e6 / frames.max(1) as f64;
    Ok(vec![
        Row::new("fanout", "model to client p50, 200 clients", delays.p50(), "ms"),
        Row::new("fanout", "model to client p99, 200 clients", delays.p99(), "ms").note(format!(
            "{} arrivals, longest {:.1}",
            delays.count(),
            delays.max()
        )),
        Row::new("fanout", "processor time per frame", per_frame, "µs").note(format!("{frames} frames")),
        Row::new("fanout", "events lost or out of order", faults as f64, "").target(0.0),
    ])
}

struct Heard {
    /// When each piece arrived, in order.
    arrivals: Vec<Instant>,
    faults: u64,
    frames: u64,
}

/// Listens to the end of the answer. Looks for pieces in the raw text: parsing two hundred times would be the load.
async fn listen(mut client: Listener) -> anyhow::Result<Heard> {
    let mut heard = Heard { arrivals: Vec::with_capacity(PACE.pieces), faults: 0, frames: 0 };
    let breaks = client.breaks;
    loop {
        let arrival = client.next().await?;
        heard.frames += 1;
        if arrival.text.contains(r#""stream":"assistant""#) {
            let wanted = format!(r#""delta":"{}""#, model::piece(heard.arrivals.len()));
            heard.faults += u64::from(!arrival.text.contains(&wanted));
            heard.arrivals.push(arrival.at);
        } else if arrival.text.contains(r#""state":"final""#) {
            break;
        }
    }
    heard.faults += client.breaks - breaks;
    heard.faults += u64::from(heard.arrivals.len() != PACE.pieces);
    Ok(heard)
}
