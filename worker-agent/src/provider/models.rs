//! What a turn uses: selects models and streams their replies, with keys, parameters, prices and retries applied.
//! Built from one configuration and its secrets; a change of either makes a new one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::auth::ledger::Ledger;
use super::auth::{self, AuthProfiles, KeyChoice, Pin};
use super::catalog;
use super::cooldown::Rest;
use super::failure::{ProviderError, Reason};
use super::http::{self, Http};
use super::model::{Deadlines, Endpoint, Model, Secret};
use super::retry::{self, Bounds, RetryBudget, RetryPolicy, Variant};
use super::select::{self, ModelRef, SelectError};
use super::settings::{ModelSettings, ProviderSettings, Settings};
use super::types::{ModelRequest, ProviderEvent};
use super::{Call, EventStream, Provider};

/// All that is known of models. Cheap to clone.
#[derive(Clone)]
pub struct Models {
    shared: Arc<Inner>,
    /// The auth profile of the session that these are used for.
    pin: Option<Pin>,
}

struct Inner {
    agent_id: String,
    settings: Settings,
    profiles: AuthProfiles,
    ledger: Ledger,
    secrets: BTreeMap<String, Secret>,
    retry: RetryPolicy,
    http: Http,
}

/// A model that can be called, with where it is and how.
#[derive(Clone)]
pub struct Selected {
    pub model: Arc<Model>,
    pub endpoint: Arc<Endpoint>,
    /// Where the key came from; `None` when there is none.
    pub key_source: Option<String>,
    /// What has to be set when a key is needed and none was found.
    pub missing_key: Option<String>,
    provider: &'static dyn Provider,
    /// `params` of the model's settings: defaults of every request.
    pub params: Map<String, Value>,
    /// The keys, best first: the others are for when the first one is refused or limited.
    keys: Vec<KeyChoice>,
}

impl std::fmt::Debug for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selected")
            .field("model", &self.model.reference())
            .field("key", &self.key_source)
            .finish()
    }
}

impl Models {
    /// `config` is the whole configuration object. `secrets` by name: environment variables
    /// (`OPENROUTER_API_KEY`), `provider:<id>`, or `models.providers.<id>.apiKey`.
    pub fn new(
        agent_id: &str,
        config: &Value,
        secrets: impl IntoIterator<Item = (String, String)>,
        profiles: AuthProfiles,
    ) -> Self {
        Self::kept_in(None, agent_id, config, secrets, profiles)
    }

    /// How the profiles fare is kept in `file`.
    fn kept_in(
        file: Option<PathBuf>,
        agent_id: &str,
        config: &Value,
        secrets: impl IntoIterator<Item = (String, String)>,
        profiles: AuthProfiles,
    ) -> Self {
        let settings = Settings::from_config(config);
        let own = settings.agent(agent_id).and_then(|a| a.retry.as_ref());
        let retry = RetryPolicy::from_config(own.or(settings.defaults.retry.as_ref()));
        let secrets = secrets.into_iter().map(|(name, text)| (name, Secret::new(text))).collect();
        let (rules, stats) = (settings.auth.cooldowns.clone(), profiles.usage_stats.clone());
        let shared = Inner {
            agent_id: agent_id.to_owned(),
            settings,
            profiles,
            ledger: Ledger::new(file, rules, stats),
            secrets,
            retry,
            http: Http::default(),
        };
        Self { shared: Arc::new(shared), pin: None }
    }

    /// The same, used with the auth profile of one session.
    pub fn pinned(&self, pin: Pin) -> Self {
        Self { shared: self.shared.clone(), pin: Some(pin) }
    }

    /// The same with the auth profiles of `<agent_dir>/auth-profiles.json`, completed by the main agent's.
    pub fn open(
        agent_id: &str,
        config: &Value,
        secrets: impl IntoIterator<Item = (String, String)>,
        agent_dir: &Path,
        main_agent_dir: Option<&Path>,
    ) -> Self {
        let file = |dir: &Path| dir.join("auth-profiles.json");
        let own = file(agent_dir);
        let profiles = AuthProfiles::read(&own, main_agent_dir.map(file).as_deref());
        Self::kept_in(Some(own), agent_id, config, secrets, profiles)
    }

    /// Models to try for a turn, in order. `requested` is the override of the run or the session.
    pub fn chain(&self, requested: Option<&str>) -> Result<Vec<ModelRef>, SelectError> {
        select::chain(requested, &self.shared.settings, &self.shared.agent_id)
    }

    /// What a text means, if a person may switch to it.
    pub fn permitted(&self, text: &str) -> Result<ModelRef, SelectError> {
        let wanted = select::meant(text, &self.shared.settings)?;
        if !select::allowed(&wanted, &self.shared.settings, &self.shared.agent_id) {
            return Err(SelectError::NotAllowed { reference: wanted.to_string() });
        }
        self.select(&wanted)?;
        Ok(wanted)
    }

    /// The model behind a reference. A missing key is not an error here: it becomes one when the model is called,
    /// so that the turn can go on to a fallback.
    pub fn select(&self, wanted: &ModelRef) -> Result<Selected, SelectError> {
        let inner = &self.shared;
        let configured = self.configured(&wanted.provider);
        let built_in = self.built_in(&wanted.provider);
        if configured.is_none() && built_in.is_none() {
            return Err(SelectError::UnknownProvider {
                reference: wanted.to_string(),
                provider: wanted.provider.clone(),
                known: self.provider_ids().join(", "),
            });
        }
        let model = self.describe(wanted)?;
        let provider = super::by_kind(&model.api).ok_or_else(|| SelectError::UnknownApi {
            provider: wanted.provider.clone(),
            api: model.api.clone(),
            known: super::all().iter().map(|p| p.kind()).collect::<Vec<_>>().join(", "),
        })?;
        let base_url = configured
            .and_then(|c| c.base_url.as_deref())
            .map(str::trim)
            .filter(|u| !u.is_empty())
            .or(built_in.map(|b| b.base_url))
            .ok_or_else(|| SelectError::NoBaseUrl { provider: wanted.provider.clone() })?;
        let wants_key = configured.and_then(|c| c.auth_header) != Some(false);
        let mut keys =
            if wants_key { auth::pinned(self.keys(&wanted.provider), self.pin.as_ref()) } else { Vec::new() };
        // The same key from two places is one key: a second refusal would tell nothing.
        let mut seen: Vec<Secret> = Vec::new();
        keys.retain(|key| {
            !seen.contains(&key.secret) && {
                seen.push(key.secret.clone());
                true
            }
        });
        let key = keys.first();
        let keyless = !wants_key || built_in.is_some_and(|b| b.keyless) || http::is_local(base_url);
        let missing_key = (key.is_none() && !keyless).then(|| {
            let names = auth::env_names(&wanted.provider).join(" or ");
            format!("set {names} in the environment, or models.providers.{}.apiKey", wanted.provider)
        });
        let mut headers = configured.map(|c| c.headers.clone()).unwrap_or_default();
        headers.extend(model.headers.clone());
        let endpoint = Endpoint {
            base_url: base_url.trim_end_matches('/').to_owned(),
            bearer: key.is_some_and(|k| k.bearer),
            key: key.map(|k| k.secret.clone()),
            headers,
            deadlines: Deadlines::for_url(base_url),
        };
        Ok(Selected {
            params: inner.params(&model),
            model: Arc::new(model),
            endpoint: Arc::new(endpoint),
            key_source: key.map(|k| k.source.clone()),
            missing_key,
            provider,
            keys,
        })
    }

    /// Streams one reply with retries. `budget` belongs to the turn: it bounds repetitions over all its calls.
    pub fn stream(
        &self,
        selected: &Selected,
        mut request: ModelRequest,
        budget: &RetryBudget,
        cancel: CancellationToken,
    ) -> EventStream {
        if let Some(remedy) = &selected.missing_key {
            let model = &selected.model;
            let error = ProviderError::new(Reason::MissingKey, &model.provider, &model.id, remedy);
            return Box::pin(stream::once(async move { Err(error) }));
        }
        let asked = std::mem::take(&mut request.params);
        request.params = selected.params.clone();
        request.params.extend(asked);
        request.temperature =
            request.temperature.or_else(|| request.params.get("temperature").and_then(Value::as_f64));
        let limit =
            request.params.get("maxTokens").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        request.max_tokens = request.max_tokens.or(limit);
        let level = request.thinking.fitted(&selected.model.id);
        let call = Call {
            model: selected.model.clone(),
            endpoint: selected.endpoint.clone(),
            request: Arc::new(request),
            http: self.shared.http.clone(),
        };
        let price = selected.model.price;
        let bounds = Bounds {
            policy: self.shared.retry,
            budget: budget.clone(),
            keys: selected.keys.len().max(1),
            level,
            ended: self.recorder(selected),
        };
        let (model, token, selected) = (selected.model.clone(), cancel.clone(), selected.clone());
        let start =
            move |variant: Variant| selected.provider.stream(selected.varied(&call, variant), token.clone());
        let events = retry::with_retries(start, model, bounds, cancel);
        Box::pin(events.map(move |event| match event {
            Ok(ProviderEvent::Usage(usage)) => Ok(ProviderEvent::Usage(price.priced(usage))),
            other => other,
        }))
    }

    /// Writes down how the profiles behind the selected keys fare.
    fn recorder(&self, selected: &Selected) -> retry::Ended {
        let profiles: Vec<Option<String>> = selected.keys.iter().map(|key| key.profile.clone()).collect();
        let (ledger, provider) = (self.shared.ledger.clone(), selected.model.provider.clone());
        Box::new(move |key, failure| {
            if let Some(id) = profiles.get(key).and_then(Option::as_deref) {
                ledger.record(id, &provider, failure, now_ms());
            }
        })
    }

    /// The keys of a provider, best first.
    pub fn keys(&self, provider: &str) -> Vec<KeyChoice> {
        let inner = &self.shared;
        let configured = self.configured(provider);
        let (auth, profiles, secrets) = (&inner.settings.auth, &inner.profiles, &inner.secrets);
        auth::keys(provider, configured, auth, profiles, secrets, &|id| inner.ledger.of(id), now_ms())
    }

    /// Why a model should be passed over for now: every key of its provider rests. `None` once in a while for one that
    /// is only limited, so that the end of the limit is found.
    pub fn resting(&self, wanted: &ModelRef) -> Option<Rest> {
        let keys = self.keys(&wanted.provider);
        let rests: Vec<Rest> = keys.iter().filter_map(|key| key.rest.clone()).collect();
        if keys.is_empty() || rests.len() < keys.len() {
            return None;
        }
        let soonest = rests.into_iter().min_by(|a, b| a.until_ms.total_cmp(&b.until_ms))?;
        (!self.shared.ledger.may_probe(&wanted.provider, &soonest, now_ms())).then_some(soonest)
    }

    /// Ids of all providers that a reference may name.
    pub fn provider_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.shared.settings.models.providers.keys().map(|id| catalog::normalised(id)).collect();
        ids.extend(catalog::ALL.iter().filter(|b| self.built_in(b.id).is_some()).map(|b| b.id.to_owned()));
        ids.sort();
        ids.dedup();
        ids
    }

    /// Rows of `models.list`. Protocol 3 knows fewer fields. The default view shows what the config speaks of
    /// (allow-list or configured providers, and the agent's own models), or everything when it says nothing;
    /// `view` = `all` shows everything.
    pub fn rows(&self, protocol: u8, view: &str) -> Vec<Value> {
        let inner = &self.shared;
        let mut refs: Vec<ModelRef> = Vec::new();
        let mut add = |wanted: ModelRef| {
            if !refs.contains(&wanted) {
                refs.push(wanted);
            }
        };
        let everything = view == "all" || inner.settings.defaults.models.is_empty();
        self.chain(None).unwrap_or_default().into_iter().for_each(&mut add);
        let listed = inner.settings.defaults.models.keys();
        listed.filter_map(|text| select::meant(text, &inner.settings).ok()).for_each(&mut add);
        for (id, provider) in &inner.settings.models.providers {
            for model in &provider.models {
                add(ModelRef { provider: catalog::normalised(id), id: model.id.clone() });
            }
        }
        if everything && view != "configured" {
            for built_in in catalog::ALL.iter().filter(|b| self.built_in(b.id).is_some()) {
                built_in.models().for_each(|m| add(ModelRef { provider: m.provider, id: m.id }));
            }
        }
        refs.iter().filter_map(|wanted| self.select(wanted).ok().map(|s| self.row(&s, protocol))).collect()
    }

    fn row(&self, selected: &Selected, protocol: u8) -> Value {
        let model = &selected.model;
        let mut row = json!({
            "id": model.id,
            "name": model.name,
            "provider": model.provider,
            "contextWindow": model.context_window.max(1),
            "reasoning": model.reasoning,
        });
        if protocol >= 4
            && let Some(fields) = row.as_object_mut()
        {
            fields.insert("input".into(), json!(model.input));
            fields.insert("available".into(), json!(selected.missing_key.is_none()));
            if selected.missing_key.is_some() {
                fields.insert("unavailableReason".into(), json!("missing-auth"));
            }
            let alias = self.alias(&model.reference());
            if let Some(alias) = alias {
                fields.insert("alias".into(), json!(alias));
            }
        }
        row
    }

    fn alias(&self, reference: &str) -> Option<String> {
        let entry = self.shared.settings.defaults.models.get(reference)?;
        entry.alias.clone().filter(|a| !a.is_empty())
    }

    fn configured(&self, provider: &str) -> Option<&ProviderSettings> {
        let providers = &self.shared.settings.models.providers;
        providers.iter().find(|(id, _)| catalog::normalised(id) == provider).map(|(_, p)| p)
    }

    fn built_in(&self, provider: &str) -> Option<&'static catalog::BuiltIn> {
        let replaced = self.shared.settings.models.mode.as_deref() == Some("replace");
        catalog::find(provider).filter(|b| !replaced || b.id == "demo")
    }

    fn describe(&self, wanted: &ModelRef) -> Result<Model, SelectError> {
        let configured = self.configured(&wanted.provider);
        let built_in = self.built_in(&wanted.provider);
        let known = built_in.and_then(|b| b.models().find(|m| m.id == wanted.id));
        if known.is_none() && wanted.provider == "demo" {
            return Err(SelectError::UnknownModel {
                reference: wanted.to_string(),
                provider: wanted.provider.clone(),
                known: "demo/demo".to_owned(),
            });
        }
        let api = configured
            .and_then(|c| c.api.as_deref())
            .or(built_in.map(|b| b.api_at(configured.and_then(|c| c.base_url.as_deref()))))
            .unwrap_or("openai-completions");
        let mut model = known.unwrap_or_else(|| Model::unknown(&wanted.provider, &wanted.id, api));
        model.api = api.to_owned();
        if let Some(own) = configured.and_then(|c| c.models.iter().find(|m| m.id == wanted.id)) {
            overlay(&mut model, own);
        }
        Ok(model)
    }
}

impl Selected {
    /// Id of the auth profile that is asked with first.
    pub fn profile(&self) -> Option<&str> {
        self.keys.first()?.profile.as_deref()
    }

    /// The call with another key or thinking level.
    fn varied(&self, call: &Call, variant: Variant) -> Call {
        let mut call = call.clone();
        if call.request.thinking != variant.level {
            Arc::make_mut(&mut call.request).thinking = variant.level;
        }
        if let Some(spare) = self.keys.get(variant.key).filter(|_| variant.key > 0) {
            let endpoint = Arc::make_mut(&mut call.endpoint);
            (endpoint.key, endpoint.bearer) = (Some(spare.secret.clone()), spare.bearer);
        }
        call
    }
}

impl Inner {
    /// `params` of the catalogue entry, overridden by those of the agent.
    fn params(&self, model: &Model) -> Map<String, Value> {
        let reference = model.reference();
        let mut params = self.settings.defaults.params.clone();
        let entry = self.settings.defaults.models.iter().find(|(text, _)| {
            select::parse(text, catalog::DEFAULT_PROVIDER).is_ok_and(|r| r.to_string() == reference)
        });
        params.extend(entry.map(|(_, e)| e.params.clone()).unwrap_or_default());
        params.extend(self.settings.agent(&self.agent_id).map(|a| a.params.clone()).unwrap_or_default());
        params
    }
}

fn now_ms() -> f64 {
    crate::clock::now_ms() as f64
}

fn overlay(model: &mut Model, own: &ModelSettings) {
    let own = own.clone();
    model.name = own.name.unwrap_or_else(|| model.name.clone());
    model.api = own.api.unwrap_or_else(|| model.api.clone());
    model.reasoning = own.reasoning.unwrap_or(model.reasoning);
    model.input = own.input.unwrap_or_else(|| model.input.clone());
    model.price = own.cost.unwrap_or(model.price);
    model.context_window = own.context_window.filter(|n| *n > 0).unwrap_or(model.context_window);
    model.max_tokens = own.max_tokens.filter(|n| *n > 0).unwrap_or(model.max_tokens);
    model.headers = own.headers;
    model.compat = own.compat.unwrap_or_else(|| model.compat.clone());
}

#[cfg(test)]
mod tests;
