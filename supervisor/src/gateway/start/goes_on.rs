//! What a start does that takes over from another image of this program.

use super::{Handles, refused};
use crate::config::startup::{Overrides, StartPlan};
use crate::config::{ConfigSnapshot, Secret};
use crate::exit_code;
use crate::front::accept::Front;
use crate::front::control::Control;
use crate::front::fanout;
use crate::gateway::start::Refused;
use crate::journal::{CarriedOver, Journal, JournalHandle, Recovered};
use crate::paths::Paths;
use crate::scheduler::core::Core;
use crate::scheduler::shared::now_us;
use crate::update::place::Place;
use crate::upgrade::image;
use crate::upgrade::state::State;
use crate::worker::WorkerSpec;
use std::net::TcpListener;
use tokio::sync::mpsc;

/// Something that the image before should have left is not there.
pub(super) fn lost(error: impl std::fmt::Display) -> Refused {
    refused(format!("left by the image before: {error}"), exit_code::FAILURE)
}

/// A token that was made up for this gateway goes on as long as no configuration has another.
pub(super) fn keep_token(carried: Option<&State>, snapshot: &ConfigSnapshot, overrides: &mut Overrides) {
    let carried = carried.and_then(|state| state.runtime_token.as_deref());
    if overrides.token.is_none() && !has_token(snapshot) {
        overrides.token = carried.and_then(Secret::new);
    }
}

/// The token of this gateway, when no file and no flag of its service holds it.
pub(super) fn runtime_token(plan: &StartPlan, snapshot: &ConfigSnapshot, carried: &State) -> Option<String> {
    let token = plan.auth.token.as_ref()?.expose();
    let made_up = plan.auth.generated != crate::config::startup::GeneratedToken::No
        || carried.runtime_token.as_deref() == Some(token);
    (made_up && !has_token(snapshot)).then(|| token.to_owned())
}

fn has_token(snapshot: &ConfigSnapshot) -> bool {
    snapshot.config.pointer("/gateway/auth/token").is_some_and(|token| !token.is_null())
}

/// Where this start goes on. `over`: what the workers of the image before still hold.
pub(super) async fn recover(journal: &JournalHandle, over: Option<CarriedOver>) -> Result<Recovered, String> {
    let not_begun = |error| journal.not_begun(error).to_string();
    crate::clock::begin(journal).await.map_err(not_begun)?;
    tokio::task::spawn_local(crate::clock::follow(journal.clone()));
    let recovered = match over {
        Some(over) => journal.carry_over(over, now_us()).await,
        None => journal.recover(now_us()).await,
    };
    recovered.map_err(not_begun)
}

/// The public port and the control socket; with clients of the image before, if there are any. After this nothing can fail
/// any more: what that image left is closed.
pub(super) fn serve_clients(
    handles: &Handles,
    paths: &Paths,
    listeners: Vec<TcpListener>,
    events: mpsc::Receiver<fanout::Item>,
    mut carried: Option<&mut State>,
) -> Result<Front, String> {
    let text = |error: std::io::Error| error.to_string();
    let socket = carried.as_ref().map(|state| state.take_control()).transpose().map_err(text)?.flatten();
    let control = match socket {
        Some(listener) => Control::adopt(listener, paths),
        None => Control::open(paths),
    };
    let control = control.map_err(|error| error.to_string())?;
    let clients = carried.as_mut().map(|state| state.take_front()).transpose().map_err(text)?;
    image::prove()?;
    let front = Front::start(handles.clone(), listeners, Some(control), events, clients).map_err(text)?;
    image::ready();
    Ok(front)
}

/// Runs, deliveries and workers of the image before; workers that it did not have are started.
pub(super) async fn go_on(handles: &Handles, core: &Core, carried: State, specs: Vec<WorkerSpec>) {
    if handles.restarts.last().is_some_and(|last| last.ok) {
        tokio::task::spawn_blocking(settle);
    }
    handles.channels.restore(carried.channels);
    core.shared().blame.restore(carried.blame);
    core.adopt(carried.runs).await;
    core.shared().delivery.adopt(carried.accounts);
    let workers = &handles.workers;
    workers.apply(specs);
    workers.dismiss_unwanted();
    for worker in carried.unsettled {
        if let Err(refusal) = workers.restart(&worker) {
            tracing::warn!(%worker, %refusal, "its deliveries wait for its next start");
        }
    }
}

/// Later starts take the release that this one has proved.
fn settle() {
    let place = Place::of(&image::path());
    if let Err(error) = place.settle() {
        tracing::warn!(%error, "a later start takes the release before: the links in {} cannot be changed", place.dir.display());
    }
}
