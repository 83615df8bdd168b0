//! Worker processes: what is known of one, what its end leaves behind, and what it must not leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::gateway::{TestGateway, children_of, is_alive};
use harness::model_server::{Fault, ModelServer, Reply, Script};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::recovery::model_config;

/// A stopped worker counts as hung after 30 s, and is given some seconds to say why.
const HUNG: Duration = Duration::from_secs(150);

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("our own process");
}

fn command(gateway: &TestGateway, args: &[&str]) -> Value {
    let output = gateway.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document")
}

fn agent(gateway: &TestGateway) -> Value {
    command(gateway, &["workers"])["workers"][0].clone()
}

async fn ready(gateway: &TestGateway) -> Value {
    wait::until("the agent is ready", async || Some(agent(gateway)).filter(|row| row["state"] == "ready"))
        .await
}

/// A gateway whose model never answers, with one run under way.
async fn busy() -> (TestGateway, ModelServer, WsClient) {
    let stall = Reply::text("never to be seen").with_fault(Fault::Stall { after: 1 });
    let model = ModelServer::start(Script { otherwise: stall, ..Script::default() }).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let params = json!({"sessionKey": "main", "message": "ponder this", "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    wait::until("the model is asked", async || (!model.book().is_empty()).then_some(())).await;
    (gateway, model, client)
}

fn reports(gateway: &TestGateway) -> Vec<PathBuf> {
    let files = fs::read_dir(gateway.state_dir().join("crash")).into_iter().flatten().flatten();
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
}

#[tokio::test]
async fn a_dump_says_what_a_worker_does_and_does_not_disturb_it() {
    let (gateway, _model, _client) = busy().await;
    let pid = gateway.worker("openclaw-agent").await;
    let dump = command(&gateway, &["workers", "dump", "agent:main"]);
    let said = dump["dump"]["said"].to_string();
    assert!(said.contains("dump: run ") && said.contains("end of dump"), "{dump:#}");
    assert!(dump["dump"]["inFlight"][0].as_str().is_some_and(|what| what.starts_with("run ")), "{dump:#}");
    assert_eq!(dump["runs"][0]["runId"], "k", "{dump:#}");
    assert!(
        dump["dump"]["process"]["threads"].as_array().is_some_and(|threads| !threads.is_empty()),
        "{dump:#}"
    );
    let text = String::from_utf8_lossy(&gateway.cli(&["workers", "dump", "agent:main"]).stdout).into_owned();
    assert!(text.contains("Its own word") && text.contains("end of dump"), "{text}");
    assert_eq!(gateway.worker("openclaw-agent").await, pid, "it goes on");
    let refused = gateway.cli(&["workers", "dump", "agent:nobody"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there are: agent:main"), "{refused:?}");
}

#[tokio::test]
async fn a_crash_report_says_what_the_worker_was_doing() {
    let (gateway, _model, _client) = busy().await;
    let pid = gateway.worker("openclaw-agent").await;
    signal(pid, Signal::SIGABRT);
    let report = wait::until("a report", async || reports(&gateway).first().cloned()).await;
    let report = wait::until("the whole report", async || {
        serde_json::from_slice::<Value>(&fs::read(&report).ok()?).ok()
    })
    .await;
    assert_eq!(
        (&report["pid"], &report["class"], &report["ended"]["signal"]["number"]),
        (&json!(pid), &json!("crash"), &json!(6))
    );
    assert!(report["inFlight"][0].as_str().is_some_and(|what| what.starts_with("run ")), "{report:#}");
    assert!(report["frames"].as_array().is_some_and(|frames| !frames.is_empty()), "{report:#}");
    assert!(
        report["configHash"].as_str().is_some_and(|hash| hash.len() == 16) && report["build"].is_string()
    );
    let row = ready(&gateway).await;
    let named = row["lastCrash"]["report"].as_str().expect("a name").to_owned();
    assert!(gateway.state_dir().join("crash").join(named).exists(), "{row}");
    assert_ne!(row["pid"], json!(pid));
}

#[tokio::test]
async fn a_worker_can_be_stopped_started_and_restarted_by_hand() {
    let gateway = TestGateway::start().await;
    let first = ready(&gateway).await["pid"].clone();
    command(&gateway, &["workers", "stop", "agent:main"]);
    wait::until("it rests", async || (agent(&gateway)["state"] == "idle").then_some(())).await;
    command(&gateway, &["workers", "start", "agent:main"]);
    let second = ready(&gateway).await["pid"].clone();
    assert_ne!(first, second);
    command(&gateway, &["workers", "restart", "agent:main"]);
    let third = wait::until("another process", async || {
        let row = agent(&gateway);
        (row["state"] == "ready" && row["pid"] != second).then_some(row)
    })
    .await;
    assert_eq!((&third["lastCrash"], &third["restarts"]), (&Value::Null, &json!(0)), "no crash: {third}");
}

#[tokio::test]
async fn a_worker_that_somebody_stopped_is_replaced_and_not_blamed() {
    let gateway = TestGateway::start().await;
    let row = ready(&gateway).await;
    let pid = row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    signal(pid, Signal::SIGSTOP);
    let begin = Instant::now();
    let crash = loop {
        let row = agent(&gateway);
        if row["lastCrash"].is_object() {
            break row["lastCrash"].clone();
        }
        assert!(begin.elapsed() < HUNG, "still there: {row}");
        wait::step().await;
    };
    assert_eq!(crash["class"], "killedOutside", "{crash}");
    ready(&gateway).await;
    let report: Value =
        serde_json::from_slice(&fs::read(&reports(&gateway)[0]).expect("a report")).expect("whole");
    assert_eq!(report["killedFor"], "stopped", "{report:#}");
    assert!(
        report["process"]["status"]["State"].as_str().is_some_and(|state| state.starts_with('T')),
        "{report:#}"
    );
}

#[tokio::test]
async fn what_a_killed_gateway_left_behind_is_ended_by_the_next_one() {
    // Its orphans stay in this session; else the kernel would hang up on a stopped one, which ends it.
    nix::sys::prctl::set_child_subreaper(true).expect("this process adopts");
    let mut gateway = TestGateway::start().await;
    let row = ready(&gateway).await;
    let pid = row["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid");
    let noted = gateway.state_dir().join("workers.json");
    wait::until("it is noted", async || {
        fs::read_to_string(&noted).ok().filter(|text| text.contains(&format!("\"pid\":{pid},")))
    })
    .await;
    // Stopped, it cannot obey the signal that its supervisor's death sends.
    signal(pid, Signal::SIGSTOP);
    gateway.kill9();
    assert!(is_alive(pid), "it is stopped and stays");
    gateway.restart().await;
    wait::until("the leftover is gone", async || (!is_alive(pid)).then_some(())).await;
    assert!(gateway.log().contains("an earlier gateway left behind"), "{}", gateway.log());
    ready(&gateway).await;
    gateway.terminate();
    assert!(!noted.exists(), "an orderly stop leaves no note");
    let log = gateway.log();
    let ends: Vec<&str> = log.lines().filter(|line| line.contains("worker stopped")).collect();
    assert!(!ends.is_empty() && ends.iter().all(|line| line.contains("ended=exit code 0")), "{ends:#?}");
    nix::sys::prctl::set_child_subreaper(false).expect("as before");
}

/// Pids that a tool wrote, one a file.
fn pids(folder: &Path, names: &[&str]) -> Option<Vec<u32>> {
    let read = |name: &&str| fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok();
    names.iter().map(read).collect()
}

#[tokio::test]
async fn a_killed_agent_takes_its_tools_with_it_daemons_included() {
    let gateway = TestGateway::start().await;
    let mut client = WsClient::with_tools(gateway.port).await;
    let script = "run: sh -c 'sleep 1000 & echo $! > a; wait' & setsid sh -c 'setsid sleep 1000 & echo $! > b' & \
                  (setsid sh -c '(setsid sleep 1000 & echo $! > c) &' &) ; sleep 1000";
    let params = json!({"sessionKey": "main", "message": script, "idempotencyKey": "k"});
    client.call("chat.send", params).await.expect("accepted");
    let daemons = wait::until("three daemons", async || pids(&gateway.workspace(), &["a", "b", "c"])).await;
    assert!(daemons.iter().all(|pid| is_alive(*pid)));
    let agent = gateway.worker("openclaw-agent").await;
    signal(agent, Signal::SIGKILL);
    for pid in daemons {
        wait::until(&format!("tool process {pid} is gone"), async || (!is_alive(pid)).then_some(())).await;
    }
    wait::until("nothing but workers is left", async || {
        let strangers = children_of(gateway.pid()).into_iter().filter(|pid| {
            let command = harness::gateway::command_line(*pid);
            is_alive(*pid) && !command.starts_with("openclaw-")
        });
        (strangers.count() == 0).then_some(())
    })
    .await;
}

/// Whether this host lets us make a pid namespace; says why not.
fn may_unshare() -> bool {
    let probe = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status();
    let may = probe.is_ok_and(|status| status.success());
    if !may {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to unshare a pid namespace");
        eprintln!("skipped: no right to make a pid namespace (unshare --pid --mount-proc)");
    }
    may
}

#[tokio::test]
async fn as_the_first_process_of_a_container_it_reaps_everybodys_orphans() {
    if !may_unshare() {
        return;
    }
    let home = tempfile::tempdir().expect("a home");
    let port = harness::gateway::free_port();
    let log = fs::File::create(home.path().join("log")).expect("a log");
    let binary = harness::executables::directory().join("openclaw");
    // `exec` makes the gateway the first process; the sleep becomes its child when its parent has gone.
    let script = "(sh -c 'sleep 0.2 & sleep 0.4 & echo started > \"$HOME/orphans\"' &); exec \"$0\" gateway --port \"$1\" --allow-unconfigured";
    let mut outside = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "sh", "-c", script])
        .arg(&binary)
        .arg(port.to_string())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("OPENCLAW_STATE_DIR", home.path().join("state"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("unshare can be started");
    let read = || fs::read_to_string(home.path().join("log")).unwrap_or_default();
    wait::until("ready in its namespace", async || {
        let answer = harness::http::get(port, "/readyz", None).await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let gateway = wait::until("the gateway's pid", async || {
        children_of(outside.id())
            .into_iter()
            .find(|pid| harness::gateway::command_line(*pid).contains("gateway"))
    })
    .await;
    assert!(home.path().join("orphans").exists(), "{}", read());
    wait::until("no zombie is left", async || {
        let dead = children_of(gateway).into_iter().filter(|pid| !is_alive(*pid)).count();
        let sleeps = children_of(gateway)
            .into_iter()
            .filter(|pid| harness::gateway::command_line(*pid).contains("sleep"));
        (dead + sleeps.count() == 0).then_some(())
    })
    .await;
    signal(gateway, Signal::SIGTERM);
    let status =
        wait::until_blocking("it obeys TERM as pid 1", || outside.try_wait().expect("our own child"));
    assert!(status.success(), "{status}: {}", read());
}
