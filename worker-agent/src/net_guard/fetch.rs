//! The request itself: connected to the addresses that were checked, to none other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::LOCATION;

use super::{Checked, GuardError, Policy, REDIRECTS_MAX, Resolve, System, check};

/// From the first request to the last byte, redirects included: a source that takes longer holds up a reply.
const FETCH_S_MAX: u64 = 30;
/// A host that is up answers a connection well within this.
const CONNECT_S_MAX: u64 = 5;

/// What a URL led to.
#[derive(Debug)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    /// As the server calls it, without parameters; empty when it does not.
    pub mime: String,
    /// The last part of the final URL's path.
    pub name: String,
}

/// Fetches within a policy.
#[derive(Clone)]
pub struct Guard {
    policy: Arc<Policy>,
    resolver: Arc<dyn Resolve>,
}

impl Guard {
    pub fn new(policy: Policy) -> Self {
        Self::with(policy, Arc::new(System))
    }

    pub fn with(policy: Policy, resolver: Arc<dyn Resolve>) -> Self {
        Self { policy: Arc::new(policy), resolver }
    }

    /// GET. At most `bytes_max` bytes of body, at most [`FETCH_S_MAX`] seconds.
    pub async fn get(&self, url: &str, bytes_max: u64) -> Result<Fetched, GuardError> {
        let limit = Duration::from_secs(FETCH_S_MAX);
        match tokio::time::timeout(limit, self.follow(url, bytes_max)).await {
            Ok(result) => result,
            Err(_) => Err(GuardError::Transport {
                host: "the source".to_owned(),
                detail: format!("not whole within {FETCH_S_MAX} s"),
            }),
        }
    }

    async fn follow(&self, url: &str, bytes_max: u64) -> Result<Fetched, GuardError> {
        let mut next = url.to_owned();
        for _hop in 0..=REDIRECTS_MAX {
            let checked = check(&next, &self.policy, self.resolver.as_ref()).await?;
            let response = ask(&checked).await?;
            let status = response.status();
            if !status.is_redirection() {
                return body(response, checked, bytes_max).await;
            }
            let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| checked.url.join(to).ok());
            let Some(to) = to else {
                return Err(GuardError::Status { host: checked.host, status: status.as_u16() });
            };
            next = to.into();
        }
        Err(GuardError::Redirects)
    }
}

async fn ask(to: &Checked) -> Result<reqwest::Response, GuardError> {
    let fail = |detail: String| GuardError::Transport { host: to.host.clone(), detail };
    let addresses: Vec<SocketAddr> =
        to.addresses.iter().map(|address| SocketAddr::new(*address, to.port)).collect();
    let tls = crate::provider::http::tls_config(to.url.scheme() == "https").map_err(fail)?;
    // One client for one request: its table of names holds these addresses only, and no connection is kept for a host that
    // another check may refuse.
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve_to_addrs(&to.host, &addresses)
        .connect_timeout(Duration::from_secs(CONNECT_S_MAX))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        // A proxy would resolve the name once more, by itself.
        .no_proxy()
        .user_agent(concat!("openclaw/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| fail(crate::provider::http::cause(&error)))?;
    let response = client.get(to.url.clone()).send().await;
    let response = response.map_err(|error| fail(crate::provider::http::cause(&error)))?;
    // The last word has the connection itself.
    match response.remote_addr() {
        Some(address) if to.addresses.contains(&address.ip()) => Ok(response),
        _ => Err(GuardError::Resolved),
    }
}

async fn body(mut response: reqwest::Response, from: Checked, bytes_max: u64) -> Result<Fetched, GuardError> {
    let too_large = || GuardError::TooLarge { host: from.host.clone(), limit: bytes_max };
    if !response.status().is_success() {
        return Err(GuardError::Status { host: from.host.clone(), status: response.status().as_u16() });
    }
    if response.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mime = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mime = mime.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let mut bytes = Vec::new();
    loop {
        let piece = response.chunk().await.map_err(|error| GuardError::Transport {
            host: from.host.clone(),
            detail: crate::provider::http::cause(&error),
        })?;
        let Some(piece) = piece else { break };
        if (bytes.len() + piece.len()) as u64 > bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece);
    }
    let name = from.url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    Ok(Fetched { bytes, mime, name: name.to_owned() })
}
