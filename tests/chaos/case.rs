//! A case of the matrix as data, and how it ended.

use crate::storm::{self, Storm};
use crate::{Options, faults, points};
use harness::oracle::Verdict;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    Smoke,
    Full,
    Kills,
    Soak,
}

impl Tier {
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Full => "full",
            Self::Kills => "kills",
            Self::Soak => "soak",
        }
    }
}

impl std::str::FromStr for Tier {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Smoke, Self::Full, Self::Kills, Self::Soak];
        let found = all.into_iter().find(|tier| tier.name() == word);
        found.ok_or_else(|| format!("unknown tier \"{word}\"; there are smoke, full, kills and soak"))
    }
}

/// Made on the thread that runs it: each case has a thread and a runtime of its own, so that one that blocks delays no other.
pub type Work = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Outcome>>> + Send>;

pub struct Case {
    pub name: String,
    pub topology: String,
    pub load: String,
    pub fault: String,
    pub injection: String,
    pub expected: String,
    /// Waits for half a minute and does little meanwhile.
    pub slow: bool,
    /// Needs the machine for itself.
    pub alone: bool,
    pub work: Work,
}

impl Case {
    pub fn new<F>(name: impl Into<String>, work: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Outcome> + 'static,
    {
        Self {
            name: name.into(),
            topology: "1 supervisor, 1 agent, 1 bot".into(),
            load: String::new(),
            fault: String::new(),
            injection: String::new(),
            expected: "each message answered once, I1 to I11".into(),
            slow: false,
            alone: false,
            work: Box::new(move || Box::pin(work())),
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub verdict: Verdict,
    /// Why it could not be tried here.
    pub skipped: Option<String>,
    /// What was seen besides.
    pub note: String,
    pub kills: u64,
    /// Times from death to the first sign of the next life, in milliseconds, by what died.
    pub recovery_ms: BTreeMap<String, Vec<u64>>,
}

impl Outcome {
    pub fn failed(why: String) -> Self {
        let verdict = Verdict { broken: vec![why], ..Verdict::default() };
        Self { verdict, ..Self::default() }
    }

    /// Missing tool or right: fine here, a failure in CI.
    pub fn skipped(why: impl Into<String>) -> Self {
        Self { skipped: Some(why.into()), ..Self::default() }
    }

    pub fn passed(&self) -> bool {
        self.verdict.broken.is_empty()
    }
}

pub struct Ended {
    pub name: String,
    pub outcome: Outcome,
    pub took_ms: u64,
}

impl Ended {
    pub fn print(&self) {
        let Outcome { verdict, skipped, note, .. } = &self.outcome;
        if let Some(why) = skipped {
            println!("{} ... skipped: {why}", self.name);
        } else if self.outcome.passed() {
            println!("{} ... ok, {} messages, {note}, {} ms", self.name, verdict.messages, self.took_ms);
        } else {
            println!("{} ... FAILED ({note})", self.name);
            for line in verdict.broken.iter().take(12) {
                println!("    {}", line.lines().take(60).collect::<Vec<_>>().join("\n      "));
            }
        }
    }
}

/// All cases of a tier.
pub fn all(options: &Options) -> Vec<Case> {
    let seed = options.seed;
    let limit = Duration::from_secs(60 * options.minutes);
    let kills = |count, limit| storm::case(Storm { seed, count, limit, faults: false });
    match options.tier {
        Tier::Smoke => {
            let mut cases = points::cases(options.tier, seed);
            cases.extend(faults::cases(options.tier, seed));
            cases.push(kills(Some(options.count.min(SMOKE_KILLS)), limit));
            cases
        }
        Tier::Full => {
            let mut cases = points::cases(options.tier, seed);
            cases.extend(faults::cases(options.tier, seed));
            cases.push(kills(Some(options.count), limit));
            cases
        }
        Tier::Kills => vec![kills(Some(options.count), KILLS_LIMIT)],
        Tier::Soak => vec![storm::case(Storm { seed, count: None, limit, faults: true })],
    }
}

/// Kills of the smoke tier.
const SMOKE_KILLS: u64 = 40;
/// Five thousand kills take about half an hour.
const KILLS_LIMIT: Duration = Duration::from_secs(4 * 3600);
