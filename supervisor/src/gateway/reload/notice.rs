//! Tells the owner that the file does not run: a line for the next turn of the main session, and a message to each owner
//! whom `commands.ownerAllowFrom` names, where a channel is configured.

use super::Reloader;
use crate::config::{ConfigSnapshot, ConfigState};
use crate::gateway::Handles;
use crate::journal::outbox::origin_of;
use crate::journal::{DedupeClaim, Journal};
use crate::router::{access, session_key};
use crate::scheduler::shared::now_us;
use proto::wire::agent::Target;
use tokio::time::{Duration, Instant};

/// How the journal names these notices; a content is told once in the 24 h that it remembers, restarts included.
const METHOD: &str = "config.notice";
/// Between two notices: somebody who saves a file every minute until it is right reads one, and the last.
const PAUSE: Duration = Duration::from_secs(600);
/// Owners told about one content; a longer list is a list of users.
const OWNERS_MAX: usize = 8;

/// What was told last.
#[derive(Default)]
pub(super) struct Noticed {
    content: Option<String>,
    at: Option<Instant>,
}

impl Noticed {
    /// Whether this content is to be told now.
    fn is_due(&self, content: &str) -> bool {
        self.content.as_deref() != Some(content) && self.at.is_none_or(|at| at.elapsed() >= PAUSE)
    }
}

impl Reloader {
    /// Once for each content that is refused or was taken back. Edits that only wait are nobody's trouble.
    pub(super) async fn notice(&mut self, state: &ConfigState) {
        let gw = &self.parts.gw;
        if !state.diverges() {
            if self.noticed.content.take().is_some() {
                let text = "The configuration file is what runs again; the notice about it is settled.";
                tell_main_session(gw, text).await;
            }
            return;
        }
        if state.state == "pending" || !self.noticed.is_due(&state.file_hash) {
            return;
        }
        let claim = DedupeClaim {
            method: METHOD.to_owned(),
            key: format!("{}:{}", state.state, state.file_hash),
            req_hash: None,
            now_us: now_us(),
        };
        match gw.journal.dedupe_claim(claim).await {
            Ok(None) => tell(gw, state).await,
            Ok(Some(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "the owner is told of the configuration later");
                return;
            }
        }
        self.noticed = Noticed { content: Some(state.file_hash.clone()), at: Some(Instant::now()) };
    }
}

async fn tell(gw: &Handles, state: &ConfigState) {
    let text = format!(
        "The configuration file is not what runs. config: {}\nMend {}, or see `openclaw config validate`.",
        state.line(),
        gw.config.paths().config_file.display()
    );
    tell_main_session(gw, &text).await;
    let origin = origin_of(METHOD, &state.file_hash);
    for (n, to) in owners(&gw.config.current()).into_iter().take(OWNERS_MAX).enumerate() {
        let one = origin_of(&origin.to_string(), &n.to_string());
        if let Err(error) = crate::rpc::send::enqueue(gw, &one, &to, text.clone()).await {
            tracing::warn!(
                channel = to.channel,
                error = error.message,
                "an owner was not told of the configuration"
            );
        }
    }
}

async fn tell_main_session(gw: &Handles, text: &str) {
    let config = gw.config.current();
    let session = session_key::canonical("main", config.view.agents.default_id(), &config.view.session);
    if let Err(refusal) = gw.scheduler.system_event(&session, text, false).await {
        tracing::warn!(session, ?refusal, "the main session was not told of the configuration");
    }
}

/// Where owners are reached: their direct chat on the default account of each channel that runs.
fn owners(config: &ConfigSnapshot) -> Vec<Target> {
    let mut found = Vec::new();
    for (channel, view) in &config.view.channels {
        let account = view.default_account.clone();
        if !view.active().any(|(id, _)| id == account) {
            continue;
        }
        let chats = access::owner_chats(&config.view.commands, channel);
        found.extend(chats.into_iter().map(|chat| Target {
            channel: channel.clone(),
            account: account.clone(),
            chat,
            thread: None,
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_told_once_and_never_in_a_storm() {
        let mut noticed = Noticed::default();
        assert!(noticed.is_due("a"));
        noticed = Noticed { content: Some("a".to_owned()), at: Some(Instant::now()) };
        assert!(!noticed.is_due("a") && !noticed.is_due("b"), "a pause after each notice");
        noticed.at = Instant::now().checked_sub(PAUSE);
        assert!(!noticed.is_due("a"), "told already");
        assert!(noticed.is_due("b"));
    }
}
