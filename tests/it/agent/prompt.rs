//! What the model is told: the system prompt, overrides of one run, pictures.

use super::{agent, asked, builder, scene, system, users};
use base64::Engine;
use harness::model_server::{ModelServer, Reply, Script};
use harness::ws_client::WsClient;
use serde_json::{Value, json};

#[tokio::test]
async fn the_system_prompt_has_its_sections_in_order() {
    let model = ModelServer::start(Script::default()).await;
    let long = "0123456789".repeat(3000);
    let skill = "---\nname: tea\ndescription: makes <tea> & cake\n---\nBoil water.";
    let gated = "---\nname: rocket\ndescription: flies\nmetadata: {\"openclaw\": {\"requires\": {\"bins\": [\"no-such-bin-x\"]}}}\n---\n";
    let gateway = builder(&model)
        .config(json!({"agents": {"defaults": {"bootstrapMaxChars": 20000, "bootstrapTotalMaxChars": 60000,
            "userTimezone": "Europe/Vienna"}}}))
        .file(".openclaw/workspace/AGENTS.md", "Be kind.  \n")
        .file(".openclaw/workspace/SOUL.md", &long)
        .file(".openclaw/workspace/skills/tea/SKILL.md", skill)
        .file(".openclaw/workspace/skills/rocket/SKILL.md", gated)
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "hello").await;
    let request = asked(&model).remove(0);
    let text = system(&request);
    let headings = [
        "## Tooling",
        "## Tool Call Style",
        "## Safety",
        "## OpenClaw CLI Quick Reference",
        "## Skills (mandatory)",
        "## Workspace",
        "## Current Date & Time",
        "## Workspace Files (injected)",
        "## Reply Tags",
        "## Messaging",
        "# Project Context",
        "## Silent Replies",
        "## Heartbeats",
        "## Runtime",
    ];
    let places: Vec<Option<usize>> =
        headings.iter().map(|heading| text.find(&format!("\n{heading}\n"))).collect();
    assert!(places.iter().all(Option::is_some), "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
    assert!(
        text.contains("makes &lt;tea&gt; &amp; cake") && !text.contains("rocket"),
        "gated skills stay out"
    );
    assert!(text.contains("Time zone: Europe/Vienna"));
    // 14 000 characters of the head and 4000 of the tail.
    assert!(text.contains(&long[..14_000]) && !text.contains(&long[..14_001]));
    assert!(text.contains("[...truncated, read SOUL.md for full content...]"), "the cut is marked");
    assert!(text.contains("[MISSING] Expected at: "));
    let runtime = text.lines().find(|line| line.starts_with("Runtime: ")).expect("the runtime line");
    for part in ["agent=main", "model=double/m1", "channel=webchat", "thinking=low"] {
        assert!(runtime.contains(part), "{part}: {runtime}");
    }
    // The message carries the time, the prompt does not.
    let said = users(&request).remove(0);
    assert!(said.starts_with('[') && said.ends_with("] hello"), "{said}");
}

#[tokio::test]
async fn one_cap_alone_is_for_the_sum_of_all_files() {
    let model = ModelServer::start(Script::default()).await;
    let gateway = builder(&model)
        .config(json!({"agents": {"defaults": {"bootstrapMaxChars": 4000}}}))
        .file(".openclaw/workspace/AGENTS.md", &"a".repeat(3000))
        .file(".openclaw/workspace/SOUL.md", &"b".repeat(3000))
        .file(".openclaw/workspace/TOOLS.md", &"c".repeat(3000))
        .start()
        .await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.chat("main", "hello").await;
    let text = harness::ws_client::chat_text(&client.chat("main", "/context json").await);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let files = report["report"]["injectedWorkspaceFiles"].as_array().expect("files").clone();
    let injected: u64 = files.iter().filter_map(|file| file["injectedChars"].as_u64()).sum();
    assert!((3000..=4000).contains(&injected), "{injected}: {files:?}");
    assert_eq!(files[0]["truncated"], false, "{files:?}");
    assert!(system(&asked(&model)[0]).contains(&"a".repeat(3000)));
}

#[tokio::test]
async fn overrides_are_for_one_run() {
    let (_gateway, model, mut client) = scene(vec![], Reply::default()).await;
    let params = json!({
        "message": "with", "idempotencyKey": "o1", "thinking": "high", "model": "double/m1",
        "extraSystemPrompt": "Speak like a pirate.",
    });
    agent(&mut client, params).await.expect("done");
    let other = json!({"message": "other", "idempotencyKey": "o2", "provider": "double", "model": "m2"});
    let done = agent(&mut client, other).await.expect("done");
    assert_eq!(done["result"]["meta"]["agentMeta"]["model"], "m2", "{done}");
    agent(&mut client, json!({"message": "without", "idempotencyKey": "o3"})).await.expect("done");
    let requests = asked(&model);
    let prompts: Vec<String> = requests.iter().map(system).collect();
    assert!(prompts[0].contains("Speak like a pirate.") && prompts[0].contains("thinking=high"));
    assert_eq!(requests[0].body["reasoning_effort"], "high", "{}", requests[0].body);
    assert_eq!(requests[1].body["model"], "m2");
    assert!(prompts[1].contains("model=double/m2") && prompts[1].contains("default_model=double/m1"));
    assert_eq!(requests[2].body["model"], "m1");
    assert!(!prompts[2].contains("pirate") && prompts[2].contains("thinking=low"));
    // All three are one conversation.
    assert_eq!(users(&requests[2]).len(), 3);
    // One that does not exist is answered for by the configured one, and that is told.
    let unknown = json!({"message": "x", "idempotencyKey": "o4", "model": "nobody/m9"});
    let done = agent(&mut client, unknown).await.expect("done");
    assert_eq!(done["result"]["meta"]["agentMeta"]["model"], "m1", "{done}");
    let told = client.event_where("agent", |payload| payload["data"]["phase"] == "fallback").await;
    let data = &told["payload"]["data"];
    assert_eq!((&data["selectedModel"], &data["activeModel"]), (&json!("nobody/m9"), &json!("double/m1")));
    assert_eq!(data["reason"], "model_not_found");
}

#[tokio::test]
async fn a_picture_reaches_a_model_that_sees_and_no_other() {
    let (_gateway, model, mut client) = scene(vec![], Reply::default()).await;
    let png = png();
    let params = json!({
        "sessionKey": "main", "message": "what is this?", "idempotencyKey": "p",
        "attachments": [{"type": "image", "mimeType": "image/png", "fileName": "a.png", "content": png}],
    });
    client.call("chat.send", params).await.expect("accepted");
    let end = client.chat_end("p").await;
    assert_eq!(end["state"], "final", "{end}");
    let sent = asked(&model)[0].body["messages"].to_string();
    assert!(sent.contains("data:image/png;base64,"), "{sent}");
    let blind = json!({"message": "and now?", "idempotencyKey": "q", "model": "double/m2"});
    agent(&mut client, blind).await.expect("done");
    let sent = asked(&model)[1].body["messages"].to_string();
    assert!(!sent.contains("base64") && sent.contains("what is this?"), "{sent}");
}

/// One white pixel.
fn png() -> String {
    let bytes: [u8; 69] = [
        137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82, 0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0,
        144, 119, 83, 222, 0, 0, 0, 12, 73, 68, 65, 84, 120, 156, 99, 248, 255, 255, 63, 0, 5, 254, 2, 254,
        13, 239, 70, 184, 0, 0, 0, 0, 73, 69, 78, 68, 174, 66, 96, 130,
    ];
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
