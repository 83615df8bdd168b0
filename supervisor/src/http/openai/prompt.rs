//! Pure: from a chat completion request to the text of one turn, its agent and its session.

use serde_json::Value;

/// Key namespaces that belong to the gateway itself.
const RESERVED_SESSIONS: [&str; 3] = ["subagent:", "cron:", "acp:"];
/// Longest session key that is taken from a header.
const SESSION_KEY_BYTES_MAX: usize = 512;

/// A request, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// As sent; `openclaw` when absent.
    pub model: String,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `user`.
    pub user: Option<String>,
    /// System and developer messages.
    pub system: Option<String>,
    /// Text of the message to answer.
    pub current: String,
    /// The same behind the earlier messages.
    pub text: String,
    /// `temperature`.
    pub temperature: Option<f64>,
    /// `max_completion_tokens` or `max_tokens`.
    pub max_tokens: Option<u32>,
}

impl Chat {
    /// Read a request body.
    ///
    /// # Errors
    /// The text of the 400.
    pub fn read(body: &Value) -> Result<Self, String> {
        if !body.is_object() {
            let kind = if body.is_array() { "array" } else { "another type" };
            return Err(format!(": Invalid input: expected object, received {kind}"));
        }
        let text = |key: &str| body[key].as_str().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
        let (system, turns) = read_messages(&body["messages"]);
        let last = turns.iter().rposition(|t| t.is_input()).ok_or("Missing user message in `messages`.")?;
        let (before, rest) = turns.split_at(last);
        let current = rest.first().map(|t| t.text.clone()).unwrap_or_default();
        Ok(Self {
            model: text("model").unwrap_or_else(|| "openclaw".into()),
            stream: body["stream"].as_bool().unwrap_or(false),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            user: text("user"),
            system,
            text: with_history(before, rest.first()),
            current,
            temperature: number(body, "temperature", 2.0)?,
            max_tokens: max_tokens(body)?,
        })
    }
}

struct Turn {
    role: String,
    name: Option<String>,
    text: String,
}

impl Turn {
    fn is_input(&self) -> bool {
        matches!(self.role.as_str(), "user" | "tool" | "function")
    }

    fn line(&self) -> String {
        let who = match self.role.as_str() {
            "user" => "User".to_owned(),
            "assistant" => "Assistant".to_owned(),
            _ => format!("Tool:{}", self.name.as_deref().unwrap_or("unknown")),
        };
        format!("{who}: {}", self.text)
    }
}

fn read_messages(messages: &Value) -> (Option<String>, Vec<Turn>) {
    let (mut system, mut turns) = (Vec::new(), Vec::new());
    for message in messages.as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or_default().trim().to_owned();
        let text = content_text(&message["content"]);
        if text.is_empty() {
            continue;
        }
        match role.as_str() {
            "system" | "developer" => system.push(text),
            "user" | "assistant" | "tool" | "function" => {
                let name = message["name"].as_str().or(message["tool_call_id"].as_str()).map(str::to_owned);
                turns.push(Turn { role, name, text });
            }
            _ => {}
        }
    }
    ((!system.is_empty()).then(|| system.join("\n\n")), turns)
}

fn content_text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.trim().to_owned();
    }
    let parts = content.as_array().into_iter().flatten();
    let texts = parts.filter_map(|part| match part["type"].as_str() {
        Some("text" | "input_text") => part["text"].as_str().or(part["input_text"].as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn with_history(before: &[Turn], current: Option<&Turn>) -> String {
    let Some(current) = current else { return String::new() };
    if before.is_empty() && current.role == "user" {
        return current.text.clone();
    }
    let lines: Vec<String> = before.iter().map(Turn::line).collect();
    let now = if current.role == "user" { current.text.clone() } else { current.line() };
    if lines.is_empty() {
        return now;
    }
    format!("[Earlier messages of this conversation]\n{}\n\n[Message to answer]\n{now}", lines.join("\n"))
}

fn number(body: &Value, key: &str, max: f64) -> Result<Option<f64>, String> {
    match &body[key] {
        Value::Null => Ok(None),
        value => match value.as_f64() {
            Some(n) if (0.0..=max).contains(&n) => Ok(Some(n)),
            _ => Err(format!("Invalid `{key}`: expected a number from 0 to {max}.")),
        },
    }
}

fn max_tokens(body: &Value) -> Result<Option<u32>, String> {
    for key in ["max_completion_tokens", "max_tokens"] {
        match &body[key] {
            Value::Null => {}
            value => {
                let n = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
                return n.map(Some).ok_or_else(|| format!("Invalid `{key}`: expected a positive integer."));
            }
        }
    }
    Ok(None)
}

/// Choose the agent: header, then model name, then the default.
///
/// # Errors
/// The text of the 400.
pub fn agent(header: Option<&str>, model: &str, agents: &[&str], default: &str) -> Result<String, String> {
    let known = |id: &str| {
        let id = id.trim().to_ascii_lowercase();
        if agents.contains(&id.as_str()) { Ok(id) } else { Err(format!("Unknown agent '{id}'.")) }
    };
    if let Some(id) = header.filter(|h| !h.trim().is_empty()) {
        return known(id);
    }
    let lower = model.to_ascii_lowercase();
    if matches!(lower.as_str(), "openclaw" | "openclaw/default" | "openclaw:default") {
        return Ok(default.to_owned());
    }
    let named = ["openclaw/", "openclaw:", "agent:"].iter().find_map(|prefix| lower.strip_prefix(prefix));
    match named.filter(|id| !id.is_empty()) {
        Some(id) => known(id),
        None => Err("Invalid `model`. Use `openclaw` or `openclaw/<agentId>`.".to_owned()),
    }
}

/// Choose the session: header, then `user`, then a fresh one.
///
/// # Errors
/// The text of the 400.
pub fn session_key(header: Option<&str>, agent: &str, user: Option<&str>) -> Result<String, String> {
    let Some(key) = header.map(str::trim).filter(|k| !k.is_empty()) else {
        return Ok(match user {
            Some(user) => format!("agent:{agent}:openai-user:{user}"),
            None => format!("agent:{agent}:openai:{}", uuid::Uuid::new_v4()),
        });
    };
    // Behind `agent:<id>:` the same names are reserved.
    let rest = key.strip_prefix("agent:").and_then(|k| k.split_once(':')).map_or(key, |(_, rest)| rest);
    let reserved = RESERVED_SESSIONS.iter().any(|p| rest.to_ascii_lowercase().starts_with(p));
    if reserved || key.len() > SESSION_KEY_BYTES_MAX || key.chars().any(char::is_control) {
        return Err("Invalid `x-openclaw-session-key`: reserved or malformed session key.".to_owned());
    }
    Ok(key.to_owned())
}
