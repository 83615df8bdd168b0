//! `openclaw up` in an empty home and over existing files; `openclaw doctor` and what it mends.

use harness::gateway::{TOKEN, TestGateway, free_port};
use harness::ws_client::WsClient;
use harness::{executables, http, wait};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

/// A home directory in which nothing was ever set up.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary home"))
    }
    fn with_config(text: &str) -> Self {
        let home = Self::new();
        fs::create_dir_all(home.state()).expect("the state directory");
        home.set_mode(&home.state(), 0o700);
        fs::write(home.config_path(), text).expect("the config");
        home.set_mode(&home.config_path(), 0o600);
        home
    }
    fn state(&self) -> PathBuf {
        self.0.path().join(".openclaw")
    }
    fn config_path(&self) -> PathBuf {
        self.state().join("openclaw.json")
    }
    fn config_text(&self) -> String {
        fs::read_to_string(self.config_path()).expect("the config")
    }
    fn config(&self) -> Value {
        serde_json::from_str(&self.config_text()).expect("JSON")
    }
    fn set_mode(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }
    fn mode(&self, path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }
    /// A state directory that is named explicitly, so that the lock of the host's one default gateway is not asked for.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(executables::openclaw());
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.0.path())
            .env("OPENCLAW_STATE_DIR", self.state())
            .env("NO_COLOR", "1")
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }
    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }
    /// What a command printed, with what differs from run to run replaced.
    fn printed(&self, output: &Output) -> String {
        let program = executables::openclaw().display().to_string();
        String::from_utf8_lossy(&output.stdout)
            .replace(&self.0.path().display().to_string(), "[home]")
            .replace(&program, "openclaw")
            .replace(env!("CARGO_PKG_VERSION"), "[version]")
    }
}

/// A running `openclaw up`; killed at the end.
struct Up {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Up {
    async fn start(home: &Home, args: &[&str]) -> Self {
        let port = free_port();
        let log = home.0.path().join("up.log");
        let file = fs::File::create(&log).expect("a log");
        let child = home
            .command(&["up", "--port", &port.to_string()])
            .args(args)
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .expect("it starts");
        let up = Self { child, port, log };
        wait::until("up is ready", async || {
            let answer = http::get(port, "/readyz", None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        up
    }
    fn printed(&self) -> String {
        fs::read_to_string(&self.log).expect("its log")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _dead = self.child.kill();
        let _status = self.child.wait();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn up_makes_a_working_gateway_out_of_nothing() {
    let home = Home::new();
    let up = Up::start(&home, &["--model", "demo/demo"]).await;
    let config = home.config();
    let token = config["gateway"]["auth"]["token"].as_str().expect("a token").to_owned();
    assert_eq!(token.len(), 48);
    assert_eq!(config["gateway"]["mode"], "local");
    assert_eq!(config["gateway"]["http"]["endpoints"]["chatCompletions"]["enabled"], true);
    assert_eq!(config["agents"]["defaults"]["model"]["primary"], "demo/demo");
    assert_eq!((home.mode(&home.state()), home.mode(&home.config_path())), (0o700, 0o600));
    for name in ["AGENTS.md", "SOUL.md", "TOOLS.md", "IDENTITY.md", "USER.md", "HEARTBEAT.md", "BOOTSTRAP.md"]
    {
        assert!(home.state().join("workspace").join(name).is_file(), "{name}");
    }
    let page = format!("http://127.0.0.1:{}/#token={token}", up.port);
    wait::until("the page's address is printed", async || up.printed().contains(&page).then_some(())).await;
    let answer = home.run(&["agent", "--message", "run: uname -a"]);
    assert!(stdout(&answer).contains("Linux"), "{answer:?}");
    let logs = home.state().join("logs");
    for file in fs::read_dir(&logs).expect("logs").flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        assert!(!text.contains(&token), "the token stands in {}", file.path().display());
    }
}

#[tokio::test]
async fn a_second_up_names_the_first_and_changes_nothing() {
    let home = Home::new();
    let up = Up::start(&home, &["--model", "demo/demo"]).await;
    let before = home.config_text();
    let second = home.run(&["up"]);
    let text = stdout(&second);
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    let token = home.config()["gateway"]["auth"]["token"].as_str().expect("a token").to_owned();
    assert!(text.contains(&format!("already running (pid {})", up.child.id())), "{text}");
    assert!(text.contains(&format!("http://127.0.0.1:{}/#token={token}", up.port)), "{text}");
    assert_eq!(home.config_text(), before);
    assert_eq!(http::get(up.port, "/readyz", None).await.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_gateway_that_up_runs_can_be_restarted_in_place() {
    let home = Home::new();
    let up = Up::start(&home, &["--model", "demo/demo"]).await;
    let restarted = home.run(&["restart"]);
    assert_eq!(restarted.status.code(), Some(0), "{restarted:?}\n{}", up.printed());
    let info = home.run(&["gateway", "call", "system.info", "--json"]);
    let info: Value = serde_json::from_str(&stdout(&info)).expect("JSON");
    assert_eq!((&info["pid"], &info["upgrades"]), (&json!(up.child.id()), &json!(1)), "{info}");
    let answer = home.run(&["agent", "--message", "run: uname -a"]);
    assert!(stdout(&answer).contains("Linux"), "{answer:?}");
}

#[test]
fn what_up_prints_when_it_only_sets_up() {
    let home = Home::new();
    let first = home.run(&["up", "--no-run", "--model", "demo/demo"]);
    let second = home.run(&["up", "--no-run"]);
    let printed = format!("{}\n--- again ---\n{}", home.printed(&first), home.printed(&second));
    insta::assert_snapshot!(printed);
}

#[test]
fn an_existing_config_is_completed_and_its_comments_stay() {
    let text = "{\n  // my port\n  gateway: { port: 4711 }, // kept\n  agents: { defaults: { model: 'demo/demo' } },\n}\n";
    let home = Home::with_config(text);
    home.set_mode(&home.config_path(), 0o644);
    let output = home.run(&["up", "--no-run"]);
    assert!(output.status.success(), "{output:?}");
    let after = home.config_text();
    for kept in ["// my port", "port: 4711", "// kept", "model: 'demo/demo'"] {
        assert!(after.contains(kept), "{kept} is gone:\n{after}");
    }
    let printed = stdout(&output);
    for told in
        ["+ gateway.mode = \"local\"", "+ gateway.auth.token (generated)", "chatCompletions.enabled = true"]
    {
        assert!(printed.contains(told), "{told} is not told:\n{printed}");
    }
    assert!(!printed.contains("+ agents"), "{printed}");
    assert_eq!(home.mode(&home.config_path()), 0o600);
    assert!(home.state().join("openclaw.json.bak").is_file());
}

#[test]
fn an_invalid_config_is_refused_and_left_alone() {
    let text = "{gateway: {mode: 'local', prot: 1}}";
    let home = Home::with_config(text);
    let output = home.run(&["up"]);
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(why.contains("prot") && why.contains("openclaw doctor --fix"), "{why}");
    assert_eq!(home.config_text(), text);
}

#[test]
fn a_key_in_the_environment_decides_and_is_not_written_down() {
    let rows = [
        ("OPENROUTER_API_KEY", "openrouter/auto"),
        ("ANTHROPIC_API_KEY", "anthropic/claude-sonnet-4-6"),
        ("OPENAI_API_KEY", "openai/gpt-5.2"),
        ("GEMINI_API_KEY", "google/gemini-3-flash-preview"),
        ("GROQ_API_KEY", "groq/llama-3.3-70b-versatile"),
        ("XAI_API_KEY", "xai/grok-4-1-fast"),
        ("MOONSHOT_API_KEY", "moonshot/kimi-k2.5"),
        ("DEEPSEEK_API_KEY", "deepseek/deepseek-chat"),
    ];
    for (name, model) in rows {
        let home = Home::new();
        let output = home.command(&["up", "--no-run"]).env(name, "sk-secret-0123").output().expect("it runs");
        assert!(stdout(&output).contains(&format!("{model} ({name} is set)")), "{output:?}");
        assert_eq!(home.config()["agents"]["defaults"]["model"]["primary"], model);
        assert!(!home.config_text().contains("sk-secret"), "{}", home.config_text());
    }
}

/// Answers each connection with a list of models, as Ollama does.
fn ollama() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0_u8; 1024];
            let count = stream.read(&mut request).unwrap_or(0);
            let found = request[..count].starts_with(b"GET /api/tags ");
            let body = r#"{"models":[{"name":"nomic-embed-text"},{"name":"qwen3:8b"}]}"#;
            let status = if found { "200 OK" } else { "404 Not Found" };
            let _gone = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[test]
fn a_model_server_on_this_machine_is_found_where_the_config_has_it() {
    let port = ollama();
    let config = json!({"models": {"providers": {"ollama": {"baseUrl": format!("http://127.0.0.1:{port}"), "models": []}}}});
    let home = Home::with_config(&config.to_string());
    let output = home.run(&["up", "--no-run"]);
    let printed = stdout(&output);
    assert!(printed.contains(&format!("ollama/qwen3:8b (Ollama answers on port {port})")), "{output:?}");
    assert_eq!(home.config()["agents"]["defaults"]["model"]["primary"], "ollama/qwen3:8b");
}

/// A state directory with something wrong in every part that doctor can mend.
fn broken_home() -> Home {
    let text = "{\n  // stays\n  gateway: { mode: 'local', prot: 1 },\n  agents: { defaults: { model: 'xai/grok-4-1-fast' } },\n  browser: { enabled: true },\n}\n";
    let home = Home::with_config(text);
    home.set_mode(&home.config_path(), 0o644);
    let agent = home.state().join("agents/main/agent");
    fs::create_dir_all(&agent).expect("the agent's directory");
    fs::write(agent.join("auth-profiles.json"), "{}").expect("profiles");
    home.set_mode(&agent.join("auth-profiles.json"), 0o644);
    let sessions = home.state().join("agents/main/sessions");
    fs::create_dir_all(&sessions).expect("sessions");
    fs::write(sessions.join("torn.jsonl"), "{\"type\":\"session\"}\n{\"ty").expect("a transcript");
    fs::create_dir_all(home.state().join("cron")).expect("cron");
    fs::write(home.state().join("cron/jobs.json"), "{}").expect("jobs");
    home
}

#[test]
fn doctor_finds_and_mends() {
    let home = broken_home();
    let port = free_port().to_string();
    let doctor = |args: &[&str]| {
        home.command(&["doctor"]).args(args).env("OPENCLAW_GATEWAY_PORT", &port).output().expect("it runs")
    };
    let before = doctor(&[]);
    assert_eq!(before.status.code(), Some(1), "{before:?}");
    let unchanged = home.config_text();
    assert!(unchanged.contains("prot"), "doctor without --fix changes nothing");
    let fixed = doctor(&["--fix", "--non-interactive"]);
    assert_eq!(fixed.status.code(), Some(0), "{fixed:?}");
    let after = home.config_text();
    assert!(after.contains("// stays") && !after.contains("prot") && after.contains("token"), "{after}");
    assert_eq!(home.mode(&home.config_path()), 0o600);
    assert_eq!(home.mode(&home.state().join("agents/main/agent/auth-profiles.json")), 0o600);
    assert_eq!(fs::read_to_string(home.state().join("openclaw.json.bak")).expect("a backup"), unchanged);
    let again = doctor(&["--fix"]);
    assert!(!stdout(&again).contains("fixed "), "{again:?}");
    insta::assert_snapshot!(format!("{}\n--- fix ---\n{}", home.printed(&before), home.printed(&fixed)));
}

#[test]
fn doctor_json_has_one_shape() {
    let home = broken_home();
    let answer: Value = serde_json::from_str(&stdout(&home.run(&["doctor", "--json"]))).expect("JSON");
    assert_eq!(answer["ok"], false);
    assert!(answer["summary"]["errors"].as_u64().is_some_and(|count| count >= 1), "{answer}");
    assert_eq!(answer["fixed"], json!([]));
    let findings = answer["findings"].as_array().expect("findings");
    let unknown =
        findings.iter().find(|finding| finding["id"] == "config.unknown_key").expect("the unknown key");
    let place = format!("{}:3:", home.config_path().display());
    assert!(unknown["place"].as_str().is_some_and(|found| found.starts_with(&place)), "{unknown}");
    assert_eq!((&unknown["severity"], &unknown["fixable"]), (&json!("error"), &json!(true)));
    assert_eq!(unknown["remedy"], "openclaw doctor --fix");
    let rank =
        |finding: &Value| ["error", "warning", "note"].iter().position(|name| finding["severity"] == *name);
    assert!(findings.iter().map(rank).is_sorted(), "errors first: {findings:?}");
}

#[tokio::test]
async fn doctor_leaves_the_config_of_a_running_gateway_alone() {
    let gateway = TestGateway::start().await;
    let path = gateway.config_path();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let broken = fs::read_to_string(&path).expect("the config").replacen('{', "{\"nope\": 1, ", 1);
    fs::write(&path, &broken).expect("the config");
    let output = gateway.cli(&["doctor", "--fix"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let printed = stdout(&output);
    assert!(printed.contains(&format!("pid {}: the gateway runs", gateway.pid())), "{printed}");
    assert!(printed.contains("openclaw stop, then openclaw doctor --fix"), "{printed}");
    assert_eq!(fs::read_to_string(&path).expect("the config"), broken);
    assert_eq!(fs::metadata(&path).expect("it").permissions().mode() & 0o777, 0o600);
    assert!(TOKEN.len() > 8 && !printed.contains(TOKEN), "{printed}");
    WsClient::cli(gateway.port, 4).await.chat("main", "still there?").await;
}
