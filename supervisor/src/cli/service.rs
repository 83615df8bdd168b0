//! `openclaw service` (also `daemon`, and verbs of `gateway`): the gateway as a service of systemd.

use super::client::Client;
use super::invocation::{Failure, Invocation};
use super::output;
use crate::config::{ConfigSnapshot, ConfigSource};
use crate::exit_code;
use crate::service::installed::{Place, SYSTEM_ENVIRONMENT, environment_file};
use crate::service::systemctl::{self, Shown, Systemctl, SystemctlError};
use crate::service::{Scope, account, environment_file as variables, unit, unit_of};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Account of the system's service, and its state directory.
const SYSTEM_ACCOUNT: &str = "openclaw";
const SYSTEM_STATE: &str = "/var/lib/openclaw";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Write the unit, start it now and at every boot
    Install(InstallArgs),
    /// Stop the service and remove its unit
    Uninstall(VerbArgs),
    /// Start the service
    Start(VerbArgs),
    /// Stop the service
    Stop(VerbArgs),
    /// Stop and start the service
    Restart(VerbArgs),
    /// Show what systemd says of the service
    Status(VerbArgs),
    /// Show the service's lines of the journal
    Logs(LogsArgs),
    /// Print the unit as a package would ship it
    Print(ScopeArgs),
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ScopeArgs {
    /// The host's service manager instead of the user's
    #[arg(long)]
    system: bool,
}

#[derive(Debug, clap::Args)]
pub struct VerbArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct InstallArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Port to listen on, when it is not the configuration's
    #[arg(long, value_name = "n")]
    port: Option<String>,
    /// Shared token: kept in a file of 0600 beside the unit, not in it
    #[arg(long, value_name = "s")]
    token: Option<String>,
    /// Write the unit also when there is one already (the old one is kept as .bak)
    #[arg(long)]
    force: bool,
    /// Also let the service run while nobody is logged in (loginctl enable-linger)
    #[arg(long)]
    linger: bool,
    /// Accepted for scripts; there is only one runtime
    #[arg(long, value_name = "name", hide = true)]
    runtime: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Go on printing what is added
    #[arg(short, long)]
    follow: bool,
    /// Lines to begin with
    #[arg(short = 'n', long, default_value_t = 200)]
    lines: u32,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        self.verb.run(invocation)
    }
}

impl From<SystemctlError> for Failure {
    fn from(error: SystemctlError) -> Self {
        Self::new(error.to_string())
    }
}

/// One installation, and who asks for it.
struct Here<'a> {
    invocation: &'a Invocation,
    place: Place,
}

impl<'a> Here<'a> {
    fn of(scope: ScopeArgs, invocation: &'a Invocation) -> Self {
        let scope = if scope.system { Scope::System } else { Scope::User };
        Self { invocation, place: Place::of(scope, &invocation.env, &invocation.paths) }
    }

    fn manager(&self) -> Systemctl {
        Systemctl(self.place.scope)
    }

    fn install_command(&self) -> String {
        self.place.install_command(&self.invocation.paths)
    }

    fn require_installed(&self) -> Result<(), Failure> {
        self.manager().check()?;
        if self.place.file.exists()
            || self.manager().show(&self.place.name)?.get("LoadState").is_some_and(|s| s == "loaded")
        {
            return Ok(());
        }
        let install = self.install_command();
        Err(Failure::new(format!("Gateway service not installed ({}).\nRun: {install}", self.place.name)))
    }

    /// Says what was done, for people or as one document.
    fn told(&self, action: &str, result: &str, json: bool, notes: &[String]) -> Result<u8, Failure> {
        if json {
            output::json(&json!({
                "ok": true, "action": action, "result": result,
                "service": {"label": "systemd", "unit": self.place.name, "path": self.place.file, "loaded": result != "uninstalled"},
                "warnings": notes,
            }))?;
            return Ok(exit_code::OK);
        }
        let line = match result {
            "installed" => format!("Installed systemd service: {}", self.place.file.display()),
            "already-installed" => format!(
                "Already installed: {} (`{} --force` writes it anew)",
                self.place.file.display(),
                self.install_command()
            ),
            other => format!("Service {}: {other}.", self.place.name),
        };
        output::line(&line)?;
        for note in notes {
            output::line(note)?;
        }
        Ok(exit_code::OK)
    }

    fn environment_path(&self) -> PathBuf {
        match self.place.scope {
            Scope::System => SYSTEM_ENVIRONMENT.into(),
            Scope::User => environment_file(&self.invocation.paths),
        }
    }
}

impl Verb {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self {
            Self::Install(args) => args.run(invocation),
            Self::Uninstall(args) => uninstall(&Here::of(args.scope, invocation), args.json),
            Self::Start(args) => steer(&Here::of(args.scope, invocation), "start", "started", args.json),
            Self::Stop(args) => steer(&Here::of(args.scope, invocation), "stop", "stopped", args.json),
            Self::Restart(args) => {
                steer(&Here::of(args.scope, invocation), "restart", "restarted", args.json)
            }
            Self::Status(args) => status(&Here::of(args.scope, invocation), args.json),
            Self::Logs(args) => logs(&Here::of(args.scope, invocation), &args),
            Self::Print(scope) => {
                let scope = if scope.system { Scope::System } else { Scope::User };
                let text = unit::packaged(scope).text().map_err(|error| Failure::new(error.to_string()))?;
                output::line(text.trim_end()).map(|()| exit_code::OK)
            }
        }
    }
}

impl InstallArgs {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let here = Here::of(self.scope, invocation);
        let port = self.port.as_deref().map(|text| text.trim().parse::<u16>());
        let port = port.transpose().map_err(|_| Failure::new("Invalid port"))?.filter(|port| *port > 0);
        let unit = here.place.unit(&invocation.env, &invocation.paths, port);
        let unit = unit.map_err(|error| Failure::new(format!("this program cannot be found: {error}")))?;
        let text = unit.text().map_err(|error| Failure::new(error.to_string()))?;
        here.manager().check()?;
        let mut notes = ready_to_install(&here)?;
        let before = std::fs::read_to_string(&here.place.file).ok();
        if before.is_some() && !self.force {
            if before.as_deref() != Some(text.as_str()) {
                notes.push("The unit differs from what this version writes.".to_owned());
            }
            here.manager().run(&["enable", "--now", &here.place.name])?;
            notes.extend(self.lingering(&here)?);
            return here.told("install", "already-installed", self.json, &notes);
        }
        self.keep_secrets(&here)?;
        write_unit(&here, before.as_deref(), &text)?;
        here.manager().run(&["daemon-reload"])?;
        here.manager().run(&["enable", &here.place.name])?;
        here.manager().run(&["restart", &here.place.name]).map_err(|error| not_started(&here, &error))?;
        notes.extend(self.lingering(&here)?);
        here.told("install", "installed", self.json, &notes)
    }

    /// Tokens go into the file of the environment, when the service would not find them by itself.
    fn keep_secrets(&self, here: &Here<'_>) -> Result<(), Failure> {
        let mut kept = BTreeMap::new();
        if here.place.scope == Scope::User {
            let file = super::config::read_file(here.invocation)?;
            let configured = ConfigSnapshot::new(file.into(), ConfigSource::File)
                .is_ok_and(|snapshot| snapshot.gateway.auth.token.is_some());
            for name in variables::TAKEN_OVER {
                let value = here.invocation.env.get(name);
                let needless = configured && name == "OPENCLAW_GATEWAY_TOKEN";
                if let Some(value) = value.filter(|_| !needless) {
                    kept.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        if let Some(token) = &self.token {
            kept.insert("OPENCLAW_GATEWAY_TOKEN".to_owned(), token.clone());
        }
        let path = here.environment_path();
        variables::add(&path, &kept).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
    }

    /// What is left to do so that the service goes on after the last log-out.
    fn lingering(&self, here: &Here<'_>) -> Result<Vec<String>, Failure> {
        if here.place.scope == Scope::System || systemctl::lingers(&here.invocation.env) != Some(false) {
            return Ok(Vec::new());
        }
        let (_, user) = account::own();
        if self.linger {
            let asked = std::process::Command::new("loginctl").args(["enable-linger", &user]).status();
            if asked.is_ok_and(|status| status.success()) {
                return Ok(vec![format!("Enabled lingering for {user}: the service runs without a login.")]);
            }
            return Err(Failure::new(format!(
                "Installed, but lingering could not be enabled. Run: sudo loginctl enable-linger {user}"
            )));
        }
        Ok(vec![format!(
            "The service ends when {user} logs out. To let it run without a login: sudo loginctl enable-linger {user}"
        )])
    }
}

/// What would make the first start fail, or is worth knowing.
fn ready_to_install(here: &Here<'_>) -> Result<Vec<String>, Failure> {
    let invocation = here.invocation;
    if here.place.scope == Scope::System {
        if !account::exists(SYSTEM_ACCOUNT) {
            return Err(Failure::new(format!(
                "There is no account {SYSTEM_ACCOUNT}. Make it with:\n  useradd --system --home-dir {SYSTEM_STATE} --shell /usr/sbin/nologin {SYSTEM_ACCOUNT}"
            )));
        }
        if !Path::new(SYSTEM_STATE).join("openclaw.json").exists() {
            return Err(Failure::new(format!(
                "Missing config {SYSTEM_STATE}/openclaw.json. Make it with:\n  install -d -m 700 -o {SYSTEM_ACCOUNT} -g {SYSTEM_ACCOUNT} {SYSTEM_STATE}\n  setpriv --reuid {SYSTEM_ACCOUNT} --regid {SYSTEM_ACCOUNT} --clear-groups env HOME={SYSTEM_STATE} OPENCLAW_STATE_DIR={SYSTEM_STATE} openclaw up --no-run"
            )));
        }
        let program = std::env::current_exe().unwrap_or_default();
        let private = program.starts_with("/root") || program.starts_with("/home");
        let note = format!(
            "{} lies in a home: the account {SYSTEM_ACCOUNT} may not be able to run it.",
            program.display()
        );
        return Ok(if private { vec![note] } else { Vec::new() });
    }
    if !invocation.paths.config_file.exists() {
        return Err(Failure::new(format!(
            "Missing config {}. Run `openclaw up --no-run` first.",
            invocation.paths.config_file.display()
        )));
    }
    match Client::connect(&invocation.paths) {
        Ok(client) if unit_of(client.pid).is_none() => Err(Failure::new(format!(
            "A gateway runs in the foreground (pid {}): the service could not start beside it. Stop it first: openclaw stop",
            client.pid
        ))),
        _ => Ok(Vec::new()),
    }
}

fn write_unit(here: &Here<'_>, before: Option<&str>, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", here.place.file.display()));
    if let Some(folder) = here.place.file.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    if let Some(before) = before {
        let mut kept = here.place.file.clone().into_os_string();
        kept.push(".bak");
        std::fs::write(kept, before).map_err(failed)?;
    }
    std::fs::write(&here.place.file, text).map_err(failed)
}

fn not_started(here: &Here<'_>, error: &SystemctlError) -> Failure {
    let system = if here.place.scope == Scope::System { " --system" } else { "" };
    Failure::new(format!(
        "The unit is installed, but it did not start: {error}\nSee: openclaw service logs{system}"
    ))
}

fn uninstall(here: &Here<'_>, json: bool) -> Result<u8, Failure> {
    here.manager().check()?;
    if !here.place.file.exists() {
        return here.told("uninstall", "not-loaded", json, &[]);
    }
    here.manager().run(&["disable", "--now", &here.place.name])?;
    std::fs::remove_file(&here.place.file)
        .map_err(|error| Failure::new(format!("{}: {error}", here.place.file.display())))?;
    here.manager().run(&["daemon-reload"])?;
    let kept = format!("Config and state stay in {}.", here.invocation.paths.state_dir.display());
    here.told("uninstall", "uninstalled", json, &[kept])
}

fn steer(here: &Here<'_>, verb: &str, result: &str, json: bool) -> Result<u8, Failure> {
    here.require_installed()?;
    here.manager()
        .run(&[verb, &here.place.name])
        .map_err(|error| if verb == "stop" { error.into() } else { not_started(here, &error) })?;
    here.told(verb, result, json, &[])
}

/// Stops the service that this process is the main process of. `Ok(false)`: it is in no unit of ours.
///
/// # Errors
/// systemd refused.
pub fn stop_unit_of(pid: u32) -> Result<bool, Failure> {
    let Some((scope, name)) = unit_of(pid) else { return Ok(false) };
    Systemctl(scope).run(&["stop", &name])?;
    Ok(true)
}

fn status(here: &Here<'_>, json: bool) -> Result<u8, Failure> {
    let shown = here.manager().show(&here.place.name)?;
    let drift = drift(here);
    let lingers =
        (here.place.scope == Scope::User).then(|| systemctl::lingers(&here.invocation.env)).flatten();
    if json {
        output::json(&json!({
            "service": {
                "label": "systemd", "unit": here.place.name, "path": here.place.file,
                "loaded": shown.get("LoadState").is_some_and(|state| state == "loaded"),
                "enabled": shown.get("UnitFileState"), "state": shown.get("ActiveState"),
                "subState": shown.get("SubState"),
                "pid": shown.get("MainPID").and_then(|pid| pid.parse::<u32>().ok()).filter(|pid| *pid > 0),
                "lastExitStatus": shown.get("ExecMainStatus"), "restarts": shown.get("NRestarts"),
                "statusText": shown.get("StatusText"),
            },
            "linger": lingers,
            "issues": drift,
        }))?;
        return Ok(exit_code::OK);
    }
    for line in status_lines(here, &shown, lingers, drift.as_deref()) {
        output::line(&line)?;
    }
    Ok(exit_code::OK)
}

fn status_lines(here: &Here<'_>, shown: &Shown, lingers: Option<bool>, drift: Option<&str>) -> Vec<String> {
    let text = |name: &str| shown.get(name).map_or("unknown", String::as_str);
    if text("LoadState") != "loaded" {
        return vec![
            format!("Service: systemd ({} is not installed)", here.place.name),
            format!("Run: {}", here.install_command()),
        ];
    }
    let mut lines = vec![format!("Service: systemd ({}, {})", here.place.name, text("UnitFileState"))];
    lines.push(match shown.get("MainPID").filter(|pid| *pid != "0") {
        Some(pid) => format!("Runtime: {} ({}, pid {pid})", text("ActiveState"), text("SubState")),
        None => format!("Runtime: {} ({})", text("ActiveState"), text("SubState")),
    });
    lines.extend(shown.get("StatusText").map(|status| format!("Status: {status}")));
    let failed = shown.get("Result").filter(|result| *result != "success");
    lines.extend(failed.map(|result| format!("Last end: {result} (exit status {})", text("ExecMainStatus"))));
    lines.extend(shown.get("NRestarts").filter(|count| *count != "0").map(|n| format!("Restarts: {n}")));
    lines.push(format!("Unit: {}", shown.get("FragmentPath").map_or("unknown", String::as_str)));
    if lingers == Some(false) {
        let (_, user) = account::own();
        lines.push(format!("Linger: off; it ends at log-out. Run: sudo loginctl enable-linger {user}"));
    }
    lines.extend(drift.map(str::to_owned));
    lines
}

/// Says when the installed unit is not what this version would write.
fn drift(here: &Here<'_>) -> Option<String> {
    let differs = here.place.differs(&here.invocation.env, &here.invocation.paths);
    let command = here.install_command();
    differs
        .then(|| format!("The unit differs from what this version writes; renew it with: {command} --force"))
}

fn logs(here: &Here<'_>, args: &LogsArgs) -> Result<u8, Failure> {
    let lines = args.lines.to_string();
    let mut words = vec!["--no-pager", "--output", "short-iso", "--lines", &lines];
    if args.follow {
        words.push("--follow");
    }
    let code = here.manager().journal(&here.place.name, &words)?;
    Ok(if code == 0 { exit_code::OK } else { exit_code::FAILURE })
}
