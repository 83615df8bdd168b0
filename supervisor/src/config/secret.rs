//! Secrets in memory: a text that is never printed and is wiped when dropped, and the forms in which a file names one.

use super::environment::Environment;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Trimmed; empty is no secret.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

/// As written: the text itself, or a reference to where it is kept.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretInput {
    Text(String),
    Reference(SecretReference),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// `env`, `file`, `exec` or `store`; only `env` is read so far.
    pub source: String,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "part of the form that the file may have; sources other than env are not read"
    )]
    pub provider: Option<String>,
    pub id: String,
}

impl SecretInput {
    /// The secret, when it can be had without a program or a file.
    #[must_use]
    pub fn resolve(&self, env: &Environment) -> Option<Secret> {
        match self {
            Self::Text(text) if super::substitute::is_reference(text.trim()) => None,
            Self::Text(text) => Secret::new(text),
            Self::Reference(reference) if reference.source == "env" => {
                env.get(&reference.id).and_then(Secret::new)
            }
            Self::Reference(_) => None,
        }
    }

    #[must_use]
    pub fn from_value(value: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(value.clone()).ok()
    }
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("<secret>"),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}
