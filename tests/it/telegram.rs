//! A whole gateway with one bot: from what a person writes to what they see, over every death in between.

use std::time::Duration;

use harness::gateway::{TestGateway, merge};
use harness::model_server::{ModelServer, Reply, Script};
use harness::telegram_server::{Fault, Push, TelegramServer};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::recovery::model_config;

/// Two hundred turns on two cores.
const PATIENCE: Duration = Duration::from_secs(120);
/// A private chat: its id is the user's.
const ANN: i64 = 7001;
const BOB: i64 = 7002;
const GROUP: i64 = -1_001_234;
const PLACEHOLDER: &str = "…";

/// A bot that answers everybody in private, each person in a session of their own.
fn bot(server: &TelegramServer) -> Value {
    json!({
        "channels": {"telegram": {
            "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
        }},
        "session": {"dmScope": "per-channel-peer"},
        "messages": {"queue": {"mode": "followup", "debounceMs": 0, "cap": 100}},
    })
}

struct Scene {
    server: TelegramServer,
    model: ModelServer,
    gateway: TestGateway,
}

impl Scene {
    async fn new(script: Script, extra: Value) -> Self {
        let (server, model) = (TelegramServer::start().await, ModelServer::start(script).await);
        let mut config = model_config(&model);
        merge(&mut config, &bot(&server));
        merge(&mut config, &extra);
        let gateway = TestGateway::builder().config(config).start().await;
        Self { server, model, gateway }
    }

    async fn echo(extra: Value) -> Self {
        Self::new(Script::default(), extra).await
    }

    async fn shows(&self, what: &str, condition: impl Fn(&TelegramServer) -> bool) {
        self.server.wait_for(what, PATIENCE, condition).await;
    }

    /// Waits until a bot's message in this chat holds the text.
    async fn answered(&self, chat: i64, text: &str) {
        self.shows(text, |server| server.visible_texts(chat).iter().any(|shown| shown.contains(text))).await;
    }

    /// The only account, as `channels.status` shows it.
    async fn account(&self, params: Value) -> Value {
        account(&self.gateway, params).await
    }
}

async fn account(gateway: &TestGateway, params: Value) -> Value {
    let mut client = WsClient::cli(gateway.port, 4).await;
    let status = client.call("channels.status", params).await.expect("a status");
    status["channelAccounts"]["telegram"][0].clone()
}

async fn until_account(gateway: &TestGateway, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, async || Some(account(gateway, json!({})).await).filter(&is)).await
}

fn printed(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn kill9(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("our own process");
}

/// Without what nobody reads: placeholders that never became a text.
fn texts(shown: Vec<String>) -> (Vec<String>, usize) {
    let (empty, texts): (Vec<_>, Vec<_>) = shown.into_iter().partition(|text| text == PLACEHOLDER);
    (texts, empty.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_people_are_each_answered_once_and_in_order() {
    let scene = Scene::echo(json!({})).await;
    let (people, each) = (20, 10);
    for nth in 0..each {
        for person in 0..people {
            scene.server.push_text(8000 + person, 8000 + person, &format!("message <{nth}> of {person}"));
        }
    }
    let complete = |server: &TelegramServer| {
        (0..people).all(|person| {
            let (texts, _) = texts(server.visible_texts(8000 + person));
            texts.len() >= each && texts.iter().all(|text| text.starts_with("You said:"))
        })
    };
    scene.shows("all answers", complete).await;
    for person in 0..people {
        let (texts, empty) = texts(scene.server.visible_texts(8000 + person));
        let wanted: Vec<String> = (0..each).map(|nth| format!("message <{nth}> of {person}")).collect();
        let in_order = texts.iter().zip(&wanted).all(|(text, wanted)| text.contains(wanted));
        let asked: Vec<String> = scene
            .model
            .book()
            .iter()
            .filter_map(|entry| {
                let text = entry.body["messages"].as_array()?.last()?["content"].to_string();
                text.contains(&format!("of {person}\"")).then_some(text)
            })
            .collect();
        assert!(texts.len() == each && in_order && empty == 0, "{texts:#?}; the model was asked {asked:#?}");
    }
    assert_eq!(scene.model.book().len(), 200, "one request to the model for each message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reply_is_cut_between_lines_and_its_code_stays_code() {
    let lines: String =
        (0..300).map(|n| format!("let line_{n:03} = \"twenty-four characters\";\n")).collect();
    let text = format!("Here it is:\n\n```rust\n{lines}```\n\nThat was all.");
    assert!(text.len() > 9000);
    let script = Script { otherwise: Reply { chunk_chars: 500, ..Reply::text(text) }, ..Script::default() };
    let scene = Scene::new(script, json!({})).await;
    scene.server.push_text(ANN, ANN, "write a lot");
    scene.answered(ANN, "That was all.").await;
    let shown = scene.server.visible(ANN);
    assert!(shown.len() >= 3, "{} messages", shown.len());
    for message in &shown {
        assert!(message.text.encode_utf16().count() <= 4096);
        let code = message.entities.iter().find(|entity| entity["type"] == "pre").expect("a code block");
        let (start, length) = (code["offset"].as_u64().unwrap(), code["length"].as_u64().unwrap());
        let units: Vec<u16> = message.text.encode_utf16().collect();
        let code = String::from_utf16(&units[start as usize..(start + length) as usize]).unwrap();
        assert!(code.lines().all(|line| line.starts_with("let line_") && line.ends_with(';')), "{code}");
    }
    let all: String = shown.iter().map(|message| message.text.as_str()).collect::<Vec<_>>().join("\n");
    let found = (0..300).filter(|n| all.matches(&format!("line_{n:03} ")).count() == 1).count();
    assert_eq!(found, 300, "every line once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_answered_when_the_bot_is_named_and_then_with_what_was_said() {
    let group = json!({"channels": {"telegram": {"groupPolicy": "open"}}});
    let scene = Scene::echo(group).await;
    scene.server.push(Push::group(GROUP, ANN, "the picnic is on Sunday"));
    scene.server.push(Push::group(GROUP, BOB, "when is it?").mention());
    scene.answered(GROUP, "when is it?").await;
    let requests = scene.model.book();
    assert_eq!(requests.len(), 1, "what was not meant for it is not answered");
    let prompt = requests[0].body.to_string();
    assert!(prompt.contains("the picnic is on Sunday"), "but it is context: {prompt}");
    assert_eq!(scene.server.visible(GROUP).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_one_code_and_is_let_in_by_it_at_once() {
    let pairing = json!({"channels": {"telegram": {"dmPolicy": "pairing", "allowFrom": null}}});
    let scene = Scene::echo(pairing).await;
    for text in ["hello", "is anybody there?"] {
        scene.server.push_text(ANN, ANN, text);
    }
    scene.answered(ANN, "Pairing code:").await;
    let list = scene.gateway.cli(&["pairing", "list", "telegram", "--json"]);
    let list: Value = serde_json::from_str(&printed(&list)).expect("JSON");
    let request = &list["requests"][0];
    assert_eq!((&request["id"], &request["accountId"]), (&json!("7001"), &json!("default")), "{list}");
    let code = request["code"].as_str().expect("a code");
    assert!(
        scene.server.visible_texts(ANN)[0].contains(&format!("openclaw pairing approve telegram {code}"))
    );
    let refused = scene.gateway.cli(&["pairing", "approve", "telegram", "WRONGXYZ"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&refused.stderr)
            .contains("No pending pairing request found for code: WRONGXYZ")
    );
    let approved = scene.gateway.cli(&["pairing", "approve", "telegram", &code.to_lowercase(), "--notify"]);
    assert_eq!(printed(&approved), "Approved telegram sender 7001.\n");
    scene.answered(ANN, "access approved").await;
    scene.server.push_text(ANN, ANN, "now?");
    scene.answered(ANN, "You said:").await;
    let shown = scene.server.visible_texts(ANN);
    assert_eq!(shown.iter().filter(|text| text.contains("Pairing code")).count(), 1, "{shown:#?}");
    assert_eq!(shown.len(), 3, "{shown:#?}");
    let left = scene.gateway.cli(&["pairing", "list"]);
    assert_eq!(printed(&left), "No pending pairing requests.\n");
    let stored =
        std::fs::read_to_string(scene.gateway.state_dir().join("credentials/telegram-allowFrom.json"));
    let stored: Value = serde_json::from_str(&stored.expect("the list of the approved")).expect("JSON");
    assert_eq!(stored, json!({"version": 1, "allowFrom": ["7001"]}));
    printed(&scene.gateway.cli(&["pairing", "revoke", "telegram", "7001"]));
    scene.server.push_text(ANN, ANN, "and now?");
    scene.shows("a new code", |server| server.visible_texts(ANN).len() == 4).await;
    assert_eq!(scene.model.book().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_strangers_does_not_bury_the_first_three_and_files_do_while_stopped() {
    let pairing = json!({"channels": {"telegram": {"dmPolicy": "pairing", "allowFrom": null}}});
    let mut scene = Scene::echo(pairing).await;
    for person in 0..5 {
        scene.server.push_text(9000 + person, 9000 + person, "let me in");
    }
    scene.shows("everything was taken", |server| server.unconfirmed() == 0).await;
    scene.answered(9002, "Pairing code:").await;
    let told = (0..5).filter(|person| !scene.server.visible(9000 + person).is_empty()).count();
    assert_eq!(told, 3);
    assert!(scene.gateway.terminate().success());
    let list = printed(&scene.gateway.cli(&["pairing", "list", "telegram"]));
    assert!(list.starts_with("Pairing requests (3)\n") && list.contains("9001"), "{list}");
    let list = scene.gateway.cli(&["pairing", "list", "--json"]);
    let list: Value = serde_json::from_str(&printed(&list)).expect("JSON");
    let code = list["requests"][1]["code"].as_str().expect("a code");
    let approved = scene.gateway.cli(&["pairing", "approve", code, "--notify"]);
    assert_eq!(printed(&approved), "Approved telegram sender 9001.\n");
    assert!(String::from_utf8_lossy(&approved.stderr).contains("was not told"));
    scene.gateway.restart().await;
    scene.server.push_text(9001, 9001, "thank you");
    scene.answered(9001, "You said:").await;
}

/// A bot whose next edit of a placeholder is done but never answered, and a message to it.
async fn in_mid_send() -> Scene {
    let quiet = json!({"channels": {"telegram": {"streaming": {"mode": "off"}}}});
    let scene = Scene::echo(quiet).await;
    scene.server.fault("editMessageText", 1, Fault::HangAfter);
    scene.server.push_text(ANN, ANN, "the only one");
    scene.shows("a send under way", |server| !server.calls("editMessageText").is_empty()).await;
    scene
}

/// One complete reply, nothing else.
async fn is_complete(scene: &Scene) {
    scene.shows("the send is repeated", |server| server.calls("editMessageText").len() > 1).await;
    until_account(&scene.gateway, "the delivery is settled", |row| row["lastOutboundAt"].is_i64()).await;
    let (texts, empty) = texts(scene.server.visible_texts(ANN));
    assert!(texts.len() == 1 && texts[0].contains("the only one") && empty <= 1, "{texts:#?}, {empty} empty");
    assert_eq!(scene.model.book().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_worker_killed_in_mid_send_leaves_one_complete_reply() {
    let scene = in_mid_send().await;
    kill9(scene.gateway.worker("openclaw-channel").await);
    is_complete(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_worker_killed_before_it_knows_its_placeholder_leaves_at_most_that_one() {
    let quiet = json!({"channels": {"telegram": {"streaming": {"mode": "off"}}}});
    let scene = Scene::echo(quiet).await;
    scene.server.fault("sendMessage", 1, Fault::HangAfter);
    scene.server.push_text(ANN, ANN, "the only one");
    scene.shows("a placeholder", |server| !server.calls("sendMessage").is_empty()).await;
    kill9(scene.gateway.worker("openclaw-channel").await);
    scene.answered(ANN, "the only one").await;
    let (texts, empty) = texts(scene.server.visible_texts(ANN));
    assert_eq!((texts.len(), empty), (1, 1), "{texts:#?}");
    let mut client = WsClient::cli(scene.gateway.port, 4).await;
    let info = client.call("system.info", json!({"gateway": true})).await.expect("info");
    assert_eq!(info["journal"]["orphanPlaceholders"], 1, "it is counted: {info}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_in_mid_send_completes_that_reply_after_its_restart() {
    let mut scene = in_mid_send().await;
    scene.gateway.kill9();
    scene.gateway.restart().await;
    is_complete(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bot_is_used_by_one_gateway_and_the_other_names_it() {
    let first = Scene::echo(json!({})).await;
    let up = |row: &Value| row["connected"] == true;
    until_account(&first.gateway, "the first is connected", up).await;
    let owner = first.gateway.worker("openclaw-channel").await;
    let second = TestGateway::builder().config(bot(&first.server)).start().await;
    let row = until_account(&second, "the second knows", |row| row["lastError"].is_string()).await;
    assert_eq!(row["lastError"], format!("session in use by pid {owner}"));
    assert_eq!((&row["running"], &row["connected"]), (&json!(true), &json!(false)));
    let shown = printed(&second.cli(&["channels", "status"]));
    assert!(shown.contains("disconnected") && shown.contains("error:session in use by pid"), "{shown}");
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_failures_of_the_network_delay_a_reply_and_lose_none() {
    let scene = Scene::echo(json!({})).await;
    scene.server.fault("sendMessage", 1, Fault::RateLimit(1));
    scene.server.fault("sendMessage", 1, Fault::Refuse(502, "Bad Gateway".into()));
    scene.server.fault("editMessageText", 1, Fault::Refuse(500, "Internal Server Error".into()));
    scene.server.push_text(ANN, ANN, "through thick and thin");
    scene.answered(ANN, "through thick and thin").await;
    let conflict =
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
    scene.server.fault("getUpdates", 1, Fault::Refuse(409, conflict.into()));
    scene.server.push_text(ANN, ANN, "wakes the poll");
    let row = until_account(&scene.gateway, "the conflict shows", |row| row["lastError"].is_string()).await;
    assert!(row["lastError"].as_str().is_some_and(|why| why.contains("Conflict")), "{row}");
    scene.answered(ANN, "wakes the poll").await;
    let (texts, empty) = texts(scene.server.visible_texts(ANN));
    assert_eq!((texts.len(), empty), (2, 0), "{texts:#?}");
    until_account(&scene.gateway, "it is over", |row| row["connected"] == true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_asks_the_network_and_marks_who_is_silent() {
    let scene = Scene::echo(json!({})).await;
    until_account(&scene.gateway, "connected", |row| row["connected"] == true).await;
    let human = printed(&scene.gateway.cli(&["channels", "status", "--probe"]));
    let wanted = "- Telegram default: enabled, configured, running, connected, ";
    assert!(human.starts_with(&format!("Gateway reachable.\n{wanted}")), "{human}");
    assert!(human.contains("mode:polling, dm:open, token:config, bot:@lobster_test_bot, works"), "{human}");
    assert!(!human.contains(scene.server.token()), "{human}");

    let json = scene.gateway.cli(&["channels", "status", "--probe", "--json"]);
    let status: Value = serde_json::from_str(&printed(&json)).expect("JSON");
    assert_eq!(status["channelOrder"], json!(["telegram"]));
    assert_eq!(status["channelMeta"][0]["label"], "Telegram");
    assert_eq!(status["channelDefaultAccountId"]["telegram"], "default");
    assert_eq!(status["channels"]["telegram"]["probe"]["ok"], true, "{status}");
    let row = &status["channelAccounts"]["telegram"][0];
    assert_eq!(row["probe"]["bot"]["id"], scene.server.bot_id());
    assert!(row["lastProbeAt"].as_i64() > Some(0), "{row}");

    scene.server.fault("getMe", 1, Fault::HangBefore);
    let mut client = WsClient::cli(scene.gateway.port, 4).await;
    let params = json!({"probe": true, "timeoutMs": 300});
    let status = client.call("channels.status", params).await.expect("an answer all the same");
    assert_eq!(status["channelAccounts"]["telegram"][0]["probe"]["ok"], false);
    let warning = "telegram:default did not answer the probe within 300 ms";
    assert_eq!((&status["partial"], &status["warnings"]), (&json!(true), &json!([warning])));
    assert_eq!(scene.account(json!({})).await["running"], true, "a slow network is no fault of the worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_message_is_sent_once_per_key() {
    let scene = Scene::echo(json!({})).await;
    scene.server.push_text(ANN, ANN, "hello");
    scene.answered(ANN, "hello").await;
    let mut client = WsClient::cli(scene.gateway.port, 4).await;
    let params =
        json!({"channel": "telegram", "to": "telegram:7001", "message": "**news**", "idempotencyKey": "k"});
    let sent = client.call("send", params.clone()).await.expect("sent");
    assert_eq!(
        (&sent["status"], &sent["runId"], &sent["chatId"]),
        (&json!("sent"), &json!("k"), &json!("7001"))
    );
    assert_eq!(client.call("send", params).await.expect("the same answer"), sent);
    let texts = scene.server.visible_texts(ANN);
    assert_eq!(texts.iter().filter(|text| *text == "news").count(), 1, "{texts:#?}");
    let last = scene.server.visible(ANN).last().map(|shown| shown.message_id.to_string());
    assert_eq!(sent["messageId"].as_str(), last.as_deref());

    let refusals = [
        (
            json!({"channel": "webchat", "to": "x", "message": "y", "idempotencyKey": "s1"}),
            "unsupported channel: webchat (internal-only). Use `chat.send` for WebChat UI messages or choose a deliverable channel.",
        ),
        (
            json!({"channel": "signal", "to": "x", "message": "y", "idempotencyKey": "s2"}),
            "unsupported channel: signal",
        ),
        (
            json!({"to": "7001", "message": "other", "idempotencyKey": "k"}),
            "idempotency key \"k\" was used with other parameters",
        ),
        (
            json!({"to": "7001", "idempotencyKey": "s3"}),
            "invalid send params: must have required property 'message'",
        ),
    ];
    for (params, wanted) in refusals {
        let refused = client.call("send", params).await.expect_err(wanted);
        assert_eq!((&refused["code"], &refused["message"]), (&json!("INVALID_REQUEST"), &json!(wanted)));
    }
    let unknown = json!({"to": "31337", "message": "who?", "idempotencyKey": "s4"});
    let refused = client.call("send", unknown).await.expect_err("no such chat");
    assert!(
        refused["message"].as_str().is_some_and(|why| why.starts_with("message not sent: ")),
        "{refused}"
    );
}
