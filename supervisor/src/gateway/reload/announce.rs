//! Nobody is surprised: while the file is not what runs, everything that shows a state says so. The log at once and every
//! hour, the service manager's line, and the health that clients are sent; `status`, `config.get` and the page ask for
//! the same [`ConfigState`].

use super::Reloader;
use crate::config::ConfigState;
use tokio::time::{Duration, Instant};

/// How often the log repeats that the file does not run.
const REPEAT_EVERY: Duration = Duration::from_secs(3_600);

/// What was said last, and when.
#[derive(Default)]
pub(super) struct Announced {
    said: Option<(String, Instant)>,
}

impl Reloader {
    /// Says what is new, or what has been so for an hour.
    pub(super) async fn announce(&mut self) {
        let config = self.parts.gw.config.clone();
        let Ok(state) = tokio::task::spawn_blocking(move || config.state()).await else { return };
        self.notice(&state).await;
        if !state.diverges() {
            // What was refused before is judged anew when it comes back.
            self.seen = Some(self.parts.gw.config.current().file.print());
            if self.announced.said.take().is_some() {
                tracing::info!("config: the file is what runs");
                crate::rpc::health::refresh(&self.parts.gw).await;
            }
            return;
        }
        let line = state.line();
        let (new, due) = match &self.announced.said {
            Some((said, at)) => (*said != line, at.elapsed() >= REPEAT_EVERY),
            None => (true, true),
        };
        if new || due {
            say(&state, &line);
            self.announced.said = Some((line.clone(), Instant::now()));
        }
        if new {
            crate::rpc::health::refresh(&self.parts.gw).await;
        }
    }
}

fn say(state: &ConfigState, line: &str) {
    match state.state {
        "pending" => tracing::warn!("config: {line}"),
        _ => tracing::error!("config: {line}"),
    }
}
