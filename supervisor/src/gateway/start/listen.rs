//! The addresses of a start.

use super::{Refused, refused};
use crate::config::startup::StartPlan;
use crate::exit_code;
use crate::front::accept::{self, BindError};
use crate::gateway::fd_store::{self, Kept};
use crate::gateway::port_owner;
use crate::gateway::sd_notify::Notify;
use crate::journal::{Journal, JournalHandle, Recovered};
use crate::lock;
use std::net::TcpListener;

/// Binds what the plan requires, or takes it from what was kept; the port with it.
///
/// # Errors
/// Somebody else has it; who, where that is known. A journal that an orderly stop closed is closed again.
pub(super) async fn open(
    plan: &StartPlan,
    service: bool,
    (kept, notify): (Kept, &Notify),
    (journal, recovered): (&JournalHandle, &Recovered),
) -> Result<(Vec<TcpListener>, u16), Refused> {
    match bind(plan, service, kept, notify) {
        Ok(listeners) => {
            let first = listeners.first().and_then(|listener| listener.local_addr().ok());
            Ok((listeners, first.map_or(plan.port, |address| address.port())))
        }
        Err(refusal) => {
            // What was orderly before this start stays so.
            if recovered.clean
                && let Err(error) = journal.close().await
            {
                tracing::warn!(%error, "journal not closed; the next start recovers");
            }
            Err(refusal)
        }
    }
}

fn bind(
    plan: &StartPlan,
    service: bool,
    mut kept: Kept,
    notify: &Notify,
) -> Result<Vec<TcpListener>, Refused> {
    let code = if service { exit_code::TEMPORARY } else { exit_code::FAILURE };
    let mut listeners = Vec::new();
    kept.give_up_all_but(&plan.bind.required, plan.port, notify);
    for address in &plan.bind.required {
        let claimed = kept.claim(*address, plan.port);
        if !claimed.is_empty() {
            listeners.extend(claimed);
            continue;
        }
        let bound = accept::bind(*address, plan.port).map_err(|error| {
            let mut message = format!("Gateway failed to start: {error}");
            if matches!(error, BindError::InUse(_)) {
                let owner = port_owner::of(plan.port);
                message.push_str(&lock::owner_hint(owner.as_ref().map(|owner| owner.pid), Some(plan.port)));
                message.push_str(&format!("\nPort {} is already in use.", plan.port));
                if let Some(owner) = owner {
                    message.push_str(&format!("\n- pid {}: {} ({address}:{})", owner.pid, owner.command, plan.port));
                }
                message.push_str("\n- Gateway already running locally. Stop it (openclaw gateway stop) or use a different port.");
            }
            refused(message, code)
        })?;
        fd_store::store(notify, &bound);
        listeners.extend(bound);
    }
    Ok(listeners)
}
