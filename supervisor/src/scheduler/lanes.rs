//! Lanes (PURE): how many runs may be active at once, and who is next.
//!
//! A run first holds its session (always one at a time), then a place in its global lane. Both are first come, first
//! served. Granting, releasing and limits are decisions here; starting and stopping runs is the caller's.

use std::collections::{BTreeMap, VecDeque};

/// Time after which waiting is worth a line in the log (2 s).
pub const LANE_WAIT_MS_MAX: u64 = 2000;

/// Places per global lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `agents.defaults.maxConcurrent`, over all agents.
    pub main: usize,
    /// `cron.maxConcurrentRuns`.
    pub cron: usize,
    /// `agents.defaults.subagents.maxConcurrent`.
    pub subagent: usize,
    /// Over all lanes; `None` = no further bound.
    pub host: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { main: 4, cron: 1, subagent: 8, host: None }
    }
}

impl Limits {
    /// `nested` and any lane that is not known have one place.
    pub fn of(&self, lane: &str) -> usize {
        let places = match lane {
            "main" => self.main,
            "cron" => self.cron,
            "subagent" => self.subagent,
            _ => 1,
        };
        places.max(1)
    }
}

/// Never given twice, so that a ticket of before a clearing frees nothing of after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    WaitsForSession,
    WaitsForLane,
    Active,
}

#[derive(Debug, Clone)]
struct Entry {
    session: String,
    lane: String,
    since_ms: u64,
    stage: Stage,
}

/// Somebody who waits long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongWait {
    pub ticket: Ticket,
    pub session: String,
    pub lane: String,
    pub waited_ms: u64,
    /// Others before it in the same line.
    pub ahead: usize,
}

#[derive(Debug, Default)]
struct Lane {
    active: usize,
    line: VecDeque<Ticket>,
}

#[derive(Debug, Default)]
pub struct Lanes {
    limits: Limits,
    last: u64,
    entries: BTreeMap<Ticket, Entry>,
    /// The first of each line holds the session.
    sessions: BTreeMap<String, VecDeque<Ticket>>,
    lanes: BTreeMap<String, Lane>,
    draining: bool,
}

/// New work is not taken while the gateway drains for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("gateway is draining for restart")]
pub struct Draining;

impl Lanes {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Joins the lines. Who may start now is told by [`Lanes::grant`].
    pub fn join(&mut self, session: &str, lane: &str, now_ms: u64) -> Result<Ticket, Draining> {
        if self.draining {
            return Err(Draining);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        let line = self.sessions.entry(session.to_owned()).or_default();
        line.push_back(ticket);
        let first = line.len() == 1;
        let stage = if first { Stage::WaitsForLane } else { Stage::WaitsForSession };
        self.entries.insert(
            ticket,
            Entry { session: session.to_owned(), lane: lane.to_owned(), since_ms: now_ms, stage },
        );
        if first {
            self.lanes.entry(lane.to_owned()).or_default().line.push_back(ticket);
        }
        Ok(ticket)
    }

    /// Those who hold both from now on, in order.
    pub fn grant(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let mut host_free = match self.limits.host {
            Some(max) => max.max(1).saturating_sub(self.active()),
            None => usize::MAX,
        };
        for (name, lane) in &mut self.lanes {
            let limit = self.limits.of(name);
            while lane.active < limit && host_free > 0 {
                let Some(ticket) = lane.line.pop_front() else { break };
                lane.active += 1;
                host_free -= 1;
                if let Some(entry) = self.entries.get_mut(&ticket) {
                    entry.stage = Stage::Active;
                }
                granted.push(ticket);
            }
        }
        granted.sort_unstable();
        granted
    }

    /// Gives up a place or leaves the line. `false` for a ticket that is not known (any more).
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(entry) = self.entries.remove(&ticket) else { return false };
        if let Some(lane) = self.lanes.get_mut(&entry.lane) {
            match entry.stage {
                Stage::Active => lane.active = lane.active.saturating_sub(1),
                Stage::WaitsForLane => lane.line.retain(|t| *t != ticket),
                Stage::WaitsForSession => {}
            }
            if lane.active == 0 && lane.line.is_empty() {
                self.lanes.remove(&entry.lane);
            }
        }
        self.pass_session_on(&entry, ticket);
        true
    }

    fn pass_session_on(&mut self, entry: &Entry, ticket: Ticket) {
        let Some(line) = self.sessions.get_mut(&entry.session) else { return };
        line.retain(|t| *t != ticket);
        let Some(next) = line.front().copied() else {
            self.sessions.remove(&entry.session);
            return;
        };
        if entry.stage == Stage::WaitsForSession {
            return;
        }
        if let Some(heir) = self.entries.get_mut(&next) {
            heir.stage = Stage::WaitsForLane;
            self.lanes.entry(heir.lane.clone()).or_default().line.push_back(next);
        }
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "a reset clears its lane in the next step"))]
    /// Takes everybody out of a session's line who does not run yet: their runs fail as "lane cleared".
    pub fn clear_session(&mut self, session: &str) -> Vec<Ticket> {
        let line: Vec<Ticket> = self.sessions.get(session).into_iter().flatten().copied().collect();
        let waiting = |t: &Ticket| self.entries.get(t).is_some_and(|e| e.stage != Stage::Active);
        let out: Vec<Ticket> = line.into_iter().filter(waiting).collect();
        // From the back, so that nobody inherits the session on the way out.
        out.iter().rev().for_each(|ticket| {
            self.leave(*ticket);
        });
        out
    }

    /// New limits hold at once; nobody is thrown out.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "a restart drains its lanes in the next step"))]
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    pub fn active(&self) -> usize {
        self.lanes.values().map(|lane| lane.active).sum()
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.active()
    }

    #[cfg(test)]
    pub fn is_active(&self, ticket: Ticket) -> bool {
        self.entries.get(&ticket).is_some_and(|entry| entry.stage == Stage::Active)
    }

    /// Those who have waited for [`LANE_WAIT_MS_MAX`] or longer.
    pub fn long_waits(&self, now_ms: u64) -> Vec<LongWait> {
        let waits = self.entries.iter().filter(|(_, entry)| entry.stage != Stage::Active);
        waits
            .filter_map(|(ticket, entry)| {
                let waited_ms = now_ms.saturating_sub(entry.since_ms);
                (waited_ms >= LANE_WAIT_MS_MAX).then(|| LongWait {
                    ticket: *ticket,
                    session: entry.session.clone(),
                    lane: entry.lane.clone(),
                    waited_ms,
                    ahead: self.ahead(*ticket, entry),
                })
            })
            .collect()
    }

    fn ahead(&self, ticket: Ticket, entry: &Entry) -> usize {
        let place = |line: &VecDeque<Ticket>| line.iter().position(|t| *t == ticket);
        let place = match entry.stage {
            Stage::WaitsForSession => self.sessions.get(&entry.session).and_then(place),
            _ => self.lanes.get(&entry.lane).and_then(|lane| place(&lane.line)),
        };
        place.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
