//! Messages that join a run under way.

use super::Session;
use crate::journal::{Journal, JournalError};
use crate::scheduler::pending::Pending;
use crate::scheduler::queue;
use proto::wire::agent::{AgentToSup, Steer, Steered, SupToAgent};
use proto::wire::{Id, Wire};

/// A worker answers at the next tool border or at once.
const STEER_MS: u64 = 5_000;

impl Session {
    /// Hands a message to the live run; when that no longer takes input the message waits like any other.
    pub(super) async fn steer(&mut self, item: queue::Item<Pending>, also_queued: bool) {
        let Some(run_id) = self.active.as_ref().map(|active| active.run_id) else {
            self.solo.push_back(item.payload);
            return;
        };
        let mut input = item.payload.turn.input.clone();
        input.inbound_seq = item.seq;
        let steer = SupToAgent::Steer(Steer { run_id, input });
        // An answer that nobody could wait for would leave the message's fate open.
        let taken = !self.shared.stopping() && {
            let answer = self.shared.workers.request(&self.worker(), steer, STEER_MS).await;
            answer.is_ok_and(|(code, payload)| {
                matches!(Wire::decode(code, &payload), Ok(AgentToSup::Steered(Steered { taken: true })))
            })
        };
        if taken && !also_queued {
            if let Some(active) = &mut self.active {
                active.unclaimed.push(item.seq);
            }
            if let Err(error) = self.claim_owed(run_id).await {
                tracing::warn!(session = %self.key, %error, "a message that joined a run is noted with its end");
            }
            if let (Some(active), Some(progress)) = (&mut self.active, item.payload.progress) {
                active.client_ids.push(item.payload.turn.client_run_id);
                active.progress.push(progress);
            }
        } else if !taken && !also_queued {
            let arrival = self.queue.steer_refused(item, self.shared.now());
            self.drop_items(arrival.dropped).await;
        }
    }

    /// Notes the messages that joined the run. Before its end is stored: they end with it.
    pub(super) async fn claim_owed(&mut self, run_id: Id) -> Result<(), JournalError> {
        let owed = self.active.as_ref().map(|active| active.unclaimed.clone()).unwrap_or_default();
        if owed.is_empty() {
            return Ok(());
        }
        self.shared.journal.claim_more(run_id, owed).await?;
        if let Some(active) = &mut self.active {
            active.unclaimed.clear();
        }
        Ok(())
    }
}
