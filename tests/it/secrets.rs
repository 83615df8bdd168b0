//! Secrets stay where they belong: whatever happens, no log, crash report, transcript, answer, event, argument or environment holds
//! one.

use harness::gateway::{TOKEN, TestGateway, merge};
use harness::model_server::{Fault, ModelServer, Reply, Rule, Script};
use harness::secrets::{Planted, found_in, in_files, in_processes};
use harness::telegram_server::{Fault as TelegramFault, TelegramServer};
use harness::wait;
use harness::ws_client::{Device, WsClient, cli_params};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Files of the configuration: what the operator wrote, and the copies that are kept of it.
const CONFIG: &[&str] = &["openclaw.json", "config/last-good.json", "config/history/"];
const PROVIDER_KEY: &str = "planted~provider~key~0001";
const ENV_FILE_KEY: &str = "planted~env~file~key~0002";
const ENV_KEY: &str = "planted~environment~key~0003";
const PASSWORD: &str = "planted~password~0004";
const PROXY_PASSWORD: &str = "planted~proxy~password~0005";

fn planted(telegram: &TelegramServer, device_token: &str) -> Vec<Planted> {
    let secret = |name, value: &str, owners| Planted { name, value: value.to_owned(), owners };
    let (_, bot) = telegram.token().split_once(':').expect("a bot's token");
    assert!(bot.len() > 20);
    vec![
        secret("the gateway's token", TOKEN, CONFIG),
        secret("the password", PASSWORD, CONFIG),
        secret("the provider's key", PROVIDER_KEY, CONFIG),
        secret("the key of the .env file", ENV_FILE_KEY, &[".env"]),
        secret("the key of the environment", ENV_KEY, &[]),
        secret("the bot's token", telegram.token(), CONFIG),
        secret("the password of a proxy", PROXY_PASSWORD, &[]),
        secret("a device's token", device_token, &["devices/"]),
    ]
}

/// Three providers with a key each, from three places; each refuses a message that asks for it, and repeats the key.
fn config(model: &ModelServer, telegram: &TelegramServer) -> Value {
    let provider = |key: Value| {
        json!({"baseUrl": model.openai_url(), "apiKey": key, "api": "openai-completions",
            "models": [{"id": "m1", "name": "m1", "contextWindow": 64000, "maxTokens": 1000}]})
    };
    json!({
        "gateway": {"auth": {"password": PASSWORD}},
        "models": {"mode": "merge", "providers": {
            "literal": provider(json!(PROVIDER_KEY)),
            "dotenv": provider(json!("${PLANTED_KEY_IN_FILE}")),
            "reference": provider(json!({"source": "env", "provider": "default", "id": "PLANTED_KEY"})),
        }},
        "agents": {"defaults": {"model": {"primary": "literal/m1"}, "retry": {"minDelayMs": 10}, "skipBootstrap": true}},
        "channels": {"telegram": {"botToken": telegram.token(), "apiRoot": telegram.api_root(),
            "dmPolicy": "open", "allowFrom": ["*"]}},
        "logging": {"level": "debug"},
    })
}

fn script() -> Script {
    let when = |text: &str, reply: Reply| Rule {
        contains: Some(text.to_owned()),
        after_tool: Some(false),
        reply,
        ..Rule::default()
    };
    let refusing = |key: &str| {
        let body = json!({"error": {"message": format!("Incorrect API key provided: {key}. Bearer {key}")}});
        Reply::fault(Fault::Status { status: 401, body: body.to_string() })
    };
    let show = json!({"command": "env; tr '\\0' '\\n' </proc/self/environ"});
    let hold = json!({"command": "exec sleep 600", "background": true});
    Script {
        rules: vec![
            when("refuse literal", refusing(PROVIDER_KEY)),
            when("refuse dotenv", refusing(ENV_FILE_KEY)),
            when("refuse reference", refusing(ENV_KEY)),
            when("show", Reply::call("exec", show)),
            when("hold", Reply::call("exec", hold)),
            when("poll", Reply::call("process", json!({"action": "list"}))),
        ],
        ..Script::default()
    }
}

/// A device that pairs itself; gives its token.
async fn paired(gateway: &TestGateway) -> String {
    let mut client = WsClient::open(gateway.port).await.expect("the gateway answers");
    let mut params = cli_params(3);
    let nonce = client.nonce();
    params["device"] = Device::new().proof(&params, &nonce, TOKEN);
    let hello = client.connect(params).await.expect("hello");
    hello["auth"]["deviceToken"].as_str().expect("a token").to_owned()
}

fn pid_of(gateway: &TestGateway, name: &str) -> Option<u32> {
    gateway.workers(name).first().copied()
}

/// Everything that can go wrong with a secret at hand. Gives all that the client was told.
async fn trouble(gateway: &TestGateway, telegram: &TelegramServer) -> String {
    let mut listener = WsClient::with_tools(gateway.port).await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let mut told = String::new();
    for provider in ["literal", "dotenv", "reference"] {
        let session = format!("agent:main:{provider}");
        let params = json!({"key": session, "model": format!("{provider}/m1")});
        client.call("sessions.patch", params).await.expect("another model");
        told += &client.chat(&session, "hello").await.to_string();
        told += &client.chat(&session, &format!("refuse {provider}")).await.to_string();
    }
    for text in ["show", "poll"] {
        told += &client.chat("main", text).await.to_string();
    }
    // The network fails in the middle of a call whose address holds the token.
    telegram.fault("sendMessage", 2, TelegramFault::CutBefore);
    telegram.push_text(7001, 7001, "from telegram");
    let patience = std::time::Duration::from_secs(60);
    telegram.wait_for("an answer", patience, |server| !server.visible_texts(7001).is_empty()).await;
    for name in ["openclaw-agent [agent:main]", "openclaw-channel"] {
        let pid = gateway.worker(name).await;
        let (found, _) = in_processes(&[], pid);
        assert!(found.is_empty());
        told += &client
            .call("workers.dump", json!({"id": worker_id(name)}))
            .await
            .unwrap_or_else(|error| error)
            .to_string();
        kill(Pid::from_raw(pid as i32), Signal::SIGABRT).expect("a process of this test");
        wait::until("it starts again", async || pid_of(gateway, name).filter(|now| *now != pid)).await;
    }
    for (method, params) in [
        ("config.get", json!({})),
        ("status", json!({})),
        ("health", json!({"probe": true})),
        ("channels.status", json!({"probe": true})),
        ("models.list", json!({})),
        ("sessions.list", json!({})),
        ("logs.tail", json!({"limit": 5000})),
        ("workers.list", json!({})),
        ("system-presence", json!({})),
        ("chat.history", json!({"sessionKey": "main"})),
    ] {
        let answer = client.call(method, params).await.unwrap_or_else(|error| error);
        told += &answer.to_string();
    }
    listener.call("health", json!({})).await.expect("health");
    for event in listener.events.iter().chain(&client.events) {
        told += &event.to_string();
    }
    told
}

fn worker_id(name: &str) -> &'static str {
    if name.contains("agent") { "agent:main" } else { "channel:telegram:default" }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_anywhere() {
    let (model, telegram) = (ModelServer::start(script()).await, TelegramServer::start().await);
    let mut wanted = json!({});
    merge(&mut wanted, &config(&model, &telegram));
    let gateway = TestGateway::builder()
        .config(wanted)
        .env("PLANTED_KEY", ENV_KEY)
        .env("HTTPS_PROXY", &format!("http://me:{PROXY_PASSWORD}@127.0.0.1:9"))
        .file(".openclaw/.env", &format!("PLANTED_KEY_IN_FILE={ENV_FILE_KEY}\n"))
        .start()
        .await;
    let device_token = paired(&gateway).await;
    let secrets = planted(&telegram, &device_token);
    let told = trouble(&gateway, &telegram).await;
    let shown = model.book().iter().any(|entry| entry.body.to_string().contains("PATH=/"));
    assert!(shown, "a command showed its environment to the model");
    WsClient::with_tools(gateway.port).await.chat("main", "hold").await;
    // The keys were really used.
    let keys: Vec<String> =
        model.book().iter().filter_map(|entry| entry.headers.get("authorization").cloned()).collect();
    for key in [PROVIDER_KEY, ENV_FILE_KEY, ENV_KEY] {
        assert!(keys.iter().any(|used| used.contains(key)), "{key} was never sent: {keys:?}");
    }
    let mut found: Vec<String> = found_in(&secrets, told.as_bytes())
        .iter()
        .map(|name| format!("{name} in an answer or event"))
        .collect();
    let printed = gateway.log();
    found.extend(found_in(&secrets, printed.as_bytes()).iter().map(|name| format!("{name} in the output")));
    for command in
        [&["status", "--deep"][..], &["doctor"], &["health"], &["workers"], &["channels", "status"]]
    {
        let output = gateway.cli(command);
        let text = [output.stdout, output.stderr].concat();
        found.extend(found_in(&secrets, &text).iter().map(|name| format!("{name} printed by {command:?}")));
    }
    let (in_processes, looked_at) = in_processes(&secrets, gateway.pid());
    assert!(looked_at >= 4, "the gateway, two workers and a command");
    found.extend(in_processes);
    let state = gateway.state_dir();
    assert!(
        std::fs::read_dir(state.join("crash")).is_ok_and(|dir| dir.count() >= 2),
        "both crashes were reported"
    );
    found.extend(in_files(&secrets, &state));
    assert!(found.is_empty(), "{found:#?}");
}

/// A proxy that asks for a password gets it, and it never stood in a worker's environment.
#[tokio::test]
async fn a_proxy_of_the_environment_is_used_with_its_password() {
    let model = ModelServer::start(Script::default()).await;
    let address = model.openai_url();
    let host = address.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let beyond = address.replace(&host, "model.invalid");
    let gateway = TestGateway::builder()
        .config(json!({
            "models": {"mode": "merge", "providers": {"far": {"baseUrl": beyond, "apiKey": "k-0001",
                "api": "openai-completions", "models": [{"id": "m1", "name": "m1"}]}}},
            "agents": {"defaults": {"model": {"primary": "far/m1"}, "skipBootstrap": true}},
        }))
        .env("http_proxy", &format!("http://me:{PROXY_PASSWORD}@{host}"))
        .start()
        .await;
    let end = WsClient::cli(gateway.port, 4).await.chat("main", "hello").await;
    assert_eq!(end["state"], "final", "{end}");
    let book = model.book();
    let proof = book[0].headers.get("proxy-authorization").expect("it said who it is");
    assert!(proof.starts_with("Basic "), "{proof}");
    let secret = Planted { name: "it", value: PROXY_PASSWORD.into(), owners: &[] };
    let (found, _) = in_processes(&[secret], gateway.pid());
    assert!(found.is_empty(), "{found:?}");
}

/// The search itself finds what is there.
#[test]
fn the_search_finds() {
    let dir = tempfile::tempdir().expect("a directory");
    let secret = Planted { name: "it", value: "planted~x".into(), owners: &["own/"] };
    for place in ["own/a", "logs/b"] {
        let path = dir.path().join(place);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, "before planted~x after").expect("a file");
    }
    assert_eq!(in_files(&[secret], dir.path()), ["it in the file logs/b"]);
}
