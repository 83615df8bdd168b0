//! How a worker process begins: the first act of its `main`, before any thread.
//!
//! ```text
//! begin: take the link from fd 0 → read Bootstrap (blocking) → die with parent → confine → guard thread
//! greet: (in the runtime) link up → Hello → Welcome, or Reject → exit 76
//! then the worker configures itself and sends Ready
//! ```

use super::link::{self, CloseReason, LinkEvent, LinkEvents, LinkHandle, LinkLimits};
use super::shutdown::{Hooks, Stop};
use super::{confine, failpoint, shutdown, sys, telemetry};
use crate::wire::frame::{Flags, Frame, FrameDecoder, FrameError, LENGTH_BYTES};
use crate::wire::handshake::{
    Bootstrap, Hello, REJECT_ISOLATION, Ready, Reject, SandboxReport, SupHandshake, Welcome, WorkerHandshake,
    WorkerKind,
};
use crate::wire::limits::HELLO_MS;
use crate::wire::state::{SendRefusal, Side};
use crate::wire::version::{self, VersionSkew};
use crate::wire::{DecodeError, Wire};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A `Bootstrap` is a few hundred bytes; more means that fd 0 is not a link.
const BOOTSTRAP_BYTES_MAX: usize = 64 * 1024;

/// Exit code of a worker whose supervisor speaks another protocol, or none.
pub const EXIT_PROTOCOL: u8 = 76;
/// Exit code of a worker that may not run as it is configured.
pub const EXIT_CONFIG: u8 = 78;
/// Exit code of a failure that a later start may not meet.
pub const EXIT_TEMPORARY: u8 = 75;

/// Why a worker did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("standard input is not a link: start this program through `openclaw gateway` ({0})")]
    NotALink(String),
    #[error("the supervisor is gone")]
    ParentGone,
    #[error(transparent)]
    Version(#[from] VersionSkew),
    #[error("the supervisor refused this worker: {} ({})", .0.reason, .0.code)]
    Rejected(Reject),
    #[error("the supervisor did not answer `Hello` within {HELLO_MS} ms")]
    NoWelcome,
    #[error("expected `{expected}`, got message {code:#06x}")]
    Unexpected { expected: &'static str, code: u16 },
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
    #[error("cannot set up this process: {0}")]
    Io(#[from] io::Error),
    #[error("the link does not take frames: {0}")]
    Send(#[from] SendRefusal),
}

impl StartError {
    /// The documented exit code; the supervisor decides by it what to do next.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Confine(_) => EXIT_CONFIG,
            Self::Rejected(reject) if reject.code == REJECT_ISOLATION => EXIT_CONFIG,
            Self::Io(_) | Self::Send(_) | Self::ParentGone | Self::NoWelcome => EXIT_TEMPORARY,
            Self::NotALink(_)
            | Self::Version(_)
            | Self::Rejected(_)
            | Self::Unexpected { .. }
            | Self::Malformed(_) => EXIT_PROTOCOL,
        }
    }
}

/// A confined process that has not yet greeted its supervisor.
#[derive(Debug)]
pub struct Started {
    pub bootstrap: Bootstrap,
    pub sandbox: SandboxReport,
    /// Told when the process has to stop.
    pub stop: Stop,
    proto: u16,
    socket: UnixStream,
}

/// A worker that may configure itself. Send `Ready` with [`Greeted::ready`] when it can take work.
#[derive(Debug)]
pub struct Greeted {
    pub link: LinkHandle,
    pub events: LinkEvents,
    pub welcome: Welcome,
    pub bootstrap: Bootstrap,
    pub stop: Stop,
}

/// First act of a worker's `main`. No thread may exist yet. Also starts the log.
pub fn begin(kind: WorkerKind, hooks: Hooks) -> Result<Started, StartError> {
    // Started by descriptor it would be called by that's number in `ps`, `top` and the kernel's messages.
    sys::name_process(match kind {
        WorkerKind::Agent => c"openclaw-agent",
        WorkerKind::Channel => c"openclaw-channe",
    })?;
    let socket = sys::take_stdin()?;
    sys::close_inherited(&socket)?;
    let mut socket = UnixStream::from(socket);
    let bootstrap = read_bootstrap(&mut socket)?;
    if bootstrap.kind != kind {
        return Err(StartError::NotALink(format!("it is meant for a worker of kind {:?}", bootstrap.kind)));
    }
    // A parent that died before this call shows as end of file on the link, at the latest when `Hello` goes unanswered.
    sys::die_with_parent(confine::parent_death_signal(kind))?;
    let theirs = version::Range { min: bootstrap.proto_min, max: bootstrap.proto_max };
    let proto = version::negotiate(version::OURS, theirs)?;
    let sandbox = confine::confine(&bootstrap)?;
    telemetry::init(&bootstrap.log_level);
    failpoint::arm(&bootstrap.failpoints);
    confine::attributes::lend_memory()?;
    let stop = shutdown::guard(hooks)?;
    Ok(Started { bootstrap, sandbox, stop, proto, socket })
}

fn read_bootstrap(socket: &mut UnixStream) -> Result<Bootstrap, StartError> {
    let not_a_link = |error: FrameError| StartError::NotALink(error.to_string());
    let mut word = [0u8; LENGTH_BYTES];
    read_exact(socket, &mut word)?;
    let length = u32::from_le_bytes(word) as usize;
    if length > BOOTSTRAP_BYTES_MAX {
        return Err(not_a_link(FrameError::TooLarge { bytes: length, max: BOOTSTRAP_BYTES_MAX }));
    }
    // Exactly the frame: what follows it belongs to the link's own reader.
    let mut rest = vec![0u8; length];
    read_exact(socket, &mut rest)?;
    let mut decoder = FrameDecoder::new(BOOTSTRAP_BYTES_MAX);
    decoder.feed(&word);
    decoder.feed(&rest);
    let frame = decoder.next_frame().map_err(not_a_link)?;
    let frame = frame.ok_or_else(|| StartError::NotALink("the first frame is not whole".into()))?;
    match SupHandshake::decode(frame.code, &frame.payload)? {
        SupHandshake::Bootstrap(bootstrap) => Ok(bootstrap),
        other => Err(StartError::Unexpected { expected: "Bootstrap", code: other.code() }),
    }
}

fn read_exact(socket: &mut UnixStream, buffer: &mut [u8]) -> Result<(), StartError> {
    socket.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => StartError::ParentGone,
        _ => StartError::NotALink(error.to_string()),
    })
}

/// The frame that the supervisor writes into the socket before it spawns the worker.
pub fn bootstrap_frame(bootstrap: &Bootstrap) -> Result<bytes::BytesMut, FrameError> {
    let message = SupHandshake::Bootstrap(bootstrap.clone());
    let mut out = bytes::BytesMut::new();
    Frame {
        code: message.code(),
        class: message.class(),
        flags: Flags::MUST_UNDERSTAND,
        corr: 0,
        payload: message.encode().into(),
    }
    .encode(&mut out)?;
    Ok(out)
}

impl Started {
    /// Brings the link up and greets. Must run inside a tokio runtime with IO and time.
    pub async fn greet(self) -> Result<Greeted, StartError> {
        self.socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixStream::from_std(self.socket)?;
        let limits = LinkLimits::worker(self.bootstrap.kind);
        let (link, mut events) = link::spawn(socket, Side::Worker, limits);
        super::dump::show_link(&link);
        let hello = Hello {
            proto_min: version::PROTO_MIN,
            proto_max: version::PROTO_MAX,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            worker_id: self.bootstrap.worker_id.clone(),
            epoch: self.bootstrap.epoch,
            pid: std::process::id(),
            caps: 0,
            sandbox: self.sandbox.clone(),
        };
        link.try_send(&WorkerHandshake::Hello(hello))?;
        let wait = Duration::from_millis(HELLO_MS);
        let answer = tokio::time::timeout(wait, events.recv()).await.map_err(|_| StartError::NoWelcome)?;
        let welcome = match answer {
            Some(LinkEvent::Message { code, payload, .. }) => match SupHandshake::decode(code, &payload)? {
                SupHandshake::Welcome(welcome) => welcome,
                SupHandshake::Reject(reject) => return Err(StartError::Rejected(reject)),
                SupHandshake::Bootstrap(_) => {
                    return Err(StartError::Unexpected { expected: "Welcome", code });
                }
            },
            Some(LinkEvent::Closed { why: CloseReason::PeerGone { .. } }) | None => {
                return Err(StartError::ParentGone);
            }
            Some(other) => return Err(StartError::NotALink(format!("{other:?}"))),
        };
        if welcome.proto != self.proto {
            let theirs = version::Range { min: welcome.proto, max: welcome.proto };
            return Err(VersionSkew { ours: version::OURS, theirs }.into());
        }
        telemetry::hide(welcome.secrets.0.values().map(String::as_str));
        Ok(Greeted { link, events, welcome, bootstrap: self.bootstrap, stop: self.stop })
    }
}

impl Greeted {
    /// Tells the supervisor that this worker can take work.
    pub fn ready(&self, detail: impl Into<String>) -> Result<(), SendRefusal> {
        self.link.try_send(&WorkerHandshake::Ready(Ready { detail: detail.into() }))
    }
}
