//! The parts of the configuration that decide about models, read leniently: the file was validated before it
//! came here, so a part that does not fit is left out with a warning instead of failing every turn.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::cooldown::Rules;
use super::model::{Compat, Input, Price};

/// `models`, `auth`, and what `agents` says of models.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub models: ModelsSection,
    pub defaults: AgentSettings,
    pub agents: Vec<AgentSettings>,
    pub auth: AuthSection,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelsSection {
    /// `merge` (the default) keeps the built-in providers, `replace` drops them.
    pub mode: Option<String>,
    #[serde(deserialize_with = "each_that_fits")]
    pub providers: BTreeMap<String, ProviderSettings>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderSettings {
    pub base_url: Option<String>,
    /// A key, the name of an environment variable, or a reference that was resolved into the secrets.
    pub api_key: Option<Value>,
    pub auth: Option<String>,
    pub api: Option<String>,
    pub headers: BTreeMap<String, String>,
    /// False: send no key header of our own.
    pub auth_header: Option<bool>,
    pub models: Vec<ModelSettings>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelSettings {
    pub id: String,
    pub name: Option<String>,
    pub api: Option<String>,
    pub reasoning: Option<bool>,
    pub input: Option<Vec<Input>>,
    pub cost: Option<Price>,
    pub context_window: Option<u32>,
    pub max_tokens: Option<u32>,
    pub headers: BTreeMap<String, String>,
    pub compat: Option<Compat>,
}

/// `agents.defaults`, or one agent of `agents.list` or `agents.entries`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentSettings {
    pub id: String,
    pub model: Option<ModelWish>,
    pub image_model: Option<ModelWish>,
    /// Catalogue of `agents.defaults.models`: alias and parameters; non-empty = allow-list.
    #[serde(deserialize_with = "each_that_fits")]
    pub models: BTreeMap<String, CatalogueEntry>,
    pub params: Map<String, Value>,
    pub thinking_default: Option<String>,
    pub retry: Option<Value>,
}

/// `"provider/model"` or `{primary, fallbacks}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ModelWish {
    Primary(String),
    Full {
        #[serde(default)]
        primary: Option<String>,
        #[serde(default)]
        fallbacks: Option<Vec<String>>,
    },
}

impl ModelWish {
    pub fn primary(&self) -> Option<&str> {
        match self {
            ModelWish::Primary(text) => Some(text.as_str()),
            ModelWish::Full { primary, .. } => primary.as_deref(),
        }
        .map(str::trim)
        .filter(|text| !text.is_empty())
    }

    pub fn fallbacks(&self) -> Option<&[String]> {
        match self {
            ModelWish::Primary(_) => None,
            ModelWish::Full { fallbacks, .. } => fallbacks.as_deref(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CatalogueEntry {
    pub alias: Option<String>,
    pub params: Map<String, Value>,
}

/// `auth`: which profiles exist and in which order they are tried. Holds no secret.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthSection {
    #[serde(deserialize_with = "each_that_fits")]
    pub profiles: BTreeMap<String, ProfileSettings>,
    #[serde(deserialize_with = "each_that_fits")]
    pub order: BTreeMap<String, Vec<String>>,
    pub cooldowns: Rules,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSettings {
    pub provider: String,
    pub mode: Option<String>,
}

impl Settings {
    /// Reads the whole configuration object.
    pub fn from_config(config: &Value) -> Self {
        let listed = config.pointer("/agents/list").and_then(Value::as_array);
        let mut agents: Vec<AgentSettings> =
            listed.into_iter().flatten().filter_map(|agent| fitting("agents.list[]", agent)).collect();
        // The keyed map of newer releases; an agent that stands in both is the one of the list.
        let keyed = config.pointer("/agents/entries").and_then(Value::as_object);
        for (id, entry) in keyed.into_iter().flatten() {
            let entry: Option<AgentSettings> = fitting("agents.entries", entry);
            agents.extend(entry.map(|entry| AgentSettings { id: id.clone(), ..entry }));
        }
        Self {
            models: part(config, "/models"),
            defaults: part(config, "/agents/defaults"),
            agents,
            auth: part(config, "/auth"),
        }
    }

    pub fn agent(&self, id: &str) -> Option<&AgentSettings> {
        self.agents.iter().find(|a| a.id.eq_ignore_ascii_case(id))
    }
}

fn part<T: DeserializeOwned + Default>(config: &Value, pointer: &str) -> T {
    config.pointer(pointer).and_then(|value| fitting(pointer, value)).unwrap_or_default()
}

fn fitting<T: DeserializeOwned>(place: &str, value: &Value) -> Option<T> {
    match T::deserialize(value) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::warn!(place, %error, "this part of the configuration does not fit and is left out");
            None
        }
    }
}

/// A map whose misfits are left out one by one.
fn each_that_fits<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    let raw = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(raw.into_iter().filter_map(|(key, value)| fitting(&key, &value).map(|v| (key, v))).collect())
}
