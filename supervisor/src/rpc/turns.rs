//! What `agent`, `chat.send` and the HTTP endpoints have in common: from parameters to a turn.

use super::RpcError;
use crate::scheduler::Refusal;
use base64::Engine;
use proto::wire::channel::MediaRef;
use proto::wire::limits::INLINE_BLOB_BYTES_MAX;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;
use unicode_normalization::UnicodeNormalization;

/// One attachment after decoding.
const ATTACHMENT_BYTES_MAX: usize = 5_000_000;
/// Attachments of one message.
const ATTACHMENTS_MAX: usize = 16;

/// The text in one Unicode form (NFC), without control characters except tab, line feed and carriage return.
///
/// # Errors
/// A NUL character: no person types one.
pub fn clean_text(text: &str) -> Result<String, RpcError> {
    if text.contains('\0') {
        return Err(RpcError::invalid("message must not contain null bytes"));
    }
    Ok(text.nfc().filter(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r')).collect())
}

/// Reads `attachments`: `{type, mimeType, fileName, content}` with base64 content. Larger ones become files below
/// `media/inbound`, named by their content.
///
/// # Errors
/// Not base64, too large, too many, or the disk refuses.
pub async fn attachments(state_dir: &Path, value: Option<&Value>) -> Result<Vec<MediaRef>, RpcError> {
    let Some(list) = value.and_then(Value::as_array).filter(|list| !list.is_empty()) else {
        return Ok(Vec::new());
    };
    if list.len() > ATTACHMENTS_MAX {
        return Err(RpcError::invalid(format!(
            "attachments: at most {ATTACHMENTS_MAX} are taken with one message"
        )));
    }
    let mut media = Vec::new();
    for (n, item) in list.iter().enumerate() {
        media.push(attachment(state_dir, n, item).await?);
    }
    Ok(media)
}

async fn attachment(state_dir: &Path, n: usize, item: &Value) -> Result<MediaRef, RpcError> {
    let name = item["fileName"].as_str().map(str::to_owned);
    let label = name.clone().unwrap_or_else(|| format!("attachment-{}", n + 1));
    let content = item["content"].as_str().unwrap_or_default();
    // A data URL carries its type in front.
    let (head, content) =
        content.split_once(";base64,").map_or((None, content), |(head, rest)| (Some(head), rest));
    let refuse = |why: &str| RpcError::invalid(format!("attachment {label}: {why}"));
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(content.trim())
        .map_err(|_| refuse("content must be base64"))?;
    if bytes.len() > ATTACHMENT_BYTES_MAX {
        return Err(refuse(&format!("exceeds size limit ({} > {ATTACHMENT_BYTES_MAX} bytes)", bytes.len())));
    }
    let mime = item["mimeType"].as_str().or(head.and_then(|head| head.strip_prefix("data:")));
    let mime = mime.unwrap_or("application/octet-stream").to_owned();
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let kind = if mime.starts_with("image/") { "image" } else { "document" };
    let mut media = MediaRef {
        kind: kind.to_owned(),
        mime,
        bytes: bytes.len() as u64,
        sha256: sha256.clone(),
        name,
        ..MediaRef::default()
    };
    if bytes.len() <= INLINE_BLOB_BYTES_MAX {
        media.inline = Some(bytes);
    } else {
        let path = format!("media/inbound/{sha256}");
        store(&state_dir.join(&path), bytes)
            .await
            .map_err(|error| refuse(&format!("cannot be stored: {error}")))?;
        media.path = Some(path);
    }
    Ok(media)
}

async fn store(path: &Path, bytes: Vec<u8>) -> std::io::Result<()> {
    let path = path.to_owned();
    let write = move || {
        if let Some(dir) = path.parent() {
            crate::lock::create_private_dir(dir)?;
        }
        // Durable before the message is acknowledged.
        proto::runtime::durable::store(&path, &bytes)
    };
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy | Refusal::Draining | Refusal::Journal(_) => Self::unavailable(refusal.to_string()),
            Refusal::UnknownAgent(..) | Refusal::ForeignRun { .. } | Refusal::KeyReused(_) => {
                Self::invalid(refusal.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_normalised_and_control_characters_go() {
        assert_eq!(clean_text("e\u{301}\u{7}\tx\n").unwrap(), "é\tx\n");
        assert!(clean_text("a\0b").is_err());
    }

    #[tokio::test]
    async fn attachments_are_decoded_or_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let read = async |value: Value| attachments(dir.path(), Some(&value)).await;
        let small =
            read(json!([{"fileName": "a.png", "mimeType": "image/png", "content": "aGk="}])).await.unwrap();
        assert_eq!((small[0].kind.as_str(), small[0].inline.as_deref()), ("image", Some(b"hi".as_slice())));
        let large = base64::engine::general_purpose::STANDARD.encode(vec![7u8; INLINE_BLOB_BYTES_MAX + 1]);
        let large = read(json!([{"content": format!("data:text/plain;base64,{large}")}])).await.unwrap();
        assert!(dir.path().join(large[0].path.as_ref().unwrap()).exists());
        assert_eq!(large[0].mime, "text/plain");
        let bad = read(json!([{"fileName": "b", "content": "%%"}])).await.unwrap_err();
        assert!(bad.message.contains("attachment b"), "{}", bad.message);
    }
}
