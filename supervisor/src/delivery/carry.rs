//! What the deliveries of each account stand at, on their way from one program image to the next. The rows themselves are
//! in the journal; the worker holds what was leased to it.

use super::account::AccountCommand;
use super::account::owed::Owed;
use super::{ACCOUNT_COMMANDS_MAX, AccountTask, Delivery};
use futures_util::future::join_all;
use proto::wire::Id;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// One account. Fields are only ever added.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedAccount {
    pub account: String,
    /// Start of the worker that can send.
    pub epoch: Option<u64>,
    /// Leased rows, and whether the next bytes of each are a placeholder.
    pub in_flight: Vec<(Id, bool)>,
    /// What else is known of them.
    pub rows: Vec<CarriedRow>,
    /// Placeholders without a row.
    pub drafts: Vec<Id>,
    /// What the journal did not take yet.
    pub owed: Owed,
}

/// One leased row. Without it a go-ahead counts as one for a message of its own, which may be reported once too often.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CarriedRow {
    pub out_id: Id,
    pub text_first: bool,
    pub asked: bool,
    pub files: bool,
}

impl Delivery {
    /// Ends every account's task. An account that does not answer is left out: its leases are taken back.
    pub async fn freeze(&self, until: Instant) -> Vec<CarriedAccount> {
        let tasks: Vec<_> =
            self.accounts.borrow().iter().map(|(name, task)| (name.clone(), task.clone())).collect();
        let asked = tasks.into_iter().map(async |(account, commands)| {
            let (reply, answer) = oneshot::channel();
            let answered = async {
                commands.send(AccountCommand::Freeze(reply)).await.ok()?;
                answer.await.ok()
            };
            let answer = timeout_at(until, answered).await.ok().flatten();
            if answer.is_none() {
                tracing::error!(account, "deliveries do not come to rest; what is in flight is settled anew");
            }
            answer
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Goes on with the deliveries of the image before.
    pub fn adopt(&self, carried: Vec<CarriedAccount>) {
        for carried in carried {
            let (commands, inbox) = mpsc::channel(ACCOUNT_COMMANDS_MAX);
            self.accounts.borrow_mut().insert(carried.account.clone(), commands);
            let mut task = AccountTask::new(
                &carried.account,
                self.config.clone(),
                self.journal.clone(),
                self.workers.clone(),
            );
            task.restore(carried);
            tokio::task::spawn_local(task.run(inbox));
        }
    }
}
