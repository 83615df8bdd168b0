//! What comes from a worker's link, and what it means for its life.

use super::Driver;
use crate::link::{self, FromWorker, HelloRefusal, Incoming};
use crate::worker::WorkerEventKind;
use crate::worker::lifecycle::Event;
use crate::worker::proc_view;
use crate::worker::sandbox::Sandbox;
use proto::runtime::link::{CloseReason, LinkEvent};
use proto::wire::channel::{ChannelPhase, ChannelState, ChannelToSup};
use proto::wire::handshake::{Hello, Ready, SupHandshake};
use proto::wire::limits::HUNG_MS;
use proto::wire::state::Violation;
use std::time::Instant;

impl Driver {
    pub(super) async fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Message { code, corr, payload, .. } => {
                match link::decode(self.spec.id.kind(), code, &payload) {
                    Ok(incoming) => self.on_message(incoming, corr).await,
                    Err(error) => self.violation(error.into()).await,
                }
            }
            LinkEvent::Cancel { corr } => self.emit(WorkerEventKind::Cancel { corr }),
            LinkEvent::Suspect => self.step(Event::Suspect).await,
            LinkEvent::Recovered => self.step(Event::Recovered).await,
            LinkEvent::Hung => {
                let stopped = self.running.as_ref().is_some_and(|running| proc_view::is_stopped(running.pid));
                tracing::error!(worker = %self.spec.id, silent_ms = HUNG_MS, stopped, "worker does not answer; it is ended and started again");
                self.step(if stopped { Event::HungStopped } else { Event::Hung }).await;
            }
            LinkEvent::Paused => {}
            LinkEvent::Closed { why } => {
                let broken = why.is_violation();
                if let Some(running) = &mut self.running {
                    running.closed = Some(why);
                }
                if broken {
                    tracing::error!(worker = %self.spec.id, why = ?self.closed(), "worker broke the link's protocol");
                }
                self.step(if broken { Event::Violation } else { Event::LinkLost }).await;
            }
        }
    }

    fn closed(&self) -> Option<&CloseReason> {
        self.running.as_ref().and_then(|running| running.closed.as_ref())
    }

    pub(super) async fn violation(&mut self, why: Violation) {
        tracing::error!(worker = %self.spec.id, %why, "worker broke the link's protocol");
        if let Some(running) = &mut self.running {
            running.link.violation(why.clone());
            running.closed = Some(why.into());
            running.events = None;
        }
        self.step(Event::Violation).await;
    }

    async fn on_message(&mut self, incoming: Incoming, corr: u64) {
        let Some(running) = &mut self.running else { return };
        match incoming {
            Incoming::Hello(hello) if !running.greeted => self.on_hello(&hello).await,
            Incoming::Ready(Ready { detail }) if running.greeted => {
                running.ready = detail;
                self.step(Event::Ready).await;
            }
            Incoming::Message(message) if running.greeted => {
                running.work_at = Instant::now();
                if let FromWorker::Channel(ChannelToSup::Examining(now)) = message {
                    self.suspects.examining(now.ids);
                    return;
                }
                if let FromWorker::Channel(ChannelToSup::State(state)) = &message {
                    let state = state.clone();
                    self.on_channel_state(state).await;
                }
                self.emit(WorkerEventKind::Message { corr, message });
            }
            Incoming::Hello(_) | Incoming::Ready(_) | Incoming::Message(_) => {
                self.violation(Violation::WrongDirection { code: 0 }).await;
            }
        }
    }

    async fn on_hello(&mut self, hello: &Hello) {
        let Some(running) = &mut self.running else { return };
        let sandbox = Sandbox::of(&hello.sandbox, running.pid, &self.spec);
        let mut welcome = running.welcome(hello, &self.spec, &sandbox);
        if let Ok(welcome) = &mut welcome {
            welcome.cursors.extend(self.suspects.scopes());
        }
        self.show_sandbox(sandbox);
        let Some(running) = &mut self.running else { return };
        match welcome {
            Ok(welcome) => {
                running.greeted = true;
                if let Err(refusal) = running.link.try_send(&SupHandshake::Welcome(welcome)) {
                    tracing::error!(worker = %self.spec.id, %refusal, "the worker's configuration does not fit the link");
                }
                self.step(Event::Greeted).await;
            }
            Err(HelloRefusal::Reject(reject)) => {
                tracing::error!(worker = %self.spec.id, reason = reject.reason, "worker refused");
                if reject.code == proto::wire::handshake::REJECT_ISOLATION {
                    let refused = Some(reject.reason.clone());
                    self.slot.change(|status| {
                        if let Some(sandbox) = &mut status.sandbox {
                            sandbox.refused = refused;
                        }
                    });
                }
                let Some(running) = &self.running else { return };
                let _ = running.link.try_send(&SupHandshake::Reject(reject));
            }
            Err(HelloRefusal::Impostor(why)) => {
                tracing::error!(worker = %self.spec.id, why, "worker is not who it says");
                self.violation(Violation::WrongDirection { code: 0x0011 }).await;
            }
        }
    }

    /// Shows how far the worker is confined, and says aloud when that is less than before.
    fn show_sandbox(&mut self, now: Sandbox) {
        let before = self.slot.status().sandbox.map(|before| before.tier);
        let (worker, amiss) = (&self.spec.id, now.amiss.join("; "));
        tracing::info!(%worker, tier = %now.tier, amiss, "worker is confined");
        if before.is_some_and(|before| now.tier < before) {
            tracing::warn!(event = "isolation.downgrade", %worker, tier = %now.tier, amiss, "worker is confined less than before");
        }
        self.slot.change(|status| status.sandbox = Some(now));
    }

    async fn on_channel_state(&mut self, state: ChannelState) {
        let why = state.why;
        self.slot.change(|status| status.why = why);
        self.step(Event::Progress).await;
        match state.state {
            ChannelPhase::Connecting => {}
            ChannelPhase::Up => self.step(Event::Healthy).await,
            ChannelPhase::LoginNeeded => self.step(Event::LoginLost).await,
            ChannelPhase::RateLimited | ChannelPhase::Down => self.step(Event::Degraded).await,
        }
    }
}
