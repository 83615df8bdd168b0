//! Pure: the page's content security policy.
//!
//! The page inside the executable has no inline script and loads nothing from elsewhere. A page from a
//! directory may be the original's, which has inline scripts; those of its own `index.html` are allowed by hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Inline scripts that get a hash; a page with more is not one of ours.
const SCRIPTS_MAX: usize = 16;

/// The policy of our own page, or of a page from a directory.
pub fn policy(from_directory: bool, script_hashes: &[String]) -> String {
    let hashes: String = script_hashes.iter().map(|h| format!(" '{h}'")).collect();
    if from_directory {
        return format!(
            "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; frame-src 'self' http: https:; \
             script-src 'self'{hashes} 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline' https://fonts.googleapis.com; \
             img-src 'self' data: blob: https:; media-src 'self' data: blob:; font-src 'self' https://fonts.gstatic.com; \
             worker-src 'self'; connect-src 'self' ws: wss: data:"
        );
    }
    format!(
        "default-src 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'none'; \
         script-src 'self'{hashes}; style-src 'self'; img-src 'self' data: https:; font-src 'self'; manifest-src 'self'; \
         connect-src 'self' ws: wss:"
    )
}

/// `sha256-…` of every inline script of an HTML text (CSP Level 3, 6.6.2.4).
pub fn inline_script_hashes(html: &[u8]) -> Vec<String> {
    let Ok(html) = std::str::from_utf8(html) else { return Vec::new() };
    let lower = html.to_ascii_lowercase();
    let (mut at, mut hashes) = (0, Vec::new());
    while hashes.len() < SCRIPTS_MAX {
        let Some(open) = lower.get(at..).and_then(|rest| rest.find("<script")).map(|i| at + i) else { break };
        let Some(body) = lower.get(open..).and_then(|rest| rest.find('>')).map(|i| open + i + 1) else {
            break;
        };
        let Some(end) = lower.get(body..).and_then(|rest| rest.find("</script")).map(|i| body + i) else {
            break;
        };
        let attributes = lower.get(open..body).unwrap_or_default();
        let script = html.get(body..end).unwrap_or_default();
        if !attributes.contains(" src=") && !script.trim().is_empty() {
            hashes.push(format!("sha256-{}", STANDARD.encode(Sha256::digest(script.as_bytes()))));
        }
        at = end;
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_scripts_are_hashed_and_others_are_not() {
        let html = "<html><SCRIPT>alert('Hello, world.');</script><script src=\"a.js\"></script><script type=\"module\"> 1 </script>";
        let hashes = inline_script_hashes(html.as_bytes());
        // the example of the CSP specification
        assert_eq!(hashes[0], "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
        assert_eq!(hashes.len(), 2);
        assert!(inline_script_hashes(b"<script>never closed").is_empty());
        assert!(inline_script_hashes(&[0xff, 0xfe]).is_empty());
    }

    #[test]
    fn our_own_page_allows_no_inline_code() {
        let own = policy(false, &[]);
        assert!(!own.contains("unsafe") && own.contains("default-src 'none'"));
        assert!(
            policy(true, &["sha256-x".into()]).contains("script-src 'self' 'sha256-x' 'wasm-unsafe-eval'")
        );
    }
}
