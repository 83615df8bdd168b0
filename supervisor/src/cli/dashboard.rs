//! `openclaw dashboard`: the address of the page, with the token in its fragment, which browsers do not send anywhere.

use super::invocation::{Failure, Invocation};
use super::{output, up};
use crate::config::AuthMode;
use crate::config::startup::port;
use crate::exit_code;
use std::io::IsTerminal;
use std::process::{Command, Stdio};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only print the address
    #[arg(long)]
    no_open: bool,
}

impl Args {
    /// Works from files: the page of a gateway that is stopped has the same address.
    pub fn run(self, invocation: &Invocation) -> Result<u8, Failure> {
        let snapshot = super::config::in_force(invocation)?;
        let env = snapshot.env().clone();
        let gateway = &snapshot.gateway;
        let in_file = gateway.port_in_file.then_some(gateway.port);
        let (port, _) = port(None, &env, in_file, invocation.paths.default_port)
            .map_err(|refusal| Failure::new(refusal.message))?;
        let base = format!("http://127.0.0.1:{port}/{}", base_path(&gateway.control_ui.base_path));
        let token = up::token_of(&snapshot).or_else(|| env.get("OPENCLAW_GATEWAY_TOKEN").map(str::to_owned));
        let with_password = gateway.auth.mode == Some(AuthMode::Password);
        let page = match token.filter(|_| !with_password) {
            Some(token) => up::with_token(&base, &token),
            None => base,
        };
        output::line(&format!("Dashboard URL: {page}"))?;
        if !self.no_open && std::io::stdout().is_terminal() && !open(invocation, &page) {
            output::line("No browser could be opened here. From another machine:")?;
            output::line(&format!("  ssh -N -L {port}:127.0.0.1:{port} <user>@<this host>"))?;
        }
        Ok(exit_code::OK)
    }
}

fn base_path(configured: &str) -> String {
    let inner = configured.trim_matches('/');
    if inner.is_empty() { String::new() } else { format!("{inner}/") }
}

/// Hands the page to the desktop, if there is one. The browser's output is not ours.
fn open(invocation: &Invocation, page: &str) -> bool {
    let desktop = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| invocation.env.get(name).is_some());
    let quiet = |program: &str| {
        let mut command = Command::new(program);
        command.arg(page).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    desktop && quiet("xdg-open")
}
