//! Pure rule: is this the gateway's shared secret, or a proxy that vouches for its user?
//!
//! Device tokens are checked by [`super::pairing`]; guessing is slowed down by [`rate`].

pub mod rate;

use super::net::Peer;
use super::secret::Secret;

/// `gateway.auth.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthMode {
    /// Everybody is let in.
    None,
    /// `gateway.auth.token`.
    #[default]
    Token,
    /// `gateway.auth.password`.
    Password,
    /// A reverse proxy authenticates and names the user in a header.
    TrustedProxy,
}

impl AuthMode {
    /// Text on the wire and in the config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Password => "password",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

/// `gateway.auth.trustedProxy`.
#[derive(Debug, Clone, Default)]
pub struct ProxyRules {
    /// Header that names the user, lower case.
    pub user_header: String,
    /// Headers that must be present and non-empty, lower case.
    pub required_headers: Vec<String>,
    /// Users that are let in; empty = all.
    pub allow_users: Vec<String>,
}

/// What the gateway accepts, from the current config.
#[derive(Debug, Clone, Default)]
pub struct AuthRules {
    /// The mode.
    pub mode: AuthMode,
    /// The token, when there is one.
    pub token: Option<Secret>,
    /// The password, when there is one.
    pub password: Option<Secret>,
    /// Rules of mode trusted-proxy.
    pub proxy: Option<ProxyRules>,
    /// Limits on guessing.
    pub rate: rate::RateRules,
}

/// What a client offers.
#[derive(Clone, Copy, Default)]
pub struct Offered<'a> {
    /// `auth.token`, or the bearer of an HTTP request.
    pub token: Option<&'a str>,
    /// `auth.password`, or the bearer of an HTTP request.
    pub password: Option<&'a str>,
}

/// How a client was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Nothing was needed.
    None,
    /// Shared token.
    Token,
    /// Shared password.
    Password,
    /// A trusted proxy vouched.
    TrustedProxy,
    /// A token that this gateway gave to a paired device.
    DeviceToken,
}

impl AuthMethod {
    /// `hello-ok.auth.method`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Token => "token",
            Self::Password => "password",
            Self::TrustedProxy => "trusted-proxy",
            Self::DeviceToken => "device-token",
        }
    }
}

/// Why a client was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFailure {
    /// No token was sent.
    TokenMissing,
    /// The wrong token was sent.
    TokenMismatch,
    /// The gateway has no token.
    TokenNotConfigured,
    /// No password was sent.
    PasswordMissing,
    /// The wrong password was sent.
    PasswordMismatch,
    /// The gateway has no password.
    PasswordNotConfigured,
    /// The device token is not one of ours, revoked, or does not cover what is asked.
    DeviceTokenMismatch,
    /// Too many wrong tries; again after so many milliseconds.
    RateLimited {
        /// Until the lock ends.
        retry_after_ms: u64,
    },
    /// The proxy rule failed, with its reason.
    Proxy(String),
}

impl AuthFailure {
    /// `error.details.authReason`.
    pub fn reason(&self) -> &str {
        match self {
            Self::TokenMissing => "token_missing",
            Self::TokenMismatch => "token_mismatch",
            Self::TokenNotConfigured => "token_missing_config",
            Self::PasswordMissing => "password_missing",
            Self::PasswordMismatch => "password_mismatch",
            Self::PasswordNotConfigured => "password_missing_config",
            Self::DeviceTokenMismatch => "device_token_mismatch",
            Self::RateLimited { .. } => "rate_limited",
            Self::Proxy(reason) => reason,
        }
    }

    /// `error.details.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TokenMissing => "AUTH_TOKEN_MISSING",
            Self::TokenMismatch => "AUTH_TOKEN_MISMATCH",
            Self::TokenNotConfigured => "AUTH_TOKEN_NOT_CONFIGURED",
            Self::PasswordMissing => "AUTH_PASSWORD_MISSING",
            Self::PasswordMismatch => "AUTH_PASSWORD_MISMATCH",
            Self::PasswordNotConfigured => "AUTH_PASSWORD_NOT_CONFIGURED",
            Self::DeviceTokenMismatch => "AUTH_DEVICE_TOKEN_MISMATCH",
            Self::RateLimited { .. } => "AUTH_RATE_LIMITED",
            Self::Proxy(_) => "AUTH_UNAUTHORIZED",
        }
    }

    /// `error.message` of a refused `connect`; the hint in parentheses depends on who asks.
    pub fn message(&self, client: ClientKind) -> String {
        match self {
            Self::TokenMissing => format!("unauthorized: gateway token missing ({})", client.token_hint()),
            Self::TokenMismatch => format!("unauthorized: gateway token mismatch ({})", client.token_hint()),
            Self::TokenNotConfigured => {
                "unauthorized: gateway token not configured on gateway (set gateway.auth.token)".into()
            }
            Self::PasswordMissing => {
                format!("unauthorized: gateway password missing ({})", client.password_hint())
            }
            Self::PasswordMismatch => {
                format!("unauthorized: gateway password mismatch ({})", client.password_hint())
            }
            Self::PasswordNotConfigured => {
                "unauthorized: gateway password not configured on gateway (set gateway.auth.password)".into()
            }
            Self::DeviceTokenMismatch => {
                "unauthorized: device token mismatch (rotate/reissue device token)".into()
            }
            Self::RateLimited { .. } => {
                "unauthorized: too many failed authentication attempts (retry later)".into()
            }
            Self::Proxy(_) => "unauthorized".into(),
        }
    }

    /// Whether the try counts against the client: only a wrong secret does, a forgotten one does not.
    pub fn counts(&self) -> bool {
        matches!(self, Self::TokenMismatch | Self::PasswordMismatch | Self::DeviceTokenMismatch)
    }
}

/// Who the hints of a refusal speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// The command line.
    Cli,
    /// The web page.
    Browser,
    /// Anything else.
    Other,
}

impl ClientKind {
    /// By `client.id` and `client.mode`.
    pub fn of(id: &str, mode: &str) -> Self {
        match (id, mode) {
            ("openclaw-control-ui" | "webchat-ui" | "webchat", _) | (_, "webchat") => Self::Browser,
            ("cli", _) | (_, "cli") => Self::Cli,
            _ => Self::Other,
        }
    }

    fn token_hint(self) -> &'static str {
        match self {
            Self::Cli => "set gateway.remote.token to match gateway.auth.token",
            Self::Browser => "open the dashboard URL and paste the token in Control UI settings",
            Self::Other => "provide gateway auth token",
        }
    }

    fn password_hint(self) -> &'static str {
        match self {
            Self::Cli => "set gateway.remote.password to match gateway.auth.password",
            Self::Browser => "enter the password in Control UI settings",
            Self::Other => "provide gateway auth password",
        }
    }
}

/// Headers of the request, by lower-case name; the first value counts.
pub type HeaderLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Check the shared secret, or the proxy's word.
///
/// # Errors
/// The reason of the refusal. Guess limiting is the caller's.
pub fn check(
    rules: &AuthRules,
    offered: Offered<'_>,
    peer: &Peer,
    header: HeaderLookup<'_>,
) -> Result<AuthMethod, AuthFailure> {
    let token = offered.token.filter(|t| !t.trim().is_empty());
    let password = offered.password.filter(|t| !t.trim().is_empty());
    match rules.mode {
        AuthMode::None => Ok(AuthMethod::None),
        AuthMode::Token => {
            let secret = rules.token.as_ref().ok_or(AuthFailure::TokenNotConfigured)?;
            // The newer page sends the token as password too.
            let tried: Vec<&str> = token.into_iter().chain(password).collect();
            if tried.iter().any(|t| secret.matches(t)) {
                return Ok(AuthMethod::Token);
            }
            Err(if tried.is_empty() { AuthFailure::TokenMissing } else { AuthFailure::TokenMismatch })
        }
        AuthMode::Password => {
            let secret = rules.password.as_ref().ok_or(AuthFailure::PasswordNotConfigured)?;
            match password {
                Some(given) if secret.matches(given) => Ok(AuthMethod::Password),
                Some(_) => Err(AuthFailure::PasswordMismatch),
                None => Err(AuthFailure::PasswordMissing),
            }
        }
        AuthMode::TrustedProxy => check_proxy(rules.proxy.as_ref(), peer, header),
    }
}

fn check_proxy(
    rules: Option<&ProxyRules>,
    peer: &Peer,
    header: HeaderLookup<'_>,
) -> Result<AuthMethod, AuthFailure> {
    let fail = |reason: &str| Err(AuthFailure::Proxy(reason.to_owned()));
    let Some(rules) = rules.filter(|r| !r.user_header.is_empty()) else {
        return fail("trusted_proxy_config_missing");
    };
    if !peer.trusted_proxy {
        return fail("trusted_proxy_untrusted_source");
    }
    let value = |name: &str| header(name).filter(|v| !v.trim().is_empty());
    for name in &rules.required_headers {
        if value(name).is_none() {
            return Err(AuthFailure::Proxy(format!("trusted_proxy_missing_header_{name}")));
        }
    }
    let Some(user) = value(&rules.user_header) else {
        return fail("trusted_proxy_user_missing");
    };
    if !rules.allow_users.is_empty() && !rules.allow_users.iter().any(|u| u == user.trim()) {
        return fail("trusted_proxy_user_not_allowed");
    }
    Ok(AuthMethod::TrustedProxy)
}

#[cfg(test)]
mod tests;
