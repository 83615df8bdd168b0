//! Whether a file may run: the one judgement that `config plan` makes too, and what stays of the gateway that runs.

use super::{Candidate, Parts, Refused, Reloader};
use crate::config::startup::auth::GeneratedToken;
use crate::config::startup::{Refusal, StartPlan};
use crate::config::{ConfigFile, ConfigSnapshot, Issue};
use std::sync::Arc;

/// What a start with this file would do. A token that is no longer in the file stays the one that runs.
pub fn start_plan(parts: &Parts, snapshot: &ConfigSnapshot) -> Result<StartPlan, Refusal> {
    parts.gw.config.start_plan(snapshot).map(|plan| with_token_kept(parts, plan))
}

fn with_token_kept(parts: &Parts, mut plan: StartPlan) -> StartPlan {
    if plan.auth.generated != GeneratedToken::No {
        plan.auth.token.clone_from(&parts.plan.auth.token);
        plan.auth.generated = GeneratedToken::No;
        plan.warnings
            .push("gateway.auth.token is gone from the file; the one that runs stays in use".to_owned());
    }
    plan
}

impl Reloader {
    /// Every reason not to run it that can be had without trying.
    pub(super) async fn judge(&self, file: &Arc<ConfigFile>) -> Result<Candidate, Refused> {
        let (config, file) = (self.parts.gw.config.clone(), file.clone());
        let judged = tokio::task::spawn_blocking(move || config.verdict(&file)).await;
        let judged = judged.map_err(|error| Refused::invalid(vec![Issue::new("", error.to_string())]))?;
        let Candidate { snapshot, start } = judged.map_err(Refused::invalid)?;
        let start = with_token_kept(&self.parts, start);
        // What the start, or the change before, warned of is known.
        for warning in start.warnings.iter().filter(|warning| !self.parts.plan.warnings.contains(warning)) {
            tracing::warn!("{warning}");
        }
        Ok(Candidate { snapshot, start })
    }
}
