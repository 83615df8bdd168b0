//! Conversations that outgrow their model, with a scripted one.

use serde_json::{Value, json};

use super::control;
use super::rig::{KEY, Line, Rig, input};
use super::upkeep;
use crate::provider::Reason;
use crate::tool::Effect;
use proto::wire::agent::RunStatus;
use tokio_util::sync::CancellationToken;

fn overflow() -> Line {
    Line::Fails("", Reason::ContextOverflow)
}

async fn entry(rig: &Rig) -> Value {
    Value::Object(rig.agent.sessions.entry(KEY).await.unwrap().unwrap().0)
}

#[tokio::test]
async fn what_a_model_refuses_as_too_long_is_summarised_and_asked_of_it_again() {
    let rig = Rig::new([
        Line::Text("one"),
        Line::Text("two"),
        Line::Text("three"),
        overflow(),
        Line::Text("THE SUMMARY"),
        Line::Text("four"),
    ])
    .await;
    for text in ["first", "second", "third"] {
        rig.say(text).await;
    }
    let done = rig.say("fourth").await;
    assert_eq!((done.status, done.text.as_str()), (RunStatus::Ok, "four"));
    assert!(
        rig.script.models.lock().unwrap().iter().all(|model| model == "script/one"),
        "no other model is the cure"
    );
    let summarised = rig.script.conversation(4);
    assert!(
        summarised.len() == 1 && summarised[0].contains("first") && !summarised[0].contains("fourth"),
        "{summarised:?}"
    );
    let taken = rig.script.conversation(5);
    assert!(
        taken[0].contains("<summary>\nTHE SUMMARY") && taken.last().unwrap().ends_with("] fourth"),
        "{taken:?}"
    );
    assert!(taken.len() < 7);
    let lines = rig.transcript().await;
    let made = lines.iter().find(|line| line["type"] == "compaction").unwrap();
    let kept = lines.iter().find(|line| line["id"] == made["firstKeptEntryId"]).unwrap();
    assert!(kept["message"]["role"] == "user" || kept["message"]["role"] == "assistant", "{kept}");
    assert_eq!(entry(&rig).await["compactionCount"], 1);
    let told = rig.told();
    assert_eq!(
        told.iter().filter(|word| word.starts_with("compaction")).collect::<Vec<_>>(),
        ["compaction start", "compaction end"]
    );
}

#[tokio::test]
async fn one_turn_that_is_too_long_is_an_error_that_says_so() {
    let rig = Rig::new([overflow(), Line::Text("short enough")]).await;
    let failed = rig.say("much too long").await;
    let error = failed.error.expect("an error");
    assert!(error.message.contains("/new"), "{}", error.message);
    assert_eq!(rig.script.count(), 1);
    assert_eq!(rig.say("hi").await.status, RunStatus::Ok);
}

#[tokio::test]
async fn a_conversation_that_cannot_even_be_summarised_begins_anew_with_an_apology() {
    let lines = [Line::Text("one"), Line::Text("two"), overflow()].into_iter();
    let rig = Rig::new(lines.chain(std::iter::repeat_n(overflow(), 5)).chain([Line::Text("fresh")])).await;
    rig.say("first").await;
    rig.say("second").await;
    let before = entry(&rig).await["sessionId"].clone();
    let failed = rig.say("third").await;
    assert_eq!(failed.status, RunStatus::Error);
    let text = &failed.parts[0].text;
    assert!(text.contains("Sorry") && text.contains("reserveTokensFloor"), "{text}");
    assert_ne!(entry(&rig).await["sessionId"], before);
    assert_eq!(rig.say("fourth").await.text, "fresh");
}

#[tokio::test]
async fn a_failure_that_may_pass_loses_nothing() {
    let server = Line::Fails("", Reason::Server);
    let rig = Rig::new([Line::Text("one"), Line::Text("two"), overflow(), server, Line::Text("three")]).await;
    rig.say("first").await;
    rig.say("second").await;
    assert_eq!(rig.say("third").await.status, RunStatus::Error);
    assert_eq!(rig.say("again").await.text, "three");
    assert!(rig.script.conversation(4).iter().any(|text| text.ends_with("] first")));
}

#[tokio::test]
async fn compact_by_hand_and_again_after_a_death() {
    let long: &'static str = Box::leak("word ".repeat(200).into_boxed_str());
    let lines = [Line::Text(long), Line::Text(long), Line::Text("SUMMARY OF ALL")];
    let rig = Rig::new(lines).await;
    let said = rig.say("/compact").await;
    assert!(said.text.starts_with("⚙️ Compaction skipped: "), "{}", said.text);
    rig.say("first").await;
    rig.say("second").await;
    let spec = rig.spec("/compact keep the names");
    let done = rig.run(spec.clone()).await;
    assert!(done.text.starts_with("⚙️ Compacted (") && done.text.contains("• Context "), "{}", done.text);
    assert!(rig.script.conversation(2)[0].contains("keep the names"));
    assert_eq!(entry(&rig).await["compactionCount"], 1);
    let rig = rig.restarted([Line::Text("later")], Effect::Write).await;
    let mut again = spec;
    again.attempt = 2;
    let done = rig.run(again).await;
    assert!(done.text.starts_with("⚙️ Compacted ("), "{}", done.text);
    assert_eq!(rig.script.count(), 0, "the summary stands: nobody is asked again");
    rig.say("third").await;
    assert!(rig.script.conversation(0)[0].contains("SUMMARY OF ALL"));
}

#[tokio::test]
async fn after_a_turn_that_filled_the_window_the_next_message_waits_for_the_summary() {
    let config = json!({"agents": {"defaults": {"contextTokens": 16_000,
        "compaction": {"reserveTokens": 15_000, "keepRecentTokens": 100}}}});
    let long: &'static str = Box::leak("word ".repeat(8_000).into_boxed_str());
    let until = std::sync::Arc::new(tokio::sync::Notify::new());
    let lines = [Line::Text(long), Line::Waits(until.clone(), "SUMMARY"), Line::Text("second")];
    let rig = Rig::with(tempfile::tempdir().unwrap(), lines, config, Effect::Write).await;
    let done = rig.say("first").await;
    let agent = rig.agent.clone();
    let work =
        tokio::spawn(async move { upkeep::after_turn(&agent, &done, KEY, CancellationToken::new()).await });
    rig.script.spoke.notified().await;
    let (_reins, next) = rig.start(rig.spec("next"));
    until.notify_one();
    work.await.unwrap();
    assert_eq!(next.await.unwrap().unwrap().text, "second");
    assert!(rig.script.conversation(2)[0].contains("SUMMARY"), "{:?}", rig.script.conversation(2));
    let (reins, _control) = control::pair();
    assert!(reins.steer(input("x", 1)));
}
