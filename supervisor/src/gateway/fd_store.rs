//! Listeners that the service manager keeps over a crash, so that clients wait a moment instead of being refused.
//!
//! Taken back when their address is still the wanted one; otherwise the manager is told to close its copies *before* we bind,
//! since a copy keeps the address taken.

use super::sd_notify::Notify;
use crate::config::Environment;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

/// Name of the listeners in the store, and of the socket in a `.socket` unit.
pub const NAME: &str = "gateway-http";
/// First descriptor that a manager passes (`SD_LISTEN_FDS_START`).
const FIRST_FD: i32 = 3;
/// More than we ever store means that the variable is not for us.
const FDS_MAX: i32 = 16;

/// What the manager had kept.
#[derive(Default)]
pub struct Kept {
    listeners: Vec<TcpListener>,
    /// The manager holds descriptors that nobody here wants.
    stale: bool,
}

impl Kept {
    /// Takes the passed descriptors. Must come before anything else of this process opens files, and not at all after a
    /// restart in place, when the numbers mean other things.
    pub fn take(env: &Environment) -> Self {
        let mut kept = Self::default();
        for (fd, name) in passed(env, std::process::id()) {
            match own(fd).map(TcpListener::from) {
                Ok(listener) if name == NAME && is_listener(&listener) => kept.listeners.push(listener),
                Ok(_) | Err(_) => kept.stale = true,
            }
        }
        kept
    }

    /// Listeners that the program image before left open.
    pub fn of(listeners: Vec<TcpListener>) -> Self {
        Self { listeners, stale: false }
    }

    /// The listeners for this address, its companion on `::1` included; empty when there are none.
    pub fn claim(&mut self, ip: IpAddr, port: u16) -> Vec<TcpListener> {
        let wanted = SocketAddr::new(ip, port);
        let addresses: Vec<_> = self.listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        if !addresses.contains(&wanted) {
            return Vec::new();
        }
        let companion = |at: &SocketAddr| ip.is_loopback() && at.ip().is_loopback() && at.port() == port;
        let all = std::mem::take(&mut self.listeners);
        let (claimed, left) =
            all.into_iter().partition(|l| l.local_addr().is_ok_and(|at| at == wanted || companion(&at)));
        self.listeners = left;
        claimed
    }

    /// Whether some listener here would be for this address.
    pub fn has(&self, ip: IpAddr, port: u16) -> bool {
        let wanted = SocketAddr::new(ip, port);
        self.listeners.iter().any(|listener| listener.local_addr().is_ok_and(|at| at == wanted))
    }

    /// Gives up what no address of `wanted` claims, and waits until the manager has, too.
    pub fn give_up_all_but(&mut self, wanted: &[IpAddr], port: u16, notify: &Notify) {
        let needed = wanted.iter().all(|ip| self.has(*ip, port));
        if (self.listeners.is_empty() || needed) && !self.stale {
            return;
        }
        self.listeners.clear();
        self.stale = false;
        forget(notify);
    }
}

/// Gives the manager copies of these listeners.
pub fn store(notify: &Notify, listeners: &[TcpListener]) {
    let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() {
        notify.send_with(&format!("FDSTORE=1\nFDNAME={NAME}\nFDPOLL=0"), &fds);
    }
}

/// Has the manager close its copies, and waits until it has.
pub fn forget(notify: &Notify) {
    notify.send(&format!("FDSTOREREMOVE=1\nFDNAME={NAME}"));
    notify.barrier();
}

/// Number and name of each descriptor that was passed to the process `own_pid`.
fn passed(env: &Environment, own_pid: u32) -> Vec<(i32, String)> {
    let ours = env.get("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(own_pid);
    let count = env.get("LISTEN_FDS").and_then(|count| count.parse::<i32>().ok()).unwrap_or_default();
    if !ours || !(1..=FDS_MAX).contains(&count) {
        return Vec::new();
    }
    let mut names = env.get("LISTEN_FDNAMES").unwrap_or_default().split(':');
    (FIRST_FD..FIRST_FD + count).map(|fd| (fd, names.next().unwrap_or_default().to_owned())).collect()
}

/// A copy that no child inherits; the passed one is closed.
fn own(fd: i32) -> std::io::Result<OwnedFd> {
    let copy = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(&own, fd, PidfdGetfdFlags::empty()));
    // In any case: every child would inherit it.
    nix::unistd::close(fd)?;
    Ok(copy?)
}

fn is_listener(listener: &TcpListener) -> bool {
    rustix::net::sockopt::socket_acceptconn(listener).unwrap_or(false)
        && listener.local_addr().is_ok()
        && listener.set_nonblocking(true).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_descriptors_are_ours_only_with_our_pid() {
        let env: Environment =
            [("LISTEN_FDS", "2"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", "gateway-http:other")]
                .into_iter()
                .collect();
        let wanted = vec![(3, "gateway-http".to_owned()), (4, "other".to_owned())];
        assert_eq!(passed(&env, 7), wanted);
        assert_eq!(passed(&env, 8), []);
        let silly: Environment = [("LISTEN_FDS", "4000"), ("LISTEN_PID", "7")].into_iter().collect();
        assert_eq!(passed(&silly, 7), []);
    }

    #[test]
    fn a_listener_is_claimed_by_its_address_only() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let localhost: IpAddr = [127, 0, 0, 1].into();
        let mut kept = Kept { listeners: vec![first], stale: false };
        assert!(kept.claim([0, 0, 0, 0].into(), port).is_empty());
        assert!(kept.claim(localhost, port.wrapping_add(1)).is_empty());
        assert_eq!(kept.claim(localhost, port).len(), 1);
        assert!(kept.claim(localhost, port).is_empty());
    }
}
