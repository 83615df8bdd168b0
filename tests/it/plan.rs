//! What an operator is told of a configuration before, while and after it is refused: by the plan, by `validate`, by a start,
//! by commands side by side. The same reasons everywhere, with the key, the place and the remedy.

use harness::executables;
use harness::gateway::{TOKEN, TestGateway, merge};
use harness::telegram_server::TelegramServer;
use harness::wait;
use harness::ws_client::WsClient;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Output, Stdio};

use crate::reload::{edit, put, settled, settles_fast, state};

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// What a command says, and its exit code.
fn run(gateway: &TestGateway, words: &[&str]) -> (String, Option<i32>) {
    let output = gateway.cli(words);
    (said(&output), output.status.code())
}

/// Waits until the gateway refuses the file, and gives its reasons.
async fn refusal(client: &mut WsClient, what: &str) -> Vec<String> {
    let active = state(client, what, |active| active["state"] == "invalid" && active["errors"] != json!([]));
    let active = active.await;
    let errors = active["errors"].as_array().expect("a list").iter();
    errors.map(|error| error.as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn plan_and_validate_give_the_very_reasons_of_the_reload() {
    let config = json!({"agents": {"list": [{"id": "main"}]}});
    let gateway = TestGateway::builder().config(config).config(settles_fast()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let good = fs::read_to_string(gateway.config_path()).expect("the config");
    let home = gateway.home.path();
    let bad = [
        (json!({"channels": {"telegram": {"botToken": "${NO_SUCH_TOKEN}"}}}), "NO_SUCH_TOKEN"),
        (json!({"gateway": {"prot": 1}}), "did you mean \"port\"?"),
        (json!({"isolation": {"min": "T1"}}), "\"T2\" is the strongest tier"),
        (json!({"gateway": {"bind": "lan", "auth": {"mode": "none", "token": null}}}), "without auth"),
        (
            json!({"agents": {"list": [{"id": "main", "isolation": {"readWrite": [home]}}]}}),
            "name a folder that",
        ),
    ];
    for (patch, wanted) in &bad {
        // Before it is in the file, as a patch: an object and a text.
        let asked = client.call("config.plan", json!({"patch": patch})).await.expect("config.plan");
        let as_text =
            client.call("config.plan", json!({"patch": patch.to_string()})).await.expect("config.plan");
        assert_eq!((&asked["valid"], &asked["issues"]), (&json!(false), &as_text["issues"]), "{asked}");
        put(&gateway, &good);
        edit(&gateway, patch);
        let reasons = refusal(&mut client, wanted).await;
        assert!(reasons.iter().any(|reason| reason.contains(wanted)), "{wanted}: {reasons:?}");
        let (plan, code) = run(&gateway, &["config", "plan"]);
        let (valid, valid_code) = run(&gateway, &["config", "validate"]);
        assert_eq!((code, valid_code), (Some(78), Some(78)), "{plan}\n{valid}");
        for reason in &reasons {
            assert!(plan.contains(&format!("! {reason}\n")), "{reason} is not in\n{plan}");
            assert!(valid.contains(&format!("  - {reason}\n")), "{reason} is not in\n{valid}");
        }
        assert_eq!(plan.matches("! ").count(), reasons.len(), "{plan}");
        assert!(!plan.contains("<number>:<letters>"), "{plan}");
    }
    fs::remove_file(gateway.config_path()).expect("removed");
    let reasons = refusal(&mut client, "the file is gone").await;
    let plan = client.call("config.plan", json!({})).await.expect("config.plan");
    assert_eq!((&plan["valid"], plan.get("changes")), (&json!(false), None), "{plan}");
    let (printed, code) = run(&gateway, &["config", "plan"]);
    assert!(code == Some(78) && printed.contains(&format!("! {}\n", reasons[0])), "{printed}");
    put(&gateway, &good);
    settled(&gateway, &mut client).await;
    for wrong in
        [json!({"patch": 5}), json!({"patch": "5"}), json!({"raw": {}}), json!({"raw": "{}", "patch": "{}"})]
    {
        client.call("config.plan", wrong.clone()).await.expect_err(&wrong.to_string());
    }
}

const BOT: &str = "SOME_BOT_TOKEN";

fn bot(server: &TelegramServer, token: &str) -> Value {
    json!({"channels": {"telegram": {"botToken": token, "apiRoot": server.api_root()}}})
}

/// Names the key, the variable and where variables come from, and does not blame the network.
fn names_the_variable(text: &str) {
    for word in ["channels.telegram.botToken", BOT, "/.env", "/service.env", "environment"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    assert!(!text.contains("refused by its network") && !text.contains("logged in"), "{text}");
}

#[tokio::test]
async fn a_secret_that_is_missing_at_a_start_is_named_and_costs_only_its_channel() {
    let server = TelegramServer::start().await;
    let mut config = settles_fast();
    merge(&mut config, &bot(&server, &format!("${{{BOT}}}")));
    let mut gateway = TestGateway::builder().config(config).start().await;
    let client = &mut WsClient::cli(gateway.port, 4).await;
    let shown = wait::until("the channel says what it wants", async || {
        let (shown, _) = run(&gateway, &["status"]);
        shown.contains("channel:telegram:default: quarantined").then_some(shown)
    })
    .await;
    names_the_variable(&shown);
    settled(&gateway, client).await;
    client.chat("main", "hello").await;
    names_the_variable(&run(&gateway, &["config", "validate"]).0);
    let log = gateway.log();
    names_the_variable(&log);
    assert!(!log.contains("worker died") && !log.contains("<number>"), "{log}");
    // From where a service gets it too.
    fs::write(gateway.state_dir().join("service.env"), format!("{BOT}=\"{}\"\n", server.token()))
        .expect("written");
    gateway.terminate();
    gateway.restart().await;
    wait::until("the channel is up", async || {
        run(&gateway, &["channels", "status"]).0.contains("connected,").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_service_whose_file_misses_a_secret_goes_on_with_the_last_good_one() {
    let server = TelegramServer::start().await;
    let builder = TestGateway::builder().config(settles_fast()).config(bot(&server, server.token()));
    let mut gateway = builder.arg("--service").start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    gateway.terminate();
    edit(&gateway, &bot(&server, &format!("${{{BOT}}}")));
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let reasons = refusal(&mut client, "the file is refused").await;
    names_the_variable(&reasons.join("\n"));
    let (shown, _) = run(&gateway, &["status"]);
    assert!(shown.contains("running lastGood"), "{shown}");
    names_the_variable(&gateway.log());
    wait::until("the bot of the last good one is up", async || {
        run(&gateway, &["channels", "status"]).0.contains("connected,").then_some(())
    })
    .await;
    let (told, code) = run(&gateway, &["restart"]);
    assert_eq!(code, Some(78), "{told}");
    // A start reads the variables anew, and a restart is one.
    fs::write(gateway.state_dir().join(".env"), format!("{BOT}={}\n", server.token())).expect("written");
    let (told, code) = run(&gateway, &["restart"]);
    assert_eq!(code, Some(0), "{told}");
    let mut client = WsClient::cli(gateway.port, 4).await;
    state(&mut client, "the file runs", |active| active["state"] == "ok" && active["source"] == "file").await;
}

#[tokio::test]
async fn commands_read_the_variables_of_the_service() {
    const OF_SERVICE: &str = "token-of-the-service-0123";
    let config = json!({"gateway": {"auth": {"mode": "token", "token": "${OPENCLAW_GATEWAY_TOKEN}"}}});
    let file = format!("OPENCLAW_GATEWAY_TOKEN=\"{OF_SERVICE}\"\n");
    // Like a service: the manager gave it the variable, a shell has none.
    let builder = TestGateway::builder().config(config).file(".openclaw/service.env", &file);
    let mut gateway = builder.env("OPENCLAW_GATEWAY_TOKEN", OF_SERVICE).start().await;
    for running in [true, false] {
        if !running {
            gateway.terminate();
        }
        let (valid, code) = run(&gateway, &["config", "validate"]);
        assert_eq!(code, Some(0), "{valid}");
        let (page, code) = run(&gateway, &["dashboard", "--no-open"]);
        assert!(code == Some(0) && page.contains(OF_SERVICE), "{page}");
        let (doctor, _) = run(&gateway, &["doctor"]);
        assert!(!doctor.contains("OPENCLAW_GATEWAY_TOKEN"), "{doctor}");
    }
    // The real environment stands before it.
    let mut asked = gateway.command(&["dashboard", "--no-open"]);
    let page = said(&asked.env("OPENCLAW_GATEWAY_TOKEN", "another-token-4567").output().expect("it runs"));
    assert!(page.contains("another-token-4567"), "{page}");
}

#[tokio::test]
async fn a_file_with_several_mistakes_says_so_and_a_start_names_the_right_remedy() {
    let mut gateway = TestGateway::builder().config(settles_fast()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    put(&gateway, "{gateway: {mode: 'local', prot: 1, bnid: 'x', port: 'y'}}");
    refusal(&mut client, "three mistakes").await;
    let (shown, _) = run(&gateway, &["status"]);
    assert!(shown.contains(", and 2 more (openclaw config validate); running"), "{shown}");
    gateway.terminate();
    put(&gateway, "{gateway: {mode: 'local'");
    let (told, code) = run(&gateway, &["up"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("openclaw.json:1:") && told.contains("up --use-last-good"), "{told}");
    assert!(!told.contains("doctor --fix") && told.contains("Correct the file"), "{told}");
    put(&gateway, "{gateway: {mode: 'local', prot: 1}}");
    let (told, _) = run(&gateway, &["up"]);
    assert!(told.contains("doctor --fix") && told.contains("--use-last-good"), "{told}");
    let (told, _) = run(&gateway, &["status"]);
    assert!(told.contains("config validate") && told.contains("openclaw gateway --use-last-good"), "{told}");
    let (page, code) = run(&gateway, &["dashboard", "--no-open"]);
    assert!(code == Some(0) && page.contains(TOKEN), "the gateway runs with the last good one: {page}");
    put(&gateway, "{gateway: {mode: 'local'");
    let (told, code) = run(&gateway, &["models"]);
    assert!(code == Some(1) && !told.contains("No model configured"), "{told}");
    let (told, _) = run(&gateway, &["doctor"]);
    assert!(told.contains("→ correct the file there"), "{told}");
}

/// Starts that many commands at once, each for a key of its own, and gives what they say.
fn side_by_side(gateway: &TestGateway, count: usize) -> Vec<Output> {
    let start = |n: usize| -> Child {
        let key = format!("agents.defaults.models[\"demo/m{n}\"].alias");
        let mut command = gateway.command(&["config", "set", &key, &format!("a{n}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    };
    let children: Vec<Child> = (0..count).map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().expect("it ends")).collect()
}

#[tokio::test]
async fn commands_that_set_different_keys_at_once_all_write() {
    const COMMANDS: usize = 8;
    let mut gateway = TestGateway::start().await;
    for running in [true, false] {
        if !running {
            gateway.terminate();
            edit(&gateway, &json!({"agents": {"defaults": {"models": null}}}));
        }
        for output in side_by_side(&gateway, COMMANDS) {
            let told = said(&output);
            assert!(output.status.success(), "running: {running}: {told}");
            assert!(!told.contains("EADDRINUSE"), "{told}");
        }
        let text = fs::read_to_string(gateway.config_path()).expect("the config");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let models = config["agents"]["defaults"]["models"].as_object().expect("an object");
        assert_eq!(models.len(), COMMANDS, "running: {running}: {text}");
    }
}

#[tokio::test]
async fn a_change_that_the_reload_would_refuse_is_not_even_written() {
    let mut gateway = TestGateway::start().await;
    let before = fs::read_to_string(gateway.config_path()).expect("the config");
    for running in [true, false] {
        if !running {
            gateway.terminate();
        }
        let set = ["config", "set", "channels.telegram.botToken", "${NO_SUCH_TOKEN}"];
        let (told, code) = run(&gateway, &set);
        assert_eq!(code, Some(1), "running: {running}: {told}");
        assert!(told.contains("set NO_SUCH_TOKEN in") && !told.contains("<number>"), "{told}");
        assert_eq!(fs::read_to_string(gateway.config_path()).expect("the config"), before);
    }
    // What is wrong already can be mended key by key.
    gateway.restart().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    edit(&gateway, &json!({"gateway": {"bind": "lan", "auth": {"mode": "none", "token": null}}}));
    refusal(&mut client, "an open gateway").await;
    let (told, code) = run(&gateway, &["config", "set", "agents.defaults.maxConcurrent", "3"]);
    assert_eq!(code, Some(0), "{told}");
    let (told, code) = run(&gateway, &["config", "set", "gateway.bind", "loopback"]);
    assert_eq!(code, Some(0), "{told}");
    // Clients go when the way in changes.
    wait::until("it is mended", async || (!run(&gateway, &["status"]).0.contains("! config:")).then_some(()))
        .await;
}

#[tokio::test]
async fn an_agent_that_is_given_the_gateways_own_files_is_told_to_take_another_folder() {
    let home = tempfile::tempdir().expect("a directory");
    let state = home.path().join("state");
    let config = json!({"agents": {"defaults": {"isolation": {"readWrite": [home.path()]}}}});
    let gateway = TestGateway::builder().config(config).state_dir(&state).start().await;
    let shown = wait::until("the agent is refused", async || {
        let (shown, _) = run(&gateway, &["status"]);
        shown.contains("agent:main: quarantined").then_some(shown)
    })
    .await;
    for text in [shown, gateway.log()] {
        assert!(text.contains("name a folder that does not contain the state directory"), "{text}");
        assert!(!text.contains("kernel with Landlock"), "{text}");
    }
    let (valid, code) = run(&gateway, &["config", "validate"]);
    assert!(code == Some(78) && valid.contains("agents.defaults.isolation.readWrite"), "{valid}");
}

#[tokio::test]
async fn what_goes_back_with_a_change_that_is_taken_back_is_named() {
    let config = json!({"gateway": {"reload": {"settleSeconds": 60, "debounceMs": 5}}, "agents": {"list": [{"id": "main"}]}});
    let gateway = TestGateway::builder().bin(executables::with_failpoints()).config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    // Accepted, and not settled yet.
    for patch in
        [json!({"agents": {"defaults": {"maxConcurrent": 3}}}), json!({"messages": {"ackReaction": "x"}})]
    {
        edit(&gateway, &patch);
        wait::until("it runs", async || {
            let plan = client.call("config.plan", json!({})).await.expect("config.plan");
            (plan["changes"] == json!([])).then_some(())
        })
        .await;
    }
    let place = gateway.home.path().join("w1");
    let theme = json!({"theme": "failpoint:ag.up=return(abort)"});
    edit(&gateway, &json!({"agents": {"list": [{"id": "main", "workspace": place, "identity": theme}]}}));
    let active = state(&mut client, "taken back", |active| active["state"] == "rolledBack").await;
    let error = active["errors"][0].as_str().unwrap_or_default();
    for key in ["agents.defaults.maxConcurrent", "messages.ackReaction", "agents.list"] {
        assert!(error.contains(key), "{key} is not named: {active}");
    }
    assert!(run(&gateway, &["status"]).0.contains("messages.ackReaction"));
}

#[tokio::test]
async fn a_start_after_one_that_was_refused_does_not_speak_of_a_crash() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let mut gateway = TestGateway::start().await;
    gateway.terminate();
    let port = std::mem::replace(&mut gateway.port, taken.local_addr().expect("bound").port());
    gateway.start_again();
    gateway.wait_exit();
    assert!(gateway.log().contains("already in use"), "{}", gateway.log());
    gateway.port = port;
    gateway.restart().await;
    assert!(!gateway.log().contains("not orderly"), "{}", gateway.log());
    gateway.kill9();
    gateway.restart().await;
    assert!(gateway.log().contains("not orderly"), "a crash is told: {}", gateway.log());
}

#[tokio::test]
async fn what_a_start_warned_of_is_not_repeated_by_every_change() {
    let config = json!({"gateway": {"auth": {"mode": "none", "token": null}}});
    let gateway = TestGateway::builder().config(settles_fast()).config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    for runs in [2, 3] {
        edit(&gateway, &json!({"agents": {"defaults": {"maxConcurrent": runs}}}));
        settled(&gateway, &mut client).await;
    }
    let log = gateway.log();
    assert_eq!(log.matches("Gateway auth mode=none").count(), 1, "{log}");
    let container = "running in a container with bind=loopback";
    assert!(log.matches(container).count() <= 1, "{log}");
    let (told, code) = run(&gateway, &["restart"]);
    assert_eq!(code, Some(0), "{told}");
    let log = gateway.log();
    assert!(log.matches(container).count() <= 1, "{log}");
}

#[tokio::test]
async fn exit_codes_are_those_of_the_table() {
    let gateway = TestGateway::builder().config(settles_fast()).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    settled(&gateway, &mut client).await;
    let code = |words: &[&str]| run(&gateway, words).1;
    for wrong in [
        &["pairing", "approve"][..],
        &["status", "--chek"],
        &["config", "st"],
        &["gateway", "config.get", "--no"],
    ] {
        assert_eq!(code(wrong), Some(64), "{wrong:?}");
    }
    for right in [
        &["--help"][..],
        &["pairing", "--help"],
        &["--version"],
        &["config", "validate"],
        &["config", "plan"],
    ] {
        assert_eq!(code(right), Some(0), "{right:?}");
    }
    put(&gateway, "{gateway: {mode: 'local', prot: 1}}");
    refusal(&mut client, "it is refused").await;
    let from = gateway.home.path().display().to_string();
    for refused in [
        &["config", "validate"][..],
        &["config", "plan"],
        &["restart"],
        &["update", "--from", &from, "--yes"],
    ] {
        assert_eq!(code(refused), Some(78), "{refused:?}");
    }
}
