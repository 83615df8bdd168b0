//! `openclaw up`: sets up what is missing, then runs the gateway in the foreground. Says line by line what it wrote and
//! writes nothing over.

mod probe;
mod setup;

use super::client::{Client, ClientError};
use super::gateway::RunArgs;
use super::invocation::{Failure, Invocation};
use super::output::{self, number, text};
use crate::config::model_choice::{self, DEMO_MODEL, ModelDecision};
use crate::config::startup::StartPlan;
use crate::config::{AuthMode, ConfigSnapshot, Environment};
use crate::exit_code;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// The gateway answers this from memory.
const INFO_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Model to start with when the config names none, instead of choosing one
    #[arg(long, value_name = "provider/model")]
    model: Option<String>,
    /// Only set up what is missing; do not start the gateway
    #[arg(long)]
    no_run: bool,
}

impl Args {
    /// `setup`
    pub fn without_running(self) -> Self {
        Self { no_run: true, ..self }
    }

    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        if let Some(model) = self.model.as_deref().filter(|model| !is_reference(model)) {
            return Err(Failure::new(format!(
                "--model {model}: expected <provider>/<model>, for example openrouter/auto or {DEMO_MODEL}"
            )));
        }
        if crate::upgrade::image::is_pending() {
            // Replaced in place: the gateway that runs is this process.
            return self.run.start(invocation, None);
        }
        match Client::connect(&invocation.paths) {
            Ok(client) => return already_running(client, invocation, self.run.port()),
            Err(ClientError::NotRunning) => {}
            Err(error) => return Err(error.into()),
        }
        match setup::complete(invocation, self.model.as_deref()) {
            Ok(done) => output::line(&summary(&done, invocation))?,
            // An invalid file is not completed; the start below runs the last good one, or says what is wrong.
            Err(_) if self.run.uses_last_good() => {}
            Err(failure) => return Err(failure),
        }
        if self.no_run {
            let start = format!("\nStart it with `{} up` or `{0} gateway`.", command());
            return output::line(&start).map(|()| exit_code::OK);
        }
        self.run.start(invocation, Some(welcome))
    }
}

/// `provider/model`, both with something in them.
fn is_reference(text: &str) -> bool {
    text.split_once('/').is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
        && !text.contains(char::is_whitespace)
}

/// The program as it was typed, with the flags that select its profile.
fn command() -> String {
    command_of(std::env::args())
}

fn command_of(mut words: impl Iterator<Item = String>) -> String {
    let mut kept = words.next().unwrap_or_else(|| "openclaw".to_owned());
    while let Some(word) = words.next().filter(|word| word != "up") {
        if word == "--dev" || word.starts_with("--profile=") {
            kept = format!("{kept} {word}");
        } else if word == "--profile" {
            kept = format!("{kept} {word} {}", words.next().unwrap_or_default());
        }
    }
    kept
}

/// `port`: as it was asked for. It is for a start, and there is none.
fn already_running(mut client: Client, invocation: &Invocation, port: Option<&str>) -> Result<u8, Failure> {
    let info = client.call("system.info", &json!({}), INFO_TIMEOUT)?;
    let of_env = |env: &Environment| env.get("OPENCLAW_GATEWAY_TOKEN").map(str::to_owned);
    let token = match super::config::in_force(invocation) {
        Ok(snapshot) => token_of(&snapshot).or_else(|| of_env(snapshot.env())),
        Err(_) => of_env(&invocation.env),
    };
    output::line(&running_text(&info, token.as_deref(), &command()))?;
    match port.and_then(|port| other_port(&info, port, &command())) {
        Some(refusal) => Err(Failure::new(refusal)),
        None => Ok(exit_code::OK),
    }
}

/// Why the port that was asked for is not the gateway's; `None` when it is.
fn other_port(info: &Value, asked: &str, command: &str) -> Option<String> {
    let now = number(info, "/port").to_string();
    (now != asked).then(|| {
        format!(
            "--port {asked} was not taken: the gateway listens on port {now}. Move it with `{command} config set gateway.port {asked}`, or end it first with `{command} stop`."
        )
    })
}

pub(super) fn token_of(snapshot: &ConfigSnapshot) -> Option<String> {
    snapshot.gateway.auth.token.as_ref().map(|token| token.expose().to_owned())
}

fn running_text(info: &Value, token: Option<&str>, command: &str) -> String {
    let base = text(info, "/dashboard");
    let page = match (text(info, "/authMode"), token) {
        ("token", Some(token)) => with_token(base, token),
        _ => base.to_owned(),
    };
    format!(
        "OpenClaw {} is already running (pid {}); nothing was changed.\n  Page     {page}\n  Config   {}\n`{command} status` shows how it is, `{command} stop` ends it.",
        text(info, "/version"),
        number(info, "/pid"),
        text(info, "/config/path"),
    )
}

fn summary(done: &setup::Setup, invocation: &Invocation) -> String {
    let mut out = format!("OpenClaw {}\n\n", env!("CARGO_PKG_VERSION"));
    if done.lines.is_empty() {
        out.push_str("Nothing to set up: config and workspace are complete.\n");
    } else {
        out.push_str("Set up:\n");
        for line in &done.lines {
            let _infallible = writeln!(out, "  + {line}");
        }
    }
    let _infallible = write!(
        out,
        "\n  Model    {}\n  Config   {}",
        done.decision.reason(),
        invocation.paths.config_file.display()
    );
    if done.decision.reference == DEMO_MODEL {
        let env_file = invocation.paths.state_dir.join(".env").display().to_string();
        out.push_str(&demo_note(&done.decision, &done.env, &env_file, &command()));
    }
    out
}

/// How to get from the built-in demo to a language model.
fn demo_note(decision: &ModelDecision, env: &Environment, env_file: &str, command: &str) -> String {
    let set = |model: &str| format!("{command} config set agents.defaults.model.primary {model}");
    let how = match model_choice::by_key(env) {
        Some(better) if *decision != better => {
            format!(
                "a key for {} is in the environment; use it with\n    {}",
                better.reference,
                set(&better.reference)
            )
        }
        _ => format!(
            "put a key into {env_file}, for example\n    OPENROUTER_API_KEY=sk-or-…\n  and run\n    {}",
            set("openrouter/auto")
        ),
    };
    format!(
        "\n\nThe demo is no language model: it answers in fixed ways, and `run: <command>` runs a command. For a real one,\n  {how}"
    )
}

/// Printed once the gateway is ready. The owner's terminal may see the token; the log file never does.
fn welcome(plan: &StartPlan) {
    // A terminal that has gone away is no reason to stop the gateway.
    let _gone = output::line(&welcome_text(plan, &command()));
}

fn welcome_text(plan: &StartPlan, command: &str) -> String {
    let host = match plan.bind.host() {
        host if host.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(host) => format!("[{host}]"),
        host => host.to_string(),
    };
    let base = format!("http://{host}:{}/", plan.port);
    let page = match (plan.auth.mode, &plan.auth.token) {
        (AuthMode::Token, Some(token)) => with_token(&base, token.expose()),
        _ => base,
    };
    let note = match plan.auth.mode {
        AuthMode::Password => " (asks for the password)",
        AuthMode::TrustedProxy => " (through the proxy that proves who you are)",
        AuthMode::None | AuthMode::Token => "",
    };
    format!(
        "\nOpenClaw is ready.\n\n  Page     {page}{note}\n\nTry, in another terminal:\n  {command} agent --message \"run: uname -a\"\n  {command} status\nor open the page and write a message. Ctrl+C stops the gateway.\n"
    )
}

/// In the fragment, which browsers do not send anywhere.
pub(super) fn with_token(base: &str, token: &str) -> String {
    let mut page = format!("{base}#token=");
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            page.push(char::from(byte));
        } else {
            let _infallible = write!(page, "%{byte:02X}");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model_choice::ModelSource;
    use crate::config::startup::{self, BindFacts, Overrides};
    use crate::config::{ConfigSource, judge};
    use crate::paths::{Paths, ProfileFlags};
    use std::path::Path;

    fn welcome(config: &str, bind: &str) -> String {
        let env: Environment = [("HOME", "/u")].into_iter().collect();
        let paths = Paths::resolve(&env, &ProfileFlags::default(), Path::new("/"), |_| false).expect("paths");
        let file = judge(&paths.config_file, config, &env);
        let snapshot = ConfigSnapshot::new(file.into(), ConfigSource::File).expect("valid");
        let overrides = Overrides { bind: Some(bind.to_owned()), ..Overrides::default() };
        let plan = startup::plan(&snapshot, &overrides, &paths, &BindFacts::default()).expect("a plan");
        welcome_text(&plan, "./openclaw --profile x")
    }

    #[test]
    fn the_address_is_one_that_a_browser_here_can_open() {
        let text = welcome("{gateway:{mode:'local',port:7,auth:{token:'a b/1'}}}", "lan");
        assert!(text.contains("  http://127.0.0.1:7/#token=a%20b%2F1\n"), "{text}");
        assert!(text.contains("  ./openclaw --profile x agent --message \"run: uname -a\"\n"), "{text}");
        let text = welcome("{gateway:{mode:'local',auth:{mode:'password',password:'p'}}}", "loopback");
        assert!(text.contains("  http://127.0.0.1:18789/ (asks for the password)\n"), "{text}");
    }

    #[test]
    fn a_port_that_the_running_gateway_has_not_is_not_passed_over() {
        let info = json!({"port": 7});
        assert_eq!(other_port(&info, "7", "openclaw"), None);
        let told = other_port(&info, "9", "openclaw --dev").expect("told");
        assert!(
            told.contains("on port 7") && told.contains("`openclaw --dev config set gateway.port 9`"),
            "{told}"
        );
    }

    #[test]
    fn the_demo_says_how_to_get_a_model() {
        let demo = ModelDecision { reference: DEMO_MODEL.to_owned(), source: ModelSource::Config };
        let none = demo_note(&demo, &Environment::default(), "/s/.env", "openclaw");
        assert!(none.contains("/s/.env") && none.contains("model.primary openrouter/auto"), "{none}");
        let env = [("XAI_API_KEY", "k")].into_iter().collect();
        let key = demo_note(&demo, &env, "/s/.env", "openclaw");
        assert!(key.contains("model.primary xai/grok-4-1-fast") && !key.contains("/s/.env"), "{key}");
    }

    #[test]
    fn commands_to_try_reach_the_same_gateway() {
        let of = |line: &str| command_of(line.split(' ').map(str::to_owned));
        assert_eq!(of("./openclaw --log-level debug --profile x up --port 1"), "./openclaw --profile x");
        assert_eq!(of("openclaw --dev up"), "openclaw --dev");
        assert_eq!(of("openclaw up --model up/up"), "openclaw");
    }

    #[test]
    fn a_reference_has_a_provider_and_a_model() {
        assert!(is_reference("openrouter/x-ai/grok") && is_reference(DEMO_MODEL));
        assert!(["demo", "/x", "x/", "a/b c"].iter().all(|text| !is_reference(text)));
    }
}
