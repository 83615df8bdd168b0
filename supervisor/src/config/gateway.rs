//! The `gateway` section: as written (every key optional, unknown ones refused) and as meant (every default filled).

use super::secret::{Secret, SecretInput};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// The one public port of the gateway (WebSocket, HTTP, page).
pub const PORT_DEFAULT: u16 = 18_789;
/// Failed sign-ins of one address before it must wait.
const AUTH_ATTEMPTS_MAX_DEFAULT: u32 = 10;
const AUTH_WINDOW_MS_DEFAULT: u64 = 60_000;
const AUTH_LOCKOUT_MS_DEFAULT: u64 = 300_000;
/// Sockets at once; each may hold a send buffer, so the number bounds memory.
const CONNECTIONS_MAX_DEFAULT: u32 = 1_024;
const RELOAD_DEBOUNCE_MS_DEFAULT: u64 = 300;
/// A worker that cannot live with its configuration dies within seconds; its restarts are tried within half a minute.
const RELOAD_SETTLE_SECONDS_DEFAULT: u64 = 30;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayFile {
    /// `local` lets `openclaw gateway` start; `remote` makes the command line use another machine's gateway.
    pub mode: Option<Mode>,
    /// TCP port of the one listener.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Addresses to listen on.
    pub bind: Option<Bind>,
    /// IPv4 address for `bind: "custom"`.
    pub custom_bind_host: Option<String>,
    pub auth: Option<AuthFile>,
    /// Addresses or networks of reverse proxies whose forwarding headers count.
    pub trusted_proxies: Option<Vec<String>>,
    /// Also believe `X-Real-IP` of a trusted proxy.
    pub allow_real_ip_fallback: Option<bool>,
    pub control_ui: Option<ControlUiFile>,
    pub tailscale: Option<TailscaleFile>,
    pub remote: Option<RemoteFile>,
    pub reload: Option<ReloadFile>,
    pub restart: Option<RestartFile>,
    pub tls: Option<TlsFile>,
    pub http: Option<HttpFile>,
    pub limits: Option<LimitsFile>,
    pub nodes: Option<NodesFile>,
    /// What a service does at start when the file is invalid: run with the last good one, or stop.
    pub on_invalid_config: Option<OnInvalid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Local,
    Remote,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bind {
    #[default]
    Loopback,
    Lan,
    Tailnet,
    Auto,
    Custom,
}

impl Bind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Lan => "lan",
            Self::Tailnet => "tailnet",
            Self::Auto => "auto",
            Self::Custom => "custom",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Loopback, Self::Lan, Self::Tailnet, Self::Auto, Self::Custom]
            .into_iter()
            .find(|bind| bind.name() == text.trim())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    None,
    Token,
    Password,
    TrustedProxy,
}

impl AuthMode {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Password => "password",
            Self::TrustedProxy => "trusted-proxy",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Token, Self::Password, Self::TrustedProxy]
            .into_iter()
            .find(|mode| mode.name() == text.trim())
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthFile {
    pub mode: Option<AuthMode>,
    /// The shared token of clients.
    pub token: Option<SecretInput>,
    /// The shared password of clients.
    pub password: Option<SecretInput>,
    pub rate_limit: Option<RateLimitFile>,
    pub trusted_proxy: Option<TrustedProxyFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimitFile {
    pub max_attempts: Option<f64>,
    pub window_ms: Option<f64>,
    pub lockout_ms: Option<f64>,
    pub exempt_loopback: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrustedProxyFile {
    /// Header that names the signed-in user.
    pub user_header: String,
    /// Headers that must not be empty.
    pub required_headers: Vec<String>,
    /// Users let in; empty means all.
    pub allow_users: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControlUiFile {
    pub enabled: Option<bool>,
    /// Path below which the page is served.
    pub base_path: Option<String>,
    /// Directory with another build of the page.
    pub root: Option<String>,
    pub allowed_origins: Option<Vec<String>>,
    pub dangerously_allow_host_header_origin_fallback: Option<bool>,
    pub allow_insecure_auth: Option<bool>,
    pub dangerously_disable_device_auth: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tailscale {
    #[default]
    Off,
    Serve,
    Funnel,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TailscaleFile {
    pub mode: Option<Tailscale>,
    pub reset_on_exit: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RemoteFile {
    pub url: Option<String>,
    pub token: Option<SecretInput>,
    pub password: Option<SecretInput>,
}

/// When an edit of the file takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReloadMode {
    Off,
    Hot,
    Restart,
    #[default]
    Hybrid,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ReloadFile {
    /// `hybrid` applies what it can and restarts for the rest, `hot` leaves the rest pending, `restart` restarts for
    /// whatever is not hot, `off` applies nothing.
    pub mode: Option<ReloadMode>,
    /// Milliseconds of quiet after a change of the file before it is read.
    pub debounce_ms: Option<u64>,
    /// How long a new configuration is watched before it counts as good; until then a failure takes it back.
    #[schemars(range(min = 0, max = 3600))]
    pub settle_seconds: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RestartFile {
    /// Carry the clients' connections over a restart in place, so that they see neither a close nor a gap (`true`).
    /// `false` closes them with 1012, and they connect again.
    pub keep_sockets: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TlsFile {
    pub enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpFile {
    pub endpoints: Option<EndpointsFile>,
    pub security_headers: Option<SecurityHeadersFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EndpointsFile {
    pub chat_completions: Option<SwitchFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SwitchFile {
    pub enabled: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecurityHeadersFile {
    /// Value of `Strict-Transport-Security`, or false.
    pub strict_transport_security: Option<HeaderOrFalse>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum HeaderOrFalse {
    Header(String),
    Off(#[expect(dead_code, reason = "says which type the value may have")] bool),
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Sockets at once.
    pub max_connections: Option<u32>,
    /// Runs at once over all agents of this host; absent means no cap beyond `agents.defaults.maxConcurrent`.
    pub max_runs: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodesFile {
    pub pairing: Option<NodePairingFile>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodePairingFile {
    /// Devices on this machine are paired without asking.
    pub auto_approve_local: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnInvalid {
    #[default]
    LastGood,
    Fail,
}

/// The section as meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    pub mode: Option<Mode>,
    pub port: u16,
    /// Whether the file says the port, or it is the default.
    pub port_in_file: bool,
    pub bind: Bind,
    pub custom_bind_host: Option<String>,
    pub auth: GatewayAuth,
    pub proxies: Proxies,
    pub control_ui: ControlUi,
    pub tailscale: Tailscale,
    pub remote: Remote,
    pub reload: Reload,
    pub http: Http,
    pub limits: Limits,
    pub auto_approve_local: bool,
    pub on_invalid_config: OnInvalid,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GatewayAuth {
    /// `None`: decided by which secrets exist.
    pub mode: Option<AuthMode>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
    pub rate_limit: RateLimit,
    pub trusted_proxy: Option<TrustedProxyFile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub max_attempts: u32,
    pub window_ms: u64,
    pub lockout_ms: u64,
    pub exempt_loopback: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    pub trusted: Vec<String>,
    pub allow_real_ip: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ControlUi {
    pub enabled: bool,
    /// Empty, or starts with `/` and does not end with one.
    pub base_path: String,
    pub root: Option<String>,
    pub allowed_origins: Vec<String>,
    pub host_header_origin_fallback: bool,
    pub allow_insecure_auth: bool,
    pub disable_device_auth: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remote {
    pub url: Option<String>,
    pub token: Option<Secret>,
    pub password: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    pub mode: ReloadMode,
    pub debounce_ms: u64,
    pub settle_seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Http {
    pub chat_completions: bool,
    pub strict_transport_security: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_connections: u32,
    pub max_runs: Option<u32>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self::from_file(GatewayFile::default(), &super::environment::Environment::default())
    }
}

impl Gateway {
    /// Fills defaults and resolves secrets that name an environment variable.
    #[must_use]
    pub fn from_file(file: GatewayFile, env: &super::environment::Environment) -> Self {
        let auth = file.auth.unwrap_or_default();
        let secret = |input: Option<SecretInput>| input.and_then(|input| input.resolve(env));
        let remote = file.remote.unwrap_or_default();
        let reload = file.reload.unwrap_or_default();
        let limits = file.limits.unwrap_or_default();
        Self {
            mode: file.mode,
            port: file.port.unwrap_or(PORT_DEFAULT),
            port_in_file: file.port.is_some(),
            bind: file.bind.unwrap_or_default(),
            custom_bind_host: file.custom_bind_host.map(|host| host.trim().to_owned()),
            auth: GatewayAuth {
                mode: auth.mode,
                token: secret(auth.token),
                password: secret(auth.password),
                rate_limit: RateLimit::from_file(&auth.rate_limit.unwrap_or_default()),
                trusted_proxy: auth.trusted_proxy,
            },
            proxies: Proxies {
                trusted: file.trusted_proxies.unwrap_or_default(),
                allow_real_ip: file.allow_real_ip_fallback.unwrap_or(false),
            },
            control_ui: ControlUi::from_file(file.control_ui.unwrap_or_default()),
            tailscale: file.tailscale.and_then(|tailscale| tailscale.mode).unwrap_or_default(),
            remote: Remote {
                url: remote.url,
                token: secret(remote.token),
                password: secret(remote.password),
            },
            reload: Reload {
                mode: reload.mode.unwrap_or_default(),
                debounce_ms: reload.debounce_ms.unwrap_or(RELOAD_DEBOUNCE_MS_DEFAULT),
                settle_seconds: reload.settle_seconds.unwrap_or(RELOAD_SETTLE_SECONDS_DEFAULT),
            },
            http: Http::from_file(file.http.unwrap_or_default()),
            limits: Limits {
                max_connections: limits.max_connections.unwrap_or(CONNECTIONS_MAX_DEFAULT),
                max_runs: limits.max_runs,
            },
            auto_approve_local: file
                .nodes
                .and_then(|nodes| nodes.pairing)
                .and_then(|pairing| pairing.auto_approve_local)
                .unwrap_or(true),
            on_invalid_config: file.on_invalid_config.unwrap_or_default(),
        }
    }

    /// The address of `bind: "custom"`, if it is one.
    #[must_use]
    pub fn custom_address(&self) -> Option<Ipv4Addr> {
        self.custom_bind_host.as_deref().and_then(|host| host.parse().ok())
    }
}

impl RateLimit {
    fn from_file(file: &RateLimitFile) -> Self {
        let whole = |value: Option<f64>| value.filter(|value| *value >= 1.0 && *value < 1e15);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "range checked just above"
        )]
        let number = |value: Option<f64>, default: u64| whole(value).map_or(default, |value| value as u64);
        let attempts = number(file.max_attempts, u64::from(AUTH_ATTEMPTS_MAX_DEFAULT));
        Self {
            max_attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            window_ms: number(file.window_ms, AUTH_WINDOW_MS_DEFAULT),
            lockout_ms: number(file.lockout_ms, AUTH_LOCKOUT_MS_DEFAULT),
            exempt_loopback: file.exempt_loopback.unwrap_or(true),
        }
    }
}

impl ControlUi {
    fn from_file(file: ControlUiFile) -> Self {
        let path = file.base_path.unwrap_or_default();
        let path = path.trim().trim_matches('/');
        let origins = file.allowed_origins.unwrap_or_default();
        Self {
            enabled: file.enabled.unwrap_or(true),
            base_path: if path.is_empty() { String::new() } else { format!("/{path}") },
            root: file.root,
            allowed_origins: origins.into_iter().map(|origin| origin.trim().to_owned()).collect(),
            host_header_origin_fallback: file.dangerously_allow_host_header_origin_fallback.unwrap_or(false),
            allow_insecure_auth: file.allow_insecure_auth.unwrap_or(false),
            disable_device_auth: file.dangerously_disable_device_auth.unwrap_or(false),
        }
    }
}

impl Http {
    fn from_file(file: HttpFile) -> Self {
        let endpoints = file.endpoints.unwrap_or_default();
        let headers = file.security_headers.unwrap_or_default();
        Self {
            chat_completions: endpoints.chat_completions.and_then(|switch| switch.enabled).unwrap_or(false),
            strict_transport_security: match headers.strict_transport_security {
                Some(HeaderOrFalse::Header(value)) if !value.trim().is_empty() => {
                    Some(value.trim().to_owned())
                }
                _ => None,
            },
        }
    }
}
