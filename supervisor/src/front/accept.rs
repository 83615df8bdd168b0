//! The public port: binding, accepting, and the runtime that all of it runs on.

use super::control::Control;
use super::fanout;
use super::fanout::now_ms;
use super::limits::{
    ACCEPT_BACKOFF_MAX, ACCEPT_BACKOFF_MIN, HEADER_BYTES_MAX, HEADER_COUNT_MAX, HEADER_READ_TIMEOUT,
    HEALTH_INTERVAL, TICK_INTERVAL, UNAUTHENTICATED_WAIT,
};
use super::outq::CloseWith;
use super::slots::{Full, Slot};
use crate::events::GatewayEvent;
use crate::gateway::Handles;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// Threads of the front's runtime: one may encode while the other reads.
const THREADS: usize = 2;
/// How long sockets get to send what is queued when the front stops.
const STOP_GRACE: Duration = Duration::from_millis(800);

/// Why the port could not be opened. The texts are printed as they are.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken.
    #[error("another gateway instance is already listening on ws://{0}")]
    InUse(SocketAddr),
    /// Anything else.
    #[error("failed to bind gateway socket on ws://{0}: {1}")]
    Other(SocketAddr, std::io::Error),
}

/// Open the port. For the IPv4 loopback address the IPv6 one is opened too where that is possible.
///
/// # Errors
/// The port is taken or the address is not ours.
pub fn bind(ip: IpAddr, port: u16) -> Result<Vec<std::net::TcpListener>, BindError> {
    let address = SocketAddr::new(ip, port);
    let first = std::net::TcpListener::bind(address).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse(address),
        _ => BindError::Other(address, e),
    })?;
    let port = first.local_addr().map_or(port, |a| a.port());
    let mut all = vec![first];
    if ip == IpAddr::V4(Ipv4Addr::LOCALHOST)
        && let Ok(second) = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port))
    {
        all.push(second);
    }
    for listener in &all {
        listener.set_nonblocking(true).map_err(|e| BindError::Other(address, e))?;
    }
    Ok(all)
}

/// The running front.
pub struct Front {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Front {
    /// Start the front on threads of its own. `events` is the receiving end that came with the shared part.
    ///
    /// # Errors
    /// No thread or no runtime.
    pub fn start(
        gw: Handles,
        listeners: Vec<std::net::TcpListener>,
        control: Option<Control>,
        events: mpsc::Receiver<fanout::Item>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("front")
            .max_blocking_threads(4)
            .enable_all()
            .build()?;
        let (stop, stopping) = watch::channel(false);
        let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
            runtime.block_on(run(gw, listeners, control, events, stopping));
            runtime.shutdown_timeout(STOP_GRACE);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stop accepting, let the sockets send what is queued, end the threads. Blocks for at most about two
    /// seconds; call it off the async threads, after [`fanout::Fanout::close_all`].
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the front's main thread panicked");
        }
    }
}

async fn run(
    gw: Handles,
    listeners: Vec<std::net::TcpListener>,
    control: Option<Control>,
    events: mpsc::Receiver<fanout::Item>,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::spawn(fanout::run(gw.front.fanout.clone(), events));
    tokio::spawn(timers(gw.clone()));
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(accept_all(gw.clone(), listener, stopping.clone()))),
            Err(error) => tracing::error!(%error, "public port cannot be served"),
        }
    }
    if let Some(control) = control {
        tokio::spawn(control.serve(gw.clone(), stopping.clone()));
    }
    // An error means that the owner is gone: stop as well.
    let _gone = stopping.wait_for(|stop| *stop).await;
    gw.front.fanout.close_all(CloseWith::new(1012, "service restart"));
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    while gw.front.fanout.count() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn timers(gw: Handles) {
    let mut tick = tokio::time::interval(TICK_INTERVAL);
    let mut health = tokio::time::interval(HEALTH_INTERVAL);
    tick.reset();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let payload = json!({ "ts": now_ms() });
                gw.front.fanout.emit(GatewayEvent::Other { event: "tick", payload, scope: None });
            }
            _ = health.tick() => {
                gw.front.prune_limiter();
                crate::rpc::health::refresh(&gw).await;
            }
        }
    }
}

async fn accept_all(gw: Handles, listener: TcpListener, mut stopping: watch::Receiver<bool>) {
    let mut backoff = ACCEPT_BACKOFF_MIN;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                backoff = ACCEPT_BACKOFF_MIN;
                admit(&gw, stream, address.ip()).await;
            }
            Err(error) if is_exhaustion(&error) => {
                tracing::warn!(%error, wait_ms = backoff.as_millis(), "no descriptors left for new connections");
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(ACCEPT_BACKOFF_MAX);
            }
            // The peer gave up before we came to it.
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: waiting helps, spinning does not.
fn is_exhaustion(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.iter().any(|e| e.raw_os_error() == code))
}

async fn admit(gw: &Handles, stream: TcpStream, ip: IpAddr) {
    let slot = match gw.front.slots.take(ip) {
        Err(Full::Unauthenticated) => wait_for_slot(gw, ip).await,
        other => other,
    };
    match slot {
        Ok(slot) => drop(tokio::spawn(serve(gw.clone(), stream, ip, Arc::new(slot)))),
        Err(full) => tracing::debug!(%ip, ?full, "connection refused: no place"),
    }
}

async fn wait_for_slot(gw: &Handles, ip: IpAddr) -> Result<Slot, Full> {
    let deadline = tokio::time::Instant::now() + UNAUTHENTICATED_WAIT;
    loop {
        let freed = gw.front.slots.freed();
        match gw.front.slots.take(ip) {
            Err(Full::Unauthenticated) => {}
            other => return other,
        }
        if tokio::time::timeout_at(deadline, freed).await.is_err() {
            return gw.front.slots.take(ip);
        }
    }
}

async fn serve(gw: Handles, stream: TcpStream, ip: IpAddr, slot: Arc<Slot>) {
    // Frames are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (gw, slot) = (gw.clone(), slot.clone());
        async move { Ok::<_, Infallible>(crate::http::serve(gw, ip, slot, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADER_COUNT_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%ip, %error, "http connection ended");
    }
}

#[cfg(test)]
pub mod tests;
