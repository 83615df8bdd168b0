//! `trace.get`: what became of a message, step by step.

use super::outbox::refused;
use super::params::Params;
use super::{Answer, RpcError};
use crate::front::caller::Caller;
use crate::gateway::Handles;
use crate::trace::timeline;
use serde_json::Value;

/// `trace.get {id}`: `last`, a run's id, a delivery's id, or the network's id of a message or a reply. Answers `{run, messages,
/// deliveries, model, open, steps, leftOut}`; `open` as long as more is to come.
///
/// # Errors
/// Malformed params, nothing has this id, or the journal cannot be read.
pub async fn get(gw: &Handles, _caller: &Caller, params: Value) -> Answer {
    let wanted = Params::of("trace.get", &params).required("id")?.to_owned();
    let found = gw.journal.find(wanted.clone()).await.map_err(refused)?;
    let Some(found) = found else {
        let why = match wanted.as_str() {
            "last" => "there was no run yet".to_owned(),
            _ => format!(
                "nothing is known of {wanted}: an id of a run, a message, a reply or a delivery, or \"last\"; what has ended is \
                 forgotten after some days"
            ),
        };
        return Err(RpcError::invalid(why));
    };
    let steps = match &found.run {
        Some(run) => {
            let (book, run_id) = (gw.journal.book().clone(), run.run_id);
            let read = tokio::task::spawn_blocking(move || book.steps_of(run_id)).await;
            read.map_err(|error| RpcError::unavailable(error.to_string()))?
        }
        None => Vec::new(),
    };
    let mut shown = timeline::timeline(&found, &steps);
    shown["leftOut"] = gw.journal.book().left_out().into();
    Ok(shown.into())
}
