//! The supervisor's end of a worker's link: checks the greeting, reads messages by the worker's kind.
//!
//! Not here: flow control and heartbeats ([`proto::runtime::link`]), process life ([`crate::worker`]).

use crate::worker::sandbox::Sandbox;
use proto::wire::agent::AgentToSup;
use proto::wire::channel::ChannelToSup;
use proto::wire::handshake::{
    Hello, Isolation, REJECT_ISOLATION, Ready, Reject, WorkerHandshake, WorkerId, WorkerKind,
};
use proto::wire::isolation::Tier;
use proto::wire::version::{self, Range};
use proto::wire::{DecodeError, Wire};

/// A message of a worker that is up.
#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    Agent(AgentToSup),
    Channel(ChannelToSup),
}

/// Any message of a worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    Hello(Hello),
    Ready(Ready),
    Message(FromWorker),
}

/// Reads a payload as the worker's kind may send it.
pub fn decode(kind: WorkerKind, code: u16, payload: &[u8]) -> Result<Incoming, DecodeError> {
    match WorkerHandshake::decode(code, payload) {
        Ok(WorkerHandshake::Hello(hello)) => return Ok(Incoming::Hello(hello)),
        Ok(WorkerHandshake::Ready(ready)) => return Ok(Incoming::Ready(ready)),
        Err(DecodeError::UnknownCode(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(Incoming::Message(match kind {
        WorkerKind::Agent => FromWorker::Agent(AgentToSup::decode(code, payload)?),
        WorkerKind::Channel => FromWorker::Channel(ChannelToSup::decode(code, payload)?),
    }))
}

/// Who must be at the other end.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    pub worker: &'a WorkerId,
    pub epoch: u64,
    pub pid: u32,
    pub isolation: Isolation,
    /// How far it is confined, as far as /proc does not contradict its own word.
    pub sandbox: &'a Sandbox,
    /// What it has to be under [`Isolation::Require`].
    pub min: Tier,
}

/// Why a greeting is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum HelloRefusal {
    /// It is not the process that we started: nothing that it says counts.
    Impostor(&'static str),
    /// Told to the worker, which exits with the matching code.
    Reject(Reject),
}

/// Checks a `Hello`; returns the protocol version to speak.
pub fn accept(hello: &Hello, expected: &Expected<'_>) -> Result<u16, HelloRefusal> {
    if hello.epoch != expected.epoch {
        return Err(HelloRefusal::Impostor("epoch of another start"));
    }
    if hello.worker_id != *expected.worker {
        return Err(HelloRefusal::Impostor("id of another worker"));
    }
    if hello.pid != expected.pid {
        return Err(HelloRefusal::Impostor("pid of another process"));
    }
    let theirs = Range { min: hello.proto_min, max: hello.proto_max };
    let reject = |code: &str, reason: String| HelloRefusal::Reject(Reject { code: code.into(), reason });
    let proto =
        version::negotiate(version::OURS, theirs).map_err(|skew| reject("VERSION", skew.to_string()))?;
    if expected.isolation == Isolation::Require && expected.sandbox.tier < expected.min {
        return Err(reject(REJECT_ISOLATION, expected.sandbox.refusal(expected.min)));
    }
    Ok(proto)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        let worker_id = WorkerId::agent("main");
        let build = "x".into();
        Hello {
            proto_min: 1,
            proto_max: 1,
            build,
            worker_id,
            epoch: 7,
            pid: 9,
            caps: 0,
            sandbox: Default::default(),
        }
    }

    fn check(change: impl Fn(&mut Hello), isolation: Isolation) -> Result<u16, HelloRefusal> {
        let worker = WorkerId::agent("main");
        let sandbox = &Sandbox { tier: Tier::T3, text: String::new(), amiss: Vec::new(), refused: None };
        let expected = Expected { worker: &worker, epoch: 7, pid: 9, isolation, sandbox, min: Tier::T2 };
        let mut hello = hello();
        change(&mut hello);
        accept(&hello, &expected)
    }

    #[test]
    fn only_the_process_that_was_started_is_let_in() {
        let off = Isolation::Off;
        assert_eq!(check(|_| (), off), Ok(1));
        assert!(matches!(check(|hello| hello.epoch = 6, off), Err(HelloRefusal::Impostor(_))));
        assert!(matches!(check(|hello| hello.pid = 1, off), Err(HelloRefusal::Impostor(_))));
        let other = WorkerId::agent("other");
        assert!(matches!(
            check(move |hello| hello.worker_id = other.clone(), off),
            Err(HelloRefusal::Impostor(_))
        ));
        assert!(matches!(check(|hello| hello.proto_min = 99, off), Err(HelloRefusal::Reject(_))));
        assert!(matches!(check(|_| (), Isolation::Require), Err(HelloRefusal::Reject(_))));
    }
}
