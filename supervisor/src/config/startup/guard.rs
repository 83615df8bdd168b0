//! The guard against starting from a configuration that lost its head, and the page's origins.

use super::{BindPlan, Refusal};
use crate::config::ConfigSnapshot;
use crate::config::gateway::{Gateway, Mode};
use std::path::Path;

/// `gateway.mode` must say `local`: a file from which it vanished was damaged by a tool.
///
/// # Errors
/// No file, or another mode.
pub fn check_mode(
    snapshot: &ConfigSnapshot,
    allow_unconfigured: bool,
    audit_file: &Path,
) -> Result<(), Refusal> {
    if allow_unconfigured || snapshot.gateway.mode == Some(Mode::Local) {
        return Ok(());
    }
    if !snapshot.file.source.exists {
        return Err(Refusal::config(
            "Missing config. Run `openclaw setup` or set gateway.mode=local (or pass --allow-unconfigured).",
        ));
    }
    let current = if snapshot.gateway.mode.is_some() { "remote" } else { "unset" };
    Err(Refusal::config(format!(
        "Gateway start blocked: set gateway.mode=local (current: {current}) or pass --allow-unconfigured.\nConfig write audit: {}",
        audit_file.display()
    )))
}

/// What the file says; for an exposed bind without any, this machine's own two names, so that a browser on it (or
/// behind a forwarded port) gets in without opening the page to every site.
#[must_use]
pub fn allowed_origins(gateway: &Gateway, bind: &BindPlan, port: u16) -> Vec<String> {
    let ui = &gateway.control_ui;
    let listed: Vec<String> =
        ui.allowed_origins.iter().filter(|origin| !origin.is_empty()).cloned().collect();
    if ui.enabled && bind.is_exposed() && listed.is_empty() && !ui.host_header_origin_fallback {
        return vec![format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}")];
    }
    listed
}
