//! A gateway with a Telegram bot, a scripted model and the ledger tool, and whoever plays the service manager: it starts the
//! gateway again when it is gone.

use super::load::{self, Book};
use super::{Class, processes};
use crate::gateway::{TestGateway, is_alive, merge};
use crate::model_server::{ModelServer, Reply, Rule, Script};
use crate::telegram_server::TelegramServer;
use crate::{ledger, wait};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Secrets that must show up nowhere but in the configuration.
pub const MODEL_KEY: &str = "sk-planted-4f1c9a7de2b84b0c";
/// Words of every complete answer, before the marks.
pub const ANSWER: &str = "The work is done:";
/// Words that come with the tool call, as a message of their own, before the marks.
pub const ON_IT: &str = "I am at it:";
/// What a streamed reply starts as.
pub const PLACEHOLDER: &str = "…";

/// How the scene is set up.
#[derive(Debug, Clone)]
pub struct Plan {
    pub bin: PathBuf,
    /// `OPENCLAW_FAILPOINTS` of the first start.
    pub failpoints: String,
    /// Further environment of every start.
    pub env: Vec<(String, String)>,
    /// Merge patch of the configuration.
    pub config: Value,
    /// Agents besides `main`.
    pub more_agents: Vec<String>,
    /// Pause before each piece of the model's answer.
    pub delay_ms: u64,
    /// How long a tool call runs after it has written its line.
    pub tool_ms: u64,
    /// For long runs: the model's book keeps no bodies.
    pub forget: bool,
    /// State directory elsewhere than in the temporary home.
    pub state: Option<PathBuf>,
}

impl Plan {
    pub fn new(bin: &Path) -> Self {
        Self {
            bin: bin.to_owned(),
            failpoints: String::new(),
            env: Vec::new(),
            config: json!({}),
            more_agents: Vec::new(),
            delay_ms: 5,
            tool_ms: 0,
            forget: false,
            state: None,
        }
    }
}

pub struct Scene {
    pub gateway: TestGateway,
    pub telegram: TelegramServer,
    pub model: ModelServer,
    pub book: Book,
    /// Starts that the service manager had to make.
    pub restarts: u32,
    /// When the supervisor was first seen stopped (SIGSTOP); it is continued after [`STOPPED_FOR`].
    stopped_at: Option<Instant>,
    /// How often it was continued.
    pub continued: u32,
}

/// A stopped supervisor is continued after this: longer than the lateness that re-bases all deadlines (5 s).
const STOPPED_FOR: Duration = Duration::from_secs(8);

impl Scene {
    pub async fn start(plan: Plan) -> Self {
        let (telegram, model) = (TelegramServer::start().await, ModelServer::start(script(&plan)).await);
        let mut config = config(&telegram, &model, &plan.more_agents);
        merge(&mut config, &plan.config);
        let mut builder = TestGateway::builder().bin(&plan.bin).config(config).without_waiting();
        if !plan.failpoints.is_empty() {
            builder = builder.env(FAILPOINTS, &plan.failpoints);
        }
        for (name, value) in &plan.env {
            builder = builder.env(name, value);
        }
        if let Some(state) = &plan.state {
            builder = builder.state_dir(state);
        }
        let gateway = builder.start().await;
        for workspace in std::iter::once("workspace".to_owned())
            .chain(plan.more_agents.iter().map(|agent| format!("workspace-{agent}")))
        {
            let workspace = gateway.state_dir().join(workspace);
            std::fs::create_dir_all(&workspace).expect("a workspace");
            ledger::install(&workspace);
        }
        Self { gateway, telegram, model, book: Book::default(), restarts: 0, stopped_at: None, continued: 0 }
    }

    /// A person writes.
    pub fn write(&self, class: Class, person: i64, nth: usize) -> String {
        if class == Class::File {
            let mark = format!("mark-{}{person}-{nth:04}", class.name());
            let file = self.gateway.workspace().join(format!("{mark}.txt"));
            std::fs::write(file, format!("the file for {mark}\n")).expect("a file to send");
        }
        load::write(&self.telegram, &self.book, class, person, nth)
    }

    /// Starts the gateway again when it is gone; true when it was.
    pub async fn tend(&mut self) -> bool {
        if is_alive(self.gateway.pid()) {
            self.wake();
            return false;
        }
        self.gateway.wait_exit();
        self.gateway.forget_env(FAILPOINTS);
        self.restarts += 1;
        self.gateway.start_again();
        true
    }

    /// Continues a supervisor that has been stopped for long enough.
    fn wake(&mut self) {
        if !processes::is_stopped(self.gateway.pid()) {
            self.stopped_at = None;
            return;
        }
        let since = *self.stopped_at.get_or_insert_with(Instant::now);
        if since.elapsed() > STOPPED_FOR {
            self.gateway.signal(nix::sys::signal::Signal::SIGCONT);
            self.stopped_at = None;
            self.continued += 1;
        }
    }

    /// Waits for `/readyz`, starting the gateway again when it dies before.
    pub async fn ready(&mut self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            self.tend().await;
            if !processes::is_stopped(self.gateway.pid())
                && crate::http::get(self.gateway.port, "/readyz", None)
                    .await
                    .is_ok_and(|answer| answer.status == 200)
            {
                return Ok(());
            }
            wait::step().await;
        }
        Err(format!("not ready in {limit:?}; its log:\n{}", self.gateway.log()))
    }

    /// Waits until nobody of the gateway's is stopped (SIGSTOP): a worker that does not answer is replaced, even when all
    /// that it had to do is done.
    pub async fn awake(&mut self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        loop {
            self.tend().await;
            let stopped = self.processes().into_iter().find(|process| processes::is_stopped(process.pid));
            let Some(stopped) = stopped else { return Ok(()) };
            if Instant::now() > end {
                return Err(format!("process {} is stopped and nobody minds", stopped.pid));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `status` has nothing to complain of: a change of the file is looked at a moment after it was written.
    /// What is left after `limit` is for the oracle.
    pub async fn healed(&mut self, limit: Duration) {
        let clean = |info: Value| info["degraded"].as_array().is_some_and(Vec::is_empty);
        let end = Instant::now() + limit;
        while !self.info().is_some_and(clean) && Instant::now() < end {
            self.tend().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether any worker is in a later life than its first.
    pub fn reborn(&self) -> bool {
        self.workers().iter().any(|worker| worker["epoch"].as_u64() > Some(1))
    }

    /// One look at `system.info` through the control socket; None while it does not answer.
    pub fn info(&self) -> Option<Value> {
        if processes::is_stopped(self.gateway.pid()) {
            return None;
        }
        let output = self.gateway.cli(&["gateway", "call", "system.info", "--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Workers as `workers.list` shows them.
    pub fn workers(&self) -> Vec<Value> {
        let output = self.gateway.cli(&["gateway", "call", "workers.list", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        listed["workers"].as_array().cloned().unwrap_or_default()
    }

    /// Whether every message that was said has its whole answer in the place where it was asked, as far as can be seen
    /// from outside without asking the gateway.
    fn looks_answered(&self) -> bool {
        let said = self.book.all();
        self.telegram.unconfirmed() == 0
            && said.iter().filter(|said| said.class != Class::Rpc).all(|said| {
                let shown = self.telegram.visible(said.chat);
                let told = shown.iter().any(|shown| load::tells_of_a_panic(&shown.text));
                told || shown
                    .iter()
                    .any(|shown| shown.text.contains(ANSWER) && shown.text.contains(&said.mark))
            })
    }

    /// Waits until everything is answered and nothing is open any more; tends the gateway meanwhile. The error says what
    /// is still missing.
    pub async fn settle(&mut self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        let mut last = Value::Null;
        loop {
            self.tend().await;
            if self.looks_answered()
                && let Some(info) = self.info()
            {
                let open = |key: &str| info["journal"][key].as_u64() == Some(0);
                if ["runsOpen", "outboxOpen", "inboundWaiting", "inboundClaimed"].iter().all(|key| open(key))
                {
                    return Ok(());
                }
                last = info["journal"].clone();
            }
            if Instant::now() > end {
                return Err(format!("not settled in {limit:?}: {}; journal {last}", self.missing()));
            }
            wait::pause(Duration::from_millis(30)).await;
        }
    }

    /// Marks without an answer, for a report.
    fn missing(&self) -> String {
        let said = self.book.all();
        let telegram = said.iter().filter(|said| said.class != Class::Rpc);
        let missing = telegram.filter(|said| {
            !self.telegram.visible_texts(said.chat).iter().any(|text| text.contains(&said.mark))
        });
        let marks: Vec<String> = missing.map(|said| said.mark.clone()).take(10).collect();
        format!("{} updates not confirmed, without answer: {marks:?}", self.telegram.unconfirmed())
    }

    /// Processes of this gateway, itself included.
    pub fn processes(&self) -> Vec<processes::Process> {
        processes::of_home(self.gateway.home.path())
    }
}

/// Variable that arms the failpoints of a test build.
pub const FAILPOINTS: &str = "OPENCLAW_FAILPOINTS";

/// The model calls the ledger tool once for each turn, then answers with the marks; a file is sent when the message asks for
/// one.
fn script(plan: &Plan) -> Script {
    let delay_ms = plan.delay_ms;
    let mut command = ledger::command();
    if plan.tool_ms > 0 {
        command = format!("{command} && sleep {}", plan.tool_ms as f64 / 1000.0);
    }
    let call = Reply {
        text: format!("{ON_IT} {{marks}}."),
        delay_ms,
        ..Reply::call("exec", json!({"command": command}))
    };
    let file = Reply {
        text: format!("{ANSWER} {{marks}}.\nMEDIA: ./{{mark}}.txt"),
        chunk_chars: 8,
        delay_ms,
        ..Reply::default()
    };
    let answer = Reply { text: format!("{ANSWER} {{marks}}."), chunk_chars: 8, delay_ms, ..Reply::default() };
    let first = Rule { after_tool: Some(false), reply: call, ..Rule::default() };
    let send = Rule { contains: Some("send the file".into()), reply: file, ..Rule::default() };
    Script { rules: vec![first, send], otherwise: answer, forget: plan.forget, ..Script::default() }
}

fn config(telegram: &TelegramServer, model: &ModelServer, more_agents: &[String]) -> Value {
    let mut config = json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": MODEL_KEY, "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 200_000, "maxTokens": 1000}],
        }}},
        "session": {"dmScope": "per-channel-peer"},
        "agents": {"defaults": {
            "model": {"primary": "double/m1"}, "retry": {"minDelayMs": 10}, "maxConcurrent": 16,
        }},
        "channels": {"telegram": {
            "botToken": telegram.token(), "apiRoot": telegram.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
        }},
    });
    if !more_agents.is_empty() {
        let main = json!({"id": "main", "default": true});
        let list = std::iter::once(main).chain(more_agents.iter().map(|agent| json!({"id": agent})));
        config["agents"]["list"] = list.collect();
    }
    config
}
