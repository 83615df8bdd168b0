//! `openclaw service …` with a systemd of our own in the path: which commands it gets, and what is written where.

use harness::executables;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A home with a config, and programs that note how they are called.
struct Host {
    home: TempDir,
}

impl Host {
    fn new(systemctl: &str) -> Self {
        let home = tempfile::tempdir().expect("a home");
        let host = Self { home };
        fs::create_dir_all(host.path("bin")).expect("a folder");
        fs::create_dir_all(host.path(".openclaw")).expect("a folder");
        fs::create_dir_all(host.path("linger")).expect("a folder");
        fs::write(host.path(".openclaw/openclaw.json"), r#"{"gateway":{"mode":"local"}}"#).expect("a config");
        for (name, body) in [("systemctl", systemctl), ("journalctl", "echo a line"), ("loginctl", "exit 0")]
        {
            let text = format!("#!/bin/sh\necho \"{name} $*\" >> \"$HOME/calls\"\n{body}\n");
            fs::write(host.path("bin").join(name), text).expect("a program");
            fs::set_permissions(host.path("bin").join(name), fs::Permissions::from_mode(0o755))
                .expect("a mode");
        }
        host
    }

    fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(executables::openclaw())
            .args(words)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("HOME", self.home.path())
            .env("OPENCLAW_LINGER_DIR", self.path("linger"))
            .env("OPENCLAW_GATEWAY_TOKEN", "planted-token-0123456789")
            .output()
            .expect("it can be started")
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _gone = fs::remove_file(self.path("calls"));
        text.lines().map(str::to_owned).collect()
    }

    fn unit(&self) -> PathBuf {
        self.path(".config/systemd/user/openclaw-gateway.service")
    }
}

const LOADED: &str = "case \"$*\" in *show\\ *) echo LoadState=loaded; echo ActiveState=active; echo SubState=running; \
     echo MainPID=7; echo UnitFileState=enabled; echo 'StatusText=1/1 workers ready';; esac";

#[test]
fn install_writes_the_unit_and_keeps_the_token_out_of_it() {
    let host = Host::new(LOADED);
    let said = host.said(&["gateway", "install", "--port", "19123"]);
    assert!(said.contains(&format!("Installed systemd service: {}", host.unit().display())), "{said}");
    assert!(said.contains("loginctl enable-linger"), "{said}");
    let name = "openclaw-gateway.service";
    let wanted = [
        "systemctl --user show-environment".to_owned(),
        "systemctl --user daemon-reload".to_owned(),
        format!("systemctl --user enable {name}"),
        format!("systemctl --user restart {name}"),
    ];
    assert_eq!(host.calls(), wanted);
    let unit = fs::read_to_string(host.unit()).expect("the unit");
    assert!(unit.contains("gateway --service --port 19123\n") && unit.contains("Type=notify\n"), "{unit}");
    assert!(!unit.contains("planted-token"), "{unit}");
    let kept = host.path(".openclaw/service.env");
    let text = fs::read_to_string(&kept).expect("the variables");
    assert_eq!(text, "OPENCLAW_GATEWAY_TOKEN=\"planted-token-0123456789\"\n");
    assert_eq!(fs::metadata(&kept).expect("it is there").permissions().mode() & 0o777, 0o600);

    let again = host.said(&["daemon", "install", "--json"]);
    let again: serde_json::Value = serde_json::from_str(&again).expect("one document");
    assert_eq!(again["result"], "already-installed", "{again}");
    host.said(&["service", "install", "--force"]);
    assert!(host.unit().with_extension("service.bak").exists());
}

#[test]
fn every_verb_asks_systemd_and_says_what_came_of_it() {
    let host = Host::new(LOADED);
    host.said(&["service", "install"]);
    host.calls();
    for (words, call, line) in [
        (["gateway", "start"], "start", "started"),
        (["service", "stop"], "stop", "stopped"),
        (["daemon", "restart"], "restart", "restarted"),
    ] {
        let said = host.said(&words);
        assert_eq!(said, format!("Service openclaw-gateway.service: {line}.\n"));
        let last = host.calls().pop();
        assert_eq!(
            last.as_deref(),
            Some(format!("systemctl --user {call} openclaw-gateway.service").as_str())
        );
    }
    let status = host.said(&["service", "status"]);
    for line in [
        "Service: systemd (openclaw-gateway.service, enabled)",
        "Runtime: active (running, pid 7)",
        "Linger: off",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(!status.contains("differs"), "{status}");
    fs::write(host.unit(), "[Unit]\n").expect("written");
    assert!(host.said(&["daemon", "status"]).contains("The unit differs"));
    assert_eq!(host.said(&["service", "logs", "-n", "5"]), "a line\n");
    let said = host.said(&["gateway", "uninstall"]);
    assert!(said.contains("uninstalled") && !host.unit().exists(), "{said}");
}

#[test]
fn without_systemd_the_text_says_what_to_do() {
    let silent = Host::new("echo 'Failed to connect to bus: No medium found' >&2; exit 1");
    let none = Host::new(
        "echo \"System has not been booted with systemd as init system (PID 1). Can't operate.\" >&2; exit 1",
    );
    let absent = Host::new("");
    fs::remove_file(absent.path("bin/systemctl")).expect("it was there");
    // Without systemd as the host's manager there is no session to log in to either.
    let booted = std::path::Path::new("/run/systemd/system").exists();
    let silence = if booted { "enable-linger" } else { "not run by systemd" };
    for (host, words) in [(&silent, silence), (&none, "not run by systemd")] {
        for verb in [&["service", "install"][..], &["gateway", "start"], &["daemon", "status"]] {
            let output = host.run(verb);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(text.starts_with("systemctl --user unavailable: ") && text.contains(words), "{text}");
        }
    }
    assert!(!silent.unit().exists(), "nothing is written when nobody would read it");
}

#[test]
fn a_service_that_is_not_installed_is_named_with_the_command() {
    let host = Host::new("case \"$*\" in *show\\ *) echo LoadState=not-found;; esac");
    let output = host.run(&["--profile", "work", "service", "start"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    let wanted = "Gateway service not installed (openclaw-gateway-work.service).\nRun: openclaw --profile work service install\n";
    assert_eq!(text, wanted);
}

/// What systemd's own checker says of the units of the repository. It reads files only; no systemd has to run.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree").join("deploy/systemd");
    let analyze = |words: &[&str]| {
        let runtime = folder.path().join("run");
        fs::create_dir_all(&runtime).expect("a folder");
        Command::new("systemd-analyze").args(words).env("XDG_RUNTIME_DIR", runtime).output()
    };
    if analyze(&["--version"]).is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has the program systemd-analyze (package systemd)");
        eprintln!("skipped: the program systemd-analyze is missing");
        return;
    }
    let program = executables::openclaw().display().to_string();
    for (scope, placed) in [("user", "%h/.local/bin/openclaw"), ("system", "/usr/bin/openclaw")] {
        let text = fs::read_to_string(units.join(scope).join("openclaw-gateway.service")).expect("a unit");
        // It looks for the program, which is not installed here.
        let path = folder.path().join("openclaw-gateway.service");
        fs::write(&path, text.replace(placed, &program)).expect("written");
        let path = path.display().to_string();
        let output = analyze(&[&format!("--{scope}"), "verify", &path]).expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<_> = said.lines().filter(|line| line.contains("openclaw")).collect();
        assert!(output.status.success() && ours.is_empty(), "{said}");
    }
    let unit = units.join("system/openclaw-gateway.service").display().to_string();
    // Tenths: 4.5 is what systemd calls "OK".
    let output =
        analyze(&["security", "--offline=true", "--threshold=45", "--no-pager", &unit]).expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
