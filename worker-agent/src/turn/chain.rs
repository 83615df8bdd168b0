//! Which models a run asks, in which order, and with which key: what the session, the run and the configuration say, and
//! how the keys fare.

use proto::wire::agent::RunError;

use super::driver::Run;
use super::source::ModelSource;
use crate::provider::auth::Pin;
use crate::provider::select::ModelRef;
use crate::session::store::SessionEntry;

/// The model that the run or the session asks for, if one does.
pub fn wish(run: &Run) -> Option<String> {
    let overrides = &run.spec.overrides;
    wish_of(overrides.provider.as_deref(), overrides.model.as_deref(), &run.entry)
}

/// The same from its parts: what the run wants, else what the session wants.
pub fn wish_of(provider: Option<&str>, model: Option<&str>, entry: &SessionEntry) -> Option<String> {
    match (provider, model) {
        (Some(provider), Some(model)) => Some(format!("{provider}/{model}")),
        (None, Some(model)) => Some(model.to_owned()),
        _ => entry.str("modelOverride").map(|model| match entry.str("providerOverride") {
            Some(provider) if !model.contains('/') => format!("{provider}/{model}"),
            _ => model.to_owned(),
        }),
    }
}

/// The auth profile that the session uses: one that a person chose, or the one before, as long as nothing was compacted
/// since (after that no prompt is cached with the vendor).
pub fn pin(entry: &SessionEntry) -> Option<Pin> {
    let profile = entry.str("authProfileOverride")?.to_owned();
    let by_user = entry.str("authProfileOverrideSource") == Some("user");
    let count = |key: &str| entry.0.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let stale = count("authProfileOverrideCompactionCount") != count("compactionCount");
    (by_user || !stale).then_some(Pin { profile, by_user })
}

/// The auth profile of the model that answered, as it would be chosen again now: one that was limited on the way rests,
/// and the next one is named.
pub fn profile_used(run: &Run) -> Option<String> {
    let answered = run.heard.facts.as_ref()?;
    let wanted = ModelRef { provider: answered.provider.clone(), id: answered.id.clone() };
    run.active.models.facts(&wanted).ok()?.profile
}

/// Binds the session to a profile, unless a person bound it to one.
pub fn remember(entry: &mut SessionEntry, profile: Option<String>) {
    let by_user = entry.str("authProfileOverrideSource") == Some("user");
    let Some(profile) = profile.filter(|_| !by_user) else { return };
    let compactions = entry.0.get("compactionCount").cloned().unwrap_or_else(|| 0.into());
    entry.set("authProfileOverride", profile);
    entry.set("authProfileOverrideSource", "auto");
    entry.set("authProfileOverrideCompactionCount", compactions);
}

/// The models in the order in which they are asked: those whose keys all rest come last. They are not left out: when
/// nobody else can answer, one more refusal costs less than silence.
pub fn awake_first(models: &dyn ModelSource, chain: Vec<ModelRef>) -> Vec<ModelRef> {
    if chain.len() < 2 {
        return chain;
    }
    let (awake, resting): (Vec<_>, Vec<_>) = chain.into_iter().partition(|wanted| {
        let rest = models.resting(wanted);
        if let Some(rest) = &rest {
            tracing::info!(model = %wanted, reason = rest.reason, "passed over for now: all its keys rest");
        }
        rest.is_none()
    });
    awake.into_iter().chain(resting).collect()
}

/// One error for a run that nobody could answer: every model with its cause.
pub fn all_failed(mut attempts: Vec<RunError>) -> Option<RunError> {
    let last = attempts.pop()?;
    if attempts.is_empty() {
        return Some(last);
    }
    let count = attempts.len() + 1;
    let told: Vec<&str> = attempts.iter().chain([&last]).map(|error| error.message.as_str()).collect();
    let message = format!("All {count} models failed.\n- {}", told.join("\n- "));
    Some(RunError { message, ..last })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(message: &str, kind: &str) -> RunError {
        RunError { kind: kind.to_owned(), message: message.to_owned(), ..RunError::default() }
    }

    #[test]
    fn one_failure_is_told_as_it_is_and_several_as_a_list() {
        assert_eq!(all_failed(Vec::new()), None);
        assert_eq!(all_failed(vec![error("a/x: no.", "auth")]), Some(error("a/x: no.", "auth")));
        let both = all_failed(vec![error("a/x: no.", "auth"), error("b/y: full.", "rate_limit")]).unwrap();
        assert_eq!(both, error("All 2 models failed.\n- a/x: no.\n- b/y: full.", "rate_limit"));
    }

    #[test]
    fn a_profile_used_before_is_kept_until_a_compaction_and_a_chosen_one_for_good() {
        let pinned = |fields: serde_json::Value| {
            let mut entry = SessionEntry::default();
            for (key, value) in fields.as_object().unwrap() {
                entry.set(key, value.clone());
            }
            pin(&entry).map(|pin| (pin.profile, pin.by_user))
        };
        assert_eq!(pinned(json!({})), None);
        let auto = json!({"authProfileOverride": "p:a", "authProfileOverrideSource": "auto", "authProfileOverrideCompactionCount": 1, "compactionCount": 1});
        assert_eq!(pinned(auto.clone()), Some(("p:a".to_owned(), false)));
        let mut compacted = auto;
        compacted["compactionCount"] = json!(2);
        assert_eq!(pinned(compacted.clone()), None);
        compacted["authProfileOverrideSource"] = json!("user");
        assert_eq!(pinned(compacted), Some(("p:a".to_owned(), true)));
    }
}
