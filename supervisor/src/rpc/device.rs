//! `device.pair.*`, `device.token.*`, `node.list`, `node.pair.list`.

use super::health::internal;
use super::params::Params;
use super::{Answer, RpcError, missing_scope};
use crate::events::GatewayEvent;
use crate::front::caller::Caller;
use crate::front::fanout::now_ms;
use crate::front::outq::CloseWith;
use crate::front::pairing::{Approver, Book, Paired, PairingRefusal};
use crate::front::scope;
use crate::gateway::Handles;
use serde_json::{Value, json};

fn now() -> i64 {
    i64::try_from(now_ms()).unwrap_or(i64::MAX)
}

async fn change<T: Send>(
    gw: &Handles,
    caller: &Caller,
    act: impl FnOnce(&mut Book, Approver<'_>) -> Result<T, PairingRefusal> + Send,
) -> Result<T, RpcError> {
    let by = Approver { scopes: &caller.scopes, device_id: caller.device_id.as_deref() };
    let done = gw.front.devices.change(|book| act(book, by)).await;
    done.map_err(|e| internal("device was not changed", &e))?.map_err(|refusal| match refusal {
        PairingRefusal::MissingScope(needed) => missing_scope(caller.protocol, &needed),
        other => RpcError::invalid(other.to_string()),
    })
}

fn resolved(gw: &Handles, request_id: &str, device_id: &str, decision: &str) {
    gw.front.fanout.emit(GatewayEvent::Other {
        event: "device.pair.resolved",
        payload: json!({ "requestId": request_id, "deviceId": device_id, "decision": decision, "ts": now() }),
        scope: Some(scope::PAIRING),
    });
}

/// `device.pair.list {}`.
///
/// # Errors
/// None.
pub async fn list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let connected = |id: &str| gw.front.fanout.device_connected(id);
    let listed = gw.front.devices.read(|book| {
        let mut book = book.clone();
        book.expire(now());
        book.list(connected)
    });
    Ok(listed.into())
}

/// `device.pair.approve {requestId}`.
///
/// # Errors
/// Unknown request; a scope that the caller lacks.
pub async fn approve(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let id = Params::of("device.pair.approve", &params).required("requestId")?;
    let paired = change(gw, caller, |book, by| book.approve(id, by, now())).await?;
    resolved(gw, id, &paired.device_id, "approved");
    tracing::info!(device = %paired.device_id, by = %caller.client.id, "device pairing approved");
    Ok(json!({ "requestId": id, "device": paired.summary(false) }).into())
}

/// `device.pair.reject {requestId}`.
///
/// # Errors
/// Unknown request.
pub async fn reject(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let id = Params::of("device.pair.reject", &params).required("requestId")?;
    let pending = change(gw, caller, |book, _| book.reject(id, now())).await?;
    resolved(gw, id, &pending.device_id, "rejected");
    Ok(json!({ "requestId": id, "deviceId": pending.device_id }).into())
}

/// `device.pair.remove {deviceId}`: its sockets are closed too.
///
/// # Errors
/// Unknown device.
pub async fn remove(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let id = Params::of("device.pair.remove", &params).required("deviceId")?;
    let own = caller.device_id.as_deref() == Some(id);
    if !own && !caller.may(scope::ADMIN) {
        let admin_device = gw.front.devices.read(|b| b.paired.get(id).is_some_and(holds_admin));
        if admin_device {
            return Err(missing_scope(caller.protocol, scope::ADMIN));
        }
    }
    let paired = change(gw, caller, |book, _| book.remove(id)).await?;
    close_device(gw, id);
    Ok(json!({ "deviceId": paired.device_id }).into())
}

fn holds_admin(paired: &Paired) -> bool {
    paired.approved_scopes.iter().chain(&paired.scopes).any(|s| s == scope::ADMIN)
}

fn close_device(gw: &Handles, device_id: &str) {
    let gone = CloseWith::new(4001, "gateway auth changed");
    gw.front.fanout.close_where(&gone, |c| c.device_id.as_deref() == Some(device_id));
}

/// `device.pair.rename {deviceId, displayName}`.
///
/// # Errors
/// Unknown device.
pub async fn rename(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("device.pair.rename", &params);
    let (id, name) = (read.required("deviceId")?, read.text("displayName")?.or(read.text("label")?));
    change(gw, caller, |book, _| {
        let paired = book.paired.get_mut(id).ok_or(PairingRefusal::UnknownDevice)?;
        paired.facts.display_name = name.map(|n| n.trim().chars().take(64).collect());
        Ok(())
    })
    .await?;
    Ok(json!({ "deviceId": id, "displayName": name }).into())
}

/// `device.token.rotate {deviceId, role, scopes?}`.
///
/// # Errors
/// Unknown device or role; a scope that the device or the caller lacks.
pub async fn rotate(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("device.token.rotate", &params);
    let (id, role) = (read.required("deviceId")?, read.required("role")?);
    let scopes = read.texts("scopes")?;
    let token = change(gw, caller, |book, by| book.rotate(id, role, scopes, by, now())).await?;
    Ok(json!({
        "deviceId": id, "role": role, "token": token.token, "scopes": token.scopes,
        "rotatedAtMs": token.rotated_at_ms,
    })
    .into())
}

/// `device.token.revoke {deviceId, role}`: its sockets are closed too.
///
/// # Errors
/// Unknown device or role.
pub async fn revoke(gw: &Handles, caller: &Caller, params: Value) -> Answer {
    let read = Params::of("device.token.revoke", &params);
    let (id, role) = (read.required("deviceId")?, read.required("role")?);
    let at = now();
    change(gw, caller, |book, by| book.revoke(id, role, by, at)).await?;
    close_device(gw, id);
    Ok(json!({ "deviceId": id, "role": role, "revokedAtMs": at }).into())
}

/// `node.list {}`: devices with role node.
///
/// # Errors
/// None.
pub async fn node_list(gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    let mut nodes = gw.front.devices.read(|book| {
        let nodes = book.paired.values().filter(|p| p.roles.iter().any(|r| r == "node"));
        nodes.map(|p| node_row(p, gw.front.fanout.device_connected(&p.device_id))).collect::<Vec<_>>()
    });
    nodes.sort_by_key(|n| n["connected"] != Value::Bool(true));
    Ok(json!({ "ts": now(), "nodes": nodes }).into())
}

fn node_row(paired: &Paired, connected: bool) -> Value {
    let mut row = json!({ "nodeId": paired.device_id, "caps": [], "commands": [], "paired": true, "connected": connected });
    if let (Some(map), Ok(Value::Object(facts))) = (row.as_object_mut(), serde_json::to_value(&paired.facts))
    {
        map.extend(facts);
    }
    row
}

/// `node.pair.list {}`: the older list of nodes, which stays empty, since nodes are devices here.
///
/// # Errors
/// None.
pub async fn node_pair_list(_gw: &Handles, _caller: &Caller, _params: Value) -> Answer {
    Ok(json!({ "pending": [], "paired": [] }).into())
}
