//! `openclaw update`: a running gateway brings the new release in itself and goes on with it; of a stopped one, the next
//! start takes it.

use super::client::{Client, ClientError};
use super::invocation::{Failure, Invocation};
use super::{output, stop};
use crate::exit_code;
use crate::update::place::Place;
use crate::update::{COMMAND_WITHIN, Origin, Status, Wish, run};
use crate::upgrade::{image, preflight};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The gateway copies, checks and asks a release within this, besides what a command takes.
const INSTALL_WITHIN: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory or tar archive (plain or gzipped) with openclaw, openclaw-agent, openclaw-channel and SHA256SUMS
    #[arg(long, value_name = "path")]
    from: Option<PathBuf>,
    /// Take a release that has no SHA256SUMS
    #[arg(long)]
    no_checksum: bool,
    /// Install only: the next restart takes it
    #[arg(long)]
    no_restart: bool,
    /// Check the release and install nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Seconds that update.command may take
    #[arg(long, value_name = "seconds", default_value_t = COMMAND_WITHIN.as_secs())]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let from = self.from.as_deref().map(std::path::absolute).transpose();
        let from = from.map_err(|error| Failure::new(format!("--from: {error}")))?;
        if !self.yes && !self.dry_run && !agreed(from.as_deref())? {
            return Err(Failure::new("Nothing was changed."));
        }
        match Client::connect(&invocation.paths) {
            Ok(client) => self.by_gateway(invocation, client, from),
            Err(ClientError::NotRunning) => self.by_hand(invocation, from),
            Err(error) => Err(invocation.unreachable(&error)),
        }
    }

    fn by_gateway(
        &self,
        invocation: &Invocation,
        mut client: Client,
        from: Option<PathBuf>,
    ) -> Result<u8, Failure> {
        if let Some(why) = stop::bad_config(&mut client) {
            return Err(Failure::with_code(format!("{why}\nMend the file first."), exit_code::CONFIG));
        }
        let before = client.call("system.info", &json!({}), Duration::from_secs(5))?;
        let mut params = json!({"checksum": !self.no_checksum, "restart": !self.no_restart, "dryRun": self.dry_run,
            "timeoutMs": self.timeout.saturating_mul(1000), "restartDelayMs": 0});
        if let Some(from) = from {
            params["from"] = json!(from);
        }
        let answer = client.call("update.run", &params, COMMAND_WITHIN + INSTALL_WITHIN)?;
        let outcome = if answer["restart"].is_object() {
            let wait = Duration::from_millis(answer["restart"]["delayMs"].as_u64().unwrap_or_default());
            Some(stop::until_restarted(invocation, &before, wait)?)
        } else {
            None
        };
        self.tell(&answer, outcome.map(|client| client.pid))
    }

    fn by_hand(&self, invocation: &Invocation, from: Option<PathBuf>) -> Result<u8, Failure> {
        let Some(from) = from else {
            return Err(Failure::new(
                "the gateway, which runs update.command, is not running: start it, or name a release with --from",
            ));
        };
        let place = Place::of(&image::path());
        let origin = Origin::Path(from);
        let wish =
            Wish { origin, checksum: !self.no_checksum, dry_run: self.dry_run, within: COMMAND_WITHIN };
        let paths = &invocation.paths;
        let outcome = run(&place, &wish, &|program| preflight::ask_for(program, paths));
        if let Some(dir) = &outcome.installed {
            place.point_at(dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
        }
        self.tell(&json!({"ok": outcome.status != Status::Error, "result": outcome, "restart": null}), None)
    }

    /// `pid`: of the gateway that goes on with the new release.
    fn tell(&self, answer: &Value, pid: Option<u32>) -> Result<u8, Failure> {
        let ok = answer["ok"] == true;
        if self.json {
            output::json(answer)?;
            return Ok(if ok { exit_code::OK } else { exit_code::FAILURE });
        }
        let result = &answer["result"];
        let name = |side: &str| match output::text(result, &format!("{side}/release")) {
            "" => output::text(result, &format!("{side}/version")).to_owned(),
            release => release.to_owned(),
        };
        let (from, to) = (name("/before"), name("/after"));
        let reason = output::text(result, "/reason");
        let text = match (output::text(result, "/status"), pid) {
            ("ok", Some(pid)) => format!("Gateway updated in place (pid {pid}, build {from} → {to})."),
            ("ok", None) => {
                format!("Installed build {to}; the next start or `openclaw restart` takes it.")
            }
            ("skipped", _) if reason == "up-to-date" => format!("Build {to} is in use already."),
            ("skipped", _) if reason == "dry-run" => {
                format!("Build {to} can be installed. Nothing was changed.")
            }
            ("skipped", _) => {
                "No update: set update.command, or name a release with --from <path>.".to_owned()
            }
            _ => {
                let steps = result["steps"].as_array();
                let why =
                    steps.and_then(|steps| steps.last()).map_or("", |step| output::text(step, "/stderrTail"));
                return Err(Failure::new(format!("not updated ({reason}): {why}")));
            }
        };
        output::line(&text)?;
        Ok(exit_code::OK)
    }
}

/// Asks whoever sits at the terminal; a script that has none means what it says.
fn agreed(from: Option<&Path>) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let what = from.map_or_else(|| "what update.command gives".to_owned(), |from| from.display().to_string());
    write!(std::io::stderr(), "Update the gateway to {what}? [y/N] ").map_err(Failure::output)?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
