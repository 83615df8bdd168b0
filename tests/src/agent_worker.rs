//! An agent worker without its gateway: the real executable, and this end of its link in the hands of the test.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use proto::runtime::link::{self, LinkEvent, LinkEvents, LinkHandle, LinkLimits};
use proto::runtime::worker_start;
use proto::wire::agent::{
    AgentToSup, FinalAck, Origin, OriginKind, RpcCall, RunFinal, RunInput, RunOverrides, RunSpec, Shutdown,
    SupToAgent,
};
use proto::wire::handshake::{
    Bootstrap, Isolation, SecretMap, SupHandshake, Welcome, WorkerConfig, WorkerHandshake, WorkerId,
    WorkerKind, WorkerPaths,
};
use proto::wire::state::Side;
use proto::wire::version::{PROTO_MAX, PROTO_MIN};
use proto::wire::{Id, Wire};
use serde_json::Value;
use tokio::process::{Child, Command};

/// What never takes this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The session of every run here.
pub const KEY: &str = "agent:main:main";

/// A running worker, seen from the supervisor's place.
pub struct AgentWorker {
    pub child: Child,
    pub link: LinkHandle,
    events: LinkEvents,
    /// Everything that it said so far, in order.
    pub said: Vec<AgentToSup>,
}

impl AgentWorker {
    /// Starts the worker for agent `main` and waits until it is ready. The workspace is `<state>/workspace`.
    pub async fn start(program: &Path, state: &Path, config: Value) -> Self {
        Self::start_with(program, state, config, "").await
    }

    pub async fn start_with(program: &Path, state: &Path, config: Value, failpoints: &str) -> Self {
        let mut worker = Self::spawn(program, failpoints);
        match worker.handshake().await {
            WorkerHandshake::Hello(hello) => assert_eq!(hello.epoch, 1),
            other => panic!("expected Hello: {other:?}"),
        }
        let path = |part: &str| state.join(part).display().to_string();
        let env = [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp")];
        let welcome = Welcome {
            proto: PROTO_MAX,
            caps: 0,
            limits: Default::default(),
            config: WorkerConfig {
                config_json: config.to_string(),
                paths: WorkerPaths {
                    state_dir: path(""),
                    workspace: path("workspace"),
                    config_path: path("openclaw.json"),
                    home: path(""),
                },
                tool_env: env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                version: "test".to_owned(),
            },
            secrets: SecretMap::default(),
            cursors: BTreeMap::new(),
        };
        worker.link.try_send(&SupHandshake::Welcome(welcome)).expect("the link is open");
        match worker.handshake().await {
            WorkerHandshake::Ready(_) => worker,
            other => panic!("expected Ready: {other:?}"),
        }
    }

    fn spawn(program: &Path, failpoints: &str) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
        let bootstrap = Bootstrap {
            worker_id: WorkerId::agent("main"),
            kind: WorkerKind::Agent,
            epoch: 1,
            proto_min: PROTO_MIN,
            proto_max: PROTO_MAX,
            isolation: Isolation::BestEffort,
            policy: None,
            log_level: "warn".to_owned(),
            boot_id: Id::now(),
            failpoints: failpoints.to_owned(),
            proxies: Default::default(),
        };
        let frame = worker_start::bootstrap_frame(&bootstrap).expect("the frame is small");
        std::io::Write::write_all(&mut &ours, &frame).expect("the socket has room");
        let child = Command::new(program)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()
            .expect("the worker starts");
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        let stream = tokio::net::UnixStream::from_std(ours).expect("a socket of tokio");
        let (link, events) = link::spawn(stream, Side::Supervisor, LinkLimits::supervisor(WorkerKind::Agent));
        Self { child, link, events, said: Vec::new() }
    }

    async fn event(&mut self) -> LinkEvent {
        let next = tokio::time::timeout(PATIENCE, self.events.recv());
        next.await.expect("the worker says something").expect("the link is open")
    }

    async fn handshake(&mut self) -> WorkerHandshake {
        match self.event().await {
            LinkEvent::Message { code, payload, .. } => {
                WorkerHandshake::decode(code, &payload).expect("a message of the handshake")
            }
            other => panic!("the link ended: {other:?}"),
        }
    }

    pub fn tell(&self, message: impl Into<SupToAgent>) {
        self.link.try_send(&message.into()).expect("the link is open");
    }

    /// Reads until `wanted` gives something for a message.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&AgentToSup) -> Option<T>) -> T {
        loop {
            match self.event().await {
                LinkEvent::Message { code, payload, .. } => {
                    let message = AgentToSup::decode(code, &payload).expect("a message of an agent worker");
                    let found = wanted(&message);
                    self.said.push(message);
                    if let Some(found) = found {
                        return found;
                    }
                }
                other => panic!("the link ended: {other:?}"),
            }
        }
    }

    /// The end of a run, acknowledged.
    pub async fn end(&mut self, run_id: Id) -> RunFinal {
        let done = self
            .until(|message| match message {
                AgentToSup::RunFinal(done) if done.run_id == run_id => Some(done.clone()),
                _ => None,
            })
            .await;
        self.tell(FinalAck { run_id });
        done
    }

    /// Runs a message to its end.
    pub async fn run(&mut self, spec: RunSpec) -> RunFinal {
        let run_id = spec.run_id;
        self.tell(spec);
        self.end(run_id).await
    }

    /// A method's result; what the worker says meanwhile waits on the link.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        let call =
            RpcCall { method: method.into(), params_json: params.to_string(), protocol: 4, client: None };
        let (code, payload) = self.link.request(&SupToAgent::Rpc(call), 20_000).await.expect("an answer");
        match AgentToSup::decode(code, &payload) {
            Ok(AgentToSup::RpcResult(result)) => match (result.ok_json, result.error) {
                (Some(json), None) => serde_json::from_str(&json).expect("a result is JSON"),
                (_, error) => panic!("{method}: {error:?}"),
            },
            other => panic!("expected a result: {other:?}"),
        }
    }

    /// SIGKILL, and until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the worker can be killed");
    }

    pub async fn stop(mut self) -> ExitStatus {
        self.tell(Shutdown { reason: "stop".to_owned() });
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("ends in time").expect("a status")
    }

    /// Waits until the process is gone by itself.
    pub async fn died(mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("ends in time").expect("a status")
    }
}

/// A run of one message from a web chat.
pub fn message(text: &str) -> RunSpec {
    let input = RunInput {
        inbound_seq: 1,
        text: text.to_owned(),
        raw: text.to_owned(),
        ts_ms: 1_770_000_000_000,
        authorised: true,
        ..RunInput::default()
    };
    let run_id = Id::now();
    RunSpec {
        run_id,
        client_run_id: run_id.to_string(),
        session_key: KEY.to_owned(),
        agent_id: "main".to_owned(),
        attempt: 1,
        resumes: 0,
        inputs: vec![input],
        overrides: RunOverrides::default(),
        origin: Origin {
            kind: OriginKind::Chat,
            channel: "webchat".to_owned(),
            owner: true,
            ..Origin::default()
        },
        active_ms_left: 60_000,
        parts_done: 0,
        texts_done: Vec::new(),
        delivery: Default::default(),
        system_events: Vec::new(),
    }
}
