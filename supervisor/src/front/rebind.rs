//! Moving the public port while it is served: the new address is bound before the old one is given up, and who waits in
//! the old one's queue is let in.

use super::accept::BindError;
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Connections that the kernel holds for us while we are busy; what the standard library asks for.
const BACKLOG: i32 = 128;
/// Requests that wait: there is one who asks.
const REQUESTS_MAX: usize = 1;

/// A new set of listeners on its way to who accepts.
pub struct Move {
    pub listeners: Vec<TcpListener>,
    /// Told once the old ones are closed.
    pub done: oneshot::Sender<()>,
}

/// Handle of who moves the port.
#[derive(Clone)]
pub struct Rebinder {
    moves: mpsc::Sender<Move>,
    /// Second handles of the open listeners.
    open: Arc<Mutex<Vec<TcpListener>>>,
}

impl Rebinder {
    /// With the listeners that are served now. The receiving end is for who accepts.
    #[must_use]
    pub fn new(listeners: &[TcpListener]) -> (Self, mpsc::Receiver<Move>) {
        let (moves, requests) = mpsc::channel(REQUESTS_MAX);
        let open = listeners.iter().filter_map(|listener| listener.try_clone().ok()).collect();
        (Self { moves, open: Arc::new(Mutex::new(open)) }, requests)
    }

    /// Binds all addresses beside the open ones; for the IPv4 loopback address the IPv6 one too where that is possible.
    ///
    /// # Errors
    /// One of them cannot be had; then none is kept.
    pub fn bind(&self, addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, BindError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Two listeners of one port may overlap (loopback and all) only while both allow it.
        // Refused only for what is no TCP socket; then the bind below says what it leads to.
        let share = |on: bool| {
            open.iter().for_each(|listener| {
                let _refused = set_socket_reuseport(listener, on);
            });
        };
        let overlaps = |address: &SocketAddr| {
            open.iter()
                .filter_map(|listener| listener.local_addr().ok())
                .any(|other| overlap(address, &other))
        };
        let mut bound = Vec::new();
        share(true);
        for ip in addresses {
            let address = SocketAddr::new(*ip, port);
            match open_at(address, overlaps(&address)) {
                Ok(listener) => bound.push(listener),
                Err(error) => {
                    share(false);
                    return Err(error);
                }
            }
            let second = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
            if *ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
                && let Ok(listener) = open_at(second, overlaps(&second))
            {
                bound.push(listener);
            }
        }
        share(false);
        for listener in &bound {
            let _refused = set_socket_reuseport(listener, false);
        }
        Ok(bound)
    }

    /// From now on these are served and the old ones are closed. `false` when the front ends.
    pub async fn switch(&self, listeners: Vec<TcpListener>) -> bool {
        let open = listeners.iter().filter_map(|listener| listener.try_clone().ok()).collect();
        let (done, told) = oneshot::channel();
        if self.moves.send(Move { listeners, done }).await.is_err() || told.await.is_err() {
            return false;
        }
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        true
    }
}

fn overlap(new: &SocketAddr, old: &SocketAddr) -> bool {
    let all = new.ip().is_unspecified() || old.ip().is_unspecified();
    new.port() == old.port() && (all || new.ip() == old.ip())
}

/// A listener; `beside` one of ours that has the same port.
fn open_at(address: SocketAddr, beside: bool) -> Result<TcpListener, BindError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let opened = socket_with(family, SocketType::STREAM, flags, None).and_then(|socket| {
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, beside)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    });
    opened.map_err(|errno| match errno {
        rustix::io::Errno::ADDRINUSE => BindError::InUse(address),
        other => BindError::Other(address, other.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn listener(ip: [u8; 4]) -> TcpListener {
        TcpListener::bind((Ipv4Addr::from(ip), 0)).expect("a port")
    }

    #[test]
    fn an_address_is_bound_beside_ours_and_not_beside_others() {
        let ours = listener([127, 0, 0, 1]);
        let port = ours.local_addr().expect("bound").port();
        let (rebinder, _moves) = Rebinder::new(std::slice::from_ref(&ours));
        let all = rebinder.bind(&[Ipv4Addr::UNSPECIFIED.into()], port).expect("beside ours");
        drop((ours, rebinder));
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the new one answers");
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err(), "nobody else may share it");
        drop(all);

        let foreign = listener([127, 0, 0, 1]);
        let port = foreign.local_addr().expect("bound").port();
        let (rebinder, _moves) = Rebinder::new(&[listener([127, 0, 0, 1])]);
        let refused = rebinder.bind(&[Ipv4Addr::LOCALHOST.into()], port).expect_err("taken");
        assert!(matches!(refused, BindError::InUse(_)), "{refused}");
    }
}
