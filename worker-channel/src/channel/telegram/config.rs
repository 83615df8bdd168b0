//! `channels.telegram`: as written ([`TelegramConfig`], everything optional) and as meant ([`Settings`]).
//!
//! Blast radius: every key that is read here needs a new connection or new limits, so a change restarts the
//! account's worker (`worker`). Who may talk (`dmPolicy`, `groups`, …) and whether replies stream (`streaming`) is
//! read by the supervisor.

use std::collections::BTreeMap;

use proto::view::HIDDEN_SECRET;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OpenError, TEXT_UNITS_MAX};
use crate::account::{Account, merged};
use crate::text::Tables;
use crate::text::split::ChunkMode;

/// The public Bot API server.
const API_ROOT: &str = "https://api.telegram.org";
/// `textChunkLimit` when not set: below the network's 4096, with room for what a client adds.
const TEXT_CHUNK_LIMIT: usize = 4000;
/// `mediaMaxMb` when not set.
const MEDIA_MB: f64 = 5.0;
/// A token file is one line; a larger file is not one.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;
/// Pause before a send is tried again when the network names none (`retry.minDelayMs`).
const RETRY_MIN_DELAY_MS: u64 = 400;

/// Which messages of a reply answer the message that started it (`replyToMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplyToMode {
    #[default]
    Off,
    /// Also `batched` of later releases, which sends the first message of a turn as the answer.
    #[serde(alias = "batched")]
    First,
    All,
}

/// A secret as written: its text, or a reference that the gateway resolves before it starts us.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Secret {
    Text(String),
    Reference {
        /// `env`, `file`, `store`, `exec`.
        source: String,
        id: String,
    },
}

impl Secret {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Reference { .. } => None,
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `channels.telegram.markdown`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct MarkdownConfig {
    pub tables: Option<Tables>,
}

/// `channels.telegram.retry`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryConfig {
    pub min_delay_ms: Option<u64>,
}

/// An entry of the bot's command menu.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CustomCommand {
    pub command: String,
    pub description: String,
}

/// The section, and each of its `accounts`, as written. Keys that are read elsewhere are not listed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-class" = "worker"))]
pub struct TelegramConfig {
    /// Token that @BotFather gave, `<bot id>:<secret>`.
    #[schemars(extend("x-sensitive" = true))]
    pub bot_token: Option<Secret>,
    /// File that holds the token, for secrets that are mounted.
    pub token_file: Option<String>,
    /// Another Bot API server (`https://host[:port]`), for a server of one's own and for tests.
    pub api_root: Option<String>,
    /// Longest message in UTF-16 units (1 to 4096; 0: the network's own limit).
    pub text_chunk_limit: Option<i64>,
    pub chunk_mode: Option<ChunkMode>,
    pub markdown: Option<MarkdownConfig>,
    pub reply_to_mode: Option<ReplyToMode>,
    /// Previews of linked pages.
    pub link_preview: Option<bool>,
    /// Largest file that is taken from the network, in MB.
    pub media_max_mb: Option<f64>,
    pub retry: Option<RetryConfig>,
    /// Entries for the bot's command menu.
    pub custom_commands: Option<Vec<CustomCommand>>,
}

/// An account's keys as meant. `Debug` is not derived: the token is in here.
pub struct Settings {
    pub token: String,
    pub api_root: String,
    pub text_chunk_limit: usize,
    pub chunk_mode: ChunkMode,
    pub tables: Tables,
    pub reply_to_mode: ReplyToMode,
    pub link_preview: bool,
    pub media_bytes_max: u64,
    pub retry_min_delay_ms: u64,
    pub custom_commands: Vec<CustomCommand>,
}

/// JSON schema of the section.
pub fn schema() -> Value {
    let account = schemars::schema_for!(TelegramConfig).to_value();
    let mut section = account.clone();
    if let Some(properties) = section.get_mut("properties").and_then(Value::as_object_mut) {
        let accounts = serde_json::json!({
            "type": "object", "additionalProperties": account, "x-class": "worker",
            "description": "Further bots; each key of an account wins over the channel's.",
        });
        properties.insert("accounts".to_owned(), accounts);
    }
    section
}

/// Problems of the section: path below it, and what is wrong.
pub fn check(section: &Value) -> Vec<(String, String)> {
    let mut issues = check_keys(&merged(section.clone(), ""), "");
    let accounts: BTreeMap<String, Value> =
        section.get("accounts").and_then(|all| serde_json::from_value(all.clone()).ok()).unwrap_or_default();
    for (id, account) in &accounts {
        issues.extend(check_keys(account, &format!("accounts.{id}.")));
    }
    issues
}

fn check_keys(keys: &Value, prefix: &str) -> Vec<(String, String)> {
    let config: TelegramConfig = match serde_path_to_error::deserialize(keys) {
        Ok(config) => config,
        Err(error) => return vec![(format!("{prefix}{}", error.path()), error.inner().to_string())],
    };
    let mut issues = Vec::new();
    let mut issue = |key: &str, message: String| issues.push((format!("{prefix}{key}"), message));
    // A hidden token is judged by the worker when it starts.
    let token = config.bot_token.as_ref().and_then(Secret::text).filter(|token| *token != HIDDEN_SECRET);
    if let Some(token) = token.filter(|token| !is_token(token)) {
        let shape = if token.is_empty() { "is empty" } else { "has another shape" };
        issue(
            "botToken",
            format!("a bot token reads `<number>:<letters>`; this one {shape} (ask @BotFather)"),
        );
    }
    if let Some(root) = config.api_root.as_deref().filter(|root| !is_root(root)) {
        issue("apiRoot", format!("`{root}` is not an address like https://api.telegram.org"));
    }
    if let Some(limit) = config.text_chunk_limit.filter(|n| *n > TEXT_UNITS_MAX as i64) {
        issue("textChunkLimit", format!("{limit} is more than Telegram's {TEXT_UNITS_MAX} characters"));
    }
    if config.media_max_mb.is_some_and(|mb| !mb.is_finite() || mb <= 0.0) {
        issue("mediaMaxMb", "must be more than 0".to_owned());
    }
    for (at, entry) in config.custom_commands.iter().flatten().enumerate() {
        if !is_command(&entry.command) {
            let message = format!("`{}`: 1 to 32 of a-z, 0-9 and _ (Bot API setMyCommands)", entry.command);
            issue(&format!("customCommands[{at}].command"), message);
        }
    }
    issues
}

fn is_token(token: &str) -> bool {
    let Some((id, secret)) = token.trim().split_once(':') else { return false };
    let number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    number
        && !secret.is_empty()
        && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn is_root(root: &str) -> bool {
    reqwest::Url::parse(root).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn is_command(name: &str) -> bool {
    let name = name.trim_start_matches('/');
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

impl Settings {
    /// Reads the account's keys; the token comes from the secrets, else from its file.
    pub fn read(account: &Account) -> Result<Self, OpenError> {
        let path = |key: &str| format!("channels.telegram.{key} (account {})", account.id);
        if let Some((key, message)) = check_keys(&account.section, "").into_iter().next() {
            return Err(OpenError::Config { path: path(&key), message });
        }
        let config: TelegramConfig = serde_json::from_value(account.section.clone())
            .map_err(|error| OpenError::Config { path: path(""), message: error.to_string() })?;
        let token = token(account, &config)?;
        let limit = config.text_chunk_limit.unwrap_or(TEXT_CHUNK_LIMIT as i64);
        let megabytes = config.media_max_mb.unwrap_or(MEDIA_MB);
        Ok(Self {
            token,
            api_root: config.api_root.unwrap_or_else(|| API_ROOT.to_owned()).trim_end_matches('/').to_owned(),
            text_chunk_limit: usize::try_from(limit).unwrap_or(0),
            chunk_mode: config
                .chunk_mode
                .or_else(|| streaming_chunk_mode(&account.section))
                .unwrap_or_default(),
            tables: config.markdown.and_then(|markdown| markdown.tables).unwrap_or_default(),
            reply_to_mode: config.reply_to_mode.unwrap_or_default(),
            link_preview: config.link_preview.unwrap_or(true),
            media_bytes_max: (megabytes * 1024.0 * 1024.0) as u64,
            retry_min_delay_ms: config
                .retry
                .and_then(|retry| retry.min_delay_ms)
                .unwrap_or(RETRY_MIN_DELAY_MS),
            custom_commands: config.custom_commands.unwrap_or_default(),
        })
    }

    /// The number before the colon of the token is the bot's user id.
    pub fn bot_id(&self) -> &str {
        self.token.split(':').next().unwrap_or_default()
    }
}

/// Later releases write the mode below `streaming`, a key whose rest the supervisor reads.
fn streaming_chunk_mode(section: &Value) -> Option<ChunkMode> {
    serde_json::from_value(section.pointer("/streaming/chunkMode")?.clone()).ok()
}

fn token(account: &Account, config: &TelegramConfig) -> Result<String, OpenError> {
    let given = account.secrets.get("botToken").map(str::to_owned).or_else(|| {
        let written = config.bot_token.as_ref().and_then(Secret::text);
        written.map(str::to_owned)
    });
    let token = match (given, &config.token_file) {
        (Some(token), _) => token,
        (None, Some(file)) => {
            let error = |why: String| {
                OpenError::NeedsLogin(format!(
                    "cannot read the bot token from channels.telegram.tokenFile {file}: {why}"
                ))
            };
            let size = std::fs::metadata(file).map_err(|e| error(e.to_string()))?.len();
            if size > TOKEN_FILE_BYTES_MAX {
                return Err(error(format!("{size} bytes are no token")));
            }
            std::fs::read_to_string(file).map_err(|e| error(e.to_string()))?
        }
        (None, None) => {
            return Err(OpenError::NeedsLogin(format!(
                "no bot token for account {}: set channels.telegram.botToken, tokenFile or TELEGRAM_BOT_TOKEN",
                account.id
            )));
        }
    };
    let token = token.trim().to_owned();
    match is_token(&token) {
        true => Ok(token),
        false => Err(OpenError::NeedsLogin(format!(
            "the bot token of account {} does not read `<number>:<letters>`: ask @BotFather for it",
            account.id
        ))),
    }
}
