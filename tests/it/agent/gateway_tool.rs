//! The tool `gateway`: an agent that restarts, reads and changes the gateway it runs in, and what it may not do.

use super::{asked, scene, scene_with, send, then, told, users, when};
use crate::upgrade::replaced;
use harness::model_server::{Reply, Rule};
use harness::ws_client::chat_text;
use serde_json::{Value, json};

fn tool(args: Value) -> Reply {
    Reply::call("gateway", args)
}

#[tokio::test]
async fn a_restart_that_the_agent_asks_for_leaves_its_run_alone() {
    let answer = "word ".repeat(60);
    let slow = Reply { text: answer.clone(), chunk_chars: 2, delay_ms: 40, ..Reply::default() };
    let rules = vec![
        when("restart", tool(json!({"action": "restart", "delayMs": 100, "note": "The gateway is back."}))),
        Rule { after_tool: Some(true), reply: slow, ..Rule::default() },
    ];
    let (gateway, model, mut client) = scene(rules, Reply::text("so it is")).await;
    send(&mut client, "main", "restart yourself", "k").await;
    let (pid, worker) = (gateway.pid(), gateway.worker("openclaw-agent").await);
    let info = replaced(&gateway, 1).await;
    assert_eq!((info["pid"].as_u64(), info["lastRestart"]["ok"].as_bool()), (Some(pid.into()), Some(true)));
    let end = client.chat_end("k").await;
    assert_eq!(chat_text(&end).trim(), answer.trim(), "the run that asked ends with its answer: {end}");
    assert_eq!(gateway.worker("openclaw-agent").await, worker, "in the same process");
    let result = told(asked(&model).last().expect("a request"));
    for part in ["\"ok\": true", "\"delayMs\": 100", "\"signal\": \"SIGUSR1\""] {
        assert!(result.contains(part), "{part}: {result}");
    }
    client.chat("main", "is it back?").await;
    let last = users(asked(&model).last().expect("a request")).pop().expect("a message");
    assert!(last.contains("Gateway restart restart ok (gateway.restart)"), "{last}");
    assert!(last.contains("The gateway is back."), "{last}");
    let tools = &asked(&model)[0].body["tools"];
    assert!(tools.to_string().contains("\"gateway\""), "offered to the owner");
}

#[tokio::test]
async fn what_the_tool_may_not_do_is_refused_in_words() {
    let rules = vec![
        when("restart", tool(json!({"action": "restart"}))),
        when("elsewhere", tool(json!({"action": "config.get", "gatewayUrl": "ws://10.0.0.1:1"}))),
        when("door", tool(json!({"action": "config.patch", "raw": "{gateway: {auth: {mode: 'none'}}}"}))),
        when(
            "secret",
            tool(json!({"action": "config.patch", "raw": "{messages: {responsePrefix: '${HOME}'}}"})),
        ),
        when("prefix", tool(json!({"action": "config.patch", "raw": "{messages: {responsePrefix: 'x'}}"}))),
        when("read", tool(json!({"action": "config.get"}))),
        then("ok"),
    ];
    let config = json!({"commands": {"restart": false}});
    let (gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    let before = std::fs::read_to_string(gateway.config_path()).expect("the config");
    let refusals = [
        ("restart", "Gateway restart is disabled (commands.restart=false)."),
        ("elsewhere", "gatewayUrl is not accepted"),
        ("door", "this tool may not change gateway.auth.mode"),
        ("secret", "this tool may not change messages.responsePrefix"),
    ];
    for (word, refusal) in refusals {
        client.chat("main", word).await;
        let result = told(asked(&model).last().expect("a request"));
        assert!(result.contains(refusal), "{word}: {result}");
    }
    let after = std::fs::read_to_string(gateway.config_path()).expect("the config");
    assert_eq!(before, after, "nothing was written");
    client.chat("main", "read").await;
    let shown = told(asked(&model).last().expect("a request"));
    assert!(shown.contains("\"valid\": true") && !shown.contains("sk-test"), "{shown}");
    client.chat("main", "prefix").await;
    let result = told(asked(&model).last().expect("a request"));
    assert!(result.contains("\"changedPaths\"") && result.contains("messages.responsePrefix"), "{result}");
    let written = std::fs::read_to_string(gateway.config_path()).expect("the config");
    assert!(written.contains("responsePrefix"), "{written}");
}
