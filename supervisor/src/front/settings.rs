//! What the public side needs of the config, read leniently from the effective config. A new value takes
//! effect on the next request; nothing here is cached anywhere else.

use super::auth::rate::RateRules;
use super::auth::{AuthMode, AuthRules, ProxyRules};
use super::net::{Block, Proxies};
use super::origin::OriginRules;
use super::secret::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Secrets that come from outside of the file.
#[derive(Clone, Default)]
pub struct AuthEnvironment {
    /// `--auth`.
    pub mode: Option<String>,
    /// `--token`: instead of the config's.
    pub token_override: Option<String>,
    /// `--password`: instead of the config's.
    pub password_override: Option<String>,
    /// `OPENCLAW_GATEWAY_TOKEN`: when the config has none.
    pub token: Option<String>,
    /// `OPENCLAW_GATEWAY_PASSWORD`: when the config has none.
    pub password: Option<String>,
}

/// `gateway.controlUi`.
#[derive(Debug, Clone, Default)]
pub struct ControlUi {
    /// `enabled` (true).
    pub enabled: bool,
    /// `basePath`: leading slash, no trailing one; empty at the root.
    pub base_path: String,
    /// `root`: serve this directory instead of the page inside the executable.
    pub root: Option<PathBuf>,
    /// `allowedOrigins` and the fallback.
    pub origins: OriginRules,
    /// `allowInsecureAuth`: local pages may come without a device.
    pub allow_insecure: bool,
    /// `dangerouslyDisableDeviceAuth`: pages may come without a device from anywhere.
    pub no_device_auth: bool,
}

/// One agent, as far as clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentView {
    /// `agents.list[].id`.
    pub id: String,
    /// `agents.list[].identity.name`, else `agents.list[].name`.
    pub name: Option<String>,
    /// `agents.list[].identity.avatar`.
    pub avatar: Option<String>,
    /// `provider/model`.
    pub model: Option<String>,
    /// `workspace`, as written.
    pub workspace: Option<String>,
}

/// The whole view.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who is let in.
    pub auth: AuthRules,
    /// Who may speak for others.
    pub proxies: Proxies,
    /// The web page.
    pub control_ui: ControlUi,
    /// `gateway.http.endpoints.chatCompletions.enabled` (false).
    pub chat_completions: bool,
    /// `gateway.http.securityHeaders.strictTransportSecurity`.
    pub hsts: Option<String>,
    /// `gateway.nodes.pairing.autoApproveLocal` (true).
    pub auto_approve_local: bool,
    /// The agents, at least `main`.
    pub agents: Vec<AgentView>,
    /// The agent that takes what names none.
    pub default_agent: String,
    /// `gateway.restart.keepSockets` (true).
    pub keep_sockets: bool,
    /// `session.mainKey` (`main`).
    pub main_key: String,
    /// `session.scope` (`per-sender`).
    pub session_scope: String,
}

impl Settings {
    /// Read the view from the effective config.
    pub fn from_config(config: &Value, env: &AuthEnvironment) -> Self {
        let gateway = &config["gateway"];
        let agents = read_agents(config);
        let listed = config["agents"]["list"].as_array();
        let default_agent = listed
            .into_iter()
            .flatten()
            .find(|a| a["default"] == Value::Bool(true))
            .and_then(|a| a["id"].as_str())
            .map(str::to_ascii_lowercase)
            .or_else(|| agents.first().map(|a| a.id.clone()))
            .unwrap_or_else(|| "main".to_owned());
        Self {
            auth: read_auth(&gateway["auth"], env),
            proxies: Proxies {
                trusted: texts(&gateway["trustedProxies"]).iter().filter_map(|t| Block::parse(t)).collect(),
                allow_real_ip: flag(&gateway["allowRealIpFallback"], false),
            },
            control_ui: read_control_ui(&gateway["controlUi"]),
            chat_completions: flag(&gateway["http"]["endpoints"]["chatCompletions"]["enabled"], false),
            hsts: text(&gateway["http"]["securityHeaders"]["strictTransportSecurity"]),
            auto_approve_local: flag(&gateway["nodes"]["pairing"]["autoApproveLocal"], true),
            agents,
            default_agent,
            keep_sockets: flag(&gateway["restart"]["keepSockets"], true),
            main_key: text(&config["session"]["mainKey"]).unwrap_or_else(|| "main".into()),
            session_scope: text(&config["session"]["scope"]).unwrap_or_else(|| "per-sender".into()),
        }
    }

    /// Digest of the rules by which clients are let in. While it stays the same over an in-place restart, a client
    /// that was let in before would be let in again.
    pub fn admission_digest(&self) -> String {
        let AuthRules { mode, token, password, proxy, rate: _ } = &self.auth;
        let secret = |secret: &Option<Secret>| secret.as_ref().map(Secret::digest);
        let ControlUi { origins, allow_insecure, no_device_auth, .. } = &self.control_ui;
        let proxy = proxy.as_ref().map(|p| json!([p.user_header, p.required_headers, p.allow_users]));
        let trusted: Vec<String> = self.proxies.trusted.iter().map(ToString::to_string).collect();
        let rules = json!([
            mode.as_str(),
            secret(token),
            secret(password),
            proxy,
            trusted,
            self.proxies.allow_real_ip,
            origins.allowed,
            origins.host_header_fallback,
            allow_insecure,
            no_device_auth,
        ]);
        hex(&Sha256::digest(rules.to_string()))
    }

    /// The session that a message without a session goes to.
    pub fn main_session_key(&self) -> String {
        if self.session_scope == "global" {
            return "global".to_owned();
        }
        format!("agent:{}:{}", self.default_agent, self.main_key)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_agents(config: &Value) -> Vec<AgentView> {
    let defaults = &config["agents"]["defaults"];
    let model = |own: &Value| {
        let primary = |v: &Value| v.as_str().map(str::to_owned).or_else(|| text(&v["primary"]));
        primary(own).or_else(|| primary(&defaults["model"]))
    };
    let mut agents: Vec<AgentView> = Vec::new();
    for agent in config["agents"]["list"].as_array().into_iter().flatten() {
        let Some(id) = text(&agent["id"]).map(|id| id.to_ascii_lowercase()) else { continue };
        if agents.iter().any(|a| a.id == id) {
            continue;
        }
        agents.push(AgentView {
            id,
            name: text(&agent["identity"]["name"]).or_else(|| text(&agent["name"])),
            avatar: text(&agent["identity"]["avatar"]),
            model: model(&agent["model"]),
            workspace: text(&agent["workspace"]).or_else(|| text(&defaults["workspace"])),
        });
    }
    if agents.is_empty() {
        agents.push(AgentView {
            id: "main".into(),
            name: None,
            avatar: None,
            model: model(&Value::Null),
            workspace: text(&defaults["workspace"]),
        });
    }
    agents
}

fn read_auth(auth: &Value, env: &AuthEnvironment) -> AuthRules {
    let pick = |over: &Option<String>, written: &Value, outside: &Option<String>| {
        let written = written.as_str().map(str::to_owned);
        over.clone()
            .or(written)
            .as_deref()
            .and_then(Secret::new)
            .or_else(|| outside.as_deref().and_then(Secret::new))
    };
    let token = pick(&env.token_override, &auth["token"], &env.token);
    let password = pick(&env.password_override, &auth["password"], &env.password);
    let mode = match env.mode.as_deref().or_else(|| auth["mode"].as_str()) {
        Some("none") => AuthMode::None,
        Some("token") => AuthMode::Token,
        Some("password") => AuthMode::Password,
        Some("trusted-proxy") => AuthMode::TrustedProxy,
        _ if password.is_some() => AuthMode::Password,
        _ => AuthMode::Token,
    };
    let lower = |v: &Value| texts(v).into_iter().map(|t| t.to_ascii_lowercase()).collect();
    let proxy = auth["trustedProxy"].as_object().map(|_| ProxyRules {
        user_header: text(&auth["trustedProxy"]["userHeader"]).unwrap_or_default().to_ascii_lowercase(),
        required_headers: lower(&auth["trustedProxy"]["requiredHeaders"]),
        allow_users: texts(&auth["trustedProxy"]["allowUsers"]),
    });
    let limits = &auth["rateLimit"];
    let usual = RateRules::default();
    let number = |v: &Value, or: u64| v.as_u64().unwrap_or(or);
    let rate = RateRules {
        attempts_max: u32::try_from(number(&limits["maxAttempts"], usual.attempts_max.into()))
            .unwrap_or(usual.attempts_max),
        window_ms: number(&limits["windowMs"], usual.window_ms),
        lockout_ms: number(&limits["lockoutMs"], usual.lockout_ms),
        exempt_loopback: flag(&limits["exemptLoopback"], usual.exempt_loopback),
    };
    AuthRules { mode, token, password, proxy, rate }
}

fn read_control_ui(ui: &Value) -> ControlUi {
    let base = text(&ui["basePath"]).unwrap_or_default();
    let base = base.trim().trim_matches('/');
    let allowed = texts(&ui["allowedOrigins"]);
    ControlUi {
        enabled: flag(&ui["enabled"], true),
        base_path: if base.is_empty() { String::new() } else { format!("/{base}") },
        root: text(&ui["root"]).map(PathBuf::from),
        origins: OriginRules {
            allowed: allowed.iter().map(|o| o.trim().trim_end_matches('/').to_ascii_lowercase()).collect(),
            host_header_fallback: flag(&ui["dangerouslyAllowHostHeaderOriginFallback"], false),
        },
        allow_insecure: flag(&ui["allowInsecureAuth"], false),
        no_device_auth: flag(&ui["dangerouslyDisableDeviceAuth"], false),
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

fn flag(value: &Value, or: bool) -> bool {
    value.as_bool().unwrap_or(or)
}

#[cfg(test)]
mod tests;
