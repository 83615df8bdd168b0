//! Who is here: the rows of `system-presence` and of event `presence` (wire protocols 3 and 4).
//!
//! Command-line clients are not listed. A row outlives its socket for a while with reason `disconnect`.

use super::carry::{CarriedPresence, CarriedRow};
use super::connect::Client;
use super::limits::{PRESENCE_MAX, PRESENCE_TTL_MS};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Handle of the list. Cheap to clone.
#[derive(Clone)]
pub struct Presence(Arc<Mutex<Rows>>);

struct Rows {
    version: u64,
    own: Map<String, Value>,
    /// In order of first appearance.
    rows: Vec<Row>,
}

struct Row {
    key: String,
    ts: i64,
    /// A live socket keeps its row from expiring.
    sockets: u32,
    fields: Map<String, Value>,
}

/// What a connect tells about a client.
pub struct Arrival<'a> {
    /// As sent.
    pub client: &'a Client,
    /// Proven device.
    pub device_id: Option<&'a str>,
    /// `operator` or `node`.
    pub role: &'a str,
    /// Live scopes.
    pub scopes: &'a [String],
    /// Absent for this machine.
    pub remote_ip: Option<String>,
    /// Last resort for the key.
    pub conn_id: &'a str,
}

impl Arrival<'_> {
    fn key(&self) -> String {
        self.device_id.or(self.client.instance_id.as_deref()).unwrap_or(self.conn_id).to_owned()
    }

    fn listed(&self) -> bool {
        self.client.mode != "cli" && self.client.id != "cli" && self.client.mode != "backend"
    }
}

impl Presence {
    /// A list that holds only the gateway itself.
    pub fn new(host: &str, version: &str, platform: &str, instance_id: &str) -> Self {
        let own = json!({
            "host": host, "version": version, "platform": platform, "deviceFamily": "Linux",
            "mode": "gateway", "reason": "self", "instanceId": instance_id,
            "text": format!("Gateway: {host} · app {version} · mode gateway · reason self"),
        });
        let own = own.as_object().cloned().unwrap_or_default();
        Self(Arc::new(Mutex::new(Rows { version: 1, own, rows: Vec::new() })))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Rows) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Version of the list, for `stateVersion.presence`.
    pub fn version(&self) -> u64 {
        self.with(|rows| rows.version)
    }

    /// The list as clients see it, the gateway first.
    pub fn list(&self, now_ms: i64) -> Value {
        self.with(|rows| {
            rows.expire(now_ms);
            let mut own = rows.own.clone();
            own.insert("ts".into(), now_ms.into());
            let others = rows.rows.iter().rev().map(|row| {
                let mut fields = row.fields.clone();
                fields.insert("ts".into(), row.ts.into());
                Value::Object(fields)
            });
            Value::Array(std::iter::once(Value::Object(own)).chain(others).collect())
        })
    }

    /// A client said hello. Returns whether the list changed.
    pub fn arrive(&self, arrival: &Arrival<'_>, now_ms: i64) -> bool {
        if !arrival.listed() {
            return false;
        }
        let client = arrival.client;
        let mode = &client.mode;
        let host = client.display_name.as_deref().unwrap_or(&client.id);
        let mut fields = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                fields.insert(key.to_owned(), value);
            }
        };
        put("host", Some(host.into()));
        put("ip", arrival.remote_ip.clone().map(Value::from));
        put("version", Some(client.version.clone().into()));
        put("platform", Some(client.platform.clone().into()));
        put("deviceFamily", client.device_family.clone().map(Value::from));
        put("modelIdentifier", client.model_identifier.clone().map(Value::from));
        put("timeZone", client.time_zone.clone().map(Value::from));
        put("mode", Some(mode.clone().into()));
        put("deviceId", arrival.device_id.map(Value::from));
        put("roles", Some(json!([arrival.role])));
        put("scopes", Some(json!(arrival.scopes)));
        put("instanceId", client.instance_id.as_deref().or(arrival.device_id).map(Value::from));
        put("reason", Some("connect".into()));
        put("text", Some(format!("Node: {host} · mode {mode}").into()));
        self.with(|rows| rows.put(&arrival.key(), fields, now_ms, 1));
        true
    }

    /// A client's socket is gone. Returns whether the list changed.
    pub fn leave(&self, arrival: &Arrival<'_>, now_ms: i64) -> bool {
        let key = arrival.key();
        self.with(|rows| {
            let Some(row) = rows.rows.iter_mut().find(|r| r.key == key) else { return false };
            row.sockets = row.sockets.saturating_sub(1);
            row.ts = now_ms;
            if row.sockets == 0 {
                row.fields.insert("reason".into(), "disconnect".into());
            }
            rows.version += 1;
            true
        })
    }

    /// What is carried over an in-place restart.
    pub fn carry(&self) -> CarriedPresence {
        self.with(|rows| CarriedPresence {
            version: rows.version,
            own: Value::from(rows.own.clone()).to_string(),
            rows: rows.rows.iter().map(Row::carry).collect(),
        })
    }

    /// Go on where an earlier image of this process stopped. Returns whether the gateway's own row differs.
    pub fn resume(&self, carried: CarriedPresence) -> bool {
        self.with(|rows| {
            let own = serde_json::from_str(&carried.own).ok();
            let differs = own.as_ref() != Some(&rows.own);
            rows.version = rows.version.max(carried.version.saturating_add(u64::from(differs)));
            rows.rows = carried.rows.into_iter().take(PRESENCE_MAX).map(Row::resumed).collect();
            differs
        })
    }

    /// A line from method `system-event`.
    pub fn note(&self, key: &str, fields: Map<String, Value>, now_ms: i64) {
        self.with(|rows| rows.put(key, fields, now_ms, 0));
    }
}

impl Row {
    fn carry(&self) -> CarriedRow {
        let fields = Value::from(self.fields.clone()).to_string();
        CarriedRow { key: self.key.clone(), ts: self.ts, sockets: self.sockets, fields }
    }

    fn resumed(carried: CarriedRow) -> Self {
        let fields = serde_json::from_str(&carried.fields).unwrap_or_default();
        Self { key: carried.key, ts: carried.ts, sockets: carried.sockets, fields }
    }
}

impl Rows {
    fn put(&mut self, key: &str, fields: Map<String, Value>, now_ms: i64, sockets: u32) {
        self.version += 1;
        self.expire(now_ms);
        if let Some(row) = self.rows.iter_mut().find(|r| r.key == key) {
            row.fields = fields;
            row.ts = now_ms;
            row.sockets += sockets;
            return;
        }
        if self.rows.len() >= PRESENCE_MAX {
            let oldest = self.rows.iter().enumerate().min_by_key(|(_, r)| (r.sockets.min(1), r.ts));
            if let Some(index) = oldest.map(|(i, _)| i) {
                self.rows.remove(index);
            }
        }
        self.rows.push(Row { key: key.to_owned(), ts: now_ms, sockets, fields });
    }

    fn expire(&mut self, now_ms: i64) {
        let before = self.rows.len();
        self.rows.retain(|r| r.sockets > 0 || now_ms.saturating_sub(r.ts) <= PRESENCE_TTL_MS);
        if self.rows.len() != before {
            self.version += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, mode: &str) -> Client {
        Client {
            id: id.into(),
            mode: mode.into(),
            version: "1".into(),
            platform: "web".into(),
            ..Client::default()
        }
    }

    fn arrival<'a>(client: &'a Client, device: &'a str) -> Arrival<'a> {
        let device_id = (!device.is_empty()).then_some(device);
        Arrival { client, device_id, role: "operator", scopes: &[], remote_ip: None, conn_id: "c" }
    }

    fn hosts(presence: &Presence, now: i64) -> Vec<String> {
        let list = presence.list(now);
        list.as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap_or("-").to_owned()).collect()
    }

    #[test]
    fn rows_follow_sockets_and_expire_after_the_last_one() {
        let presence = Presence::new("box", "1", "linux", "boot");
        let (page, cli) = (client("openclaw-control-ui", "webchat"), client("cli", "cli"));
        assert!(!presence.arrive(&arrival(&cli, "x"), 0));
        assert!(presence.arrive(&arrival(&page, "d"), 0));
        assert!(presence.arrive(&arrival(&page, "d"), 5));
        assert!(presence.leave(&arrival(&page, "d"), 10));
        assert_eq!(hosts(&presence, PRESENCE_TTL_MS * 3), ["self", "connect"]);
        let version = presence.version();
        assert!(presence.leave(&arrival(&page, "d"), 20));
        assert!(presence.version() > version);
        assert_eq!(hosts(&presence, 20), ["self", "disconnect"]);
        assert_eq!(hosts(&presence, 21 + PRESENCE_TTL_MS), ["self"]);
        assert!(!presence.leave(&arrival(&page, "d"), 30));
    }

    #[test]
    fn the_list_is_bounded_and_keeps_live_rows() {
        let presence = Presence::new("box", "1", "linux", "boot");
        let page = client("openclaw-control-ui", "webchat");
        presence.arrive(&arrival(&page, "live"), 0);
        for n in 0..PRESENCE_MAX as i64 + 20 {
            presence.note(&format!("n{n}"), Map::new(), n);
        }
        let list = presence.list(100);
        let rows = list.as_array().unwrap();
        assert_eq!(rows.len(), PRESENCE_MAX + 1);
        assert!(rows.iter().any(|r| r["deviceId"] == "live"));
    }
}
