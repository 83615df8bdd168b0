//! What a turn costs beyond the model: time at a client, processor time of all processes, and that nothing is lost.

use super::listener::{Arrival, Listener};
use super::model::{self, Model};
use super::report::Row;
use super::stats::Sample;
use super::{Options, process, scene};
use crate::gateway::TestGateway;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Turns of each session before those that are measured: connections to the model are open, prompts are read.
const WARM_UP: usize = 2;
/// A single session gets this many times more turns: a sample of 20 has no 99th percentile.
const SINGLE_FACTOR: usize = 10;
/// Turns after which a session is left for a new one, so that no history grows beyond what people have.
const TURNS_PER_SESSION: usize = 20;

pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for sessions in options.sessions.iter().copied() {
        let turns = options.turns * if sessions == 1 { SINGLE_FACTOR } else { 1 };
        rows.extend(level(options, sessions, turns).await?);
    }
    Ok(rows)
}

/// `sessions` at once, each with one turn after the other.
async fn level(options: &Options, sessions: usize, turns: usize) -> anyhow::Result<Vec<Row>> {
    let model = scene::usual_model().await?;
    let gateway = scene::with_model(options, &model, sessions.max(4)).start().await;
    let mut client = Listener::open(gateway.port).await?;
    play(&mut client, &model, "w", sessions, WARM_UP).await?;
    let (cpu, began) = (process::cpu_time(gateway.pid()), Instant::now());
    let played = play(&mut client, &model, "m", sessions, turns).await?;
    let wall = began.elapsed();
    let cpu = process::cpu_time(gateway.pid()) - cpu;
    Ok(report(&gateway, sessions, &played, cpu, wall, client.breaks))
}

fn report(
    gateway: &TestGateway,
    sessions: usize,
    played: &Played,
    cpu: Duration,
    wall: Duration,
    breaks: u64,
) -> Vec<Row> {
    let overhead = Sample::of_durations(played.overheads.iter().copied());
    let first = Sample::of_durations(played.first_piece.iter().copied());
    let count = overhead.count();
    let at = if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") };
    let rate = count as f64 / wall.as_secs_f64();
    let p50 = Row::new("turn", format!("overhead p50, {at}"), overhead.p50(), "ms");
    let p50 = if sessions == 1 { p50.target(6.0) } else { p50 };
    let per_turn = cpu.as_secs_f64() * 1000.0 / count as f64;
    let pss: Option<u64> =
        process::usage(gateway.pid()).ok().map(|usage| usage.iter().map(|one| one.pss_kib).sum());
    let pss =
        pss.map_or_else(String::new, |kib| format!("; PSS of the tree {:.1} MB", kib as f64 * 1024.0 / 1e6));
    vec![
        p50.note(format!("{count} turns, {rate:.0} per second")),
        Row::new("turn", format!("overhead p99, {at}"), overhead.p99(), "ms")
            .note(format!("longest {:.1}", overhead.max())),
        Row::new("turn", format!("until the model is asked p50, {at}"), first.p50(), "ms")
            .note("part of the overhead"),
        Row::new("turn", format!("processor time per turn, {at}"), per_turn, "ms")
            .target(3.0)
            .note(format!("all processes{pss}")),
        Row::new("turn", format!("events lost or out of order, {at}"), (played.faults + breaks) as f64, "")
            .target(0.0)
            .note(format!("of {} events", played.events)),
    ]
}

#[derive(Default)]
struct Played {
    overheads: Vec<Duration>,
    /// From the request to the model being asked.
    first_piece: Vec<Duration>,
    faults: u64,
    events: u64,
}

/// A turn that is under way.
struct Open {
    session: usize,
    sent: Instant,
    /// Last number of a run event.
    seq: u64,
    text: String,
}

/// A client's view of all sessions at once.
struct Stage<'a> {
    client: &'a mut Listener,
    model: &'a Model,
    round: &'a str,
    turns: usize,
    left: Vec<usize>,
    open: HashMap<String, Open>,
    played: Played,
}

async fn play(
    client: &mut Listener,
    model: &Model,
    round: &str,
    sessions: usize,
    turns: usize,
) -> anyhow::Result<Played> {
    let (left, open) = (vec![turns; sessions], HashMap::new());
    let mut stage = Stage { client, model, round, turns, left, open, played: Played::default() };
    for session in 0..sessions {
        stage.send(session).await?;
    }
    while !stage.open.is_empty() {
        let arrival = stage.client.next().await?;
        if let Some(free) = stage.take(&arrival)? {
            stage.send(free).await?;
        }
    }
    Ok(stage.played)
}

impl Stage<'_> {
    async fn send(&mut self, session: usize) -> anyhow::Result<()> {
        let Some(left) = self.left.get_mut(session).filter(|left| **left > 0) else { return Ok(()) };
        let turn = self.turns - *left;
        *left -= 1;
        let id = format!("{}-{session}-{turn}", self.round);
        let key = format!("bench-{session}-{}", turn / TURNS_PER_SESSION);
        let message = format!("{} please answer", model::mark(&id));
        let params = json!({"sessionKey": key, "message": message, "idempotencyKey": id});
        self.open.insert(id, Open { session, sent: Instant::now(), seq: 0, text: String::new() });
        self.client.send("chat.send", params).await?;
        Ok(())
    }

    /// Takes one frame; gives the session whose turn it ended.
    fn take(&mut self, arrival: &Arrival) -> anyhow::Result<Option<usize>> {
        let frame: Value = serde_json::from_str(&arrival.text)?;
        if frame["type"] == "res" {
            anyhow::ensure!(frame["ok"] == true, "a message was refused: {}", frame["error"]);
            return Ok(None);
        }
        let payload = &frame["payload"];
        let Some(id) = payload["runId"].as_str() else { return Ok(None) };
        let Some(open) = self.open.get_mut(id) else { return Ok(None) };
        self.played.events += 1;
        let seq = payload["seq"].as_u64().unwrap_or(0);
        match frame["event"].as_str() {
            Some("agent") => {
                // Every run event is for every operator here: no tools are used.
                self.played.faults += u64::from(seq != open.seq + 1);
                open.seq = seq;
            }
            Some("chat") if payload["state"] == "delta" => {
                open.text.push_str(payload["deltaText"].as_str().unwrap_or_default());
            }
            Some("chat") => return self.end(id, payload, arrival.at),
            _ => {}
        }
        Ok(None)
    }

    fn end(&mut self, id: &str, payload: &Value, at: Instant) -> anyhow::Result<Option<usize>> {
        anyhow::ensure!(payload["state"] == "final", "turn {id} did not end well: {payload}");
        let Some(open) = self.open.remove(id) else { return Ok(None) };
        let answer = self.model.answer(id);
        let answer = answer.ok_or_else(|| anyhow::anyhow!("the model was never asked for turn {id}"))?;
        let text: String = (0..answer.pieces.len()).map(model::piece).collect();
        let whole = payload["message"]["content"][0]["text"].as_str().unwrap_or_default();
        self.played.faults += u64::from(open.text.trim_end() != text.trim_end());
        self.played.faults += u64::from(whole.trim_end() != text.trim_end());
        self.played.overheads.push((at - open.sent).saturating_sub(answer.took()));
        self.played.first_piece.push(answer.asked - open.sent);
        Ok(Some(open.session))
    }
}
