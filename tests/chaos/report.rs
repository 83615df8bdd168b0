//! The end of a run: a table for people, `target/resilience.json` for programs.

use crate::Options;
use crate::case::{Ended, Outcome};
use harness::oracle::Verdict;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The `p`-th percentile of sorted numbers.
fn percentile(sorted: &[u64], p: usize) -> u64 {
    sorted.get((sorted.len() * p / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Prints and writes; gives the number of failed cases.
pub fn write(options: &Options, ended: &[Ended], took: Duration) -> usize {
    let failed: Vec<&str> =
        ended.iter().filter(|ended| !ended.outcome.passed()).map(|ended| ended.name.as_str()).collect();
    let skipped: Vec<Value> = ended
        .iter()
        .filter_map(|ended| Some(json!({"case": ended.name, "why": ended.outcome.skipped.as_ref()?})))
        .collect();
    let mut sum = Verdict::default();
    let mut recovery: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut kills = 0;
    for Ended { outcome, .. } in ended {
        let Outcome { verdict, recovery_ms, kills: died, .. } = outcome;
        sum.add(verdict);
        kills += died;
        for (what, times) in recovery_ms {
            recovery.entry(what).or_default().extend(times);
        }
    }
    let recovery: BTreeMap<&str, Value> = recovery
        .into_iter()
        .map(|(what, mut times)| {
            times.sort_unstable();
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            println!("recovery of {what}: n {}, p50 {p50} ms, p99 {p99} ms", times.len());
            let max = times.last().copied().unwrap_or(0);
            (what, json!({"n": times.len(), "p50Ms": p50, "p99Ms": p99, "maxMs": max}))
        })
        .collect();
    let run = ended.len() - skipped.len();
    println!(
        "{} passed, {} failed, {} skipped in {} s: {kills} deaths, {} messages, {} lost, {} doubled, {} unknown and \
         reported, {} empty placeholders, {} tool calls",
        run - failed.len(),
        failed.len(),
        skipped.len(),
        took.as_secs(),
        sum.messages,
        sum.lost,
        sum.doubled,
        sum.unknown_reported,
        sum.orphans,
        sum.tool_calls,
    );
    for name in &failed {
        println!("failed: {name}");
    }
    let report = json!({
        "tier": options.tier.name(), "seed": options.seed, "filters": options.filters, "tookSeconds": took.as_secs(),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
        "cases": run, "failed": failed, "skipped": skipped,
        "deaths": kills, "messages": sum.messages, "lost": sum.lost, "doubled": sum.doubled,
        "unknownAndReported": sum.unknown_reported, "emptyPlaceholders": sum.orphans, "toolCalls": sum.tool_calls,
        "supervisorRssKbMax": sum.rss_kb, "recovery": recovery,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/resilience.json");
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    if let Err(error) = std::fs::write(&path, text + "\n") {
        println!("{} is not written: {error}", path.display());
    }
    failed.len()
}
