//! Who makes a call: fixed at hello, passed to every method.

use super::connect::Client;
use super::scope::{self, Role};
use std::net::IpAddr;

/// A connection's identity and rights.
#[derive(Debug, Clone)]
pub struct Caller {
    /// One per socket.
    pub conn_id: String,
    /// Negotiated wire protocol: 3 or 4.
    pub protocol: u8,
    /// Operator or node.
    pub role: Role,
    /// Live scopes.
    pub scopes: Vec<String>,
    /// The client, as it described itself.
    pub client: Client,
    /// Proven device.
    pub device_id: Option<String>,
    /// Address; `None` on the control socket.
    pub ip: Option<IpAddr>,
    /// Abilities (`tool-events`, …).
    pub caps: Vec<String>,
}

impl Caller {
    /// Full operator rights on this machine: the control socket, and HTTP requests with the shared secret.
    pub fn local_operator(conn_id: String, protocol: u8, client_id: &str) -> Self {
        let client = Client {
            id: client_id.to_owned(),
            mode: "cli".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: "linux".to_owned(),
            ..Client::default()
        };
        Self {
            conn_id,
            protocol,
            role: Role::Operator,
            scopes: scope::ALL.iter().map(|s| (*s).to_owned()).collect(),
            client,
            device_id: None,
            ip: None,
            caps: vec!["tool-events".to_owned()],
        }
    }

    /// Whether the client announced an ability.
    pub fn has_cap(&self, cap: &str) -> bool {
        self.caps.iter().any(|c| c == cap)
    }

    /// Whether the live scopes cover `needed`.
    pub fn may(&self, needed: &str) -> bool {
        scope::covers(&self.scopes, needed)
    }
}
