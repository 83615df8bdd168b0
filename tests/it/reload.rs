//! Editing the configuration of a running gateway: what changes takes effect, what does not stays as it is, and what is
//! wrong does no harm.

use harness::gateway::{TestGateway, free_port, merge};
use harness::model_server::{ModelServer, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use harness::{executables, http};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::recovery::model_config;

/// A configuration that is good when it has lived for a second.
pub fn settles_fast() -> Value {
    json!({"gateway": {"reload": {"settleSeconds": 1, "debounceMs": 50}}})
}

/// Merges into the file, as an editor that renames does.
pub fn edit(gateway: &TestGateway, patch: &Value) {
    let text = fs::read_to_string(gateway.config_path()).expect("the config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    merge(&mut config, patch);
    put(gateway, &config.to_string());
}

pub fn put(gateway: &TestGateway, text: &str) {
    let temporary = gateway.state_dir().join("edited.tmp");
    fs::write(&temporary, text).expect("write");
    fs::rename(temporary, gateway.config_path()).expect("rename");
}

/// `config.get`'s `active`, once it is as wanted.
pub async fn state(client: &mut WsClient, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, async || {
        let shown = client.call("config.get", json!({})).await.expect("config.get");
        wanted(&shown["active"]).then(|| shown["active"].clone())
    })
    .await
}

/// The file runs and is the last good one.
pub async fn settled(gateway: &TestGateway, client: &mut WsClient) {
    state(client, "the file runs", |active| active["state"] == "ok" && active["settling"] == false).await;
    let text = fs::read_to_string(gateway.config_path()).expect("the config");
    let kept = gateway.state_dir().join("config/last-good.json");
    wait::until("it is kept", async || (fs::read_to_string(&kept).ok()? == text).then_some(())).await;
}

fn fast(extra: Value) -> Value {
    let mut config = settles_fast();
    merge(&mut config, &extra);
    config
}

#[tokio::test]
async fn hot_keys_take_effect_without_a_restart_of_anything() {
    let model = ModelServer::start(Script::default()).await;
    let gateway = TestGateway::builder().config(fast(model_config(&model))).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "hello").await;
    let agent = gateway.worker("openclaw-agent").await;
    edit(
        &gateway,
        &json!({
            "models": {"providers": {"double": {"models": [
                {"id": "m1", "name": "m1", "contextWindow": 32000, "maxTokens": 1000},
                {"id": "m2", "name": "m2", "contextWindow": 32000, "maxTokens": 1000}]}}},
            "agents": {"defaults": {"model": {"primary": "double/m2"}, "maxConcurrent": 7}},
            "gateway": {"http": {"endpoints": {"chatCompletions": {"enabled": false}}}},
        }),
    );
    settled(&gateway, &mut client).await;
    let answer = client.chat("main", "again").await;
    assert!(!chat_text(&answer).is_empty(), "{answer}");
    let asked = model.book().last().cloned().expect("a request");
    assert_eq!(asked.body["model"], "m2", "the running worker has the new model");
    assert_eq!(gateway.worker("openclaw-agent").await, agent, "it keeps its process");
    let answer = http::get(gateway.port, "/v1/models", Some(harness::gateway::TOKEN)).await.expect("answers");
    assert_eq!(answer.status, 404, "the endpoint is off");
}

#[tokio::test]
async fn only_the_workers_that_a_change_concerns_are_replaced() {
    let agents = json!({"agents": {"list": [{"id": "main", "default": true}, {"id": "ops"}]}});
    let gateway = TestGateway::builder().config(fast(agents)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("agent:ops:main", "hello").await;
    let (main, ops) = (gateway.worker("agent:main").await, gateway.worker("agent:ops").await);
    let place = gateway.home.path().join("elsewhere");
    edit(
        &gateway,
        &json!({"agents": {"list": [{"id": "main", "default": true},
        {"id": "ops", "workspace": place}, {"id": "third"}]}}),
    );
    settled(&gateway, &mut client).await;
    assert_eq!(gateway.worker("agent:main").await, main);
    client.chat("agent:ops:main", "hello").await;
    assert_ne!(gateway.worker("agent:ops").await, ops, "another folder is another process");
    assert!(place.join("AGENTS.md").exists());
    client.chat("agent:third:main", "hello").await;
    edit(&gateway, &json!({"agents": {"list": [{"id": "main", "default": true}]}}));
    wait::until("agents that are gone stop", async || (gateway.workers("agent:").len() == 1).then_some(()))
        .await;
    assert_eq!(gateway.worker("agent:main").await, main);
}

#[tokio::test]
async fn the_port_moves_without_a_closed_connection() {
    let mut gateway = TestGateway::builder().config(settles_fast()).port_in_config().start().await;
    let (mut client, pid) = (WsClient::cli(gateway.port, 4).await, gateway.worker("agent:main").await);
    let (old, new) = (gateway.port, free_port());
    edit(&gateway, &json!({"gateway": {"port": new}}));
    settled(&gateway, &mut client).await;
    gateway.port = new;
    gateway.ready().await;
    client.chat("main", "over the old connection").await;
    WsClient::cli(new, 4).await.chat("main", "over a new one").await;
    wait::until("the old port is free", async || TcpListener::bind(("127.0.0.1", old)).ok().map(drop)).await;
    assert_eq!(gateway.worker("agent:main").await, pid);

    // The same port on all addresses overlaps with what is open.
    edit(&gateway, &json!({"gateway": {"bind": "lan"}}));
    settled(&gateway, &mut client).await;
    WsClient::cli(new, 4).await.chat("main", "still here").await;

    // A port that somebody else has: nothing moves.
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    edit(&gateway, &json!({"gateway": {"port": port}}));
    let active = state(&mut client, "refused", |active| active["state"] == "rolledBack").await;
    assert!(active["errors"][0].as_str().is_some_and(|error| error.contains("gateway.port")), "{active}");
    WsClient::cli(new, 4).await.chat("main", "where it was").await;
}

#[tokio::test]
async fn while_the_file_is_wrong_everything_says_so() {
    let gateway = TestGateway::builder().config(settles_fast()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let good = fs::read_to_string(gateway.config_path()).expect("the config");
    let broken = "{\n  gateway: {\n    prot: 1,\n  },\n}";
    put(&gateway, broken);
    let event = client.event_where("health", |payload| payload["config"]["state"] == "invalid").await;
    let line = event["payload"]["config"]["line"].as_str().unwrap_or_default().to_owned();
    assert!(line.starts_with("INVALID since ") && line.contains("openclaw.json:3:5 gateway"), "{line}");
    let late = WsClient::cli(gateway.port, 4).await;
    assert_eq!(late.hello["snapshot"]["health"]["config"]["state"], "invalid", "{}", late.hello);
    let text = |args: &[&str]| {
        let output = gateway.cli(args);
        let all = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&all).into_owned(), output.status.code())
    };
    let (shown, code) = text(&["status"]);
    assert!(shown.starts_with("! config: INVALID since "), "{shown}");
    assert_eq!((code, text(&["status", "--check"]).1), (Some(0), Some(2)));
    assert_eq!(text(&["config", "validate"]).1, Some(78));
    let (said, code) = text(&["restart"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("openclaw.json:3:5") && said.contains("--anyway"), "{said}");
    let log = fs::read_to_string(gateway.state_dir().join("logs/gateway.log")).expect("the log");
    assert!(log.contains("config reload skipped (invalid config): openclaw.json:3:5 gateway"), "{log}");
    assert_eq!(fs::read_to_string(gateway.config_path()).expect("the config"), broken);
    wait::until("the text and its errors are kept", async || {
        let names = fs::read_dir(gateway.state_dir().join("config/rejected")).ok()?.flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        (names.len() == 2 && names.iter().any(|name| name.ends_with(".errors.txt"))).then_some(())
    })
    .await;
    client.chat("main", "hello").await;
    put(&gateway, &good);
    settled(&gateway, &mut client).await;
    let (shown, _) = text(&["status"]);
    assert!(!shown.contains("config: "), "{shown}");
}

#[tokio::test]
async fn a_bot_that_its_network_refuses_does_not_replace_one_that_works() {
    let server = TelegramServer::start().await;
    let bot =
        |token: &str| json!({"channels": {"telegram": {"botToken": token, "apiRoot": server.api_root()}}});
    let gateway = TestGateway::builder().config(fast(bot(server.token()))).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let worker = gateway.worker("channel:telegram").await;
    edit(&gateway, &bot("4242:AAHnobodyhasthistokennobodyhasthistok"));
    let active = state(&mut client, "refused", |active| active["state"] == "rolledBack").await;
    let error = active["errors"][0].as_str().unwrap_or_default();
    assert!(error.contains("channels.telegram.botToken") && error.contains("would not work"), "{active}");
    assert_eq!(gateway.worker("channel:telegram").await, worker);
    // Who may write is read for each message: nobody is restarted.
    edit(&gateway, &bot(server.token()));
    edit(&gateway, &json!({"channels": {"telegram": {"dmPolicy": "disabled"}}}));
    settled(&gateway, &mut client).await;
    assert_eq!(gateway.worker("channel:telegram").await, worker);
}

#[tokio::test]
async fn a_configuration_that_kills_its_agent_is_never_given_to_it_or_taken_back() {
    let config = fast(json!({"agents": {"list": [{"id": "main"}]}}));
    let bin = executables::with_failpoints();
    let gateway = TestGateway::builder().bin(bin).config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let main = gateway.worker("agent:main").await;
    let with = |theme: &str, place: &Path| json!({"agents": {"list": [{"id": "main", "workspace": place, "identity": {"theme": theme}}]}});
    let place = gateway.home.path().join("w1");
    edit(&gateway, &with("failpoint:ag.init=return(abort)", &place));
    let active = state(&mut client, "refused", |active| active["state"] == "rolledBack").await;
    assert!(active["errors"][0].as_str().is_some_and(|error| error.contains("a try of it died")), "{active}");
    assert_eq!(gateway.worker("agent:main").await, main, "the running one was not touched");
    // One that dies only once it is up passes the try, and is taken back.
    edit(&gateway, &with("failpoint:ag.up=return(abort)", &place));
    let active = state(&mut client, "taken back", |active| {
        active["state"] == "rolledBack" && active["errors"][0].as_str().is_some_and(|e| e.contains("died"))
    })
    .await;
    assert!(
        active["errors"][0].as_str().is_some_and(|error| error.starts_with("agent:main died")),
        "{active}"
    );
    client.chat("main", "hello").await;
}

#[tokio::test]
async fn the_reload_mode_decides_what_waits() {
    let gateway = TestGateway::builder().config(fast(json!({"gateway": {"reload": {"mode": "hot"}}})));
    let gateway = gateway.port_in_config().start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    edit(&gateway, &json!({"gateway": {"port": free_port()}, "agents": {"defaults": {"maxConcurrent": 3}}}));
    let active =
        state(&mut client, "half of it", |active| active["pending"] == json!(["gateway.port"])).await;
    assert_eq!(active["state"], "pending", "{active}");
    wait::until("the hot half runs", async || {
        let plan = client.call("config.plan", json!({})).await.expect("config.plan");
        (plan["changes"].as_array()?.len() == 1 && plan["decision"] == "wait").then_some(())
    })
    .await;
    edit(&gateway, &json!({"gateway": {"reload": {"mode": "off"}}, "session": {"scope": "global"}}));
    let active =
        state(&mut client, "none of it", |active| active["pending"].as_array().is_some_and(|p| p.len() > 1));
    assert_eq!(active.await["state"], "pending");
    let shown = String::from_utf8_lossy(&gateway.cli(&["status"]).stdout).into_owned();
    assert!(shown.contains("waits for a restart") && shown.contains("session.scope"), "{shown}");
}

#[tokio::test]
async fn a_plan_shows_what_would_happen_and_does_nothing() {
    let gateway = TestGateway::start().await;
    let before = fs::read_to_string(gateway.config_path()).expect("the config");
    let patch = "{agents: {defaults: {workspace: '~/other', maxConcurrent: 2}}, gateway: {tailscale: {resetOnExit: true}}}";
    let output = gateway.cli(&["config", "plan", "--patch", patch, "--json"]);
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let classes: Vec<_> =
        plan["changes"].as_array().expect("changes").iter().map(|c| c["class"].as_str()).collect();
    assert_eq!(classes, [Some("restart"), Some("worker-agent"), Some("hot")], "{plan}");
    assert_eq!(plan["workers"], json!([{"id": "agent:main", "action": "restart"}]));
    assert_eq!((&plan["decision"], &plan["mode"]), (&json!("restart"), &json!("hybrid")));
    let wrong = gateway.cli(&["config", "plan", "--patch", "{gateway: {port: 'x'}}"]);
    let said = String::from_utf8_lossy(&wrong.stdout).into_owned();
    assert_eq!(wrong.status.code(), Some(78), "{said}");
    assert!(said.contains("gateway.port: expected integer"), "{said}");
    assert_eq!(fs::read_to_string(gateway.config_path()).expect("the config"), before);
}

/// What writes of the gateway have not finished.
fn unfinished(gateway: &TestGateway) -> Vec<String> {
    let entries = fs::read_dir(gateway.state_dir()).expect("the state directory").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("openclaw.json.") && name.ends_with(".tmp")).collect()
}

/// Once more, without the fault.
async fn start_healed(gateway: &mut TestGateway) -> WsClient {
    gateway.start_again_in(&["/usr/bin/env", "-u", "OPENCLAW_FAILPOINTS"], None);
    gateway.ready().await;
    WsClient::cli(gateway.port, 4).await
}

#[tokio::test]
async fn a_change_that_is_cut_off_anywhere_leaves_one_whole_configuration() {
    for (point, written) in
        [("sv.cfg.tmp_written", false), ("sv.cfg.renamed", true), ("sv.cfg.mid_apply", true)]
    {
        let fault = format!("{point}=return(kill)");
        let builder = TestGateway::builder().bin(executables::with_failpoints()).config(settles_fast());
        let mut gateway = builder.env("OPENCLAW_FAILPOINTS", &fault).start().await;
        let mut client = WsClient::cli(gateway.port, 4).await;
        settled(&gateway, &mut client).await;
        let before = fs::read_to_string(gateway.config_path()).expect("the config");
        let shown = client.call("config.get", json!({})).await.expect("config.get");
        let raw = "{agents: {defaults: {maxConcurrent: 7}}}";
        client.send("config.patch", json!({"raw": raw, "baseHash": shown["hash"]})).await;
        assert_eq!(gateway.wait_exit().code(), None, "{point}: killed");
        assert_eq!(unfinished(&gateway).len(), usize::from(!written), "{point}");
        let text = fs::read_to_string(gateway.config_path()).expect("the config");
        assert_eq!(text != before, written, "{point}: {text}");
        let mut client = start_healed(&mut gateway).await;
        assert_eq!(unfinished(&gateway), Vec::<String>::new(), "{point}: swept");
        settled(&gateway, &mut client).await;
        let shown = client.call("config.get", json!({})).await.expect("config.get");
        let runs = &shown["config"]["agents"]["defaults"]["maxConcurrent"];
        assert_eq!(*runs == 7, written, "{point}: {runs}");
        client.chat("main", "hello").await;
    }
}

#[tokio::test]
async fn a_change_that_is_taken_back_stays_so_over_a_kill() {
    let config = fast(json!({"agents": {"list": [{"id": "main"}]}}));
    let builder = TestGateway::builder().bin(executables::with_failpoints()).config(config);
    let mut gateway = builder.env("OPENCLAW_FAILPOINTS", "sv.cfg.rollback=return(kill)").start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let place = gateway.home.path().join("w1");
    let theme = json!({"theme": "failpoint:ag.up=return(abort)"});
    edit(&gateway, &json!({"agents": {"list": [{"id": "main", "workspace": place, "identity": theme}]}}));
    assert_eq!(gateway.wait_exit().code(), None, "killed while it takes the change back");
    // The file is still the one that kills the agent: the start tries it, and goes back by itself.
    let mut client = start_healed(&mut gateway).await;
    let active = state(&mut client, "taken back", |active| active["state"] == "rolledBack").await;
    assert_eq!(active["source"], "lastGood", "{active}");
    client.chat("main", "hello").await;
}
