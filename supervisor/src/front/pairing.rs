//! Which devices may connect, in which role, with which scopes, and the tokens they were given.
//!
//! [`Book`] is the pure part: maps and rules, the clock and randomness passed in. [`store`] keeps it on
//! disk. The two files have the original's format and stay readable by it, which is why a device token
//! stands in `paired.json` as it is (mode 0600) and not as a digest.

mod record;
pub mod store;

pub use record::{DeviceFacts, DeviceToken, Paired, Pending};

use super::device::ProvenDevice;
use super::limits::{PAIRED_MAX, PAIRING_PENDING_MAX, PAIRING_TTL_MS};
use super::scope::{self, Role};
use super::secret;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a device asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The proven device.
    pub device: ProvenDevice,
    /// Role of this connect.
    pub role: Role,
    /// Scopes of this connect.
    pub scopes: Vec<String>,
    /// Name, platform, client.
    pub facts: DeviceFacts,
}

/// Why a device needs an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Unknown, or known with another key.
    NotPaired,
    /// Another platform or device family than at pairing.
    MetadataUpgrade,
    /// A role that it does not have.
    RoleUpgrade,
    /// Scopes that it does not have.
    ScopeUpgrade,
}

impl Need {
    /// `error.details.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::MetadataUpgrade => "metadata-upgrade",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
        }
    }

    /// The end of the protocol 4 message.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotPaired => "device is not approved yet",
            Self::MetadataUpgrade => "device identity changed and must be re-approved",
            Self::RoleUpgrade => "device is asking for a higher role than currently approved",
            Self::ScopeUpgrade => "device is asking for more scopes than currently approved",
        }
    }

    /// A machine-local client may be let through without a person.
    pub fn may_be_silent(self) -> bool {
        matches!(self, Self::NotPaired | Self::ScopeUpgrade)
    }
}

/// Why an administrative act was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PairingRefusal {
    /// No such request, or it expired.
    #[error("unknown requestId")]
    UnknownRequest,
    /// No such device or role.
    #[error("unknown deviceId/role")]
    UnknownDevice,
    /// The caller would give away what it does not have.
    #[error("missing scope: {0}")]
    MissingScope(String),
    /// Someone else's device, and the caller is no admin.
    #[error("device token operation denied: only the device itself or an admin may do this")]
    NotYours,
    /// The lists are full.
    #[error("too many paired devices; remove one first (openclaw devices remove)")]
    Full,
    /// No randomness.
    #[error("the system's random source failed: {0}")]
    Random(String),
}

/// Who performs an administrative act.
#[derive(Debug, Clone, Copy)]
pub struct Approver<'a> {
    /// Its live scopes.
    pub scopes: &'a [String],
    /// Its own device, when it has one.
    pub device_id: Option<&'a str>,
}

/// All devices.
#[derive(Clone, Default)]
pub struct Book {
    /// By request id.
    pub pending: BTreeMap<String, Pending>,
    /// By device id.
    pub paired: BTreeMap<String, Paired>,
}

impl Book {
    /// What the device still needs, `None` when it may pass.
    pub fn need(&self, ask: &Ask) -> Option<Need> {
        let Some(paired) = self.paired.get(&ask.device.id).filter(|p| p.public_key == ask.device.public_key)
        else {
            return Some(Need::NotPaired);
        };
        let differs = |pinned: &Option<String>, claimed: &Option<String>| matches!((clean(pinned), clean(claimed)), (Some(a), Some(b)) if a != b);
        if differs(&paired.facts.platform, &ask.facts.platform)
            || differs(&paired.facts.device_family, &ask.facts.device_family)
        {
            return Some(Need::MetadataUpgrade);
        }
        if !paired.roles.iter().any(|r| r == ask.role.as_str()) {
            return Some(Need::RoleUpgrade);
        }
        (!scope::covers_all(&paired.approved(), &ask.scopes)).then_some(Need::ScopeUpgrade)
    }

    /// Record a request, or merge it into the device's earlier one. Returns its id.
    pub fn request(&mut self, ask: &Ask, silent: bool, new_id: &str, now_ms: i64) -> Pending {
        self.expire(now_ms);
        let role = ask.role.as_str().to_owned();
        let old = self.pending.values().find(|p| p.device_id == ask.device.id).map(|p| p.request_id.clone());
        let merged = match old.and_then(|id| self.pending.remove(&id)) {
            Some(old) if old.public_key == ask.device.public_key => Pending {
                roles: merge(&old.roles, std::slice::from_ref(&role)),
                scopes: merge(&old.scopes, &ask.scopes),
                silent: old.silent && silent,
                facts: ask.facts.clone(),
                ts: now_ms,
                ..old
            },
            _ => {
                self.make_room();
                Pending {
                    request_id: new_id.to_owned(),
                    device_id: ask.device.id.clone(),
                    public_key: ask.device.public_key.clone(),
                    facts: ask.facts.clone(),
                    roles: vec![role.clone()],
                    role,
                    scopes: ask.scopes.clone(),
                    silent,
                    is_repair: self.paired.contains_key(&ask.device.id),
                    ts: now_ms,
                }
            }
        };
        self.pending.insert(merged.request_id.clone(), merged.clone());
        merged
    }

    /// Approve a request. The one way in, so that nobody can give what they do not hold.
    ///
    /// # Errors
    /// Unknown request, missing authority, full list.
    pub fn approve(
        &mut self,
        request_id: &str,
        by: Approver<'_>,
        now_ms: i64,
    ) -> Result<Paired, PairingRefusal> {
        self.expire(now_ms);
        let pending = self.pending.get(request_id).ok_or(PairingRefusal::UnknownRequest)?;
        if let Some(missing) = pending.scopes.iter().find(|s| !scope::covers(by.scopes, s)) {
            return Err(PairingRefusal::MissingScope(missing.clone()));
        }
        if !self.paired.contains_key(&pending.device_id) && self.paired.len() >= PAIRED_MAX {
            return Err(PairingRefusal::Full);
        }
        let pending = self.pending.remove(request_id).ok_or(PairingRefusal::UnknownRequest)?;
        let old = self.paired.remove(&pending.device_id).filter(|p| p.public_key == pending.public_key);
        let paired = match old {
            Some(old) => Paired {
                roles: merge(&old.roles, &pending.roles),
                scopes: merge(&old.scopes, &pending.scopes),
                approved_scopes: merge(&old.approved(), &pending.scopes),
                facts: DeviceFacts {
                    display_name: old.facts.display_name.clone().or(pending.facts.display_name),
                    ..pending.facts
                },
                approved_at_ms: now_ms,
                ..old
            },
            None => Paired {
                device_id: pending.device_id,
                public_key: pending.public_key,
                facts: pending.facts,
                role: pending.role,
                roles: pending.roles,
                scopes: pending.scopes.clone(),
                approved_scopes: pending.scopes,
                tokens: BTreeMap::new(),
                created_at_ms: now_ms,
                approved_at_ms: now_ms,
                rest: Map::new(),
            },
        };
        self.paired.insert(paired.device_id.clone(), paired.clone());
        Ok(paired)
    }

    /// Drop a request.
    ///
    /// # Errors
    /// Unknown request.
    pub fn reject(&mut self, request_id: &str, now_ms: i64) -> Result<Pending, PairingRefusal> {
        self.expire(now_ms);
        self.pending.remove(request_id).ok_or(PairingRefusal::UnknownRequest)
    }

    /// Forget a device.
    ///
    /// # Errors
    /// Unknown device.
    pub fn remove(&mut self, device_id: &str) -> Result<Paired, PairingRefusal> {
        self.pending.retain(|_, p| p.device_id != device_id);
        self.paired.remove(device_id).ok_or(PairingRefusal::UnknownDevice)
    }

    /// The token that a device gets with hello: the one it has while that covers `scopes`, else a new
    /// one with both scope sets. `None` when the token was revoked: then only `rotate` makes a new one.
    ///
    /// # Errors
    /// No randomness.
    pub fn token_for(
        &mut self,
        device_id: &str,
        role: Role,
        scopes: &[String],
        now_ms: i64,
    ) -> Result<Option<DeviceToken>, PairingRefusal> {
        let Some(paired) = self.paired.get_mut(device_id) else { return Ok(None) };
        let approved = paired.approved();
        match paired.tokens.get(role.as_str()) {
            Some(token) if token.revoked_at_ms.is_some() => return Ok(None),
            Some(token) if scope::covers_all(&token.scopes, scopes) => return Ok(Some(token.clone())),
            _ => {}
        }
        let held = paired.tokens.get(role.as_str()).map(|t| t.scopes.clone()).unwrap_or_default();
        let mut all = scope::union(&held, scopes);
        all.retain(|s| scope::covers(&approved, s));
        let value = secret::random_token().map_err(|e| PairingRefusal::Random(e.to_string()))?;
        let token = DeviceToken {
            token: value,
            role: role.as_str().to_owned(),
            scopes: all,
            created_at_ms: now_ms,
            rotated_at_ms: None,
            revoked_at_ms: None,
            last_used_at_ms: None,
        };
        paired.tokens.insert(role.as_str().to_owned(), token.clone());
        Ok(Some(token))
    }

    /// The token that the device has for this role, if it is good and covers `scopes`.
    pub fn clone_token(&self, device_id: &str, role: Role, scopes: &[String]) -> Option<DeviceToken> {
        let token = self.paired.get(device_id)?.tokens.get(role.as_str())?;
        (token.revoked_at_ms.is_none() && scope::covers_all(&token.scopes, scopes)).then(|| token.clone())
    }

    /// Whether `token` lets this device in with this role and these scopes.
    pub fn token_is_good(&self, device: &ProvenDevice, role: Role, scopes: &[String], token: &str) -> bool {
        let Some(paired) = self.paired.get(&device.id).filter(|p| p.public_key == device.public_key) else {
            return false;
        };
        let Some(held) = paired.tokens.get(role.as_str()) else { return false };
        let same = secret::same(&held.token, token);
        same && held.revoked_at_ms.is_none() && scope::covers_all(&held.scopes, scopes)
    }

    /// A new token with given scopes, which must lie within what the device may have and what the caller holds.
    ///
    /// # Errors
    /// Unknown device or role, missing authority, no randomness.
    pub fn rotate(
        &mut self,
        device_id: &str,
        role: &str,
        scopes: Option<Vec<String>>,
        by: Approver<'_>,
        now_ms: i64,
    ) -> Result<DeviceToken, PairingRefusal> {
        may_touch(device_id, by)?;
        let paired = self.paired.get_mut(device_id).ok_or(PairingRefusal::UnknownDevice)?;
        if !paired.roles.iter().any(|r| r == role) {
            return Err(PairingRefusal::UnknownDevice);
        }
        let old = paired.tokens.get(role);
        let scopes = scopes.or_else(|| old.map(|t| t.scopes.clone())).unwrap_or_default();
        let approved = paired.approved();
        let missing = |held: &[String]| scopes.iter().find(|s| !scope::covers(held, s)).cloned();
        if let Some(scope) = missing(&approved).or_else(|| missing(by.scopes)) {
            return Err(PairingRefusal::MissingScope(scope));
        }
        let token = DeviceToken {
            token: secret::random_token().map_err(|e| PairingRefusal::Random(e.to_string()))?,
            role: role.to_owned(),
            scopes,
            created_at_ms: old.map_or(now_ms, |t| t.created_at_ms),
            rotated_at_ms: Some(now_ms),
            revoked_at_ms: None,
            last_used_at_ms: None,
        };
        paired.tokens.insert(role.to_owned(), token.clone());
        Ok(token)
    }

    /// Make a device's token void.
    ///
    /// # Errors
    /// Unknown device or role, missing authority.
    pub fn revoke(
        &mut self,
        device_id: &str,
        role: &str,
        by: Approver<'_>,
        now_ms: i64,
    ) -> Result<(), PairingRefusal> {
        may_touch(device_id, by)?;
        let token = self.paired.get_mut(device_id).and_then(|p| p.tokens.get_mut(role));
        token.ok_or(PairingRefusal::UnknownDevice)?.revoked_at_ms = Some(now_ms);
        Ok(())
    }

    /// Drop pending requests that are too old.
    pub fn expire(&mut self, now_ms: i64) {
        self.pending.retain(|_, p| now_ms.saturating_sub(p.ts) <= PAIRING_TTL_MS);
    }

    fn make_room(&mut self) {
        while self.pending.len() >= PAIRING_PENDING_MAX {
            let oldest = self.pending.values().min_by_key(|p| p.ts).map(|p| p.request_id.clone());
            match oldest {
                Some(id) => self.pending.remove(&id),
                None => return,
            };
        }
    }

    /// Result of `device.pair.list`: token values are left out.
    pub fn list(&self, connected: impl Fn(&str) -> bool) -> Value {
        let mut pending: Vec<&Pending> = self.pending.values().collect();
        pending.sort_by_key(|p| std::cmp::Reverse(p.ts));
        let mut paired: Vec<&Paired> = self.paired.values().collect();
        paired.sort_by_key(|p| std::cmp::Reverse(p.approved_at_ms));
        let paired: Vec<Value> = paired.into_iter().map(|p| p.summary(connected(&p.device_id))).collect();
        json!({ "pending": pending, "paired": paired })
    }
}

fn may_touch(device_id: &str, by: Approver<'_>) -> Result<(), PairingRefusal> {
    let own = by.device_id == Some(device_id);
    if own || scope::covers(by.scopes, scope::ADMIN) { Ok(()) } else { Err(PairingRefusal::NotYours) }
}

fn clean(text: &Option<String>) -> Option<String> {
    text.as_deref().map(|t| t.trim().to_ascii_lowercase()).filter(|t| !t.is_empty())
}

/// Union that keeps the order of first mention.
fn merge(a: &[String], b: &[String]) -> Vec<String> {
    let mut all = a.to_vec();
    for item in b {
        if !all.contains(item) {
            all.push(item.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests;
