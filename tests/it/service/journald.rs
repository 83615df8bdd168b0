//! Log lines in systemd's journal with their fields, through a journal of our own.

use harness::executables;
use harness::gateway::free_port;
use harness::wait;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

#[test]
fn lines_reach_the_journal_with_fields_and_stderr_stays_quiet() {
    let home = tempfile::tempdir().expect("a home");
    let state = home.path().join("state");
    std::fs::create_dir_all(&state).expect("the state directory");
    let config = r#"{"gateway":{"mode":"local","auth":{"mode":"token","token":"planted-secret-0123456789"}},
        "agents":{"defaults":{"model":{"primary":"demo/demo"}}}}"#;
    std::fs::write(state.join("openclaw.json"), config).expect("the config");
    let path = home.path().join("journal");
    let journal = UnixDatagram::bind(&path).expect("a socket");
    journal.set_read_timeout(Some(wait::PATIENCE)).expect("a time-out");
    let stream = std::fs::File::create(home.path().join("stderr")).expect("a file");
    let meta = stream.metadata().expect("its number");
    let mut gateway = Command::new(executables::openclaw())
        .args(["gateway", "--service", "--port", &free_port().to_string()])
        .env_clear()
        .env("HOME", home.path())
        .env("OPENCLAW_STATE_DIR", &state)
        .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
        .env("OPENCLAW_JOURNAL_SOCKET", &path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stream)
        .spawn()
        .expect("the gateway can be started");
    let mut bytes = [0u8; 65536];
    let mut seen = String::new();
    while !seen.contains("MESSAGE=ready\n") {
        let length = journal.recv(&mut bytes).expect("a line in time");
        seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    for field in
        ["PRIORITY=6\n", "SYSLOG_IDENTIFIER=openclaw\n", "OPENCLAW_SUBSYSTEM=gateway\n", "OPENCLAW_MS="]
    {
        assert!(seen.contains(field), "{field} in {seen}");
    }
    assert!(!seen.contains("planted-secret"), "{seen}");
    // Nobody reads any more: the lines that find no room are lost, and the gateway neither waits nor fails.
    gateway.kill().expect("our own child");
    gateway.wait().expect("it ends");
    let stderr = std::fs::read_to_string(home.path().join("stderr")).expect("a file");
    assert_eq!(stderr, "", "nothing is said twice");
}
