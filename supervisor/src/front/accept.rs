//! The public port: binding, accepting, and the runtime that all of it runs on.

use super::carry::lot::{Busy, Counts, Stage, Work};
use super::carry::park::Resumed;
use super::carry::{self, CarriedFront, Frozen};
use super::control::Control;
use super::fanout;
use super::fanout::now_ms;
use super::limits::{
    ACCEPT_BACKOFF_MAX, ACCEPT_BACKOFF_MIN, HEADER_BYTES_MAX, HEADER_COUNT_MAX, HEADER_READ_TIMEOUT,
    HEALTH_INTERVAL, TICK_INTERVAL, UNAUTHENTICATED_WAIT,
};
use super::outq::CloseWith;
use super::rebind::{Move, Rebinder};
use super::render::Renderer;
use super::slots::{Full, Slot};
use super::ws::live;
use crate::events::GatewayEvent;
use crate::gateway::{Handles, stop};
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};

/// Threads of the front's runtime: one may encode while the other reads.
const THREADS: usize = 2;
/// How long sockets get to send what is queued when the front stops.
const STOP_GRACE: Duration = Duration::from_millis(800);
/// How long a restart waits for HTTP requests: most end by themselves, streams are told to end before
/// ([`super::limits::HTTP_CUT_AFTER`]).
const HTTP_FINISH_WITHIN: Duration = Duration::from_secs(2);
/// How long a restart waits for calls that can be asked again after it.
const QUESTIONS_WITHIN: Duration = Duration::from_millis(500);
/// How much longer it waits for calls that change something: their outcome would be unknown.
const CHANGES_WITHIN: Duration = Duration::from_millis(500);

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
    gw: Handles,
    runtime: tokio::runtime::Handle,
    rebinder: Rebinder,
    thread: Option<std::thread::JoinHandle<Option<Rest>>>,
}

/// What the threads give back when the front freezes.
struct Rest {
    listeners: Vec<std::net::TcpListener>,
    control: Option<Control>,
    events: mpsc::Receiver<fanout::Item>,
    renderer: Renderer,
}

/// What a run of the front begins with.
struct Begin {
    listeners: Vec<std::net::TcpListener>,
    moves: mpsc::Receiver<Move>,
    control: Option<Control>,
    events: mpsc::Receiver<fanout::Item>,
    renderer: Renderer,
    resumed: Vec<Resumed>,
    fresh: Vec<(std::net::TcpStream, IpAddr)>,
    tick_in: Duration,
    /// An earlier image of this process has served before.
    goes_on: bool,
}

impl Front {
    /// Start the front on threads of its own. `events` is the receiving end that came with the shared part; `carried`
    /// are the connections of an earlier image of this process and its state. They hear every event that is told
    /// after this returns. On an error nothing was read from them or written to them.
    ///
    /// # Errors
    /// No thread or no runtime.
    pub fn start(
        gw: Handles,
        listeners: Vec<std::net::TcpListener>,
        control: Option<Control>,
        events: mpsc::Receiver<fanout::Item>,
        carried: Option<(Vec<OwnedFd>, CarriedFront)>,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("front")
            .max_blocking_threads(4)
            .on_thread_start(stop::leave_signals_to_main)
            .enable_all()
            .build()?;
        let (rebinder, moves) = Rebinder::new(&listeners);
        let mut begin = Begin {
            listeners,
            moves,
            control,
            events,
            renderer: Renderer::default(),
            resumed: Vec::new(),
            fresh: Vec::new(),
            tick_in: TICK_INTERVAL,
            goes_on: carried.is_some(),
        };
        if let Some((fds, state)) = carried {
            let back = carry::resume(&gw, fds, state);
            (begin.renderer, begin.resumed) = (back.renderer, back.clients);
            (begin.fresh, begin.tick_in) = (back.fresh, back.tick_in.min(TICK_INTERVAL));
        }
        let inside = gw.clone();
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("front".into()).spawn(move || {
            stop::leave_signals_to_main();
            let rest = runtime.block_on(run(inside, begin));
            runtime.shutdown_timeout(STOP_GRACE);
            rest
        })?;
        Ok(Self { gw, runtime: handle, rebinder, thread: Some(thread) })
    }

    /// Moves the port to another address.
    pub fn rebinder(&self) -> Rebinder {
        self.rebinder.clone()
    }

    /// Where client connections run: who asks whether they are served asks here.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }

    /// First step of an in-place restart. HTTP connections end with the answer that is under way; then nothing new
    /// is accepted or read, and open calls get a moment to be answered. Blocks for at most about three seconds.
    pub fn hold(&self) {
        let lot = &self.gw.front.lot;
        lot.advance(Stage::Finishing);
        if !lot.wait(HTTP_FINISH_WITHIN, |counts| counts.of(Work::Http) == 0) {
            tracing::info!("restart: HTTP requests are cut off");
        }
        lot.advance(Stage::Held);
        let questions = |counts: &Counts| counts.of(Work::Question) + counts.of(Work::Greeting) == 0;
        lot.wait(QUESTIONS_WITHIN, |counts| questions(counts) && counts.of(Work::Change) == 0);
        lot.wait(CHANGES_WITHIN, |counts| counts.of(Work::Change) == 0);
    }

    /// Second step: tells the last events, takes every connection apart, ends the threads. Who cannot be carried
    /// is closed with 1012. Blocks for about a second at most; nothing may be told afterwards.
    pub fn freeze(mut self) -> Frozen {
        let lot = self.gw.front.lot.clone();
        if !self.gw.front.settings().keep_sockets {
            lot.close_all();
        }
        lot.advance(Stage::Freezing);
        let rest = self.thread.take().and_then(|thread| thread.join().ok()).flatten();
        if rest.is_none() {
            tracing::error!("the front did not end cleanly; its listeners are lost");
        }
        let (mut listeners, mut control, mut renderer) = (Vec::new(), None, Renderer::default());
        if let Some(mut rest) = rest {
            self.gw.front.fanout.finish(&mut rest.renderer, &mut rest.events);
            (listeners, control, renderer) = (rest.listeners, rest.control, rest.renderer);
        }
        let (state, fds) = carry::collect(&self.gw, &renderer);
        Frozen { listeners, control, fds, state }
    }

    /// Stop accepting, let the sockets send what is queued, end the threads. Blocks for at most about two
    /// seconds; call it off the async threads, after [`fanout::Fanout::close_all`].
    pub fn stop(mut self) {
        self.gw.front.lot.advance(Stage::Stopping);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the front's main thread panicked");
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.gw.front.lot.advance(Stage::Stopping);
    }
}

async fn run(gw: Handles, begin: Begin) -> Option<Rest> {
    let lot = gw.front.lot.clone();
    let Begin { listeners, mut moves, control, events, renderer, resumed, fresh, tick_in, goes_on } = begin;
    for client in resumed {
        tokio::spawn(live::resume(gw.clone(), client));
    }
    let telling = tokio::spawn(fanout::run(gw.front.fanout.clone(), events, renderer, lot.clone()));
    tokio::spawn(timers(gw.clone(), tick_in));
    if goes_on {
        // Whoever connects meanwhile waits in the kernel and is not told that we are starting.
        tokio::select! { () = gw.front.started() => {}, _ = lot.reached(Stage::Freezing) => {} }
    }
    for (socket, ip) in fresh {
        if let Ok(socket) = TcpStream::from_std(socket) {
            admit(&gw, socket, ip).await;
        }
    }
    let mut accepting = Accepting::begin(&gw, listeners);
    let control = control.map(|control| tokio::spawn(control.serve(gw.clone())));
    let stage = loop {
        tokio::select! {
            stage = lot.reached(Stage::Freezing) => break stage,
            Some(Move { listeners, done }) = moves.recv() => {
                let old = std::mem::replace(&mut accepting, Accepting::begin(&gw, listeners));
                old.retire().await;
                let _gone = done.send(());
            }
        }
    };
    let mut rest = None;
    if stage < Stage::Stopping {
        let (events, renderer) = telling.await.ok()?;
        lot.advance(Stage::Parking);
        let mut back = Rest { listeners: Vec::new(), control: None, events, renderer };
        for task in accepting.tasks {
            back.listeners.extend(task.await.ok().flatten());
        }
        if let Some(control) = control {
            back.control = control.await.ok().flatten();
        }
        rest = Some(back);
    } else {
        gw.front.fanout.close_all(CloseWith::new(1012, "service restart"));
    }
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    let parking = rest.is_some();
    let unparked = || lot.count_of(Work::Client) + lot.count_of(Work::Silent);
    let busy = || if parking { unparked() } else { gw.front.fanout.count() };
    while busy() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rest
}

async fn timers(gw: Handles, tick_in: Duration) {
    let first = tokio::time::Instant::now() + tick_in;
    let mut tick = tokio::time::interval_at(first, TICK_INTERVAL);
    let mut health = tokio::time::interval(HEALTH_INTERVAL);
    let lot = &gw.front.lot;
    let before = TICK_INTERVAL.saturating_sub(tick_in);
    lot.ticked(now_ms().saturating_sub(u64::try_from(before.as_millis()).unwrap_or(0)));
    loop {
        tokio::select! {
            _ = lot.reached(Stage::Held), if lot.stage() < Stage::Held => {}
            _ = tick.tick(), if lot.stage() < Stage::Held => {
                lot.ticked(now_ms());
                let payload = json!({ "ts": now_ms() });
                gw.front.fanout.emit(GatewayEvent::Other { event: "tick", payload, scope: None });
            }
            _ = health.tick(), if lot.stage() < Stage::Held => {
                gw.front.prune_limiter();
                crate::rpc::health::refresh(&gw).await;
            }
            else => return,
        }
    }
}

/// The tasks that accept on one set of addresses.
struct Accepting {
    tasks: Vec<tokio::task::JoinHandle<Option<std::net::TcpListener>>>,
    retired: watch::Sender<bool>,
}

impl Accepting {
    fn begin(gw: &Handles, listeners: Vec<std::net::TcpListener>) -> Self {
        let (retired, told) = watch::channel(false);
        let mut tasks = Vec::new();
        for listener in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => tasks.push(tokio::spawn(accept_all(gw.clone(), listener, told.clone()))),
                Err(error) => tracing::error!(%error, "public port cannot be served"),
            }
        }
        Self { tasks, retired }
    }

    /// The port has moved: who waits here already is let in, then the sockets are closed.
    async fn retire(self) {
        self.retired.send_replace(true);
        for task in self.tasks {
            let _closed = task.await;
        }
    }
}

async fn moved_away(retired: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone, which the stage tells too.
    if retired.wait_for(|retired| *retired).await.is_err() {
        std::future::pending().await
    }
}

/// Accepts until the front is held or stops, and gives the listener back; or until the port has moved.
async fn accept_all(
    gw: Handles,
    listener: TcpListener,
    mut retired: watch::Receiver<bool>,
) -> Option<std::net::TcpListener> {
    let mut backoff = ACCEPT_BACKOFF_MIN;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            stage = gw.front.lot.reached(Stage::Held) => {
                return if stage < Stage::Stopping { listener.into_std().ok() } else { None };
            }
            () = moved_away(&mut retired) => {
                while let Some(Ok((stream, address))) = listener.accept().now_or_never() {
                    admit(&gw, stream, address.ip()).await;
                }
                return None;
            }
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
        Ok(slot) => {
            let silent = gw.front.lot.begin(Work::Silent);
            drop(tokio::spawn(serve(gw.clone(), stream, ip, Arc::new(slot), silent)));
        }
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

async fn serve(gw: Handles, stream: TcpStream, ip: IpAddr, slot: Arc<Slot>, silent: Busy) {
    // Frames are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let lot = gw.front.lot.clone();
    // Peeked, not asked for readiness: that may be announced falsely.
    let mut byte = [0];
    let held = tokio::select! {
        biased;
        stage = lot.reached(Stage::Held) => Some(stage),
        first = tokio::time::timeout(HEADER_READ_TIMEOUT, stream.peek(&mut byte)) => match first {
            Ok(Ok(read)) if read > 0 => None,
            _ => return,
        },
    };
    if held.is_some() {
        // Nothing was read from it: whatever it says meanwhile waits in the kernel, and it goes on as a new one.
        if lot.reached(Stage::Parking).await < Stage::Stopping
            && let Ok(stream) = stream.into_std()
        {
            lot.park_fresh(stream, ip);
        }
        return;
    }
    let busy = lot.begin(Work::Http);
    drop(silent);
    // An answer was given that is no upgrade: the connection may be closed after it.
    let answered = Arc::new(Notify::new());
    let answering = answered.clone();
    let service = service_fn(move |request| {
        let (gw, slot, answering) = (gw.clone(), slot.clone(), answering.clone());
        async move {
            let answer = crate::http::serve(gw, ip, slot, request).await;
            if answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS {
                answering.notify_one();
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_headers(HEADER_COUNT_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let finishing = async {
        lot.reached(Stage::Finishing).await;
        answered.notified().await;
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = finishing => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    drop(busy);
    if let Err(error) = ended {
        tracing::debug!(%ip, %error, "http connection ended");
    }
}

#[cfg(test)]
pub mod tests;
