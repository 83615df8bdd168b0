//! The guard thread: acts on signals even when the async runtime is stuck.
//!
//! | signal | meaning |
//! |---|---|
//! | TERM | stop: the worker's own stop begins; when it does not end within the grace, the process exits |
//! | QUIT | dump what is going on to standard error, then go on (the supervisor sends ABRT next) |
//! | USR2 | dump |

use super::sys;
use nix::sys::signal::Signal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Signals that only the guard thread receives.
pub const GUARDED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGUSR2];
/// From TERM to the exit that nobody can prevent. Below the supervisor's 5 s, so that the tools are killed by us.
pub const GRACE: Duration = Duration::from_millis(4_000);
/// Exit code of a worker that was told to stop and did not manage in time.
pub const EXIT_STUCK: i32 = 143;

/// What the guard does for its process.
pub struct Hooks {
    /// Writes what is going on to standard error. Runs on the guard thread: must not need the runtime.
    pub dump: Box<dyn Fn() + Send>,
    /// Kills what must not outlive us (tool process groups). Runs before a forced exit.
    pub last: Box<dyn Fn() + Send + Sync>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { dump: Box::new(super::dump::write), last: Box::new(|| ()) }
    }
}

/// Told once that the process has to stop. Cloneable; any number of tasks may wait.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// A stop that never comes, for tests.
    pub fn never() -> Self {
        let (sender, receiver) = watch::channel(false);
        drop(sender);
        Self(receiver)
    }

    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the process has to stop.
    pub async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Starts the guard. Call before any other thread, after the signals are blocked.
pub fn guard(hooks: Hooks) -> io::Result<Stop> {
    let (sender, receiver) = watch::channel(false);
    std::thread::Builder::new().name("guard".into()).spawn(move || {
        let last: Arc<dyn Fn() + Send + Sync> = hooks.last.into();
        loop {
            match sys::wait_for(&GUARDED) {
                Ok(Signal::SIGTERM) => {
                    if !sender.send_replace(true) {
                        force_exit_later(last.clone());
                    }
                }
                Ok(_) => (hooks.dump)(),
                Err(error) => {
                    tracing::error!(%error, "the guard thread cannot wait for signals");
                    return;
                }
            }
        }
    })?;
    Ok(Stop(receiver))
}

fn force_exit_later(last: Arc<dyn Fn() + Send + Sync>) {
    let spawned = std::thread::Builder::new().name("grace".into()).spawn({
        let last = last.clone();
        move || {
            std::thread::sleep(GRACE);
            last();
            std::process::exit(EXIT_STUCK);
        }
    });
    if spawned.is_err() {
        last();
        std::process::exit(EXIT_STUCK);
    }
}
