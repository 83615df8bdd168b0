//! Requests of one connection that owe a response: begun, answered, and carried over an in-place restart.

use crate::front::carry::CarriedRequest;
use crate::front::carry::lot::{Stage, Work};
use crate::front::fanout::Conn;
use crate::front::frame::{self, Body, Request, Unreadable};
use crate::front::limits::WRONG_ROLE_CALLS_MAX;
use crate::front::outq::CloseWith;
use crate::gateway::Handles;
use crate::rpc::{self, RpcError};
use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// A request larger than this is not kept while it runs: at a restart its client is told to look and repeat.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// Code of a refusal that says nothing about the request itself.
const UNAVAILABLE: &str = "UNAVAILABLE";

/// The requests of one connection.
#[derive(Default)]
pub struct Requests {
    open: Mutex<Open>,
    wrong_role: AtomicU32,
}

#[derive(Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, InFlight>,
}

struct InFlight {
    request: CarriedRequest,
    since: Instant,
}

impl Requests {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls with the wrong role in a row.
    pub fn set_wrong_role(&self, calls: u32) {
        self.wrong_role.store(calls, Ordering::Relaxed);
    }

    /// All that owe a response; whatever they do from now on, none is written for them. And the number of calls
    /// with the wrong role in a row.
    pub fn take_all(&self) -> (Vec<CarriedRequest>, u32) {
        let all = std::mem::take(&mut self.open().by_number).into_values().map(|flight| {
            let waited_ms = u64::try_from(flight.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            CarriedRequest { waited_ms: flight.request.waited_ms.saturating_add(waited_ms), ..flight.request }
        });
        (all.collect(), self.wrong_role.load(Ordering::Relaxed))
    }

    fn enter(&self, request: CarriedRequest) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let number = open.next;
        open.by_number.insert(number, InFlight { request, since: Instant::now() });
        number
    }

    /// The last response of a request, unless it was carried away.
    fn leave(&self, number: u64, respond: impl FnOnce()) {
        let mut open = self.open();
        if open.by_number.remove(&number).is_some() {
            respond();
        }
    }

    /// The first of two responses.
    fn accepted(&self, number: u64, run_id: Option<&str>, respond: impl FnOnce()) {
        let mut open = self.open();
        if let Some(flight) = open.by_number.get_mut(&number) {
            flight.request.run_id = Some(run_id.unwrap_or_default().to_owned());
            respond();
        }
    }

    /// Takes one message of the client.
    pub fn begin(self: &Arc<Self>, gw: &Handles, conn: &Arc<Conn>, text: Bytes, place: OwnedSemaphorePermit) {
        let request = match frame::read_request(&text) {
            Ok(request) => request,
            Err(Unreadable::NotJson) => return,
            Err(Unreadable::NotRequest { id, why }) => {
                let error = RpcError::invalid(format!("invalid request frame: {why}"));
                let id = id.unwrap_or_else(|| "invalid".to_owned());
                conn.out.push_text(frame::write_response(&id, Err(&error)));
                return;
            }
        };
        let carried = CarriedRequest {
            id: request.id.clone(),
            method: request.method.clone(),
            text: (text.len() <= KEPT_BYTES_MAX).then(|| ByteBuf::from(text)),
            ..CarriedRequest::default()
        };
        let call =
            Call { gw: gw.clone(), conn: conn.clone(), requests: self.clone(), number: self.enter(carried) };
        tokio::spawn(async move {
            call.answer(request, false).await;
            drop(place);
        });
    }

    fn note_role(&self, conn: &Conn, error: Option<&RpcError>) {
        if error.is_some_and(rpc::is_wrong_role) {
            if self.wrong_role.fetch_add(1, Ordering::Relaxed) >= WRONG_ROLE_CALLS_MAX {
                conn.out.close(CloseWith::new(1008, "repeated unauthorized calls"));
            }
        } else {
            self.set_wrong_role(0);
        }
    }
}

/// One request under way.
struct Call {
    gw: Handles,
    conn: Arc<Conn>,
    requests: Arc<Requests>,
    number: u64,
}

impl Call {
    /// Runs the method. `accepted`: the client has the first of two responses already.
    async fn answer(self, request: Request, accepted: bool) {
        let Request { id, method, params } = request;
        let began = Instant::now();
        let busy = self.gw.front.lot.begin(rpc::at_restart(&method));
        let run = rpc::dispatch(&self.gw, &self.conn.caller, &method, params);
        let result = AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| Err(crashed(&method)));
        self.requests.note_role(&self.conn, result.as_ref().err());
        let (conn, ms) = (&self.conn.caller.conn_id, began.elapsed().as_millis());
        match result {
            Ok(reply) => {
                tracing::debug!(%conn, %method, ms, "answered");
                if let Some(then) = reply.then {
                    if !accepted {
                        let run_id = run_id_of(&reply.body);
                        self.requests
                            .accepted(self.number, run_id.as_deref(), || self.write(&id, Ok(&reply.body)));
                    }
                    drop(busy);
                    self.end(&id, &method, then).await;
                } else {
                    self.requests.leave(self.number, || self.write(&id, Ok(&reply.body)));
                    self.gw.front.fanout.relieve();
                }
            }
            Err(error) if self.is_overtaken(&method, &error) => {
                tracing::debug!(%conn, %method, ms, error = %error.message, "asked again by the next image");
            }
            Err(error) => {
                tracing::debug!(%conn, %method, ms, code = %error.code, error = %error.message, "refused");
                self.requests.leave(self.number, || self.write(&id, Err(&error)));
            }
        }
    }

    /// What it needs was taken apart for the next image, which asks again: the client is to notice nothing.
    fn is_overtaken(&self, method: &str, error: &RpcError) -> bool {
        (Stage::Held..Stage::Stopping).contains(&self.gw.front.lot.stage())
            && error.code == UNAVAILABLE
            && rpc::at_restart(method) != Work::Change
    }

    async fn end(&self, id: &str, method: &str, then: impl Future<Output = Result<Body, RpcError>>) {
        self.gw.front.fanout.relieve();
        let second = AssertUnwindSafe(then).catch_unwind().await.unwrap_or_else(|_| Err(crashed(method)));
        self.requests.leave(self.number, || self.write(id, second.as_ref()));
    }

    fn write(&self, id: &str, result: Result<&Body, &RpcError>) {
        self.conn.out.push_text(frame::write_response(id, result));
    }

    /// A request of before a restart.
    async fn again(self, carried: CarriedRequest) {
        let CarriedRequest { id, method, text, run_id, waited_ms } = carried;
        if let Some(run_id) = run_id.as_deref().filter(|id| !id.is_empty())
            && let Some(then) = rpc::agent::outcome_of(&self.gw, run_id).await
        {
            return self.end(&id, &method, then).await;
        }
        let repeatable = rpc::at_restart(&method) != Work::Change;
        let request = text.filter(|_| repeatable).and_then(|text| frame::read_request(&text).ok());
        match request {
            Some(mut request) => {
                rpc::shorten(&method, &mut request.params, Duration::from_millis(waited_ms));
                self.answer(request, run_id.is_some()).await;
            }
            None => {
                let error = RpcError::unavailable(format!(
                    "the gateway was restarted while {method} ran; look whether it took effect before you repeat it"
                ));
                self.requests.leave(self.number, || self.write(&id, Err(&error)));
            }
        }
    }
}

/// Where a request of before a restart goes on.
pub struct Resumed<'a> {
    /// All that a handler needs.
    pub gw: &'a Handles,
    /// The connection.
    pub conn: &'a Arc<Conn>,
    /// Its requests.
    pub requests: &'a Arc<Requests>,
    /// The place that it held.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Resumed<'_> {
    /// Goes on with one request.
    pub fn begin(self, carried: CarriedRequest) {
        let kept = CarriedRequest {
            id: carried.id.clone(),
            method: carried.method.clone(),
            text: carried.text.clone(),
            run_id: carried.run_id.clone(),
            waited_ms: carried.waited_ms,
        };
        let number = self.requests.enter(kept);
        let (gw, conn, requests) = (self.gw.clone(), self.conn.clone(), self.requests.clone());
        let place = self.place;
        tokio::spawn(async move {
            Call { gw, conn, requests, number }.again(carried).await;
            drop(place);
        });
    }
}

fn run_id_of(body: &Body) -> Option<String> {
    match body {
        Body::Json(value) => value["runId"].as_str().map(str::to_owned),
        Body::Raw(_) => None,
    }
}

fn crashed(method: &str) -> RpcError {
    tracing::error!(method, "method handler panicked");
    RpcError::unavailable(format!("internal error in {method}; see the gateway log"))
}
