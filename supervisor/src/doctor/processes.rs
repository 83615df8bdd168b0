//! Who runs on this state directory: our gateway, the original, somebody else on the port; and whether a start would be
//! refused.

use super::{Finding, Gateway, Severity};
use crate::config::startup::{self, BindFacts, Overrides};
use crate::config::{ConfigDisk, ConfigSnapshot, Environment};
use crate::paths::{Paths, ProfileFlags};
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Names of the programs that run the original.
const RUNTIMES: [&str; 3] = ["node", "nodejs", "bun"];
/// What the original calls itself once it is up.
const ORIGINAL_TITLE: &str = "openclaw-gateway";

pub fn examine(disk: &ConfigDisk, snapshot: Option<&ConfigSnapshot>, gateway: &Gateway) -> Vec<Finding> {
    let state = disk.paths.state_dir.display();
    let mut found = Vec::new();
    match gateway {
        Gateway::Running(info) => found.extend(running(info)),
        Gateway::Silent(pid) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("pid {pid}"));
            let message = format!("{who} holds the gateway's lock and does not answer on the control socket");
            let silent = Finding::new("gateway.silent", Severity::Error, state, message);
            found.push(silent.remedy("wait if it is starting; else end that process and start again"));
        }
        Gateway::Unknown(why) => {
            let unknown = Finding::new("state.unusable", Severity::Error, state, why.as_str());
            found.push(unknown.remedy("give the directory and its files to the user that runs the gateway"));
        }
        Gateway::Stopped => found.extend(snapshot.map(|snapshot| start(disk, snapshot)).unwrap_or_default()),
    }
    for pid in originals(&disk.paths.state_dir) {
        let message = format!(
            "the original gateway runs on this state directory (pid {pid}): both write the same sessions"
        );
        let foreign =
            Finding::new("process.original", Severity::Error, disk.paths.state_dir.display(), message);
        found.push(foreign.remedy("stop one of the two"));
    }
    found
}

fn running(info: &Value) -> Vec<Finding> {
    let text = |key: &str| info[key].as_str().unwrap_or_default();
    let place = format!("pid {}", info["pid"]);
    let message = format!("the gateway runs (version {}, port {})", text("version"), info["port"]);
    let mut found = vec![Finding::new("gateway.running", Severity::Note, place.clone(), message)];
    if text("version") != env!("CARGO_PKG_VERSION") {
        let message =
            format!("it is version {}, this program is {}", text("version"), env!("CARGO_PKG_VERSION"));
        let old = Finding::new("gateway.version", Severity::Warning, place.clone(), message);
        found.push(old.remedy("openclaw restart"));
    }
    for problem in info["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let degraded = Finding::new("gateway.degraded", Severity::Warning, place.clone(), problem);
        found.push(degraded.remedy("openclaw status"));
    }
    found
}

/// What a start would say. The mode guard is `config::doctor`'s.
fn start(disk: &ConfigDisk, snapshot: &ConfigSnapshot) -> Vec<Finding> {
    if !snapshot.file.source.exists {
        return Vec::new();
    }
    let config = disk.paths.config_file.display();
    let overrides = Overrides { allow_unconfigured: true, ..Overrides::default() };
    let plan = match startup::plan(snapshot, &overrides, &disk.paths, &BindFacts::default()) {
        Ok(plan) => plan,
        Err(refusal) => {
            let mut lines = refusal.message.lines();
            let first = lines.next().unwrap_or_default();
            let refused = Finding::new(
                "gateway.refused",
                Severity::Error,
                config,
                format!("a start is refused: {first}"),
            );
            return vec![refused.remedy(lines.collect::<Vec<_>>().join(" "))];
        }
    };
    let mut found: Vec<Finding> = plan
        .warnings
        .iter()
        .map(|warning| {
            Finding::new("gateway.warning", Severity::Warning, config.to_string(), warning.as_str())
        })
        .collect();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, plan.port))
        .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
    if taken {
        let owner = crate::gateway::port_owner::of(plan.port);
        let who = owner.map_or_else(
            || "another program".to_owned(),
            |owner| format!("pid {} ({})", owner.pid, owner.command),
        );
        let message = format!("port {} is in use by {who}", plan.port);
        let place = format!("127.0.0.1:{}", plan.port);
        let taken = Finding::new("gateway.port_taken", Severity::Error, place, message);
        found.push(taken.remedy("stop it, or set another port: openclaw config set gateway.port <n>"));
    }
    found
}

/// Processes of the original whose state directory this is, as far as this user may see them.
fn originals(state_dir: &Path) -> Vec<u32> {
    let Ok(state) = fs::canonicalize(state_dir) else { return Vec::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            is_original(&words(&read("cmdline")))
                && state_dir_of(&words(&read("environ")), &cwd)
                    .and_then(|dir| fs::canonicalize(dir).ok())
                    .is_some_and(|dir| dir == state)
        })
        .collect()
}

/// Texts that end with a zero byte, as /proc gives them.
fn words(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn is_original(command: &[String]) -> bool {
    let Some(first) = command.first() else { return false };
    let name = first.rsplit('/').next().unwrap_or(first);
    let script = || command.iter().skip(1).any(|word| word.contains("openclaw"));
    let verb = || command.iter().skip(1).any(|word| word == "gateway");
    name == ORIGINAL_TITLE || (RUNTIMES.contains(&name) && script() && verb())
}

fn state_dir_of(environ: &[String], cwd: &Path) -> Option<std::path::PathBuf> {
    let env: Environment = environ.iter().filter_map(|pair| pair.split_once('=')).collect();
    let paths = Paths::resolve(&env, &ProfileFlags::default(), cwd, Path::exists).ok()?;
    Some(paths.state_dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_original_is_told_from_us() {
        for (command, wanted) in [
            ("openclaw-gateway", true),
            ("/usr/bin/node /usr/lib/node_modules/openclaw/openclaw.mjs gateway --port 1", true),
            ("node /app/dist/index.js gateway", false),
            ("node /opt/openclaw/dist/index.js gateway run", true),
            ("/usr/bin/openclaw gateway", false),
            ("openclaw-agent [agent:main]", false),
            ("node /opt/openclaw/openclaw.mjs status", false),
        ] {
            assert_eq!(is_original(&split(command)), wanted, "{command}");
        }
    }

    #[test]
    fn its_state_directory_follows_from_its_environment() {
        let of = |pairs: &str| state_dir_of(&split(pairs), Path::new("/cwd"));
        assert_eq!(of("HOME=/u"), Some("/u/.openclaw".into()));
        assert_eq!(of("HOME=/u OPENCLAW_STATE_DIR=s"), Some("/cwd/s".into()));
        assert_eq!(of("HOME=/u OPENCLAW_PROFILE=x"), Some("/u/.openclaw-x".into()));
    }

    #[test]
    fn a_running_gateway_of_another_version_should_start_again() {
        let info =
            serde_json::json!({"pid": 7, "port": 9, "version": "0.0.0", "degraded": ["agent:main: backoff"]});
        let ids: Vec<&str> = running(&info).iter().map(|finding| finding.id).collect();
        assert_eq!(ids, ["gateway.running", "gateway.version", "gateway.degraded"]);
    }
}
