//! Bodies: building answers, reading requests within the limits.

use crate::front::limits::{BODY_READ_TIMEOUT, HTTP_BODY_BYTES_MAX};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;

/// Body of an answer.
pub type OutBody = UnsyncBoxBody<Bytes, Infallible>;
/// An answer.
pub type Answer = Response<OutBody>;

/// Bytes that an oversize request may still send before its connection is closed: most clients read
/// nothing before they have sent all.
const DRAIN_BYTES_MAX: usize = 64 * 1024 * 1024;
/// An oversize request that sends nothing for this long reads its answer now.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// A body that is complete.
pub fn full(bytes: impl Into<Bytes>) -> OutBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// An answer with a content type.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(full(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// `text/plain`.
pub fn text(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// `application/json`.
pub fn json_body(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json; charset=utf-8", value.to_string())
}

/// `{"error":{"message":…,"type":…}}`.
pub fn error_json(status: StatusCode, message: &str, kind: &str) -> Answer {
    json_body(status, &json!({ "error": { "message": message, "type": kind } }))
}

/// 405 with the methods that are allowed.
pub fn wrong_method(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    answer
}

/// The answer to HEAD: all headers, no body.
pub fn without_body(mut answer: Answer) -> Answer {
    if let Some(len) = answer.body().size_hint().exact() {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    }
    *answer.body_mut() = full(Bytes::new());
    answer
}

/// Read a request's body.
///
/// # Errors
/// The 413, 408 or 400 to send.
pub async fn read(mut incoming: Incoming) -> Result<Bytes, Answer> {
    let too_large =
        || error_json(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large", "invalid_request_error");
    if incoming.size_hint().lower() > HTTP_BODY_BYTES_MAX as u64 {
        drain(&mut incoming).await;
        return Err(too_large());
    }
    let limited = Limited::new(&mut incoming, HTTP_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_READ_TIMEOUT, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            drain(&mut incoming).await;
            Err(too_large())
        }
        Ok(Err(_)) => Err(error_json(StatusCode::BAD_REQUEST, "Bad request body", "invalid_request_error")),
        Err(_) => {
            Err(error_json(StatusCode::REQUEST_TIMEOUT, "Request body timeout", "invalid_request_error"))
        }
    }
}

async fn drain(incoming: &mut Incoming) {
    let mut left = DRAIN_BYTES_MAX;
    let reading = async {
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(DRAIN_IDLE, incoming.frame()).await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _late = tokio::time::timeout(BODY_READ_TIMEOUT, reading).await;
}
