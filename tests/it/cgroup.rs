//! A gateway in a subtree of control groups of its own, as a service manager delegates one: each worker has a group, which is
//! ended with it. What a host with controllers limits is seen here only where the host has some.
//!
//! A process that no other layer knows of stands for whatever escaped them all: this test starts it, so it is nobody's child
//! in the gateway, and puts it into the worker's group.

use super::recovery::model_config;
use super::upgrade::replace;
use harness::gateway::{TestGateway, is_alive};
use harness::model_server::{ModelServer, Reply, Rule, Script};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// A group with the mark that systemd sets on what it delegates; removed at the end with all below it.
struct Subtree(PathBuf);

impl Subtree {
    /// `None`, with the reason printed: this host lets nobody make groups of version 2. CI cannot install a kernel.
    fn make() -> Option<Self> {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let skip =
            |why: String| eprintln!("skipped: no control groups of version 2 can be made here ({why})");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let Some(mount) = proto::runtime::cgroup::mount_in(&mounts) else {
            skip("none mounted".to_owned());
            return None;
        };
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let folder = mount.point.join(format!("openclaw-it-{}-{nth}", std::process::id()));
        let marked = fs::create_dir(&folder).and_then(|()| {
            Ok(rustix::fs::setxattr(&folder, "user.delegate", b"1", rustix::fs::XattrFlags::empty())?)
        });
        if let Err(error) = marked {
            let _none = fs::remove_dir(&folder);
            skip(format!("{}: {error}", folder.display()));
            return None;
        }
        Some(Self(folder))
    }

    /// Starts the gateway once more, in this group or the one below that it had moved itself to.
    async fn start(&self, gateway: &mut TestGateway) {
        let aside = self.0.join("supervisor");
        let place = if aside.exists() { aside } else { self.0.clone() };
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", place.display());
        gateway.start_again_in(&["sh", "-c", &script, "sh"], None);
        gateway.ready().await;
    }

    async fn gateway(&self, config: Value) -> TestGateway {
        let mut gateway = TestGateway::builder().config(config).start().await;
        gateway.terminate();
        self.start(&mut gateway).await;
        gateway
    }
}

impl Drop for Subtree {
    fn drop(&mut self) {
        let _old_kernel = fs::write(self.0.join("cgroup.kill"), "1");
        wait::until_blocking("the groups of the test are empty", || remove(&self.0).is_ok().then_some(()));
    }
}

fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove(&entry.path())?;
    }
    fs::remove_dir(folder)
}

/// The group of a process as the kernel says.
fn group_of(pid: u32) -> PathBuf {
    proto::runtime::cgroup::folder_of(&pid.to_string()).expect("its group")
}

/// The group of the default agent's worker, as the gateway tells it and the kernel confirms.
async fn leaf(subtree: &Subtree, gateway: &TestGateway) -> (u32, PathBuf) {
    let pid = gateway.worker("[agent:main]").await;
    let leaf = wait::until("the worker is in its group", async || {
        let group = group_of(pid);
        group.file_name()?.to_str()?.starts_with("agent_main.").then_some(group)
    })
    .await;
    let workers = leaf.parent().expect("the group of all workers");
    assert_eq!(workers.parent(), Some(subtree.0.as_path()), "{}", leaf.display());
    assert_eq!(group_of(gateway.pid()), subtree.0.join("supervisor"), "{}", gateway.log());
    let mut client = WsClient::cli(gateway.port, 4).await;
    let mut listed = async || {
        let listed = client.call("workers.list", json!({})).await.ok()?;
        let row = listed["workers"].as_array()?.iter().find(|row| row["id"] == "agent:main")?;
        Some(row["controlGroup"].clone()).filter(|shown| shown["group"] == leaf.display().to_string())
    };
    let shown = wait::until("the gateway tells the group", async || listed().await).await;
    if leaf.join("memory.max").exists() {
        assert_eq!(shown["memoryMax"], (768_u64 + 2048) * 1024 * 1024, "{shown}");
        assert!(shown["text"].as_str().is_some_and(|text| text.contains("memory 2816 MiB")), "{shown}");
    } else {
        assert_eq!(shown["text"], "own group, no limits", "{shown}");
    }
    (pid, leaf)
}

/// A process of this test in a group.
fn stray(leaf: &Path) -> Child {
    let child = Command::new("sleep").arg("600").spawn().expect("sleep");
    fs::write(leaf.join("cgroup.procs"), child.id().to_string()).expect("the group takes it");
    child
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().expect("our own child").is_some()
}

async fn gone(leaf: &Path, gateway: &TestGateway) {
    let what = format!("{} is removed; the log:\n{}", leaf.display(), gateway.log());
    wait::until(&what, async || (!leaf.exists()).then_some(())).await;
}

fn warm() -> Value {
    json!({"agents": {"defaults": {"model": {"primary": "demo/demo"}}}})
}

#[tokio::test]
async fn whatever_a_worker_left_in_its_group_ends_with_it() {
    let Some(subtree) = Subtree::make() else { return };
    let gateway = subtree.gateway(warm()).await;
    let (pid, old) = leaf(&subtree, &gateway).await;
    let mut stray = stray(&old);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the worker");
    wait::until("what was in its group has ended", async || has_ended(&mut stray).then_some(())).await;
    gone(&old, &gateway).await;
    wait::until("another worker", async || {
        gateway.workers("[agent:main]").into_iter().find(|new| *new != pid)
    })
    .await;
    let (_, new) = leaf(&subtree, &gateway).await;
    assert_ne!(new, old, "a group for each start");
    let shown = gateway.cli(&["status", "--deep"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Control groups: one for each worker below"), "{shown}");
    let shown = gateway.cli(&["doctor"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("one for each worker below"), "{shown}");
}

/// A command that has left its session twice is in the group of its worker.
#[tokio::test]
async fn a_command_does_not_leave_the_group_of_its_worker() {
    let Some(subtree) = Subtree::make() else { return };
    let command = "setsid sh -c 'setsid sleep 600 & echo $! > daemon; wait' & wait";
    let rules = vec![
        Rule { after_tool: Some(true), reply: Reply::text("done"), ..Rule::default() },
        Rule {
            after_tool: Some(false),
            reply: Reply::call("exec", json!({"command": command})),
            ..Rule::default()
        },
    ];
    let model = ModelServer::start(Script { rules, ..Script::default() }).await;
    let gateway = subtree.gateway(model_config(&model)).await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let run = json!({"sessionKey": "main", "message": "go", "idempotencyKey": "cgroup-1"});
    client.call("chat.send", run).await.expect("accepted");
    let (pid, group) = leaf(&subtree, &gateway).await;
    let noted = gateway.workspace().join("daemon");
    let daemon: u32 =
        wait::until("the command's daemon", async || fs::read_to_string(&noted).ok()?.trim().parse().ok())
            .await;
    assert_eq!(group_of(daemon), group);
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the worker");
    wait::until("the daemon has ended", async || (!is_alive(daemon)).then_some(())).await;
    gone(&group, &gateway).await;
}

#[tokio::test]
async fn leftovers_of_a_killed_gateway_end_at_the_next_start() {
    let Some(subtree) = Subtree::make() else { return };
    let mut gateway = subtree.gateway(warm()).await;
    let (_, old) = leaf(&subtree, &gateway).await;
    let mut stray = stray(&old);
    gateway.kill9();
    assert!(!has_ended(&mut stray), "nothing else ends it");
    subtree.start(&mut gateway).await;
    wait::until("the leftover has ended", async || has_ended(&mut stray).then_some(())).await;
    gone(&old, &gateway).await;
    leaf(&subtree, &gateway).await;
}

#[tokio::test]
async fn a_worker_keeps_its_group_over_an_upgrade_in_place() {
    let Some(subtree) = Subtree::make() else { return };
    let gateway = subtree.gateway(warm()).await;
    let (pid, before) = leaf(&subtree, &gateway).await;
    let mut kept = stray(&before);
    replace(&gateway, 1).await;
    assert_eq!(leaf(&subtree, &gateway).await, (pid, before.clone()), "the same worker in the same group");
    assert!(!has_ended(&mut kept), "{}", gateway.log());
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).expect("the worker");
    wait::until("the next image ends the group", async || has_ended(&mut kept).then_some(())).await;
    gone(&before, &gateway).await;
}

#[tokio::test]
async fn without_a_mark_nothing_is_rearranged() {
    let Some(subtree) = Subtree::make() else { return };
    rustix::fs::removexattr(&subtree.0, "user.delegate").expect("the mark");
    let gateway = subtree.gateway(warm()).await;
    let worker = gateway.worker("[agent:main]").await;
    assert_eq!((group_of(gateway.pid()), group_of(worker)), (subtree.0.clone(), subtree.0.clone()));
    let shown = gateway.cli(&["status", "--deep"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("Control groups: none: the gateway's control group is not delegated"), "{shown}");
}

/// Many processes, each within the limit of one; on a host that counts memory, inside of a group with a limit of its own.
#[tokio::test]
async fn what_a_command_takes_in_many_processes_is_counted_together_and_explained() {
    let Some(subtree) = Subtree::make() else { return };
    // A shell with a word of 18 MB.
    let hog = "sh -c 's=$(head -c 18000000 /dev/zero | tr \"\\0\" x); sleep 20; echo ${#s}' &";
    let command = format!("for i in $(seq 60); do {hog} done; wait; echo the-end");
    let rules = vec![
        Rule { after_tool: Some(true), reply: Reply::text("I am still here"), ..Rule::default() },
        Rule {
            after_tool: Some(false),
            reply: Reply::call("exec", json!({"command": command, "yieldMs": 60_000})),
            ..Rule::default()
        },
    ];
    let model = ModelServer::start(Script { rules, ..Script::default() }).await;
    let mut config = model_config(&model);
    harness::gateway::merge(&mut config, &json!({"agents": {"defaults": {"isolation": {"memoryMb": 64}}}}));
    let gateway = subtree.gateway(config).await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    client.call("health", json!({})).await.expect("a gateway");
    let pid = gateway.worker("[agent:main]").await;
    let group = wait::until("its group", async || {
        let group = group_of(pid);
        group.file_name()?.to_str()?.starts_with("agent_main.").then_some(group)
    })
    .await;
    if !group.join("memory.max").exists() {
        eprintln!("skipped: this host's control groups count no memory");
        return;
    }
    let limit = fs::read_to_string(group.join("memory.max")).expect("a limit");
    assert_eq!(limit.trim(), ((768_u64 + 64) * 1024 * 1024).to_string());
    let end = client.chat("main", "go").await;
    assert_eq!(harness::ws_client::chat_text(&end), "I am still here", "{}", gateway.log());
    let told = model.book().last().expect("a request").body.to_string();
    assert!(told.contains("isolation.memoryMb"), "the model is told the key: {told}");
    assert_eq!(gateway.workers("[agent:main]"), [pid], "the worker goes on; {}", gateway.log());
}
