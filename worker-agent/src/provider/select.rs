//! Which model a text means: references, aliases, allow-list, fallbacks. Pure.

use super::catalog;
use super::settings::{ModelWish, Settings};

/// A reference taken apart: normalised provider and the vendor's own id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelRef {
    pub provider: String,
    pub id: String,
}

impl std::fmt::Display for ModelRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.id)
    }
}

/// Why a text names no usable model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error(
        "the model reference is empty: write provider/model, for instance {}",
        catalog::DEFAULT_REFERENCE
    )]
    Empty,
    #[error(
        "unknown model: {reference}: there is no provider \"{provider}\". Describe it in models.providers.{provider} or use one of {known}"
    )]
    UnknownProvider { reference: String, provider: String, known: String },
    #[error("unknown model: {reference}. Models of {provider}: {known}")]
    UnknownModel { reference: String, provider: String, known: String },
    #[error(
        "model {reference} is not allowed here: agents.defaults.models does not list it. Use /model list to see what is"
    )]
    NotAllowed { reference: String },
    #[error("provider \"{provider}\" has no baseUrl: set models.providers.{provider}.baseUrl")]
    NoBaseUrl { provider: String },
    #[error("provider \"{provider}\" asks for the api \"{api}\", which is not available. Known: {known}")]
    UnknownApi { provider: String, api: String, known: String },
}

/// Splits at the first slash; without one the text is a model of `default_provider`.
pub fn parse(text: &str, default_provider: &str) -> Result<ModelRef, SelectError> {
    let text = text.trim();
    let (provider, id) = text.split_once('/').unwrap_or((default_provider, text));
    let id = id.trim();
    if provider.trim().is_empty() || id.is_empty() {
        return Err(SelectError::Empty);
    }
    Ok(ModelRef { provider: catalog::normalised(provider), id: id.to_owned() })
}

/// The reference that a text means, aliases included.
pub fn meant(text: &str, settings: &Settings) -> Result<ModelRef, SelectError> {
    let text = text.trim();
    let listed = &settings.defaults.models;
    let by_alias = listed
        .iter()
        .find(|(_, entry)| entry.alias.as_deref().is_some_and(|a| a.trim().eq_ignore_ascii_case(text)))
        .map(|(reference, _)| reference.as_str());
    let built_in = || {
        let (_, reference) = catalog::ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(text))?;
        listed.contains_key(*reference).then_some(*reference)
    };
    let text = by_alias.or_else(built_in).unwrap_or(text);
    parse(text, catalog::DEFAULT_PROVIDER)
}

/// The configured model of an agent (built-in default when nothing is said) and its fallbacks.
pub fn configured(settings: &Settings, agent_id: &str) -> (String, Vec<String>) {
    let own = settings.agent(agent_id).and_then(|a| a.model.as_ref());
    let shared = settings.defaults.model.as_ref();
    let primary = own
        .and_then(ModelWish::primary)
        .or_else(|| shared.and_then(ModelWish::primary))
        .unwrap_or(catalog::DEFAULT_REFERENCE);
    let fallbacks = own.and_then(ModelWish::fallbacks).or_else(|| shared.and_then(ModelWish::fallbacks));
    (primary.to_owned(), fallbacks.unwrap_or_default().to_vec())
}

/// Models to try for a turn, in order, each once: the requested one, the fallbacks, the configured primary.
/// A requested model of another provider that is not among the fallbacks gets only the primary after it.
pub fn chain(
    requested: Option<&str>,
    settings: &Settings,
    agent_id: &str,
) -> Result<Vec<ModelRef>, SelectError> {
    let (primary, fallbacks) = configured(settings, agent_id);
    let primary = meant(&primary, settings)?;
    // A typing error in a fallback must not stop the turn.
    let fallbacks: Vec<ModelRef> = fallbacks.iter().filter_map(|f| meant(f, settings).ok()).collect();
    let first = requested.map(|text| meant(text, settings)).transpose()?.unwrap_or_else(|| primary.clone());
    let foreign = first.provider != primary.provider && !fallbacks.contains(&first);
    let mut out = vec![first];
    let rest = if foreign { Vec::new() } else { fallbacks };
    for next in rest.into_iter().chain([primary]) {
        if !out.contains(&next) {
            out.push(next);
        }
    }
    Ok(out)
}

/// Whether a person may switch to this model: `agents.defaults.models`, when it lists anything, is the list of
/// what is allowed, with the configured providers' own models, the agent's model and its fallbacks.
pub fn allowed(wanted: &ModelRef, settings: &Settings, agent_id: &str) -> bool {
    let listed = &settings.defaults.models;
    if listed.is_empty() {
        return true;
    }
    let same = |text: &str| meant(text, settings).is_ok_and(|r| r == *wanted);
    let (primary, fallbacks) = configured(settings, agent_id);
    listed.keys().any(|text| same(text))
        || same(&primary)
        || fallbacks.iter().any(|text| same(text))
        || settings.models.providers.iter().any(|(id, p)| {
            catalog::normalised(id) == wanted.provider && p.models.iter().any(|m| m.id == wanted.id)
        })
}

#[cfg(test)]
mod tests;
