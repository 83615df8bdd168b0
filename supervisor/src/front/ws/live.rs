//! A client that said hello: reads its requests, writes what its queue holds, pings it, and takes the socket apart
//! when the front freezes.

use super::requests::{Requests, Resumed as ResumedRequest};
use super::{Here, Socket, close_frame, is_oversize, socket};
use crate::front::carry::farewell;
use crate::front::carry::lot::{Busy, Lot, Stage, Work};
use crate::front::carry::park::{Parked, Resumed};
use crate::front::fanout::Conn;
use crate::front::frame_io::FrameIo;
use crate::front::frame_io::Parts;
use crate::front::limits::{
    CLOSE_TIMEOUT, FRAME_BYTES_MAX, PING_INTERVAL, REQUESTS_OUTSTANDING_MAX, SILENCE_MAX, WRITE_TIMEOUT,
};
use crate::front::outq::{CloseWith, Out};
use crate::front::slots::Slot;
use crate::gateway::Handles;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How long a close that tells the peer of a fault waits for the frame to get there: the kernel throws away what
/// it has not sent when a socket with unread bytes is closed.
const FAULT_LINGER: Duration = Duration::from_millis(50);

/// One client's socket.
pub struct Live {
    gw: Handles,
    here: Here,
    conn: Arc<Conn>,
    socket: Socket,
    slot: Arc<Slot>,
    requests: Arc<Requests>,
    /// Requests in work; more wait in the socket.
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    /// Since when something written has not been taken by the kernel.
    unflushed: Option<Instant>,
    heard: Instant,
    pinged: Instant,
    _busy: Busy,
}

/// What happened on the socket.
enum Step {
    Flushed(Result<(), WsError>),
    Read(Option<Result<Message, WsError>>),
}

/// Whether the connection goes on.
enum Then {
    On,
    End,
    /// Tell the peer, then end.
    Close(CloseWith),
}

/// Serves a connection of an earlier image of this process.
pub async fn resume(gw: Handles, resumed: Resumed) {
    let Resumed { conn, socket: io, carried, slot, close } = resumed;
    let here = Here::again(&gw, conn);
    let io = match TcpStream::from_std(io) {
        Ok(io) => io,
        Err(error) => {
            tracing::warn!(%error, "a connection cannot be taken over");
            return;
        }
    };
    let unflushed = !carried.unwritten.is_empty();
    let io = FrameIo::new(io, &carried.unread, FRAME_BYTES_MAX).with_unwritten(&carried.unwritten);
    let mut live = Live::new(gw, here, socket(io, FRAME_BYTES_MAX).await, slot);
    let (now, ago) = (Instant::now(), Duration::from_millis);
    live.unflushed = unflushed.then_some(now);
    // A clock that began after these moments counts from its beginning.
    live.heard = now.checked_sub(ago(carried.heard_ago_ms)).unwrap_or(now);
    live.pinged = now.checked_sub(ago(carried.pinged_ago_ms)).unwrap_or(now);
    if close {
        live.farewell();
    } else {
        live.requests.set_wrong_role(carried.wrong_role);
        for request in carried.requests {
            let place = live.places.clone().try_acquire_owned().ok();
            ResumedRequest { gw: &live.gw, conn: &live.conn, requests: &live.requests, place }.begin(request);
        }
    }
    live.run().await;
}

impl Live {
    /// A client that is in the lists.
    pub(super) fn new(gw: Handles, here: Here, socket: Socket, slot: Arc<Slot>) -> Self {
        let (now, conn) = (Instant::now(), here.conn.clone());
        let busy = gw.front.lot.begin(Work::Client);
        Self {
            gw,
            here,
            conn,
            socket,
            slot,
            requests: Arc::default(),
            places: Arc::new(Semaphore::new(REQUESTS_OUTSTANDING_MAX)),
            place: None,
            unflushed: None,
            heard: now,
            pinged: now,
            _busy: busy,
        }
    }

    /// Serve it to its end.
    pub async fn run(mut self) {
        let (lot, conn, places) = (self.gw.front.lot.clone(), self.conn.clone(), self.places.clone());
        let mut stages = lot.watch();
        let mut parking = true;
        loop {
            let stage = *stages.borrow_and_update();
            if parking && (Stage::Parking..Stage::Stopping).contains(&stage) {
                if self.can_be_carried(&lot) {
                    self.park(&lot);
                    return;
                }
                self.farewell();
                parking = false;
            }
            let reads = stage < Stage::Held && self.place.is_some();
            let free = self.unflushed.is_none();
            let deadline = self.deadline();
            let ping_at = self.pinged + PING_INTERVAL;
            let then = tokio::select! {
                biased;
                changed = stages.changed() => if changed.is_err() { Then::End } else { Then::On },
                step = self.step(reads) => self.take(step),
                item = conn.out.pop(), if free => match item {
                    Some(Out::Close(with)) => Then::Close(with),
                    Some(item) => self.write(item),
                    None => Then::End,
                },
                () = tokio::time::sleep_until(ping_at), if free => {
                    self.pinged = Instant::now();
                    self.send(Message::Ping(Bytes::new()))
                }
                place = places.clone().acquire_owned(), if self.place.is_none() => {
                    self.place = place.ok();
                    Then::On
                }
                () = tokio::time::sleep_until(deadline) => self.overdue(),
            };
            match then {
                Then::On => {}
                Then::End => return,
                Then::Close(with) => return self.close(&with).await,
            }
        }
    }

    /// Flushes and reads, whichever is possible.
    async fn step(&mut self, reads: bool) -> Step {
        let (socket, flushes) = (&mut self.socket, self.unflushed.is_some());
        std::future::poll_fn(|cx| {
            if flushes && let Poll::Ready(flushed) = socket.poll_flush_unpin(cx) {
                return Poll::Ready(Step::Flushed(flushed));
            }
            if reads && let Poll::Ready(read) = socket.poll_next_unpin(cx) {
                return Poll::Ready(Step::Read(read));
            }
            Poll::Pending
        })
        .await
    }

    fn take(&mut self, step: Step) -> Then {
        let message = match step {
            Step::Flushed(Ok(())) => {
                self.unflushed = None;
                return Then::On;
            }
            Step::Flushed(Err(_)) | Step::Read(None) => return Then::End,
            Step::Read(Some(message)) => message,
        };
        self.heard = Instant::now();
        let text = match message {
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) => return Then::Close(CloseWith::new(1000, "")),
            Ok(_) => return Then::On,
            Err(error) if is_oversize(&error) => return Then::Close(CloseWith::new(1009, "")),
            Err(_) => return Then::End,
        };
        // Nobody would hear the answer.
        if !self.conn.out.is_closing()
            && let Some(place) = self.place.take()
        {
            self.requests.begin(&self.gw, &self.conn, text, place);
        }
        Then::On
    }

    fn write(&mut self, item: Out) -> Then {
        match item.into_text().map(Utf8Bytes::try_from) {
            Some(Ok(text)) => self.send(Message::Text(text)),
            Some(Err(_)) => {
                tracing::error!("a message for a client was not UTF-8; left out");
                Then::On
            }
            None => Then::On,
        }
    }

    /// The wrapper takes whole frames, so this never waits.
    fn send(&mut self, message: Message) -> Then {
        self.unflushed = Some(Instant::now());
        if self.socket.start_send_unpin(message).is_err() { Then::End } else { Then::On }
    }

    /// When the peer counts as gone.
    fn deadline(&self) -> Instant {
        let silent = self.heard + SILENCE_MAX;
        self.unflushed.map_or(silent, |since| silent.min(since + WRITE_TIMEOUT))
    }

    fn overdue(&self) -> Then {
        let stuck = self.unflushed.is_some_and(|since| since.elapsed() >= WRITE_TIMEOUT);
        if stuck { Then::End } else { Then::Close(CloseWith::new(1000, "")) }
    }

    /// Writes the close frame, then reads on until the peer closes too: a reset could overtake what was just sent.
    async fn close(mut self, with: &CloseWith) {
        let goodbye = async {
            // An error here is a peer that closed first; the answer to its close leaves with the next read.
            let _closed = self.socket.close(Some(close_frame(with))).await;
            while let Some(Ok(_)) = self.socket.next().await {}
            if with.code == 1009 {
                tokio::time::sleep(FAULT_LINGER).await;
            }
        };
        let _gone = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }

    /// As without carrying: event `shutdown`, close 1012, both after what is queued.
    fn farewell(&self) {
        self.conn.out.push_event(&farewell());
        self.conn.out.close(CloseWith::new(1012, "service restart"));
    }

    fn can_be_carried(&self, lot: &Lot) -> bool {
        let io = self.socket.get_ref();
        lot.keeps()
            && !self.conn.out.is_closing()
            && io.is_whole()
            && lot.take_room(io.bytes() + self.conn.out.bytes())
    }

    fn park(self, lot: &Lot) {
        let (heard_ago, pinged_ago) = (self.heard.elapsed(), self.pinged.elapsed());
        let (requests, wrong_role) = self.requests.take_all();
        let Parts { inner, unread, unwritten } = self.socket.into_inner().into_parts();
        match inner.into_std() {
            Ok(inner) => {
                let parts = Parts { inner, unread, unwritten };
                let conn = self.here.park();
                lot.park(Parked {
                    conn,
                    parts,
                    requests,
                    wrong_role,
                    heard_ago,
                    pinged_ago,
                    slot: self.slot,
                });
            }
            Err(error) => tracing::warn!(%error, "a connection cannot be carried over the restart"),
        }
    }
}
