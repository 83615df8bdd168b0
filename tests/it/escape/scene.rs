//! A gateway worth attacking: two agents, a channel account, and something planted wherever a secret lies.

use super::PROBE;
use harness::escape::Plan;
use harness::gateway::{Builder, TOKEN, TestGateway, give, merge};
use harness::model_server::{Entry, ModelServer, Reply, Rule, Script};
use harness::telegram_server::TelegramServer;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A user without any rights.
pub const NOBODY: u32 = 65534;
/// Worth nothing anywhere but here.
pub const PLANTED: &str = "planted-secret-7f3a9c";

pub struct Scene {
    pub gateway: TestGateway,
    pub model: ModelServer,
    pub plan: Plan,
    pub user: Option<u32>,
    _telegram: TelegramServer,
    _outside: Outside,
}

/// What stands around the gateway on its host.
struct Outside {
    tcp: TcpListener,
    udp: UdpSocket,
    abstract_name: String,
    _unix: (UnixListener, UnixListener),
    dir: TempDir,
}

impl Outside {
    fn new() -> Self {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("open to everybody");
        fs::write(dir.path().join("other-program"), PLANTED).expect("a file");
        let unix = UnixListener::bind(dir.path().join("daemon.sock")).expect("a socket");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path().join("daemon.sock"), open).expect("open to everybody");
        let abstract_name = format!("openclaw-test-{}", uuid::Uuid::new_v4());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&abstract_name).expect("a name");
        let hidden = UnixListener::bind_addr(&address).expect("an abstract socket");
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").expect("a port"),
            udp: UdpSocket::bind("127.0.0.1:0").expect("a port"),
            abstract_name,
            _unix: (unix, hidden),
            dir,
        }
    }
}

/// Files that lie in the home directory before the gateway starts.
const FILES: &[(&str, &str)] = &[
    (".ssh/id_ed25519", PLANTED),
    (".aws/credentials", PLANTED),
    (".bashrc", "# none\n"),
    (".config/systemd/user/other.service", "[Unit]\n"),
    (".openclaw/.env", "PLANTED_API_KEY=planted-secret-7f3a9c\n"),
    (".openclaw/credentials/telegram-planted.json", "{\"token\":\"planted-secret-7f3a9c\"}"),
    (".openclaw/devices/paired.json", "{}"),
    (".openclaw/crash/planted.json", "{}"),
    (".openclaw/agents/main/agent/auth-profiles.json", "{\"version\":1,\"profiles\":{}}"),
    (".openclaw/agents/other/agent/auth-profiles.json", "{\"version\":1,\"profiles\":{}}"),
    (".openclaw/workspace-other/note.md", "planted-secret-7f3a9c"),
    (".openclaw/bait-remove", "x"),
    (".openclaw/bait-rename", "x"),
    (".openclaw/bait-over", "x"),
];

fn config(model: &ModelServer, telegram: &TelegramServer) -> Value {
    json!({
        "models": {"mode": "merge", "providers": {"double": {
            "baseUrl": model.openai_url(), "apiKey": "sk-planted-provider-key-55", "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 1_000_000, "maxTokens": 1000}],
        }}},
        "agents": {
            "defaults": {"model": {"primary": "double/m1"}, "retry": {"minDelayMs": 10}, "skipBootstrap": true},
            "list": [{"id": "main", "default": true}, {"id": "other"}],
        },
        "channels": {"telegram": {
            "botToken": telegram.token(), "apiRoot": telegram.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
        }},
    })
}

/// What the scripted model says: a command for a message, and the end after a result.
pub fn scripted(replies: &[(&str, Reply)]) -> Script {
    let mut rules: Vec<Rule> = replies
        .iter()
        .map(|(contains, reply)| Rule {
            contains: Some((*contains).to_owned()),
            after_tool: Some(false),
            reply: reply.clone(),
            ..Rule::default()
        })
        .collect();
    rules.push(Rule { after_tool: Some(true), reply: Reply::text("done"), ..Rule::default() });
    Script { rules, ..Script::default() }
}

/// `exec` of a command that may take its time.
pub fn exec(command: &str) -> Reply {
    Reply::call("exec", json!({"command": command, "yieldMs": 120_000, "timeout": 300}))
}

impl Scene {
    pub async fn new(script: Script, user: Option<u32>, extra: Value) -> Self {
        Self::with(TestGateway::builder(), script, user, extra).await
    }

    /// Starts everything, wakes both agents, and tells the attacker all there is to know.
    pub async fn with(builder: Builder, script: Script, user: Option<u32>, extra: Value) -> Self {
        let (model, telegram) = (ModelServer::start(script).await, TelegramServer::start().await);
        let outside = Outside::new();
        let mut wanted = config(&model, &telegram);
        merge(&mut wanted, &extra);
        let mut builder = builder.config(wanted);
        for (path, text) in FILES {
            builder = builder.file(path, text);
        }
        if let Some(user) = user {
            builder = builder.user(user);
        }
        let gateway = builder.start().await;
        let mut client = WsClient::cli(gateway.port, 4).await;
        for session in ["agent:main:main", "agent:other:main"] {
            client.chat(session, "hello").await;
        }
        let plan = plan(&gateway, &outside).await;
        let scene = Self { gateway, model, plan, user, _telegram: telegram, _outside: outside };
        scene.place_attacker();
        scene
    }

    /// Puts the attacking program and what it knows into the workspace, as hostile code would have done before.
    fn place_attacker(&self) {
        let workspace = &self.plan.workspace;
        fs::copy(PROBE, workspace.join("probe")).expect("a copy of the attacker");
        let plan = serde_json::to_string(&self.plan).expect("a plan is JSON");
        fs::write(workspace.join("plan.json"), plan).expect("its plan");
        if let Some(user) = self.user {
            give(workspace, user);
        }
    }

    /// Requests that hold the result of a tool, newest last.
    pub fn results(&self) -> Vec<Entry> {
        let has_result = |entry: &Entry| {
            let messages = entry.body["messages"].as_array();
            messages.and_then(|all| all.last()).is_some_and(|last| last["role"] == "tool")
        };
        self.model.book().into_iter().filter(has_result).collect()
    }

    /// Has the attacking agent do what the script says for `message`; gives the results of its tools. Meanwhile the
    /// other agent is asked again and again, and so is the gateway's health.
    pub async fn attack(&self, message: &str) -> Vec<String> {
        let before = self.results().len();
        let mut attacker = WsClient::cli(self.gateway.port, 4).await;
        let key = uuid::Uuid::new_v4().to_string();
        let params = json!({"sessionKey": "agent:main:main", "message": message, "idempotencyKey": key});
        attacker.call("chat.send", params).await.expect("accepted");
        let (over, watch) = tokio::sync::watch::channel(false);
        let bystander = bystander(self.gateway.port, watch);
        let attack = async {
            let end = attacker.chat_end(&key).await;
            let _no_bystander = over.send(true);
            end
        };
        let (end, asked) = tokio::join!(attack, bystander);
        assert!(asked > 0, "the other agent was asked");
        assert_eq!(end["state"], "final", "{end}");
        assert_eq!(self.results().len(), before + 1, "{end}");
        let last = self.results().pop().expect("a request");
        let messages = last.body["messages"].as_array().cloned().unwrap_or_default();
        let own = messages.iter().rev().take_while(|message| message["role"] == "tool");
        let mut results: Vec<String> = own.map(|message| text_of(&message["content"])).collect();
        results.reverse();
        results
    }
}

/// Asks the other agent and for health until it is over, at least once. Gives how often.
async fn bystander(port: u16, over: tokio::sync::watch::Receiver<bool>) -> u32 {
    let mut client = WsClient::cli(port, 4).await;
    let mut asked = 0;
    loop {
        let said = chat_text(&client.chat("agent:other:main", &format!("are you there {asked}?")).await);
        assert!(said.contains("are you there"), "the other agent answers: {said}");
        client.call("health", json!({})).await.expect("health is answered");
        asked += 1;
        if *over.borrow() {
            return asked;
        }
        harness::wait::step().await;
    }
}

fn text_of(content: &Value) -> String {
    match content.as_array() {
        Some(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        None => content.as_str().unwrap_or_default().to_owned(),
    }
}

/// The newest transcript of an agent.
fn transcript(state: &Path, agent: &str) -> PathBuf {
    let sessions = fs::read_dir(state.join("agents").join(agent).join("sessions")).expect("sessions");
    let mut files = sessions.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|ext| ext == "jsonl")).expect("a transcript")
}

async fn plan(gateway: &TestGateway, outside: &Outside) -> Plan {
    let (state, home) = (gateway.state_dir(), gateway.home.path().to_owned());
    let below_state = [
        ("journal", "journal/journal.db"),
        ("journal-wal", "journal/journal.db-wal"),
        ("config", "openclaw.json"),
        ("last-good", "config/last-good.json"),
        ("env", ".env"),
        ("control-token", "run/control.token"),
        ("credentials", "credentials/telegram-planted.json"),
        ("devices", "devices/paired.json"),
        ("crash", "crash/planted.json"),
        ("log", "logs/gateway.log"),
        ("other-sessions", "agents/other/sessions/sessions.json"),
        ("other-auth", "agents/other/agent/auth-profiles.json"),
        ("own-auth", "agents/main/agent/auth-profiles.json"),
        ("other-note", "workspace-other/note.md"),
        ("bait-remove", "bait-remove"),
        ("bait-rename", "bait-rename"),
        ("bait-over", "bait-over"),
    ];
    let mut files: std::collections::BTreeMap<String, PathBuf> =
        below_state.into_iter().map(|(name, path)| (name.to_owned(), state.join(path))).collect();
    let others = [
        ("ssh-key", home.join(".ssh/id_ed25519")),
        ("cloud-key", home.join(".aws/credentials")),
        ("other-transcript", transcript(&state, "other")),
        ("own-transcript", transcript(&state, "main")),
        ("host-tmp", outside.dir.path().join("other-program")),
    ];
    files.extend(others.map(|(name, path)| (name.to_owned(), path)));
    for (name, path) in &files {
        assert!(path.exists(), "{name} is not where the attacker is told: {}", path.display());
    }
    let pid = async |name: &str| gateway.worker(name).await as i32;
    Plan {
        workspace: gateway.workspace(),
        control_socket: state.join("run/control.sock"),
        state,
        home,
        bin: harness::executables::directory().to_owned(),
        files,
        supervisor: gateway.pid() as i32,
        other_worker: pid("[agent:other]").await,
        channel_worker: pid("[channel:").await,
        own_worker: pid("[agent:main]").await,
        gateway_port: gateway.port,
        tcp_port: outside.tcp.local_addr().expect("bound").port(),
        udp_port: outside.udp.local_addr().expect("bound").port(),
        daemon_socket: outside.dir.path().join("daemon.sock"),
        abstract_socket: outside.abstract_name.clone(),
        secrets: vec![PLANTED.to_owned(), "planted-provider-key".to_owned(), TOKEN.to_owned()],
        attacker: String::new(),
    }
}
