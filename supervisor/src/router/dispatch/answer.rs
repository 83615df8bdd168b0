//! Lines of ours that answer a message without a run. They are stored with the message, in one transaction.

use super::{AccountIntake, pairing};
use crate::journal::outbox::origin_of;
use crate::journal::{Journal, NewOutbox};
use crate::router::pairing::Knock;
use crate::scheduler::outcome::row_to;
use crate::scheduler::shared::{now_ms, now_us};
use proto::wire::agent::OutPart;
use proto::wire::channel::InboundMsg;
use std::collections::BTreeMap;

/// What a sender is told whose run was stopped.
const STOPPED_TEXT: &str = "⚙️ Agent was aborted.";

impl AccountIntake {
    /// The sender wants the run of this session to end.
    pub(super) async fn stopped(&self, message: &InboundMsg, session_key: &str) -> Option<NewOutbox> {
        let known = self.parts.journal.knows_inbound(self.key.clone(), message.ext_id.clone()).await;
        // One that is offered again was obeyed; what runs now came after it.
        if !matches!(known, Ok(true)) {
            self.parts.core.abort_session(session_key, "stop-command").await;
        }
        Some(self.note(message, STOPPED_TEXT))
    }

    /// A stranger wrote: one code per request.
    pub(super) async fn challenge(&self, message: &InboundMsg) -> Option<NewOutbox> {
        let (store, channel, account) =
            (self.parts.pairing.clone(), self.channel.clone(), self.account.clone());
        let sender = message.sender.id.clone();
        let mut meta = BTreeMap::from([
            ("accountId".to_owned(), account.clone()),
            (pairing::MESSAGE.to_owned(), message.ext_id.clone()),
        ]);
        meta.extend(message.sender.name.clone().map(|name| ("name".to_owned(), name)));
        meta.extend(message.sender.username.clone().map(|name| ("username".to_owned(), name)));
        let knock =
            tokio::task::spawn_blocking(move || store.knock(&channel, &account, &sender, meta, now_ms()))
                .await;
        match knock {
            Ok(Ok(Knock::Created { code })) => {
                let id_line = pairing::id_line(&title(&self.channel), &message.sender.id);
                Some(self.note(message, &pairing::challenge_text(&self.channel, &id_line, &code)))
            }
            Ok(Ok(Knock::Known { .. } | Knock::Full)) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::error!(account = %self.key, %error, "pairing request not stored");
                None
            }
        }
    }

    /// A line to the chat that the message came from. The same message never makes two of it.
    fn note(&self, message: &InboundMsg, text: &str) -> NewOutbox {
        let origin = origin_of(&self.key, &message.ext_id);
        let part = OutPart { text: text.to_owned(), ..OutPart::default() };
        row_to(&origin, None, &self.target(message), &part, None, now_us())
    }
}

/// `telegram` → `Telegram`.
fn title(channel: &str) -> String {
    let mut letters = channel.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
