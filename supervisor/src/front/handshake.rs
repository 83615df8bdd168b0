//! Pure: is this client let in, as whom, and does its device need an approval first?
//!
//! The order of the checks is part of the protocol, since clients read the first refusal: protocol, role,
//! origin, missing device, device proof, shared secret or device token, pairing. Authority follows the
//! later release in both protocols: a client without a device keeps its scopes only where the connection
//! itself shows that it is this machine's own command line.

use super::auth::rate::RateScope;
use super::auth::{self, AuthFailure, AuthMethod, ClientKind, HeaderLookup, Offered};
use super::connect::{Client, ConnectParams, PROTOCOL_MAX, PROTOCOL_MIN};
use super::device::{self, ProvenDevice};
use super::frame::ErrorShape;
use super::net::{Peer, host_is_loopback};
use super::origin;
use super::outq::CloseWith;
use super::pairing::{Ask, Book, Need, Pending};
use super::scope::Role;
use super::settings::Settings;
use serde_json::{Value, json};

/// All that the decision depends on.
pub struct Circumstances<'a> {
    /// Current config.
    pub settings: &'a Settings,
    /// Who is calling.
    pub peer: &'a Peer,
    /// Headers of the upgrade request.
    pub header: HeaderLookup<'a>,
    /// Nonce of this socket's challenge.
    pub nonce: &'a str,
    /// Clock.
    pub now_ms: i64,
    /// Devices.
    pub book: &'a Book,
    /// Milliseconds for which shared secrets from this address are not looked at.
    pub secret_locked_ms: Option<u64>,
    /// The same for device tokens.
    pub device_locked_ms: Option<u64>,
}

/// The client is let in, once its device is approved if need be.
#[derive(Debug)]
pub struct Admission {
    /// 3 or 4.
    pub protocol: u8,
    /// Operator or node.
    pub role: Role,
    /// Scopes of this connection.
    pub scopes: Vec<String>,
    /// The device, when it proved itself.
    pub device: Option<ProvenDevice>,
    /// What let the client in.
    pub method: AuthMethod,
    /// An approval is needed; `true` = it may be given without a person.
    pub pairing: Option<(Need, bool)>,
}

/// The client is not let in.
#[derive(Debug)]
pub struct Refusal {
    /// The response.
    pub error: ErrorShape,
    /// The close that follows it.
    pub close: CloseWith,
    /// A wrong secret was tried.
    pub counted: Option<RateScope>,
}

impl Refusal {
    /// Refuse with 1008 and the message as reason.
    pub fn new(error: ErrorShape) -> Self {
        let close = CloseWith::new(1008, error.message.clone());
        Self { error, close, counted: None }
    }

    fn with_code(error: ErrorShape, code: &str) -> Self {
        Self::new(error.with_details(json!({ "code": code })))
    }
}

/// Decide.
///
/// # Errors
/// The first check that failed.
pub fn admit(connect: &ConnectParams, at: &Circumstances<'_>) -> Result<Admission, Refusal> {
    let protocol = connect.negotiate().ok_or_else(|| protocol_mismatch(connect))?;
    let role = Role::parse(connect.role.as_deref())
        .ok_or_else(|| Refusal::new(ErrorShape::invalid("invalid role")))?;
    check_origin(connect, at)?;
    let shared = check_shared(connect, at);
    let device = match &connect.device {
        None => {
            check_missing_device(connect, role, &shared, at, protocol)?;
            None
        }
        Some(claim) => {
            let proven = device::verify(claim, &connect.signed_fields(), at.nonce, at.now_ms);
            Some(proven.map_err(|e| {
                let details = json!({ "code": e.code(protocol), "reason": e.reason() });
                Refusal::new(ErrorShape::invalid(e.message()).with_details(details))
            })?)
        }
    };
    let method = match (shared, &device) {
        (Ok(method), _) => method,
        (Err(failure), Some(device)) => check_device_token(connect, role, device, failure, at)
            .map_err(|f| unauthorized(&f, connect, at, protocol))?,
        (Err(failure), None) => return Err(unauthorized(&failure, connect, at, protocol)),
    };
    let scopes = live_scopes(connect, role, device.is_some(), method, at);
    let skip = connect.client.is_control_ui() && at.settings.control_ui.no_device_auth;
    let pairing = device.as_ref().filter(|_| !skip).and_then(|device| {
        let ask = ask(connect, role, &scopes, device, at.peer);
        at.book.need(&ask).map(|need| (need, silent(need, connect, method, at)))
    });
    Ok(Admission { protocol, role, scopes, device, method, pairing })
}

/// What the device asks of the book.
pub fn ask(
    connect: &ConnectParams,
    role: Role,
    scopes: &[String],
    device: &ProvenDevice,
    peer: &Peer,
) -> Ask {
    let mut facts = connect.device_facts();
    facts.remote_ip = (!peer.local_direct()).then(|| peer.ip.to_string());
    Ask { device: device.clone(), role, scopes: scopes.to_vec(), facts }
}

/// Refusal of a device that waits for a person.
pub fn pairing_required(need: Need, pending: &Pending, book: &Book, protocol: u8) -> Refusal {
    if protocol < 4 {
        let details =
            json!({ "code": "PAIRING_REQUIRED", "requestId": pending.request_id, "reason": need.as_str() });
        return Refusal::new(ErrorShape::new("NOT_PAIRED", "pairing required").with_details(details));
    }
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "requestId": pending.request_id,
        "reason": need.as_str(),
        "remediationHint": format!("Approve it on the gateway host: openclaw devices approve {}", pending.request_id),
        "deviceId": pending.device_id,
        "requestedRole": pending.role,
        "requestedScopes": pending.scopes,
    });
    if let (Some(paired), Some(map)) = (book.paired.get(&pending.device_id), details.as_object_mut()) {
        map.insert("approvedRoles".into(), json!(paired.roles));
        map.insert("approvedScopes".into(), json!(paired.approved_scopes));
    }
    let message = format!("pairing required: {}", need.text());
    let close = CloseWith::new(1008, format!("{message} (requestId: {})", pending.request_id));
    let error = ErrorShape::new("NOT_PAIRED", message).with_details(details);
    Refusal { error, close, counted: None }
}

fn protocol_mismatch(connect: &ConnectParams) -> Refusal {
    let details = json!({
        "code": "PROTOCOL_MISMATCH",
        "clientMinProtocol": connect.min_protocol,
        "clientMaxProtocol": connect.max_protocol,
        "expectedProtocol": PROTOCOL_MAX,
        "minimumProbeProtocol": PROTOCOL_MIN,
    });
    let error = ErrorShape::invalid("protocol mismatch").with_details(details);
    Refusal { close: CloseWith::new(1002, "protocol mismatch"), error, counted: None }
}

fn check_origin(connect: &ConnectParams, at: &Circumstances<'_>) -> Result<(), Refusal> {
    let page = connect.client.is_control_ui() || connect.client.is_webchat();
    if at.peer.origin.is_none() && !page {
        return Ok(());
    }
    let rules = &at.settings.control_ui.origins;
    origin::check(rules, at.peer.origin.as_deref(), at.peer.host.as_deref()).map_err(|reason| {
        let details = json!({ "code": "CONTROL_UI_ORIGIN_NOT_ALLOWED", "reason": reason.as_str() });
        Refusal::new(ErrorShape::invalid(origin::ORIGIN_REFUSED).with_details(details))
    })
}

fn check_shared(connect: &ConnectParams, at: &Circumstances<'_>) -> Result<AuthMethod, AuthFailure> {
    let offered = Offered { token: connect.token.as_deref(), password: connect.password.as_deref() };
    let offers = offered.token.is_some() || offered.password.is_some();
    if let (true, Some(retry_after_ms)) = (offers, at.secret_locked_ms) {
        return Err(AuthFailure::RateLimited { retry_after_ms });
    }
    auth::check(&at.settings.auth, offered, at.peer, at.header)
}

fn page_without_device(
    connect: &ConnectParams,
    at: &Circumstances<'_>,
    shared: &Result<AuthMethod, AuthFailure>,
) -> bool {
    let ui = &at.settings.control_ui;
    connect.client.is_control_ui()
        && (ui.no_device_auth
            || (ui.allow_insecure && at.peer.local_direct())
            || matches!(shared, Ok(AuthMethod::TrustedProxy)))
}

fn check_missing_device(
    connect: &ConnectParams,
    role: Role,
    shared: &Result<AuthMethod, AuthFailure>,
    at: &Circumstances<'_>,
    protocol: u8,
) -> Result<(), Refusal> {
    let required = || {
        Refusal::with_code(
            ErrorShape::new("NOT_PAIRED", "device identity required"),
            "DEVICE_IDENTITY_REQUIRED",
        )
    };
    if role == Role::Node {
        return Err(required());
    }
    if connect.client.is_control_ui() && !page_without_device(connect, at, shared) {
        return Err(Refusal::with_code(
            ErrorShape::invalid(
                "control ui requires device identity (use HTTPS or localhost secure context)",
            ),
            "CONTROL_UI_DEVICE_IDENTITY_REQUIRED",
        ));
    }
    match shared {
        Ok(_) => Ok(()),
        Err(AuthFailure::TokenMissing | AuthFailure::PasswordMissing) if !connect.client.is_control_ui() => {
            Err(required())
        }
        Err(failure) => Err(unauthorized(failure, connect, at, protocol)),
    }
}

fn check_device_token(
    connect: &ConnectParams,
    role: Role,
    device: &ProvenDevice,
    failure: AuthFailure,
    at: &Circumstances<'_>,
) -> Result<AuthMethod, AuthFailure> {
    let offered = [connect.device_token.as_deref(), connect.token.as_deref()];
    let mut offered = offered.into_iter().flatten().filter(|t| !t.trim().is_empty()).peekable();
    if offered.peek().is_none() {
        return Err(failure);
    }
    if let Some(retry_after_ms) = at.device_locked_ms {
        return Err(AuthFailure::RateLimited { retry_after_ms });
    }
    if offered.any(|t| at.book.token_is_good(device, role, &connect.scopes, t)) {
        return Ok(AuthMethod::DeviceToken);
    }
    let only_device_token = connect.token.is_none() && connect.password.is_none();
    Err(if only_device_token { AuthFailure::DeviceTokenMismatch } else { failure })
}

fn unauthorized(
    failure: &AuthFailure,
    connect: &ConnectParams,
    at: &Circumstances<'_>,
    protocol: u8,
) -> Refusal {
    let kind = ClientKind::of(&connect.client.id, &connect.client.mode);
    let mut details = json!({ "code": failure.code(), "authReason": failure.reason() });
    if let (true, Some(map)) = (protocol >= 4, details.as_object_mut()) {
        let has_token = connect.device.as_ref().and_then(|d| at.book.paired.get(&d.id));
        let can_retry =
            matches!(failure, AuthFailure::TokenMismatch) && has_token.is_some_and(|p| !p.tokens.is_empty());
        map.insert("canRetryWithDeviceToken".into(), can_retry.into());
        map.insert("recommendedNextStep".into(), next_step(failure, can_retry).into());
    }
    let mut error = ErrorShape::invalid(failure.message(kind)).with_details(details);
    if let AuthFailure::RateLimited { retry_after_ms } = failure {
        error.retryable = true;
        error.retry_after_ms = Some(*retry_after_ms);
    }
    let scope = match failure {
        AuthFailure::DeviceTokenMismatch => RateScope::DeviceToken,
        _ => RateScope::SharedSecret,
    };
    Refusal { counted: failure.counts().then_some(scope), ..Refusal::new(error) }
}

fn next_step(failure: &AuthFailure, can_retry_with_device_token: bool) -> &'static str {
    match failure {
        _ if can_retry_with_device_token => "retry_with_device_token",
        AuthFailure::RateLimited { .. } => "wait_then_retry",
        AuthFailure::TokenNotConfigured | AuthFailure::PasswordNotConfigured => "review_auth_configuration",
        AuthFailure::TokenMissing | AuthFailure::PasswordMissing => "update_auth_configuration",
        _ => "update_auth_credentials",
    }
}

fn live_scopes(
    connect: &ConnectParams,
    role: Role,
    has_device: bool,
    method: AuthMethod,
    at: &Circumstances<'_>,
) -> Vec<String> {
    if role == Role::Node {
        return Vec::new();
    }
    let own_tool = is_own_tool(&connect.client) && at.peer.local_direct() && at.peer.origin.is_none();
    let page = connect.client.is_control_ui()
        && (method == AuthMethod::TrustedProxy
            || at.settings.control_ui.no_device_auth
            || at.settings.control_ui.allow_insecure);
    if has_device || own_tool || page { connect.scopes.clone() } else { Vec::new() }
}

fn is_own_tool(client: &Client) -> bool {
    matches!((client.id.as_str(), client.mode.as_str()), ("gateway-client", "backend") | ("cli", "cli"))
}

fn silent(need: Need, connect: &ConnectParams, method: AuthMethod, at: &Circumstances<'_>) -> bool {
    if !need.may_be_silent() || !at.settings.auto_approve_local {
        return false;
    }
    let (client, peer) = (&connect.client, at.peer);
    let page = client.is_control_ui() || client.is_webchat();
    if peer.origin.is_some() && !page {
        return false;
    }
    let secret = matches!(method, AuthMethod::Token | AuthMethod::Password);
    // With the shared secret proven, the loopback address is enough (a tunnel may carry another Host),
    // and so is a page served under a loopback name (a published container port, a forwarded port).
    let tunnelled = secret
        && !peer.forwarded
        && (peer.socket.is_loopback() || (page && peer.host.as_deref().is_some_and(host_is_loopback)));
    let nearby = peer.local_direct() && (secret || method == AuthMethod::None);
    nearby || tunnelled
}

/// `hello-ok.snapshot` and the rest that does not depend on the decision.
#[derive(Debug, Clone)]
pub struct HelloFacts {
    /// Version of the gateway.
    pub version: String,
    /// One per start.
    pub boot_id: String,
    /// The presence list.
    pub presence: Value,
    /// The health snapshot.
    pub health: Value,
    /// `stateVersion`.
    pub state_version: Value,
    /// Since the start.
    pub uptime_ms: u64,
    /// Path of the config file.
    pub config_path: String,
    /// State directory.
    pub state_dir: String,
    /// Hash of the applied config.
    pub config_hash: Option<String>,
    /// Method names.
    pub methods: Vec<&'static str>,
    /// Event names.
    pub events: Vec<&'static str>,
}

#[cfg(test)]
mod tests;
