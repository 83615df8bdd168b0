//! What the journal refused (disk full, a lock) and is told again, before anything new is leased: until then a row would
//! stay with a worker that is long done with it, and hold up its chat.

use super::AccountTask;
use crate::journal::{Journal, JournalError, SendOutcome};
use crate::scheduler::shared::now_us;
use proto::wire::Id;
use serde::{Deserialize, Serialize};

/// Pause before the journal is told again.
pub const AGAIN_MS: u64 = 1_000;

/// See the module head. It holds no more results than rows are with a worker at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owed {
    /// Row, start of the worker, what it said of the send; in the order in which they came.
    pub results: Vec<(Id, u64, SendOutcome)>,
    /// The worker is gone: what was leased to it is to be taken back.
    pub release: bool,
}

impl Owed {
    /// Told with the next look at the outbox.
    pub(super) fn note(&mut self, out_id: Id, epoch: u64, outcome: SendOutcome) {
        self.results.retain(|(known, _, _)| *known != out_id);
        self.results.push((out_id, epoch, outcome));
    }

    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && !self.release
    }
}

/// Telling it again would change nothing.
fn is_final(error: &JournalError) -> bool {
    matches!(
        error,
        JournalError::NoSuch { .. }
            | JournalError::Illegal { .. }
            | JournalError::StaleEpoch { .. }
            | JournalError::TooLarge { .. }
    )
}

impl AccountTask {
    /// C12, now or as soon as the journal can write.
    pub(super) async fn settle(&mut self, out_id: Id, epoch: u64, outcome: SendOutcome) {
        self.owed.note(out_id, epoch, outcome);
        self.pay().await;
    }

    /// Takes back what was leased to the worker that is gone, now or as soon as the journal can write.
    pub(super) async fn take_back(&mut self) {
        self.owed.release = true;
        self.pay().await;
    }

    /// Tells the journal what it is owed. False: something is left.
    pub(super) async fn pay(&mut self) -> bool {
        while let Some((out_id, epoch, outcome)) = self.owed.results.first().cloned() {
            match self.journal.settle(out_id, epoch, outcome, now_us()).await {
                Ok(settled) => {
                    self.owed.results.remove(0);
                    self.after_settled(out_id, settled).await;
                }
                Err(error) if is_final(&error) => {
                    self.owed.results.remove(0);
                    tracing::warn!(account = %self.account, %out_id, %error, "delivery not settled");
                }
                Err(error) => {
                    tracing::warn!(account = %self.account, %out_id, %error, "delivery not settled yet; it is tried again");
                    return false;
                }
            }
        }
        if self.owed.release {
            match self.journal.worker_gone(self.account.clone(), now_us()).await {
                Ok(released) => {
                    self.owed.release = false;
                    let count = released.maybe_dup;
                    if count > 0 {
                        tracing::warn!(account = %self.account, count, "deliveries of unknown outcome are sent once more");
                    }
                }
                Err(error) => {
                    tracing::warn!(account = %self.account, %error, "leases not taken back yet; it is tried again");
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_about_a_row_counts_and_keeps_the_order() {
        let mut owed = Owed::default();
        let retry = SendOutcome::Retry { next_us: 1, why: "busy".to_owned() };
        let (a, b) = (Id([1; 16]), Id([2; 16]));
        owed.note(a, 1, retry.clone());
        owed.note(b, 1, retry.clone());
        owed.note(a, 1, SendOutcome::Delivered { ext_ids: vec!["7".to_owned()] });
        assert_eq!(owed.results[0], (b, 1, retry));
        assert_eq!(owed.results[1].2, SendOutcome::Delivered { ext_ids: vec!["7".to_owned()] });
        assert!(!owed.is_empty() && Owed::default().is_empty());
        let carried = serde_json::to_string(&owed).unwrap();
        assert_eq!(serde_json::from_str::<Owed>(&carried).unwrap(), owed);
    }
}
