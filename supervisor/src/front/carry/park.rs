//! From a client's socket to what is carried of it, and back.

use super::{CarriedCaller, CarriedConnection, CarriedRequest, millis};
use crate::front::fanout::Conn;
use crate::front::frame_io::Parts;
use crate::front::slots::Slot;
use serde_bytes::ByteBuf;
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A client's socket, taken apart. The connection is still told events: they wait in its queue.
pub struct Parked {
    /// The connection as the fan-out knows it.
    pub conn: Arc<Conn>,
    /// Socket and bytes.
    pub parts: Parts<TcpStream>,
    /// Requests that owe a response.
    pub requests: Vec<CarriedRequest>,
    /// Calls with the wrong role in a row.
    pub wrong_role: u32,
    /// Since it was last heard.
    pub heard_ago: Duration,
    /// Since the last ping.
    pub pinged_ago: Duration,
    /// Its place.
    pub slot: Arc<Slot>,
}

impl Parked {
    /// What is carried, and the descriptor that belongs to it. `paired` tells of a device whether it is paired.
    pub fn carry(self, paired: impl Fn(&str) -> bool) -> (CarriedConnection, OwnedFd) {
        let (queue, seq) = self.conn.out.take_all();
        let Parts { inner, unread, unwritten } = self.parts;
        let caller = CarriedCaller::of(&self.conn.caller);
        let carried = CarriedConnection {
            paired: caller.device_id.as_deref().is_some_and(paired),
            caller,
            socket_ip: Some(self.slot.ip()),
            follows: self.conn.follows(),
            seq,
            unwritten: ByteBuf::from(unwritten),
            queue: queue.into_iter().map(ByteBuf::from).collect(),
            unread: ByteBuf::from(unread),
            requests: self.requests,
            wrong_role: self.wrong_role,
            heard_ago_ms: millis(self.heard_ago),
            pinged_ago_ms: millis(self.pinged_ago),
        };
        (carried, inner.into())
    }
}

/// A connection of an earlier image of this process, not yet served.
pub struct Resumed {
    /// As the fan-out knows it.
    pub conn: Arc<Conn>,
    /// The socket.
    pub socket: TcpStream,
    /// The rest.
    pub carried: CarriedConnection,
    /// Its place.
    pub slot: Arc<Slot>,
    /// It cannot go on: close it with the farewell of a restart.
    pub close: bool,
}

/// Address for the share of places of a connection that does not know its own.
pub fn socket_ip(carried: Option<IpAddr>) -> IpAddr {
    carried.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}
