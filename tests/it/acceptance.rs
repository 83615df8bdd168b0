//! The start and its refusals, as operators know them: texts, exit codes, precedence, files that are made.

mod authority;
mod operator;
mod restart;

use harness::executables;
use harness::gateway::{TOKEN, TestGateway, free_port};
use harness::http;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A home with at most a configuration file, for starts that are refused and commands without a gateway.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn new(config: Option<&str>) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a temporary home") };
        fs::create_dir_all(place.state()).expect("the state directory");
        if let Some(text) = config {
            fs::write(place.config(), text).expect("the config");
        }
        place
    }
    pub fn home(&self) -> &Path {
        self.dir.path()
    }
    pub fn state(&self) -> PathBuf {
        self.dir.path().join(".openclaw")
    }
    pub fn config(&self) -> PathBuf {
        self.state().join("openclaw.json")
    }
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(executables::openclaw());
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home())
            .env("OPENCLAW_STATE_DIR", self.state())
            .env("NO_COLOR", "1")
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the command line can be started")
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn starts_are_refused_with_the_known_texts() {
    let local = "{gateway:{mode:'local',auth:{token:'secret-0123456789'}}}";
    let missing =
        "Missing config. Run `openclaw setup` or set gateway.mode=local (or pass --allow-unconfigured).";
    let blocked = |mode: &str| {
        format!(
            "Gateway start blocked: set gateway.mode=local (current: {mode}) or pass --allow-unconfigured."
        )
    };
    let exposed = "Refusing to bind gateway to lan without auth.";
    let rows: [(Option<&str>, &[&str], &str); 13] = [
        (None, &[], missing),
        (Some("{gateway:{mode:'remote'}}"), &[], &blocked("remote")),
        (Some("{}"), &[], &blocked("unset")),
        (Some("{gateway:{mode:'local',bind:'lan',auth:{mode:'none'}}}"), &[], exposed),
        (Some(local), &["--port", "abc"], "Invalid port"),
        (Some(local), &["--port", "0"], "Invalid port"),
        (Some(local), &["--port", "-5"], "Invalid port"),
        (Some(local), &["--port", "70000"], "Invalid port"),
        (Some(local), &["--bind", "0.0.0.0"], "Invalid --bind (use \"loopback\", \"lan\", \"tailnet\","),
        (Some(local), &["--auth", "magic"], "Invalid --auth (use \"none\", \"token\", \"password\","),
        (
            Some("{gateway:{mode:'local',auth:{mode:'password'}}}"),
            &[],
            "Gateway auth is set to password, but",
        ),
        (Some("{gateway:{mode:'local',prot:1}}"), &[], "Unrecognized key: \"prot\" (did you mean \"port\"?)"),
        (Some("{gateway:"), &[], "Run \"openclaw doctor\" to repair, then retry."),
    ];
    for (config, args, wanted) in rows {
        let place = Place::new(config);
        let output = place.run(&[&["gateway"], args].concat());
        let text = stderr(&output);
        assert!(text.contains(wanted), "{config:?} {args:?}: {text}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{config:?} {args:?}");
    }
    let service = Place::new(Some("{gateway:{mode:'remote'}}")).run(&["gateway", "--service"]);
    assert_eq!(service.status.code(), Some(78), "{}", stderr(&service));
}

/// Nothing that stands where the file should be makes the start hang, crash or run without a configuration.
#[test]
fn whatever_lies_in_the_files_place_is_refused_by_name() {
    type Put = fn(&Path);
    let junk: [(&str, Put); 5] = [
        ("not a regular file", |path| fs::create_dir(path).expect("a directory")),
        ("not a regular file", |path| {
            let made = Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
            assert!(made.success());
        }),
        ("larger than", |path| fs::File::create(path).and_then(|f| f.set_len(1 << 33)).expect("a hole")),
        ("not UTF-8", |path| fs::write(path, b"{gateway:{mode:\"\xff\"}}").expect("a file")),
        ("nesting deeper", |path| fs::write(path, format!("{{a:{}", "[".repeat(100_000))).expect("a file")),
    ];
    for (wanted, put) in junk {
        let place = Place::new(None);
        put(&place.config());
        let output = place.run(&["gateway"]);
        let text = stderr(&output);
        assert!(text.contains(wanted) && text.contains("Invalid config at "), "{wanted}: {text}");
        assert_eq!(output.status.code(), Some(1));
        assert!(place.run(&["status"]).status.success());
    }
}

#[tokio::test]
async fn without_a_token_one_is_made_kept_private_and_backed_up() {
    let config = json!({"gateway": {"auth": null}});
    let gateway = TestGateway::builder().config(config).start().await;
    let text = fs::read_to_string(gateway.config_path()).expect("the config");
    let saved: Value = serde_json::from_str(&text).expect("JSON");
    let token = saved["gateway"]["auth"]["token"].as_str().expect("a token");
    assert!(token.len() == 48 && token.chars().all(|c| c.is_ascii_hexdigit()), "{token}");
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(&gateway.config_path()), 0o600);
    let backup = gateway.state_dir().join("openclaw.json.bak");
    assert!(!fs::read_to_string(&backup).expect("a backup").contains(token));
    let wanted =
        "Gateway auth token was missing. Generated a new token and saved it to config (gateway.auth.token).";
    assert!(gateway.log().contains(wanted) && !gateway.log().contains(token), "{}", gateway.log());
    let models = http::get(gateway.port, "/v1/models", Some(token)).await.expect("an answer");
    assert_eq!(models.status, 200);
    assert_eq!(http::get(gateway.port, "/v1/models", Some("")).await.expect("an answer").status, 401);
}

#[tokio::test]
async fn the_port_comes_from_flag_environment_and_file_in_this_order() {
    let (by_env, by_file) = (free_port(), free_port());
    let config = json!({"gateway": {"port": by_file}});
    let flag =
        TestGateway::builder().config(config.clone()).env("OPENCLAW_GATEWAY_PORT", &by_env.to_string());
    let flag = flag.start().await;
    assert_eq!(http::get(flag.port, "/readyz", None).await.expect("an answer").status, 200);
    drop(flag);
    for (var, wanted) in [(by_env.to_string(), by_env), ("0".to_owned(), by_file), ("x".to_owned(), by_file)]
    {
        let mut text = json!({"gateway": {"mode": "local", "auth": {"token": TOKEN}}});
        harness::gateway::merge(&mut text, &config);
        let place = Place::new(Some(&text.to_string()));
        let mut command = place.command(&["gateway"]);
        // Named, so that the lock of the host's default gateway is not asked for.
        command
            .env("OPENCLAW_GATEWAY_PORT", &var)
            .env_remove("OPENCLAW_STATE_DIR")
            .env("OPENCLAW_PROFILE", "p");
        fs::rename(place.state(), place.home().join(".openclaw-p")).expect("renamed");
        let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("starts");
        harness::wait::until(&format!("port {wanted} ({var})"), async || {
            http::get(wanted, "/readyz", None).await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        child.kill().expect("our own child");
        child.wait().expect("it ends");
    }
}

#[tokio::test]
async fn a_lock_of_the_dead_is_no_obstacle_whatever_it_says() {
    let mut gateway = TestGateway::start().await;
    gateway.kill9();
    // The note names a living process: pid 1 is not the owner, and the kernel knows.
    fs::write(gateway.state_dir().join("gateway.lock"), "{\"pid\":1,\"port\":1}\n").expect("the note");
    let asked = std::time::Instant::now();
    gateway.restart().await;
    assert!(asked.elapsed().as_secs() < 5, "{:?}", asked.elapsed());
}

#[test]
fn what_the_documentation_shows_is_valid() {
    let text = json!({
        "gateway": {"mode": "local", "auth": {"token": TOKEN}},
        "agents": {"defaults": {"bootstrapMaxChars": 40000, "retry": {"maxRetries": 3, "backoff": "exponential"}}},
        "oauth": {"providers": {"example": {"clientId": "id", "clientSecret": "shh-secret", "scopes": ["a"]}}},
    });
    let place = Place::new(Some(&text.to_string()));
    let output = place.run(&["config", "validate"]);
    assert!(output.status.success(), "{output:?}");
    let shown = place.run(&["config", "get", "oauth.providers.example.clientSecret"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), "__OPENCLAW_REDACTED__");
}

#[test]
fn doctor_takes_unknown_keys_out() {
    let place = Place::new(Some("{gateway:{mode:'local',auth:{token:'secret-0123456789'},prot:1}}"));
    assert_eq!(place.run(&["gateway"]).status.code(), Some(1));
    place.run(&["doctor", "--fix"]);
    assert!(place.run(&["config", "validate"]).status.success());
    assert!(!fs::read_to_string(place.config()).expect("the config").contains("prot"));
}
