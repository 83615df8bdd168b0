//! The web page: the one inside the executable, or a directory (`gateway.controlUi.root`), with its small
//! JSON endpoints. Who may do anything is decided on the WebSocket, not here; the files are no secret.

pub mod assets;
pub mod csp;

use super::Ask;
use super::body::{Answer, answer, full, json_body, text};
use crate::front::scope::Role;
use crate::front::secret;
use crate::front::settings::{ControlUi, Settings};
use assets::{Found, Wanted};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

const ASSETS_MISSING: &str = "Control UI assets not found. Set gateway.controlUi.root to a directory with an index.html that is no link.";

/// Answer what no other surface took.
pub async fn respond(ask: &Ask) -> Answer {
    let settings = ask.gw.front.settings();
    let ui = &settings.control_ui;
    let path = assets::decode(ask.path());
    let inside = path.as_deref().and_then(|p| below(&ui.base_path, p));
    let (true, Some(inside)) = (ui.enabled, inside) else {
        return text(StatusCode::NOT_FOUND, "Not Found");
    };
    let mut answer = match inside {
        _ if !ask.reads() => only_reads(),
        "" => redirect(&ui.base_path, ask.head.uri.query()),
        "/control-ui-config.json"
        | "/__openclaw/control-ui-config.json"
        | "/__openclaw__/control-ui-config.json" => page_config(ask, &settings),
        _ if ui.base_path.is_empty() && (inside == "/ui" || inside.starts_with("/ui/")) => {
            text(StatusCode::NOT_FOUND, "Not Found")
        }
        _ => match inside.strip_prefix("/avatar/") {
            Some(agent) => avatar(ask, &settings, agent),
            None => file(ask, ui, inside).await,
        },
    };
    let headers = answer.headers_mut();
    let permissions = HeaderName::from_static("permissions-policy");
    headers.insert(
        permissions,
        HeaderValue::from_static("camera=(self), microphone=(self), geolocation=(), clipboard-write=(self)"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    if !headers.contains_key(header::CONTENT_SECURITY_POLICY) {
        put_csp(headers, &csp::policy(ui.root.is_some(), &[]));
    }
    answer
}

/// The path below the base path; empty for the base path itself without its slash.
fn below<'a>(base: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(base)?;
    if rest.starts_with('/') || (rest.is_empty() && !base.is_empty()) { Some(rest) } else { None }
}

/// Of the two releases, the one of February answers a write with 405 and the later one with 404; 405 tells more.
fn only_reads() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn redirect(base: &str, query: Option<&str>) -> Answer {
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    let mut answer = Response::new(full(""));
    *answer.status_mut() = StatusCode::FOUND;
    if let Ok(to) = HeaderValue::from_str(&format!("{base}/{query}")) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

fn put_csp(headers: &mut hyper::HeaderMap, policy: &str) {
    if let Ok(value) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
}

async fn file(ask: &Ask, ui: &ControlUi, path: &str) -> Answer {
    let accepts_json =
        ask.header("accept").is_some_and(|a| a.contains("application/json") && !a.contains("text/html"));
    let Some(wanted) = assets::wanted(path) else { return text(StatusCode::NOT_FOUND, "Not Found") };
    if accepts_json && wanted == Wanted::Page && path != "/" {
        return text(StatusCode::NOT_FOUND, "Not Found");
    }
    match assets::find(ui.root.as_deref(), &wanted).await {
        Found::File(content_type, bytes) => {
            let hashes = if wanted == Wanted::Page { csp::inline_script_hashes(&bytes) } else { Vec::new() };
            let mut answer = answer(StatusCode::OK, content_type, bytes);
            put_csp(answer.headers_mut(), &csp::policy(ui.root.is_some(), &hashes));
            answer
        }
        Found::Missing => text(StatusCode::NOT_FOUND, "Not Found"),
        Found::NoPage => text(StatusCode::SERVICE_UNAVAILABLE, ASSETS_MISSING),
    }
}

/// The gateway's secret, or the token of a paired operator device, which is what the page has after its first visit.
fn authorise_page(ask: &Ask) -> Result<(), Answer> {
    let offered = ask.bearer().unwrap_or_default();
    let known = ask.gw.front.devices.read(|book| {
        let tokens = book.paired.values().filter_map(|p| p.tokens.get(Role::Operator.as_str()));
        // Looks at every token, so that the time does not tell which one fits.
        tokens.filter(|t| t.revoked_at_ms.is_none() && secret::same(&t.token, offered)).count() > 0
    });
    if known && !offered.is_empty() {
        ask.slot.authenticated();
        return Ok(());
    }
    ask.authorise()
}

fn page_config(ask: &Ask, settings: &Settings) -> Answer {
    if let Err(refused) = authorise_page(ask) {
        return refused;
    }
    let agent = settings.agents.iter().find(|a| a.id == settings.default_agent);
    let name = agent.and_then(|a| a.name.clone()).unwrap_or_else(|| "Assistant".to_owned());
    let initial: String = name.chars().take(1).collect();
    let avatar = agent.and_then(|a| a.avatar.clone()).filter(|a| is_remote(a)).unwrap_or(initial);
    let version = &ask.gw.about.version;
    json_body(
        StatusCode::OK,
        &json!({
            "basePath": settings.control_ui.base_path,
            "assistantName": name,
            "assistantAvatar": avatar,
            "assistantAvatarSource": null,
            "assistantAvatarStatus": null,
            "assistantAvatarReason": null,
            "assistantAgentId": settings.default_agent,
            "serverVersion": version,
            "serverBuildId": version,
            "embedSandbox": "scripts",
            "allowExternalEmbedUrls": false,
            "automaticallyFetchFavicons": false,
            "communityInvite": false,
            "terminalEnabled": false,
            "cliAgentsEnabled": false,
            "pluginAssetsRequireAuth": true,
            "pluginFrameGrants": [],
        }),
    )
}

fn is_remote(avatar: &str) -> bool {
    ["https://", "http://", "data:image/"].iter().any(|p| avatar.starts_with(p))
}

/// `?meta=1` tells where the picture is. Pictures in a workspace are not served: this process does not read workspaces.
fn avatar(ask: &Ask, settings: &Settings, agent: &str) -> Answer {
    let known = settings.agents.iter().find(|a| a.id == agent.to_ascii_lowercase());
    let (Some(known), Some("1")) = (known, ask.query("meta")) else {
        return text(StatusCode::NOT_FOUND, "Not Found");
    };
    if let Err(refused) = authorise_page(ask) {
        return refused;
    }
    let url = known.avatar.as_deref().filter(|a| is_remote(a));
    json_body(
        StatusCode::OK,
        &json!({
            "avatarUrl": url, "avatarSource": null, "avatarStatus": null, "avatarReason": null,
        }),
    )
}

#[cfg(test)]
mod tests;
