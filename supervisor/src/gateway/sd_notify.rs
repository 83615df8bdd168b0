//! Tells a service manager how far we are (`sd_notify(3)`). Without `NOTIFY_SOCKET` it does nothing.

use crate::config::Environment;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<String>,
}

impl Notify {
    pub fn new(env: &Environment) -> Self {
        Self { socket: env.get("NOTIFY_SOCKET").map(str::to_owned) }
    }

    /// Sends one message, for example `READY=1`. A manager that does not listen is no reason to fail.
    pub fn send(&self, message: &str) {
        let Some(path) = &self.socket else { return };
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        };
        let sent = UnixDatagram::unbound()
            .and_then(|socket| address.and_then(|address| socket.send_to_addr(message.as_bytes(), &address)));
        if let Err(error) = sent {
            tracing::debug!(%error, "service manager not told");
        }
    }
}
