//! Replaces this program's image while its workers, their runs and the port go on: restart and upgrade in place.
//!
//! ```text
//! U0 due, configuration valid   U1 preflight of the new executable   U2 clients held
//! U3 core at rest, workers quiet, everything that they said worked off, runs and links taken apart
//! U4 journal closed   U5 state into a sealed memory file   U6 exec
//! U7 the new image puts everything together, then resumes the links: ready   U8 workers of the old release replaced
//! ```
//!
//! Until U2 a failure changes nothing. From there on the old image is gone for good, and a failure of the new one starts the
//! old *executable* again with the same state ([`image::roll_back`]).

pub mod blob;
mod budget;
pub mod fds;
pub mod give_way;
pub mod image;
pub mod locks;
pub mod preflight;
pub mod rolling;
pub mod state;
mod take_over;

use crate::events::GatewayEvent;
use crate::front::scope::ADMIN;
use crate::gateway::Handles;
use crate::gateway::restart::{Begun, LastRestart};
use crate::scheduler::shared::now_ms;
use crate::update::place::Place;
use serde_json::json;
use std::path::PathBuf;

/// U0 and U1. Gives the executable to go on with and the reason. `None`: it could not go on; whoever asked is told, and
/// nothing has changed.
pub async fn look_ahead(handles: &Handles, unplanned: Option<&str>) -> Option<(PathBuf, String)> {
    let Begun { target, reason, use_last_good } = handles.restarts.begin(unplanned);
    let target = target.unwrap_or_else(|| Place::of(&image::path()).usual());
    proto::runtime::failpoint::hit("sv.up.preflight");
    let asked = target.clone();
    let answer = tokio::task::spawn_blocking(move || {
        if crate::rpc::update::is_under_way() {
            return Err(
                "an update is under way, and a restart would cut it off: ask again when it has ended"
                    .to_owned(),
            );
        }
        fds::room()?;
        preflight::ask(&asked, use_last_good)
    })
    .await;
    let why = match answer {
        Ok(Ok(answer)) => {
            tracing::info!(build = answer.build, reason, "the next image can go on");
            return Some((target, reason));
        }
        Ok(Err(why)) => why,
        Err(error) => error.to_string(),
    };
    tracing::error!(why, "restart refused; everything goes on as it was");
    let payload = json!({"reason": reason, "why": why, "executable": target});
    handles.front.fanout.emit(GatewayEvent::Other { event: "upgrade.failed", payload, scope: Some(ADMIN) });
    let build = handles.about.version.clone();
    let from_build = build.clone();
    handles.restarts.failed(LastRestart {
        at_ms: now_ms(),
        ok: false,
        reason,
        from_build,
        build,
        why: Some(why),
    });
    // Whoever left a note learns now that it did not come to pass.
    tokio::task::spawn_local(crate::gateway::sentinel::tell(handles.clone()));
    None
}
