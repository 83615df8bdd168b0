//! The text of the unit. Pure: the same facts give the same text, and the units in `deploy/systemd/` are its output.

use super::Scope;
use std::fmt::Write as _;

/// What differs between installations. No secrets: a unit can be read by everybody (`systemctl cat`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    pub scope: Scope,
    /// `openclaw-gateway.service`.
    pub name: String,
    /// Absolute path of the program; may begin with `%h`.
    pub program: String,
    pub profile: Option<String>,
    /// Only when it was asked for: the configuration says it otherwise.
    pub port: Option<u16>,
    /// Account that it runs as; only of the system's unit.
    pub account: Option<String>,
    /// Names and values, in this order.
    pub environment: Vec<(String, String)>,
    /// File with further variables, secrets among them.
    pub environment_file: String,
}

/// A value that cannot stand in a unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has a line break in it: it cannot stand in a unit; put it into {file}")]
pub struct UnitError {
    name: String,
    file: String,
}

/// How systemd runs it, in both kinds of unit. Each line that is not plain has its reason above it.
const SERVICE: &str = "\
# `notify` and not `notify-reload`: systemd 252 takes the latter for `simple`.
Type=notify
NotifyAccess=main
Restart=always
RestartSec=500ms
# 78: the configuration is wrong and there is no earlier good one. Trying again does not help.
RestartPreventExitStatus=78
TimeoutStartSec=90
TimeoutStopSec=45
# A process that is stopped never sees SIGABRT: do not wait long before SIGKILL.
TimeoutAbortSec=5
WatchdogSec=30
WatchdogSignal=SIGABRT
# SIGTERM to the gateway alone, which ends its workers in order; SIGKILL to what is left.
KillMode=mixed
# The port stays open while a crashed gateway starts again.
FileDescriptorStoreMax=4
Delegate=memory pids cpu
# A tool that runs out of memory must not end the gateway.
OOMPolicy=continue
LimitNOFILE=65536
LimitCORE=0
UMask=0077
SyslogIdentifier=openclaw
";

/// Only for the system's unit. Left out on purpose: SystemCallFilter (tools inherit it, and it would take away the calls
/// that our own sandbox needs), MemoryDenyWriteExecute (tools compile at run time), RestrictNamespaces (our sandbox makes
/// some), ProtectHome (workspaces may lie there).
const CONFINED: &str = "\
StateDirectory=openclaw
StateDirectoryMode=0700
RuntimeDirectory=openclaw
RuntimeDirectoryMode=0700
# The lock of the host lies there: a folder that vanished would be a second lock.
RuntimeDirectoryPreserve=yes
WorkingDirectory=/var/lib/openclaw
NoNewPrivileges=yes
ProtectSystem=strict
# Workspaces outside of the state directory; add yours with `systemctl edit`.
ReadWritePaths=-/srv/openclaw
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
CapabilityBoundingSet=
";

impl Unit {
    /// The text of the unit's file.
    ///
    /// # Errors
    /// A value with a line break.
    pub fn text(&self) -> Result<String, UnitError> {
        let mut out = String::from("[Unit]\n");
        let described = self.profile.as_ref().map(|name| format!(" (profile {name})")).unwrap_or_default();
        let _ = writeln!(out, "Description=OpenClaw gateway{described}");
        if self.scope == Scope::System {
            out.push_str("After=network-online.target\nWants=network-online.target\n");
        }
        out.push_str("StartLimitIntervalSec=300\nStartLimitBurst=10\n\n[Service]\n");
        let profile = self.profile.as_ref().map(|name| format!(" --profile {name}")).unwrap_or_default();
        let port = self.port.map(|port| format!(" --port {port}")).unwrap_or_default();
        let program = self.checked("the path of the program", &self.program).map(|path| word(&path))?;
        let _ = writeln!(out, "ExecStart={program}{profile} gateway --service{port}");
        out.push_str("# In place: the process and its connections stay.\n");
        let _ = writeln!(out, "ExecReload={program}{profile} restart");
        out.push_str(SERVICE);
        for (name, value) in &self.environment {
            let value = self.checked(name, value)?;
            let _ = writeln!(out, "Environment={}", quoted(&format!("{name}={value}")));
        }
        let _ = writeln!(
            out,
            "EnvironmentFile=-{}",
            self.checked("the state directory", &self.environment_file)?
        );
        if let Some(account) = &self.account {
            let _ = writeln!(out, "User={account}\nGroup={account}");
        }
        if self.scope == Scope::System {
            out.push_str(CONFINED);
        }
        let target = if self.scope == Scope::System { "multi-user.target" } else { "default.target" };
        let _ = write!(out, "\n[Install]\nWantedBy={target}\n");
        Ok(out)
    }

    fn checked(&self, name: &str, value: &str) -> Result<String, UnitError> {
        if value.contains(['\n', '\r']) {
            return Err(UnitError { name: name.to_owned(), file: self.environment_file.clone() });
        }
        Ok(value.to_owned())
    }
}

/// One word of a command line; `%h` at its front stays a specifier.
fn word(text: &str) -> String {
    let (home, rest) = match text.strip_prefix("%h/") {
        Some(rest) => ("%h/", rest),
        None => ("", text),
    };
    let rest = rest.replace('%', "%%").replace('$', "$$");
    let whole = format!("{home}{rest}");
    if whole.contains([' ', '\t', '"', '\'', '\\', ';']) { escaped(&whole) } else { whole }
}

/// `"NAME=value"` when it has to be, with specifiers kept: only `%h` is used by us, and a `%` of a value is doubled by
/// whoever takes it from outside.
fn quoted(text: &str) -> String {
    if text.contains([' ', '\t', '"', '\'', '\\']) { escaped(text) } else { text.to_owned() }
}

fn escaped(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A value from outside, in which `%` means itself.
pub fn literal(value: &str) -> String {
    value.replace('%', "%%")
}

/// The unit as a package would ship it: the program and the state directory at their usual places.
pub fn packaged(scope: Scope) -> Unit {
    let name = "openclaw-gateway.service".to_owned();
    let mut environment = vec![("PATH".to_owned(), path(scope))];
    let (program, environment_file, account) = match scope {
        Scope::User => ("%h/.local/bin/openclaw", "%h/.openclaw/service.env", None),
        Scope::System => {
            environment.push(("HOME".to_owned(), "/var/lib/openclaw".to_owned()));
            environment.push(("OPENCLAW_STATE_DIR".to_owned(), "/var/lib/openclaw".to_owned()));
            ("/usr/bin/openclaw", "/etc/openclaw/service.env", Some("openclaw".to_owned()))
        }
    };
    environment.extend(marks(&name));
    let (program, environment_file) = (program.to_owned(), environment_file.to_owned());
    Unit { scope, name, program, profile: None, port: None, account, environment, environment_file }
}

/// What a tool finds without further words. A user's own programs come first, as in a shell.
pub fn path(scope: Scope) -> String {
    let system = "/usr/local/bin:/usr/bin:/bin";
    match scope {
        Scope::User => format!("%h/.local/bin:%h/bin:{system}"),
        Scope::System => system.to_owned(),
    }
}

/// By which the process, and tools that operators have, know a service.
pub fn marks(name: &str) -> Vec<(String, String)> {
    let pairs = [
        ("OPENCLAW_SYSTEMD_UNIT", name),
        ("OPENCLAW_SERVICE_MARKER", "openclaw"),
        ("OPENCLAW_SERVICE_KIND", "gateway"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(scope: Scope) -> std::path::PathBuf {
        let folder = if scope == Scope::User { "user" } else { "system" };
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        root.join("deploy/systemd").join(folder).join("openclaw-gateway.service")
    }

    #[test]
    fn the_units_of_the_repository_are_what_is_generated() {
        for scope in [Scope::User, Scope::System] {
            let (path, text) = (committed(scope), packaged(scope).text().unwrap());
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(kept, text, "{} is not up to date; `openclaw service print` makes it", path.display());
        }
    }

    #[test]
    fn values_are_escaped_and_line_breaks_refused() {
        let mut unit = packaged(Scope::User);
        unit.program = "/opt/my tools/50%/open$claw".into();
        unit.environment = vec![("A".into(), literal("1% \"x\""))];
        (unit.profile, unit.port) = (Some("work".into()), Some(19001));
        let text = unit.text().unwrap();
        let start =
            r#"ExecStart="/opt/my tools/50%%/open$$claw" --profile work gateway --service --port 19001"#;
        assert!(text.contains(start), "{text}");
        assert!(text.contains(r#"Environment="A=1%% \"x\"""#), "{text}");
        unit.environment = vec![("TOKEN".into(), "a\nExecStart=/bin/sh".into())];
        assert!(unit.text().unwrap_err().to_string().starts_with("TOKEN has a line break"));
    }
}
