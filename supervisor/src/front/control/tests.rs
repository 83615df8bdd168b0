use super::*;
use crate::events::GatewayEvent;
use crate::front::accept::tests::Running;
use bytes::BytesMut;
use proto::wire::Wire as _;
use proto::wire::admin::{CtlCall, CtlFollow, CtlHello, CtlRequest, CtlResponse};
use proto::wire::frame::{Flags, Frame, FrameDecoder};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

struct Client {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Client {
    async fn open(paths: &Paths, token: &str) -> Self {
        let stream = UnixStream::connect(paths.control_socket()).await.unwrap();
        let mut client = Self { stream, decoder: FrameDecoder::default() };
        client
            .send(2, CtlRequest::Hello(CtlHello { token: token.into(), build: "t".into(), protocol: 4 }))
            .await;
        client
    }

    async fn send(&mut self, corr: u64, message: CtlRequest) {
        let flags = Flags::MUST_UNDERSTAND;
        let (code, class) = (message.code(), message.class());
        let frame = Frame { code, class, flags, corr, payload: message.encode().into() };
        let mut out = BytesMut::new();
        frame.encode(&mut out).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn next(&mut self) -> Option<(u64, CtlResponse)> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some((frame.corr, CtlResponse::decode(frame.code, &frame.payload).unwrap()));
            }
            if self.stream.read_buf(self.decoder.room()).await.unwrap() == 0 {
                return None;
            }
        }
    }
}

fn paths(dir: &Path) -> Paths {
    Paths {
        home: dir.into(),
        state_dir: dir.into(),
        config_file: dir.join("c"),
        credentials_dir: dir.join("k"),
        profile: None,
        default_port: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_events_and_wrong_tokens() {
    let running = Running::start(&json!({ "gateway": { "auth": { "token": "tok" } } }));
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let control = Control::open(&paths).unwrap();
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&paths.control_socket()), mode(&paths.control_token_file()), mode(&paths.run_dir())),
        (0o600, 0o600, 0o700)
    );
    let serving = tokio::spawn(control.serve(running.gw.clone()));

    let mut stranger = Client::open(&paths, "wrong").await;
    assert!(matches!(stranger.next().await, Some((2, CtlResponse::Refused(_)))));
    assert!(stranger.next().await.is_none());

    let token = std::fs::read_to_string(paths.control_token_file()).unwrap();
    let mut client = Client::open(&paths, &token).await;
    assert!(matches!(client.next().await, Some((2, CtlResponse::Welcome(w))) if w.pid == 1));
    let call = |method: &str, params: &str| {
        CtlRequest::Call(CtlCall { method: method.into(), params_json: params.into() })
    };
    client.send(4, call("device.pair.list", "")).await;
    let Some((4, CtlResponse::Reply(reply))) = client.next().await else { panic!() };
    assert_eq!((reply.ok_json.as_deref(), reply.more), (Some(r#"{"pending":[],"paired":[]}"#), false));
    client.send(6, call("no.such", "{}")).await;
    let Some((6, CtlResponse::Reply(reply))) = client.next().await else { panic!() };
    assert_eq!(reply.error.unwrap().message, "unknown method: no.such");

    client.send(8, CtlRequest::Follow(CtlFollow { events: vec!["config.changed".into()] })).await;
    // The follow is served in order, so once this is answered it stands.
    client.send(10, call("health", "{}")).await;
    assert!(matches!(client.next().await, Some((10, CtlResponse::Reply(_)))));
    running.gw.front.fanout.emit(GatewayEvent::Presence);
    running.gw.front.fanout.emit(GatewayEvent::ConfigChanged(json!({ "ts": 1 })));
    let Some((8, CtlResponse::Event(event))) = client.next().await else { panic!() };
    assert_eq!((event.event.as_str(), event.payload_json.as_str()), ("config.changed", r#"{"ts":1}"#));
    running.gw.front.lot.advance(Stage::Stopping);
    assert!(serving.await.unwrap().is_none());
    running.stop().await;
}

#[test]
fn an_old_socket_is_replaced_and_the_token_changes() {
    let dir = tempfile::tempdir().unwrap();
    let paths = paths(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    drop(Control::open(&paths).unwrap());
    let first = std::fs::read_to_string(paths.control_token_file()).unwrap();
    drop(Control::open(&paths).unwrap());
    assert_ne!(std::fs::read_to_string(paths.control_token_file()).unwrap(), first);
}
