//! The command line's end of the control socket: plain blocking IO, so that a command starts and ends in milliseconds.

use crate::paths::Paths;
use crate::service::account;
use bytes::BytesMut;
use proto::wire::admin::{CtlCall, CtlHello, CtlReply, CtlRequest, CtlResponse};
use proto::wire::control::LinkControl;
use proto::wire::frame::{Flags, Frame, FrameDecoder};
use proto::wire::{Wire, WireError};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The gateway answers local commands from memory.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Protocol whose result shapes this command line reads.
const PROTOCOL: u8 = 4;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("gateway is not running")]
    NotRunning,
    /// Whether it runs cannot be known.
    #[error("the gateway's socket cannot be reached: {0}")]
    Denied(String),
    #[error("gateway does not let this user in: {0}")]
    Refused(String),
    #[error("gateway closed the connection")]
    Closed,
    #[error("gateway timeout after {0}ms")]
    TimedOut(u128),
    #[error("gateway sent something that cannot be read: {0}")]
    Protocol(String),
    #[error("{0}")]
    Method(WireError),
    #[error("control socket: {0}")]
    Io(#[from] std::io::Error),
}

/// An open control connection.
pub struct Client {
    stream: UnixStream,
    decoder: FrameDecoder,
    next_corr: u64,
    /// The gateway's process id.
    pub pid: u32,
}

impl Client {
    pub fn connect(paths: &Paths) -> Result<Self, ClientError> {
        let (socket, token_file) = (paths.control_socket(), paths.control_token_file());
        let stream = UnixStream::connect(&socket).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => ClientError::Denied(denied(&socket, &error)),
            _ => ClientError::NotRunning,
        })?;
        let token = std::fs::read_to_string(&token_file)
            .map_err(|error| ClientError::Refused(denied(&token_file, &error)))?;
        let mut client = Self { stream, decoder: FrameDecoder::default(), next_corr: 0, pid: 0 };
        let hello = CtlHello {
            token: token.trim().to_owned(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
        };
        client.send(&CtlRequest::Hello(hello))?;
        match client.receive(Instant::now() + HELLO_TIMEOUT, HELLO_TIMEOUT)?.1 {
            CtlResponse::Welcome(welcome) => client.pid = welcome.pid,
            CtlResponse::Refused(error) => return Err(ClientError::Refused(error.message)),
            other => return Err(ClientError::Protocol(format!("{other:?}"))),
        }
        Ok(client)
    }

    fn send(&mut self, message: &CtlRequest) -> Result<u64, ClientError> {
        self.next_corr += 2;
        let frame = Frame {
            code: message.code(),
            class: message.class(),
            flags: Flags::MUST_UNDERSTAND,
            corr: self.next_corr,
            payload: message.encode().into(),
        };
        let mut out = BytesMut::new();
        frame.encode(&mut out).map_err(|error| ClientError::Protocol(error.to_string()))?;
        self.stream.write_all(&out)?;
        Ok(self.next_corr)
    }

    fn receive(&mut self, deadline: Instant, whole: Duration) -> Result<(u64, CtlResponse), ClientError> {
        loop {
            let next = self.decoder.next_frame().map_err(|error| ClientError::Protocol(error.to_string()))?;
            if let Some(frame) = next {
                if LinkControl::registry().iter().any(|(code, ..)| *code == frame.code) {
                    continue;
                }
                let message = CtlResponse::decode(frame.code, &frame.payload)
                    .map_err(|error| ClientError::Protocol(error.to_string()))?;
                return Ok((frame.corr, message));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ClientError::TimedOut(whole.as_millis()));
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0u8; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.decoder.feed(chunk.get(..count).unwrap_or_default()),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Err(ClientError::TimedOut(whole.as_millis()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Calls a method and gives its last answer. `each` sees every answer before it (method `agent`: `accepted`).
    pub fn call_following(
        &mut self,
        method: &str,
        params: &Value,
        timeout: Duration,
        mut each: impl FnMut(&Value),
    ) -> Result<Value, ClientError> {
        let call = CtlCall { method: method.to_owned(), params_json: params.to_string() };
        let corr = self.send(&CtlRequest::Call(call))?;
        let deadline = Instant::now() + timeout;
        loop {
            let reply = match self.receive(deadline, timeout)? {
                (got, CtlResponse::Reply(reply)) if got == corr => reply,
                (_, CtlResponse::Refused(error)) => return Err(ClientError::Refused(error.message)),
                _ => continue,
            };
            let more = reply.more;
            let value = value_of(reply)?;
            if !more {
                return Ok(value);
            }
            each(&value);
        }
    }

    pub fn call(&mut self, method: &str, params: &Value, timeout: Duration) -> Result<Value, ClientError> {
        self.call_following(method, params, timeout, |_| {})
    }
}

/// What the kernel said, and whose the place is.
fn denied(path: &Path, error: &std::io::Error) -> String {
    let told = format!("{}: {error}", path.display());
    account::stranger_at(path).map_or_else(|| told.clone(), |whose| format!("{told}; {whose}"))
}

fn value_of(reply: CtlReply) -> Result<Value, ClientError> {
    if let Some(error) = reply.error {
        return Err(ClientError::Method(error));
    }
    let text = reply.ok_json.as_deref().unwrap_or("null");
    serde_json::from_str(text).map_err(|error| ClientError::Protocol(error.to_string()))
}
