//! Odd surroundings: pipes that close, long paths, no home, a disk that may not be written, programs that are missing.

use super::{Place, stderr};
use harness::gateway::{TOKEN, TestGateway, command_line};
use harness::{executables, wait};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Commands that must work from files alone, and commands that say at once that nobody runs.
#[test]
fn every_command_without_a_gateway_ends_at_once_with_its_text() {
    let place = Place::new(Some("{gateway:{mode:'local',auth:{token:'secret-0123456789'}}}"));
    let by_file: [&[&str]; 10] = [
        &["status"],
        &["status", "--json"],
        &["doctor"],
        &["config", "get", "gateway.mode"],
        &["config", "validate"],
        &["models", "status"],
        &["sessions"],
        &["pairing", "list", "telegram"],
        &["channels", "list"],
        &["channels", "status"],
    ];
    for args in by_file {
        let output = place.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(!printed.contains("secret-0123456789"), "{args:?}");
        if args.contains(&"--json") {
            serde_json::from_str::<serde_json::Value>(&printed).expect("one JSON document");
        }
    }
    let asking: [&[&str]; 6] = [
        &["health"],
        &["logs"],
        &["agent", "-m", "hello"],
        &["gateway", "call", "status"],
        &["gateway", "config.get"],
        &["workers"],
    ];
    for args in asking {
        let output = place.run(args);
        let text = stderr(&output);
        assert!(text.contains("gateway is not running") && text.contains("Config: "), "{args:?}: {text}");
        assert!(output.status.code().is_some_and(|code| code == 1 || code == 2), "{args:?}: {output:?}");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_command() {
    let gateway = TestGateway::start().await;
    let mut follow = std::process::Command::new(executables::openclaw())
        .args(["logs", "--follow", "--interval", "600000"])
        .env_clear()
        .env("HOME", gateway.home.path())
        .env("OPENCLAW_STATE_DIR", gateway.state_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut first = String::new();
    let mut reader = BufReader::new(follow.stdout.take().expect("a pipe"));
    reader.read_line(&mut first).expect("a line");
    assert!(!first.is_empty());
    drop(reader);
    let status = wait::until_blocking("the command ends", || follow.try_wait().expect("our own child"));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut follow.stderr.take().expect("a pipe"), &mut said).expect("its errors");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_long_state_directory_has_a_control_socket_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().join("x".repeat(150));
    let gateway = TestGateway::builder().state_dir(&state).start().await;
    let health = gateway.cli(&["health"]);
    assert!(health.status.success(), "{}", stderr(&health));
}

#[test]
fn a_missing_worker_program_is_named_with_its_place() {
    let place = Place::new(Some("{gateway:{mode:'local',auth:{token:'secret-0123456789'}}}"));
    let bin = place.home().join("bin");
    fs::create_dir_all(&bin).expect("a directory");
    fs::copy(executables::openclaw(), bin.join("openclaw")).expect("a copy");
    let output = std::process::Command::new(bin.join("openclaw"))
        .args(["gateway", "--port", &harness::gateway::free_port().to_string()])
        .env_clear()
        .env("HOME", place.home())
        .env("OPENCLAW_STATE_DIR", place.state())
        .stdin(Stdio::null())
        .output()
        .expect("starts");
    let wanted = format!("worker executable {} cannot be opened", bin.join("openclaw-agent").display());
    assert!(stderr(&output).contains(&wanted), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

/// Without HOME the account's own home counts, not the root directory.
#[test]
fn without_home_the_accounts_home_is_used() {
    let output = Place::new(None)
        .command(&["config", "file"])
        .env_remove("HOME")
        .env_remove("OPENCLAW_STATE_DIR")
        .output();
    let output = output.expect("the command line can be started");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(path.ends_with("/.openclaw/openclaw.json") && path != "/.openclaw/openclaw.json", "{output:?}");
}

#[test]
fn a_state_directory_of_somebody_else_is_not_called_busy() {
    let place = Place::new(Some("{gateway:{mode:'local'}}"));
    // A directory cannot be opened for writing, whoever asks.
    fs::create_dir(place.state().join("gateway.lock")).expect("a directory");
    let output = place.run(&["config", "set", "ui.seamColor", "#112233"]);
    let text = stderr(&output);
    assert!(text.contains("cannot lock") && !text.contains("try again"), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

/// Secrets stand in the files that the operator wrote them to, and nowhere else that others can look.
#[tokio::test]
async fn secrets_are_in_no_log_command_line_or_worker_environment() {
    let gateway = TestGateway::builder()
        .env("OPENAI_API_KEY", "sk-from-the-environment-0123456789")
        .file(".openclaw/.env", "DOTENV_SECRET='dotenv secret 0123456789'\n")
        .start()
        .await;
    gateway.worker("openclaw-agent").await;
    let port = gateway.port;
    let wrong =
        harness::http::get(port, "/v1/models", Some("wrong-token-0123456789")).await.expect("an answer");
    assert_eq!(wrong.status, 401);
    let set = gateway.cli(&["config", "set", "talk.apiKey", "key-that-was-set-0123456789"]);
    let printed = format!("{}{}", String::from_utf8_lossy(&set.stdout), stderr(&set));
    let secrets = [TOKEN, "sk-from-the-environment", "dotenv secret", "wrong-token", "key-that-was-set"];
    let log =
        gateway.log() + &fs::read_to_string(gateway.state_dir().join("logs/gateway.log")).unwrap_or_default();
    let mut places = vec![("log".to_owned(), log), ("config set".to_owned(), printed)];
    for pid in gateway.workers("openclaw-agent").into_iter().chain([gateway.pid()]) {
        places.push((format!("command line of {pid}"), command_line(pid)));
    }
    for pid in gateway.workers("openclaw-agent") {
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("readable for root and owner");
        places.push((format!("environment of {pid}"), String::from_utf8_lossy(&environment).into_owned()));
    }
    for (place, text) in places {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}
