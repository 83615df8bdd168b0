//! Replaces a gateway's image again and again under load, and prints what its clients, runs and people saw of it.
//! `cargo run -p tests --bin openclaw-upgrades -- 50 [directory of the executables]`

use harness::upgrade_load::{Load, Size};
use harness::wait;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const UPGRADES_DEFAULT: u32 = 50;
/// Between two replacements: long enough for everybody to have said something.
const PAUSE: Duration = Duration::from_millis(400);

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let wanted = args.next().map(|text| text.parse::<u32>());
    let wanted = match wanted.transpose() {
        Ok(wanted) => wanted.unwrap_or(UPGRADES_DEFAULT),
        Err(error) => {
            eprintln!("openclaw-upgrades [how often] [directory of the executables]: {error}");
            return ExitCode::from(2);
        }
    };
    let bin = args.next().map(PathBuf::from);
    let mut load = Load::start(Size::default(), bin.as_deref()).await;
    let mut times = Vec::new();
    for _ in 0..wanted {
        wait::pause(PAUSE).await;
        times.push(load.upgrade().await);
    }
    let report = load.finish().await;
    times.sort();
    print!("{report}");
    eprint!("{}", report.log);
    if let (Some(median), Some(longest)) = (times.get(times.len() / 2), times.last()) {
        println!("from signal to known: p50 {} ms, longest {} ms", median.as_millis(), longest.as_millis());
    }
    if report.wrong() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
