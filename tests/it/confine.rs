//! What is in force for each kind of worker and for its commands, and what people see of it. Attacks are `escape`'s.

use super::recovery::model_config;
use harness::gateway::{Builder, TestGateway, children_of, command_line};
use harness::model_server::{ModelServer, Reply, Rule, Script};
use harness::telegram_server::TelegramServer;
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;

/// A user without any rights.
const NOBODY: u32 = 65_534;

/// A model that has its agent run one command and says what came of it.
async fn model(tool: &str, arguments: Value) -> ModelServer {
    let rules = vec![
        Rule { after_tool: Some(true), reply: Reply::text("done"), ..Rule::default() },
        Rule { after_tool: Some(false), reply: Reply::call(tool, arguments), ..Rule::default() },
    ];
    ModelServer::start(Script { rules, ..Script::default() }).await
}

/// What the model was told of its tool.
async fn result(gateway: &TestGateway, model: &ModelServer) -> String {
    let mut client = WsClient::cli(gateway.port, 4).await;
    let end = client.chat("main", "go").await;
    assert_eq!(end["state"], "final", "{end}");
    let book = model.book();
    let last = book.last().expect("a request").body["messages"].as_array().cloned().unwrap_or_default();
    let told = last.iter().rfind(|message| message["role"] == "tool").expect("a result of the tool");
    told["content"].as_str().map_or_else(|| told["content"].to_string(), str::to_owned)
}

/// One run of one tool in a gateway with this configuration.
async fn run(builder: Builder, tool: &str, arguments: Value) -> String {
    let model = model(tool, arguments).await;
    let gateway = builder.config(model_config(&model)).start().await;
    result(&gateway, &model).await
}

async fn exec(command: &str) -> String {
    run(TestGateway::builder(), "exec", json!({"command": command})).await
}

async fn workers(client: &mut WsClient) -> Vec<Value> {
    let listed = client.call("workers.list", json!({})).await.expect("a list");
    listed["workers"].as_array().cloned().unwrap_or_default()
}

/// Both kinds, as the kernel shows them, as this user.
async fn both_kinds(user: Option<u32>) {
    let telegram = TelegramServer::start().await;
    let mut builder = TestGateway::builder().config(json!({"channels": {"telegram": {
        "botToken": telegram.token(), "apiRoot": telegram.api_root(), "dmPolicy": "open", "allowFrom": ["*"],
    }}}));
    if let Some(user) = user {
        builder = builder.user(user);
    }
    let gateway = builder.start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    for name in ["[agent:main]", "[channel:telegram:default]"] {
        let pid = gateway.worker(name).await;
        let id = name.trim_matches(['[', ']']);
        wait::until(&format!("{id} is ready"), async || {
            workers(&mut client).await.into_iter().find(|row| row["id"] == id && row["state"] == "ready")
        })
        .await;
        let rows = workers(&mut client).await;
        let row = rows.iter().find(|row| row["id"] == id).expect("a row");
        assert_eq!(row["sandbox"]["tier"], "T2", "{row}\n{}", gateway.log());
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(wanted), "{id}: {wanted} in {status}");
        }
        let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("capabilities");
        let rights = u64::from_str_radix(rights, 16).expect("a mask");
        assert_eq!(rights & !0xfb, 0, "{id} has no rights over the system: {rights:x}");
        use std::os::unix::fs::MetadataExt;
        let owner = fs::metadata(format!("/proc/{pid}/mem")).expect("its memory").uid();
        assert_eq!(owner, 0, "{id} is not dumpable");
    }
    let shown = gateway.cli(&["status", "--deep"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("T2 (Landlock") && shown.contains("commands without network"), "{shown}");
}

#[tokio::test]
async fn both_kinds_of_worker_are_confined_and_shown() {
    both_kinds(None).await;
}

#[tokio::test]
async fn both_kinds_of_worker_are_confined_for_an_ordinary_user() {
    if rustix::process::getuid().is_root() {
        both_kinds(Some(NOBODY)).await;
    } else {
        eprintln!(
            "skipped: only root can start a gateway as another user; the other test ran as an ordinary one"
        );
    }
}

#[tokio::test]
async fn a_command_feels_like_a_command() {
    let told = exec(
        "set -e; echo a > f; mkdir -p d; cp f d/g; mv d/g d/h; ln -s f l; cat l d/h | sort | wc -l; \
         t=$(mktemp); echo in $t > $t; rm $t; (sleep 0.01 & wait); echo x > /dev/null; head -c 4 /dev/urandom | wc -c; \
         git init -q repo && cd repo && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m m && git log --oneline; \
         ls /proc/self/fd > /dev/null; date; echo all-of-it",
    )
    .await;
    assert!(told.contains("all-of-it") && told.contains(" m\n"), "{told}");
}

/// Modes and times are set by a process of the gateway's own, by each of the calls that programs use.
const MODES_AND_TIMES: &str = r#"set -e
mkdir -p m/sub && cd m
echo 'echo ran' > run && chmod +x run && ./run
chmod 640 run && test "$(stat -c %a run)" = 640
chmod -R go-rwx . && test "$(stat -c %a sub)" = 700
touch -d '2001-02-03 04:05:06' old && test "$(stat -c %y old | cut -c1-19)" = '2001-02-03 04:05:06'
cp -p old copy && test "$(stat -c %Y copy)" = "$(stat -c %Y old)"
ln -s old link && touch -h -d @86400 link && test "$(stat -c %Y link)" = 86400 && test "$(stat -c %Y old)" != 86400
touch -d @1000 link && test "$(stat -c %Y old)" = 1000
install -m 751 old installed && test "$(stat -c %a installed)" = 751
chmod 600 run && cp -a . ../m2 && test "$(stat -c %a ../m2/run)" = 600
tar --no-same-owner -cf t.tar run old sub && mkdir x && tar --no-same-owner -xpf t.tar -C x
test "$(stat -c %a x/run)" = 600 && test "$(stat -c %Y x/old)" = 1000
git init -q g && cd g && cp ../run tool && chmod 755 tool && git add tool
git -c user.name=a -c user.email=a@b commit -q -m m && git ls-files -s | grep -q ^100755 && git checkout -q -b b
cd .. && t=$(mktemp) && chmod 604 "$t" && test "$(stat -c %a "$t")" = 604 && rm "$t"
(exec 7>>old && chmod 611 /proc/self/fd/7 && chmod 612 /dev/fd/7) && test "$(stat -c %a old)" = 612
if command -v python3 > /dev/null; then python3 -c '
import os, shutil
os.utime("old", (5, 7)); assert os.stat("old").st_mtime == 7
fd = os.open("old", os.O_RDONLY); os.fchmod(fd, 0o600); os.utime(fd, (8, 9)); assert os.stat("old").st_mtime == 9
d = os.open(".", os.O_RDONLY); os.chmod("old", 0o644, dir_fd=d); os.utime("old", ns=(1, 2), dir_fd=d)
shutil.copy2("old", "again"); assert os.stat("again").st_mtime_ns == 2
try: os.chmod("nothing", 0o600); assert False
except FileNotFoundError: pass
'; fi
if command -v rsync > /dev/null; then rsync -a run old copied/ && test "$(stat -c %Y copied/old)" = "$(stat -c %Y old)"; fi
echo all-of-it"#;

#[tokio::test]
async fn a_command_sets_modes_and_times_of_its_own_files() {
    let told = exec(MODES_AND_TIMES).await;
    assert!(told.contains("ran\n") && told.contains("all-of-it"), "{told}");
}

#[tokio::test]
async fn a_command_of_an_ordinary_user_sets_modes_and_times_of_its_own_files() {
    if rustix::process::getuid().is_root() {
        let told =
            run(TestGateway::builder().user(NOBODY), "exec", json!({"command": MODES_AND_TIMES})).await;
        assert!(told.contains("ran\n") && told.contains("all-of-it"), "{told}");
    }
}

#[tokio::test]
async fn a_refusal_is_explained_though_the_command_ends_well() {
    let told = exec("chmod 644 /etc/hostname; cat /etc/shadow; echo went on").await;
    assert!(told.contains("went on") && told.contains("Operation not permitted"), "{told}");
    assert!(told.contains("[isolation: ") && told.contains("readWrite"), "{told}");
}

#[tokio::test]
async fn a_refused_file_names_the_key() {
    let told = exec("echo x > /tmp/openclaw-confine-test; cat /etc/shadow; true").await;
    assert!(told.contains("Permission denied"), "{told}");
    assert!(!told.contains("root:"), "{told}");
    let told = exec("cat ~/.openclaw/openclaw.json").await;
    assert!(
        told.contains("Permission denied") && told.contains("agents.list[].isolation.readOnly"),
        "{told}"
    );
    let told = run(TestGateway::builder(), "read", json!({"path": "~/.openclaw/openclaw.json"})).await;
    assert!(told.contains("ermission denied") && told.contains("agents.list[].isolation.readOnly"), "{told}");
}

#[tokio::test]
async fn a_read_only_path_is_read_and_not_written() {
    let config = json!({"agents": {"defaults": {"isolation": {"readOnly": ["~/repos"]}}}});
    let builder = || TestGateway::builder().file("repos/app/main.c", "int main;").config(config.clone());
    let both = json!({"command": "cat ~/repos/app/main.c && echo more >> ~/repos/app/main.c"});
    let told = run(builder(), "exec", both).await;
    assert!(told.contains("int main;") && told.contains("isolation.readWrite"), "{told}");
    let told = run(builder(), "read", json!({"path": "~/repos/app/main.c"})).await;
    assert!(told.contains("int main;"), "{told}");
    let write = json!({"path": "~/repos/app/new.c", "content": "x"});
    let told = run(builder(), "write", write).await;
    assert!(told.contains("ermission denied") && told.contains("isolation.readWrite"), "{told}");
}

#[tokio::test]
async fn network_is_off_until_it_is_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let connect = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo connected");
    let told = exec(&connect).await;
    assert!(!told.contains("connected"), "{told}");
    let on = json!({"agents": {"defaults": {"isolation": {"network": true}}}});
    let told = run(TestGateway::builder().config(on), "exec", json!({"command": connect})).await;
    assert!(told.contains("connected"), "{told}");
}

/// Nobody can take the keeper's place, so its worker goes with it, and the next one has its own.
#[tokio::test]
async fn a_killed_keeper_takes_its_worker_with_it() {
    let model = model("exec", json!({"command": "touch a && chmod 750 a && stat -c %a a"})).await;
    let gateway = TestGateway::builder().config(model_config(&model)).start().await;
    let worker = gateway.worker("[agent:main]").await;
    let keeper = wait::until("a keeper", async || {
        children_of(worker).into_iter().find(|pid| command_line(*pid).contains("__attributes"))
    })
    .await;
    kill(Pid::from_raw(keeper as i32), Signal::SIGKILL).expect("a process of this test");
    wait::until("another worker", async || {
        gateway.workers("[agent:main]").first().copied().filter(|pid| *pid != worker)
    })
    .await;
    let told = result(&gateway, &model).await;
    assert!(told.contains("750"), "{told}");
}

/// A password is called anything; so nothing of the environment is passed on that is not known to be none, or named.
#[tokio::test]
async fn commands_get_the_usual_variables_and_those_that_are_named() {
    let named = json!({"agents": {"defaults": {"isolation": {"env": ["FOR_TOOLS", "FROM_CONFIG"]}}},
        "env": {"vars": {"FROM_CONFIG": "config", "NOT_NAMED": "hidden"}}});
    let builder = TestGateway::builder()
        .config(named)
        .env("FOR_TOOLS", "yes")
        .env("DATABASE_URL", "postgres://me:word@host/db")
        .env("GH_PAT", "word");
    let told = run(builder, "exec", json!({"command": "env | sort"})).await;
    for line in ["FOR_TOOLS=yes", "FROM_CONFIG=config", "PATH=/", "HOME=/"] {
        assert!(told.contains(line), "{line} in {told}");
    }
    for word in ["word", "NOT_NAMED"] {
        assert!(!told.contains(word), "{word} in {told}");
    }
}

#[tokio::test]
async fn too_much_memory_and_too_many_processes_are_explained() {
    let limits = json!({"agents": {"defaults": {"isolation": {"memoryMb": 64, "processes": 20}}}});
    let builder = || TestGateway::builder().config(limits.clone());
    // Two processes that each keep below the limit of one.
    let hungry = "h() { head -c 45000000 /dev/zero | tail -c 45000000 | sleep 60; }; h & h & wait";
    let told = run(builder(), "exec", json!({"command": hungry, "timeout": 60, "yieldMs": 60000})).await;
    assert!(told.contains("out of memory") && told.contains("isolation.memoryMb"), "{told}");
    let many = "for i in $(seq 60); do sleep 60 & done; wait";
    let told = run(builder(), "exec", json!({"command": many, "timeout": 60, "yieldMs": 60000})).await;
    assert!(told.contains("too many processes") && told.contains("isolation.processes"), "{told}");
}

/// A gateway on a host without Landlock: every call of it answers as an old kernel does.
async fn without_landlock(mode: &str) -> (TestGateway, tempfile::TempDir) {
    harness::executables::directory();
    let wrapper = harness::executables::of_this_crate("without_landlock");
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(&wrapper, folder.path().join("openclaw")).expect("a link");
    let isolation = json!({"isolation": {"mode": mode}});
    (TestGateway::builder().bin(folder.path()).config(isolation).start().await, folder)
}

#[tokio::test]
async fn a_host_without_landlock_is_refused_with_the_remedy() {
    let (gateway, _folder) = without_landlock("require").await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let row = wait::until("the agent is quarantined", async || {
        workers(&mut client).await.into_iter().find(|row| row["state"] == "quarantined")
    })
    .await;
    let why = row["why"].as_str().unwrap_or_default();
    assert!(why.contains("isolation unavailable") && why.contains("isolation.min"), "{row}");
    let status = gateway.cli(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("isolation unavailable"));
}

#[tokio::test]
async fn a_host_without_landlock_serves_when_told_to_do_its_best() {
    let (gateway, _folder) = without_landlock("bestEffort").await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    assert_eq!(client.chat("main", "hello").await["state"], "final");
    let rows = workers(&mut client).await;
    assert_eq!(rows[0]["sandbox"]["tier"], "T3", "{rows:?}");
    let doctor = gateway.cli(&["doctor"]);
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("T3") && doctor.contains("Landlock"), "{doctor}");
}

#[tokio::test]
async fn a_workspace_around_the_state_is_refused() {
    let config = json!({"agents": {"defaults": {"workspace": "~"}}});
    let gateway = TestGateway::builder().config(config).start().await;
    let mut client = WsClient::cli(gateway.port, 4).await;
    let row = wait::until("the agent is quarantined", async || {
        workers(&mut client).await.into_iter().find(|row| row["state"] == "quarantined")
    })
    .await;
    assert!(row["why"].as_str().unwrap_or_default().contains("own files can be read"), "{row}");
}
