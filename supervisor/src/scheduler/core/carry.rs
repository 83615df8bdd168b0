//! All runs on their way from one program image to the next.

use super::{Core, SessionCommand};
use crate::scheduler::carry::CarriedRun;
use futures_util::future::join_all;
use proto::wire::handshake::WorkerId;
use std::collections::BTreeSet;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

impl Core {
    /// Waits until no session is in the middle of a step. Nothing new is begun meanwhile
    /// ([`Pace::Stopping`](crate::scheduler::shared::Pace)). One that takes longer than it may is told in the log; what
    /// becomes of it is decided by [`Core::freeze`].
    pub async fn settle(&self, until: Instant) {
        self.ask_all(until, SessionCommand::Settle).await;
    }

    /// Ends every session's task and gives the runs that are under way. Their workers have them and go on. Then the workers
    /// of sessions that did not answer: what these do is not known, and their runs are interrupted.
    pub async fn freeze(&self, until: Instant) -> (Vec<CarriedRun>, BTreeSet<WorkerId>) {
        let (runs, late) = self.ask_all(until, SessionCommand::Freeze).await;
        (runs.into_iter().flatten().collect(), late)
    }

    async fn ask_all<T>(
        &self,
        until: Instant,
        make: impl Fn(oneshot::Sender<T>) -> SessionCommand,
    ) -> (Vec<T>, BTreeSet<WorkerId>) {
        let tasks: Vec<_> = {
            let tasks = self.tasks.borrow();
            tasks
                .iter()
                .map(|(key, task)| (key.clone(), task.agent_id.clone(), task.commands.clone()))
                .collect()
        };
        let asked = tasks.into_iter().map(async |(key, agent_id, commands)| {
            let (reply, answer) = oneshot::channel();
            let answered = async {
                // A task that retired meanwhile has nothing to say.
                commands.send(make(reply)).await.ok()?;
                answer.await.ok()
            };
            let answer = timeout_at(until, answered).await;
            answer.map_err(|_| {
                tracing::error!(session = key, "does not come to rest");
                WorkerId::agent(&agent_id)
            })
        });
        let (mut answers, mut late) = (Vec::new(), BTreeSet::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(answer) => answers.extend(answer),
                Err(worker) => _ = late.insert(worker),
            }
        }
        (answers, late)
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
