//! The Telegram double behaves towards a client that others wrote.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harness::telegram_server::TelegramServer;
use tokio::process::Command;

/// The folder of the npm clients, with its packages installed; `None` where there is no npm.
async fn clients() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    if folder.join("node_modules/grammy").is_dir() && folder.join("node_modules/.bin/node").exists() {
        return Some(folder);
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&folder);
    match npm.stdin(Stdio::null()).status().await {
        Ok(status) if status.success() => Some(folder),
        _ => None,
    }
}

#[tokio::test]
async fn grammy_can_talk_to_the_telegram_double() {
    let Some(folder) = clients().await else {
        assert!(std::env::var_os("CI").is_none(), "npm and its packages are needed in CI");
        eprintln!("skipped: npm clients are not installed");
        return;
    };
    let server = TelegramServer::start().await;
    // The release of node that the clients were locked with.
    let mut node = Command::new(folder.join("node_modules/.bin/node"));
    node.arg("grammy.mjs").arg(server.api_root()).arg(server.token()).current_dir(folder);
    let run = node.stdin(Stdio::null()).kill_on_drop(true).output();
    let output =
        tokio::time::timeout(Duration::from_secs(60), run).await.expect("ends in time").expect("node runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), "ok");
}
