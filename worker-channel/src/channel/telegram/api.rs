//! One call of a Bot API method over HTTP, and its errors by what they mean for a send.
//!
//! The client is built at the first call, so that an account that waits for its lock costs no memory for TLS.

use std::time::Duration;

use futures_util::Stream;
use reqwest::multipart::Form;
use reqwest::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

/// Time for a connection, name look-up included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Time for a whole call; uploads may take longer.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const UPLOAD_LIMIT: Duration = Duration::from_secs(120);
/// Largest answer that is read: 100 updates of long texts are below 2 MiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The server's refusal (Bot API "Making requests").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub description: String,
    /// `parameters.retry_after`.
    pub retry_after_s: Option<u64>,
    /// Said by something between us and the Bot API, which may have passed the request on.
    pub by_a_gateway: bool,
}

/// Why a call brought no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("Telegram refused: {} ({})", .0.description, .0.code)]
    Refused(Refusal),
    /// No byte of the request left this host.
    #[error("cannot reach Telegram: {0}")]
    NotSent(String),
    /// The request left, wholly or in part, and no answer came.
    #[error("connection to Telegram lost: {0}")]
    Lost(String),
    /// An answer came that is none.
    #[error("Telegram's answer cannot be read: {0}")]
    Malformed(String),
}

impl ApiError {
    /// The token is not accepted. An unknown token of the right shape gets 401, one of another shape 404.
    pub fn is_bad_token(&self) -> bool {
        matches!(self, Self::Refused(refusal) if matches!(refusal.code, 401 | 404))
    }
}

pub struct Api {
    /// `<root>/bot<token>`: never logged.
    base: String,
    /// `<root>/file/bot<token>`.
    files: String,
    client: OnceCell<Client>,
}

impl Api {
    pub fn new(root: &str, token: &str) -> Self {
        Self {
            base: format!("{root}/bot{token}"),
            files: format!("{root}/file/bot{token}"),
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> Result<&Client, ApiError> {
        let build = || async {
            // No proxies from the environment: it is scrubbed, and a proxy is configured or absent.
            let builder = Client::builder().no_proxy().http1_only().connect_timeout(CONNECT_LIMIT);
            builder.pool_max_idle_per_host(4).build()
        };
        self.client.get_or_try_init(build).await.map_err(|error| ApiError::NotSent(explain(error)))
    }

    /// Calls a method with JSON parameters.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.call_within(method, params, CALL_LIMIT).await
    }

    /// The same with another limit on the whole call (long polling).
    pub async fn call_within<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
        limit: Duration,
    ) -> Result<T, ApiError> {
        let request =
            self.client().await?.post(format!("{}/{method}", self.base)).timeout(limit).json(params);
        read(request.send().await.map_err(lost)?).await
    }

    /// Calls a method that carries a file.
    pub async fn upload<T: DeserializeOwned>(&self, method: &str, form: Form) -> Result<T, ApiError> {
        let request = self
            .client()
            .await?
            .post(format!("{}/{method}", self.base))
            .timeout(UPLOAD_LIMIT)
            .multipart(form);
        read(request.send().await.map_err(lost)?).await
    }

    /// Streams a file by the path that `getFile` gave.
    pub async fn download(
        &self,
        path: &str,
    ) -> Result<impl Stream<Item = Result<bytes::Bytes, String>> + use<>, ApiError> {
        let request = self.client().await?.get(format!("{}/{path}", self.files)).timeout(UPLOAD_LIMIT);
        let response = request.send().await.map_err(lost)?;
        if !response.status().is_success() {
            return Err(ApiError::Malformed(format!("status {} for a file", response.status())));
        }
        Ok(futures_util::StreamExt::map(response.bytes_stream(), |chunk| chunk.map_err(explain)))
    }
}

/// `{"ok":true,"result":…}` or `{"ok":false,"error_code","description","parameters"}`.
async fn read<T: DeserializeOwned>(mut response: Response) -> Result<T, ApiError> {
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ApiError::Malformed(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    let parsed: Result<Value, _> = serde_json::from_slice(&body);
    let Ok(mut answer) = parsed else {
        // A gateway in between answers in HTML: its status is all that counts.
        let description = format!("status {status} without a Bot API answer");
        return match status.is_success() {
            true => Err(ApiError::Malformed(description)),
            false => Err(ApiError::Refused(Refusal {
                code: status.as_u16(),
                description,
                retry_after_s: None,
                by_a_gateway: true,
            })),
        };
    };
    if answer.get("ok") == Some(&Value::Bool(true)) {
        let result = answer.get_mut("result").map(Value::take).unwrap_or_default();
        return serde_json::from_value(result).map_err(|error| ApiError::Malformed(error.to_string()));
    }
    let code = answer.get("error_code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    let description = answer.get("description").and_then(Value::as_str).unwrap_or("no description");
    Err(ApiError::Refused(Refusal {
        code: code.unwrap_or_else(|| status.as_u16()),
        description: description.to_owned(),
        retry_after_s: answer.pointer("/parameters/retry_after").and_then(Value::as_u64),
        by_a_gateway: false,
    }))
}

/// Only a failed connection is certain to have carried nothing.
fn lost(error: reqwest::Error) -> ApiError {
    if error.is_connect() || error.is_builder() {
        ApiError::NotSent(explain(error))
    } else {
        ApiError::Lost(explain(error))
    }
}

/// The whole chain of causes, without the address: the token is in it.
fn explain(error: reqwest::Error) -> String {
    let timed_out = error.is_timeout();
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    if timed_out { format!("timed out ({text})") } else { text }
}
