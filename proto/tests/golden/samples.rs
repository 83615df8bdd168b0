//! One value of every message, with no field at its default. A field that is added later keeps its default here, so that
//! the frozen frames of this version still equal these values.

#![allow(clippy::needless_update, reason = "new fields get their default here without an edit")]

use proto::wire::admin::*;
use proto::wire::agent::*;
use proto::wire::channel::*;
use proto::wire::control::*;
use proto::wire::handshake::*;
use proto::wire::{Class, DecodeError, Flags, Frame, Id, Wire, WireError};
use std::collections::BTreeMap;

/// Whether a frame still means what it meant.
pub type Check = Box<dyn Fn(&Frame) -> Result<(), String>>;

/// A frame and its check.
pub struct Sample {
    pub name: String,
    pub frame: Frame,
    pub check: Check,
}

fn sample<M: Wire + Clone + PartialEq + std::fmt::Debug>(message: M) -> Sample {
    let (_, variant, _) = M::registry().iter().find(|(code, ..)| *code == message.code()).unwrap();
    let payload = message.encode().into();
    let frame = Frame { code: message.code(), class: message.class(), flags: Flags::NONE, corr: 6, payload };
    let name = format!("{:04x}_{variant}", message.code());
    let check = Box::new(move |frame: &Frame| match M::decode(frame.code, &frame.payload) {
        Ok(found) if found == message => Ok(()),
        Ok(found) => Err(format!("now reads as {found:?}")),
        Err(error) => Err(error.to_string()),
    });
    Sample { name, frame, check }
}

/// Codes of every direction, to see that no message lacks a sample.
pub fn codes() -> Vec<(u16, &'static str, Class)> {
    [
        SupHandshake::registry(),
        WorkerHandshake::registry(),
        LinkControl::registry(),
        SupToChannel::registry(),
        ChannelToSup::registry(),
        SupToAgent::registry(),
        AgentToSup::registry(),
        CtlRequest::registry(),
        CtlResponse::registry(),
    ]
    .concat()
}

/// What each direction makes of a payload.
pub fn decode_everywhere(code: u16, payload: &[u8]) -> Vec<Option<DecodeError>> {
    vec![
        SupHandshake::decode(code, payload).err(),
        WorkerHandshake::decode(code, payload).err(),
        LinkControl::decode(code, payload).err(),
        SupToChannel::decode(code, payload).err(),
        ChannelToSup::decode(code, payload).err(),
        SupToAgent::decode(code, payload).err(),
        AgentToSup::decode(code, payload).err(),
        CtlRequest::decode(code, payload).err(),
        CtlResponse::decode(code, payload).err(),
    ]
}

fn text(value: &str) -> String {
    value.to_owned()
}

fn some(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn map(name: &str, value: &str) -> BTreeMap<String, String> {
    [(name.to_owned(), value.to_owned())].into()
}

fn id(n: u8) -> Id {
    Id([n; 16])
}

fn wire_error() -> WireError {
    WireError {
        code: text("UNAVAILABLE"),
        message: text("später"),
        details_json: some("{}"),
        retryable: true,
        retry_after_ms: Some(5),
    }
}

fn config() -> WorkerConfig {
    WorkerConfig {
        config_json: text("{\"agents\":{}}"),
        paths: WorkerPaths {
            state_dir: text("/s"),
            workspace: text("/w"),
            config_path: text("/c"),
            home: text("/h"),
        },
        tool_env: map("LANG", "C"),
        version: text("1.2.3"),
    }
}

fn secrets() -> SecretMap {
    SecretMap(map("botToken", "t"))
}

fn media() -> MediaRef {
    MediaRef {
        kind: text("image"),
        mime: text("image/png"),
        bytes: 3,
        sha256: text("ab"),
        path: some("media/x"),
        name: some("x.png"),
        inline: Some(vec![1, 2, 255]),
    }
}

fn sender() -> Sender {
    Sender { id: text("7"), name: some("Ann"), username: some("ann"), is_bot: true }
}

fn input() -> RunInput {
    RunInput {
        inbound_seq: 9,
        text: text("[Ann] hi"),
        raw: text("hi"),
        attachments: vec![media()],
        ts_ms: 1_700_000_000_000,
        idempotency_key: some("k"),
        sender: Some(sender()),
        context_json: some("{}"),
        authorised: true,
        ..RunInput::default()
    }
}

fn run_spec() -> RunSpec {
    RunSpec {
        run_id: id(1),
        client_run_id: text("c"),
        session_key: text("agent:main:main"),
        agent_id: text("main"),
        attempt: 2,
        resumes: 1,
        inputs: vec![input()],
        overrides: RunOverrides {
            thinking: some("high"),
            provider: some("p"),
            model: some("m"),
            extra_system_prompt: some("e"),
            prompt_mode: some("full"),
            session_id: some("s"),
            session_meta_json: some("{}"),
            temperature: Some(0.5),
            max_tokens: Some(7),
            ..RunOverrides::default()
        },
        origin: Origin {
            kind: OriginKind::Channel,
            channel: text("telegram"),
            account: some("a"),
            chat: some("c"),
            thread: some("t"),
            chat_type: some("group"),
            subject: some("g"),
            owner: true,
            was_mentioned: true,
            client: some("cli"),
            ..Origin::default()
        },
        active_ms_left: 600_000,
        parts_done: 3,
        texts_done: vec![text("done")],
        delivery: DeliveryPlan { blocks: true, deliver: true },
        system_events: vec![text("System: x")],
    }
}

fn part() -> OutPart {
    OutPart {
        part: 4,
        text: text("reply"),
        media: vec![media()],
        reply_to: some("8"),
        to: Some(Target {
            channel: text("telegram"),
            account: text("a"),
            chat: text("c"),
            thread: some("t"),
        }),
    }
}

fn session_row() -> SessionRow {
    SessionRow {
        key: text("agent:main:main"),
        agent_id: text("main"),
        session_id: text("s"),
        updated_ms: 5,
        entry_json: text("{}"),
        deleted: true,
        title: some("T"),
        last_message: some("L"),
    }
}

fn run_final() -> RunFinal {
    RunFinal {
        run_id: id(1),
        attempt: 2,
        status: RunStatus::Timeout,
        error: Some(RunError {
            kind: text("timeout"),
            message: text("m"),
            provider: some("p"),
            model: some("x"),
        }),
        stop_reason: some("stop"),
        parts: vec![part()],
        text: text("answer"),
        command: true,
        usage: Usage {
            input: 1,
            output: 2,
            cache_read: 3,
            cache_write: 4,
            total: 10,
            cost_micros: 5,
            provider: text("p"),
            model: text("m"),
        },
        meta_json: text("{}"),
        started_ms: 1,
        ended_ms: 2,
        session: Some(session_row()),
        message_id: some("m"),
    }
}

fn handshakes() -> Vec<Sample> {
    let bootstrap = Bootstrap {
        worker_id: WorkerId::channel("telegram", "main"),
        kind: WorkerKind::Channel,
        epoch: 7,
        proto_min: 1,
        proto_max: 1,
        isolation: Isolation::Require,
        policy: None,
        log_level: text("debug"),
        boot_id: id(9),
        failpoints: text("a=off"),
        proxies: Default::default(),
    };
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        build: text("b"),
        worker_id: WorkerId::agent("main"),
        epoch: 7,
        pid: 42,
        caps: 1,
        sandbox: SandboxReport {
            no_new_privs: true,
            dumpable: true,
            landlock_abi: 6,
            seccomp: true,
            ..SandboxReport::default()
        },
    };
    let limits = LinkLimitsWire { frame_bytes_max: 1, window_bytes: 2, ping_ms: 3 };
    let welcome = Welcome {
        proto: 1,
        caps: 1,
        limits,
        config: config(),
        secrets: secrets(),
        cursors: map("updates", "12"),
    };
    vec![
        sample(SupHandshake::Bootstrap(bootstrap)),
        sample(SupHandshake::Welcome(welcome)),
        sample(SupHandshake::Reject(Reject { code: text("VERSION"), reason: text("r") })),
        sample(WorkerHandshake::Hello(hello)),
        sample(WorkerHandshake::Ready(Ready { detail: text("d") })),
    ]
}

fn controls() -> Vec<Sample> {
    let pong = Pong { seq: 1, inflight: 2, queue: 3, rss_kb: 4, last_progress_ms: 5, lag_ms: 6 };
    vec![
        sample(LinkControl::Ping(Ping { seq: 1, mono_ms: 2 })),
        sample(LinkControl::Pong(pong)),
        sample(LinkControl::Credit(Credit { bytes: 262_144 })),
        sample(LinkControl::Cancel(Cancel {})),
        sample(LinkControl::Pause(Pause {})),
        sample(LinkControl::Paused(Paused {})),
        sample(LinkControl::Resume(Resume {})),
        sample(LinkControl::Part(Part { bytes: vec![0, 255] })),
        sample(LinkControl::Error(wire_error())),
        sample(LinkControl::Done(Done {})),
    ]
}

fn to_agent() -> Vec<Sample> {
    let call =
        RpcCall { method: text("sessions.patch"), params_json: text("{}"), protocol: 4, client: some("cli") };
    vec![
        sample(SupToAgent::Drain(Drain { deadline_ms: 1 })),
        sample(SupToAgent::Shutdown(Shutdown { reason: text("stop") })),
        sample(SupToAgent::StartRun(run_spec())),
        sample(SupToAgent::Steer(Steer { run_id: id(1), input: input() })),
        sample(SupToAgent::AbortRun(AbortRun { run_id: id(1), why: text("rpc") })),
        sample(SupToAgent::FinalAck(FinalAck { run_id: id(1) })),
        sample(SupToAgent::Rpc(call)),
        sample(SupToAgent::ConfigDelta(ConfigDelta { config: config(), secrets: secrets() })),
        sample(SupToAgent::Asked(RpcResult { ok_json: some("{}"), error: Some(wire_error()) })),
    ]
}

fn from_agent() -> Vec<Sample> {
    let started = RunStarted { run_id: id(1), attempt: 1, session_id: text("s"), started_ms: 5 };
    let step = RunStep { run_id: id(1), step: 2, kind: text("tool"), detail: text("exec") };
    let delta = Delta { run_id: id(1), attempt: 1, message: 2, kind: DeltaKind::Thinking, text: text("…") };
    let event = RunEvent { run_id: id(1), attempt: 1, stream: text("tool"), data_json: text("{}"), at_ms: 3 };
    let appended = MessageAppended {
        session_key: text("k"),
        message_id: text("m"),
        message_json: text("{}"),
        reason: text("inject"),
    };
    let result = RpcResult { ok_json: some("{}"), error: Some(wire_error()) };
    vec![
        sample(AgentToSup::RunStarted(started)),
        sample(AgentToSup::RunStep(step)),
        sample(AgentToSup::Delta(delta)),
        sample(AgentToSup::Block(Block { run_id: id(1), out: part() })),
        sample(AgentToSup::RunFinal(run_final())),
        sample(AgentToSup::RunEvent(event)),
        sample(AgentToSup::SessionChanged(SessionChanged { row: session_row(), reason: text("turn") })),
        sample(AgentToSup::MessageAppended(appended)),
        sample(AgentToSup::Steered(Steered { taken: true })),
        sample(AgentToSup::RpcResult(result)),
        sample(AgentToSup::AskGateway(AskGateway {
            run_id: id(1),
            method: text("config.get"),
            params_json: text("{}"),
        })),
    ]
}

fn to_channel() -> Vec<Sample> {
    let item = OutboundItem {
        out_id: id(2),
        chat: text("c"),
        thread: some("t"),
        text: text("**hi**"),
        media: vec![media()],
        reply_to: some("1"),
        idem_key: text("k"),
        prior: some("5"),
        two_phase: true,
        maybe_dup: true,
        deadline_ms: 9,
        ..OutboundItem::default()
    };
    let open = DraftOpen {
        out_id: id(2),
        chat: text("c"),
        thread: some("t"),
        reply_to: some("1"),
        ..DraftOpen::default()
    };
    let discard = DraftDiscard { out_id: id(2), chat: text("c"), ext_id: some("5") };
    let call = RpcCall { method: text("probe"), params_json: text("{}"), protocol: 3, client: some("cli") };
    vec![
        sample(SupToChannel::Drain(Drain { deadline_ms: 1 })),
        sample(SupToChannel::Shutdown(Shutdown { reason: text("restart") })),
        sample(SupToChannel::InboundAck(InboundAck { ext_ids: vec![text("1|2|3")] })),
        sample(SupToChannel::InboundNack(InboundNack { ext_id: text("1"), why: text("full"), retry_ms: 5 })),
        sample(SupToChannel::Send(item)),
        sample(SupToChannel::Typing(Typing { chat: text("c"), thread: some("t"), on: true })),
        sample(SupToChannel::Reconcile(Reconcile { out_id: id(2), idem_key: text("k"), chat: text("c") })),
        sample(SupToChannel::DraftOpen(open)),
        sample(SupToChannel::DraftUpdate(DraftUpdate { out_id: id(2), text: text("so far") })),
        sample(SupToChannel::DraftDiscard(discard)),
        sample(SupToChannel::ConfigDelta(ConfigDelta { config: config(), secrets: secrets() })),
        sample(SupToChannel::Rpc(call)),
    ]
}

fn from_channel() -> Vec<Sample> {
    let cursor = || Cursor { scope: text("updates"), value: text("12") };
    let inbound = InboundMsg {
        ext_id: text("1|2|3"),
        message_id: text("3"),
        chat: ChatRef {
            id: text("2"),
            kind: ChatKind::Group,
            title: some("G"),
            thread: some("t"),
            ..ChatRef::default()
        },
        sender: sender(),
        ts_ms: 4,
        text: text("hallo"),
        media: vec![media()],
        reply_to: Some(ReplyRef { id: text("1"), text: some("q"), sender: some("s"), is_quote: false }),
        mentioned: true,
        reply_to_bot: true,
        forwarded_from: some("f"),
        cursor: Some(cursor()),
        ..InboundMsg::default()
    };
    let state = ChannelState {
        state: ChannelPhase::RateLimited,
        why: some("w"),
        identity: some("@bot"),
        until_ms: Some(5),
    };
    let delivered = SendOutcome::Delivered { ext_ids: vec![text("5"), text("6")] };
    vec![
        sample(ChannelToSup::State(state)),
        sample(ChannelToSup::Inbound(inbound)),
        sample(ChannelToSup::CursorMoved(CursorMoved { cursor: cursor() })),
        sample(ChannelToSup::Examining(Examining { ids: vec![text("700")] })),
        sample(ChannelToSup::Unreadable(Unreadable {
            ext_id: text("700"),
            raw: text("{}"),
            cursor: Some(cursor()),
        })),
        sample(ChannelToSup::SendStarted(SendStarted { out_id: id(2) })),
        sample(ChannelToSup::SendResult(SendResult { out_id: id(2), outcome: delivered })),
        sample(ChannelToSup::Receipt(Receipt { ext_id: text("5"), kind: text("read") })),
        sample(ChannelToSup::Placed(Placed { out_id: id(2), ext_id: text("5") })),
        sample(ChannelToSup::Reconciled(Reconciled { found: some("5") })),
        sample(ChannelToSup::RpcResult(RpcResult { ok_json: some("{}"), error: Some(wire_error()) })),
    ]
}

fn admin() -> Vec<Sample> {
    let hello = CtlHello { token: text("t"), build: text("b"), protocol: 4 };
    vec![
        sample(CtlRequest::Hello(hello)),
        sample(CtlRequest::Call(CtlCall { method: text("status"), params_json: text("{}") })),
        sample(CtlRequest::Follow(CtlFollow { events: vec![text("log")] })),
        sample(CtlResponse::Welcome(CtlWelcome { build: text("b"), pid: 1 })),
        sample(CtlResponse::Reply(CtlReply { ok_json: some("{}"), error: Some(wire_error()), more: true })),
        sample(CtlResponse::Event(CtlEvent { event: text("log"), payload_json: text("{}") })),
        sample(CtlResponse::Refused(wire_error())),
    ]
}

pub fn all() -> Vec<Sample> {
    let groups = [handshakes(), controls(), to_agent(), from_agent(), to_channel(), from_channel(), admin()];
    groups.into_iter().flatten().collect()
}
