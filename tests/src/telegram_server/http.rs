//! The wire side: HTTP, the parameters in their four forms, faults, and the control calls for programs that are
//! not written in Rust.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::api::{self, Params, Refusal};
use super::book::{Call, Push};
use super::{Armed, Fault, Shared};

/// Ends a connection without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection cut on purpose")
    }
}

impl std::error::Error for Cut {}

type Reply = Result<Response<Full<Bytes>>, Cut>;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| handle(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new();
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let content_type = request
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let Ok(body) = request.into_body().collect().await else { return Err(Cut) };
    let body = body.to_bytes();
    if let Some(what) = path.strip_prefix("/control/") {
        return Ok(control(&shared, what, &query, &body));
    }
    if let Some(rest) = path.strip_prefix("/file/bot") {
        return Ok(download(&shared, rest));
    }
    let Some((token, method)) = path.strip_prefix("/bot").and_then(|rest| rest.split_once('/')) else {
        return Ok(refuse(&Refusal::new(404, "Not Found")));
    };
    if token != shared.token {
        return Ok(refuse(&Refusal::new(401, "Unauthorized")));
    }
    let params = read_params(&query, &content_type, &body);
    method_call(&shared, method, params).await
}

async fn method_call(shared: &Shared, method: &str, params: Params) -> Reply {
    let fault = shared.take_fault(method);
    match &fault {
        Some(Fault::RateLimit(seconds)) => {
            let refusal = Refusal {
                code: 429,
                description: format!("Too Many Requests: retry after {seconds}"),
                parameters: Some(json!({"retry_after": seconds})),
            };
            return Ok(answer(shared, method, &params, Err(refusal)));
        }
        Some(Fault::Refuse(code, description)) => {
            return Ok(answer(shared, method, &params, Err(Refusal::new(*code, description.clone()))));
        }
        Some(Fault::HangBefore) => {
            note(shared, method, &params, 0, "hung before");
            return std::future::pending().await;
        }
        Some(Fault::CutBefore) => {
            note(shared, method, &params, 0, "cut before");
            return Err(Cut);
        }
        Some(Fault::Held) => {
            let before = shared.lock().healed;
            note(shared, method, &params, 0, "held");
            shared.healed_since(before).await;
        }
        Some(Fault::Slow(ms)) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        _ => {}
    }
    let result = api::call(shared, method, &params).await;
    match fault {
        Some(Fault::HangAfter) => {
            note(shared, method, &params, 0, "hung after");
            std::future::pending().await
        }
        Some(Fault::CutAfter) => {
            note(shared, method, &params, 0, "cut after");
            Err(Cut)
        }
        _ => Ok(answer(shared, method, &params, result)),
    }
}

fn note(shared: &Shared, method: &str, params: &Params, status: u16, description: &str) {
    let call = Call {
        method: method.to_owned(),
        params: Value::Object(params.values.clone()),
        status,
        description: description.to_owned(),
    };
    shared.change(|state| state.book.calls.push(call));
}

fn answer(
    shared: &Shared,
    method: &str,
    params: &Params,
    result: Result<Value, Refusal>,
) -> Response<Full<Bytes>> {
    match result {
        Ok(result) => {
            note(shared, method, params, 200, "");
            json_response(200, &json!({"ok": true, "result": result}))
        }
        Err(refusal) => {
            note(shared, method, params, refusal.code, &refusal.description);
            refuse(&refusal)
        }
    }
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut body = json!({"ok": false, "error_code": refusal.code, "description": refusal.description});
    if let Some(parameters) = &refusal.parameters {
        body["parameters"] = parameters.clone();
    }
    json_response(refusal.code, &body)
}

fn json_response(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn download(shared: &Shared, rest: &str) -> Response<Full<Bytes>> {
    let file = rest.split_once('/').filter(|(token, _)| *token == shared.token).and_then(|(_, path)| {
        let id = path.strip_prefix("documents/")?;
        shared.lock().book.files.get(id).cloned()
    });
    match file {
        Some(bytes) => Response::new(Full::new(Bytes::from(bytes))),
        None => refuse(&Refusal::new(404, "Not Found")),
    }
}

fn read_params(query: &str, content_type: &str, body: &Bytes) -> Params {
    let mut params = Params { values: form(query), uploads: Vec::new() };
    if content_type.starts_with("application/json") {
        if let Ok(Value::Object(values)) = serde_json::from_slice(body) {
            params.values.extend(values);
        }
    } else if content_type.starts_with("application/x-www-form-urlencoded") {
        params.values.extend(form(&String::from_utf8_lossy(body)));
    } else if let Some((_, boundary)) = content_type.split_once("boundary=") {
        multipart(&mut params, boundary.trim_matches('"'), body);
    }
    params
}

fn form(text: &str) -> Map<String, Value> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (unescape(key), Value::String(unescape(value)))).collect()
}

fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let hex: String = bytes.by_ref().take(2).map(char::from).collect();
                out.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads `multipart/form-data` (RFC 7578): fields as text, files with their names.
fn multipart(params: &mut Params, boundary: &str, body: &[u8]) {
    let delimiter = format!("--{boundary}").into_bytes();
    for part in split_on(body, &delimiter) {
        let Some(at) = find(part, b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&part[..at]).into_owned();
        let content = part[at + 4..].strip_suffix(b"\r\n").unwrap_or(&part[at + 4..]);
        let Some(name) = disposition(&head, "name") else { continue };
        match disposition(&head, "filename") {
            Some(file) => params.uploads.push((name, file, content.to_vec())),
            None => {
                let text = String::from_utf8_lossy(content).into_owned();
                params.values.insert(name, Value::String(text));
            }
        }
    }
}

/// A parameter of `Content-Disposition`, quoted or not.
fn disposition(head: &str, key: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    line.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        (name == key).then(|| value.trim_matches('"').to_owned())
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn split_on<'a>(mut body: &'a [u8], delimiter: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(body, delimiter) {
        parts.push(&body[..at]);
        body = &body[at + delimiter.len()..];
    }
    parts
}

/// `POST /control/push|fault|block|heal|reset`, `GET /control/visible?chat=…|calls?method=…|state`.
fn control(shared: &Shared, what: &str, query: &str, body: &[u8]) -> Response<Full<Bytes>> {
    let query = Params { values: form(query), uploads: Vec::new() };
    let result = match what {
        "push" => serde_json::from_slice::<Push>(body)
            .map(|push| json!({"message_id": shared.change(|state| state.book.push(push))})),
        "update" => serde_json::from_slice::<Value>(body)
            .map(|update| json!({"update_id": shared.change(|state| state.book.push_update(update))})),
        "fault" => serde_json::from_slice::<Armed>(body).map(|armed| {
            shared.change(|state| state.armed.push(armed));
            json!({})
        }),
        "block" => {
            shared.change(|state| state.book.chat_mut(query.int("chat").unwrap_or(0)).blocked = true);
            Ok(json!({}))
        }
        "heal" => {
            shared.change(|state| state.armed.clear());
            Ok(json!({}))
        }
        "reset" => {
            shared.change(|state| {
                state.book = super::Book::new(state.book.bot_id);
                state.armed.clear();
                state.webhook.clear();
            });
            Ok(json!({}))
        }
        "visible" => {
            let chat = query.int("chat").unwrap_or(0);
            serde_json::to_value(shared.lock().book.visible(chat))
        }
        "calls" => {
            let state = shared.lock();
            let wanted = query.text("method");
            let calls = state.book.calls.iter();
            let calls: Vec<_> =
                calls.filter(|call| wanted.as_ref().is_none_or(|method| call.method == *method)).collect();
            serde_json::to_value(calls)
        }
        "state" => {
            let state = shared.lock();
            Ok(json!({
                "offset": state.book.offset, "unconfirmed": state.book.updates.len(), "polling": state.polling,
                "webhook": state.webhook,
            }))
        }
        _ => return refuse(&Refusal::new(404, "no such control call")),
    };
    match result {
        Ok(value) => json_response(200, &value),
        Err(error) => refuse(&Refusal::new(400, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::{form, multipart};
    use crate::telegram_server::api::Params;

    #[test]
    fn reads_forms_and_multipart() {
        assert_eq!(form("a=1+2&b=%C3%A9")["b"], "é");
        let body = b"--X\r\nContent-Disposition: form-data; name=\"chat_id\"\r\n\r\n7\r\n--X\r\nContent-Disposition: form-data; name=\"document\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\nab\r\ncd\r\n--X--\r\n";
        let mut params = Params::default();
        multipart(&mut params, "X", body);
        assert_eq!(params.int("chat_id"), Some(7));
        assert_eq!(params.uploads, [("document".into(), "a.txt".into(), b"ab\r\ncd".to_vec())]);
    }
}
