//! Pure: the `hello-ok` payload in wire protocols 3 and 4.

use super::handshake::{Admission, HelloFacts};
use super::limits::{FRAME_BYTES_MAX, OUT_QUEUE_BYTES_MAX, TICK_INTERVAL};
use super::pairing::DeviceToken;
use super::scope;
use super::settings::Settings;
use serde_json::{Map, Value, json};

/// Largest attachment of a message: what is left of a frame after base64 and some room for the rest.
const ATTACHMENT_BYTES_MAX: usize = FRAME_BYTES_MAX / 4 * 3 - 192 * 1024;
/// Largest image that models take.
const IMAGE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Render the payload.
pub fn render(
    admission: &Admission,
    conn_id: &str,
    token: Option<&DeviceToken>,
    settings: &Settings,
    facts: &HelloFacts,
) -> Value {
    let v4 = admission.protocol >= 4;
    let mut server = json!({ "version": facts.version, "connId": conn_id });
    let mut features = json!({ "methods": facts.methods, "events": facts.events });
    let mut policy = json!({
        "maxPayload": FRAME_BYTES_MAX,
        "maxBufferedBytes": OUT_QUEUE_BYTES_MAX,
        "tickIntervalMs": u64::try_from(TICK_INTERVAL.as_millis()).unwrap_or(30_000),
    });
    if v4 {
        server["buildId"] = facts.version.as_str().into();
        server["bootId"] = facts.boot_id.as_str().into();
        server["controlUiBuildSource"] =
            if settings.control_ui.root.is_some() { "configured" } else { "bundled" }.into();
        features["capabilities"] = json!([]);
        policy["attachments"] = json!({ "maxBytes": ATTACHMENT_BYTES_MAX, "maxImageBytes": IMAGE_BYTES_MAX });
        policy["allowedSessionVisibilities"] = json!(["shared"]);
        policy["hasMultipleSessionSharingIdentities"] = false.into();
    }
    let mut hello = Map::new();
    hello.insert("type".into(), "hello-ok".into());
    hello.insert("protocol".into(), admission.protocol.into());
    hello.insert("server".into(), server);
    hello.insert("features".into(), features);
    hello.insert("snapshot".into(), snapshot(admission, settings, facts));
    if let Some(auth) = auth(admission, token) {
        hello.insert("auth".into(), auth);
    }
    hello.insert("policy".into(), policy);
    Value::Object(hello)
}

fn snapshot(admission: &Admission, settings: &Settings, facts: &HelloFacts) -> Value {
    let v4 = admission.protocol >= 4;
    let mut defaults = json!({
        "defaultAgentId": settings.default_agent,
        "mainKey": settings.main_key,
        "mainSessionKey": settings.main_session_key(),
        "scope": settings.session_scope,
    });
    let mut out = json!({
        "presence": facts.presence,
        "health": facts.health,
        "stateVersion": facts.state_version,
        "uptimeMs": facts.uptime_ms,
    });
    // Where things lie on this machine is for administrators only.
    if scope::covers(&admission.scopes, scope::ADMIN) {
        out["configPath"] = facts.config_path.as_str().into();
        out["stateDir"] = facts.state_dir.as_str().into();
        out["authMode"] = settings.auth.mode.as_str().into();
    }
    if v4 {
        out["suspension"] = json!({ "phase": "accepting" });
        out["appliedConfigHash"] = json!(facts.config_hash);
        defaults["modelConfigured"] = settings.agents.iter().any(|a| a.model.is_some()).into();
        defaults["ownership"] = "sole".into();
        defaults["selectionRequired"] = false.into();
    }
    out["sessionDefaults"] = defaults;
    out
}

fn auth(admission: &Admission, token: Option<&DeviceToken>) -> Option<Value> {
    if admission.protocol < 4 {
        let token = token?;
        let mut scopes = token.scopes.clone();
        scopes.sort();
        return Some(json!({
            "deviceToken": token.token, "role": token.role, "scopes": scopes,
            "issuedAtMs": token.rotated_at_ms.unwrap_or(token.created_at_ms),
        }));
    }
    let mut auth = json!({ "role": admission.role.as_str(), "scopes": admission.scopes });
    if let Some(token) = token {
        auth["deviceToken"] = token.token.as_str().into();
        auth["issuedAtMs"] = token.rotated_at_ms.unwrap_or(token.created_at_ms).into();
    }
    Some(auth)
}
