//! A shared secret that never shows itself: no `Debug` text, wiped on drop, compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Token or password of the gateway.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// `None` for empty or blank text, which counts as "not configured".
    pub fn new(text: &str) -> Option<Self> {
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self(Zeroizing::new(trimmed.to_owned())))
    }

    /// Whether `offered` is this secret. Takes the same time for any input of one length, and the
    /// length of the secret does not show either, since digests are compared.
    pub fn matches(&self, offered: &str) -> bool {
        same(&self.0, offered)
    }

    /// What tells two secrets apart and tells nothing else. Never logged or stored.
    pub fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }

    /// The text itself, for the few places that must hand it on.
    #[cfg(test)]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Constant-time equality of two texts by their digests.
pub fn same(a: &str, b: &str) -> bool {
    Sha256::digest(a.as_bytes()).ct_eq(&Sha256::digest(b.as_bytes())).into()
}

/// 32 random bytes, base64url without padding: 43 characters.
///
/// # Errors
/// The system's random source failed.
pub fn random_token() -> Result<String, getrandom::Error> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_whole_texts_and_hides_itself() {
        let secret = Secret::new("  s3cret ").unwrap();
        assert!(secret.matches("s3cret"));
        assert!(!secret.matches("s3cre"));
        assert!(!secret.matches("s3crets"));
        assert!(!secret.matches(""));
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
        assert!(Secret::new(" \t").is_none());
    }

    #[test]
    fn tokens_are_43_characters_and_differ() {
        let a = random_token().unwrap();
        assert_eq!(a.len(), 43);
        assert_ne!(a, random_token().unwrap());
    }
}
