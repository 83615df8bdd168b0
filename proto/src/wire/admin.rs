//! The control socket: the command line on this host talks to the running gateway. Same frames as a worker link.

use super::WireError;
use serde::{Deserialize, Serialize};

/// First frame of the client. The token is the content of the 0600 file beside the socket.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CtlHello {
    pub token: String,
    pub build: String,
    /// 3 or 4: result shapes that the caller wants; our own command line says 4.
    #[serde(default)]
    pub protocol: u8,
}

impl std::fmt::Debug for CtlHello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CtlHello").field("build", &self.build).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtlWelcome {
    pub build: String,
    pub pid: u32,
}

/// Any method of the method table, with full operator scopes. Answered by one or two `CtlReply` under its corr.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtlCall {
    pub method: String,
    /// JSON object.
    pub params_json: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtlReply {
    #[serde(default)]
    pub ok_json: Option<String>,
    #[serde(default)]
    pub error: Option<WireError>,
    /// Another reply follows under the same corr (method `agent`: accepted, then done).
    #[serde(default)]
    pub more: bool,
}

/// Ask for events: event names, or `*`; `log` streams log lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtlFollow {
    pub events: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtlEvent {
    pub event: String,
    pub payload_json: String,
}

wire_enum! {
    /// Command line → supervisor.
    pub enum CtlRequest {
        0x0501 Control Hello(CtlHello),
        0x0502 Durable Call(CtlCall),
        0x0503 Durable Follow(CtlFollow),
    }
}

wire_enum! {
    /// Supervisor → command line.
    pub enum CtlResponse {
        0x0581 Control Welcome(CtlWelcome),
        0x0582 Durable Reply(CtlReply),
        0x0583 Lossy Event(CtlEvent),
        0x0584 Durable Refused(WireError),
    }
}
