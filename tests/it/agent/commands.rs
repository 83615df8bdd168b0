//! Commands in a chat, and what is put into a conversation from outside.

use super::{agent, asked, history, scene, scene_with, send, slow, users};
use harness::model_server::Reply;
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use serde_json::{Value, json};

async fn session(client: &mut WsClient) -> Value {
    let list = client.call("sessions.list", json!({})).await.expect("sessions");
    list["sessions"].as_array().and_then(|rows| rows.first().cloned()).expect("a session")
}

#[tokio::test]
async fn commands_answer_without_a_model() {
    let (_gateway, model, mut client) = scene(vec![], Reply::default()).await;
    client.chat("main", "hello").await;
    let help = chat_text(&client.chat("main", "/help").await);
    for name in ["/new", "/reset", "/stop", "/status", "/context", "/help"] {
        assert!(help.contains(name), "{name}: {help}");
    }
    let status = chat_text(&client.chat("main", "/status").await);
    assert!(status.contains("double/m1") && status.contains("Context:"), "{status}");
    let unknown = chat_text(&client.chat("main", "/context what").await);
    assert!(unknown.contains("list") && unknown.contains("detail") && unknown.contains("json"), "{unknown}");
    assert_eq!(asked(&model).len(), 1);
    // The replies stay in the conversation, and the model hears nothing of the commands.
    let shown = history(&mut client, "main").await;
    assert!(shown.iter().any(|message| message.to_string().contains("Context:")), "{shown:?}");
    client.chat("main", "and now?").await;
    let heard = users(&asked(&model)[1]);
    assert!(heard.iter().all(|text| !text.contains("/status")), "{heard:?}");
    // A word with a slash that is no command goes to the model.
    let end = client.chat("main", "/etc/passwd is a file").await;
    assert!(chat_text(&end).contains("/etc/passwd"), "{end}");
}

#[tokio::test]
async fn context_shows_what_the_last_run_had() {
    let (_gateway, model, mut client) = scene(vec![], Reply::default()).await;
    client.chat("main", "hello").await;
    let system = super::system(&asked(&model)[0]);
    let json: Value =
        serde_json::from_str(&chat_text(&client.chat("main", "/context json").await)).expect("JSON");
    let report = &json["report"];
    assert_eq!(report["source"], "run", "{json}");
    assert_eq!(report["systemPrompt"]["chars"], system.chars().count());
    assert!(report["injectedWorkspaceFiles"].as_array().is_some_and(|files| !files.is_empty()), "{json}");
    let list = chat_text(&client.chat("main", "/context list").await);
    assert!(list.starts_with("🧠 Context breakdown\nWorkspace: "), "{list}");
    for line in
        ["Bootstrap max/file: 20,000 chars", "Sandbox: mode=off", "AGENTS.md: MISSING", "Tool schemas (JSON)"]
    {
        assert!(list.contains(line), "{line}: {list}");
    }
    let detail = chat_text(&client.chat("main", "/context detail").await);
    assert!(detail.contains("(detailed)") && detail.contains("Top tools (schema size)"), "{detail}");
}

#[tokio::test]
async fn new_and_reset_begin_a_session_and_keep_the_old_file_aside() {
    let config = json!({"agents": {"defaults": {"models": {
        "double/m1": {"alias": "one"}, "double/m2": {"alias": "two"},
    }}}});
    let (gateway, model, mut client) = scene_with(vec![], Reply::default(), config).await;
    client.chat("main", "the first conversation").await;
    let first = session(&mut client).await["sessionId"].clone();
    let end = client.chat("main", "/new two good morning").await;
    assert!(chat_text(&end).contains("good morning"), "{end}");
    let second = session(&mut client).await;
    assert_ne!(second["sessionId"], first);
    let last = asked(&model).pop().expect("a request");
    assert_eq!(last.body["model"], "m2", "a first word that names a model chooses it");
    assert_eq!(users(&last).len(), 1, "nothing of the old conversation: {:?}", users(&last));
    client.chat("main", "more").await;
    assert_eq!(asked(&model).pop().expect("a request").body["model"], "m2", "and it stays chosen");
    // A reset keeps the choice; without words the agent is asked to greet.
    let end = client.chat("main", "/RESET").await;
    assert_eq!(end["state"], "final", "{end}");
    let last = asked(&model).pop().expect("a request");
    assert_eq!(last.body["model"], "m2");
    assert!(!users(&last)[0].contains("RESET"), "{:?}", users(&last));
    // `agent` knows them, too.
    let params = json!({"message": "/new hello again", "idempotencyKey": "n"});
    agent(&mut client, params).await.expect("done");
    assert_eq!(users(&asked(&model).pop().expect("a request")).len(), 1);
    let dir = gateway.state_dir().join("agents/main/sessions");
    let aside = std::fs::read_dir(dir).expect("sessions").flatten();
    let aside = aside.filter(|file| file.file_name().to_string_lossy().contains(".jsonl.reset."));
    assert_eq!(aside.count(), 3);
}

#[tokio::test]
async fn a_stop_word_aborts_and_anything_else_is_said() {
    let long = slow(&"word ".repeat(400));
    let (gateway, model, mut client) = scene(vec![super::when("long", long)], Reply::default()).await;
    let mut second = WsClient::cli(gateway.port, 3).await;
    for (n, word) in ["/stop", "Stop!", "please  stop", "стоп"].into_iter().enumerate() {
        let key = format!("long-{n}");
        send(&mut client, "main", "long", &key).await;
        let said = |payload: &Value| payload["runId"] == key && chat_text(payload).contains("word word");
        client.event_where("chat", said).await;
        // From another client of the same session.
        let stopped = send(&mut second, "main", word, &format!("stop-{n}")).await;
        assert_eq!(stopped, json!({"ok": true, "aborted": true, "runIds": [key]}), "{word}");
        let end = client.chat_end(&key).await;
        assert_eq!(
            (end["state"].as_str(), end["stopReason"].as_str()),
            (Some("aborted"), Some("stop-command")),
            "{end}"
        );
        assert!(chat_text(&end).starts_with("word"), "{end}");
    }
    let transcript = std::fs::read_to_string(
        std::fs::read_dir(gateway.state_dir().join("agents/main/sessions"))
            .expect("sessions")
            .flatten()
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|ext| ext == "jsonl"))
            .expect("a transcript"),
    )
    .expect("text");
    assert_eq!(transcript.matches("\"long-0:assistant\"").count(), 1);
    assert!(transcript.contains("\"origin\":\"stop-command\""));
    let nothing = send(&mut client, "main", "stop", "nothing").await;
    assert_eq!(nothing, json!({"ok": true, "aborted": false, "runIds": []}));
    // The next prompt says what happened; a sentence with the word is a message.
    let end = client.chat("main", "stop by the shop").await;
    assert!(chat_text(&end).contains("stop by the shop"), "{end}");
    assert!(users(&asked(&model).pop().expect("a request")).concat().contains("aborted"));
}

#[tokio::test]
async fn an_injected_message_is_told_and_becomes_part_of_the_conversation() {
    let (gateway, model, mut client) = scene(vec![], Reply::default()).await;
    let params = json!({"sessionKey": "main", "message": "a note", "label": "Robot"});
    client.call("chat.inject", params.clone()).await.expect_err("there is no transcript yet");
    client.chat("main", "hello").await;
    let mut second = WsClient::cli(gateway.port, 4).await;
    let done = client.call("chat.inject", params).await.expect("injected");
    let id = done["messageId"].as_str().expect("an id");
    let told = second
        .event_where("chat", |payload| {
            payload["runId"].as_str().is_some_and(|run| run.starts_with("inject-"))
        })
        .await;
    assert_eq!(
        (&told["payload"]["state"], &told["payload"]["runId"]),
        (&json!("final"), &json!(format!("inject-{id}")))
    );
    assert_eq!(chat_text(&told["payload"]), "[Robot]\n\na note");
    assert_eq!(asked(&model).len(), 1, "it starts no run");
    client.chat("main", "go on").await;
    assert!(asked(&model)[1].body["messages"].to_string().contains("a note"));
}

#[tokio::test]
async fn clients_of_one_session_see_the_same() {
    let rules = vec![super::when("", Reply::call("ls", json!({"path": "."})))];
    let (gateway, _model, mut client) = scene(rules, slow("one two three")).await;
    let mut second = WsClient::cli(gateway.port, 3).await;
    send(&mut client, "main", "count", "c").await;
    let (mine, theirs) = (client.chat_end("c").await, second.chat_end("c").await);
    assert_eq!((chat_text(&mine), chat_text(&theirs)), ("one two three".into(), "one two three".into()));
    assert_eq!(history(&mut client, "main").await.len(), history(&mut second, "main").await.len());
    // Tools are told to those who can show them.
    let hears = |client: &WsClient| client.events.iter().any(|event| event["payload"]["stream"] == "tool");
    assert_eq!((hears(&client), hears(&second)), (true, false));
    let again = send(&mut second, "agent:main:main", "count", "c").await;
    assert_eq!(again["status"], "ok", "the same session by its full name: {again}");
    wait::until("both know the session", async || {
        let rows = second.call("sessions.list", json!({})).await.ok()?;
        (rows["sessions"].as_array()?.len() == 1).then_some(())
    })
    .await;
}
