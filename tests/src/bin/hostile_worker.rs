//! A worker that misbehaves in one chosen way (variable `HOSTILE`), to see what its supervisor does.
//!
//! Not a model for a worker: see `openclaw-agent`. Speaks raw frames, so that it can send what the link driver would not.

#![allow(dead_code, reason = "the supervisor's own tests include this file as a module")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test program may fall over")]

use proto::runtime::shutdown::Hooks;
use proto::runtime::{sys, worker_start};
use proto::wire::agent::{AgentToSup, RpcResult, RunStarted, RunStep, SupToAgent};
use proto::wire::control::{Credit, LinkControl};
use proto::wire::handshake::{Bootstrap, Hello, Ready, SupHandshake, WorkerHandshake, WorkerKind};
use proto::wire::{Class, Flags, Frame, FrameDecoder, Id, Wire};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn main() {
    let mode = std::env::var("HOSTILE").unwrap_or_else(|_| "good".into());
    std::process::exit(run(&mode));
}

/// Plays one part; returns the exit code.
pub fn run(mode: &str) -> i32 {
    if let Some(code) = mode.strip_prefix("exit:") {
        eprintln!("leaving with {code}");
        return code.parse().unwrap_or(1);
    }
    if mode == "good" {
        return good();
    }
    let mut peer = Peer::take();
    if mode == "half-hello" {
        let whole = frame_of(&WorkerHandshake::Hello(peer.hello()), 0);
        peer.write(&whole[..whole.len() / 2]);
        peer.silence();
    }
    if mode == "wrong-epoch" {
        let hello = Hello { epoch: peer.bootstrap.epoch + 1, ..peer.hello() };
        peer.send(&WorkerHandshake::Hello(hello), 0);
        peer.silence();
    }
    if mode == "old-release" {
        let hello = Hello { proto_min: 900, proto_max: 901, ..peer.hello() };
        peer.send(&WorkerHandshake::Hello(hello), 0);
        return if peer.read().is_some_and(|frame| frame.code == 0x0003) { 76 } else { 1 };
    }
    peer.slow = mode == "one-byte-writes";
    peer.send(&WorkerHandshake::Hello(peer.hello()), 0);
    let welcomed = peer.read().is_some_and(|frame| {
        matches!(SupHandshake::decode(frame.code, &frame.payload), Ok(SupHandshake::Welcome(_)))
    });
    if !welcomed {
        return 1;
    }
    peer.send(&WorkerHandshake::Ready(Ready { detail: mode.into() }), 0);
    misbehave(mode, &mut peer)
}

fn misbehave(mode: &str, peer: &mut Peer) -> i32 {
    match mode {
        "oversize" => peer.write(&(64u32 * 1024 * 1024).to_le_bytes()),
        "unknown-class" => peer.write(&[20, 0, 0, 0, 1, 4, 9, 0, 0, 0, 0, 0]),
        "wrong-direction" => peer.raw(0x0310, Class::Durable, 0, b"\x80"),
        "garbage-payload" => peer.raw(0x0410, Class::Durable, 0, b"\xc1\xc1\xc1"),
        "trailing-bytes" => {
            let mut payload = AgentToSup::RunStep(step(1)).encode();
            payload.push(0);
            peer.raw(0x0411, Class::Durable, 0, &payload);
        }
        "replayed-corr" => {
            peer.send(&AgentToSup::RunStep(step(1)), 2);
            peer.send(&AgentToSup::RunStep(step(2)), 2);
        }
        "foreign-corr" => peer.send(&AgentToSup::RunStep(step(1)), 1),
        "forged-credit" => peer.send(&LinkControl::Credit(Credit { bytes: 1 << 40 }), 0),
        "credit-overrun" => {
            for n in 0..20_000 {
                peer.send(&AgentToSup::RunStep(step(n)), 0);
            }
        }
        "control-flood" => {
            for _ in 0..20_000 {
                peer.raw(0x0411, Class::Control, 0, &AgentToSup::RunStep(step(1)).encode());
            }
        }
        "unknown-code" => peer.raw(0x7777, Class::Durable, 0, b"\x80"),
        "abort" => std::process::abort(),
        "stopped" => sys::kill_self(nix::sys::signal::Signal::SIGSTOP),
        "one-byte-writes" => {
            peer.send(
                &AgentToSup::RunStarted(RunStarted {
                    run_id: Id([1; 16]),
                    attempt: 1,
                    session_id: "slow".into(),
                    started_ms: 0,
                }),
                0,
            );
        }
        other => {
            eprintln!("no such mode: {other}");
            return 64;
        }
    }
    peer.silence()
}

fn step(step: u32) -> RunStep {
    RunStep { run_id: Id([1; 16]), step, kind: "model".into(), detail: String::new() }
}

/// A correct agent worker that answers every method call with its own parameters.
fn good() -> i32 {
    let started = match worker_start::begin(WorkerKind::Agent, Hooks::default()) {
        Ok(started) => started,
        Err(error) => {
            eprintln!("{error}");
            return i32::from(error.exit_code());
        }
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return 1 };
    runtime.block_on(async move {
        let mut greeted = match started.greet().await {
            Ok(greeted) => greeted,
            Err(error) => return i32::from(error.exit_code()),
        };
        if greeted.ready(greeted.welcome.config.config_json.clone()).is_err() {
            return 1;
        }
        loop {
            let event = tokio::select! {
                event = greeted.events.recv() => event,
                () = greeted.stop.asked() => return 0,
            };
            let Some(proto::runtime::link::LinkEvent::Message { code, corr, payload, .. }) = event else {
                return 0;
            };
            match SupToAgent::decode(code, &payload) {
                Ok(SupToAgent::Rpc(call)) => {
                    let result = RpcResult { ok_json: Some(call.params_json), error: None };
                    if greeted.link.reply(corr, &AgentToSup::RpcResult(result)).is_err() {
                        return 1;
                    }
                }
                Ok(SupToAgent::Drain(_) | SupToAgent::Shutdown(_)) => {
                    greeted.link.flush().await;
                    return 0;
                }
                _ => {}
            }
        }
    })
}

/// The link without its rules.
struct Peer {
    socket: UnixStream,
    decoder: FrameDecoder,
    bootstrap: Bootstrap,
    slow: bool,
}

impl Peer {
    fn take() -> Self {
        let socket = UnixStream::from(sys::take_stdin().expect("a link on standard input"));
        let bootstrap = Bootstrap {
            worker_id: proto::wire::handshake::WorkerId::agent(""),
            kind: WorkerKind::Agent,
            epoch: 0,
            proto_min: 1,
            proto_max: 1,
            isolation: Default::default(),
            policy: None,
            log_level: String::new(),
            boot_id: Id::NIL,
            failpoints: String::new(),
            proxies: Default::default(),
        };
        let mut peer = Self { socket, decoder: FrameDecoder::default(), bootstrap, slow: false };
        let frame = peer.read().expect("a first frame");
        match SupHandshake::decode(frame.code, &frame.payload) {
            Ok(SupHandshake::Bootstrap(bootstrap)) => peer.bootstrap = bootstrap,
            other => panic!("not a bootstrap: {other:?}"),
        }
        peer
    }

    fn hello(&self) -> Hello {
        Hello {
            proto_min: 1,
            proto_max: 1,
            build: "hostile".into(),
            worker_id: self.bootstrap.worker_id.clone(),
            epoch: self.bootstrap.epoch,
            pid: std::process::id(),
            caps: 0,
            sandbox: Default::default(),
        }
    }

    fn read(&mut self) -> Option<Frame> {
        let mut chunk = [0u8; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().ok()? {
                return Some(frame);
            }
            let read = self.socket.read(&mut chunk).ok().filter(|read| *read > 0)?;
            self.decoder.feed(&chunk[..read]);
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        // Once the supervisor cut the link off there is nothing more to do here.
        let step = if self.slow { 1 } else { bytes.len().max(1) };
        for chunk in bytes.chunks(step) {
            if self.socket.write_all(chunk).is_err() {
                return;
            }
        }
    }

    fn send<M: Wire>(&mut self, message: &M, corr: u64) {
        self.write(&frame_of(message, corr));
    }

    fn raw(&mut self, code: u16, class: Class, corr: u64, payload: &[u8]) {
        let mut out = bytes::BytesMut::new();
        let payload = payload.to_vec().into();
        if (Frame { code, class, flags: Flags::NONE, corr, payload }).encode(&mut out).is_ok() {
            self.write(&out);
        }
    }

    /// Does nothing more, and does not go by itself.
    fn silence(&self) -> ! {
        loop {
            std::thread::park();
        }
    }
}

fn frame_of<M: Wire>(message: &M, corr: u64) -> Vec<u8> {
    let mut out = bytes::BytesMut::new();
    let payload = message.encode().into();
    let frame = Frame { code: message.code(), class: message.class(), flags: Flags::NONE, corr, payload };
    frame.encode(&mut out).expect("a small frame");
    out.to_vec()
}
