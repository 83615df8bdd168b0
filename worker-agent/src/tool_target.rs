//! Root of the integration target `tools`: the tools through their trait, with the real launcher.
//!
//! A target of its own, because only there cargo builds the executable first and tells where it is.

#![expect(dead_code, reason = "the tests do not touch everything that the worker uses")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "functions that only tests call may end a test"
)]

mod tool;

#[path = "../tests/tools/bench.rs"]
mod bench;
#[path = "../tests/tools/exec.rs"]
mod exec;
#[path = "../tests/tools/files.rs"]
mod files;
#[path = "../tests/tools/process.rs"]
mod process;
