//! The front over real sockets, with a scheduler that nobody serves.

use super::*;
use crate::front::settings::{AuthEnvironment, Settings};
use crate::front::shared::{Paths, Phase, Shared};
use crate::gateway::About;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;

pub type Client = tokio_tungstenite::WebSocketStream<TcpStream>;

pub struct Running {
    front: Option<Front>,
    pub gw: Handles,
    pub port: u16,
    _dir: tempfile::TempDir,
    _settings: watch::Sender<Arc<Settings>>,
}

impl Running {
    pub fn start(config: &Value) -> Self {
        Self::with_scheduler(config).0
    }

    /// With the other end of the scheduler's handle, for the test to play the core.
    pub fn with_scheduler(config: &Value) -> (Self, mpsc::Receiver<crate::scheduler::Command>) {
        Self::resumed(config, bind(Ipv4Addr::LOCALHOST.into(), 0).unwrap(), None)
    }

    /// One that goes on where another one has stopped.
    pub fn resumed(
        config: &Value,
        listeners: Vec<std::net::TcpListener>,
        carried: Option<(Vec<OwnedFd>, CarriedFront)>,
    ) -> (Self, mpsc::Receiver<crate::scheduler::Command>) {
        let dir = tempfile::tempdir().unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        let about = About {
            version: "0.0.1".into(),
            pid: 1,
            boot_id: "boot".into(),
            started: std::time::Instant::now(),
            started_ms: 0,
            port_now: port.into(),
            service: false,
        };
        let (settings, view) =
            watch::channel(Arc::new(Settings::from_config(config, &AuthEnvironment::default())));
        let paths = Paths { state_dir: dir.path().into(), ..Paths::default() };
        let (shared, events) = Shared::open(paths, view, &about).unwrap();
        shared.set_phase(Phase::Ready);
        let (commands, core) = mpsc::channel(8);
        let mut gw = crate::gateway::fixture::handles(dir.path(), config, shared, about);
        gw.scheduler = crate::scheduler::Scheduler::new(commands);
        let front = Some(Front::start(gw.clone(), listeners, None, events, carried).unwrap());
        (Self { front, gw, port, _dir: dir, _settings: settings }, core)
    }

    /// As before an exec; `held` is done when nothing is read any more. Blocks.
    pub fn freeze(mut self, held: impl FnOnce()) -> (Frozen, tempfile::TempDir) {
        let front = self.front.take().unwrap();
        front.hold();
        held();
        (front.freeze(), self._dir)
    }

    pub async fn http(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn open(&self, path: &str) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let url = format!("ws://127.0.0.1:{}{path}", self.port);
        tokio_tungstenite::client_async(url, stream).await.unwrap().0
    }

    pub async fn stop(mut self) {
        let front = self.front.take().unwrap();
        tokio::task::spawn_blocking(move || front.stop()).await.unwrap();
    }
}

pub async fn next(client: &mut Client) -> String {
    loop {
        // the periodic snapshot may come at any time
        let text = any(client).await;
        if !text.contains("\"event\":\"health\"") {
            return text;
        }
    }
}

pub async fn any(client: &mut Client) -> String {
    loop {
        match tokio::time::timeout(Duration::from_secs(20), client.next()).await.unwrap() {
            Some(Ok(Message::Text(text))) => return text.to_string(),
            Some(Ok(Message::Close(Some(frame)))) => {
                return format!("close {} {}", u16::from(frame.code), frame.reason);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => return format!("end {other:?}"),
        }
    }
}

pub async fn say(client: &mut Client, text: &str) {
    client.send(Message::text(text.to_owned())).await.unwrap();
}

fn connect(protocol: u8, token: &str) -> String {
    json!({ "type": "req", "id": "1", "method": "connect", "params": {
        "minProtocol": protocol, "maxProtocol": protocol,
        "client": { "id": "cli", "mode": "cli", "version": "1", "platform": "linux" },
        "scopes": ["operator.admin"], "auth": { "token": token },
    }})
    .to_string()
}

fn config() -> Value {
    json!({ "gateway": { "auth": { "token": "tok" } } })
}

pub async fn hello(running: &Running, protocol: u8) -> (Client, Value) {
    let mut client = running.open("/any/path").await;
    assert!(next(&mut client).await.contains("connect.challenge"));
    say(&mut client, &connect(protocol, "tok")).await;
    let hello: Value = serde_json::from_str(&next(&mut client).await).unwrap();
    (client, hello)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_unknown_paths() {
    let running = Running::start(&config());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let live = running.http(&get("/healthz")).await;
    assert!(live.starts_with("HTTP/1.1 200") && live.ends_with(r#"{"ok":true,"status":"live"}"#), "{live}");
    assert!(live.contains("x-content-type-options: nosniff") && live.contains("cache-control: no-store"));
    let head = running.http("HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 27") && head.ends_with("\r\n\r\n"), "{head}");
    let post = running.http("POST /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"));
    running.gw.front.set_phase(Phase::Draining);
    assert!(running.http(&get("/readyz")).await.starts_with("HTTP/1.1 503"));
    assert!(running.http(&get("/startupz")).await.contains(r#""status":"draining""#));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_requests_and_shutdown() {
    let running = Running::start(&config());
    let (mut old, hello3) = hello(&running, 3).await;
    assert_eq!(hello3["payload"]["protocol"], 3);
    let (mut client, hello4) = hello(&running, 4).await;
    assert_eq!(hello4["payload"]["type"], "hello-ok");
    assert_eq!(hello4["payload"]["auth"]["scopes"], json!(["operator.admin"]));
    assert_eq!(hello4["payload"]["policy"]["tickIntervalMs"], 30_000);
    say(&mut client, r#"{"type":"req","id":"2","method":"system-presence"}"#).await;
    assert!(next(&mut client).await.starts_with(r#"{"type":"res","id":"2","ok":true,"payload":[{"#));
    say(&mut client, "{bad").await;
    say(&mut client, r#"{"type":"req","id":"3","method":"no.such"}"#).await;
    assert!(next(&mut client).await.contains("unknown method: no.such"));
    say(&mut client, "{}").await;
    assert!(next(&mut client).await.contains(r#""id":"invalid","ok":false"#));
    say(&mut client, &connect(4, "tok")).await;
    assert!(next(&mut client).await.contains("connect is only valid as the first request"));
    running
        .gw
        .front
        .fanout
        .emit(GatewayEvent::Shutdown { reason: "gateway stopping", restart_expected_ms: None });
    running.stop().await;
    assert!(
        next(&mut client)
            .await
            .contains(r#""event":"shutdown","payload":{"reason":"gateway stopping"},"seq":"#)
    );
    assert_eq!(next(&mut client).await, "close 1012 service restart");
    let last = next(&mut old).await;
    assert!(last.contains(r#""restartExpectedMs":null"#), "{last}");
}

/// What each kind of bad beginning gets, as recorded from the original.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_close_codes() {
    let running = Running::start(&config());
    let method = r#"{"type":"req","id":"9","method":"health"}"#;
    let old = connect(4, "tok")
        .replace("\"maxProtocol\":4", "\"maxProtocol\":2")
        .replace("\"minProtocol\":4", "\"minProtocol\":1");
    let cases = [
        ("not json", "{nope".to_owned()),
        ("null", "null".to_owned()),
        ("event", r#"{"type":"event","event":"x"}"#.to_owned()),
        ("not connect", method.to_owned()),
        ("bad params", r#"{"type":"req","id":"1","method":"connect","params":{}}"#.to_owned()),
        ("old protocol", old),
        ("bad token", connect(4, "bad")),
        ("too large", format!("\"{}\"", "x".repeat(70_000))),
    ];
    let mut lines = Vec::new();
    for (name, first) in cases {
        let mut client = running.open("/").await;
        next(&mut client).await;
        say(&mut client, &first).await;
        let mut said = vec![next(&mut client).await];
        if !said[0].starts_with("close") {
            said.push(next(&mut client).await);
        }
        lines.push(format!("{name}:\n  {}", said.join("\n  ")));
    }
    running.gw.front.set_phase(Phase::Draining);
    let mut client = running.open("/").await;
    next(&mut client).await;
    say(&mut client, &connect(4, "tok")).await;
    lines.push(format!("draining:\n  {}\n  {}", next(&mut client).await, next(&mut client).await));
    insta::assert_snapshot!(lines.join("\n"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_over_the_limit_after_hello_is_1009_and_a_large_one_below_passes() {
    let running = Running::start(&config());
    let (mut client, _) = hello(&running, 4).await;
    let large =
        format!(r#"{{"type":"req","id":"2","method":"health","params":{{"x":"{}"}}}}"#, "x".repeat(300_000));
    say(&mut client, &large).await;
    assert!(next(&mut client).await.contains(r#""id":"2","ok":true"#));
    // only the head of the frame: masked, 26 MiB announced
    let mut head = vec![0x81, 0x80 | 127];
    head.extend((26_u64 << 20).to_be_bytes());
    head.extend([0; 4]);
    client.get_mut().write_all(&head).await.unwrap();
    assert_eq!(next(&mut client).await, "close 1009 ");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_limited_and_proxies_must_be_known() {
    let running = Running::start(&config());
    let forwarded = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    stream.write_all(forwarded.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 403");
    drop(stream);
    let mut idle = Vec::new();
    for _ in 0..crate::front::limits::CONNECTIONS_UNAUTHENTICATED_MAX {
        idle.push(running.open("/").await);
    }
    let mut refused = TcpStream::connect(("127.0.0.1", running.port)).await.unwrap();
    assert_eq!(refused.read(&mut [0; 8]).await.unwrap_or(0), 0);
    drop(idle);
    let (client, _) = hello(&running, 4).await;
    drop(client);
    running.stop().await;
}
