//! Pairing of strangers in direct messages: codes, and the files of those who were approved.
//!
//! The files are those of the original gateway, readable by both: `<channel>-pairing.json` with the waiting requests and
//! `<channel>[-<account>]-allowFrom.json` with approved ids. An approval is for direct messages only: groups never ask
//! here. All calls block on the disk and take a kernel lock for their short time, so that the command line may write while
//! a gateway runs.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Characters of a code: no letter that could be read as another.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_CHARS: usize = 8;
/// A code is good for an hour.
pub const CODE_TTL_MS: i64 = 3600 * 1000;
/// Requests that may wait per account: a crowd at the door must not bury the one who was expected.
pub const PENDING_MAX: usize = 3;
/// What an approved sender is told, if the operator wants that.
pub const APPROVED_TEXT: &str = "✅ OpenClaw access approved. Send a message to start chatting.";
const DEFAULT_ACCOUNT: &str = "default";

#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    #[error("\"{0}\" cannot be part of a file name: use a channel or account id of letters, digits, - and _")]
    BadName(String),
    #[error("failed to {act} {path}: {source}")]
    File { act: &'static str, path: PathBuf, source: std::io::Error },
    /// The file is left as it is: rewriting it would lose approvals.
    #[error("{path} is not valid JSON ({why}): repair or remove it")]
    Broken { path: PathBuf, why: String },
    #[error("no random bytes from the system: {0}")]
    Random(String),
}

/// A stranger at the door. Unknown fields are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub id: String,
    pub code: String,
    /// ISO 8601, UTC.
    pub created_at: String,
    pub last_seen_at: String,
    /// `accountId`, and what the network told: `username`, `firstName`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Request {
    pub fn account(&self) -> &str {
        self.meta.get("accountId").map_or(DEFAULT_ACCOUNT, |id| account_or_default(id))
    }
}

/// Key of a request's `meta`: the network's id of the message that asked first. That message may be offered again after
/// a crash, and then its answer is still owed.
pub const MESSAGE: &str = "messageId";

/// What became of a knock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Knock {
    /// New, or asked by this very message before: send the challenge.
    Created { code: String },
    /// Asked before: the challenge was sent, stay silent.
    Known { code: String },
    /// Too many wait: ignore.
    Full,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    pub id: String,
    pub account: String,
    pub request: Request,
}

/// The files of one state directory (`<state>/credentials`).
#[derive(Debug, Clone)]
pub struct PairingStore {
    dir: PathBuf,
}

impl PairingStore {
    pub fn new(credentials_dir: &Path) -> Self {
        Self { dir: credentials_dir.to_owned() }
    }

    /// A stranger wrote. `meta` says what the network knows of them.
    pub fn knock(
        &self,
        channel: &str,
        account: &str,
        sender: &str,
        meta: BTreeMap<String, String>,
        now_ms: i64,
    ) -> Result<Knock, PairingError> {
        let path = self.requests_path(channel)?;
        let account = account_or_default(account);
        let _lock = file::lock(&self.dir)?;
        let mut requests = file::read_requests(&path)?;
        requests.retain(|request| fresh(request, now_ms));
        let now = file::iso(now_ms);
        if let Some(known) = requests.iter_mut().find(|r| r.id == sender && r.account() == account) {
            let asked_by = known.meta.get(MESSAGE).cloned();
            let again = asked_by.is_some() && asked_by.as_ref() == meta.get(MESSAGE);
            known.last_seen_at = now;
            known.meta.extend(meta.into_iter().filter(|(key, _)| key != MESSAGE));
            let code = known.code.clone();
            file::write_requests(&path, &requests)?;
            return Ok(if again { Knock::Created { code } } else { Knock::Known { code } });
        }
        if requests.iter().filter(|r| r.account() == account).count() >= PENDING_MAX {
            return Ok(Knock::Full);
        }
        let code = loop {
            let code = new_code()?;
            if requests.iter().all(|r| r.code != code) {
                break code;
            }
        };
        let mut meta = meta;
        meta.insert("accountId".into(), account.to_owned());
        requests.push(Request {
            id: sender.to_owned(),
            code: code.clone(),
            created_at: now.clone(),
            last_seen_at: now,
            meta,
            other: serde_json::Map::new(),
        });
        file::write_requests(&path, &requests)?;
        Ok(Knock::Created { code })
    }

    /// Requests that still wait, oldest first; of one account, or of all.
    pub fn pending(
        &self,
        channel: &str,
        account: Option<&str>,
        now_ms: i64,
    ) -> Result<Vec<Request>, PairingError> {
        let mut requests = file::read_requests(&self.requests_path(channel)?)?;
        requests
            .retain(|r| fresh(r, now_ms) && account.is_none_or(|id| r.account() == account_or_default(id)));
        requests.sort_by(|a, b| a.created_at.cmp(&b.created_at));
        Ok(requests)
    }

    /// Moves the sender to the approved ones. `None`: no such code, or it is too old. Upper and lower case are the same.
    pub fn approve(
        &self,
        channel: &str,
        code: &str,
        account: Option<&str>,
        now_ms: i64,
    ) -> Result<Option<Approved>, PairingError> {
        let path = self.requests_path(channel)?;
        let _lock = file::lock(&self.dir)?;
        let mut requests = file::read_requests(&path)?;
        requests.retain(|request| fresh(request, now_ms));
        let wanted = code.trim().to_uppercase();
        let fits = |r: &Request| {
            r.code.to_uppercase() == wanted && account.is_none_or(|id| r.account() == account_or_default(id))
        };
        let Some(at) = requests.iter().position(fits).filter(|_| !wanted.is_empty()) else { return Ok(None) };
        let request = requests.remove(at);
        let account = request.account().to_owned();
        // Approved first: should we die in between, the code merely works again.
        self.allow(channel, &account, &request.id)?;
        file::write_requests(&path, &requests)?;
        Ok(Some(Approved { id: request.id.clone(), account, request }))
    }

    fn allow(&self, channel: &str, account: &str, id: &str) -> Result<(), PairingError> {
        let path = self.allow_path(channel, account)?;
        let mut list = file::read_allowed(&path)?;
        if !list.iter().any(|known| known == id) {
            list.push(id.to_owned());
            file::write_allowed(&path, &list)?;
        }
        Ok(())
    }

    /// Approved ids of an account. The default account also has those of the file that names it, as the original wrote both.
    pub fn allowed(&self, channel: &str, account: &str) -> Result<Vec<String>, PairingError> {
        let account = account_or_default(account);
        let mut list = Vec::new();
        for path in self.allow_paths(channel, account)? {
            for id in file::read_allowed(&path)? {
                if !list.contains(&id) {
                    list.push(id);
                }
            }
        }
        Ok(list)
    }

    /// Takes an approval back; `false` when there was none.
    pub fn revoke(&self, channel: &str, account: &str, id: &str) -> Result<bool, PairingError> {
        let _lock = file::lock(&self.dir)?;
        let mut found = false;
        for path in self.allow_paths(channel, account_or_default(account))? {
            let mut list = file::read_allowed(&path)?;
            let before = list.len();
            list.retain(|known| known != id);
            if list.len() < before {
                file::write_allowed(&path, &list)?;
                found = true;
            }
        }
        Ok(found)
    }

    fn requests_path(&self, channel: &str) -> Result<PathBuf, PairingError> {
        Ok(self.dir.join(format!("{}-pairing.json", file_part(channel)?)))
    }

    fn allow_path(&self, channel: &str, account: &str) -> Result<PathBuf, PairingError> {
        let channel = file_part(channel)?;
        Ok(self.dir.join(if account == DEFAULT_ACCOUNT {
            format!("{channel}-allowFrom.json")
        } else {
            format!("{channel}-{}-allowFrom.json", file_part(account)?)
        }))
    }

    fn allow_paths(&self, channel: &str, account: &str) -> Result<Vec<PathBuf>, PairingError> {
        let mut paths = vec![self.allow_path(channel, account)?];
        if account == DEFAULT_ACCOUNT {
            paths.push(self.dir.join(format!("{}-{DEFAULT_ACCOUNT}-allowFrom.json", file_part(channel)?)));
        }
        Ok(paths)
    }
}

fn account_or_default(account: &str) -> &str {
    let account = account.trim();
    if account.is_empty() { DEFAULT_ACCOUNT } else { account }
}

/// Written before the clock was set, or too long ago: forgotten. A time that cannot be read is too long ago.
fn fresh(request: &Request, now_ms: i64) -> bool {
    file::parse_iso(&request.created_at).is_some_and(|created| now_ms.saturating_sub(created) <= CODE_TTL_MS)
}

/// The name as the original writes it, unless that could leave the directory.
fn file_part(name: &str) -> Result<String, PairingError> {
    let lower = name.trim().to_lowercase();
    let safe: String = lower.chars().map(|c| if r#"\/:*?"<>|"#.contains(c) { '_' } else { c }).collect();
    let safe = safe.replace("..", "_");
    if safe.is_empty() || safe == "_" || safe.starts_with('.') || safe.chars().any(char::is_control) {
        return Err(PairingError::BadName(name.to_owned()));
    }
    Ok(safe)
}

fn new_code() -> Result<String, PairingError> {
    let mut bytes = [0_u8; CODE_CHARS];
    getrandom::fill(&mut bytes).map_err(|e| PairingError::Random(e.to_string()))?;
    // 32 characters: five bits each, no bias.
    Ok(bytes.iter().filter_map(|b| CODE_ALPHABET.get(usize::from(b & 31))).map(|b| char::from(*b)).collect())
}

/// The line that tells a sender who they are: `Your Telegram user id: 123`. `title` is the channel's name for people.
pub fn id_line(title: &str, sender: &str) -> String {
    let what = if sender.starts_with('+') { "phone number" } else { "user id" };
    format!("Your {title} {what}: {sender}")
}

/// What a stranger is told.
pub fn challenge_text(channel: &str, id_line: &str, code: &str) -> String {
    format!(
        "OpenClaw: access not configured.\n\n{id_line}\n\nPairing code: {code}\n\nAsk the bot owner to approve with:\n\
         openclaw pairing approve {channel} {code}"
    )
}

#[cfg(test)]
mod tests;
