//! `openclaw gateway`: runs the gateway in the foreground, or calls a method of a running one.

use super::invocation::{Failure, Invocation};
use super::{health, output, status};
use crate::config::Secret;
use crate::config::startup::Overrides;
use crate::exit_code;
use crate::gateway::start::Options;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags of a start. Accepted before and after `run`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunArgs {
    /// Port to listen on
    #[arg(long, global = true, value_name = "n", allow_hyphen_values = true)]
    port: Option<String>,
    /// Where to listen: loopback, lan, tailnet, auto or custom
    #[arg(long, global = true, value_name = "mode")]
    bind: Option<String>,
    /// How clients prove themselves: none, token, password or trusted-proxy
    #[arg(long, global = true, value_name = "mode")]
    auth: Option<String>,
    /// Shared token (visible to other users in the process list: prefer the config or OPENCLAW_GATEWAY_TOKEN)
    #[arg(long, global = true, value_name = "s")]
    token: Option<String>,
    /// Shared password (prefer --password-file)
    #[arg(long, global = true, value_name = "s")]
    password: Option<String>,
    /// File that holds the shared password
    #[arg(long, global = true, value_name = "path")]
    password_file: Option<std::path::PathBuf>,
    /// Start although the config does not say gateway.mode=local
    #[arg(long, global = true)]
    allow_unconfigured: bool,
    /// Run as a service: last good config when the file is invalid, exit codes 75 and 78
    #[arg(long, global = true)]
    service: bool,
    /// Start with the last good config although the file is invalid
    #[arg(long, global = true)]
    use_last_good: bool,
    /// Accept a state directory on a file system that cannot lock or sync reliably
    #[arg(long, global = true)]
    unsafe_fs: bool,
    /// Log level debug
    #[arg(long, global = true)]
    verbose: bool,
    /// Style of the WebSocket log: auto, full or compact
    #[arg(long, global = true, value_name = "style")]
    ws_log: Option<String>,
    /// Same as --ws-log compact
    #[arg(long, global = true)]
    compact: bool,
    /// Only `off` is built
    #[arg(long, global = true, value_name = "mode")]
    tailscale: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the gateway in the foreground
    Run,
    /// Call a method of the running gateway
    Call(CallArgs),
    /// Show the gateway's state
    Status(status::Args),
    /// Ask the gateway for its health
    Health(health::Args),
    /// Write the unit of a service, start it now and at every boot
    Install(super::service::InstallArgs),
    /// Stop the service and remove its unit
    Uninstall(super::service::VerbArgs),
    /// Start the service
    Start(super::service::VerbArgs),
    /// Stop the running gateway
    Stop(super::stop::StopArgs),
    /// Restart the running gateway in place
    Restart(super::stop::RestartArgs),
    /// Token use and cost per day
    UsageCost {
        /// Days to show
        #[arg(long, default_value_t = 30)]
        days: u32,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// `gateway <method>` is short for `gateway call <method>`
    #[command(external_subcommand)]
    Method(Vec<String>),
}

#[derive(Debug, clap::Args)]
pub struct CallArgs {
    /// Method name, for example config.get
    method: String,
    /// Parameters as a JSON object
    #[arg(long, value_name = "json")]
    params: Option<String>,
    /// File with the new text, for config.apply and config.patch (default: standard input)
    #[arg(long, value_name = "path")]
    file: Option<std::path::PathBuf>,
    /// Print only the JSON result
    #[arg(long)]
    json: bool,
    /// Wait for the last answer of a method that answers twice
    #[arg(long)]
    expect_final: bool,
    /// Give up after this many milliseconds
    #[arg(long, default_value_t = 10_000, value_name = "ms")]
    timeout: u64,
}

/// What `gateway <method> …` accepts.
#[derive(Debug, clap::Parser)]
#[command(name = "openclaw gateway")]
struct MethodCall {
    #[command(flatten)]
    call: CallArgs,
}

impl Args {
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        match self.command {
            None | Some(Command::Run) => self.run.start(invocation, None),
            Some(Command::Call(args)) => args.run(invocation),
            Some(Command::Status(args)) => args.run(invocation),
            Some(Command::Health(args)) => args.run(invocation),
            Some(Command::Install(args)) => args.run(invocation),
            Some(Command::Uninstall(args)) => super::service::Verb::Uninstall(args).run(invocation),
            Some(Command::Start(args)) => super::service::Verb::Start(args).run(invocation),
            Some(Command::Stop(args)) => args.run(invocation),
            Some(Command::Restart(args)) => args.run(invocation),
            Some(Command::UsageCost { days, json }) => usage_cost(invocation, days, json),
            Some(Command::Method(words)) => {
                let parsed = <MethodCall as clap::Parser>::try_parse_from(
                    std::iter::once("openclaw gateway".to_owned()).chain(words),
                );
                parsed.map_err(|error| Failure::usage(&error))?.call.run(invocation)
            }
        }
    }
}

impl RunArgs {
    /// Port as it was typed.
    pub(super) fn port(&self) -> Option<&str> {
        self.port.as_deref()
    }

    /// Whether an invalid file is passed over.
    pub fn uses_last_good(&self) -> bool {
        self.use_last_good
    }

    /// Checks the flags and runs the gateway until it is told to stop.
    pub fn start(
        self,
        invocation: &Invocation,
        welcome: Option<fn(&crate::config::startup::StartPlan)>,
    ) -> Result<u8, Failure> {
        one_of(
            self.ws_log.as_deref(),
            &["auto", "full", "compact"],
            "Invalid --ws-log (use \"auto\", \"full\", \"compact\")",
        )?;
        one_of(
            self.tailscale.as_deref(),
            &["off", "serve", "funnel"],
            "Invalid --tailscale (use \"off\", \"serve\", or \"funnel\")",
        )?;
        if self.tailscale.as_deref().is_some_and(|mode| mode != "off") {
            return Err(Failure::new(
                "--tailscale serve and funnel are not built; run `tailscale serve` beside the gateway",
            ));
        }
        let password = match (&self.password, &self.password_file) {
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::new(format!("--password-file {}: {error}", path.display())))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (password, _) => password.clone(),
        };
        let log_level = invocation.log_level.clone().or_else(|| self.verbose.then(|| "debug".to_owned()));
        let options = Options {
            overrides: Overrides {
                port: self.port,
                bind: self.bind,
                auth: self.auth,
                token: self.token.as_deref().and_then(Secret::new),
                password: password.as_deref().and_then(Secret::new),
                tailscale: self.tailscale,
                allow_unconfigured: self.allow_unconfigured,
            },
            service: self.service,
            use_last_good: self.use_last_good,
            unsafe_fs: self.unsafe_fs,
            log_level,
            welcome,
        };
        crate::gateway::start::run(options, invocation.env.clone(), invocation.paths.clone())
            .map_err(|refusal| Failure::with_code(refusal.message, refusal.exit_code))
    }
}

fn one_of(value: Option<&str>, allowed: &[&str], message: &str) -> Result<(), Failure> {
    match value {
        Some(value) if !allowed.contains(&value) => Err(Failure::new(message)),
        _ => Ok(()),
    }
}

/// The gateway's own words do not say how the hash is given.
fn base_hash_hint(method: &str, params: &Value) -> &'static str {
    let needed = matches!(method, "config.apply" | "config.patch" | "config.set");
    if !needed || params["baseHash"].as_str().is_some_and(|hash| !hash.trim().is_empty()) {
        return "";
    }
    "\nHint: pass `baseHash`, the `hash` that `openclaw gateway call config.get` shows; or leave --params out and give the new text with --file or on standard input: then it is fetched."
}

impl CallArgs {
    fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let mut client = invocation.client()?;
        let timeout = Duration::from_millis(self.timeout);
        let params = self.params(&mut client, timeout)?;
        let mut first = None;
        let called = client.call_following(&self.method, &params, timeout, |value| {
            first.get_or_insert_with(|| value.clone());
        });
        let result = match called {
            Ok(last) => first.filter(|_| !self.expect_final).unwrap_or(last),
            Err(error) => {
                let hint = base_hash_hint(&self.method, &params);
                return Err(Failure::new(format!("Gateway call failed: {error}{hint}")));
            }
        };
        if !self.json {
            output::line(&format!("Gateway call: {}", self.method))?;
        }
        output::json(&result)?;
        Ok(exit_code::OK)
    }

    /// `--params`; without it `config.apply` and `config.patch` take the text of a file (or standard input) and fetch the
    /// hash of the config that they replace.
    fn params(&self, client: &mut super::client::Client, timeout: Duration) -> Result<Value, Failure> {
        if let Some(text) = &self.params {
            return serde_json::from_str(text)
                .map_err(|error| Failure::new(format!("--params is not JSON: {error}")));
        }
        if !matches!(self.method.as_str(), "config.apply" | "config.patch" | "config.set") {
            return Ok(json!({}));
        }
        let raw = match &self.file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| Failure::new(format!("--file {}: {error}", path.display())))?,
            None => std::io::read_to_string(std::io::stdin())
                .map_err(|error| Failure::new(format!("standard input: {error}")))?,
        };
        let current = client.call("config.get", &json!({}), timeout)?;
        Ok(json!({"raw": raw, "baseHash": current["hash"]}))
    }
}

fn usage_cost(invocation: &Invocation, days: u32, as_json: bool) -> Result<u8, Failure> {
    let asked = Instant::now();
    let usage = invocation.client()?.call("usage.cost", &json!({"days": days}), Duration::from_secs(10))?;
    if as_json {
        output::json(&usage)?;
        return Ok(exit_code::OK);
    }
    let rows = usage["daily"].as_array().into_iter().flatten().map(|day| {
        let cost = day["totalCost"].as_f64().unwrap_or_default();
        vec![
            output::text(day, "/date").to_owned(),
            output::number(day, "/totalTokens").to_string(),
            format!("${cost:.4}"),
        ]
    });
    output::line(&output::table(&["Day", "Tokens", "Cost"], rows.collect()))?;
    tracing::debug!(took = ?asked.elapsed(), "usage read");
    Ok(exit_code::OK)
}
