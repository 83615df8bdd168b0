//! Deliveries and runs that end while the disk is full: what the journal could not note then is noted when there is room.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::gateway::{TestGateway, merge};
use harness::model_server::{ModelServer, Reply, Rule, Script};
use harness::small_disk::SmallDisk;
use harness::telegram_server::{Fault, TelegramServer};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::recovery::model_config;

const DISK_BYTES: u64 = 32 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(120);
const ANN: i64 = 7001;

struct Scene {
    server: TelegramServer,
    model: ModelServer,
    gateway: TestGateway,
    disk: SmallDisk,
}

/// Keeps the disk full, also after the journal's reserve was given up, until it is dropped.
struct Full<'a> {
    disk: &'a SmallDisk,
    stop: Option<SyncSender<()>>,
    filling: Option<JoinHandle<()>>,
}

/// Between two looks for space that became free.
const LOOK: Duration = Duration::from_millis(5);

impl<'a> Full<'a> {
    fn new(disk: &'a SmallDisk) -> Self {
        // Nothing is ever sent: it only tells of the end.
        let (stop, stopped) = sync_channel(0);
        let path = disk.path().to_owned();
        let filling = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                SmallDisk::fill_at(&path);
            }
        });
        Self { disk, stop: Some(stop), filling: Some(filling) }
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        self.stop.take();
        self.filling.take().map(JoinHandle::join);
        std::fs::remove_file(self.disk.path().join("filler")).ok();
    }
}

impl Scene {
    async fn new() -> Option<Self> {
        let disk = SmallDisk::mount(DISK_BYTES)?;
        let state = disk.path().to_owned();
        Some(Self::at(&state, disk, Script::default()).await)
    }

    /// Only the journal is on the small disk: the workers never wait for room.
    async fn with_journal_alone(state: &Path, script: Script) -> Option<Self> {
        let disk = SmallDisk::mount(DISK_BYTES)?;
        symlink(disk.path(), state.join("journal")).expect("a link");
        Some(Self::at(state, disk, script).await)
    }

    async fn at(state: &Path, disk: SmallDisk, script: Script) -> Self {
        let (server, model) = (TelegramServer::start().await, ModelServer::start(script).await);
        let mut config = model_config(&model);
        let telegram = json!({
            "botToken": server.token(), "apiRoot": server.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
            "streaming": "off",
        });
        merge(&mut config, &json!({"channels": {"telegram": telegram}}));
        let gateway = TestGateway::builder().state_dir(state).config(config).start().await;
        Self { server, model, gateway, disk }
    }

    /// A message whose reply is on its way to the network and stays there.
    async fn sending(&self, fault: Fault) {
        self.server.fault("sendMessage", 1, fault);
        self.server.push_text(ANN, ANN, "first");
        self.server.wait_for("the send", PATIENCE, |server| server.calls("sendMessage").len() == 1).await;
    }

    /// Fills the disk until the journal takes nothing any more: what it has of old space is used up first.
    async fn full(&self) -> Full<'_> {
        let full = Full::new(&self.disk);
        let mut client = WsClient::cli(self.gateway.port, 4).await;
        wait::until("the journal refuses", async || {
            let (key, message) = (uuid::Uuid::new_v4().to_string(), "x".repeat(50_000));
            let params = json!({"sessionKey": "agent:main:aside", "message": message, "idempotencyKey": key});
            client.call("chat.send", params).await.err()
        })
        .await;
        full
    }

    async fn logged(&self, text: &str) {
        let told = async || self.gateway.log().contains(text).then_some(());
        assert!(wait::within(PATIENCE, told).await.is_some(), "{text}: {}", self.gateway.log());
    }

    /// The chat goes on, and every reply stands in it once.
    async fn goes_on(&self) {
        self.server.push_text(ANN, ANN, "second");
        let shown = |text: &str| self.server.visible_texts(ANN).iter().filter(|t| t.contains(text)).count();
        self.server.wait_for("both replies", PATIENCE, |_| shown("second") > 0).await;
        assert_eq!((shown("first"), shown("second")), (1, 1), "{:?}", self.server.visible_texts(ANN));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_arrived_while_the_disk_was_full_does_not_hold_up_its_chat() {
    let Some(scene) = Scene::new().await else { return };
    scene.sending(Fault::Held).await;
    let full = scene.full().await;
    scene.server.heal();
    scene.logged("delivery not settled yet").await;
    drop(full);
    scene.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_whose_worker_died_while_the_disk_was_full_is_sent_by_the_next_one() {
    let Some(scene) = Scene::new().await else { return };
    scene.sending(Fault::HangBefore).await;
    let full = scene.full().await;
    let reserve = scene.disk.path().join("journal/reserve.bin");
    let worker = scene.gateway.worker("openclaw-channel").await;
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).expect("our own process");
    scene.logged("leases not taken back yet").await;
    drop(full);
    scene.goes_on().await;
    wait::until("the reserve is back", async || reserve.exists().then_some(())).await;
}

/// A model that speaks until the disk has been full for a while.
fn slow() -> Script {
    let reply = Reply {
        text: "one two three four five six".to_owned(),
        chunk_chars: 1,
        delay_ms: 150,
        ..Reply::default()
    };
    let rule = Rule { contains: Some("count".to_owned()), reply, ..Rule::default() };
    Script { rules: vec![rule], ..Script::default() }
}

async fn counting(scene: &Scene) -> WsClient {
    let mut client = WsClient::cli(scene.gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "count", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    wait::until("the model is asked", async || (!scene.model.book().is_empty()).then_some(())).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_worker_died_while_the_disk_was_full_is_answered_when_there_is_room() {
    let state = tempfile::tempdir().expect("a directory");
    let Some(scene) = Scene::with_journal_alone(state.path(), slow()).await else { return };
    let mut client = counting(&scene).await;
    let full = scene.full().await;
    let worker = scene.gateway.worker("[agent:main]").await;
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).expect("our own process");
    scene.logged("cannot note an interruption yet").await;
    drop(full);
    let end = client.chat_end("k").await;
    assert_eq!(chat_text(&end), "one two three four five six", "{end}");
}
