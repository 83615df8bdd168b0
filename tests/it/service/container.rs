//! The image's file tree in a directory, run as a container runs it: PID 1, uid 1000, a root that cannot be written, no
//! capabilities. What `deploy/Dockerfile` puts where stands there; no container engine is needed here.

use harness::executables;
use harness::gateway::{children_of, free_port, is_alive};
use harness::wait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// The commands that operators know by heart, letter by letter.
const KNOWN: [&str; 9] = [
    "node dist/index.js status",
    "node dist/index.js health",
    "node dist/index.js doctor",
    "node dist/index.js channels status --probe",
    "node dist/index.js gateway config.get",
    "node dist/index.js gateway call config.get",
    "node dist/index.js gateway status",
    "node dist/index.js devices list",
    "node dist/index.js dashboard --no-open",
];

/// Named, and with another port than the usual one, so that it runs beside the gateway of this host, whose network it
/// shares; a container has a network of its own.
const STATE: &str = "/home/node/.openclaw";

struct Container {
    tree: TempDir,
    outer: Child,
    port: u16,
}

/// Programs of the base image that the test itself needs, by their place there.
const OF_THE_BASE: [&str; 2] = ["/bin/sh", "/bin/sleep"];

fn copy(tree: &Path, from: &Path, to: &str) {
    let to = tree.join(to.trim_start_matches('/'));
    fs::create_dir_all(to.parent().expect("a folder")).expect("made");
    fs::copy(from, to).expect("copied");
}

/// The libraries that a program is linked with.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

fn tree() -> TempDir {
    let tree = tempfile::tempdir().expect("a directory");
    let root = tree.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("a mode");
    let ours =
        ["openclaw", "openclaw-agent", "openclaw-channel"].map(|name| executables::directory().join(name));
    for program in &ours {
        copy(root, program, &format!("usr/local/bin/{}", program.file_name().expect("a name").display()));
    }
    std::os::unix::fs::symlink("openclaw", root.join("usr/local/bin/node")).expect("a link");
    let base = OF_THE_BASE.map(PathBuf::from);
    for program in &base {
        copy(root, program, &program.display().to_string());
    }
    for library in ours.iter().chain(&base).flat_map(|program| libraries(program)) {
        copy(root, &library, &library.display().to_string());
    }
    for folder in ["proc", "dev", "tmp", "etc", "app", "home/node/.openclaw", "home/node/repos"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n")
        .expect("written");
    let state = root.join("home/node/.openclaw");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/openclaw.example.json5");
    fs::copy(example, state.join("openclaw.json")).expect("the example");
    for path in [state.join("openclaw.json"), state] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("root may");
    }
    tree
}

/// Mounts as an engine does, then becomes the gateway.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mount --bind "$TREE" "$TREE"
mount --bind "$TREE/home/node/.openclaw" "$TREE/home/node/.openclaw"
mount -o remount,ro,bind "$TREE"
mount -t proc proc "$TREE/proc"
mount -t tmpfs -o mode=1777 tmpfs "$TREE/tmp"
mount -t tmpfs tmpfs "$TREE/dev"
for device in null zero urandom random; do
  touch "$TREE/dev/$device"
  mount --bind "/dev/$device" "$TREE/dev/$device"
done
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
  env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/node OPENCLAW_STATE_DIR=/home/node/.openclaw \
  /usr/sbin/chroot --userspec=1000:1000 "$TREE" \
  openclaw gateway --service --bind lan --port "$PORT" --allow-unconfigured
"#;

impl Container {
    async fn start() -> Self {
        let (tree, port) = (tree(), free_port());
        let log =
            fs::File::create(tree.path().join("../").join(format!("container-{port}.log"))).expect("a log");
        let outer = Command::new("unshare")
            .args([
                "--pid",
                "--mount",
                "--uts",
                "--ipc",
                "--fork",
                "--kill-child=KILL",
                "/bin/sh",
                "-c",
                ENTER,
            ])
            .env("TREE", tree.path())
            .env("PORT", port.to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a copy"))
            .stderr(log)
            .spawn()
            .expect("unshare");
        let container = Self { tree, outer, port };
        container.ready().await;
        container
    }

    async fn ready(&self) {
        wait::until(&format!("ready; {}", self.log()), async || {
            let answer = harness::http::get(self.port, "/readyz", None).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        let path = self.tree.path().join("../").join(format!("container-{}.log", self.port));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The gateway's pid on this side; on its own side it is 1.
    fn pid(&self) -> u32 {
        children_of(self.outer.id())[0]
    }

    /// `docker compose exec openclaw-gateway <words>`.
    fn exec(&self, words: &[&str]) -> Output {
        Command::new("nsenter")
            .args(["--target", &self.pid().to_string(), "--pid", "--mount", "--root", "--wdns=/app"])
            .args(["--setuid", "1000", "--setgid", "1000", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", "/home/node")
            .env("OPENCLAW_STATE_DIR", STATE)
            .env("OPENCLAW_GATEWAY_PORT", self.port.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("nsenter")
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid() as i32);
        nix::sys::signal::kill(pid, signal).expect("our own child");
    }

    fn wait_exit(&mut self) -> ExitStatus {
        wait::until_blocking("the container ends", || self.outer.try_wait().expect("our own child"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the container ---\n{}", self.log());
        }
        let _dead = self.outer.kill();
        let _status = self.outer.wait();
        let log = self.tree.path().join("../").join(format!("container-{}.log", self.port));
        let _gone = fs::remove_file(log);
    }
}

/// Whether namespaces and mounts may be made here.
fn may() -> bool {
    let able = Command::new("unshare")
        .args(["--pid", "--mount", "--fork", "mount", "--make-rprivate", "/"])
        .output()
        .is_ok_and(|output| output.status.success());
    if able && rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI runs as root and may make namespaces");
    eprintln!("skipped: making a container's file tree needs root and namespaces");
    false
}

#[tokio::test]
async fn known_commands_work_letter_by_letter_in_the_image() {
    if !may() {
        return;
    }
    let mut container = Container::start().await;
    let inside = fs::read_to_string(format!("/proc/{}/status", container.pid())).expect("it runs");
    let field = |name: &str| {
        let line = inside.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("NSpid:").last().map(String::as_str), Some("1"));
    assert_eq!(field("Uid:")[0], "1000");
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);

    for known in KNOWN {
        let output = container.exec(&known.split(' ').collect::<Vec<_>>());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{known}: {out}{err}");
        assert!(!out.trim().is_empty(), "{known} says nothing");
    }
    let workers = String::from_utf8_lossy(&container.exec(&["openclaw", "workers"]).stdout).into_owned();
    assert!(workers.contains("agent:main") && workers.contains("agent:sales"), "{workers}");
    let refused = container.exec(&["node", "-e", "1"]);
    assert_eq!(refused.status.code(), Some(64), "{}", String::from_utf8_lossy(&refused.stderr));
    let healthy = container.exec(&["openclaw", "health", "--timeout", "3000"]);
    assert!(healthy.status.success(), "the health check of the image");
    let written = container.exec(&["/bin/sh", "-c", ": > /usr/local/bin/x"]);
    assert!(!written.status.success(), "the root can be written");

    // What a command leaves behind comes to PID 1, which has to reap it.
    let left = container.exec(&["/bin/sh", "-c", "sleep 0.1 & echo $!"]);
    assert!(left.status.success());
    let gateway = container.pid();
    wait::until("nothing is left behind", async || {
        let dead = children_of(gateway).into_iter().filter(|pid| !is_alive(*pid)).count();
        let strangers = children_of(gateway)
            .into_iter()
            .any(|pid| !harness::gateway::command_line(pid).contains("openclaw-"));
        (dead == 0 && !strangers).then_some(())
    })
    .await;

    // A restart in place does not end the container.
    let boot = |output: &Output| {
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")["bootId"].clone()
    };
    let info = ["openclaw", "gateway", "call", "system.info", "--json"];
    let before = boot(&container.exec(&info));
    container.signal(nix::sys::signal::Signal::SIGUSR1);
    wait::until("another boot", async || {
        let output = container.exec(&info);
        (output.status.success() && boot(&output) != before).then_some(())
    })
    .await;
    assert_eq!(container.pid(), gateway, "it is the same process");

    container.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(container.wait_exit().code(), Some(0));
    assert!(!is_alive(gateway));
}
