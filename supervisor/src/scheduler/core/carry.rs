//! All runs on their way from one program image to the next.

use super::{Core, SessionCommand};
use crate::scheduler::carry::CarriedRun;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::sync::oneshot;

/// A session answers between two of its steps; the longest is a message that it offers to its running turn (5 s).
const SETTLE_WITHIN: Duration = Duration::from_secs(7);

impl Core {
    /// Waits until no session is in the middle of a step. Nothing new is begun meanwhile
    /// ([`Pace::Stopping`](crate::scheduler::shared::Pace)). False: one is, and takes longer than it may.
    pub async fn settle(&self) -> bool {
        self.ask_all(SessionCommand::Settle).await.1
    }

    /// Ends every session's task and gives the runs that are under way. Their workers have them and go on.
    pub async fn freeze(&self) -> Vec<CarriedRun> {
        self.ask_all(SessionCommand::Freeze).await.0.into_iter().flatten().collect()
    }

    async fn ask_all<T>(&self, make: impl Fn(oneshot::Sender<T>) -> SessionCommand) -> (Vec<T>, bool) {
        let tasks: Vec<_> =
            self.tasks.borrow().iter().map(|(key, task)| (key.clone(), task.commands.clone())).collect();
        let asked = tasks.into_iter().map(async |(key, commands)| {
            let (reply, answer) = oneshot::channel();
            let answered = async {
                // A task that retired meanwhile has nothing to say.
                commands.send(make(reply)).await.ok()?;
                answer.await.ok()
            };
            let answer = tokio::time::timeout(SETTLE_WITHIN, answered).await;
            if answer.is_err() {
                tracing::error!(session = key, "does not come to rest");
            }
            answer
        });
        let answers = join_all(asked).await;
        let settled = answers.iter().all(Result::is_ok);
        (answers.into_iter().flatten().flatten().collect(), settled)
    }

    /// Goes on with the runs of the image before. Call before [`Core::resume`], so that they keep their lanes.
    pub async fn adopt(&self, runs: Vec<CarriedRun>) {
        for run in runs {
            for id in &run.client_ids {
                self.shared.runs.borrow_mut().open(id, &run.session_key);
            }
            // At once: the worker's next word may come before the session's task gets its turn.
            self.shared.owners.borrow_mut().insert(run.run_id, run.session_key.clone());
            let (key, agent) = (run.session_key.clone(), run.agent_id.clone());
            self.tell(&key, &agent, SessionCommand::Adopt(Box::new(run))).await;
        }
    }
}
