//! The HTTP surface: one file per surface below, the order of matching here (first match wins).
//!
//! Every answer carries the common security headers; bodies of refusals are those of the later release.

pub mod body;
pub mod control_ui;
pub mod health;
pub mod openai;

use crate::front::auth::rate::RateScope;
use crate::front::auth::{self, AuthFailure, Offered};
use crate::front::net::{HeadFacts, Peer};
use crate::front::slots::Slot;
use crate::front::ws;
use crate::gateway::Handles;
use body::{Answer, error_json, text};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What an HTTP handler knows of its request.
pub struct Ask {
    /// Everything behind the front.
    pub gw: Handles,
    /// Who is calling.
    pub peer: Peer,
    /// Method, path, headers.
    pub head: hyper::http::request::Parts,
    /// Place of the connection.
    pub slot: Arc<Slot>,
}

impl Ask {
    /// Decoded path without query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// GET or HEAD.
    pub fn reads(&self) -> bool {
        matches!(self.head.method, Method::GET | Method::HEAD)
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// `Authorization: Bearer …`.
    pub fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization")?;
        let (kind, token) = value.split_once(' ')?;
        kind.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|t| !t.is_empty())
    }

    /// A value of the query string, as written.
    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.head.uri.query()?.split('&');
        pairs.filter_map(|p| p.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
    }

    /// As a refused `connect` is: who and why, never what was sent.
    fn log_refusal(&self, code: &str) {
        let taken = REFUSALS.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        let Some(left_out) = taken else { return };
        let (ip, method, path) = (self.peer.ip, self.head.method.as_str(), self.path());
        let left_out = (left_out > 0).then_some(left_out);
        tracing::info!(%ip, method, path, code, left_out, "request refused");
    }

    /// Check the gateway's secret.
    ///
    /// # Errors
    /// The 401 or 429 to send.
    pub fn authorise(&self) -> Result<(), Answer> {
        let front = &self.gw.front;
        let bearer = self.bearer();
        if let (Some(_), Some(ms)) = (bearer, front.locked_ms(RateScope::SharedSecret, &self.peer)) {
            self.log_refusal("AUTH_RATE_LIMITED");
            return Err(rate_limited(ms));
        }
        let offered = Offered { token: bearer, password: bearer };
        let lookup = |name: &str| self.header(name).map(str::to_owned);
        match auth::check(&front.settings().auth, offered, &self.peer, &lookup) {
            Ok(_) => {
                front.try_succeeded(RateScope::SharedSecret, &self.peer);
                self.slot.authenticated();
                Ok(())
            }
            Err(failure) => {
                if failure.counts() {
                    front.try_failed(RateScope::SharedSecret, &self.peer);
                }
                // A page or a probe that comes without one is no try.
                if bearer.is_some() {
                    self.log_refusal(failure.code());
                }
                Err(match failure {
                    AuthFailure::RateLimited { retry_after_ms } => rate_limited(retry_after_ms),
                    _ => error_json(StatusCode::UNAUTHORIZED, "Unauthorized", "unauthorized"),
                })
            }
        }
    }
}

/// Lines about refused requests in one minute, for the whole gateway: somebody who guesses must not fill the log.
const REFUSALS_LOGGED_MAX: u32 = 20;
const REFUSALS_PER: Duration = Duration::from_secs(60);

/// Lines of the present minute, and those that were left out of it.
struct Refusals {
    since: Option<Instant>,
    logged: u32,
    left_out: u32,
}

static REFUSALS: Mutex<Refusals> = Mutex::new(Refusals { since: None, logged: 0, left_out: 0 });

impl Refusals {
    /// Whether one more may be logged now, and how many were left out before it.
    fn take(&mut self, now: Instant) -> Option<u32> {
        if self.since.is_none_or(|since| now.duration_since(since) >= REFUSALS_PER) {
            (self.since, self.logged) = (Some(now), 0);
        }
        if self.logged >= REFUSALS_LOGGED_MAX {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.logged += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

fn rate_limited(ms: u64) -> Answer {
    let text = "Too many failed authentication attempts. Please try again later.";
    let mut answer = error_json(StatusCode::TOO_MANY_REQUESTS, text, "rate_limited");
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
    answer
}

/// Answer one request.
pub async fn serve(gw: Handles, socket: IpAddr, slot: Arc<Slot>, mut request: Request<Incoming>) -> Answer {
    let settings = gw.front.settings();
    let peer = Peer::resolve(socket, head_facts(request.headers()), &settings.proxies);
    let mut answer = if is_upgrade(request.headers()) {
        upgrade(gw.clone(), peer, slot, &mut request)
    } else {
        let (head, incoming) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let answer = route(Ask { gw: gw.clone(), peer, head, slot }, incoming).await;
        if is_head { body::without_body(answer) } else { answer }
    };
    let headers = answer.headers_mut();
    common(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    common(headers, header::REFERRER_POLICY, "no-referrer");
    let policy = header::HeaderName::from_static("permissions-policy");
    common(headers, policy, "camera=(), microphone=(self), geolocation=()");
    if let Some(value) = settings.hsts.as_deref().and_then(|v| HeaderValue::from_str(v).ok()) {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    answer
}

fn common(headers: &mut HeaderMap, name: header::HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}

async fn route(ask: Ask, incoming: Incoming) -> Answer {
    if let Some(answer) = health::answer(&ask, ask.path()) {
        return answer;
    }
    if let Some(answer) = openai::respond(&ask, incoming).await {
        return answer;
    }
    if ask.path().starts_with("/v1/") {
        return text(StatusCode::NOT_FOUND, "Not Found");
    }
    control_ui::respond(&ask).await
}

fn head_facts(headers: &HeaderMap) -> HeadFacts {
    let one = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|v| v.to_str().unwrap_or("?")).collect();
    HeadFacts {
        host: one("host"),
        origin: one("origin"),
        forwarded_for: (!forwarded.is_empty()).then(|| forwarded.join(",")),
        real_ip: one("x-real-ip"),
        forwarded_host: headers.contains_key("x-forwarded-host") || headers.contains_key("forwarded"),
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(token))
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    has_token(headers, header::CONNECTION, "upgrade") && has_token(headers, header::UPGRADE, "websocket")
}

/// Any path becomes a WebSocket (RFC 6455 4.2).
fn upgrade(gw: Handles, peer: Peer, slot: Arc<Slot>, request: &mut Request<Incoming>) -> Answer {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    if peer.forwarded && !peer.trusted_proxy {
        let why = "proxy headers from an address that is not in gateway.trustedProxies";
        return error_json(StatusCode::FORBIDDEN, why, "forbidden");
    }
    let headers = request.headers();
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|k| k.len() == 24).cloned();
    let (true, Some(key)) = (version, key) else {
        let mut answer = text(StatusCode::BAD_REQUEST, "Bad Request");
        answer.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return answer;
    };
    let headers = headers.clone();
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
        let arrived = ws::Arrived { io: parts.io.into_inner(), unread: parts.read_buf, peer, headers, slot };
        ws::serve(gw, arrived).await;
    });
    let mut answer = Response::new(body::full(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let out = answer.headers_mut();
    out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_who_guesses_does_not_fill_the_log() {
        let mut refusals = Refusals { since: None, logged: 0, left_out: 0 };
        let begin = Instant::now();
        let logged = (0..1000).filter(|_| refusals.take(begin).is_some()).count();
        assert_eq!(logged, REFUSALS_LOGGED_MAX as usize);
        assert_eq!(
            refusals.take(begin + REFUSALS_PER),
            Some(1000 - REFUSALS_LOGGED_MAX),
            "what was left out is said"
        );
        assert_eq!(refusals.take(begin + REFUSALS_PER), Some(0));
    }
}
