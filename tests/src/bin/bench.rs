//! `openclaw-bench`: measures a build of the gateway. Parts, flags and figures: `docs/benchmarks.md`.

use harness::bench::{self, Options};

fn main() -> anyhow::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    // The client side gets two threads, so that one connection's work does not delay another's time stamp.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(bench::run(&options))
}
