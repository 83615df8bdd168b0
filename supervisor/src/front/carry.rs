//! Carrying the front over an in-place restart: its sockets stay open and its clients see neither a close nor a
//! gap (wire protocols 3 and 4).
//!
//! On the way out: [`Front::hold`](super::accept::Front::hold) lets go on only what is under way,
//! [`Front::freeze`](super::accept::Front::freeze) takes every connection apart into its descriptor and a
//! [`CarriedConnection`]. On the way in, `Front::start` puts them together again before the first event is told.
//! Whoever cannot be carried gets event `shutdown` and close 1012, as without carrying.
//!
//! The types here are read by the next and by the previous release: fields are only added, and each has a default.

pub mod lot;
pub mod park;
#[cfg(test)]
mod tests;

use super::caller::Caller;
use super::connect::Client;
use super::control::Control;
use super::fanout::{Follows, now_ms};
use super::limits::TICK_INTERVAL;
use super::outq::{Encoded, OutQueue};
use super::render::{Renderer, RendererState};
use super::scope::Role;
use crate::events::GatewayEvent;
use crate::gateway::Handles;
use park::Resumed;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::json;
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// What a restart promises its clients that are closed.
const RESTART_EXPECTED_MS: u64 = 1500;

/// A front that has stopped: nothing reads, writes or accepts any more, and nothing is closed.
pub struct Frozen {
    /// Still listening: who connects now waits in the kernel.
    pub listeners: Vec<std::net::TcpListener>,
    /// The control socket, if there was one.
    pub control: Option<Control>,
    /// One per `state.connections`, then one per `state.fresh`, in their order.
    pub fds: Vec<OwnedFd>,
    /// All else.
    pub state: CarriedFront,
}

/// State of the front.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedFront {
    /// Clients that said hello.
    pub connections: Vec<CarriedConnection>,
    /// Peers of accepted sockets from which nothing was read yet: they go on as new ones.
    pub fresh: Vec<IpAddr>,
    /// Digest of the rules by which the connections were let in.
    pub admission: String,
    /// The list of who is here.
    pub presence: CarriedPresence,
    /// `stateVersion.health`.
    pub health_version: u64,
    /// What was rendered of runs under way.
    pub renderer: RendererState,
    /// Milliseconds until the next event `tick`.
    pub tick_in_ms: u64,
}

/// Rows of the presence list.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedPresence {
    /// `stateVersion.presence`.
    pub version: u64,
    /// The gateway's own row, JSON text.
    pub own: String,
    /// The others, in order of first appearance.
    pub rows: Vec<CarriedRow>,
}

/// One row of the presence list.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedRow {
    /// Device, instance or connection.
    pub key: String,
    /// Milliseconds since the epoch.
    pub ts: i64,
    /// Live sockets.
    pub sockets: u32,
    /// As clients see it, JSON text.
    pub fields: String,
}

/// One client's socket.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedConnection {
    /// Who it is and what it may do.
    pub caller: CarriedCaller,
    /// The other end of the socket, for the share of places.
    pub socket_ip: Option<IpAddr>,
    /// Its device was paired.
    pub paired: bool,
    /// What it follows.
    pub follows: Follows,
    /// `seq` of its last event.
    pub seq: u64,
    /// Bytes to be written before anything else: the rest of a frame.
    pub unwritten: ByteBuf,
    /// Messages to be written, in order.
    pub queue: Vec<ByteBuf>,
    /// Bytes that were read and not handled: parts of frames or messages, or requests that nobody took.
    pub unread: ByteBuf,
    /// Requests without their (last) response.
    pub requests: Vec<CarriedRequest>,
    /// Calls with the wrong role in a row.
    pub wrong_role: u32,
    /// Milliseconds since it was last heard.
    pub heard_ago_ms: u64,
    /// Milliseconds since the last ping was written.
    pub pinged_ago_ms: u64,
}

/// Identity and rights of a client.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedCaller {
    /// One per socket.
    pub conn_id: String,
    /// 3 or 4.
    pub protocol: u8,
    /// `operator` or `node`.
    pub role: String,
    /// Live scopes.
    pub scopes: Vec<String>,
    /// As the client described itself.
    pub client: Client,
    /// Proven device.
    pub device_id: Option<String>,
    /// Address of the caller, through trusted proxies.
    pub ip: Option<IpAddr>,
    /// Abilities.
    pub caps: Vec<String>,
}

/// A request that still owes a response.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CarriedRequest {
    /// Chosen by the client.
    pub id: String,
    /// Method name.
    pub method: String,
    /// The request as it came; absent when it is too large to be kept.
    pub text: Option<ByteBuf>,
    /// The first response was written; the second follows the end of this run.
    pub run_id: Option<String>,
    /// Milliseconds since it came.
    pub waited_ms: u64,
}

impl CarriedCaller {
    fn of(caller: &Caller) -> Self {
        Self {
            conn_id: caller.conn_id.clone(),
            protocol: caller.protocol,
            role: caller.role.as_str().to_owned(),
            scopes: caller.scopes.clone(),
            client: caller.client.clone(),
            device_id: caller.device_id.clone(),
            ip: caller.ip,
            caps: caller.caps.clone(),
        }
    }

    fn into_caller(self) -> Option<Caller> {
        let role = Role::parse(Some(&self.role)).filter(|_| matches!(self.protocol, 3 | 4))?;
        Some(Caller {
            conn_id: self.conn_id,
            protocol: self.protocol,
            role,
            scopes: self.scopes,
            client: self.client,
            device_id: self.device_id,
            ip: self.ip,
            caps: self.caps,
        })
    }
}

/// Event `shutdown` for a client that is closed because of a restart.
pub fn farewell() -> Arc<Encoded> {
    let payload = json!({ "reason": "gateway restarting", "restartExpectedMs": RESTART_EXPECTED_MS });
    let payload = payload.to_string().into();
    Arc::new(Encoded { name: "shutdown", payload, version: None, droppable: false })
}

/// What of an earlier image goes on.
pub struct Back {
    /// Clients that said hello.
    pub clients: Vec<Resumed>,
    /// Sockets that have said nothing.
    pub fresh: Vec<(TcpStream, IpAddr)>,
    /// Renderer of events.
    pub renderer: Renderer,
    /// Until the next event `tick`.
    pub tick_in: Duration,
}

/// Takes over what an earlier image of this process has left. Clients are in the fan-out when this returns.
pub fn resume(gw: &Handles, fds: Vec<OwnedFd>, state: CarriedFront) -> Back {
    let front = &gw.front;
    let same_rules = state.admission == front.settings().admission_digest();
    if !same_rules && !state.connections.is_empty() {
        tracing::info!(
            "the rules by which clients are let in have changed: all clients have to connect again"
        );
    }
    front.fanout.resume_health_version(state.health_version);
    if front.fanout.presence().resume(state.presence) {
        front.fanout.emit(GatewayEvent::Presence);
    }
    let mut sockets = fds.into_iter().map(TcpStream::from);
    let mut clients = Vec::new();
    for (carried, socket) in state.connections.into_iter().zip(&mut sockets) {
        clients.extend(resume_client(gw, carried, socket, same_rules));
    }
    let fresh = sockets.zip(state.fresh).collect();
    tracing::info!(clients = clients.len(), "connections taken over");
    Back { clients, fresh, renderer: state.renderer.into(), tick_in: Duration::from_millis(state.tick_in_ms) }
}

fn resume_client(
    gw: &Handles,
    mut carried: CarriedConnection,
    socket: TcpStream,
    same_rules: bool,
) -> Option<Resumed> {
    let front = &gw.front;
    let Some(caller) = std::mem::take(&mut carried.caller).into_caller() else {
        tracing::warn!("a connection was carried in a form that this release does not know; it is closed");
        return None;
    };
    let device = caller.device_id.as_deref().filter(|_| carried.paired);
    let unpaired = device.is_some_and(|id| !front.devices.read(|book| book.paired.contains_key(id)));
    let waiting = std::mem::take(&mut carried.queue).into_iter().map(ByteBuf::into_vec).collect();
    let out = Arc::new(OutQueue::resumed(front.fanout.budget(), carried.seq, waiting));
    let conn = front.fanout.rejoin(Arc::new(caller), out, carried.follows.clone());
    let slot = Arc::new(front.slots.retake(park::socket_ip(carried.socket_ip)));
    Some(Resumed { conn, socket, slot, close: !same_rules || unpaired, carried })
}

/// Takes everything from the lot of a front whose threads have ended.
pub fn collect(gw: &Handles, renderer: &Renderer) -> (CarriedFront, Vec<OwnedFd>) {
    let front = &gw.front;
    let paired = |id: &str| front.devices.read(|book| book.paired.contains_key(id));
    let (parked, fresh) = front.lot.collect();
    let (connections, mut fds): (Vec<_>, Vec<_>) = parked.into_iter().map(|one| one.carry(paired)).unzip();
    let mut state = CarriedFront {
        connections,
        fresh: Vec::new(),
        admission: front.settings().admission_digest(),
        presence: front.fanout.presence().carry(),
        health_version: front.fanout.health_version(),
        renderer: RendererState::from(renderer),
        tick_in_ms: (front.lot.ticked_ms() + millis(TICK_INTERVAL)).saturating_sub(now_ms()),
    };
    for (socket, ip) in fresh {
        state.fresh.push(ip);
        fds.push(socket.into());
    }
    (state, fds)
}

/// Milliseconds, saturating.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
