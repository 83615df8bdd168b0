//! How clients prove themselves: mode, secrets, a generated token, and every reason not to start.

use super::{BindPlan, Overrides, Refusal};
use crate::config::gateway::{AuthMode, Bind, Tailscale};
use crate::config::{ConfigSnapshot, Secret};
use std::net::IpAddr;

/// Bytes of a generated token; printed as hex.
const TOKEN_BYTES: usize = 24;
/// Logged when a generated token went into the file.
pub const TOKEN_SAVED: &str =
    "Gateway auth token was missing. Generated a new token and saved it to config (gateway.auth.token).";
/// Logged when it could not.
pub const TOKEN_IN_MEMORY: &str = "Gateway auth token was missing. Generated a runtime token for this startup without changing config; restart will generate a different token.";
const MODE_NONE: &str =
    "Gateway auth mode=none explicitly configured; all gateway connections are unauthenticated.";

/// What clients must show.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthPlan {
    pub mode: AuthMode,
    pub source: AuthSource,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    pub generated: GeneratedToken,
}

/// Who chose the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthSource {
    Flag,
    Config,
    /// By the secrets that exist.
    Implied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedToken {
    No,
    /// Write `gateway.auth {mode: "token", token}` to the file and log [`TOKEN_SAVED`].
    Save,
    /// Keep it in memory and log [`TOKEN_IN_MEMORY`].
    KeepInMemory,
}

/// Decides, and refuses what would be unsafe.
///
/// # Errors
/// Every situation in which no start is better than this start.
pub fn resolve(
    snapshot: &ConfigSnapshot,
    overrides: &Overrides,
    bind: &BindPlan,
    port: u16,
    tailscale: Tailscale,
    warnings: &mut Vec<String>,
) -> Result<AuthPlan, Refusal> {
    let mut plan = choose(snapshot, overrides)?;
    if plan.mode == AuthMode::Password && plan.password.is_none() {
        return Err(Refusal::config(
            "Gateway auth is set to password, but no password is configured.\nSet gateway.auth.password (or OPENCLAW_GATEWAY_PASSWORD), or pass --password.",
        ));
    }
    if plan.mode == AuthMode::Token && plan.token.is_none() {
        plan.token = generate_token();
        let by_flag = plan.source == AuthSource::Flag;
        plan.generated = if by_flag { GeneratedToken::KeepInMemory } else { GeneratedToken::Save };
    }
    check_proxies(snapshot, &plan, bind)?;
    if bind.is_exposed() && !is_protected(&plan) {
        return Err(without_auth(snapshot, bind, port));
    }
    check_tailscale(tailscale, &plan, bind)?;
    check_hooks(snapshot, &plan)?;
    if plan.mode == AuthMode::None {
        warnings.push(MODE_NONE.to_owned());
    }
    Ok(plan)
}

/// The mode: flag, file, password if there is one, else token. Secrets: flag over file over environment.
fn choose(snapshot: &ConfigSnapshot, overrides: &Overrides) -> Result<AuthPlan, Refusal> {
    let auth = &snapshot.gateway.auth;
    let env = |name: &str| snapshot.env().get(name).and_then(Secret::new);
    let pick = |flag: &Option<Secret>, file: &Option<Secret>, name: &str| {
        flag.clone().or_else(|| file.clone()).or_else(|| env(name))
    };
    let token = pick(&overrides.token, &auth.token, "OPENCLAW_GATEWAY_TOKEN");
    let password = pick(&overrides.password, &auth.password, "OPENCLAW_GATEWAY_PASSWORD");
    let (mode, source) = match (&overrides.auth, auth.mode) {
        (Some(flag), _) => {
            let mode = AuthMode::parse(flag).ok_or_else(|| {
                Refusal::flag("Invalid --auth (use \"none\", \"token\", \"password\", or \"trusted-proxy\")")
            })?;
            (mode, AuthSource::Flag)
        }
        (None, Some(mode)) => (mode, AuthSource::Config),
        (None, None) if password.is_some() => (AuthMode::Password, AuthSource::Implied),
        (None, None) => (AuthMode::Token, AuthSource::Implied),
    };
    Ok(AuthPlan { mode, source, token, password, generated: GeneratedToken::No })
}

fn is_protected(plan: &AuthPlan) -> bool {
    match plan.mode {
        AuthMode::None => false,
        AuthMode::Token => plan.token.is_some(),
        AuthMode::Password => plan.password.is_some(),
        AuthMode::TrustedProxy => true,
    }
}

/// 48 hexadecimal characters from the kernel's random source.
#[must_use]
pub fn generate_token() -> Option<Secret> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::new(&text)
}

fn without_auth(snapshot: &ConfigSnapshot, bind: &BindPlan, port: u16) -> Refusal {
    let mut message = format!(
        "Refusing to bind gateway to {} without auth.\nSet gateway.auth.token/password (or OPENCLAW_GATEWAY_TOKEN/OPENCLAW_GATEWAY_PASSWORD) or pass --token/--password.",
        bind.mode.name()
    );
    for hint in misplaced(snapshot) {
        message.push('\n');
        message.push_str(&hint);
    }
    let host = bind.host();
    let log = format!(
        "refusing to bind gateway to {host}:{port} without auth (set gateway.auth.token/password, or set OPENCLAW_GATEWAY_TOKEN/OPENCLAW_GATEWAY_PASSWORD)"
    );
    Refusal { log: Some(log), ..Refusal::config(message) }
}

/// Keys that look like the gateway's secret and are not.
#[must_use]
pub fn misplaced(snapshot: &ConfigSnapshot) -> Vec<String> {
    let parsed = &snapshot.file.parsed;
    let mut hints = Vec::new();
    if parsed.pointer("/gateway/token").is_some() {
        hints.push("Found \"gateway.token\" in config. Use \"gateway.auth.token\" instead.".to_owned());
    }
    if parsed.pointer("/gateway/remote/token").is_some() {
        hints.push(
            "\"gateway.remote.token\" is for remote CLI calls; it does not enable local gateway auth."
                .to_owned(),
        );
    }
    hints
}

fn check_tailscale(tailscale: Tailscale, plan: &AuthPlan, bind: &BindPlan) -> Result<(), Refusal> {
    if tailscale == Tailscale::Funnel && plan.mode != AuthMode::Password {
        return Err(Refusal::config(
            "tailscale funnel requires gateway auth mode=password (set gateway.auth.password or OPENCLAW_GATEWAY_PASSWORD)",
        ));
    }
    if tailscale != Tailscale::Off && bind.mode != Bind::Loopback {
        return Err(Refusal::config("tailscale serve/funnel requires gateway bind=loopback (127.0.0.1)"));
    }
    Ok(())
}

fn check_proxies(snapshot: &ConfigSnapshot, plan: &AuthPlan, bind: &BindPlan) -> Result<(), Refusal> {
    if plan.mode != AuthMode::TrustedProxy {
        return Ok(());
    }
    let trusted = &snapshot.gateway.proxies.trusted;
    if trusted.iter().all(|entry| entry.trim().is_empty()) {
        return Err(Refusal::config(
            "gateway auth mode=trusted-proxy requires gateway.trustedProxies to be configured with at least one proxy IP",
        ));
    }
    if !bind.is_exposed() && !trusted.iter().any(|entry| covers_loopback(entry)) {
        return Err(Refusal::config(
            "gateway auth mode=trusted-proxy with bind=loopback requires gateway.trustedProxies to include 127.0.0.1, ::1, or a loopback CIDR",
        ));
    }
    let header = snapshot.gateway.auth.trusted_proxy.as_ref().map_or("", |proxy| proxy.user_header.trim());
    if header.is_empty() {
        return Err(Refusal::config(
            "gateway auth mode=trusted-proxy requires gateway.auth.trustedProxy.userHeader",
        ));
    }
    Ok(())
}

/// An address or network that lies in 127.0.0.0/8 or is ::1.
fn covers_loopback(entry: &str) -> bool {
    let entry = entry.trim();
    let (address, bits) =
        entry.split_once('/').map_or((entry, None), |(address, bits)| (address, bits.parse::<u8>().ok()));
    match (address.parse::<IpAddr>(), bits) {
        (Ok(IpAddr::V4(address)), bits) => address.is_loopback() && bits.is_none_or(|bits| bits >= 8),
        (Ok(IpAddr::V6(address)), bits) => address.is_loopback() && bits.is_none_or(|bits| bits == 128),
        (Err(_), _) => false,
    }
}

/// Whoever may post a webhook must not thereby be an operator.
fn check_hooks(snapshot: &ConfigSnapshot, plan: &AuthPlan) -> Result<(), Refusal> {
    if !snapshot.view.hooks.enabled || plan.mode != AuthMode::Token {
        return Ok(());
    }
    let hooks_token =
        snapshot.config.pointer("/hooks/token").and_then(serde_json::Value::as_str).and_then(Secret::new);
    if hooks_token.is_some() && hooks_token == plan.token {
        return Err(Refusal::config(
            "Invalid config: hooks.token must not match gateway auth token. Set a distinct hooks.token for hook ingress.",
        ));
    }
    Ok(())
}
