//! Places for connections: in all, unauthenticated, and per remote address. A place is held by a value and
//! given back when that is dropped.

use super::limits::{CONNECTIONS_MAX, CONNECTIONS_PER_IP_MAX, CONNECTIONS_UNAUTHENTICATED_MAX};
use super::net::normalise;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All places are taken.
    Total,
    /// This address has its share.
    Address,
    /// Too many have not yet said who they are.
    Unauthenticated,
}

/// All places. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Mutex<Counts>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    unauthenticated: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// One place.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    ip: IpAddr,
    authenticated: Mutex<bool>,
}

impl Slots {
    fn with<T>(&self, act: impl FnOnce(&mut Counts) -> T) -> T {
        act(&mut self.0.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Take a place.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn take(&self, ip: IpAddr) -> Result<Slot, Full> {
        let ip = normalise(ip);
        self.with(|c| {
            if c.total >= CONNECTIONS_MAX {
                return Err(Full::Total);
            }
            let of_ip = c.by_ip.get(&ip).copied().unwrap_or(0);
            if !ip.is_loopback() && of_ip >= CONNECTIONS_PER_IP_MAX {
                return Err(Full::Address);
            }
            if c.unauthenticated >= CONNECTIONS_UNAUTHENTICATED_MAX {
                return Err(Full::Unauthenticated);
            }
            c.total += 1;
            c.unauthenticated += 1;
            *c.by_ip.entry(ip).or_default() += 1;
            Ok(())
        })?;
        Ok(Slot { slots: self.clone(), ip, authenticated: Mutex::new(false) })
    }

    /// Take a place for a connection that had one before an in-place restart: no limit applies.
    pub fn retake(&self, ip: IpAddr) -> Slot {
        let ip = normalise(ip);
        self.with(|c| {
            c.total += 1;
            *c.by_ip.entry(ip).or_default() += 1;
        });
        Slot { slots: self.clone(), ip, authenticated: Mutex::new(true) }
    }

    /// Wait until some place was given back.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// Connections, and how many of them are unauthenticated.
    pub fn counts(&self) -> (usize, usize) {
        self.with(|c| (c.total, c.unauthenticated))
    }
}

impl Slot {
    /// The address that holds it.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The connection proved who it is.
    pub fn authenticated(&self) {
        let mut done = self.authenticated.lock().unwrap_or_else(PoisonError::into_inner);
        if !*done {
            *done = true;
            self.slots.with(|c| c.unauthenticated = c.unauthenticated.saturating_sub(1));
            self.slots.0.freed.notify_waiters();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.authenticated();
        self.slots.with(|c| {
            c.total = c.total.saturating_sub(1);
            if let Some(n) = c.by_ip.get_mut(&self.ip) {
                *n -= 1;
                if *n == 0 {
                    c.by_ip.remove(&self.ip);
                }
            }
        });
        self.slots.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_holds_and_places_come_back() {
        let slots = Slots::default();
        let mut held: Vec<Slot> =
            (0..CONNECTIONS_PER_IP_MAX).map(|_| slots.take(ip("192.0.2.1")).unwrap()).collect();
        assert_eq!(slots.take(ip("::ffff:192.0.2.1")).err(), Some(Full::Address));
        while let Ok(slot) = slots.take(ip("127.0.0.1")) {
            held.push(slot);
        }
        assert_eq!(held.len(), CONNECTIONS_UNAUTHENTICATED_MAX);
        held.iter().for_each(Slot::authenticated);
        while let Ok(slot) = slots.take(ip("127.0.0.1")) {
            slot.authenticated();
            held.push(slot);
        }
        assert_eq!(slots.counts(), (CONNECTIONS_MAX, 0));
        assert_eq!(slots.take(ip("127.0.0.1")).err(), Some(Full::Total));
        drop(held);
        assert_eq!(slots.counts(), (0, 0));
        assert!(slots.with(|c| c.by_ip.is_empty()));
    }
}
