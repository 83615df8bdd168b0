//! `connect`: reading the client's first request (wire protocols 3 and 4). Only shape is checked here;
//! whether the client is let in is decided in [`super::handshake`].

use super::device::{DeviceClaim, SignedFields};
use super::frame::ErrorShape;
use super::pairing::DeviceFacts;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Lowest protocol that we speak.
pub const PROTOCOL_MIN: u64 = 3;
/// Highest protocol that we speak.
pub const PROTOCOL_MAX: u64 = 4;

/// `client.id` that exist in either release.
const CLIENT_IDS: [&str; 17] = [
    "webchat-ui",
    "openclaw-control-ui",
    "webchat",
    "cli",
    "gateway-client",
    "openclaw-macos",
    "openclaw-ios",
    "openclaw-android",
    "node-host",
    "test",
    "fingerprint",
    "openclaw-probe",
    "openclaw-tui",
    "openclaw-browser-copilot",
    "openclaw-linux",
    "openclaw-watchos",
    "openclaw-worker",
];

/// `client.mode` that exist in either release.
const CLIENT_MODES: [&str; 8] = ["webchat", "cli", "ui", "backend", "node", "probe", "test", "worker"];

/// `client.id` of the web page.
pub const CONTROL_UI: &str = "openclaw-control-ui";

/// `connect.params.client`. Carried over an in-place restart: fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Client {
    /// One of a closed list.
    pub id: String,
    /// One of a closed list.
    pub mode: String,
    /// Name that people see.
    pub display_name: Option<String>,
    /// Version of the client.
    pub version: String,
    /// Operating system.
    pub platform: String,
    /// Kind of device.
    pub device_family: Option<String>,
    /// Model of the device.
    pub model_identifier: Option<String>,
    /// One per tab or process.
    pub instance_id: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
}

impl Client {
    /// The web page, whatever build.
    pub fn is_control_ui(&self) -> bool {
        self.id == CONTROL_UI
    }

    /// Something that runs in a browser.
    pub fn is_webchat(&self) -> bool {
        matches!(self.id.as_str(), "webchat" | "webchat-ui") || self.mode == "webchat"
    }
}

/// `connect.params`, read.
#[derive(Clone, Default)]
pub struct ConnectParams {
    /// Lowest protocol the client speaks.
    pub min_protocol: u64,
    /// Highest protocol the client speaks.
    pub max_protocol: u64,
    /// Who it is.
    pub client: Client,
    /// As sent.
    pub role: Option<String>,
    /// As sent, in order.
    pub scopes: Vec<String>,
    /// Abilities of the client (`tool-events`, …).
    pub caps: Vec<String>,
    /// `auth.token`.
    pub token: Option<String>,
    /// `auth.password`.
    pub password: Option<String>,
    /// `auth.deviceToken`.
    pub device_token: Option<String>,
    /// `auth.bootstrapToken`: part of the signed line only.
    pub bootstrap_token: Option<String>,
    /// The device's proof.
    pub device: Option<DeviceClaim>,
}

impl ConnectParams {
    /// The highest protocol that both sides speak.
    pub fn negotiate(&self) -> Option<u8> {
        let high = self.max_protocol.min(PROTOCOL_MAX);
        if high < self.min_protocol.max(PROTOCOL_MIN) {
            return None;
        }
        u8::try_from(high).ok()
    }

    /// What the device signed.
    pub fn signed_fields(&self) -> SignedFields {
        let token = [&self.token, &self.device_token, &self.bootstrap_token];
        SignedFields {
            client_id: self.client.id.clone(),
            client_mode: self.client.mode.clone(),
            role: self.role.clone().unwrap_or_else(|| "operator".to_owned()),
            scopes: self.scopes.clone(),
            token: token.into_iter().flatten().next().cloned().unwrap_or_default(),
            platform: self.client.platform.clone(),
            device_family: self.client.device_family.clone().unwrap_or_default(),
        }
    }

    /// What the device book keeps of this client.
    pub fn device_facts(&self) -> DeviceFacts {
        DeviceFacts {
            display_name: self.client.display_name.clone(),
            platform: Some(self.client.platform.clone()),
            device_family: self.client.device_family.clone(),
            client_id: Some(self.client.id.clone()),
            client_mode: Some(self.client.mode.clone()),
            remote_ip: None,
        }
    }
}

/// Read `params` of `connect`. All that is wrong is listed at once.
///
/// # Errors
/// `invalid connect params: …`
pub fn read(params: &Value) -> Result<ConnectParams, ErrorShape> {
    let mut wrong = Wrong::default();
    let empty = Map::new();
    let root = params.as_object().unwrap_or(&empty);
    if !params.is_object() {
        wrong.add("at root: must be object");
    }
    let connect = ConnectParams {
        min_protocol: wrong.protocol(root, "minProtocol"),
        max_protocol: wrong.protocol(root, "maxProtocol"),
        client: read_client(root, &mut wrong),
        role: wrong.optional(root, "", "role"),
        scopes: wrong.list(root, "scopes"),
        caps: wrong.list(root, "caps"),
        ..read_auth(root, &mut wrong)
    };
    if wrong.0.is_empty() {
        return Ok(connect);
    }
    Err(ErrorShape::invalid(format!("invalid connect params: {}", wrong.0.join("; "))))
}

fn read_client(root: &Map<String, Value>, wrong: &mut Wrong) -> Client {
    let Some(map) = wrong.object(root, "client", true) else { return Client::default() };
    let client = Client {
        id: wrong.required(map, "/client", "id"),
        mode: wrong.required(map, "/client", "mode"),
        display_name: wrong.optional(map, "/client", "displayName"),
        version: wrong.required(map, "/client", "version"),
        platform: wrong.required(map, "/client", "platform"),
        device_family: wrong.optional(map, "/client", "deviceFamily"),
        model_identifier: wrong.optional(map, "/client", "modelIdentifier"),
        instance_id: wrong.optional(map, "/client", "instanceId"),
        time_zone: wrong.optional(map, "/client", "timeZone"),
    };
    for (path, value, known) in
        [("/client/id", &client.id, CLIENT_IDS.as_slice()), ("/client/mode", &client.mode, &CLIENT_MODES)]
    {
        if !value.is_empty() && !known.contains(&value.as_str()) {
            wrong.add(&format!(
                "at {path}: must be equal to constant; at {path}: must match a schema in anyOf"
            ));
        }
    }
    client
}

fn read_auth(root: &Map<String, Value>, wrong: &mut Wrong) -> ConnectParams {
    let mut out = ConnectParams::default();
    if let Some(auth) = wrong.object(root, "auth", false) {
        out.token = wrong.optional(auth, "/auth", "token");
        out.password = wrong.optional(auth, "/auth", "password");
        out.device_token = wrong.optional(auth, "/auth", "deviceToken");
        out.bootstrap_token = wrong.optional(auth, "/auth", "bootstrapToken");
    }
    if let Some(device) = wrong.object(root, "device", false) {
        out.device = Some(DeviceClaim {
            id: wrong.required(device, "/device", "id"),
            public_key: wrong.required(device, "/device", "publicKey"),
            signature: wrong.required(device, "/device", "signature"),
            signed_at_ms: wrong.integer(device, "/device", "signedAt"),
            // A blank nonce gets an answer of its own, after the signature's time.
            nonce: wrong.optional(device, "/device", "nonce").unwrap_or_default(),
        });
        if !device.contains_key("nonce") {
            wrong.add("at /device: must have required property 'nonce'");
        }
    }
    out
}

/// Collects what is wrong, in the wording of the published schema's checker.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn add(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn missing(&mut self, at: &str, key: &str) {
        let prefix = if at.is_empty() { String::new() } else { format!("at {at}: ") };
        self.add(&format!("{prefix}must have required property '{key}'"));
    }

    fn protocol(&mut self, map: &Map<String, Value>, key: &str) -> u64 {
        match map.get(key) {
            None => self.missing("", key),
            Some(value) => match value.as_u64() {
                Some(n) if n >= 1 => return n,
                Some(_) => self.add(&format!("at /{key}: must be >= 1")),
                None => self.add(&format!("at /{key}: must be integer")),
            },
        }
        0
    }

    fn integer(&mut self, map: &Map<String, Value>, at: &str, key: &str) -> i64 {
        match map.get(key) {
            None => self.missing(at, key),
            Some(value) => match value.as_i64() {
                Some(n) => return n,
                None => self.add(&format!("at {at}/{key}: must be integer")),
            },
        }
        0
    }

    fn required(&mut self, map: &Map<String, Value>, at: &str, key: &str) -> String {
        match map.get(key) {
            None => self.missing(at, key),
            Some(Value::String(text)) if !text.is_empty() => return text.clone(),
            Some(Value::String(_)) => {
                self.add(&format!("at {at}/{key}: must NOT have fewer than 1 characters"))
            }
            Some(_) => self.add(&format!("at {at}/{key}: must be string")),
        }
        String::new()
    }

    fn optional(&mut self, map: &Map<String, Value>, at: &str, key: &str) -> Option<String> {
        match map.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            _ => {
                self.add(&format!("at {at}/{key}: must be string"));
                None
            }
        }
    }

    fn list(&mut self, map: &Map<String, Value>, key: &str) -> Vec<String> {
        match map.get(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) if items.iter().all(|i| i.as_str().is_some_and(|s| !s.is_empty())) => {
                items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Some(Value::Array(_)) => {
                self.add(&format!("at /{key}/0: must be string"));
                Vec::new()
            }
            Some(_) => {
                self.add(&format!("at /{key}: must be array"));
                Vec::new()
            }
        }
    }

    fn object<'a>(
        &mut self,
        map: &'a Map<String, Value>,
        key: &str,
        needed: bool,
    ) -> Option<&'a Map<String, Value>> {
        match map.get(key) {
            None if needed => self.missing("", key),
            None => {}
            Some(Value::Object(inner)) => return Some(inner),
            Some(_) => self.add(&format!("at /{key}: must be object")),
        }
        None
    }
}

#[cfg(test)]
mod tests;
