//! Clients that others wrote, from npm: the scripts of `clients/`, run with the release of node that they are
//! locked with.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

/// The longest script takes about fifteen seconds; a busy machine is several times slower.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(150);

static FOLDER: OnceCell<Option<PathBuf>> = OnceCell::const_new();

/// The folder of the scripts with its packages installed. `None` where npm cannot install them; with `CI` set
/// that is a failure.
pub async fn folder() -> Option<&'static Path> {
    let installed = FOLDER.get_or_init(async || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
        if is_installed(&folder) || install(&folder).await { Some(folder) } else { None }
    });
    let found = installed.await.as_deref();
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "npm and the packages of tests/clients are needed in CI");
        eprintln!("skipped: the packages of tests/clients are not installed and npm could not install them");
    }
    found
}

/// Whether every locked package is there in its locked version.
fn is_installed(folder: &Path) -> bool {
    let read = |path: &Path| -> serde_json::Value {
        let text = std::fs::read(path).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    let lock = read(&folder.join("package-lock.json"));
    let packages = lock["packages"].as_object().expect("package-lock.json lists packages");
    let mut packages = packages.iter().filter(|(path, _)| !path.is_empty());
    packages
        .all(|(path, locked)| read(&folder.join(path).join("package.json"))["version"] == locked["version"])
        && folder.join("node_modules/.bin/node").exists()
}

async fn install(folder: &Path) -> bool {
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
    npm.stdin(Stdio::null()).status().await.is_ok_and(|status| status.success())
}

/// Runs a script to its end and gives what it printed; panics with its words when it failed. `None` = skipped.
pub async fn run(script: &str, args: &[&str]) -> Option<String> {
    let folder = folder().await?;
    let mut node = Command::new(folder.join("node_modules/.bin/node"));
    node.arg(script).args(args).current_dir(folder);
    let run = node.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(SCRIPT_TIMEOUT, run).await;
    let Output { status, stdout, stderr } = ended.expect("the script ends in time").expect("node runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(status.success(), "{script}: {}\n{}", text(&stdout), text(&stderr));
    Some(text(&stdout).trim().to_owned())
}

/// A server that others wrote. It ends when dropped.
pub struct Served {
    /// The line of results that it printed when it was ready.
    pub ready: serde_json::Value,
    _child: Child,
}

/// Starts a script that serves until its standard input ends, and waits for its first line. `None` = skipped.
pub async fn serve(script: &str, args: &[&str]) -> Option<Served> {
    let folder = folder().await?;
    let mut node = Command::new(folder.join("node_modules/.bin/node"));
    node.arg(script).args(args).current_dir(folder);
    node.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = node.spawn().expect("node runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = tokio::time::timeout(SCRIPT_TIMEOUT, lines.next_line()).await.expect("it starts in time");
    let line = line.expect("readable").unwrap_or_else(|| panic!("{script} ended before it was ready"));
    Some(Served { ready: serde_json::from_str(&line).expect("one JSON line"), _child: child })
}
