//! Lets runs through the lanes: the driver of the pure rules in `lanes`.

use futures_util::FutureExt;

use super::lanes::{Lanes, Limits, LongWait, Ticket};
use crate::clock::steady_ms;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::oneshot;

/// All lanes. Lives on the core's thread.
pub struct LaneGate {
    lanes: RefCell<Lanes>,
    waiting: RefCell<HashMap<Ticket, oneshot::Sender<()>>>,
}

/// A place in a lane; dropping it gives the place to the next.
pub struct Permit {
    gate: Rc<LaneGate>,
    ticket: Ticket,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.lanes.borrow_mut().leave(self.ticket);
        self.gate.waiting.borrow_mut().remove(&self.ticket);
        self.gate.grant();
    }
}

impl LaneGate {
    pub fn new(limits: Limits) -> Rc<Self> {
        Rc::new(Self { lanes: RefCell::new(Lanes::new(limits)), waiting: RefCell::default() })
    }

    /// Runs that have waited long for a place.
    pub fn long_waits(&self) -> Vec<LongWait> {
        self.lanes.borrow().long_waits(steady_ms())
    }

    /// New limits hold at once; who has a place keeps it.
    pub fn set_limits(&self, limits: Limits) {
        self.lanes.borrow_mut().set_limits(limits);
        self.grant();
    }

    fn grant(&self) {
        let granted = self.lanes.borrow_mut().grant();
        for ticket in granted {
            if let Some(waiter) = self.waiting.borrow_mut().remove(&ticket) {
                // A waiter that is gone drops its permit, which gives the place on.
                let _gone = waiter.send(());
            }
        }
    }

    /// Waits for a place. `None` while the gateway drains. Dropping the future leaves the line.
    pub async fn acquire(self: Rc<Self>, session: String, lane: String) -> Option<Permit> {
        let now = steady_ms();
        let ticket = self.lanes.borrow_mut().join(&session, &lane, now).ok()?;
        let (tell, told) = oneshot::channel();
        self.waiting.borrow_mut().insert(ticket, tell);
        let permit = Permit { gate: self.clone(), ticket };
        self.grant();
        told.await.ok()?;
        Some(permit)
    }
}

impl LaneGate {
    /// A place, if one is free now.
    pub fn try_acquire(self: Rc<Self>, session: &str, lane: &str) -> Option<Permit> {
        self.acquire(session.to_owned(), lane.to_owned()).now_or_never().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn places_are_given_on_in_order() {
        let gate = LaneGate::new(Limits { main: 1, ..Limits::default() });
        let acquire = |session: &str| Box::pin(gate.clone().acquire(session.to_owned(), "main".to_owned()));
        let first = acquire("a").now_or_never().flatten().expect("free");
        let (mut second, mut third) = (acquire("b"), acquire("c"));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(first);
        let second = second.as_mut().now_or_never().flatten().expect("next in line");
        assert!(third.as_mut().now_or_never().is_none());
        drop(third);
        drop(second);
        assert!(acquire("d").now_or_never().flatten().is_some(), "a waiter that left is not waited for");
    }
}
