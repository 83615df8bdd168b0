use serde_json::json;

use crate::bench::{Bench, bench, gone};

async fn background(bench: &Bench, command: &str, pty: bool) -> String {
    let args = json!({"command": command, "background": true, "pty": pty});
    let details = bench.call("exec", args).await.details.unwrap();
    details["sessionId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_listed_polled_and_written_to() {
    let mut bench = bench();
    let id = background(&bench, "while read line; do echo got $line; done; echo end", false).await;
    let list = bench.ok("process", json!({"action": "list"})).await;
    assert!(list.starts_with(&format!("{id} running")) && list.contains(":: while read"), "{list}");

    bench.ok("process", json!({"action": "write", "sessionId": id, "data": "one\n"})).await;
    let written =
        bench.ok("process", json!({"action": "write", "sessionId": id, "data": "two\n", "eof": true})).await;
    assert_eq!(written, format!("Wrote 4 bytes to session {id} (stdin closed)."));
    let polled = bench.ok("process", json!({"action": "poll", "sessionId": id, "timeout": "10000"})).await;
    assert_eq!(polled, "got one\ngot two\nend\n\nProcess exited with code 0.");
    let again = bench.ok("process", json!({"action": "poll", "sessionId": id})).await;
    assert_eq!(again, "(no new output)\n\nProcess exited with code 0.");
    let notice = bench.notices.recv().await.unwrap();
    assert!(
        notice.text.starts_with("Exec completed (")
            && notice.text.ends_with("code 0) :: got one got two end")
    );

    let late = bench.err("process", json!({"action": "write", "sessionId": id, "data": "x"})).await;
    assert!(late.contains("is not running"));
    assert_eq!(
        bench.ok("process", json!({"action": "clear", "sessionId": id})).await,
        format!("Cleared session {id}.")
    );
    assert_eq!(bench.ok("process", json!({"action": "list"})).await, "No running or recent sessions.");
}

#[tokio::test]
async fn a_log_is_paged_by_lines() {
    let bench = bench();
    let id = background(&bench, "seq 1 500", false).await;
    bench.ok("process", json!({"action": "poll", "sessionId": id, "timeout": 10000})).await;
    let log = bench.ok("process", json!({"action": "log", "sessionId": id})).await;
    assert!(
        log.starts_with("301\n")
            && log.ends_with("500\n\n[lines 300 to 500 of 500; page with offset and limit]"),
        "{log}"
    );
    let log = bench.ok("process", json!({"action": "log", "sessionId": id, "offset": 10, "limit": 2})).await;
    assert!(log.starts_with("11\n12\n\n["), "{log}");
}

#[tokio::test]
async fn keys_reach_a_terminal() {
    let bench = bench();
    let id = background(
        &bench,
        "trap 'echo stopped; exit 4' INT; printf 'ready> '; while :; do read line && echo \"<$line>\"; done",
        true,
    )
    .await;
    let poll = |timeout: u64| json!({"action": "poll", "sessionId": id, "timeout": timeout});
    bench
        .ok("process", json!({"action": "send-keys", "sessionId": id, "literal": "hi", "keys": ["Enter"]}))
        .await;
    let mut seen = String::new();
    while !seen.contains("<hi>") {
        seen.push_str(&bench.ok("process", poll(50)).await);
    }
    bench.ok("process", json!({"action": "send-keys", "sessionId": id, "keys": ["C-c"]})).await;
    let text = bench.ok("process", poll(10_000)).await;
    assert!(text.contains("stopped") && text.ends_with("Process exited with code 4."), "{text}");
    let bad =
        bench.err("process", json!({"action": "send-keys", "sessionId": id, "keys": ["Hyper-x"]})).await;
    assert!(bad.contains("Hyper-x"));
}

#[tokio::test]
async fn sessions_belong_to_their_session() {
    let mut bench = bench();
    let id = background(&bench, "echo $$ > pid; sleep 300", false).await;
    let pid = bench.pid_in("pid").await;
    bench.env.session_key = "agent:main:someone-else".into();
    assert_eq!(bench.ok("process", json!({"action": "list"})).await, "No running or recent sessions.");
    assert_eq!(
        bench.err("process", json!({"action": "kill", "sessionId": id})).await,
        format!("No session found for {id}")
    );
    bench.env.session_key = "agent:main:main".into();
    let cleared = bench.err("process", json!({"action": "clear", "sessionId": id})).await;
    assert!(cleared.contains("still running"));
    assert_eq!(
        bench.ok("process", json!({"action": "remove", "sessionId": id})).await,
        format!("Removed session {id}.")
    );
    gone(pid).await;
}

#[tokio::test]
async fn parameters_are_checked() {
    let bench = bench();
    let wrong = bench.err("process", json!({"action": "stop"})).await;
    assert!(wrong.contains("must be one of list, poll"));
    assert!(bench.err("process", json!({"action": "poll"})).await.contains("sessionId"));
}
