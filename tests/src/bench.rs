//! The benchmark: a real gateway with real sockets, measured from outside.
//!
//! Each part starts gateways of its own through the harness, so that no part inherits another's state. The client and
//! the model run in this process and share the machine with what is measured. Nothing here looks into a gateway: time is
//! a client's, memory and processor time are the kernel's. What each figure means is in `docs/benchmarks.md`.

mod churn;
mod cold_start;
mod fanout;
mod health;
mod idle;
mod listener;
mod model;
mod neighbours;
mod process;
mod report;
mod scene;
mod stats;
mod turn;

use anyhow::{Context, bail};
use report::Row;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Sizes, in the order in which they are run: what needs a quiet machine comes first.
const PARTS: [&str; 7] = ["size", "cold-start", "status", "health", "turn", "fanout", "idle"];
/// Longer ones, run only when they are named.
const LONG_PARTS: [&str; 2] = ["neighbours", "churn"];

/// What to measure, and how much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names of [`PARTS`] and [`LONG_PARTS`]; all of the first when empty.
    pub only: Vec<String>,
    /// Directory of the three executables.
    pub bin: PathBuf,
    /// One JSON document instead of the table.
    pub json: bool,
    /// Between readiness and the measurement of memory.
    pub idle_wait: Duration,
    /// Turns of each session that are measured.
    pub turns: usize,
    /// Sessions at once, one row each.
    pub sessions: Vec<usize>,
    /// Restarts of workers in `churn`.
    pub restarts: usize,
    /// Turns in `churn`.
    pub runs: usize,
}

impl Options {
    /// Reads the command line (without the program's name).
    ///
    /// # Errors
    /// A flag that does not exist, or a value that does not fit, in words.
    pub fn parse(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self {
            only: Vec::new(),
            bin: default_bin()?,
            json: false,
            idle_wait: Duration::from_secs(30),
            turns: 20,
            sessions: vec![1, 8, 64],
            restarts: 5000,
            runs: 20_000,
        };
        while let Some(flag) = args.next() {
            if flag == "--json" {
                options.json = true;
                continue;
            }
            let value = args.next().with_context(|| format!("{flag} needs a value; {USAGE}"))?;
            let number = || value.parse().with_context(|| format!("{flag} {value}: not a number"));
            match flag.as_str() {
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--bin" => options.bin = PathBuf::from(&value),
                "--idle-wait-s" => options.idle_wait = Duration::from_secs(number()?),
                "--restarts" => options.restarts = usize::try_from(number()?)?,
                "--runs" => options.runs = usize::try_from(number()?)?,
                "--turns" => options.turns = usize::try_from(number()?)?,
                "--sessions" => {
                    options.sessions = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                _ => bail!("unknown flag {flag}; {USAGE}"),
            }
        }
        let known = || PARTS.iter().chain(&LONG_PARTS);
        if let Some(unknown) = options.only.iter().find(|name| !known().any(|part| part == name)) {
            let known: Vec<&str> = known().copied().collect();
            bail!("--only {unknown}: no such part; known are {}", known.join(", "));
        }
        Ok(options)
    }

    fn wants(&self, part: &str) -> bool {
        let named = self.only.iter().any(|name| name == part);
        named || (self.only.is_empty() && PARTS.contains(&part))
    }
}

const USAGE: &str = "usage: openclaw-bench [--only part,…] [--bin directory] [--json] [--idle-wait-s 30] \
[--turns 20] [--sessions 1,8,64] [--restarts 5000] [--runs 20000]";

/// Where this program lies: the executables of the same build are beside it.
fn default_bin() -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("OPENCLAW_TEST_BIN") {
        return Ok(PathBuf::from(given));
    }
    let own = std::env::current_exe().context("find this program's own directory")?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

/// Measures what the options ask for and prints it.
///
/// # Errors
/// An executable is missing, or a part could not be measured.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    for name in report::EXECUTABLES {
        let path = options.bin.join(name);
        if !path.is_file() {
            bail!(
                "{} is missing: run `cargo build --release` first, or name a directory with --bin",
                path.display()
            );
        }
    }
    let load_before = process::load_average();
    let mut rows = Vec::new();
    for part in PARTS.iter().chain(&LONG_PARTS).filter(|part| options.wants(part)) {
        eprintln!("measuring {part} …");
        let measured: Vec<Row> = match *part {
            "size" => report::sizes(&options.bin)?,
            "cold-start" => cold_start::measure(options).await?,
            "status" => cold_start::status_command(options).await?,
            "health" => health::measure(options).await?,
            "turn" => turn::measure(options).await?,
            "fanout" => fanout::measure(options).await?,
            "neighbours" => neighbours::measure(options).await?,
            "churn" => churn::measure(options).await?,
            _ => idle::measure(options).await?,
        };
        rows.extend(measured);
    }
    let about = report::About { bin: options.bin.clone(), load_before, load_after: process::load_average() };
    report::print(&about, &rows, options.json)
}
