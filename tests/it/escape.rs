//! Nothing gets out: an attacker with full knowledge of its surroundings runs as a command of a tool, behind the paths that file
//! tools take, and in the place of a worker. Every probe of its table (`tests/src/bin/probe`) is refused, and the rest of the gateway
//! works on meanwhile.

mod bombs;
mod file_tools;
mod scene;
mod tools;
mod workers;

use harness::escape::{Attacker, Outcome, Report};
use std::collections::BTreeSet;
use std::process::Command;

/// The attacking program.
const PROBE: &str = env!("CARGO_BIN_EXE_probe");

/// Probes for this attacker, as the program itself lists them.
fn table(attacker: Attacker) -> BTreeSet<String> {
    let who = serde_json::to_value(attacker).expect("a name");
    let output =
        Command::new(PROBE).args(["list", who.as_str().expect("a name")]).output().expect("the probe runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entry = |line: &str| serde_json::from_str::<harness::escape::Entry>(line).expect("an entry").name;
    text.lines().map(entry).collect()
}

/// What succeeded. Fails when a probe of the table was not tried: nothing is skipped silently.
fn holes(attacker: Attacker, reports: &[Report]) -> BTreeSet<String> {
    let tried: BTreeSet<String> = reports.iter().map(|report| report.name.clone()).collect();
    assert_eq!(tried, table(attacker), "the probes that were tried are not those of the table");
    let mut holes = BTreeSet::new();
    for Report { name, outcome } in reports {
        match outcome {
            Outcome::Refused(_) => {}
            Outcome::Absent(why) => println!("not on this machine: {name} ({why})"),
            Outcome::Succeeded(evidence) => {
                println!("HOLE {attacker:?} {name}: {evidence}");
                holes.insert(name.clone());
            }
        }
    }
    println!("{attacker:?}: {} probes, {} let through", reports.len(), holes.len());
    holes
}

/// Nothing got through.
fn expect_no_holes(attacker: Attacker, reports: &[Report]) {
    let found = holes(attacker, reports);
    assert!(found.is_empty(), "{attacker:?} gets out: {found:?}");
}
