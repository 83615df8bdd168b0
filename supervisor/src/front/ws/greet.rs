//! The first words on a WebSocket: our challenge, the client's `connect`, our `hello-ok` or refusal.

use super::{Socket, is_oversize};
use crate::events::GatewayEvent;
use crate::front::auth::AuthMethod;
use crate::front::auth::rate::RateScope;
use crate::front::caller::Caller;
use crate::front::connect::{self, ConnectParams};
use crate::front::fanout::now_ms;
use crate::front::frame::{self, Body, ErrorShape, Unreadable};
use crate::front::handshake::{self, Admission, Circumstances, HelloFacts, Refusal};
use crate::front::hello;
use crate::front::limits::HANDSHAKE_TIMEOUT;
use crate::front::net::Peer;
use crate::front::outq::CloseWith;
use crate::front::pairing::{Approver, DeviceToken};
use crate::front::scope;
use crate::front::shared::Phase;
use crate::gateway::Handles;
use crate::rpc;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// A client that is let in.
pub struct Greeted {
    /// Its identity and rights.
    pub caller: Caller,
    /// Response to its `connect`.
    pub response: String,
    /// Digest of the rules by which it was let in.
    pub admission: String,
}

/// A client that is not let in.
pub struct NotGreeted {
    /// Response, when its message was a request.
    pub response: Option<String>,
    /// The close that follows.
    pub close: CloseWith,
}

impl NotGreeted {
    fn silent(code: u16, reason: &str) -> Self {
        Self { response: None, close: CloseWith::new(code, reason) }
    }

    fn told(id: &str, refusal: Refusal) -> Self {
        Self { response: Some(frame::write_response(id, Err(&refusal.error))), close: refusal.close }
    }
}

/// Go through the handshake.
///
/// # Errors
/// What to tell the client before its socket is closed.
pub async fn greet(
    gw: &Handles,
    socket: &mut Socket,
    peer: &Peer,
    headers: &hyper::HeaderMap,
) -> Result<Greeted, NotGreeted> {
    let nonce = uuid::Uuid::new_v4().to_string();
    let challenge = json!({
        "type": "event", "event": "connect.challenge", "payload": { "nonce": nonce, "ts": now_ms() },
    });
    let quiet = || NotGreeted::silent(1000, "");
    socket.send(Message::text(challenge.to_string())).await.map_err(|_| quiet())?;
    let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, first_message(socket)).await;
    let text = first.map_err(|_| quiet())??;
    let request = match frame::read_request(&text) {
        Ok(request) => request,
        Err(Unreadable::NotJson) => return Err(quiet()),
        Err(Unreadable::NotRequest { .. }) => return Err(NotGreeted::silent(1008, "invalid request frame")),
    };
    let refuse = |refusal: Refusal| {
        tracing::info!(ip = %peer.ip, code = %refusal.error.code, error = %refusal.error.message, "connect refused");
        NotGreeted::told(&request.id, refusal)
    };
    if request.method != "connect" {
        let error = ErrorShape::invalid("invalid handshake: first request must be connect");
        return Err(refuse(Refusal::new(error)));
    }
    let params = connect::read(&request.params).map_err(|error| refuse(Refusal::new(error)))?;
    check_phase(&gw.front.phase()).map_err(refuse)?;
    let rules = gw.front.settings().admission_digest();
    let (admission, token) = decide(gw, &params, peer, headers, &nonce).await.map_err(refuse)?;
    let conn_id = uuid::Uuid::new_v4().to_string();
    let facts = facts(gw);
    let hello = hello::render(&admission, &conn_id, token.as_ref(), &gw.front.settings(), &facts);
    let response = frame::write_response(&request.id, Ok(&Body::Json(hello)));
    tracing::debug!(conn = %conn_id, ip = %peer.ip, client = %params.client.id, mode = %params.client.mode,
        protocol = admission.protocol, auth = admission.method.as_str(), "client connected");
    let caller = Caller {
        conn_id,
        protocol: admission.protocol,
        role: admission.role,
        scopes: admission.scopes,
        client: params.client,
        device_id: admission.device.map(|d| d.id),
        ip: Some(peer.ip),
        caps: params.caps,
    };
    Ok(Greeted { caller, response, admission: rules })
}

async fn first_message(socket: &mut Socket) -> Result<Vec<u8>, NotGreeted> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_bytes().to_vec()),
            Some(Ok(Message::Binary(bytes))) => return Ok(bytes.to_vec()),
            Some(Ok(Message::Close(_))) | None => return Err(NotGreeted::silent(1000, "")),
            Some(Ok(_)) => {}
            Some(Err(error)) if is_oversize(&error) => return Err(NotGreeted::silent(1009, "")),
            Some(Err(_)) => return Err(NotGreeted::silent(1002, "")),
        }
    }
}

fn check_phase(phase: &Phase) -> Result<(), Refusal> {
    let error = match phase {
        Phase::Ready => return Ok(()),
        Phase::Starting(what) => ErrorShape::unavailable("gateway starting; retry shortly")
            .with_details(json!({ "reason": "startup-sidecars", "pending": what })),
        Phase::Draining => ErrorShape::unavailable("connect unavailable during gateway restart"),
    };
    let error = ErrorShape { retry_after_ms: Some(1000), ..error };
    let close = CloseWith::new(1013, error.message.clone());
    Err(Refusal { error, close, counted: None })
}

/// Decide, count wrong secrets, and see to the device's pairing and token.
async fn decide(
    gw: &Handles,
    params: &ConnectParams,
    peer: &Peer,
    headers: &hyper::HeaderMap,
    nonce: &str,
) -> Result<(Admission, Option<DeviceToken>), Refusal> {
    let front = &gw.front;
    let settings = front.settings();
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let admitted = front.devices.read(|book| {
        handshake::admit(
            params,
            &Circumstances {
                settings: &settings,
                peer,
                header: &header,
                nonce,
                now_ms: now,
                book,
                secret_locked_ms: front.locked_ms(RateScope::SharedSecret, peer),
                device_locked_ms: front.locked_ms(RateScope::DeviceToken, peer),
            },
        )
    });
    let admission = admitted.inspect_err(|refusal| {
        if let Some(scope) = refusal.counted {
            front.try_failed(scope, peer);
        }
    })?;
    match admission.method {
        AuthMethod::Token | AuthMethod::Password => front.try_succeeded(RateScope::SharedSecret, peer),
        AuthMethod::DeviceToken => front.try_succeeded(RateScope::DeviceToken, peer),
        AuthMethod::None | AuthMethod::TrustedProxy => {}
    }
    pair(gw, params, peer, &admission, now).await?;
    let token = issue(gw, &admission, now).await?;
    Ok((admission, token))
}

async fn pair(
    gw: &Handles,
    params: &ConnectParams,
    peer: &Peer,
    admission: &Admission,
    now: i64,
) -> Result<(), Refusal> {
    let (Some((need, silent)), Some(device)) = (admission.pairing, &admission.device) else { return Ok(()) };
    let ask = handshake::ask(params, admission.role, &admission.scopes, device, peer);
    let new_id = uuid::Uuid::new_v4().to_string();
    let all: Vec<String> = admission.scopes.iter().cloned().chain(scope::ALL.map(str::to_owned)).collect();
    let changed = gw.front.devices.change(|book| {
        let pending = book.request(&ask, silent, &new_id, now);
        // An earlier request of this device that needs a person is not waved through by this one.
        let approved = (silent && pending.silent).then(|| {
            book.approve(&pending.request_id, Approver { scopes: &all, device_id: None }, now).is_ok()
        });
        (pending, approved.unwrap_or(false))
    });
    let (pending, approved) = changed.await.map_err(|e| store_failed(&e))?;
    let tell = |event, payload| {
        gw.front.fanout.emit(GatewayEvent::Other { event, payload, scope: Some(scope::PAIRING) })
    };
    tracing::info!(reason = need.as_str(), device = %pending.device_id, ip = %peer.ip, client = %params.client.id,
        role = admission.role.as_str(), auth = admission.method.as_str(), approved, "device access upgrade requested");
    if approved {
        tracing::info!(
            "device pairing auto-approved device={} role={}",
            pending.device_id,
            admission.role.as_str()
        );
        let payload = json!({ "requestId": pending.request_id, "deviceId": pending.device_id, "decision": "approved", "ts": now });
        tell("device.pair.resolved", payload);
        return Ok(());
    }
    tell("device.pair.requested", serde_json::to_value(&pending).unwrap_or(Value::Null));
    Err(gw.front.devices.read(|book| handshake::pairing_required(need, &pending, book, admission.protocol)))
}

async fn issue(gw: &Handles, admission: &Admission, now: i64) -> Result<Option<DeviceToken>, Refusal> {
    let Some(device) = &admission.device else { return Ok(None) };
    let (id, role, scopes) = (&device.id, admission.role, &admission.scopes);
    // Most connects find their token and need no write.
    let known = gw.front.devices.read(|book| book.clone_token(id, role, scopes));
    if known.is_some() {
        return Ok(known);
    }
    let made = gw.front.devices.change(|book| book.token_for(id, role, scopes, now)).await;
    let made = made.map_err(|e| store_failed(&e))?;
    made.map_err(|e| Refusal::new(ErrorShape::unavailable(e.to_string())))
}

fn store_failed(error: &dyn std::fmt::Display) -> Refusal {
    tracing::error!(%error, "device book");
    Refusal::new(ErrorShape::unavailable("the gateway cannot store device approvals now; see its log"))
}

fn facts(gw: &Handles) -> HelloFacts {
    let front = &gw.front;
    let now = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    HelloFacts {
        version: gw.about.version.clone(),
        boot_id: gw.about.boot_id.clone(),
        presence: front.fanout.presence().list(now),
        health: Value::clone(&front.health()),
        state_version: front.fanout.versions().to_json(),
        uptime_ms: u64::try_from(gw.about.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        config_path: front.paths.config_path.display().to_string(),
        state_dir: front.paths.state_dir.display().to_string(),
        config_hash: Some(gw.config.current().hash().to_owned()),
        methods: rpc::names(),
        events: rpc::EVENTS.to_vec(),
    }
}
