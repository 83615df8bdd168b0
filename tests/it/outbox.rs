//! Replies that do not get through: what an operator sees of them and can do about it.

use std::time::{Duration, Instant};

use harness::gateway::{TestGateway, merge};
use harness::model_server::{ModelServer, Script};
use harness::telegram_server::{Fault, TelegramServer};
use harness::wait;
use serde_json::{Value, json};

use crate::recovery::model_config;

const PATIENCE: Duration = Duration::from_secs(120);
const ANN: i64 = 7001;
const BOB: i64 = 7002;

struct Scene {
    server: TelegramServer,
    _model: ModelServer,
    gateway: TestGateway,
}

impl Scene {
    async fn new(channel: Value) -> Self {
        let (server, model) = (TelegramServer::start().await, ModelServer::start(Script::default()).await);
        let mut config = model_config(&model);
        let mut telegram = json!({
            "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
            "streaming": "off",
        });
        merge(&mut telegram, &channel);
        let session = json!({"dmScope": "per-channel-peer"});
        merge(&mut config, &json!({"channels": {"telegram": telegram}, "session": session}));
        let gateway = TestGateway::builder().config(config).start().await;
        Self { server, _model: model, gateway }
    }

    fn command(&self, args: &[&str]) -> Value {
        let output = self.gateway.cli(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("one document")
    }

    async fn row(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, async || {
            let listed = self.command(&["outbox"]);
            listed["outbox"].as_array()?.iter().find(|row| is(row)).cloned()
        })
        .await
    }

    async fn answered(&self, chat: i64, text: &str) {
        let shown =
            |server: &TelegramServer| server.visible_texts(chat).iter().any(|shown| shown.contains(text));
        self.server.wait_for(text, PATIENCE, shown).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_waits_can_be_hurried_or_given_up() {
    let scene = Scene::new(json!({})).await;
    scene.server.fault("sendMessage", 1_000, Fault::Refuse(502, "Bad Gateway".to_owned()));
    scene.server.push_text(ANN, ANN, "hello from ann");
    scene.server.push_text(BOB, BOB, "hello from bob");
    let waits = |chat: i64| {
        let chat = chat.to_string();
        move |row: &Value| row["chat"].as_str() == Some(chat.as_str()) && row["attempts"] != 0
    };
    let ann = scene.row("ann's reply waits", waits(ANN)).await;
    let bob = scene.row("bob's reply waits", waits(BOB)).await;
    assert!(ann["text"].as_str().is_some_and(|text| text.contains("hello from ann")), "{ann}");
    let table = String::from_utf8_lossy(&scene.gateway.cli(&["outbox"]).stdout).into_owned();
    assert!(table.contains(ann["id"].as_str().expect("an id")), "{table}");

    let shown = scene.command(&["outbox", "show", ann["id"].as_str().expect("an id")]);
    assert_eq!((&shown["class"], &shown["onUnknown"]), (&json!("C"), &json!("resend")), "{shown}");
    // Refused while it is being tried.
    wait::until("bob's reply is given up", async || {
        let output = scene.gateway.cli(&["outbox", "discard", bob["id"].as_str()?]);
        output.status.success().then_some(())
    })
    .await;
    scene.server.heal();
    wait::until("ann's reply is hurried, or was quicker", async || {
        let ann = ann["id"].as_str()?;
        let hurried = scene.gateway.cli(&["outbox", "retry", ann]).status.success();
        (hurried || scene.command(&["outbox", "show", ann])["state"] == "delivered").then_some(())
    })
    .await;
    scene.answered(ANN, "hello from ann").await;
    let given_up = scene.row("bob's reply is given up", |row| row["state"] == "failed").await;
    assert_eq!((&given_up["id"], &given_up["why"]), (&bob["id"], &json!("given up by hand")));
    assert_eq!(scene.command(&["dead-letters"])["count"], 0, "somebody decided already");
    scene.server.push_text(BOB, BOB, "second from bob");
    scene.answered(BOB, "second from bob").await;
    assert!(scene.server.visible_texts(BOB).iter().all(|text| !text.contains("hello from bob")));
    let delivered = scene.command(&["outbox", "list", "--delivered", "--account", "telegram:default"]);
    assert!(delivered["count"].as_u64() >= Some(3), "{delivered}");
    let unknown = scene.gateway.cli(&["outbox", "show", "nonsense"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("must be the id of a delivery"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hurried_reply_still_heeds_the_pause_that_the_network_asked_for() {
    let scene = Scene::new(json!({})).await;
    let pause = Duration::from_secs(4);
    scene.server.fault("sendMessage", 1, Fault::RateLimit(pause.as_secs()));
    scene.server.push_text(ANN, ANN, "hello");
    wait::until("the network asks for a pause", async || {
        (!scene.server.calls("sendMessage").is_empty()).then_some(())
    })
    .await;
    let asked = Instant::now();
    let ann = scene.row("the reply waits", |row| row["attempts"] != 0 && row["state"] == "pending").await;
    scene.command(&["outbox", "retry", ann["id"].as_str().expect("an id")]);
    scene.answered(ANN, "hello").await;
    assert!(asked.elapsed() > pause - Duration::from_secs(1), "a second stands for seeing the refusal late");
    assert_eq!(scene.server.calls("sendMessage").len(), 2, "refused, and sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_the_network_refuses_is_a_dead_letter_until_a_person_decides() {
    let scene = Scene::new(json!({"onUnknown": "hold"})).await;
    scene.server.fault(
        "sendMessage",
        1,
        Fault::Refuse(403, "Forbidden: bot was blocked by the user".to_owned()),
    );
    scene.server.push_text(ANN, ANN, "hello");
    let letter = wait::until("a dead letter", async || {
        let listed = scene.command(&["dead-letters"]);
        listed["deadLetters"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(letter["kind"], "outbox", "{letter}");
    assert!(letter["why"].as_str().is_some_and(|why| why.contains("blocked")), "{letter}");
    let id = letter["id"].to_string();
    let shown = scene.command(&["dead-letters", "show", &id]);
    assert_eq!(shown["message"]["onUnknown"], "hold", "{shown}");
    scene.command(&["dead-letters", "retry", &id]);
    scene.answered(ANN, "hello").await;
    assert_eq!(scene.command(&["dead-letters"])["count"], 0);
}
