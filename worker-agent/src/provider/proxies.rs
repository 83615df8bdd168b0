//! The proxies of model calls. They come over the link and not in the environment, where a password would stand for all of the
//! process's life; so they are chosen here as the usual variables would be.

use proto::runtime::telemetry;
use proto::wire::handshake::SecretMap;
use reqwest::{ClientBuilder, NoProxy, Proxy};
use std::sync::OnceLock;

/// As the environment would be: one for the process, and it does not change.
static PROXIES: OnceLock<SecretMap> = OnceLock::new();

/// Before the first model call.
pub fn install(proxies: SecretMap) {
    for address in proxies.0.values().filter(|address| address.contains('@')) {
        let user_info = address.rsplit_once('@').map_or("", |(before, _)| before);
        let user_info = user_info.rsplit_once("//").map_or(user_info, |(_, user_info)| user_info);
        let password = user_info.split_once(':').map_or("", |(_, password)| password);
        telemetry::hide([address.as_str(), user_info, password]);
    }
    // A second call is a mistake of ours that changes nothing.
    let _set = PROXIES.set(proxies);
}

/// Adds them to a client. The error names the variable and not its value.
pub fn apply(builder: ClientBuilder) -> Result<ClientBuilder, String> {
    let none = SecretMap::default();
    let proxies = PROXIES.get().unwrap_or(&none);
    with(builder, proxies)
}

fn with(mut builder: ClientBuilder, proxies: &SecretMap) -> Result<ClientBuilder, String> {
    // Nothing from the environment, also when nothing came over the link.
    builder = builder.no_proxy();
    let except = proxies.get("no_proxy").or(proxies.get("NO_PROXY")).and_then(NoProxy::from_string);
    for (scheme, names) in [
        ("https", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        ("http", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
    ] {
        let named = names.iter().find_map(|name| proxies.get(name).map(|address| (name, address)));
        let Some((name, address)) = named else { continue };
        let proxy = if scheme == "https" { Proxy::https(address) } else { Proxy::http(address) };
        let proxy = proxy.map_err(|_| format!("the address in {name} is not that of a proxy"))?;
        builder = builder.proxy(proxy.no_proxy(except.clone()));
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_address_is_not_repeated() {
        let proxies = |value: &str| SecretMap([("HTTPS_PROXY".to_owned(), value.to_owned())].into());
        let built = |value: &str| with(reqwest::Client::builder(), &proxies(value)).map(|_| ());
        assert_eq!(built("http://me:pass@proxy:3128"), Ok(()));
        assert_eq!(built("proxy:3128"), Ok(()));
        assert_eq!(
            built("http://me:pass@[").unwrap_err(),
            "the address in HTTPS_PROXY is not that of a proxy"
        );
    }
}
