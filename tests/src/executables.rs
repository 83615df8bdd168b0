//! The executables under test. Built once per test run, so that a stale binary is never tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static BUILT: OnceLock<PathBuf> = OnceLock::new();
static FAILPOINTS: OnceLock<PathBuf> = OnceLock::new();

/// Directory that holds `openclaw`, `openclaw-agent` and `openclaw-channel` of this tree.
///
/// `OPENCLAW_TEST_BIN` names a directory with executables to test instead (a release build, say).
pub fn directory() -> &'static Path {
    BUILT.get_or_init(|| match std::env::var_os("OPENCLAW_TEST_BIN") {
        Some(given) => PathBuf::from(given),
        None => build(&target_dir(), &[]),
    })
}

/// The same with failpoints compiled in, in a target directory of its own; `OPENCLAW_TEST_FAILPOINT_BIN` names another.
pub fn with_failpoints() -> &'static Path {
    FAILPOINTS.get_or_init(|| {
        if let Some(given) = std::env::var_os("OPENCLAW_TEST_FAILPOINT_BIN") {
            return PathBuf::from(given);
        }
        let features =
            ["--features", "supervisor/failpoints,worker-agent/failpoints,worker-channel/failpoints"];
        build(&target_dir().join("failpoints"), &features)
    })
}

pub fn openclaw() -> PathBuf {
    directory().join("openclaw")
}

/// `target/` of the running test: it lies in `target/<profile>/deps/`.
fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("the test knows its own path");
    let profile = exe.ancestors().find(|dir| dir.join("deps").is_dir() && dir.join(".fingerprint").is_dir());
    let profile = profile.expect("the test runs from a cargo target directory");
    profile.parent().expect("target/<profile>").to_owned()
}

fn build(target: &Path, features: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let status = Command::new(cargo)
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "-p",
            "supervisor",
            "-p",
            "worker-agent",
            "-p",
            "worker-channel",
            "--bins",
        ])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the executables under test do not build");
    target.join("debug")
}

/// A program of the tests crate itself, as cargo builds it with the tests.
pub fn of_this_crate(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("the test knows its own path");
    let profile = exe.ancestors().find(|dir| dir.join("deps").is_dir()).expect("target/<profile>");
    profile.join(name)
}
