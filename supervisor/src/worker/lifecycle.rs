//! The life of one worker as a pure machine: events in, actions out. The driver does the IO.
//!
//! ```text
//!  Idle ──want──► Starting ──Ready──► Ready ⇄ Degraded          Suspect ⇄ Ready, Degraded
//!   ▲                │ crash            │ crash   │ drain, stop
//!   │             Backoff ◄─────────────┘         ▼
//!   └─────────── Stopping ◄────────────────── Draining
//!  hung: Dumping (QUIT) ─► Aborting (ABRT) ─► Killing (KILL) ─► Stuck: nothing is started beside it
//!  too many crashes, bad configuration, version skew: Quarantined.  Login lost: NeedsLogin
//! ```

mod adopt;
mod step;

pub use step::{Action, Event, Signal, Then};

use super::exit::{ExitClass, KilledFor};
use super::restart::{Policy, Quarantine, Restarts, Verdict};
use proto::wire::handshake::WorkerKind;
use proto::wire::limits::{HELLO_MS, READY_MS};
use serde::{Deserialize, Serialize};

/// From QUIT to ABRT: time for the guard thread to write its dump.
pub const DUMP_MS: u64 = 1_000;
/// From ABRT to KILL. ABRT stays pending on a stopped process, so KILL always follows.
pub const ABORT_MS: u64 = 2_000;
/// From KILL to `Stuck`: a process that is not gone by then is in an uninterruptible wait.
pub const KILL_MS: u64 = 10_000;
/// From TERM to KILL.
pub const TERM_MS: u64 = 5_000;
/// A worker whose link is gone ends by itself within this, or is killed.
pub const LINK_LOST_MS: u64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Disabled,
    Idle,
    Starting,
    Ready,
    Degraded,
    Suspect,
    NeedsLogin,
    Draining,
    Stopping,
    Dumping,
    Aborting,
    Killing,
    Stuck,
    Backoff,
    Quarantined,
}

impl State {
    /// Takes work.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded | Self::Suspect)
    }

    /// Waiting for it is of no use until somebody acts.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Disabled | Self::NeedsLogin | Self::Quarantined | Self::Stuck)
    }
}

/// One worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lifecycle {
    state: State,
    /// The process exists.
    alive: bool,
    permanent: bool,
    wanted: bool,
    then: Option<Then>,
    killed_for: Option<KilledFor>,
    quarantine: Option<Quarantine>,
    before_suspect: State,
    ready_since_ms: Option<u64>,
    restarts: Restarts,
}

impl Lifecycle {
    /// `permanent` workers are always restarted; others only when somebody wants them.
    pub fn new(kind: WorkerKind, permanent: bool) -> Self {
        Self {
            state: State::Idle,
            alive: false,
            permanent,
            wanted: false,
            then: None,
            killed_for: None,
            quarantine: None,
            before_suspect: State::Ready,
            ready_since_ms: None,
            restarts: Restarts::new(Policy::of(kind)),
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Somebody asked for the end that is under way.
    pub fn end_is_asked(&self) -> bool {
        self.then.is_some()
    }

    pub fn killed_for(&self) -> Option<KilledFor> {
        self.killed_for
    }

    pub fn quarantine(&self) -> Option<Quarantine> {
        self.quarantine
    }

    pub fn restarts(&self) -> &Restarts {
        &self.restarts
    }

    pub fn set_permanent(&mut self, permanent: bool) {
        self.permanent = permanent;
    }

    /// One step. An event that does not fit the state changes nothing.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match event {
            Event::Want => self.want(),
            Event::SpawnFailed => self.ended(ExitClass::Temporary, now_ms, 0),
            Event::Unconfigured => self.ended(ExitClass::Config, now_ms, 0),
            Event::Exited { class, random } => self.ended(class, now_ms, random),
            Event::Deadline => self.deadline(),
            Event::Drain { deadline_ms, then } => self.drain(deadline_ms, then),
            Event::Stop { then } => self.stop(then),
            Event::Fixed => self.fixed(),
            Event::MessageBlamed => self.message_blamed(now_ms),
            Event::Disable => self.stop(Then::Disable),
            Event::Enable if self.state == State::Disabled => {
                self.state = State::Idle;
                if self.permanent || self.wanted { self.start() } else { Vec::new() }
            }
            Event::Enable => {
                if self.then == Some(Then::Disable) {
                    self.then = Some(Then::Restart);
                }
                Vec::new()
            }
            Event::Hung => self.kill_for(KilledFor::Hung),
            Event::HungStopped => self.kill_for(KilledFor::Stopped),
            Event::Violation => self.kill_for(KilledFor::Violation),
            Event::LinkLost => self.link_lost(),
            Event::IdleTooLong if self.state == State::Ready && !self.permanent => {
                self.drain(TERM_MS, Then::Idle)
            }
            Event::IdleTooLong => Vec::new(),
            _ => self.report(event, now_ms),
        }
    }

    /// What the worker says of itself.
    fn report(&mut self, event: Event, now_ms: u64) -> Vec<Action> {
        match (self.state, event) {
            (State::Starting, Event::Greeted) => vec![Action::Deadline { after_ms: READY_MS }],
            (State::Starting, Event::Progress) => vec![Action::NoDeadline],
            (State::Starting, Event::Ready) => {
                self.state = State::Ready;
                self.ready_since_ms = Some(now_ms);
                vec![Action::NoDeadline, Action::Up]
            }
            (State::Ready, Event::Degraded) => self.become_(State::Degraded),
            (State::Degraded | State::NeedsLogin, Event::Healthy) if self.alive => {
                let up = self.ready_since_ms.is_some();
                self.become_(if up { State::Ready } else { State::Starting })
            }
            (State::Ready | State::Degraded | State::Starting, Event::LoginLost) => {
                self.state = State::NeedsLogin;
                vec![Action::NoDeadline, Action::RefuseWaiters]
            }
            // A login that succeeded while it was waiting for one.
            (State::NeedsLogin, Event::Ready) if self.alive => {
                self.state = State::Ready;
                self.ready_since_ms = Some(now_ms);
                vec![Action::NoDeadline, Action::Up]
            }
            (State::Ready | State::Degraded, Event::Suspect) => {
                self.before_suspect = self.state;
                self.become_(State::Suspect)
            }
            (State::Suspect, Event::Recovered) => self.become_(self.before_suspect),
            _ => Vec::new(),
        }
    }

    fn become_(&mut self, state: State) -> Vec<Action> {
        self.state = state;
        Vec::new()
    }

    fn want(&mut self) -> Vec<Action> {
        match self.state {
            State::Idle => {
                self.wanted = true;
                self.start()
            }
            state if state.is_final() => vec![Action::RefuseWaiters],
            _ => {
                self.wanted = true;
                Vec::new()
            }
        }
    }

    fn start(&mut self) -> Vec<Action> {
        self.state = State::Starting;
        self.alive = true;
        self.then = None;
        self.killed_for = None;
        self.quarantine = None;
        self.ready_since_ms = None;
        vec![Action::Spawn, Action::Deadline { after_ms: HELLO_MS }]
    }

    fn drain(&mut self, deadline_ms: u64, then: Then) -> Vec<Action> {
        if !self.alive || matches!(self.state, State::Starting | State::NeedsLogin) {
            return self.stop(then);
        }
        if !self.state.is_up() {
            self.retarget(then);
            return Vec::new();
        }
        self.then = Some(then);
        self.wanted = false;
        self.state = State::Draining;
        vec![Action::SendDrain { deadline_ms }, Action::Deadline { after_ms: deadline_ms }]
    }

    fn stop(&mut self, then: Then) -> Vec<Action> {
        if !self.alive {
            return self.settle(then);
        }
        match self.state {
            State::Stopping | State::Dumping | State::Aborting | State::Killing | State::Stuck => {
                self.retarget(then);
                Vec::new()
            }
            _ => {
                self.then = Some(then);
                self.wanted = false;
                self.state = State::Stopping;
                let wait = Action::Deadline { after_ms: TERM_MS };
                let stop = vec![Action::SendShutdown, Action::Signal(Signal::Term), wait];
                if then == Then::Restart { stop } else { [stop, vec![Action::RefuseWaiters]].concat() }
            }
        }
    }

    /// An end is under way already; only what follows it changes. A removal is not undone by a restart.
    fn retarget(&mut self, then: Then) {
        if self.then != Some(Then::Disable) {
            self.then = Some(then);
        }
    }

    fn settle(&mut self, then: Then) -> Vec<Action> {
        match then {
            Then::Restart => {
                if self.state == State::Disabled {
                    return vec![Action::RefuseWaiters];
                }
                self.restarts.forgive();
                self.start()
            }
            Then::Idle | Then::Disable => {
                self.wanted = false;
                self.quarantine = None;
                let stays = then == Then::Disable || self.state == State::Disabled;
                self.state = if stays { State::Disabled } else { State::Idle };
                vec![Action::NoDeadline, Action::RefuseWaiters]
            }
        }
    }

    fn kill_for(&mut self, why: KilledFor) -> Vec<Action> {
        if !self.alive
            || matches!(self.state, State::Dumping | State::Aborting | State::Killing | State::Stuck)
        {
            return Vec::new();
        }
        if self.then.is_none() {
            self.killed_for = Some(why);
        }
        match why {
            // Before it dies it shall say where it hangs.
            KilledFor::Hung => {
                self.state = State::Dumping;
                vec![Action::Signal(Signal::Quit), Action::Deadline { after_ms: DUMP_MS }]
            }
            _ => self.kill(),
        }
    }

    fn kill(&mut self) -> Vec<Action> {
        self.state = State::Killing;
        vec![Action::Signal(Signal::Kill), Action::Deadline { after_ms: KILL_MS }]
    }

    fn link_lost(&mut self) -> Vec<Action> {
        let ending = matches!(
            self.state,
            State::Stopping | State::Dumping | State::Aborting | State::Killing | State::Stuck
        );
        if !self.alive || ending {
            return Vec::new();
        }
        // Most often the process is dead already and only its reaping is to come.
        self.state = State::Stopping;
        vec![Action::Deadline { after_ms: LINK_LOST_MS }]
    }

    fn deadline(&mut self) -> Vec<Action> {
        match self.state {
            State::Starting => self.kill_for(KilledFor::StartDeadline),
            State::Draining => {
                self.state = State::Stopping;
                let wait = Action::Deadline { after_ms: TERM_MS };
                vec![Action::SendShutdown, Action::Signal(Signal::Term), wait]
            }
            State::Stopping => {
                if self.then.is_none() {
                    self.killed_for = Some(KilledFor::LinkLost);
                }
                self.kill()
            }
            State::Dumping => {
                self.state = State::Aborting;
                vec![Action::Signal(Signal::Abort), Action::Deadline { after_ms: ABORT_MS }]
            }
            State::Aborting => self.kill(),
            State::Killing => {
                self.state = State::Stuck;
                vec![Action::NoDeadline, Action::RefuseWaiters]
            }
            State::Backoff if self.permanent || self.wanted => self.start(),
            State::Backoff => {
                self.state = State::Idle;
                vec![Action::NoDeadline]
            }
            State::Quarantined => {
                self.restarts.probe();
                self.start()
            }
            _ => Vec::new(),
        }
    }

    fn ended(&mut self, class: ExitClass, now_ms: u64, random: u32) -> Vec<Action> {
        if !self.alive {
            return Vec::new();
        }
        self.alive = false;
        let ready_ms = self.ready_since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        if let Some(then) = self.then.take() {
            return self.settle_after(then);
        }
        match self.restarts.on_exit(class, ready_ms, now_ms, random) {
            Verdict::Restart { delay_ms: 0 } if self.permanent || self.wanted => self.start(),
            Verdict::Restart { delay_ms: 0 } => self.rest(State::Idle, None),
            Verdict::Restart { delay_ms } => self.rest(State::Backoff, Some(delay_ms)),
            Verdict::Quarantine { why, probe_after_ms } => {
                self.quarantine = Some(why);
                let mut actions = self.rest(State::Quarantined, probe_after_ms);
                actions.push(Action::RefuseWaiters);
                actions
            }
            Verdict::NeedsLogin => {
                let mut actions = self.rest(State::NeedsLogin, None);
                actions.push(Action::RefuseWaiters);
                actions
            }
            Verdict::Stopped => self.rest(State::Idle, None),
        }
    }

    fn settle_after(&mut self, then: Then) -> Vec<Action> {
        match then {
            Then::Restart => self.start(),
            // Work that came in while it was stopping.
            Then::Idle if self.wanted => self.start(),
            Then::Idle | Then::Disable => self.settle(then),
        }
    }

    fn rest(&mut self, state: State, wake_ms: Option<u64>) -> Vec<Action> {
        self.state = state;
        match wake_ms {
            Some(after_ms) => vec![Action::Deadline { after_ms }],
            None => vec![Action::NoDeadline],
        }
    }

    fn fixed(&mut self) -> Vec<Action> {
        self.restarts.forgive();
        match self.state {
            State::Backoff | State::Quarantined => self.start(),
            State::NeedsLogin if !self.alive => self.start(),
            _ => Vec::new(),
        }
    }

    fn message_blamed(&mut self, now_ms: u64) -> Vec<Action> {
        if !self.restarts.blame_message(now_ms) {
            return Vec::new();
        }
        match self.state {
            State::Quarantined if self.quarantine == Some(Quarantine::CrashLoop) => self.start(),
            State::Backoff if self.permanent || self.wanted => self.start(),
            _ => Vec::new(),
        }
    }

    /// The work is done: an idle stop or a crash need not bring it back.
    pub fn unwant(&mut self) {
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests;
