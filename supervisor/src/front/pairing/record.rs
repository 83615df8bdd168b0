//! Entries of `paired.json` and `pending.json`, in the original's format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A token that a paired device got for one role.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceToken {
    /// base64url of 32 random bytes.
    pub token: String,
    /// `operator` or `node`.
    pub role: String,
    /// What the token allows.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// ms since the epoch.
    pub created_at_ms: i64,
    /// Last time the value changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at_ms: Option<i64>,
    /// Set = the token is void, and connecting with the shared secret does not make a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at_ms: Option<i64>,
    /// Last successful connect with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at_ms: Option<i64>,
}

/// What we know of a device apart from its rights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceFacts {
    /// Name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Operating system, as the client says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Kind of device, as the client says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_family: Option<String>,
    /// `client.id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// `client.mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_mode: Option<String>,
    /// Address of the connect, absent for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
}

/// An entry of `paired.json`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paired {
    /// Fingerprint of the key.
    pub device_id: String,
    /// base64url of the raw key.
    pub public_key: String,
    /// Name, platform, client.
    #[serde(flatten)]
    pub facts: DeviceFacts,
    /// First role.
    #[serde(default)]
    pub role: String,
    /// All roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Scopes asked for so far.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Scopes that an operator agreed to.
    #[serde(default)]
    pub approved_scopes: Vec<String>,
    /// By role.
    #[serde(default)]
    pub tokens: BTreeMap<String, DeviceToken>,
    /// First pairing.
    pub created_at_ms: i64,
    /// Last approval.
    pub approved_at_ms: i64,
    /// Fields of the original that we do not use.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// An entry of `pending.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pending {
    /// Names the request.
    pub request_id: String,
    /// Fingerprint of the key.
    pub device_id: String,
    /// base64url of the raw key.
    pub public_key: String,
    /// Name, platform, client.
    #[serde(flatten)]
    pub facts: DeviceFacts,
    /// Role asked for first.
    pub role: String,
    /// All roles asked for.
    #[serde(default)]
    pub roles: Vec<String>,
    /// All scopes asked for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Every request that was merged into this one was eligible for silent approval.
    #[serde(default)]
    pub silent: bool,
    /// The device is paired already and asks for more.
    #[serde(default)]
    pub is_repair: bool,
    /// When it was made, ms since the epoch.
    pub ts: i64,
}

impl Paired {
    /// Scopes that an operator agreed to.
    pub fn approved(&self) -> Vec<String> {
        // Entries of early releases have only `scopes`.
        if self.approved_scopes.is_empty() { self.scopes.clone() } else { self.approved_scopes.clone() }
    }

    /// The entry without token values.
    pub fn summary(&self, connected: bool) -> Value {
        let tokens: Vec<Value> = self
            .tokens
            .values()
            .map(|t| {
                let mut row = serde_json::to_value(t).unwrap_or_default();
                if let Some(map) = row.as_object_mut() {
                    map.shift_remove("token");
                }
                row
            })
            .collect();
        let mut row = serde_json::to_value(self).unwrap_or_default();
        if let Some(map) = row.as_object_mut() {
            map.shift_remove("approvedScopes");
            map.insert("connected".into(), connected.into());
            map.insert("tokens".into(), Value::Array(tokens));
        }
        row
    }
}
