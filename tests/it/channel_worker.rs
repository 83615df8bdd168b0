//! One Telegram account as a process, between a fake gateway and the Bot API double.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use harness::channel_worker::{ChannelWorker, Start};
use harness::executables;
use harness::telegram_server::{Fault, Push, TelegramServer};
use proto::wire::Id;
use proto::wire::channel::{
    ChannelPhase, ChannelToSup, ChatKind, Cursor, DraftDiscard, DraftOpen, DraftUpdate, MediaRef,
    OutboundItem, SendOutcome, Typing,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
/// A private chat: its id is the user's.
const ANN: i64 = 7001;
const GROUP: i64 = -1_001_234;

async fn program() -> PathBuf {
    let built = tokio::task::spawn_blocking(|| executables::directory().join("openclaw-channel"));
    built.await.expect("the executables build")
}

/// A server, a state folder, and a way to start workers on them.
struct Scene {
    server: TelegramServer,
    state: TempDir,
    program: PathBuf,
}

impl Scene {
    async fn new() -> Self {
        let server = TelegramServer::start().await;
        Self { server, state: tempfile::tempdir().expect("a folder"), program: program().await }
    }

    fn with(&self, extra: Value) -> Start<'_> {
        Start::telegram(&self.program, &self.server, self.state.path(), extra)
    }

    async fn worker(&self) -> ChannelWorker {
        ChannelWorker::start(self.with(json!({}))).await
    }

    /// A worker in a chat that knows the bot already.
    async fn worker_in_chat(&self, extra: Value) -> ChannelWorker {
        self.server.push_text(ANN, ANN, "hello");
        let mut worker = ChannelWorker::start(self.with(extra)).await;
        let hello = worker.inbound().await;
        worker.ack(&hello.ext_id);
        worker.state(ChannelPhase::Up).await;
        worker
    }

    fn cursor(&self, update_offset: i64) -> Option<Cursor> {
        let value = format!("{}:{update_offset}", self.server.bot_id());
        Some(Cursor { scope: "updates".into(), value })
    }
}

fn item(text: &str) -> OutboundItem {
    OutboundItem {
        out_id: Id::now(),
        chat: ANN.to_string(),
        text: text.to_owned(),
        two_phase: true,
        deadline_ms: 60_000,
        ..OutboundItem::default()
    }
}

fn ids(outcome: &SendOutcome) -> Vec<String> {
    match outcome {
        SendOutcome::Delivered { ext_ids } => ext_ids.clone(),
        other => panic!("expected Delivered: {other:?}"),
    }
}

#[tokio::test]
async fn the_network_is_told_only_after_the_journal_has_the_message() {
    let scene = Scene::new().await;
    scene.server.push_text(ANN, ANN, "first");
    let mut worker = scene.worker().await;
    let first = worker.inbound().await;
    assert_eq!((first.text.as_str(), first.chat.id.as_str()), ("first", "7001"));
    assert_eq!(first.cursor, scene.cursor(700_000_002));
    worker.kill().await;
    assert_eq!(scene.server.unconfirmed(), 1, "not acknowledged, so not confirmed");

    let mut worker = scene.worker().await;
    let again = worker.inbound().await;
    assert_eq!(again.ext_id, first.ext_id, "the same identity, for the journal's unique index");
    worker.ack(&again.ext_id);
    let confirmed = |server: &TelegramServer| server.unconfirmed() == 0 && server.offset() == 700_000_002;
    scene.server.wait_for("the offset moves after the ack", PATIENCE, confirmed).await;
    assert!(worker.stop().await.success());
}

#[tokio::test]
async fn a_refused_message_is_offered_again_and_holds_back_its_chat() {
    let scene = Scene::new().await;
    for text in ["one", "two"] {
        scene.server.push_text(ANN, ANN, text);
    }
    scene.server.push_text(7002, 7002, "other chat");
    let mut worker = scene.worker().await;
    let (mut texts, mut refused) = (Vec::new(), false);
    while texts.len() < 3 {
        let message = worker.inbound().await;
        if message.text == "one" && !refused {
            refused = true;
            worker.nack(&message.ext_id, 300);
            continue;
        }
        assert_eq!(message.cursor, None, "with several messages the position moves at the end");
        texts.push(message.text.clone());
        worker.ack(&message.ext_id);
    }
    assert_eq!(texts, ["other chat", "one", "two"]);
    match worker.next().await.0 {
        ChannelToSup::CursorMoved(moved) => assert_eq!(Some(moved.cursor), scene.cursor(700_000_004)),
        other => panic!("expected the cursor: {other:?}"),
    }
}

#[tokio::test]
async fn a_known_position_is_where_polling_starts() {
    let scene = Scene::new().await;
    scene.server.push_text(ANN, ANN, "old");
    scene.server.push_text(ANN, ANN, "new");
    let cursor = format!("{}:700000002", scene.server.bot_id());
    let mut worker = ChannelWorker::start(scene.with(json!({})).cursor(Some(&cursor))).await;
    assert_eq!(worker.inbound().await.text, "new");
    worker.kill().await;

    let other = TelegramServer::start().await;
    other.push_text(ANN, ANN, "of another bot");
    let start = Start::telegram(&scene.program, &other, scene.state.path(), json!({}));
    let mut worker = ChannelWorker::start(start.cursor(Some(&cursor))).await;
    assert_eq!(worker.inbound().await.text, "of another bot", "a position of another bot hides nothing");
}

#[tokio::test]
async fn groups_are_reported_with_facts() {
    let scene = Scene::new().await;
    let server = &scene.server;
    server.push(Push::group(GROUP, 8, "to nobody").topic(5));
    server.push(Push::group(GROUP, 8, "hello").mention().topic(5));
    server.push(Push::group(GROUP, 8, "hey CLAWD, you there?").forwarded_from("Bob"));
    let mut worker = scene.worker().await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        let message = worker.inbound().await;
        worker.ack(&message.ext_id);
        heard.push(message);
    }
    let threads: Vec<_> = heard.iter().map(|m| m.chat.thread.as_deref().unwrap_or_default()).collect();
    assert_eq!(threads, ["5", "5", "1"], "the General topic is number 1");
    assert_eq!(heard.iter().map(|m| m.mentioned).collect::<Vec<_>>(), [false, true, true]);
    assert!(heard.iter().all(|m| m.chat.kind == ChatKind::Group && m.chat.id == GROUP.to_string()));
    assert_eq!(heard[0].sender.username.as_deref(), Some("user8"));
    assert_eq!(heard[2].forwarded_from.as_deref(), Some("Bob"));

    let answer = OutboundItem { chat: GROUP.to_string(), thread: Some("5".into()), ..item("an answer") };
    while !matches!(worker.next().await.0, ChannelToSup::CursorMoved(_)) {}
    let (outcome, _) = worker.deliver(answer).await;
    let id: i64 = ids(&outcome)[0].parse().expect("a number");
    assert_eq!(server.visible(GROUP)[0].thread, Some(5));
    server.push(Push::group(GROUP, 8, "thanks").reply_to(id));
    let reply = worker.inbound().await;
    assert!(reply.reply_to_bot && !reply.mentioned);
    let quoted = reply.reply_to.expect("what it answers");
    assert_eq!((quoted.id, quoted.text.as_deref()), (id.to_string(), Some("an answer")));
}

#[tokio::test]
async fn edits_are_ignored_and_do_not_block() {
    let scene = Scene::new().await;
    let id = scene.server.push_text(ANN, ANN, "before");
    scene.server.push(Push::direct(ANN, "after").reply_to(id).edited());
    scene.server.push_text(ANN, ANN, "next");
    let mut worker = scene.worker().await;
    for text in ["before", "next"] {
        let message = worker.inbound().await;
        assert_eq!(message.text, text);
        worker.ack(&message.ext_id);
    }
}

#[tokio::test]
async fn pictures_are_stored_by_content_and_albums_arrive_whole() {
    let scene = Scene::new().await;
    let album = |text: &str, bytes: &[u8]| Push::direct(ANN, text).file("photo", bytes).media_group("a1");
    scene.server.push(album("two pictures", b"first"));
    scene.server.push(album("", b"second"));
    scene.server.push(Push::direct(ANN, "").file("document", &vec![b'x'; 200_000]));
    let mut worker = ChannelWorker::start(scene.with(json!({"mediaMaxMb": 0.1}))).await;
    let message = worker.inbound().await;
    assert_eq!(message.text, "two pictures");
    let stored =
        |media: &MediaRef| std::fs::read(scene.state.path().join(media.path.as_deref().unwrap())).unwrap();
    let contents: Vec<Vec<u8>> = message.media.iter().map(stored).collect();
    assert_eq!(contents, [b"first".to_vec(), b"second".to_vec()]);
    assert!(
        message
            .media
            .iter()
            .all(|media| media.kind == "image" && media.path.as_ref().unwrap().contains(&media.sha256))
    );
    worker.ack(&message.ext_id);
    let large = worker.inbound().await;
    assert!(large.media.is_empty());
    assert!(large.text.starts_with("<media:document>\n[document not loaded: larger than"), "{}", large.text);
}

#[tokio::test]
async fn a_long_text_that_was_cut_arrives_whole() {
    let scene = Scene::new().await;
    scene.server.push_text(ANN, ANN, &"a".repeat(4096));
    scene.server.push_text(ANN, ANN, &"b".repeat(100));
    let mut worker = scene.worker().await;
    let message = worker.inbound().await;
    assert_eq!(message.text, format!("{}{}", "a".repeat(4096), "b".repeat(100)));
}

#[tokio::test]
async fn a_reply_is_a_placeholder_that_becomes_the_text() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let answer = OutboundItem { reply_to: Some("1".into()), ..item("**Hi** `x < 1` see README.md") };
    let (outcome, placed) = worker.deliver(answer).await;
    let shown = scene.server.visible(ANN);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].history, ["…", "Hi x < 1 see README.md"]);
    let kinds: Vec<&str> = shown[0].entities.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["bold", "code", "code"]);
    assert_eq!(shown[0].reply_to, Some(1));
    assert_eq!(ids(&outcome), [shown[0].message_id.to_string()]);
    assert_eq!(placed, [shown[0].message_id.to_string()], "the id is noted before the text is sent");
}

#[tokio::test]
async fn no_go_ahead_no_byte() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    worker.tell(item("must not leave"));
    let (started, corr) = worker.next().await;
    assert!(matches!(started, ChannelToSup::SendStarted(_)));
    worker
        .link
        .reply_error(corr, proto::wire::WireError::unavailable("expired"))
        .expect("the request is open");
    match worker.next().await.0 {
        ChannelToSup::SendResult(result) => assert!(matches!(result.outcome, SendOutcome::Retry { .. })),
        other => panic!("expected a result: {other:?}"),
    }
    assert!(scene.server.calls("sendMessage").is_empty());
}

#[tokio::test]
async fn killed_with_the_edit_in_flight_the_next_worker_completes_one_message() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    scene.server.fault("editMessageText", 1, Fault::HangAfter);
    let row = item("the whole reply");
    worker.tell(row.clone());
    let (_, corr) = worker.next().await;
    worker.done(corr);
    let (placed, corr) = worker.next().await;
    let ChannelToSup::Placed(placed) = placed else { panic!("expected Placed: {placed:?}") };
    worker.done(corr);
    scene.server.wait_for("the edit", PATIENCE, |server| !server.calls("editMessageText").is_empty()).await;
    worker.kill().await;

    let mut worker = scene.worker().await;
    let (outcome, _) = worker.deliver(OutboundItem { prior: Some(placed.ext_id.clone()), ..row }).await;
    assert_eq!(ids(&outcome), [placed.ext_id]);
    assert_eq!(scene.server.visible_texts(ANN), ["the whole reply"]);
    let last = scene.server.calls("editMessageText").pop().expect("an edit");
    assert!(last.description.contains("message is not modified"), "repeating the edit changed nothing");
}

#[tokio::test]
async fn killed_before_the_placeholder_is_noted_only_an_empty_one_stays() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let row = item("the whole reply");
    worker.tell(row.clone());
    let (_, corr) = worker.next().await;
    worker.done(corr);
    assert!(matches!(worker.next().await.0, ChannelToSup::Placed(_)));
    worker.kill().await;

    let mut worker = scene.worker().await;
    worker.deliver(row).await;
    assert_eq!(scene.server.visible_texts(ANN), ["…", "the whole reply"]);
}

#[tokio::test]
async fn long_replies_are_split_and_go_on_where_they_stopped() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({"textChunkLimit": 500})).await;
    let code: String = (0..60).map(|n| format!("    line_{n} = {n} < 100\n")).collect();
    let row = item(&format!("Before\n\n```py\n{code}```\n\nAfter 😀"));
    // The third placeholder is refused: two parts are out and noted.
    worker.tell(row.clone());
    let mut placed = Vec::new();
    let outcome = loop {
        match worker.next().await {
            (ChannelToSup::Placed(note), corr) => {
                placed.push(note.ext_id);
                worker.done(corr);
                if placed.len() == 2 {
                    scene.server.fault("sendMessage", 1, Fault::Refuse(500, "Internal Server Error".into()));
                }
            }
            (ChannelToSup::SendStarted(_), corr) => worker.done(corr),
            (ChannelToSup::SendResult(result), _) => break result.outcome,
            other => panic!("unexpected: {other:?}"),
        }
    };
    assert!(matches!(outcome, SendOutcome::Retry { .. }), "{outcome:?}");
    scene.server.heal();
    worker.kill().await;

    let mut worker = ChannelWorker::start(scene.with(json!({"textChunkLimit": 500}))).await;
    let (outcome, _) = worker.deliver(OutboundItem { prior: placed.last().cloned(), ..row }).await;
    let shown = scene.server.visible(ANN);
    assert_eq!(ids(&outcome), shown.iter().map(|m| m.message_id.to_string()).collect::<Vec<_>>());
    assert!(shown.len() > 2 && shown.iter().all(|m| m.text.encode_utf16().count() <= 500));
    for middle in &shown[1..shown.len() - 1] {
        assert_eq!(middle.entities[0]["type"], "code", "every part of the block is code: {middle:?}");
    }
    let whole: String = shown.iter().map(|m| m.text.as_str()).collect::<Vec<_>>().join("\n");
    for n in 0..60 {
        assert_eq!(whole.matches(&format!("line_{n} =")).count(), 1, "line {n} once");
    }
}

#[tokio::test]
async fn unreadable_html_is_sent_as_plain_text_once() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let refusal = "Bad Request: can't parse entities: Unsupported start tag \"x\" at byte offset 0";
    scene.server.fault("editMessageText", 1, Fault::Refuse(400, refusal.into()));
    worker.deliver(item("**bold** [l](https://e.org)")).await;
    let shown = scene.server.visible(ANN);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].text, "bold l (https://e.org)");
    assert!(shown[0].entities.is_empty());
}

#[tokio::test]
async fn refusals_are_sorted() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    scene.server.fault("sendMessage", 1, Fault::RateLimit(3));
    let (outcome, _) = worker.deliver(item("x")).await;
    assert!(matches!(outcome, SendOutcome::Retry { after_ms: 3000, .. }), "{outcome:?}");
    let sends = scene.server.calls("sendMessage").len();
    let (outcome, _) = worker.deliver(item("too early")).await;
    assert!(matches!(outcome, SendOutcome::Retry { after_ms: 1..=3000, .. }), "{outcome:?}");
    assert_eq!(scene.server.calls("sendMessage").len(), sends, "silence is kept in this chat");

    let unknown = OutboundItem { chat: "999".into(), ..item("x") };
    let (outcome, _) = worker.deliver(unknown).await;
    assert!(
        matches!(&outcome, SendOutcome::Permanent { why } if why.contains("chat not found")),
        "{outcome:?}"
    );
    scene.server.push_text(7002, 7002, "hi");
    let hi = worker.inbound().await;
    worker.ack(&hi.ext_id);
    scene.server.block(7002);
    let (outcome, _) = worker.deliver(OutboundItem { chat: "7002".into(), ..item("x") }).await;
    assert!(
        matches!(&outcome, SendOutcome::Permanent { why } if why.contains("blocked by the user")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_send_that_is_cut_is_unknown_and_so_is_a_placeholder() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    scene.server.fault("sendMessage", 1, Fault::CutAfter);
    let (outcome, _) = worker.deliver(OutboundItem { two_phase: false, ..item("plain") }).await;
    assert!(matches!(outcome, SendOutcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(scene.server.visible_texts(ANN), ["plain"]);
    scene.server.fault("sendMessage", 1, Fault::CutAfter);
    // Sending it again is harmless, but the empty message that may stand in the chat is counted.
    let (outcome, placed) = worker.deliver(item("two phases")).await;
    assert!(matches!(outcome, SendOutcome::Unknown { .. }), "{outcome:?}");
    assert!(placed.is_empty());
}

#[tokio::test]
async fn files_go_out_with_a_caption_and_are_not_repeated() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let file = |name: &str| MediaRef {
        kind: "document".into(),
        inline: Some(b"content".to_vec()),
        name: Some(name.into()),
        ..MediaRef::default()
    };
    let row =
        OutboundItem { two_phase: false, media: vec![file("a.txt"), file("b.txt")], ..item("**see** this") };
    let (outcome, placed) = worker.deliver(row.clone()).await;
    let shown = scene.server.visible(ANN);
    let names: Vec<_> = shown.iter().map(|m| (m.file_name.as_deref().unwrap(), m.text.as_str())).collect();
    assert_eq!(names, [("a.txt", "see this"), ("b.txt", "")]);
    assert_eq!(placed, [shown[0].message_id.to_string()]);
    let (again, _) = worker.deliver(OutboundItem { prior: Some(ids(&outcome).join(",")), ..row }).await;
    assert_eq!(again, outcome);
    assert_eq!(scene.server.visible(ANN).len(), 2);
}

#[tokio::test]
async fn a_draft_streams_into_its_placeholder_and_ends_as_the_reply() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let row = item("One two three.");
    let open = DraftOpen { out_id: row.out_id, chat: row.chat.clone(), ..DraftOpen::default() };
    worker.tell(open);
    let (placed, corr) = worker.next().await;
    let ChannelToSup::Placed(placed) = placed else { panic!("expected Placed: {placed:?}") };
    worker.done(corr);
    for text in ["One", "One two"] {
        worker.tell(DraftUpdate { out_id: row.out_id, text: text.into() });
    }
    let shows = |text: &'static str| move |server: &TelegramServer| server.visible_texts(ANN) == [text];
    scene.server.wait_for("the newest preview", PATIENCE, shows("One two")).await;
    // The journal's note and the lease may cross: the worker knows its own placeholder.
    let (outcome, more) = worker.deliver(row).await;
    assert_eq!((ids(&outcome), more), (vec![placed.ext_id], vec![]));
    let shown = scene.server.visible(ANN);
    assert_eq!(shown.len(), 1);
    assert_eq!(
        shown[0].history,
        ["…", "One two", "One two three."],
        "two updates within a second are one edit"
    );

    let open = DraftOpen { out_id: Id::now(), chat: ANN.to_string(), ..DraftOpen::default() };
    let out_id = open.out_id;
    worker.tell(open);
    let (_, corr) = worker.next().await;
    worker.done(corr);
    scene.server.wait_for("a placeholder", PATIENCE, |server| server.visible(ANN).len() == 2).await;
    worker.tell(DraftDiscard { out_id, chat: ANN.to_string(), ext_id: None });
    scene.server.wait_for("it is gone", PATIENCE, |server| server.visible(ANN).len() == 1).await;
}

#[tokio::test]
async fn a_placeholder_that_a_person_deleted_is_put_again_and_a_spare_one_goes() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let row = OutboundItem { prior: Some("555".into()), ..item("seen all the same") };
    let (outcome, placed) = worker.deliver(row).await;
    assert_eq!(scene.server.visible_texts(ANN), ["seen all the same"]);
    assert_eq!(placed, ids(&outcome), "the new id is noted");

    let (first, _) = worker.deliver(item("one")).await;
    let (second, _) = worker.deliver(item("two")).await;
    let prior = format!("{},{}", ids(&first)[0], ids(&second)[0]);
    let (outcome, _) = worker.deliver(OutboundItem { prior: Some(prior), ..item("shorter") }).await;
    assert_eq!(ids(&outcome), ids(&first));
    assert_eq!(scene.server.visible_texts(ANN), ["seen all the same", "shorter"]);
}

#[tokio::test]
async fn the_accounts_keys_are_heeded() {
    let scene = Scene::new().await;
    let keys = json!({
        "textChunkLimit": 100, "chunkMode": "newline", "replyToMode": "all", "linkPreview": false,
        "customCommands": [{"command": "/report", "description": "Today's report"}],
    });
    let mut worker = scene.worker_in_chat(keys).await;
    worker.deliver(OutboundItem { reply_to: Some("1".into()), ..item("first\n\nsecond") }).await;
    let shown = scene.server.visible(ANN);
    let parts: Vec<_> = shown.iter().map(|m| (m.text.as_str(), m.reply_to)).collect();
    assert_eq!(parts, [("first", Some(1)), ("second", Some(1))]);
    let sends = scene.server.calls("sendMessage");
    assert!(sends.iter().all(|call| call.params["link_preview_options"]["is_disabled"] == true));
    let menu = &scene.server.calls("setMyCommands")[0].params["commands"];
    assert_eq!(menu[0]["command"], "report");
}

#[tokio::test]
async fn no_server_is_a_reason_to_try_again() {
    let scene = Scene::new().await;
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let nowhere = json!({"apiRoot": format!("http://127.0.0.1:{port}")});
    let mut worker = ChannelWorker::start(scene.with(nowhere)).await;
    let down = worker.state(ChannelPhase::Down).await;
    assert!(down.why.as_deref().is_some_and(|why| why.contains("cannot reach Telegram")), "{down:?}");
    for two_phase in [true, false] {
        let (outcome, _) = worker.deliver(OutboundItem { two_phase, ..item("x") }).await;
        assert!(matches!(outcome, SendOutcome::Retry { .. }), "no byte left: {outcome:?}");
    }
}

#[tokio::test]
async fn typing_is_shown() {
    let scene = Scene::new().await;
    let worker = scene.worker_in_chat(json!({})).await;
    worker.tell(Typing { chat: ANN.to_string(), thread: None, on: true });
    let typed = |server: &TelegramServer| server.calls("sendChatAction").len() == 1;
    scene.server.wait_for("typing", PATIENCE, typed).await;
}

#[tokio::test]
async fn a_taken_back_token_asks_for_a_login() {
    let scene = Scene::new().await;
    scene.server.fault("getMe", 1, Fault::Refuse(401, "Unauthorized".into()));
    let mut worker = scene.worker().await;
    let state = worker.state(ChannelPhase::LoginNeeded).await;
    let why = state.why.expect("a reason");
    assert!(why.contains("Unauthorized") && why.contains("botToken"), "{why}");
    assert!(!why.contains(scene.server.token()));
    assert_eq!(worker.exit().await.code(), Some(77));
}

#[tokio::test]
async fn another_poller_is_named_and_nothing_is_lost() {
    let scene = Scene::new().await;
    let conflict =
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
    scene.server.fault("getUpdates", 1, Fault::Refuse(409, conflict.into()));
    scene.server.set_webhook("https://elsewhere.example");
    scene.server.push_text(ANN, ANN, "still there");
    let mut worker = scene.worker().await;
    let down = worker.state(ChannelPhase::Down).await;
    assert!(down.why.as_deref().is_some_and(|why| why.starts_with("session in use")), "{down:?}");
    assert_eq!(worker.inbound().await.text, "still there", "a webhook that was left is deleted");
}

#[tokio::test]
async fn network_loss_is_a_state_and_ends() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    assert_eq!(worker.states.last().and_then(|s| s.identity.as_deref()), Some("@lobster_test_bot"));
    scene.server.fault("getUpdates", 2, Fault::CutBefore);
    scene.server.push_text(ANN, ANN, "wakes the poll");
    let message = worker.inbound().await;
    worker.ack(&message.ext_id);
    let down = worker.state(ChannelPhase::Down).await;
    let why = down.why.expect("a reason");
    assert!(why.contains("connection to Telegram lost") && !why.contains("AAH"), "{why}");
    worker.states.clear();
    worker.state(ChannelPhase::Up).await;
}

#[tokio::test]
async fn one_account_is_used_by_one_process() {
    let scene = Scene::new().await;
    let first = scene.worker_in_chat(json!({})).await;
    let elsewhere = tempfile::tempdir().expect("a folder");
    let start = Start { state_dir: elsewhere.path(), ..scene.with(json!({})) };
    let mut second = ChannelWorker::start(start).await;
    let down = second.state(ChannelPhase::Down).await;
    let pid = first.child.id().expect("it runs");
    assert_eq!(down.why, Some(format!("session in use by pid {pid}")));
    first.kill().await;
    second.state(ChannelPhase::Up).await;
}

#[tokio::test]
async fn many_chats_are_answered_once_and_in_order() {
    let scene = Scene::new().await;
    for n in 0..10 {
        for chat in 0..20i64 {
            scene.server.push_text(8000 + chat, 8000 + chat, &format!("m{n}"));
        }
    }
    let mut worker = scene.worker().await;
    let mut heard: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    let mut count = 0;
    while count < 200 {
        if let (ChannelToSup::Inbound(message), _) = worker.next().await {
            worker.ack(&message.ext_id);
            heard.entry(message.chat.id).or_default().push(message.text);
            count += 1;
        }
    }
    let wanted: Vec<String> = (0..10).map(|n| format!("m{n}")).collect();
    assert_eq!(heard.len(), 20);
    assert!(heard.values().all(|texts| *texts == wanted), "{heard:?}");
    let confirmed = |server: &TelegramServer| server.unconfirmed() == 0;
    scene.server.wait_for("all confirmed", PATIENCE, confirmed).await;
}

#[tokio::test]
async fn a_probe_tells_who_the_bot_is() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    let probe = worker.probe().await;
    assert_eq!((&probe["ok"], &probe["bot"]["username"]), (&json!(true), &json!("lobster_test_bot")));
    assert_eq!(probe["webhook"]["url"], "");
    scene.server.fault("getMe", 1, Fault::Refuse(500, "Internal Server Error".into()));
    let probe = worker.probe().await;
    assert_eq!((&probe["ok"], &probe["status"]), (&json!(false), &json!(500)));
}

#[tokio::test]
async fn a_stop_waits_for_the_send_under_way() {
    let scene = Scene::new().await;
    let mut worker = scene.worker_in_chat(json!({})).await;
    scene.server.fault("editMessageText", 1, Fault::Slow(300));
    worker.tell(item("finished before the end"));
    for _ in 0..2 {
        let (_, corr) = worker.next().await;
        worker.done(corr);
    }
    worker.tell(proto::wire::agent::Shutdown { reason: "stop".into() });
    match worker.next().await.0 {
        ChannelToSup::SendResult(result) => assert_eq!(ids(&result.outcome).len(), 1),
        other => panic!("expected the result: {other:?}"),
    }
    assert_eq!(worker.exit().await.code(), Some(0));
    assert_eq!(scene.server.visible_texts(ANN), ["finished before the end"]);
}

#[tokio::test]
async fn the_program_describes_itself_and_checks_a_configuration() {
    let program = Arc::new(program().await);
    let run = |args: &'static [&'static str], input: String| {
        let program = Arc::clone(&program);
        tokio::task::spawn_blocking(move || check(&program, args, &input))
    };
    let (code, schema) = run(&["--schema"], String::new()).await.unwrap();
    let token = &schema["channels"]["telegram"]["properties"]["botToken"];
    assert_eq!((code, &token["x-sensitive"]), (Some(0), &json!(true)));
    assert_eq!(schema["channels"]["telegram"]["x-class"], "worker");

    let good =
        json!({"channels": {"telegram": {"botToken": "12:ab", "dmPolicy": "open", "accounts": {"w": {}}}}});
    assert_eq!(run(&["--check-config"], good.to_string()).await.unwrap(), (Some(0), json!({"issues": []})));
    let bad = json!({"channels": {"telegram": {"apiRoot": "nowhere", "textChunkLimit": 9000, "accounts": {"w": {"chunkMode": "z"}}}}});
    let (code, found) = run(&["--check-config", "telegram"], bad.to_string()).await.unwrap();
    let paths: Vec<&str> =
        found["issues"].as_array().unwrap().iter().map(|i| i["path"].as_str().unwrap()).collect();
    assert_eq!(code, Some(78));
    let wanted = [
        "channels.telegram.apiRoot",
        "channels.telegram.textChunkLimit",
        "channels.telegram.accounts.w.chunkMode",
    ];
    assert_eq!(paths, wanted);
}

fn check(program: &Path, args: &[&str], input: &str) -> (Option<i32>, Value) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("JSON"))
}
