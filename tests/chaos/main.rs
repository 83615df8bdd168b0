//! The fault matrix: what can go wrong, one thing at a time and all at once, and what must hold afterwards.
//!
//! ```text
//! cargo test -p tests --test chaos                                       the smoke tier
//! cargo test -p tests --test chaos -- --tier full --seed 7               all points, actions, classes, faults
//! cargo test -p tests --test chaos -- --tier kills --count 5000 --seed 7 random kills of all processes under load
//! cargo test -p tests --test chaos -- --tier soak --minutes 10 --seed 7  random faults of all kinds under load
//! cargo test -p tests --test chaos -- --list --tier full                 names only
//! cargo test -p tests --test chaos -- --tier full --filter ag.c5         some of them
//! ```
//!
//! The seed is printed, and the same seed makes the same choices. The report is `target/resilience.json`.

mod case;
mod crash;
mod faults;
mod points;
mod report;
mod storm;

use case::{Case, Ended, Tier};
use harness::gateway::{children_of, command_line};
use harness::wait;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Cases at the same time: each is mostly waiting for processes.
const JOBS: usize = 4;
/// Cases that wait for half a minute each, at the same time: of that time they use the processors for two seconds.
const SLOW_JOBS: usize = 32;

pub struct Options {
    pub tier: Tier,
    pub seed: u64,
    pub filters: Vec<String>,
    pub minutes: u64,
    pub count: u64,
    pub jobs: usize,
    pub list: bool,
}

fn options() -> Result<Options, String> {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let mut options = Options {
        tier: Tier::Smoke,
        seed: now % 1_000_000,
        filters: Vec::new(),
        minutes: 10,
        count: 60,
        jobs: JOBS,
        list: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |name: &str| -> Result<u64, String> {
            let value = args.next().unwrap_or_default();
            value.parse().map_err(|_| format!("{name} needs a number, not \"{value}\""))
        };
        match arg.as_str() {
            "--seed" => options.seed = number("--seed")?,
            "--minutes" => options.minutes = number("--minutes")?,
            "--count" => options.count = number("--count")?,
            "--jobs" => options.jobs = number("--jobs")?.max(1) as usize,
            "--list" => options.list = true,
            "--tier" => options.tier = args.next().unwrap_or_default().parse()?,
            "--filter" => options.filters.extend(args.next()),
            // Words of cargo's own harness that tools pass along.
            "--nocapture" | "--quiet" | "-q" | "--exact" => {}
            word if word.starts_with('-') => {
                return Err(format!("unknown option {word}; see the head of tests/chaos/main.rs"));
            }
            word => options.filters.push(word.to_owned()),
        }
    }
    Ok(options)
}

fn main() {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(2);
        }
    };
    let fits = |case: &Case| {
        options.filters.is_empty() || options.filters.iter().any(|part| case.name.contains(part.as_str()))
    };
    let cases: Vec<Case> = case::all(&options).into_iter().filter(fits).collect();
    if options.list {
        for case in &cases {
            println!(
                "{}: {}; {}; {}; {} -> {}",
                case.name, case.topology, case.load, case.fault, case.injection, case.expected
            );
        }
        return;
    }
    println!("tier {}, seed {}, {} cases", options.tier.name(), options.seed, cases.len());
    let begun = Instant::now();
    let ended = run_all(cases, &options);
    let failed = report::write(&options, &ended, begun.elapsed());
    std::process::exit(i32::from(failed > 0));
}

fn run_all(cases: Vec<Case>, options: &Options) -> Vec<Ended> {
    // Orphans of dead gateways become our children, so that what is left of them can be seen at the end.
    let adopts = nix::sys::prctl::set_child_subreaper(true).is_ok();
    let (slow, quick): (Vec<Case>, Vec<Case>) = cases.into_iter().partition(|case| case.slow);
    let (alone, quick): (Vec<Case>, Vec<Case>) = quick.into_iter().partition(|case| case.alone);
    let mut ended = side_by_side(quick, options.jobs);
    ended.extend(side_by_side(slow, SLOW_JOBS));
    ended.extend(side_by_side(alone, 1));
    if adopts {
        ended.extend(left_over());
    }
    ended
}

fn side_by_side(cases: Vec<Case>, jobs: usize) -> Vec<Ended> {
    let waiting = Mutex::new(VecDeque::from(cases));
    let done = Mutex::new(Vec::new());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let ended = run(case);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run(case: Case) -> Ended {
    let begun = Instant::now();
    let Case { name, work, .. } = case;
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(work())
    }));
    let outcome = outcome.unwrap_or_else(|_| case::Outcome::failed("panicked; see above".to_owned()));
    let ended = Ended { name, outcome, took_ms: begun.elapsed().as_millis() as u64 };
    ended.print();
    reap_orphans();
    ended
}

/// Workers whose gateway was killed are ours now. Dead ones would stay for the whole run, and every look into /proc would
/// have to pass them. Gateways and commands are children of a case, which takes their status itself.
fn reap_orphans() {
    for pid in children_of(std::process::id()) {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("openclaw-") {
            let pid = nix::unistd::Pid::from_raw(pid as i32);
            // One that still lives is left alone, and shown at the end.
            let _status = nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        }
    }
}

/// Processes of dead gateways that nobody ended (I7 for the whole run).
fn left_over() -> Option<Ended> {
    let left = wait::until_gone(&children_of(std::process::id()));
    let left: Vec<String> = left.into_iter().map(|pid| format!("I7: {pid} {}", command_line(pid))).collect();
    (!left.is_empty()).then(|| {
        let ended =
            Ended { name: "left over".into(), outcome: case::Outcome::failed(left.join(", ")), took_ms: 0 };
        ended.print();
        ended
    })
}
