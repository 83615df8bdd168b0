//! Whose messages a run has, when its row alone does not say: it was made by an earlier life of the gateway, or messages
//! joined it under way.

use super::Session;
use crate::journal::{Journal, JournalError};
use crate::scheduler::stored::StoredTurn;

impl Session {
    /// Adds to the active run what the journal knows of its messages: those that joined it, and who follows them.
    pub(super) async fn recall_messages(&mut self) -> Result<(), JournalError> {
        let Some(run_id) = self.active.as_ref().map(|active| active.run_id) else { return Ok(()) };
        let rows = self.shared.journal.inbound_of_run(run_id).await?;
        let Some(active) = &mut self.active else { return Ok(()) };
        for row in rows {
            let Some(turn) = StoredTurn::decode(&row.body) else { continue };
            if active.spec.inputs.iter().all(|input| input.inbound_seq != row.seq) {
                let mut input = turn.input;
                input.inbound_seq = row.seq;
                active.spec.inputs.push(input);
            }
            let id = turn.client_run_id;
            if !id.is_empty() && !active.client_ids.contains(&id) {
                active.progress.push(self.shared.runs.borrow_mut().open(&id, &self.key));
                active.client_ids.push(id);
            }
        }
        Ok(())
    }
}
