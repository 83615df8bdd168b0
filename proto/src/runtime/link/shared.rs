//! What handles and the driver task of one link share.

use super::{CloseReason, FrozenLink, LinkEvent, LinkLimits, Vitals};
use crate::runtime::heartbeat::{Beat, Heartbeat};
use crate::runtime::sys;
use crate::wire::control::{Ping, Pong};
use crate::wire::frame::Frame;
use crate::wire::state::{Answer, Delivery, Effect, LinkState, SendRefusal, Side};
use bytes::BytesMut;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// One write call carries at most about this many bytes: enough for a batch of small frames.
const BATCH_BYTES: usize = 64 * 1024;

pub(super) struct Inner {
    pub(super) state: LinkState,
    pub(super) waiters: HashMap<u64, oneshot::Sender<Answer>>,
    pub(super) closed: Option<CloseReason>,
    told_closed: bool,
    /// Level-triggered news of the peer; each kind stands in here at most once.
    news: VecDeque<LinkEvent>,
    heartbeat: Option<Heartbeat>,
    pong: Option<(Pong, u64)>,
    lag_ms: u64,
    written: bool,
    freeze: Option<oneshot::Sender<FrozenLink>>,
}

pub(super) struct Shared {
    inner: Mutex<Inner>,
    pub(super) vitals: Vitals,
    epoch: Instant,
    to_write: Notify,
    to_tick: Notify,
    to_consumer: Notify,
    room: Notify,
    flushed: Notify,
    ended: Notify,
    to_freeze: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(side: Side, limits: LinkLimits) -> Self {
        let state = LinkState::new(side, limits.rules.clone());
        Self::with_state(side, limits, state)
    }

    pub(super) fn with_state(side: Side, limits: LinkLimits, state: LinkState) -> Self {
        let heartbeat = (side == Side::Supervisor).then(|| match limits.heartbeat_ms {
            Some((ping_ms, hung_ms)) => Heartbeat::with_periods(0, ping_ms, hung_ms),
            None => Heartbeat::new(0),
        });
        let inner = Inner {
            state,
            waiters: HashMap::new(),
            closed: None,
            told_closed: false,
            news: VecDeque::new(),
            heartbeat,
            pong: None,
            lag_ms: 0,
            written: true,
            freeze: None,
        };
        Self {
            inner: Mutex::new(inner),
            vitals: Vitals::default(),
            epoch: Instant::now(),
            to_write: Notify::new(),
            to_tick: Notify::new(),
            to_consumer: Notify::new(),
            room: Notify::new(),
            flushed: Notify::new(),
            ended: Notify::new(),
            to_freeze: Notify::new(),
        }
    }

    /// Milliseconds of CLOCK_MONOTONIC since the link began.
    pub(super) fn now_ms(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock is a bug elsewhere in the process; the link's books stay consistent between steps.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<R>(&self, look: impl FnOnce(&Inner) -> R) -> R {
        look(&self.lock())
    }

    /// `None` while another thread holds the books.
    pub(super) fn try_read<R>(&self, look: impl FnOnce(&Inner) -> R) -> Option<R> {
        self.inner.try_lock().ok().map(|inner| look(&inner))
    }

    /// Changes the books and wakes the writer.
    pub(super) fn write<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let result = change(&mut self.lock());
        self.to_write.notify_one();
        result
    }

    pub(super) async fn when_room(
        &self,
        mut attempt: impl FnMut(&mut Inner) -> Result<(), SendRefusal>,
    ) -> Result<(), SendRefusal> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            match self.write(&mut attempt) {
                Err(SendRefusal::Full) => room.await,
                done => return done,
            }
        }
    }

    pub(super) fn wake_ticker(&self) {
        self.to_tick.notify_one();
    }

    pub(super) async fn ticker_woken(&self) {
        self.to_tick.notified().await;
    }

    pub(super) async fn ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.read(|link| link.closed.is_some()) {
                return;
            }
            ended.await;
        }
    }

    /// The driver answers, or drops `reply` when it has ended.
    pub(super) fn ask_to_freeze(&self, reply: oneshot::Sender<FrozenLink>) {
        let mut link = self.lock();
        if link.closed.is_none() {
            link.freeze = Some(reply);
        }
        drop(link);
        self.to_freeze.notify_one();
    }

    pub(super) fn take_freeze(&self) -> Option<oneshot::Sender<FrozenLink>> {
        self.lock().freeze.take()
    }

    // --- the driver's side ---

    pub(super) async fn asked_to_freeze(&self) {
        self.to_freeze.notified().await;
    }

    /// Fills `batch` with frames that may go now, waiting until there is one.
    pub(super) async fn next_batch(&self, batch: &mut BytesMut) {
        loop {
            if self.fill(batch) {
                return;
            }
            self.to_write.notified().await;
        }
    }

    /// True when `batch` holds something to write.
    pub(super) fn fill(&self, batch: &mut BytesMut) -> bool {
        let mut link = self.lock();
        while batch.len() < BATCH_BYTES {
            let Some(frame) = link.state.next_frame() else { break };
            // The outbox refuses what does not fit a frame.
            if frame.encode(batch).is_err() {
                debug_assert!(false, "a frame over the limit in the outbox");
            }
        }
        link.written = batch.is_empty() && link.state.is_flushed();
        let flushed = link.written;
        drop(link);
        if flushed {
            self.flushed.notify_waiters();
        }
        if !batch.is_empty() {
            self.room.notify_waiters();
        }
        !batch.is_empty()
    }

    pub(super) async fn flushed(&self) {
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            let done = self.write(|link| link.closed.is_some() || (link.written && link.state.is_flushed()));
            if done {
                return;
            }
            flushed.await;
        }
    }

    pub(super) fn received(&self, frame: Frame) -> Result<(), CloseReason> {
        let now_ms = self.now_ms();
        let mut link = self.lock();
        let effects = link.state.received(frame, now_ms)?;
        for effect in effects {
            self.carry_out(&mut link, effect, now_ms);
        }
        drop(link);
        self.to_consumer.notify_one();
        self.to_write.notify_one();
        Ok(())
    }

    fn carry_out(&self, link: &mut Inner, effect: Effect, now_ms: u64) {
        match effect {
            Effect::Answered { corr, answer } => {
                if let Some(waiter) = link.waiters.remove(&corr) {
                    let _ = waiter.send(answer);
                }
            }
            Effect::Ping(Ping { seq, .. }) => {
                let pong = self.pong(seq, now_ms, link.lag_ms);
                link.state.pong(pong);
            }
            Effect::Pong(pong) => {
                let beat = link.heartbeat.as_mut().and_then(|heart| heart.pong(pong.seq, now_ms));
                link.pong = Some((pong, now_ms));
                if beat.is_some() {
                    link.tell(LinkEvent::Recovered);
                }
            }
            Effect::Paused => link.tell(LinkEvent::Paused),
        }
    }

    fn pong(&self, seq: u64, now_ms: u64, lag_ms: u64) -> Pong {
        Pong {
            seq,
            inflight: self.vitals.inflight.load(Ordering::Relaxed),
            queue: self.vitals.queue.load(Ordering::Relaxed),
            rss_kb: sys::rss_kb("self").unwrap_or(0),
            last_progress_ms: now_ms.saturating_sub(self.vitals.progress_ms.load(Ordering::Relaxed)),
            lag_ms,
        }
    }

    /// One turn of the clock. `late_ms` is how late our own timer was. Returns whether requests wait.
    pub(super) fn tick(&self, late_ms: u64) -> bool {
        let now_ms = self.now_ms();
        let mut link = self.lock();
        link.lag_ms = late_ms;
        for effect in link.state.tick(now_ms) {
            self.carry_out(&mut link, effect, now_ms);
        }
        let beats = link.heartbeat.as_mut().map(|heart| heart.tick(now_ms)).unwrap_or_default();
        for beat in beats {
            match beat {
                Beat::Ping { seq } => link.state.ping(Ping { seq, mono_ms: now_ms }),
                Beat::Suspect => link.tell(LinkEvent::Suspect),
                Beat::Hung => link.tell(LinkEvent::Hung),
                Beat::Recovered => link.tell(LinkEvent::Recovered),
                Beat::Rebased { late_ms } => {
                    tracing::warn!(late_ms, "timer was late, deadlines of the link start anew")
                }
            }
        }
        let waiting = link.state.requests_waiting() > 0;
        drop(link);
        self.to_write.notify_one();
        self.to_consumer.notify_one();
        waiting
    }

    pub(super) fn last_pong(&self) -> Option<(Pong, u64)> {
        let now_ms = self.now_ms();
        self.read(|link| link.pong.as_ref().map(|(pong, at)| (pong.clone(), now_ms.saturating_sub(*at))))
    }

    /// First reason counts. Waiters are released; the consumer still gets what was received.
    pub(super) fn close(&self, why: CloseReason) {
        let mut link = self.lock();
        if link.closed.is_none() {
            link.closed = Some(why);
        }
        drop(link);
        self.ended.notify_waiters();
        self.room.notify_waiters();
        self.flushed.notify_waiters();
        self.to_consumer.notify_one();
        self.to_write.notify_one();
    }

    /// After this nothing is sent, and waiters know.
    pub(super) fn end(&self) {
        let now_ms = self.now_ms();
        let mut link = self.lock();
        if link.closed.as_ref().is_some_and(CloseReason::is_violation) {
            // What such a peer said before is not to be acted upon.
            link.state.forget_received();
        }
        for effect in link.state.close() {
            self.carry_out(&mut link, effect, now_ms);
        }
        link.waiters.clear();
        link.freeze = None;
        drop(link);
        self.room.notify_waiters();
        self.to_consumer.notify_one();
    }

    // --- the consumer's side ---

    pub(super) async fn next_event(&self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.pop_event() {
                return event;
            }
            self.to_consumer.notified().await;
        }
    }

    /// `None`: nothing now. `Some(None)`: nothing ever.
    pub(super) fn pop_event(&self) -> Option<Option<LinkEvent>> {
        let mut link = self.lock();
        if let Some(news) = link.news.pop_front() {
            return Some(Some(news));
        }
        if let Some(delivery) = link.state.next_delivery() {
            let wake = link.state.owes_credit();
            drop(link);
            if wake {
                self.to_write.notify_one();
            }
            return Some(Some(match delivery {
                Delivery::Message { code, corr, flags, payload } => {
                    LinkEvent::Message { code, corr, flags, payload }
                }
                Delivery::Cancel { corr } => LinkEvent::Cancel { corr },
            }));
        }
        // The reason is told only when the driver is done: until then received frames may follow.
        if !link.state.is_closed() {
            return None;
        }
        if link.told_closed {
            return Some(None);
        }
        link.told_closed = true;
        let why = link.closed.clone().unwrap_or(CloseReason::Local);
        Some(Some(LinkEvent::Closed { why }))
    }
}

impl Inner {
    fn tell(&mut self, news: LinkEvent) {
        if !self.news.contains(&news) {
            self.news.push_back(news);
        }
    }
}
