//! A real gateway in a temporary home: real processes, real sockets, killed at the end with everything below it.

use crate::{executables, wait};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// Token of every test gateway.
pub const TOKEN: &str = "test-token-0123456789abcdef";

/// How to start one.
pub struct Builder {
    config: Value,
    args: Vec<String>,
    env: Vec<(String, String)>,
    bin: Option<PathBuf>,
    port: Option<u16>,
    files: Vec<(String, String)>,
    wait_ready: bool,
    state: Option<PathBuf>,
    user: Option<u32>,
    port_in_config: bool,
}

/// A running gateway.
pub struct TestGateway {
    pub home: TempDir,
    pub port: u16,
    bin: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    child: Child,
    starts: u32,
    state: PathBuf,
    user: Option<u32>,
    /// The port is not given by a flag, so that the configuration decides.
    port_in_config: bool,
}

/// A port that is free now, below the range from which the kernel gives ports to clients: so nobody gets it by chance while
/// its gateway is being restarted. Another test run may take it; the gateway then says so and the test fails clearly.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let nth = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (nth % u32::from(PORTS.end - PORTS.start)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Ports of test gateways.
const PORTS: std::ops::Range<u16> = 19_000..32_000;

/// Merges `patch` into `base` (RFC 7396).
pub fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(key);
                } else {
                    merge(base.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

impl Default for Builder {
    fn default() -> Self {
        let config = json!({
            "gateway": {
                "mode": "local", "bind": "loopback",
                "auth": {"mode": "token", "token": TOKEN},
                "http": {"endpoints": {"chatCompletions": {"enabled": true}}},
            },
            "agents": {"defaults": {"model": {"primary": "demo/demo"}}},
        });
        Self {
            config,
            args: Vec::new(),
            env: Vec::new(),
            bin: None,
            port: None,
            files: Vec::new(),
            wait_ready: true,
            state: None,
            user: None,
            port_in_config: false,
        }
    }
}

impl Builder {
    /// Changes the configuration by a merge patch.
    pub fn config(mut self, patch: Value) -> Self {
        merge(&mut self.config, &patch);
        self
    }
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
    /// Executables of this directory instead of the tree's.
    pub fn bin(mut self, dir: &Path) -> Self {
        self.bin = Some(dir.to_owned());
        self
    }
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }
    /// The port stands in the configuration, where an edit can move it, and not in a flag.
    pub fn port_in_config(mut self) -> Self {
        self.port_in_config = true;
        self
    }
    /// A file below the home directory.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.files.push((path.to_owned(), text.to_owned()));
        self
    }
    /// A state directory that lies elsewhere than below the home directory (a small disk, say).
    pub fn state_dir(mut self, path: &Path) -> Self {
        self.state = Some(path.to_owned());
        self
    }
    /// Runs as this user, who then owns the home directory. Only root may ask for it.
    pub fn user(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }
    /// Do not wait for readiness (the start is expected to fail).
    pub fn without_waiting(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(mut self) -> TestGateway {
        let port = self.port.unwrap_or_else(free_port);
        if self.port_in_config {
            self.config["gateway"]["port"] = json!(port);
        }
        let home = tempfile::tempdir().expect("a temporary home");
        let state = self.state.unwrap_or_else(|| home.path().join(".openclaw"));
        fs::create_dir_all(state.join("workspace")).expect("the state directory");
        fs::write(state.join("openclaw.json"), self.config.to_string()).expect("the config");
        for (path, text) in &self.files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
            fs::write(path, text).expect("a file");
        }
        let bin = self.bin.unwrap_or_else(|| executables::directory().to_owned());
        if let Some(uid) = self.user {
            give(home.path(), uid);
            give(&state, uid);
        }
        let places = (home.path(), state.as_path());
        let flag = (!self.port_in_config).then_some(port);
        let child = spawn(&bin, places, flag, &self.args, &self.env, (0, self.user));
        let (args, env, user, port_in_config) = (self.args, self.env, self.user, self.port_in_config);
        let gateway =
            TestGateway { home, port, bin, args, env, child, starts: 0, state, user, port_in_config };
        if self.wait_ready {
            gateway.ready().await;
        }
        gateway
    }
}

/// Everything below `dir` belongs to this user.
pub fn give(dir: &Path, uid: u32) {
    let owner = format!("{uid}:{uid}");
    let status = Command::new("chown").args(["-R", &owner]).arg(dir).status();
    assert!(status.is_ok_and(|status| status.success()), "chown {} {}", owner, dir.display());
}

/// `places`: home and state directory. `start`: its number, and the user.
fn spawn(
    bin: &Path,
    places: (&Path, &Path),
    port: Option<u16>,
    args: &[String],
    env: &[(String, String)],
    start: (u32, Option<u32>),
) -> Child {
    let command = Command::new(bin.join("openclaw"));
    prepared(command, places, port, args, env, start).spawn().expect("the gateway can be started")
}

/// The command with everything that a gateway gets.
fn prepared(
    mut command: Command,
    places: (&Path, &Path),
    port: Option<u16>,
    args: &[String],
    env: &[(String, String)],
    start: (u32, Option<u32>),
) -> Command {
    let (home, state) = places;
    let (start, user) = start;
    let log = fs::File::create(home.join(format!("gateway-{start}.log"))).expect("a log file");
    if let Some(uid) = user {
        command.uid(uid).gid(uid);
    }
    command
        .arg("gateway")
        .args(port.map(|port| format!("--port={port}")))
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("OPENCLAW_STATE_DIR", state)
        .env("NO_COLOR", "1")
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    command
}

impl TestGateway {
    pub async fn start() -> Self {
        Builder::default().start().await
    }
    pub fn builder() -> Builder {
        Builder::default()
    }
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone()
    }
    pub fn workspace(&self) -> PathBuf {
        self.state_dir().join("workspace")
    }
    pub fn config_path(&self) -> PathBuf {
        self.state_dir().join("openclaw.json")
    }
    /// Everything that the current start has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join(format!("gateway-{}.log", self.starts))).unwrap_or_default()
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Waits for `/readyz`.
    pub async fn ready(&self) {
        wait::until(&format!("gateway ready; its log:\n{}", self.log()), async || {
            let answer = crate::http::get(self.port, "/readyz", None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// A command of our own command line against this gateway.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        self.command(args).output().expect("the command line can be started")
    }

    /// A command line that has still to be started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join("openclaw"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("OPENCLAW_STATE_DIR", self.state_dir())
            .env("OPENCLAW_GATEWAY_PORT", self.port.to_string())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// The home directory stays after this test, for somebody to look into. None when it could not be kept.
    pub fn keep_home(&mut self) -> Option<PathBuf> {
        self.home.disable_cleanup(true);
        Some(self.home.path().to_owned())
    }

    pub fn kill9(&mut self) {
        let _dead = self.child.kill();
        let _status = self.child.wait();
    }

    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait_exit()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("our own child");
    }

    pub fn signal_and_wait(&mut self, signal: nix::sys::signal::Signal) -> ExitStatus {
        self.signal(signal);
        self.wait_exit()
    }

    /// The next start has this variable no more.
    pub fn forget_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    pub fn wait_exit(&mut self) -> ExitStatus {
        wait::until_blocking("gateway exits", || self.child.try_wait().expect("our own child"))
    }

    /// Starts it again in the same home, on the same port.
    pub async fn restart(&mut self) {
        self.start_again();
        self.ready().await;
    }

    /// The same below a program that runs another one (`unshare …`), or with another standard error.
    pub fn start_again_in(&mut self, prefix: &[&str], stderr: Option<Stdio>) {
        self.starts += 1;
        let gateway = self.bin.join("openclaw");
        let command = match prefix.split_first() {
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(gateway);
                command
            }
            None => Command::new(gateway),
        };
        let places = (self.home.path(), self.state.as_path());
        let flag = (!self.port_in_config).then_some(self.port);
        let mut command = prepared(command, places, flag, &self.args, &self.env, (self.starts, self.user));
        if let Some(stderr) = stderr {
            command.stderr(stderr);
        }
        self.child = command.spawn().expect("the gateway can be started");
    }

    pub fn start_again(&mut self) {
        self.starts += 1;
        let places = (self.home.path(), self.state.as_path());
        let flag = (!self.port_in_config).then_some(self.port);
        self.child = spawn(&self.bin, places, flag, &self.args, &self.env, (self.starts, self.user));
    }

    /// Pids of the worker processes whose command line contains `name`.
    pub fn workers(&self, name: &str) -> Vec<u32> {
        children_of(self.child.id()).into_iter().filter(|pid| command_line(*pid).contains(name)).collect()
    }

    pub async fn worker(&self, name: &str) -> u32 {
        wait::until(&format!("worker {name}"), async || self.workers(name).first().copied()).await
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{}", self.log());
        }
        self.kill9();
    }
}

/// Direct children of a process.
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Children of an agent's worker but for the keeper of attributes, which lives as long as the worker.
pub fn commands_of(worker: u32) -> Vec<u32> {
    children_of(worker).into_iter().filter(|pid| !command_line(*pid).contains(" __attributes")).collect()
}

pub fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// Alive and not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
