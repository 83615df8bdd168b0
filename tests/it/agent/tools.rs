//! Tools in a turn: what they leave running, what they give back, what happens when their process dies.

use super::{asked, history, scene, scene_with, send, then, told, when};
use harness::gateway::{TestGateway, children_of, command_line, commands_of, is_alive};
use harness::model_server::{Call, Reply, Rule};
use harness::wait;
use harness::ws_client::{WsClient, chat_text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn exec(command: &str) -> Reply {
    Reply::call("exec", json!({"command": command}))
}

/// All processes below this one.
/// Commands of a worker and all that they started.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = commands_of(pid);
    let mut at = 0;
    while let Some(next) = all.get(at) {
        all.extend(children_of(*next));
        at += 1;
    }
    all
}

fn pid_in(gateway: &TestGateway, file: &str) -> Option<u32> {
    std::fs::read_to_string(gateway.workspace().join(file)).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn an_abort_in_a_tool_kills_everything_that_it_started() {
    let command = "sh -c 'sleep 300 & echo $! > inner; wait' & setsid sleep 301 & echo $! > outer; wait";
    let rules = vec![when("wait long", exec(command))];
    let (gateway, model, mut client) = scene(rules, Reply::default()).await;
    send(&mut client, "main", "wait long", "k").await;
    let pids = wait::until("the command runs", async || {
        Some([pid_in(&gateway, "inner")?, pid_in(&gateway, "outer")?])
    })
    .await;
    let worker = gateway.worker("openclaw-agent").await;
    let all = tree(worker);
    assert!(pids.iter().all(|pid| all.contains(pid) && is_alive(*pid)), "{all:?} {pids:?}");
    let stopped = client.call("chat.abort", json!({"sessionKey": "main"})).await.expect("abort");
    assert_eq!(stopped["runIds"], json!(["k"]));
    assert_eq!(client.chat_end("k").await["state"], "aborted");
    wait::until("nothing of it is left", async || {
        let left: Vec<String> =
            all.iter().filter(|pid| is_alive(**pid)).map(|pid| command_line(*pid)).collect();
        (!left.iter().any(|line| line.contains("sleep"))).then_some(())
    })
    .await;
    assert_eq!(asked(&model).len(), 1, "an aborted run asks no more");
    // The session goes on, with every call answered.
    client.chat("main", "still there?").await;
    let last = asked(&model).pop().expect("a request");
    assert!(told(&last).to_lowercase().contains("abort"), "{}", told(&last));
}

#[tokio::test]
async fn a_command_in_the_background_is_polled_and_killed() {
    let rules = vec![
        when("start", Reply::call("exec", json!({"command": "echo begun; sleep 300", "background": true}))),
        when("list", Reply::call("process", json!({"action": "list"}))),
        then("{tool}"),
    ];
    let (gateway, model, mut client) = scene(rules, Reply::default()).await;
    let started = chat_text(&client.chat("main", "start it").await);
    let worker = gateway.worker("openclaw-agent").await;
    assert!(tree(worker).iter().any(|pid| command_line(*pid).contains("sleep 300")), "it outlives its turn");
    let listed = chat_text(&client.chat("main", "list them").await);
    let id = listed.split_whitespace().next().expect("an id").trim_matches(['*', '-']).to_owned();
    assert!(started.contains(&id), "{started} / {listed}");
    assert!(listed.contains("running"), "{listed}");
    // Another session does not see it.
    let elsewhere = chat_text(&client.chat("agent:main:other", "list them").await);
    assert!(!elsewhere.contains(&id), "{elsewhere}");
    drop(model);
    let sleeping: Vec<u32> =
        tree(worker).into_iter().filter(|pid| command_line(*pid).contains("sleep 300")).collect();
    drop(client);
    drop(gateway);
    wait::until("it dies with its gateway", async || {
        sleeping.iter().all(|pid| !is_alive(*pid)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn large_output_is_cut_for_the_model_and_for_the_file() {
    let rules = vec![when("", exec("yes 0123456789 | head -c 900000; echo THE-END")), then("done")];
    let (_gateway, model, mut client) = scene(rules, Reply::default()).await;
    client.chat("main", "make much").await;
    let text = told(&asked(&model)[1]);
    assert!(text.len() <= 201_000, "{} characters", text.len());
    assert!(text.contains("THE-END"), "the newest is kept");
}

#[tokio::test]
async fn the_exit_code_is_a_fact_and_a_missing_program_an_error() {
    let rules = vec![when("three", exec("exit 3")), when("none", exec("no-such-program-x")), then("ok")];
    let (_gateway, _model, mut client) = scene(rules, Reply::default()).await;
    let mut results = Vec::new();
    for text in ["three", "none"] {
        client.chat("main", text).await;
        let result = client
            .event_where("agent", |payload| {
                payload["stream"] == "tool" && payload["data"]["phase"] == "result"
            })
            .await;
        results.push(result["payload"]["data"]["isError"].clone());
    }
    assert_eq!(results, [json!(false), json!(true)]);
}

#[tokio::test]
async fn files_are_written_edited_read_and_listed() {
    let call = |name: &str, arguments: Value| Call { name: name.to_owned(), arguments, id: None };
    let calls = vec![
        call("write", json!({"path": "notes/a.txt", "content": "one\ntwo\n"})),
        call("edit", json!({"file_path": "notes/a.txt", "old_string": "two", "new_string": "three"})),
        call("read", json!({"path": "notes/a.txt"})),
        call("ls", json!({"path": "notes"})),
        call("read", json!({"path": "missing.txt"})),
    ];
    let all = Reply { text: String::new(), tool_calls: calls, ..Reply::default() };
    let (gateway, model, mut client) = scene(vec![when("", all), then("done")], Reply::default()).await;
    let end = client.chat("main", "go").await;
    assert_eq!(chat_text(&end), "done");
    assert_eq!(
        std::fs::read_to_string(gateway.workspace().join("notes/a.txt")).expect("a file"),
        "one\nthree\n"
    );
    let entries = asked(&model);
    let messages = entries[1].body["messages"].as_array().expect("messages");
    let results: Vec<String> =
        messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].to_string()).collect();
    assert_eq!(results.len(), 5, "every call is answered: {results:?}");
    assert!(results[2].contains("three") && results[3].contains("a.txt"), "{results:?}");
    assert!(results[4].contains("missing.txt"), "{results:?}");
}

/// Kills the worker in the first call of a tool; gives the results that the model is told in the end.
async fn killed_in(reply: Reply, started: impl Fn(&TestGateway) -> bool) -> (TestGateway, Vec<String>) {
    let rules = vec![Rule { times: Some(1), ..when("", reply) }, then("done")];
    let (gateway, model, mut client) = scene(rules, Reply::default()).await;
    send(&mut client, "main", "go", "k").await;
    wait::until("the tool runs", async || started(&gateway).then_some(())).await;
    let worker = gateway.worker("openclaw-agent").await;
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).expect("our own process");
    let end = client.chat_end("k").await;
    assert_eq!((end["state"].as_str(), chat_text(&end).as_str()), (Some("final"), "done"), "{end}");
    let entries = asked(&model);
    assert_eq!(entries.len(), 2, "the call itself is not asked for again");
    let messages = entries[1].body["messages"].as_array().expect("messages").clone();
    let results = messages.iter().filter(|m| m["role"] == "tool").map(|m| m["content"].to_string()).collect();
    let shown = history(&mut client, "main").await;
    assert_eq!(shown.iter().filter(|message| message["role"] == "user").count(), 1, "{shown:?}");
    (gateway, results)
}

#[tokio::test]
async fn after_a_kill_reading_is_repeated_and_writing_is_not() {
    // A pipe without a writer keeps the reader waiting until the worker is killed.
    let calls = vec![
        Call {
            name: "exec".to_owned(),
            arguments: json!({"command": "echo x >> ledger; sleep 60"}),
            id: None,
        },
        Call { name: "ls".to_owned(), arguments: json!({"path": "."}), id: None },
    ];
    let reply = Reply { text: String::new(), tool_calls: calls, ..Reply::default() };
    let (gateway, results) = killed_in(reply, |gateway| gateway.workspace().join("ledger").exists()).await;
    assert_eq!(std::fs::read_to_string(gateway.workspace().join("ledger")).expect("ledger"), "x\n");
    assert_eq!(results.len(), 2, "{results:?}");
    assert!(results[0].contains("outcome unknown"), "{results:?}");
    assert!(results[1].contains("ledger"), "what had not begun is run: {results:?}");
}

#[tokio::test]
async fn a_denied_tool_is_not_offered_and_cannot_be_called() {
    let rules = vec![when("", exec("echo x > made")), then("{tool}")];
    let config = json!({"tools": {"deny": ["group:runtime"]}});
    let (gateway, model, mut client) = scene_with(rules, Reply::default(), config).await;
    let end = client.chat("main", "go").await;
    let offered = asked(&model)[0].body["tools"].to_string();
    assert!(!offered.contains("\"exec\"") && offered.contains("\"read\""), "{offered}");
    assert!(!gateway.workspace().join("made").exists());
    assert!(chat_text(&end).contains("exec"), "{end}");
    let mut second = WsClient::cli(gateway.port, 3).await;
    assert_eq!(second.chat("main", "again").await["state"], "final");
}

#[tokio::test]
async fn the_end_of_a_command_in_the_background_is_told_to_the_next_prompt() {
    let quick = json!({"command": "while [ ! -e on ]; do sleep 0.05; done; echo finished-it; touch over", "background": true});
    let rules = vec![when("start", Reply::call("exec", quick)), then("started")];
    let (gateway, model, mut client) = scene(rules, Reply::default()).await;
    client.chat("main", "start it").await;
    std::fs::write(gateway.workspace().join("on"), "").expect("a file");
    wait::until("the command ended", async || gateway.workspace().join("over").exists().then_some(())).await;
    // The guard is gone a moment after its command.
    let worker = gateway.worker("openclaw-agent").await;
    wait::until("nothing of it runs", async || tree(worker).is_empty().then_some(())).await;
    client.chat("main", "what happened?").await;
    let said = super::users(&asked(&model).pop().expect("a request")).pop().expect("a message");
    assert!(
        said.contains("System: ") && said.contains("Exec completed") && said.contains("finished-it"),
        "{said}"
    );
    let shown = history(&mut client, "main").await;
    let mine = shown.iter().filter(|message| message["role"] == "user");
    assert!(
        mine.clone().count() == 2 && !mine.clone().any(|m| m.to_string().contains("Exec completed")),
        "{shown:?}"
    );
}

#[tokio::test]
async fn the_time_of_a_run_ends_its_command_too() {
    let (gateway, model, mut client) =
        scene(vec![when("", exec("echo $$ > pid; sleep 302"))], Reply::default()).await;
    let params = json!({"sessionKey": "main", "message": "go", "idempotencyKey": "t", "timeoutMs": 1500});
    client.call("chat.send", params).await.expect("accepted");
    let pid = wait::until("the command runs", async || pid_in(&gateway, "pid")).await;
    let end = client.chat_end("t").await;
    assert_eq!(
        (end["state"].as_str(), end["stopReason"].as_str()),
        (Some("aborted"), Some("timeout")),
        "{end}"
    );
    wait::until("the command is gone", async || (!is_alive(pid)).then_some(())).await;
    assert_eq!(asked(&model).len(), 1);
}

#[tokio::test]
async fn the_status_tool_shows_this_session_and_changes_its_model() {
    let rules = vec![
        when("show", Reply::call("session_status", json!({}))),
        when("change", Reply::call("session_status", json!({"model": "double/m2"}))),
        then("{tool}"),
    ];
    let (_gateway, model, mut client) = scene(rules, Reply::default()).await;
    let card = chat_text(&client.chat("main", "show").await);
    assert!(card.contains("Model: double/m1") && card.contains("agent:main:main"), "{card}");
    client.chat("main", "change it").await;
    client.chat("main", "hello").await;
    assert_eq!(asked(&model).pop().expect("a request").body["model"], "m2");
}
