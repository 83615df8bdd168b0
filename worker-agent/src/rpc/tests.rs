//! The methods against real files, through the same rig as the runs.

use super::answer;
use crate::tool::Effect;
use crate::turn::rig::{KEY, Line, Rig};
use proto::wire::WireError;
use proto::wire::agent::{AgentToSup, RpcCall};
use serde_json::{Value, json};

async fn ask(rig: &Rig, protocol: u8, method: &str, params: Value) -> Result<Value, WireError> {
    let call = RpcCall { method: method.into(), params_json: params.to_string(), protocol, client: None };
    answer(&rig.agent, &call).await
}

async fn talked() -> Rig {
    let rig =
        Rig::new([Line::Calls("Let me look.", &["a"]), Line::Text("Done."), Line::Text("Again.")]).await;
    rig.say("go").await;
    rig
}

#[tokio::test]
async fn history_in_both_protocols() {
    let rig = talked().await;
    let three = ask(&rig, 3, "chat.history", json!({"sessionKey": KEY, "limit": 50})).await.unwrap();
    assert_eq!(three["messages"][0]["content"], json!([{"type": "text", "text": "go"}]));
    assert_eq!((&three["thinkingLevel"], &three["verboseLevel"]), (&json!("off"), &json!("off")));
    assert!(three["messages"][1].get("usage").is_none() && three["messages"][1].get("__openclaw").is_none());
    let four = ask(&rig, 4, "chat.history", json!({"sessionKey": KEY, "limit": 2})).await.unwrap();
    assert_eq!((&four["totalMessages"], &four["hasMore"]), (&json!(4), &json!(true)));
    assert_eq!(four["messages"][1]["__openclaw"]["runId"], "client-1");
    assert!(four.get("deltaCursor").is_none());
    let none = ask(&rig, 3, "chat.history", json!({"sessionKey": "agent:main:none"})).await.unwrap();
    assert_eq!(none["messages"], json!([]));
    assert!(none.get("sessionId").is_none());
}

#[tokio::test]
async fn an_injected_message() {
    let rig = talked().await;
    let answer =
        ask(&rig, 3, "chat.inject", json!({"sessionKey": KEY, "message": "injected", "label": "lbl"})).await;
    let id = answer.unwrap()["messageId"].as_str().unwrap().to_owned();
    let lines = rig.transcript().await;
    let last = lines.last().unwrap();
    assert_eq!((&last["id"], &last["parentId"]), (&json!(id), &lines[lines.len() - 2]["id"]));
    assert_eq!(last["message"]["content"][0]["text"], "[lbl]\n\ninjected");
    assert_eq!(last["message"]["model"], "gateway-injected");
    let told = rig.told();
    assert_eq!(told[told.len() - 2..], ["session inject", "appended inject"]);
    let missing = ask(&rig, 3, "chat.inject", json!({"sessionKey": "agent:main:x", "message": "m"})).await;
    assert_eq!(missing.unwrap_err().code, "INVALID_REQUEST");
    let long =
        ask(&rig, 3, "chat.inject", json!({"sessionKey": KEY, "message": "m", "label": "x".repeat(101)}))
            .await;
    assert!(long.unwrap_err().message.contains("100"));
    rig.say("next").await;
    assert!(rig.script.conversation(2).contains(&"a:[lbl]\n\ninjected".to_owned()));
}

#[tokio::test]
async fn patch_sets_clears_and_refuses() {
    let rig = talked().await;
    let patch =
        json!({"key": KEY, "thinkingLevel": "high", "label": "my label", "model": "other/model", "junk": 1});
    let answer = ask(&rig, 3, "sessions.patch", patch).await.unwrap();
    assert_eq!(answer["entry"]["thinkingLevel"], "high");
    assert_eq!(answer["resolved"], json!({"modelProvider": "other", "model": "model"}));
    assert!(answer["entry"].get("junk").is_none() && answer["entry"].get("systemPromptReport").is_none());
    assert!(answer["path"].as_str().unwrap().ends_with("agents/main/sessions/sessions.json"));
    let answer = ask(&rig, 3, "sessions.patch", json!({"key": KEY, "thinkingLevel": null})).await.unwrap();
    assert!(answer["entry"].get("thinkingLevel").is_none());
    assert_eq!(answer["entry"]["label"], "my label");
    for bad in [
        json!({"thinkingLevel": "much"}),
        json!({"verboseLevel": "loud"}),
        json!({"label": ""}),
        json!({"label": 5}),
    ] {
        let mut params = bad.clone();
        params["key"] = json!(KEY);
        assert_eq!(
            ask(&rig, 3, "sessions.patch", params).await.unwrap_err().code,
            "INVALID_REQUEST",
            "{bad}"
        );
    }
    let taken = ask(&rig, 3, "sessions.patch", json!({"key": "agent:main:two", "label": "my label"})).await;
    assert!(taken.unwrap_err().message.contains("already in use"));
    assert!(rig.told().contains(&"session patch".to_owned()));
}

#[tokio::test]
async fn reset_keeps_levels_and_delete_refuses_the_main_session() {
    let rig = talked().await;
    let before = rig.agent.sessions.entry(KEY).await.unwrap().unwrap();
    ask(&rig, 3, "sessions.patch", json!({"key": KEY, "verboseLevel": "full"})).await.unwrap();
    let entry = ask(&rig, 3, "sessions.reset", json!({"key": KEY})).await.unwrap()["entry"].clone();
    assert_ne!(entry["sessionId"], before.session_id().unwrap());
    assert_eq!((&entry["verboseLevel"], &entry["totalTokens"]), (&json!("full"), &json!(0)));
    assert!(!rig.agent.sessions.path_of(KEY, &before).exists());
    let refused = ask(&rig, 3, "sessions.delete", json!({"key": KEY})).await.unwrap_err();
    assert_eq!(refused.message, "Cannot delete the main session (agent:main:main).");
    let mut spec = rig.spec("hi");
    spec.session_key = "agent:main:other".into();
    rig.run(spec).await;
    let gone = ask(&rig, 3, "sessions.delete", json!({"key": "agent:main:other"})).await.unwrap();
    assert_eq!((&gone["deleted"], gone["archived"].as_array().unwrap().len()), (&json!(true), 1));
    let heard = rig.ear.heard.lock().unwrap();
    assert!(
        heard
            .iter()
            .any(|message| matches!(message, AgentToSup::SessionChanged(changed) if changed.row.deleted))
    );
}

#[tokio::test]
async fn a_reset_ends_the_run_first() {
    let rig = Rig::new([Line::Hangs("x")]).await;
    let (_reins, task) = rig.start(rig.spec("go"));
    rig.script.spoke.notified().await;
    let old = rig.agent.sessions.entry(KEY).await.unwrap().unwrap();
    let answer = ask(&rig, 4, "sessions.reset", json!({"key": KEY, "reason": "new"})).await.unwrap();
    task.await.unwrap().unwrap();
    let now = rig.agent.sessions.entry(KEY).await.unwrap().unwrap();
    assert_eq!(answer["entry"]["sessionId"], now.session_id().unwrap());
    assert_ne!(old.session_id(), now.session_id());
}

#[tokio::test]
async fn compact_keeps_the_newest_lines_in_a_valid_file() {
    let rig = Rig::new((0..10).map(|_| Line::Text("answer"))).await;
    for _ in 0..10 {
        rig.say("question").await;
    }
    let untouched = ask(&rig, 3, "sessions.compact", json!({"key": KEY})).await.unwrap();
    assert_eq!((&untouched["compacted"], &untouched["kept"]), (&json!(false), &json!(40)));
    let answer = ask(&rig, 3, "sessions.compact", json!({"key": KEY, "maxLines": 8})).await.unwrap();
    assert_eq!((&answer["compacted"], &answer["kept"]), (&json!(true), &json!(8)));
    assert!(std::path::Path::new(answer["archived"].as_str().unwrap()).exists());
    let lines = rig.transcript().await;
    assert_eq!((lines.len(), &lines[0]["type"], &lines[1]["parentId"]), (9, &json!("session"), &Value::Null));
    assert_eq!(rig.say("after").await.status, proto::wire::agent::RunStatus::Ok);
    assert_eq!(rig.script.conversation(10).len(), 5);
}

#[tokio::test]
async fn previews() {
    let rig = talked().await;
    let keys = json!({"keys": [KEY, "agent:main:none"], "limit": 5, "maxChars": 20});
    let answer = ask(&rig, 3, "sessions.preview", keys).await.unwrap();
    assert_eq!(
        answer["previews"],
        json!([
            {"key": KEY, "status": "ok", "items": [
                {"role": "user", "text": "go"},
                {"role": "assistant", "text": "Let me look."},
                {"role": "assistant", "text": "Done."},
            ]},
            {"key": "agent:main:none", "status": "missing", "items": []},
        ])
    );
}

#[tokio::test]
async fn files_of_the_workspace() {
    let rig = Rig::new([]).await;
    let set = json!({"agentId": "main", "name": "SOUL.md", "content": "A fox."});
    let answer = ask(&rig, 3, "agents.files.set", set).await.unwrap();
    assert_eq!((&answer["ok"], &answer["file"]["size"]), (&json!(true), &json!(6)));
    let got = ask(&rig, 3, "agents.files.get", json!({"agentId": "main", "name": "SOUL.md"})).await.unwrap();
    assert_eq!(got["file"]["content"], "A fox.");
    let listed = ask(&rig, 3, "agents.files.list", json!({"agentId": "main"})).await.unwrap();
    let names: Vec<&str> =
        listed["files"].as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "AGENTS.md",
            "SOUL.md",
            "TOOLS.md",
            "IDENTITY.md",
            "USER.md",
            "HEARTBEAT.md",
            "BOOTSTRAP.md",
            "MEMORY.md"
        ]
    );
    for bad in ["../openclaw.json", "/etc/passwd", "notes.md", ""] {
        let params = json!({"agentId": "main", "name": bad, "content": "x"});
        assert!(ask(&rig, 3, "agents.files.set", params.clone()).await.is_err(), "{bad}");
        assert!(ask(&rig, 3, "agents.files.get", params).await.is_err(), "{bad}");
    }
    std::os::unix::fs::symlink("/etc/hostname", rig.dir.path().join("workspace/USER.md")).unwrap();
    let linked = json!({"agentId": "main", "name": "USER.md", "content": "x"});
    assert!(ask(&rig, 3, "agents.files.set", linked).await.is_err());
}

#[tokio::test]
async fn identity_catalogue_and_skills() {
    let config = json!({"agents": {"list": [{"id": "main", "identity": {"name": "Huda", "emoji": "🦊"}}]}});
    let rig = Rig::with(tempfile::tempdir().unwrap(), [], config, Effect::Read).await;
    let identity = ask(&rig, 3, "agent.identity.get", json!({})).await.unwrap();
    assert_eq!(identity, json!({"agentId": "main", "name": "Huda", "avatar": "🦊", "emoji": "🦊"}));
    let catalog = ask(&rig, 3, "tools.catalog", json!({})).await.unwrap();
    assert_eq!(catalog["profiles"].as_array().unwrap().len(), 4);
    let skill = rig.dir.path().join("skills/demo");
    std::fs::create_dir_all(&skill).unwrap();
    std::fs::write(skill.join("SKILL.md"), "---\nname: demo\ndescription: Shows things\n---\n").unwrap();
    let status = ask(&rig, 3, "skills.status", json!({})).await.unwrap();
    assert_eq!(
        (&status["skills"][0]["name"], &status["skills"][0]["eligible"]),
        (&json!("demo"), &json!(true))
    );
    let unknown = ask(&rig, 3, "sessions.nothing", json!({})).await.unwrap_err();
    assert_eq!(unknown.message, "unknown method: sessions.nothing");
}
