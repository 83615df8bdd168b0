//! Pure rule: proof that a client holds the private key of the device that it names.
//!
//! The client signs a line of fields joined by `|` with Ed25519; the line holds the nonce that we sent
//! when the socket opened, so a recorded proof is of no use. Whether that device may do anything here is
//! a question for [`super::pairing`].

use super::limits::DEVICE_SKEW_MS;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// `connect.params.device`, as sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceClaim {
    /// Lower-case hex SHA-256 of the raw public key.
    pub id: String,
    /// base64url of the raw 32 bytes, or PEM.
    pub public_key: String,
    /// base64url (or base64) of the 64-byte signature.
    pub signature: String,
    /// Client's clock, ms since the epoch.
    pub signed_at_ms: i64,
    /// Our challenge, sent back.
    pub nonce: String,
}

/// The fields of `connect` that are part of the signed line.
#[derive(Debug, Clone, Default)]
pub struct SignedFields {
    /// `client.id`.
    pub client_id: String,
    /// `client.mode`.
    pub client_mode: String,
    /// `role`, `operator` when absent.
    pub role: String,
    /// `scopes`, in the order they were sent.
    pub scopes: Vec<String>,
    /// `auth.token`, else `auth.deviceToken`, else `auth.bootstrapToken`, else empty.
    pub token: String,
    /// `client.platform`.
    pub platform: String,
    /// `client.deviceFamily`, empty when absent.
    pub device_family: String,
}

/// A device that proved its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenDevice {
    /// Fingerprint of the key.
    pub id: String,
    /// base64url of the raw 32 bytes, whatever form was sent.
    pub public_key: String,
}

/// Why a proof was refused. The order is the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofError {
    /// The id is not the fingerprint of the key, or the key can't be read.
    IdMismatch,
    /// Signed too long ago, or in the future.
    Stale,
    /// Blank nonce.
    NonceMissing,
    /// Not the nonce of this socket.
    NonceMismatch,
    /// The signature fits neither form of the line.
    Signature,
}

impl ProofError {
    /// `error.message`, also the close reason.
    pub fn message(self) -> &'static str {
        match self {
            Self::IdMismatch => "device identity mismatch",
            Self::Stale => "device signature expired",
            Self::NonceMissing => "device nonce required",
            Self::NonceMismatch => "device nonce mismatch",
            Self::Signature => "device signature invalid",
        }
    }

    /// `error.details.reason`, both protocols.
    pub fn reason(self) -> &'static str {
        match self {
            Self::IdMismatch => "device-id-mismatch",
            Self::Stale => "device-signature-stale",
            Self::NonceMissing => "device-nonce-missing",
            Self::NonceMismatch => "device-nonce-mismatch",
            Self::Signature => "device-signature",
        }
    }

    /// `error.details.code`: one for all in protocol 3, specific in protocol 4.
    pub fn code(self, protocol: u8) -> &'static str {
        if protocol < 4 {
            return "DEVICE_AUTH_INVALID";
        }
        match self {
            Self::IdMismatch => "DEVICE_AUTH_DEVICE_ID_MISMATCH",
            Self::Stale => "DEVICE_AUTH_SIGNATURE_EXPIRED",
            Self::NonceMissing => "DEVICE_AUTH_NONCE_REQUIRED",
            Self::NonceMismatch => "DEVICE_AUTH_NONCE_MISMATCH",
            Self::Signature => "DEVICE_AUTH_SIGNATURE_INVALID",
        }
    }
}

/// Which form of the signed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadForm {
    /// With platform and device family.
    V3,
    /// Without them.
    V2,
}

/// The line that is signed.
pub fn payload(form: PayloadForm, claim: &DeviceClaim, fields: &SignedFields) -> String {
    let tag = match form {
        PayloadForm::V3 => "v3",
        PayloadForm::V2 => "v2",
    };
    let signed_at = claim.signed_at_ms.to_string();
    let scopes = fields.scopes.join(",");
    let mut line = [
        tag,
        &claim.id,
        &fields.client_id,
        &fields.client_mode,
        &fields.role,
        &scopes,
        &signed_at,
        &fields.token,
        &claim.nonce,
    ]
    .join("|");
    if form == PayloadForm::V3 {
        for field in [&fields.platform, &fields.device_family] {
            line.push('|');
            line.push_str(&field.trim().to_ascii_lowercase());
        }
    }
    line
}

/// Check a proof against the nonce of this socket.
///
/// # Errors
/// The first check that failed.
pub fn verify(
    claim: &DeviceClaim,
    fields: &SignedFields,
    nonce: &str,
    now_ms: i64,
) -> Result<ProvenDevice, ProofError> {
    let raw = read_public_key(&claim.public_key).ok_or(ProofError::IdMismatch)?;
    if fingerprint(&raw) != claim.id {
        return Err(ProofError::IdMismatch);
    }
    if now_ms.saturating_sub(claim.signed_at_ms).saturating_abs() > DEVICE_SKEW_MS {
        return Err(ProofError::Stale);
    }
    if claim.nonce.trim().is_empty() {
        return Err(ProofError::NonceMissing);
    }
    if claim.nonce != nonce {
        return Err(ProofError::NonceMismatch);
    }
    let key = VerifyingKey::from_bytes(&raw).map_err(|_| ProofError::IdMismatch)?;
    let bytes = decode_base64(&claim.signature).ok_or(ProofError::Signature)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| ProofError::Signature)?;
    let fits = |form| key.verify_strict(payload(form, claim, fields).as_bytes(), &signature).is_ok();
    if fits(PayloadForm::V3) || fits(PayloadForm::V2) {
        return Ok(ProvenDevice { id: claim.id.clone(), public_key: URL_SAFE_NO_PAD.encode(raw) });
    }
    Err(ProofError::Signature)
}

/// Lower-case hex SHA-256 of a raw public key.
pub fn fingerprint(raw: &[u8; 32]) -> String {
    Sha256::digest(raw).iter().fold(String::with_capacity(64), |mut out, byte| {
        // writing to a String does not fail
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn read_public_key(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    if text.starts_with("-----BEGIN") {
        return VerifyingKey::from_public_key_pem(text).ok().map(|key| key.to_bytes());
    }
    decode_base64(text)?.try_into().ok()
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    [&URL_SAFE_NO_PAD, &STANDARD_NO_PAD, &URL_SAFE, &STANDARD]
        .into_iter()
        .find_map(|engine| engine.decode(text).ok())
}

#[cfg(test)]
mod tests;
