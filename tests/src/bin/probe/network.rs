//! Sockets of every kind.

use super::{Probe, all, raw, tool, workers};
use harness::escape::Plan;
use nix::libc;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Loopback answers at once or never.
const NETWORK_WAIT: Duration = Duration::from_secs(3);

fn connect(port: u16) -> io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, NETWORK_WAIT)?;
    Ok(format!("connected to port {port}"))
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<usize> {
    let made = raw::call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize, 0, 0, 0]);
    match made {
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::ENODEV)
            ) =>
        {
            Err(super::absent("this kernel has no such sockets"))
        }
        result => result.map(|fd| fd as usize),
    }
}

/// A socket of a family that the kernel may lack: then it answers like a filter does, and nothing can be reached through it.
fn family(family: i32, kind: i32, protocol: i32) -> io::Result<String> {
    socket(family, kind, protocol).map(|fd| format!("has socket {fd} of family {family}"))
}

/// `struct sockaddr_in` for a loopback port.
fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
        sin_zero: [0; 8],
    }
}

/// Connects a stream socket of another kind than plain TCP to a TCP port.
fn connect_by(plan: &Plan, domain: i32, protocol: i32) -> io::Result<String> {
    let fd = socket(domain, libc::SOCK_STREAM, protocol)?;
    let address = loopback(plan.tcp_port);
    let length = size_of_val(&address);
    raw::call(libc::SYS_connect, [fd, raw::address(&address), length, 0, 0, 0])?;
    Ok(format!("connected to port {}", plan.tcp_port))
}

/// Sends a first piece of data with the connection itself: no `connect` is called.
fn fast_open(plan: &Plan) -> io::Result<String> {
    let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let address = loopback(plan.tcp_port);
    let (length, flag) = (size_of_val(&address), libc::MSG_FASTOPEN as usize);
    let hello = b"hello";
    raw::call(
        libc::SYS_sendto,
        [fd, raw::address(hello), hello.len(), flag, raw::address(&address), length],
    )?;
    Ok(format!("sent to port {}", plan.tcp_port))
}

fn abstract_connect(name: &str) -> io::Result<String> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
    UnixStream::connect_addr(&address)?;
    Ok(format!("connected to @{name}"))
}

/// Asks the control socket for something with this token; being answered is the evidence.
fn control(plan: &Plan, token: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(&plan.control_socket)?;
    stream.set_read_timeout(Some(NETWORK_WAIT))?;
    let ask = format!("{{\"token\":\"{token}\",\"method\":\"status\",\"params\":{{}},\"id\":1}}\n");
    stream.write_all(ask.as_bytes())?;
    let mut answer = [0u8; 512];
    let bytes = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..bytes]).into_owned();
    let served = text.contains("\"ok\":true") || text.contains("\"result\"");
    if served { Ok(text) } else { Err(io::Error::other(format!("not served: {text:?}"))) }
}

fn daemon_call(plan: &Plan) -> io::Result<String> {
    UnixStream::connect(&plan.daemon_socket)?;
    Ok(format!("connected to {}", plan.daemon_socket.display()))
}

pub const ALL: &[Probe] = &[
    all("tcp-gateway", "connects to the gateway's port", |p| connect(p.gateway_port)),
    all("tcp-local", "connects to another program's port on this host", |p| connect(p.tcp_port)),
    all("tcp-multipath", "connects by multipath TCP", |p| connect_by(p, libc::AF_INET, 262)),
    all("tcp-smc", "connects by a family that falls back to TCP", |p| connect_by(p, 43, 0)),
    all("tcp-fast-open", "sends with the connection itself, without connect", fast_open),
    all("tcp-listen", "listens on a port", |_| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(|made| format!("listens on {:?}", made.local_addr()))
    }),
    all("tcp-listen-unbound", "listens without binding", |_| {
        let fd = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        raw::call(libc::SYS_listen, [fd, 1, 0, 0, 0, 0]).map(|_| "listens".to_owned())
    }),
    tool("udp-send", "sends a datagram", |p| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, p.udp_port)).map(|bytes| format!("sent {bytes} bytes"))
    }),
    all("socket-raw", "makes packets by hand", |_| family(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    all("socket-packet", "listens on the wire", |_| family(libc::AF_PACKET, libc::SOCK_RAW, 0x0300)),
    tool("socket-netlink", "talks to the kernel's routing tables", |_| {
        family(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
    }),
    workers("socket-netlink-audit", "talks to the kernel's audit", |_| {
        family(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)
    }),
    all("socket-vsock", "talks to the hypervisor", |_| family(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    all("socket-alg", "uses the kernel's crypto interface", |_| {
        family(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)
    }),
    all("socket-bluetooth", "uses Bluetooth", |_| family(libc::AF_BLUETOOTH, libc::SOCK_RAW, 1)),
    all("socket-xdp", "uses express data path sockets", |_| family(44, libc::SOCK_RAW, 0)),
    all("unix-abstract", "connects to an abstract socket", |p| abstract_connect(&p.abstract_socket)),
    all("unix-daemon", "connects to the socket of a host's daemon", daemon_call),
    all("control-without-token", "asks the control socket without a token", |p| control(p, "")),
    all("control-guess", "asks the control socket with a guessed token", |p| control(p, &"0".repeat(64))),
];
