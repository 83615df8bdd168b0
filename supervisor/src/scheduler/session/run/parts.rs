//! What a run is made of, and what its sender is told when it is given up.

use crate::journal::{RunOrigin, SystemEvent};
use crate::scheduler::pending::Pending;
use proto::wire::agent::{OriginKind, RunInput};

/// Inputs of a run: the messages as they came (the worker puts several under one heading), after what had to be dropped.
pub fn inputs(pending: &[Pending], summary: Option<String>) -> Vec<RunInput> {
    let with_seq = |pending: &Pending| RunInput { inbound_seq: pending.seq, ..pending.turn.input.clone() };
    let mut inputs: Vec<RunInput> = pending.iter().map(with_seq).collect();
    if let Some(summary) = summary {
        // Without a sequence of its own: no message, and the worker gives it no number.
        inputs.insert(0, RunInput { text: summary, ..RunInput::default() });
    }
    inputs
}

/// What a sender is told when their message has ended its agent three times.
pub const POISONED_TEXT: &str = "I could not finish this: the agent stopped unexpectedly each time it worked on this message. \
The message was set aside; the operator can see it among the dead letters.";
/// What a sender is told when a run was interrupted too often or too long ago.
pub const GIVEN_UP: &str = "I was interrupted and did not finish this. Say \"continue\" to go on.";

pub fn run_origin(kind: OriginKind) -> RunOrigin {
    match kind {
        OriginKind::Agent | OriginKind::Chat => RunOrigin::Rpc,
        OriginKind::Channel => RunOrigin::Channel,
        OriginKind::Http => RunOrigin::Http,
        OriginKind::System => RunOrigin::System,
    }
}

pub fn text_of(body: &[u8]) -> Option<String> {
    let item: proto::wire::channel::OutboundItem = proto::wire::decode_payload(0, body).ok()?;
    Some(item.text)
}

/// `[2026-01-12 12:19:17 UTC] text`: it may have waited for long, so the model is told when it happened.
pub fn event_line(event: &SystemEvent) -> String {
    let at = jiff::Timestamp::from_microsecond(event.at_us).unwrap_or_default();
    format!("[{} UTC] {}", at.strftime("%Y-%m-%d %H:%M:%S"), event.text)
}
