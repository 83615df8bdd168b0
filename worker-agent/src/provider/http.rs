//! HTTP for model calls: two clients that are built on first use, one request, bounded pieces of its body.
//! Knows status codes, headers, deadlines and certificates; not what the bytes mean.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::timeout;

use super::failure::{self, ProviderError, Reason};
use super::model::{Deadlines, Model};

/// Largest error body that is read: vendors' error texts are a few hundred bytes, proxies' HTML pages some KiB.
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest answer: far above the longest reply (32 000 tokens in one-token events of 300 bytes are 10 MiB).
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Idle connections are kept this long: about the pause between two steps of a turn. They cost memory at rest.
const POOL_IDLE_S: u64 = 60;
/// Kept connections per server: one per session that runs at the same time, with the default of four.
const POOL_IDLE_COUNT_MAX: usize = 4;

/// Builds clients when first needed: a worker that only ever talks to a local server never reads a certificate.
#[derive(Clone, Default)]
pub struct Http(Arc<Clients>);

#[derive(Default)]
struct Clients {
    plain: OnceLock<Result<reqwest::Client, String>>,
    tls: OnceLock<Result<reqwest::Client, String>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

/// One request. `secret` is removed from every error text.
pub struct Outgoing<'a> {
    pub method: reqwest::Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    /// JSON text; `None` for a GET.
    pub body: Option<Vec<u8>>,
    pub deadlines: Deadlines,
    pub model: &'a Model,
    pub secret: Option<&'a str>,
}

/// An answer whose status was 2xx: its body comes in pieces.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    deadlines: Deadlines,
    taken_bytes: u64,
}

impl Http {
    /// Sends the request and waits for the headers. An answer with another status than 2xx is an error.
    pub async fn send(&self, out: Outgoing<'_>) -> Result<Answer, ProviderError> {
        let fail = |reason, detail: &str| {
            ProviderError::new(reason, &out.model.provider, &out.model.id, redacted(detail, out.secret))
        };
        let client = self.client(&out.url, out.deadlines).map_err(|e| fail(Reason::Connection, &e))?;
        let mut request = client.request(out.method.clone(), &out.url);
        if let Some(body) = &out.body {
            request = request.header("content-type", "application/json").body(body.clone());
        }
        let headers = header_map(&out.headers).map_err(|e| fail(Reason::Format, &e))?;
        let wait = out.deadlines.connect.saturating_add(out.deadlines.header);
        let response = match timeout(wait, request.headers(headers).send()).await {
            Err(_) => {
                let said = format!(
                    "no answer from {} within {} s",
                    origin(&out.url),
                    out.deadlines.header.as_secs_f64()
                );
                return Err(fail(Reason::Timeout, &said));
            }
            Ok(Err(e)) => {
                let reason =
                    if e.is_timeout() && !e.is_connect() { Reason::Timeout } else { Reason::Connection };
                let reason = if e.is_builder() { Reason::Format } else { reason };
                return Err(fail(reason, &format!("{}: {}", origin(&out.url), cause(&e))));
            }
            Ok(Ok(response)) => response,
        };
        let answer = Answer { response, deadlines: out.deadlines, taken_bytes: 0 };
        if answer.response.status().is_success() { Ok(answer) } else { Err(answer.into_error(&out).await) }
    }

    fn client(&self, url: &str, deadlines: Deadlines) -> Result<&reqwest::Client, String> {
        let tls = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let cell = if tls { &self.0.tls } else { &self.0.plain };
        cell.get_or_init(|| build(tls, deadlines)).as_ref().map_err(Clone::clone)
    }
}

impl Answer {
    /// The next piece; `None` at the end of the body. A `Failure` when it pauses too long, breaks or is too long.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, (Reason, String)> {
        match timeout(self.deadlines.idle, self.response.chunk()).await {
            Err(_) => {
                let idle = self.deadlines.idle.as_secs_f64();
                Err((Reason::Timeout, format!("the stream paused for more than {idle} s")))
            }
            Ok(Err(e)) if e.is_timeout() => Err((Reason::Timeout, cause(&e))),
            Ok(Err(e)) => Err((Reason::Truncated, cause(&e))),
            Ok(Ok(None)) => Ok(None),
            Ok(Ok(Some(piece))) => {
                self.taken_bytes = self.taken_bytes.saturating_add(piece.len() as u64);
                if self.taken_bytes > ANSWER_BYTES_MAX {
                    return Err((
                        Reason::Malformed,
                        format!("the answer is longer than {ANSWER_BYTES_MAX} bytes"),
                    ));
                }
                Ok(Some(piece))
            }
        }
    }

    pub fn content_type(&self) -> &str {
        self.response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    async fn into_error(mut self, out: &Outgoing<'_>) -> ProviderError {
        let status = self.response.status();
        let text = |name: &str| self.response.headers().get(name).and_then(|v| v.to_str().ok());
        let now = jiff::Timestamp::now().as_second();
        let retry_after = super::retry_after::wait(text("retry-after-ms"), text("retry-after"), now);
        let location = text("location").map(str::to_owned);
        let mut body = Vec::new();
        while body.len() < ERROR_BODY_BYTES_MAX {
            match self.piece().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(ERROR_BODY_BYTES_MAX);
        let words = failure::vendor_words(&String::from_utf8_lossy(&body));
        let reason = match status.as_u16() {
            300..=399 => Reason::Format,
            code => failure::classify(Some(code), &words.all),
        };
        let detail = match location {
            Some(to) if status.is_redirection() => {
                format!(
                    "{} redirects to {to}; set that as models.providers.{}.baseUrl",
                    origin(&out.url),
                    out.model.provider
                )
            }
            _ => words.message,
        };
        let mut error =
            ProviderError::new(reason, &out.model.provider, &out.model.id, redacted(&detail, out.secret));
        error.status = Some(status.as_u16());
        error.retry_after = retry_after.or(words.retry_after);
        error
    }
}

fn build(tls: bool, deadlines: Deadlines) -> Result<reqwest::Client, String> {
    let mut config = tls_config(tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    super::proxies::apply(reqwest::Client::builder())?
        .tls_backend_preconfigured(config)
        .connect_timeout(deadlines.connect)
        .pool_idle_timeout(std::time::Duration::from_secs(POOL_IDLE_S))
        .pool_max_idle_per_host(POOL_IDLE_COUNT_MAX)
        .tcp_nodelay(true)
        // A redirected POST would carry the key to another host, or turn into a GET.
        .redirect(reqwest::redirect::Policy::none())
        // Every repeated request counts against the turn's retries, so none may happen down here.
        .retry(reqwest::retry::never())
        .user_agent(concat!("openclaw/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| format!("cannot build the HTTP client: {}", cause(&e)))
}

/// The system's certificates; the bundled ones where there are none (a container without ca-certificates).
pub fn tls_config(with_roots: bool) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if with_roots {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("cannot set up TLS: {e}"))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn header_map(headers: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("header name {name:?} is not valid"))?;
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("the value of header {name} is not valid"))?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

/// The innermost cause: the outer layers only repeat "error sending request" and the URL.
pub fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// Scheme, host and port of a URL; paths and queries may hold keys.
pub fn origin(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(parsed) => parsed.origin().ascii_serialization(),
        Err(_) => "the configured baseUrl".to_owned(),
    }
}

/// Whether the server is on this machine or in a private network.
pub fn is_local(base_url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(base_url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
        }
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unspecified(),
        Err(_) => {
            host == "localhost"
                || [".local", ".localhost", ".lan", ".internal"].iter().any(|s| host.ends_with(s))
        }
    }
}

/// The text without the secret, and without anything that looks like a key: vendors echo them in refusals.
pub fn redacted(text: &str, secret: Option<&str>) -> String {
    let text = match secret {
        Some(secret) if secret.len() >= 4 => text.replace(secret, "[key]"),
        _ => text.to_owned(),
    };
    // And without the keys of the other providers: a proxy in front of several may repeat any of them.
    let text = proto::runtime::telemetry::redact(&text).into_owned();
    let key_like = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        word.len() >= 12 && ["sk-", "xai-", "gsk_", "AIza", "key-"].iter().any(|p| word.starts_with(p))
    };
    if !text.split_whitespace().any(key_like) {
        return text;
    }
    text.split_whitespace().map(|w| if key_like(w) { "[key]" } else { w }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_servers_get_more_patience() {
        for url in [
            "http://127.0.0.1:11434",
            "http://localhost:1234/v1",
            "http://[::1]:80",
            "http://192.168.0.7:8080",
        ] {
            assert!(is_local(url), "{url}");
        }
        for url in ["https://openrouter.ai/api/v1", "http://8.8.8.8/v1", "not a url"] {
            assert!(!is_local(url), "{url}");
        }
    }

    #[test]
    fn keys_never_show() {
        let said = redacted(
            "Incorrect API key provided: sk-proj-1234567890abc. Bearer tok3nT0ken",
            Some("tok3nT0ken"),
        );
        assert_eq!(said, "Incorrect API key provided: [key] Bearer [key]");
    }

    #[test]
    fn addresses_lose_their_paths() {
        assert_eq!(origin("https://h.example:8443/v1?key=abc"), "https://h.example:8443");
    }
}
