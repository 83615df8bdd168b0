use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    bench::{alive, bench, gone, until},
    tool::{
        Progress, ToolCall,
        config::{ExecAsk, ExecHost, ExecSecurity},
        registry::Registry,
    },
};

#[tokio::test]
async fn output_comes_merged_with_the_exit_code() {
    let bench = bench();
    let outcome = bench.call("exec", json!({"command": "echo out; echo err >&2; pwd; exit 3"})).await;
    let cwd = bench.env.workspace.display().to_string();
    assert!(!outcome.is_error, "an exit code is a result");
    assert_eq!(outcome.joined_text(), format!("out\nerr\n{cwd}\n\n(Command exited with code 3)"));
    let details = outcome.details.unwrap();
    assert_eq!(
        (&details["status"], &details["exitCode"], &details["cwd"]),
        (&json!("completed"), &json!(3), &json!(cwd))
    );
    assert_eq!(bench.ok("exec", json!({"command": "true"})).await, "(no output)");
}

#[tokio::test]
async fn only_commands_that_did_not_run_or_were_killed_are_errors() {
    let bench = bench();
    assert!(
        bench
            .err("exec", json!({"command": "no-such-command-x"}))
            .await
            .ends_with("Command not found (exit code 127)")
    );
    assert!(
        bench
            .err("exec", json!({"command": "exit 126"}))
            .await
            .ends_with("Command not executable (exit code 126)")
    );
    assert!(
        bench
            .err("exec", json!({"command": "echo a; kill -9 $$"}))
            .await
            .contains("a\n\nCommand aborted by signal SIGKILL")
    );
    assert!(
        bench.err("exec", json!({"command": "true", "workdir": "nowhere"})).await.contains("not a directory")
    );
    assert!(bench.err("exec", json!({"command": " "})).await.contains("Missing required parameter: command"));
}

#[tokio::test]
async fn a_timeout_kills_the_tree_and_keeps_the_output() {
    let bench = bench();
    let started = Instant::now();
    let text = bench
        .err("exec", json!({"command": "echo before; sleep 300 & echo $! > pid; sleep 300", "timeout": 0.3}))
        .await;
    assert!(text.starts_with("before\n\nCommand timed out after 0.3 seconds"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5));
    gone(bench.pid_in("pid").await).await;
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_dies_too() {
    let bench = bench();
    let command = "trap '' TERM; echo $$ > pid; while :; do sleep 1; done";
    assert!(bench.err("exec", json!({"command": command, "timeout": 0.2})).await.contains("timed out"));
    gone(bench.pid_in("pid").await).await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_dies_with_it() {
    let bench = bench();
    // A daemon proper: own session, double fork, no descriptor of ours, no environment.
    let daemon = "( setsid env -i sh -c '/bin/sleep 300 >/dev/null 2>&1 </dev/null & echo $! > daemon' & ) ; sleep 300 & echo $! > job; while [ ! -s daemon ]; do :; done; echo done";
    assert_eq!(bench.ok("exec", json!({"command": daemon})).await, "done");
    for file in ["daemon", "job"] {
        gone(bench.pid_in(file).await).await;
    }
}

#[tokio::test]
async fn an_abort_kills_the_tree() {
    let bench = bench();
    let call = ToolCall {
        id: "1".into(),
        name: "exec".into(),
        args: json!({"command": "setsid sleep 300 & echo $$ > pid; echo $! > daemon; wait"}),
    };
    let registry = Registry::of_all();
    let running = registry.call(call, &bench.env, Progress::default());
    let (outcome, pids) = tokio::join!(running, async {
        let pids = [bench.pid_in("pid").await, bench.pid_in("daemon").await];
        bench.env.cancel.cancel();
        pids
    });
    assert!(outcome.is_error);
    assert_eq!(outcome.joined_text(), "Operation aborted");
    for pid in pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_running() {
    let bench = bench();
    let args = json!({"command": "echo $$ > pid; sleep 300"});
    let call = ToolCall { id: "1".into(), name: "exec".into(), args };
    let registry = Registry::of_all();
    let pid = tokio::select! {
        _ = registry.call(call, &bench.env, Progress::default()) => panic!("it sleeps"),
        pid = bench.pid_in("pid") => pid,
    };
    gone(pid).await;
}

#[tokio::test]
async fn a_killed_guard_leaves_nothing_running() {
    let bench = bench();
    let command = "setsid sleep 300 & echo $! > daemon; kill -9 $PPID; sleep 300";
    let text = bench.err("exec", json!({"command": command})).await;
    assert!(text.contains("signal SIGKILL"), "{text}");
    gone(bench.pid_in("daemon").await).await;
}

#[tokio::test]
async fn a_worker_that_is_killed_takes_its_commands_along() {
    let bench = bench();
    // A shell plays the worker: it starts a guard of its own and is killed.
    bench.put(
        "worker",
        "\"$AGENT\" __exec guard $$ pipe -- sh -c 'setsid sleep 300 & echo $! > daemon; sleep 300' & wait",
    );
    let command = "sh worker & while [ ! -s daemon ]; do sleep 0.01; done; kill -9 $!; while [ -d /proc/$(cat daemon) ]; do sleep 0.01; done; echo gone";
    let args =
        json!({"command": command, "env": {"AGENT": env!("CARGO_BIN_EXE_openclaw-agent")}, "timeout": 15});
    assert!(bench.ok("exec", args).await.ends_with("gone"));
}

#[tokio::test]
async fn a_command_sees_only_its_streams_and_its_environment() {
    let bench = bench();
    let (_socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let text = bench
        .ok("exec", json!({"command": "for f in /proc/$$/fd/*; do echo ${f##*/} $(readlink $f); done"}))
        .await;
    let fds: Vec<&str> = text.lines().filter(|line| !line.ends_with(' ')).collect();
    assert!(fds.iter().all(|line| !line.contains("socket:")), "{text}");
    assert_eq!(fds.first(), Some(&"0 /dev/null"), "{text}");
    assert!(fds.iter().skip(1).all(|line| line.contains("pipe:")), "{text}");

    let vars = bench.ok("exec", json!({"command": "env", "env": {"FOO": "bar"}})).await;
    let names: Vec<&str> = vars.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    assert!(vars.contains("FOO=bar"));
    assert!(
        names.iter().all(|n| ["FOO", "PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_"].contains(n)),
        "{names:?}"
    );

    let status = bench.ok("exec", json!({"command": "cat /proc/self/status; ulimit -c"})).await;
    assert!(status.contains("SigBlk:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.ends_with("\n0"), "no core files");
}

#[tokio::test]
async fn variables_that_load_code_are_refused() {
    let bench = bench();
    for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "NODE_OPTIONS"] {
        let text = bench.err("exec", json!({"command": "true", "env": {name: "/tmp/x"}})).await;
        assert!(text.contains(name) && text.contains("not allowed"), "{text}");
    }
}

#[tokio::test]
async fn only_the_newest_output_is_kept() {
    let bench = bench();
    let text = bench.ok("exec", json!({"command": "seq 1 100000"})).await;
    assert!(text.len() < 201_000 && text.ends_with("\n100000"), "{}", text.len());
    assert!(text.starts_with('[') && text.contains("earlier output dropped"));
    let text = bench.ok("exec", json!({"command": "printf '\\033[31mred\\033[0m\\000\\377'"})).await;
    assert_eq!(text, "red\u{fffd}");
}

#[tokio::test]
async fn a_slow_command_goes_to_the_background_and_says_where() {
    let mut bench = bench();
    let outcome = bench.call("exec", json!({"command": "echo first; sleep 300", "yieldMs": 150})).await;
    let details = outcome.details.clone().unwrap();
    assert_eq!(details["status"], "running");
    let id = details["sessionId"].as_str().unwrap().to_owned();
    assert!(outcome.joined_text().starts_with(&format!("Command still running (session {id}, pid ")));
    until("its output", || {
        bench.env.commands.get(&id, "agent:main:main")?.text().0.contains("first").then_some(())
    })
    .await;
    assert_eq!(
        bench.ok("process", json!({"action": "kill", "sessionId": id})).await,
        format!("Killed session {id}.")
    );
    let notice = bench.notices.recv().await.unwrap();
    assert!(notice.text.starts_with("Exec failed (") && notice.text.ends_with(":: first"), "{}", notice.text);

    bench.env.process_offered = false;
    let text =
        bench.ok("exec", json!({"command": "sleep 0.3; echo end", "yieldMs": 10, "background": true})).await;
    assert!(text.starts_with("Warning:") && text.ends_with("end"), "{text}");
}

#[tokio::test]
async fn a_terminal_is_a_terminal() {
    let bench = bench();
    let text = bench
        .ok(
            "exec",
            json!({"command": "test -t 0 && test -t 1 && stty size && tty && echo $TERM", "pty": true}),
        )
        .await;
    assert!(text.starts_with("30 120\n/dev/pts/") && text.ends_with("xterm-256color"), "{text}");
    let text = bench
        .err("exec", json!({"command": "sleep 300 & echo $! > pid; wait", "pty": true, "timeout": 0.3}))
        .await;
    assert!(text.contains("timed out"), "{text}");
    gone(bench.pid_in("pid").await).await;
}

#[tokio::test]
async fn updates_carry_the_tail() {
    let bench = bench();
    let (sender, mut updates) = tokio::sync::mpsc::channel(4);
    let args = json!({"command": "echo working; while [ ! -e go ]; do sleep 0.05; done"});
    let call = ToolCall { id: "1".into(), name: "exec".into(), args };
    let registry = Registry::of_all();
    let running = registry.call(call, &bench.env, Progress::new(sender));
    let (outcome, update) = tokio::join!(running, async {
        let update = updates.recv().await.unwrap();
        bench.put("go", "");
        update
    });
    assert_eq!(update.details.unwrap()["tail"], "working\n");
    assert_eq!(outcome.joined_text(), "working");
}

#[tokio::test]
async fn configuration_decides_whether_commands_run() {
    let mut bench = bench();
    let refused = |settings: &mut crate::tool::config::ToolSettings, security, ask| {
        settings.exec.host = Some(ExecHost::Gateway);
        settings.exec.security = security;
        settings.exec.ask = ask;
    };
    for (security, ask, text) in [
        (Some(ExecSecurity::Deny), None, "tools.exec.security is deny"),
        (None, None, "needs an approval"),
        (Some(ExecSecurity::Full), Some(ExecAsk::Always), "needs an approval"),
    ] {
        bench.settings(|settings| refused(settings, security, ask));
        let got = bench.err("exec", json!({"command": "true"})).await;
        assert!(got.contains(text), "{got}");
    }
    bench.settings(|settings| refused(settings, Some(ExecSecurity::Full), Some(ExecAsk::Off)));
    bench.ok("exec", json!({"command": "true"})).await;
    let tightened = bench.err("exec", json!({"command": "true", "security": "deny"})).await;
    assert!(tightened.contains("denied"));
    let sandbox = bench.err("exec", json!({"command": "true", "host": "sandbox"})).await;
    assert!(sandbox.contains("no sandbox is active"));
}

#[tokio::test]
async fn the_end_of_the_table_ends_every_command() {
    let bench = bench();
    let outcome =
        bench.call("exec", json!({"command": "echo $$ > pid; sleep 300", "background": true})).await;
    assert_eq!(outcome.details.map(|d: Value| d["status"].clone()), Some(json!("running")));
    let pid = bench.pid_in("pid").await;
    assert!(alive(pid));
    bench.env.commands.kill_all().await;
    assert!(!alive(pid));
}
