//! What a service manager hears, with a manager of our own: its socket, its watchdog and its store of descriptors.

use harness::executables;
use harness::gateway::{Builder, TestGateway, children_of, free_port};
use harness::wait;
use harness::ws_client::WsClient;
use nix::sys::signal::Signal;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Everything that was said so far, and the descriptors that came with it.
#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    stored: Vec<(String, OwnedFd)>,
}

/// A service manager's end of the notify socket.
#[derive(Clone)]
struct Manager {
    heard: Arc<Mutex<Heard>>,
    address: String,
    _dir: Arc<TempDir>,
}

impl Manager {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self::serve(socket, path.display().to_string(), dir)
    }

    /// On a socket without a path, as systemd before version 246 has it in some containers.
    fn abstract_socket() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let name = format!("openclaw-test-{}", dir.path().display());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Self::serve(socket, format!("@{name}"), dir)
    }

    fn serve(socket: UnixDatagram, address: String, dir: TempDir) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ears = Arc::downgrade(&heard);
        std::thread::spawn(move || {
            while let Some((text, fds)) = receive(&socket) {
                let Some(heard) = ears.upgrade() else { return };
                let mut heard = heard.lock().expect("the test lives");
                let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).map(str::to_owned);
                if text.contains("FDSTORE=1") {
                    let name = name.clone().unwrap_or_default();
                    heard.stored.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
                }
                if text.contains("FDSTOREREMOVE=1") {
                    heard.stored.retain(|(kept, _)| Some(kept) != name.as_ref());
                }
                heard.lines.extend(text.lines().map(str::to_owned));
            }
        });
        Self { heard, address, _dir: Arc::new(dir) }
    }

    fn lines(&self) -> Vec<String> {
        self.heard.lock().expect("the ears live").lines.clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|heard| *heard == line).count()
    }

    fn stored(&self) -> Vec<(String, OwnedFd)> {
        let heard = self.heard.lock().expect("the ears live");
        heard.stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().expect("a copy"))).collect()
    }

    fn builder(&self) -> Builder {
        TestGateway::builder().arg("--service").env("NOTIFY_SOCKET", &self.address)
    }

    async fn hears(&self, wanted: &str) {
        wait::until(&format!("{wanted}; heard {:?}", self.lines()), async || {
            self.lines().iter().any(|line| line.starts_with(wanted)).then_some(())
        })
        .await;
    }

    async fn hears_more(&self, line: &str, than: usize) {
        wait::until(&format!("{line} again"), async || (self.count(line) > than).then_some(())).await;
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0u8; 8192];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    let fds = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = fds.flatten().collect();
    Some((String::from_utf8_lossy(&bytes[..message.bytes]).into_owned(), fds))
}

#[tokio::test]
async fn ready_status_and_stopping_are_told_in_order() {
    for manager in [Manager::start(), Manager::abstract_socket()] {
        let mut gateway = manager.builder().start().await;
        manager.hears("READY=1").await;
        manager.hears("STATUS=1/1 workers ready; 0 runs; config ok").await;
        assert_eq!(manager.count("STOPPING=1"), 0);
        assert!(gateway.terminate().success());
        manager.hears("STOPPING=1").await;
        let lines = manager.lines();
        let at = |line: &str| lines.iter().position(|heard| heard == line).expect(line);
        assert!(at("READY=1") < at("STOPPING=1"), "{lines:?}");
        // More time is asked for before the journal is read, not after the start.
        let extend = lines.iter().position(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")).expect("asked");
        assert!(extend < at("READY=1"), "{lines:?}");
        // Older managers take it for the end of the service.
        assert!(!lines.iter().any(|line| line.starts_with("RELOADING=")), "{lines:?}");
    }
}

#[tokio::test]
async fn a_restart_in_place_is_no_end_and_workers_hear_nothing_of_the_manager() {
    let manager = Manager::start();
    let gateway = manager
        .builder()
        .env("WATCHDOG_USEC", "3000000")
        .env("LISTEN_FDS", "0")
        .env("INVOCATION_ID", "0123")
        .start()
        .await;
    let worker = gateway.worker("agent:main").await;
    for pid in children_of(gateway.pid()).into_iter().chain([worker]) {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "LISTEN_FDS", "INVOCATION_ID"] {
            assert!(!environment.contains(name), "{name} in {environment}");
        }
    }
    let ready = manager.count("READY=1");
    gateway.signal(Signal::SIGUSR1);
    manager.hears_more("READY=1", ready).await;
    gateway.ready().await;
    assert_eq!(manager.count("STOPPING=1"), 0);
    let alive = manager.count("WATCHDOG=1");
    manager.hears_more("WATCHDOG=1", alive).await;
    WsClient::cli(gateway.port, 4).await.chat("main", "still there").await;
}

#[tokio::test]
async fn a_start_that_is_refused_says_why() {
    let manager = Manager::start();
    let mut gateway = manager
        .builder()
        .config(serde_json::json!({"gateway": {"mode": "remote"}}))
        .without_waiting()
        .start()
        .await;
    assert_eq!(gateway.wait_exit().code(), Some(78));
    manager.hears("STATUS=Gateway start blocked").await;
    assert_eq!(manager.count("READY=1"), 0);
}

/// A thread that stands still in the core, or in the journal, is what a hung disk or a busy loop looks like from outside.
#[tokio::test]
async fn no_sign_of_life_while_the_journal_or_the_core_hangs() {
    for (point, part) in [("sv.c1.mid", "journal"), ("sv.c2.after", "core")] {
        let manager = Manager::start();
        let gateway = manager
            .builder()
            .bin(executables::with_failpoints())
            .env("WATCHDOG_USEC", "900000")
            .env("OPENCLAW_FAILPOINTS", &format!("{point}=pause"))
            .start()
            .await;
        manager.hears("READY=1").await;
        manager.hears_more("WATCHDOG=1", 3).await;
        let mut client = WsClient::cli(gateway.port, 4).await;
        let params = serde_json::json!({"sessionKey": "main", "message": "x", "idempotencyKey": part});
        client.send("chat.send", params).await;
        wait::until(&format!("{part} is named; {:?}", manager.lines()), async || {
            let named = |line: &String| line.starts_with("STATUS=not answering") && line.contains(part);
            manager.lines().iter().any(named).then_some(())
        })
        .await;
        let alive = manager.count("WATCHDOG=1");
        // Ten times the interval without one: the status line changes at most once a second, so it is no clock.
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_secs(3) {
            wait::step().await;
        }
        assert_eq!(manager.count("WATCHDOG=1"), alive, "{part}");
    }
}

/// Starts the gateway as a manager does that kept a listener: as descriptor 3, with the pid of the process itself in
/// `LISTEN_PID`. A shell moves it there, for a child can be given standard streams only.
fn start_with(gateway: &TestGateway, manager: &Manager, port: u16) -> Child {
    let stored = manager.stored();
    let ipv4 = stored.into_iter().find(|(_, fd)| {
        let listener = TcpListener::from(fd.try_clone().expect("a copy"));
        listener.local_addr().is_ok_and(|address| address.is_ipv4())
    });
    let (name, listener) = ipv4.expect("a listener was stored");
    let program = executables::openclaw().display().to_string();
    let script =
        format!("exec 3<&0 </dev/null; export LISTEN_PID=$$; exec {program} gateway --service --port {port}");
    Command::new("/bin/bash")
        .args(["-c", &script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", gateway.home.path())
        .env("OPENCLAW_STATE_DIR", gateway.state_dir())
        .env("NOTIFY_SOCKET", &manager.address)
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

#[tokio::test]
async fn the_port_outlives_a_crash_in_the_managers_store() {
    let manager = Manager::start();
    let mut gateway = manager.builder().start().await;
    manager.hears("FDNAME=gateway-http").await;
    gateway.kill9();
    // The manager's copy keeps the port open: who connects now waits instead of being refused.
    let mut waiting = TcpStream::connect(("127.0.0.1", gateway.port)).expect("the port is open");
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut next = start_with(&gateway, &manager, gateway.port);
    gateway.ready().await;
    waiting.set_read_timeout(Some(wait::PATIENCE)).expect("a time-out");
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(manager.count("FDSTOREREMOVE=1"), 0);
    next.kill().expect("our own child");
    next.wait().expect("it ends");
}

#[tokio::test]
async fn a_stored_port_that_is_no_longer_wanted_is_given_up() {
    let manager = Manager::start();
    let mut gateway = manager.builder().start().await;
    manager.hears("FDNAME=gateway-http").await;
    gateway.kill9();
    let other = free_port();
    let mut next = start_with(&gateway, &manager, other);
    manager.hears("FDSTOREREMOVE=1").await;
    wait::until("the new port answers", async || harness::http::get(other, "/readyz", None).await.ok()).await;
    wait::until("the new port is stored instead", async || {
        let ports =
            manager.stored().into_iter().filter_map(|(_, fd)| TcpListener::from(fd).local_addr().ok());
        let ports: Vec<u16> = ports.map(|address| address.port()).collect();
        (!ports.is_empty() && ports.iter().all(|port| *port == other)).then_some(())
    })
    .await;
    assert!(TcpStream::connect(("127.0.0.1", gateway.port)).is_err(), "the old port is closed");
    next.kill().expect("our own child");
    next.wait().expect("it ends");
}
