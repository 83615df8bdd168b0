//! Whole runs against a scripted model and tool.

use super::control::SHUTDOWN;
use super::rig::{KEY, Line, Rig, input};
use crate::provider::Reason;
use crate::tool::Effect;
use proto::wire::agent::{AgentToSup, OriginKind, RunStatus};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;

#[tokio::test]
async fn a_plain_turn() {
    let rig = Rig::new([Line::Text("Hello!")]).await;
    let done = rig.say("hi").await;
    assert_eq!((done.status, done.text.as_str()), (RunStatus::Ok, "Hello!"));
    assert_eq!(done.parts.len(), 1);
    assert_eq!(done.usage.total, 15);
    assert_eq!(
        rig.shape().await,
        ["session", "user", "openclaw.turn-start", "assistant", "openclaw.turn-final"]
    );
    assert_eq!(
        rig.told(),
        ["session turn", "started", "lifecycle start", "delta 0: Hello!", "session turn", "lifecycle end"]
    );
    let row = done.session.unwrap();
    let entry: serde_json::Value = serde_json::from_str(&row.entry_json).unwrap();
    assert_eq!(
        (row.key.as_str(), row.title.as_deref(), row.last_message.as_deref()),
        (KEY, Some("hi"), Some("Hello!"))
    );
    assert_eq!(
        (&entry["model"], &entry["totalTokens"], &entry["systemSent"]),
        (&json!("one"), &json!(10), &json!(true))
    );
    rig.agent.sessions.flush().await.unwrap();
    let stored = std::fs::read_to_string(rig.agent.sessions.store_path()).unwrap();
    assert!(stored.contains("systemPromptReport"));
}

#[tokio::test]
async fn a_panic_fails_its_run_and_no_other() {
    let rig = Rig::new([Line::Panics, Line::Text("still here")]).await;
    let failed = rig.say("first").await;
    assert_eq!((failed.status, failed.stop_reason.as_deref()), (RunStatus::Error, Some("error")));
    assert!(failed.error.is_some_and(|error| error.message.contains("internal error")));
    let next = rig.say("second").await;
    assert_eq!((next.status, next.text.as_str()), (RunStatus::Ok, "still here"));
}

#[tokio::test]
async fn the_next_turn_sees_the_last_one() {
    let rig = Rig::new([Line::Text("one"), Line::Text("two")]).await;
    rig.say("first").await;
    rig.say("second").await;
    let heard = rig.script.conversation(1);
    assert!(heard[0].starts_with("u:[Mon 2026-02-02 ") && heard[0].ends_with("] first"), "{heard:?}");
    assert_eq!(heard[1], "a:one");
    assert!(heard[2].ends_with("] second"));
    assert!(rig.script.asked.lock().unwrap()[0].system.contains("- probe: Test tool"));
}

#[tokio::test]
async fn tools_run_one_after_another() {
    let rig = Rig::new([Line::Calls("Let me look.", &["a", "fail", "b"]), Line::Text("Done.")]).await;
    let done = rig.say("go").await;
    assert_eq!(*rig.ran.lock().unwrap(), ["a", "fail", "b"]);
    let texts: Vec<&str> = done.parts.iter().map(|part| part.text.as_str()).collect();
    assert_eq!(texts, ["Let me look.", "Done."]);
    assert_eq!(done.text, "Let me look.\n\nDone.");
    assert_eq!(
        rig.shape().await[3..],
        [
            "assistant",
            "openclaw.tool-intent",
            "toolResult",
            "openclaw.tool-intent",
            "toolResult",
            "openclaw.tool-intent",
            "toolResult",
            "assistant",
            "openclaw.turn-final"
        ]
    );
    assert_eq!(rig.script.conversation(1)[2..], ["t:result of a", "t:it did not work", "t:result of b"]);
    let tools: Vec<String> = rig.told().into_iter().filter(|word| word.starts_with("tool")).collect();
    assert_eq!(
        tools,
        [
            "tool start a",
            "tool result a",
            "tool start fail",
            "tool result fail",
            "tool start b",
            "tool result b"
        ]
    );
}

#[tokio::test]
async fn an_unknown_tool_is_an_error_result_and_the_turn_goes_on() {
    let config = json!({"tools": {"deny": ["*"]}});
    let lines = [Line::Calls("", &["a"]), Line::Text("I cannot.")];
    let rig = Rig::with(tempfile::tempdir().unwrap(), lines, config, Effect::Write).await;
    let done = rig.say("go").await;
    assert_eq!(done.text, "I cannot.");
    assert!(rig.ran.lock().unwrap().is_empty());
    assert!(rig.script.conversation(1)[2].contains("probe not found"));
}

#[tokio::test]
async fn an_abort_in_a_tool_keeps_the_message_that_waits() {
    let rig = Rig::new([Line::Calls("", &["hang", "b"]), Line::Text("Ok.")]).await;
    let (reins, task) = rig.start(rig.spec("go"));
    rig.tool_started.notified().await;
    assert!(reins.steer(input("wait", 99)));
    reins.stop("rpc");
    let done = task.await.unwrap().unwrap();
    assert_eq!((done.status, done.stop_reason.as_deref()), (RunStatus::Aborted, Some("rpc")));
    let lines = rig.transcript().await;
    let texts: Vec<&str> = lines
        .iter()
        .filter(|line| line["message"]["role"] == "toolResult")
        .map(|line| line["message"]["content"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts[1], "Not run: the run was aborted.");
    assert!(lines.iter().any(|line| line["message"]["content"] == "wait"), "the message is kept");
    assert!(!reins.steer(input("late", 100)));
}

#[tokio::test]
async fn a_message_in_between_skips_the_remaining_calls() {
    let rig = Rig::new([Line::Calls("", &["gate", "b"]), Line::Text("Ok.")]).await;
    let (reins, task) = rig.start(rig.spec("go"));
    rig.tool_started.notified().await;
    assert!(reins.steer(input("rather this", 99)));
    rig.gate.notify_one();
    assert_eq!(task.await.unwrap().unwrap().text, "Ok.");
    assert_eq!(*rig.ran.lock().unwrap(), ["gate"]);
    let heard = rig.script.conversation(1);
    assert_eq!(heard[2..], ["t:open", "t:Skipped due to queued user message.", "u:rather this"]);
}

#[tokio::test]
async fn a_message_before_the_answer_is_answered_in_the_same_run() {
    let until = Arc::new(Notify::new());
    let rig = Rig::new([Line::Waits(until.clone(), "First."), Line::Text("Second.")]).await;
    let (reins, task) = rig.start(rig.spec("go"));
    rig.script.spoke.notified().await;
    assert!(reins.steer(input("and this", 7)));
    until.notify_one();
    let done = task.await.unwrap().unwrap();
    assert_eq!(done.text, "First.\n\nSecond.");
    assert_eq!(rig.script.conversation(1).last().unwrap(), "u:and this");
    assert_eq!(rig.shape().await.iter().filter(|word| *word == "openclaw.turn-start").count(), 2);
}

#[tokio::test]
async fn an_abort_keeps_what_was_said() {
    let rig = Rig::new([Line::Hangs("Half an ans"), Line::Text("Again.")]).await;
    let (reins, task) = rig.start(rig.spec("go"));
    rig.script.spoke.notified().await;
    reins.stop("stop-command");
    let done = task.await.unwrap().unwrap();
    assert_eq!((done.status, done.text.as_str(), done.parts.len()), (RunStatus::Aborted, "Half an ans", 0));
    let lines = rig.transcript().await;
    let partial = lines.iter().rfind(|line| line["message"]["role"] == "assistant").unwrap();
    assert_eq!(partial["message"]["stopReason"], "aborted");
    assert_eq!(
        partial["message"]["openclawAbort"],
        json!({"aborted": true, "origin": "stop-command", "runId": "client-1"})
    );
    rig.say("next").await;
    let last = rig.script.conversation(1).pop().unwrap();
    assert!(last.contains("[Note from the gateway] The previous run was aborted"), "{last}");
}

#[tokio::test]
async fn a_run_ends_with_its_time() {
    let rig = Rig::new([Line::Hangs("so far")]).await;
    let mut spec = rig.spec("go");
    spec.active_ms_left = 50;
    let done = rig.run(spec).await;
    assert_eq!(done.status, RunStatus::Timeout);
    assert_eq!(done.error.unwrap().kind, "timeout");
    assert!(done.parts[0].text.contains("timeoutSeconds"), "{:?}", done.parts);
}

#[tokio::test]
async fn another_model_answers_when_the_first_fails() {
    let rig = Rig::new([Line::Fails("I th", Reason::RateLimit), Line::Text("From two.")]).await;
    let done = rig.say("go").await;
    assert_eq!((done.text.as_str(), done.usage.model.as_str()), ("From two.", "two"));
    assert_eq!(*rig.script.models.lock().unwrap(), ["script/one", "script/two"]);
    let told = rig.told();
    assert!(told.contains(&"lifecycle fallback".to_owned()), "{told:?}");
    assert!(
        told.contains(&"delta 1: From two.".to_owned()),
        "the second text is a message of its own: {told:?}"
    );
}

#[tokio::test]
async fn when_nobody_answers_the_run_says_why() {
    let rig =
        Rig::new([Line::Fails("", Reason::Auth), Line::Fails("", Reason::Billing), Line::Text("Fine.")])
            .await;
    let done = rig.say("go").await;
    let error = done.error.unwrap();
    assert_eq!(
        (done.status, error.kind.as_str(), error.model.as_deref()),
        (RunStatus::Error, "billing", Some("two"))
    );
    assert!(done.parts[0].text.starts_with("⚠️ "));
    assert_eq!(rig.told().last().unwrap(), "lifecycle error");
    assert!(rig.shape().await.contains(&"openclaw:prompt-error".to_owned()));
    assert_eq!(rig.say("again").await.text, "Fine.");
    // The failed answer is no part of the conversation.
    assert_eq!(rig.script.conversation(2).len(), 2);
}

#[tokio::test]
async fn an_overflow_does_not_try_other_models() {
    let rig = Rig::new([Line::Fails("", Reason::ContextOverflow)]).await;
    let done = rig.say("go").await;
    assert_eq!(done.error.unwrap().kind, "context_overflow");
    assert_eq!(rig.script.count(), 1);
}

#[tokio::test]
async fn a_silent_answer_shows_nothing() {
    let rig = Rig::new([Line::Text("NO_REPLY")]).await;
    let done = rig.say("psst").await;
    assert_eq!((done.status, done.text.as_str(), done.parts.len()), (RunStatus::Ok, "", 0));
    assert!(!rig.told().iter().any(|word| word.starts_with("delta")));
}

#[tokio::test]
async fn the_overrides_of_a_run() {
    let rig = Rig::new([Line::Text("ok")]).await;
    let mut spec = rig.spec("go");
    spec.overrides.model = Some("other/model".into());
    spec.overrides.extra_system_prompt = Some("Answer in German.".into());
    spec.overrides.thinking = Some("high".into());
    spec.overrides.session_meta_json = Some(r#"{"label":"Job"}"#.into());
    let done = rig.run(spec).await;
    assert_eq!(done.usage.provider, "other");
    let asked = rig.script.asked.lock().unwrap();
    assert!(asked[0].system.contains("Answer in German."));
    assert!(asked[0].system.contains("model=other/model"));
    assert!(asked[0].system.contains("thinking=high"));
    assert!(done.session.unwrap().entry_json.contains("\"label\":\"Job\""));
}

#[tokio::test]
async fn commands_answer_without_a_model() {
    let rig = Rig::new([Line::Text("hello")]).await;
    rig.say("hi").await;
    for (text, part) in
        [("/help", "/status"), ("/status", "🧠 Model: script/one"), ("/context list", "AGENTS.md: MISSING")]
    {
        let done = rig.say(text).await;
        assert!(done.command && done.text.contains(part), "{text}: {}", done.text);
    }
    assert_eq!(rig.script.count(), 1);
    // A stranger's command is a text like any other.
    let mut spec = rig.spec("/help");
    spec.inputs[0].authorised = false;
    assert!(!rig.run(spec).await.command);
    assert_eq!(rig.script.count(), 2);
}

#[tokio::test]
async fn a_new_session_leaves_the_old_file_aside() {
    let rig = Rig::new([Line::Text("one"), Line::Text("two"), Line::Text("three")]).await;
    let first = rig.say("hi").await.session.unwrap().session_id;
    let mut spec = rig.spec("/new other/model and hello");
    spec.origin.kind = OriginKind::Channel;
    spec.origin.channel = "telegram".into();
    let done = rig.run(spec).await;
    let second = done.session.unwrap().session_id;
    assert_ne!(first, second);
    assert_eq!(done.parts[0].text, "✅ New session started · model: other/model (default: script/one)");
    assert_eq!(rig.script.conversation(1).len(), 1);
    assert!(rig.script.conversation(1)[0].ends_with("] and hello"));
    assert_eq!(rig.script.models.lock().unwrap()[1], "other/model");
    let names: Vec<String> = std::fs::read_dir(rig.agent.sessions.dir())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.starts_with(&format!("{first}.jsonl.reset."))), "{names:?}");
    // Without words of its own the message becomes a greeting.
    rig.say("/reset").await;
    assert!(rig.script.conversation(2)[0].starts_with("u:A new session was started"));
}

#[tokio::test]
async fn a_stale_session_starts_anew_and_keeps_its_file() {
    let rig = Rig::new([Line::Text("one"), Line::Text("two")]).await;
    let first = rig.say("hi").await.session.unwrap().session_id;
    let two_days = 2 * 86_400_000;
    let aged = rig.agent.sessions.update(KEY, move |entry| {
        entry.set("updatedAt", entry.updated_at() - two_days);
        entry.set("thinkingLevel", "high");
        Ok::<(), ()>(())
    });
    aged.await.unwrap().unwrap();
    let row = rig.say("hi again").await.session.unwrap();
    assert_ne!(row.session_id, first);
    assert!(!row.entry_json.contains("thinkingLevel"));
    assert!(rig.agent.sessions.dir().join(format!("{first}.jsonl")).exists());
    assert_eq!(rig.script.conversation(1).len(), 1);
}

#[tokio::test]
async fn a_stop_of_the_process_in_mid_stream_asks_the_model_again() {
    let rig = Rig::new([Line::Hangs("Half")]).await;
    let mut spec = rig.spec("go");
    let (reins, task) = rig.start(spec.clone());
    rig.script.spoke.notified().await;
    reins.stop(SHUTDOWN);
    assert_eq!(task.await.unwrap(), None);
    let rig = rig.restarted([Line::Text("Whole.")], Effect::Write).await;
    spec.attempt = 2;
    let done = rig.run(spec).await;
    assert_eq!((done.text.as_str(), done.attempt), ("Whole.", 2));
    assert_eq!(rig.script.conversation(0).len(), 1, "the question is there once");
    assert_eq!(rig.told()[..2], ["started", "lifecycle restart"]);
}

/// A stop while a tool runs: repeated when that is harmless, else answered for.
#[tokio::test]
async fn a_stop_of_the_process_in_a_tool() {
    for (effect, ran, answer) in [
        (Effect::Read, &["hang2"][..], "t:result of hang2"),
        (Effect::Write, &[][..], "t:interrupted, outcome unknown"),
    ] {
        let rig =
            Rig::with(tempfile::tempdir().unwrap(), [Line::Calls("", &["hang"])], json!({}), effect).await;
        let mut spec = rig.spec("go");
        let (reins, task) = rig.start(spec.clone());
        rig.tool_started.notified().await;
        reins.stop(SHUTDOWN);
        assert_eq!(task.await.unwrap(), None);
        // The second process must not hang in the same call: the id decides what the tool does.
        let entry = rig.agent.sessions.entry(KEY).await.unwrap().unwrap();
        let path = rig.agent.sessions.path_of(KEY, &entry);
        let text = std::fs::read_to_string(&path).unwrap().replace("\"hang\"", "\"hang2\"");
        rig.agent.sessions.close(&path).await.unwrap();
        std::fs::write(&path, text).unwrap();
        let rig = rig.restarted([Line::Text("Done.")], effect).await;
        spec.attempt = 2;
        let done = rig.run(spec).await;
        assert_eq!(done.text, "Done.");
        assert_eq!(*rig.ran.lock().unwrap(), ran);
        let heard = rig.script.conversation(0);
        assert!(heard.last().unwrap().starts_with(answer), "{heard:?}");
    }
}

#[tokio::test]
async fn a_finished_run_is_told_again_without_a_model() {
    let rig = Rig::new([Line::Text("Once.")]).await;
    let mut spec = rig.spec("go");
    let first = rig.run(spec.clone()).await;
    let rig = rig.restarted([], Effect::Write).await;
    spec.attempt = 2;
    let mut again = rig.run(spec).await;
    assert_eq!(rig.script.count(), 0);
    assert_eq!(again.session.take().unwrap().session_id, first.session.clone().unwrap().session_id);
    assert_eq!((again.parts, again.text, again.usage), (first.parts, first.text, first.usage));
    assert_eq!(rig.told(), ["lifecycle end"]);
}

#[tokio::test]
async fn an_answer_without_its_final_record_is_not_asked_for_again() {
    let rig = Rig::new([Line::Text("Once.")]).await;
    let mut spec = rig.spec("go");
    rig.run(spec.clone()).await;
    let entry = rig.agent.sessions.entry(KEY).await.unwrap().unwrap();
    let path = rig.agent.sessions.path_of(KEY, &entry);
    let text = std::fs::read_to_string(&path).unwrap();
    let cut: Vec<&str> = text.lines().filter(|line| !line.contains("turn-final")).collect();
    rig.agent.sessions.close(&path).await.unwrap();
    std::fs::write(&path, cut.join("\n") + "\n").unwrap();
    let rig = rig.restarted([], Effect::Write).await;
    spec.attempt = 2;
    let done = rig.run(spec).await;
    assert_eq!((done.text.as_str(), rig.script.count()), ("Once.", 0));
    assert_eq!(rig.shape().await.last().unwrap(), "openclaw.turn-final");
}

#[tokio::test]
async fn parts_already_said_are_not_said_again() {
    let rig = Rig::new([Line::Calls("Let me look.", &["a"]), Line::Text("Done.")]).await;
    let mut spec = rig.spec("go");
    spec.parts_done = 1;
    spec.texts_done = vec!["Let me look.".into()];
    let done = rig.run(spec).await;
    assert_eq!(done.parts.len(), 1);
    assert_eq!((done.parts[0].part, done.parts[0].text.as_str()), (1, "Done."));
}

#[tokio::test]
async fn a_session_has_one_run_at_a_time() {
    let rig = Rig::new([Line::Hangs("x")]).await;
    let (reins, task) = rig.start(rig.spec("one"));
    rig.script.spoke.notified().await;
    let second = rig.say("two").await;
    assert_eq!(second.status, RunStatus::Error);
    reins.stop("rpc");
    task.await.unwrap();
}

/// What is told can be read: at the time of `lifecycle end` the transcript and the store are on disk.
#[tokio::test]
async fn the_end_is_told_after_it_is_written() {
    let rig = Rig::new([Line::Text("Hello!")]).await;
    let done = rig.say("hi").await;
    let heard = rig.ear.heard.lock().unwrap();
    let last_session =
        heard.iter().rposition(|message| matches!(message, AgentToSup::SessionChanged(_))).unwrap();
    let end = heard
        .iter()
        .position(
            |message| matches!(message, AgentToSup::RunEvent(event) if event.data_json.contains("\"end\"")),
        )
        .unwrap();
    assert!(last_session < end);
    assert!(done.message_id.is_some());
}
