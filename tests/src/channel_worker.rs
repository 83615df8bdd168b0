//! A channel worker without its gateway: the real executable, and this end of its link in the hands of the test.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use proto::runtime::link::{self, LinkEvent, LinkEvents, LinkHandle, LinkLimits};
use proto::runtime::worker_start;
use proto::wire::agent::{RpcCall, RpcResult, Shutdown};
use proto::wire::channel::{
    ChannelPhase, ChannelState, ChannelToSup, InboundAck, InboundMsg, InboundNack, OutboundItem, SendOutcome,
    SupToChannel,
};
use proto::wire::control::{Done, LinkControl};
use proto::wire::handshake::{
    Bootstrap, Isolation, SecretMap, SupHandshake, Welcome, WorkerConfig, WorkerHandshake, WorkerId,
    WorkerKind, WorkerPaths,
};
use proto::wire::state::Side;
use proto::wire::version::{PROTO_MAX, PROTO_MIN};
use proto::wire::{Id, Wire};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::telegram_server::TelegramServer;

/// What never takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a worker is started.
pub struct Start<'a> {
    pub program: &'a Path,
    pub account: &'a str,
    pub config: Value,
    pub token: &'a str,
    pub state_dir: &'a Path,
    pub cursors: BTreeMap<String, String>,
    pub failpoints: &'a str,
}

impl<'a> Start<'a> {
    /// The Telegram account `default` of a server, with further keys of `channels.telegram`.
    pub fn telegram(
        program: &'a Path,
        server: &'a TelegramServer,
        state_dir: &'a Path,
        extra: Value,
    ) -> Self {
        let mut section = serde_json::json!({"apiRoot": server.api_root(), "retry": {"minDelayMs": 1}});
        if let (Some(section), Value::Object(extra)) = (section.as_object_mut(), extra) {
            section.extend(extra);
        }
        let agents = serde_json::json!({"list": [{"id": "main", "identity": {"name": "Clawd"}}]});
        Self {
            program,
            account: "default",
            config: serde_json::json!({"channels": {"telegram": section}, "agents": agents}),
            token: server.token(),
            state_dir,
            cursors: BTreeMap::new(),
            failpoints: "",
        }
    }

    pub fn cursor(mut self, value: Option<&str>) -> Self {
        self.cursors = value.map(|value| ("updates".to_owned(), value.to_owned())).into_iter().collect();
        self
    }
}

/// A running worker, seen from the supervisor's place.
pub struct ChannelWorker {
    pub child: Child,
    pub link: LinkHandle,
    events: LinkEvents,
    /// Everything that it said about its account.
    pub states: Vec<ChannelState>,
}

impl ChannelWorker {
    /// Starts the worker and waits until it is ready.
    pub async fn start(start: Start<'_>) -> Self {
        let mut worker = Self::greet(start).await;
        match worker.event().await {
            LinkEvent::Message { code, payload, .. } => match WorkerHandshake::decode(code, &payload) {
                Ok(WorkerHandshake::Ready(_)) => worker,
                other => panic!("expected Ready: {other:?}"),
            },
            other => panic!("expected Ready: {other:?}"),
        }
    }

    /// Starts the worker up to `Welcome`.
    pub async fn greet(start: Start<'_>) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let bootstrap = Bootstrap {
            worker_id: WorkerId::channel("telegram", start.account),
            kind: WorkerKind::Channel,
            epoch: 1,
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            isolation: Isolation::BestEffort,
            policy: None,
            log_level: "error".to_owned(),
            boot_id: Id::now(),
            failpoints: start.failpoints.to_owned(),
            proxies: Default::default(),
        };
        let frame = worker_start::bootstrap_frame(&bootstrap).expect("the frame is small");
        std::io::Write::write_all(&mut &ours, &frame).expect("the socket has room");
        let child = Command::new(start.program)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        let stream = tokio::net::UnixStream::from_std(ours).expect("a socket of tokio");
        let (link, events) =
            link::spawn(stream, Side::Supervisor, LinkLimits::supervisor(WorkerKind::Channel));
        let mut worker = Self { child, link, events, states: Vec::new() };
        match worker.event().await {
            LinkEvent::Message { code, payload, .. } => match WorkerHandshake::decode(code, &payload) {
                Ok(WorkerHandshake::Hello(hello)) => assert_eq!(hello.epoch, 1),
                other => panic!("expected Hello: {other:?}"),
            },
            other => panic!("expected Hello: {other:?}"),
        }
        let welcome = Welcome {
            proto: PROTO_MAX,
            caps: 0,
            limits: Default::default(),
            config: WorkerConfig {
                config_json: start.config.to_string(),
                paths: WorkerPaths {
                    state_dir: start.state_dir.display().to_string(),
                    workspace: String::new(),
                    config_path: String::new(),
                    home: String::new(),
                },
                tool_env: BTreeMap::new(),
                version: "test".to_owned(),
            },
            secrets: SecretMap([("botToken".to_owned(), start.token.to_owned())].into()),
            cursors: start.cursors,
        };
        worker.link.try_send(&SupHandshake::Welcome(welcome)).expect("the link is open");
        worker
    }

    async fn event(&mut self) -> LinkEvent {
        let next = tokio::time::timeout(PATIENCE, self.events.recv());
        next.await.expect("the worker says something").expect("the link is open")
    }

    /// The next message that is no state and no announcement of what is read next, with its corr.
    pub async fn next(&mut self) -> (ChannelToSup, u64) {
        loop {
            match self.event().await {
                LinkEvent::Message { code, corr, payload, .. } => {
                    match ChannelToSup::decode(code, &payload).expect("a message of a channel worker") {
                        ChannelToSup::State(state) => self.states.push(state),
                        ChannelToSup::Examining(_) => {}
                        other => return (other, corr),
                    }
                }
                other => panic!("the link ended: {other:?}"),
            }
        }
    }

    /// Waits for a state; messages before it are lost.
    pub async fn state(&mut self, wanted: ChannelPhase) -> ChannelState {
        let mut looked = 0;
        loop {
            if let Some(found) = self.states.iter().skip(looked).find(|state| state.state == wanted) {
                return found.clone();
            }
            looked = self.states.len();
            match self.event().await {
                LinkEvent::Message { code, payload, .. } => {
                    if let Ok(ChannelToSup::State(state)) = ChannelToSup::decode(code, &payload) {
                        self.states.push(state);
                    }
                }
                other => panic!("the link ended before {wanted:?}: {other:?}"),
            }
        }
    }

    /// The next inbound message.
    pub async fn inbound(&mut self) -> InboundMsg {
        match self.next().await.0 {
            ChannelToSup::Inbound(message) => message,
            other => panic!("expected Inbound: {other:?}"),
        }
    }

    pub fn tell(&self, message: impl Into<SupToChannel>) {
        self.link.try_send(&message.into()).expect("the link is open");
    }

    pub fn ack(&self, ext_id: &str) {
        self.tell(InboundAck { ext_ids: vec![ext_id.to_owned()] });
    }

    pub fn nack(&self, ext_id: &str, retry_ms: u32) {
        self.tell(InboundNack { ext_id: ext_id.to_owned(), why: "test".to_owned(), retry_ms });
    }

    /// The go-ahead to a request.
    pub fn done(&self, corr: u64) {
        self.link.reply(corr, &LinkControl::Done(Done {})).expect("the request is open");
    }

    /// Gives every go-ahead until the result of this item comes. Returns it with the ids that were noted on the way.
    pub async fn deliver(&mut self, item: OutboundItem) -> (SendOutcome, Vec<String>) {
        let out_id = item.out_id;
        self.tell(item);
        let mut placed = Vec::new();
        loop {
            match self.next().await {
                (ChannelToSup::SendStarted(started), corr) => {
                    assert_eq!(started.out_id, out_id);
                    self.done(corr);
                }
                (ChannelToSup::Placed(note), corr) => {
                    placed.push(note.ext_id);
                    self.done(corr);
                }
                (ChannelToSup::SendResult(result), _) if result.out_id == out_id => {
                    return (result.outcome, placed);
                }
                other => panic!("unexpected while sending: {other:?}"),
            }
        }
    }

    pub async fn probe(&mut self) -> Value {
        let call = RpcCall { method: "probe".into(), params_json: "{}".into(), protocol: 4, client: None };
        let link = self.link.clone();
        let asked = tokio::spawn(async move { link.request(&SupToChannel::Rpc(call), 20_000).await });
        let (code, payload) = asked.await.expect("the task lives").expect("the probe is answered");
        match ChannelToSup::decode(code, &payload) {
            Ok(ChannelToSup::RpcResult(RpcResult { ok_json: Some(json), .. })) => {
                serde_json::from_str(&json).expect("a probe is JSON")
            }
            other => panic!("expected a probe: {other:?}"),
        }
    }

    /// SIGKILL, and until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the worker can be killed");
    }

    pub async fn stop(mut self) -> ExitStatus {
        self.tell(Shutdown { reason: "stop".to_owned() });
        self.exit().await
    }

    pub async fn exit(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the worker ends")
            .expect("it has a status")
    }
}
