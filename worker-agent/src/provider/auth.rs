//! Where a provider's key comes from: auth profiles, the environment, the config, in that order. The rules are
//! pure; reading `auth-profiles.json` is the one bit of IO. How profiles fare is written by [`ledger`] alone.

pub mod ledger;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::catalog;
use super::cooldown::{self, Rest, Stats};
use super::model::Secret;
use super::settings::{AuthSection, ProviderSettings};

/// Largest `auth-profiles.json` that is read: hundreds of profiles fit into a tenth of it.
const PROFILES_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A key and where it was found, the latter for `models status` and logs.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyChoice {
    pub secret: Secret,
    /// `profile:<id>`, `env: <NAME>`, `models.providers.<id>.apiKey`.
    pub source: String,
    /// A token or OAuth access token rather than an API key.
    pub bearer: bool,
    /// Id of the auth profile, for a key that comes from one.
    pub profile: Option<String>,
    /// Why it should not be used now.
    pub rest: Option<Rest>,
}

impl KeyChoice {
    fn plain(secret: Secret, source: String, bearer: bool) -> Self {
        Self { secret, source, bearer, profile: None, rest: None }
    }
}

/// Which auth profile a session uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub profile: String,
    /// A person chose it (`/model name@profile`): no other is used. Else it is merely the one used before.
    pub by_user: bool,
}

/// Contents of `auth-profiles.json` (version 1). Unknown credential types are skipped.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthProfiles {
    profiles: BTreeMap<String, Value>,
    order: BTreeMap<String, Vec<String>>,
    pub usage_stats: BTreeMap<String, Stats>,
}

struct Credential {
    provider: String,
    secret: Secret,
    /// 0 OAuth, 1 token, 2 API key: the order without an explicit one.
    rank: u8,
    expires_ms: Option<f64>,
}

impl AuthProfiles {
    /// Reads the agent's file and, for what it lacks, the main agent's. A file that is not there is an empty one;
    /// one that cannot be read is reported and counts as empty.
    pub fn read(agent_file: &Path, main_file: Option<&Path>) -> Self {
        let mut own = read_file(agent_file);
        if let Some(main) = main_file.filter(|m| *m != agent_file).map(read_file) {
            for (id, value) in main.profiles {
                own.profiles.entry(id).or_insert(value);
            }
            for (provider, order) in main.order {
                own.order.entry(provider).or_insert(order);
            }
            for (id, stats) in main.usage_stats {
                own.usage_stats.entry(id).or_insert(stats);
            }
        }
        own
    }

    /// The provider's usable profiles, best first; those that rest come last, the soonest back first. `stats` tells how
    /// each fares.
    pub fn ordered(
        &self,
        provider: &str,
        auth: &AuthSection,
        stats: &dyn Fn(&str) -> Stats,
        now_ms: f64,
    ) -> Vec<KeyChoice> {
        let explicit = self.order.get(provider).or_else(|| auth.order.get(provider));
        let listed: Vec<String> = match explicit {
            Some(order) => order.clone(),
            None => {
                let named: Vec<String> = auth
                    .profiles
                    .iter()
                    .filter(|(_, p)| catalog::normalised(&p.provider) == provider)
                    .map(|(id, _)| id.clone())
                    .collect();
                if named.is_empty() { self.profiles.keys().cloned().collect() } else { named }
            }
        };
        let mut seen = HashSet::new();
        let mut found: Vec<(String, Credential)> = listed
            .into_iter()
            .filter(|id| seen.insert(id.clone()))
            .filter_map(|id| self.credential(&id).map(|c| (id, c)))
            .filter(|(_, c)| c.provider == provider && c.expires_ms.is_none_or(|at| at > now_ms))
            .collect();
        let exempt = cooldown::exempt(provider);
        let rest = |id: &str| if exempt { None } else { stats(id).rest(now_ms) };
        if explicit.is_none() {
            found.sort_by(|(a, x), (b, y)| {
                x.rank.cmp(&y.rank).then(stats(a).last_used.total_cmp(&stats(b).last_used))
            });
        }
        // Stable: those that do not rest keep their order.
        found.sort_by(|(a, _), (b, _)| {
            let until = |id: &str| rest(id).map_or(0.0, |rest| rest.until_ms);
            until(a).total_cmp(&until(b))
        });
        found
            .into_iter()
            .map(|(id, c)| KeyChoice {
                secret: c.secret,
                source: format!("profile:{id}"),
                bearer: c.rank < 2,
                rest: rest(&id),
                profile: Some(id),
            })
            .collect()
    }

    fn credential(&self, id: &str) -> Option<Credential> {
        let value = self.profiles.get(id)?;
        let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let (rank, secret) = match text("type")? {
            "oauth" => (0, text("access")?),
            "token" => (1, text("token")?),
            "api_key" => (2, text("key")?),
            _ => return None,
        };
        let provider = text("provider").or_else(|| id.split(':').next())?;
        let expires_ms = value.get("expires").and_then(Value::as_f64).filter(|at| *at > 0.0);
        Some(Credential {
            provider: catalog::normalised(provider),
            secret: Secret::new(secret),
            rank,
            expires_ms,
        })
    }
}

fn read_file(path: &Path) -> AuthProfiles {
    let text = match std::fs::metadata(path) {
        Ok(meta) if meta.len() > PROFILES_BYTES_MAX => {
            tracing::warn!(path = %path.display(), "auth profiles are larger than {PROFILES_BYTES_MAX} bytes: not read");
            return AuthProfiles::default();
        }
        Ok(_) => std::fs::read_to_string(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return AuthProfiles::default(),
        Err(e) => Err(e),
    };
    // Neither error may quote the file: a parse error's text can hold a piece of a key.
    match text.map(|t| serde_json::from_str(&t)) {
        Ok(Ok(read)) => read,
        Ok(Err(e)) => {
            let line = e.line();
            tracing::warn!(path = %path.display(), line, "auth profiles are not valid JSON of the expected shape");
            AuthProfiles::default()
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "auth profiles cannot be read");
            AuthProfiles::default()
        }
    }
}

/// The provider's keys, best first: profiles, environment, config.
pub fn keys(
    provider: &str,
    settings: Option<&ProviderSettings>,
    auth: &AuthSection,
    profiles: &AuthProfiles,
    secrets: &BTreeMap<String, Secret>,
    stats: &dyn Fn(&str) -> Stats,
    now_ms: f64,
) -> Vec<KeyChoice> {
    let mut found = profiles.ordered(provider, auth, stats, now_ms);
    let bearer = |name: &str| name.ends_with("_OAUTH_TOKEN");
    let usable = |name: &str| secrets.get(name).filter(|s| !s.expose().trim().is_empty()).cloned();
    for name in env_names(provider) {
        if let Some(secret) = usable(&name) {
            let bearer = bearer(&name) || is_oauth_token(&secret);
            found.push(KeyChoice::plain(secret, format!("env: {name}"), bearer));
        }
    }
    let place = format!("models.providers.{provider}.apiKey");
    for name in [format!("provider:{provider}"), place.clone()] {
        if let Some(secret) = usable(&name) {
            let bearer = is_oauth_token(&secret);
            found.push(KeyChoice::plain(secret, place.clone(), bearer));
        }
    }
    let literal = settings.and_then(|s| s.api_key.as_ref()).and_then(Value::as_str).map(str::trim);
    if let Some(text) = literal.filter(|t| !t.is_empty()) {
        match usable(text) {
            Some(secret) => found.push(KeyChoice::plain(secret, format!("env: {text}"), bearer(text))),
            // An unresolved reference or a masked value is no key.
            None if text.starts_with("${") || text.contains("REDACTED") => {}
            None => {
                let secret = Secret::new(text);
                let bearer = is_oauth_token(&secret);
                found.push(KeyChoice::plain(secret, place, bearer));
            }
        }
    }
    found
}

/// The keys in the order in which a session uses them: a person's choice alone, the one used before first unless it
/// rests.
pub fn pinned(mut keys: Vec<KeyChoice>, pin: Option<&Pin>) -> Vec<KeyChoice> {
    let Some(pin) = pin else { return keys };
    let Some(at) = keys.iter().position(|key| key.profile.as_ref() == Some(&pin.profile)) else {
        return keys;
    };
    if pin.by_user {
        return vec![keys.swap_remove(at)];
    }
    if keys[at].rest.is_none() {
        keys[..=at].rotate_right(1);
    }
    keys
}

/// Anthropic's set-up and OAuth tokens are recognised by their prefix wherever they stand.
fn is_oauth_token(secret: &Secret) -> bool {
    secret.expose().starts_with("sk-ant-oat")
}

/// Environment variables for a provider's key, best first.
pub fn env_names(provider: &str) -> Vec<String> {
    match (catalog::find(provider), provider) {
        (Some(built_in), _) => built_in.env.iter().map(|n| (*n).to_owned()).collect(),
        (None, "kimi-coding") => vec!["KIMI_API_KEY".to_owned()],
        (None, "github-copilot") => {
            ["COPILOT_GITHUB_TOKEN", "GH_TOKEN", "GITHUB_TOKEN"].map(str::to_owned).to_vec()
        }
        (None, other) => {
            let name: String = other
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            vec![format!("{name}_API_KEY")]
        }
    }
}

#[cfg(test)]
mod tests;
