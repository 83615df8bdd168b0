//! What a server that claims OpenAI's API really takes: the config's `compat` first, else guessed from provider
//! and URL. Fields that only OpenAI knows are sent only there: strict servers answer 400 to an unknown one.

use crate::provider::Call;

/// The field for the thinking level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingFormat {
    /// `reasoning_effort`.
    OpenAi,
    /// `reasoning: {effort}`.
    OpenRouter,
    /// `thinking: {type}`.
    Zai,
    /// `enable_thinking`.
    Qwen,
    None,
}

/// `Compat` with every question answered.
#[derive(Debug, Clone, Copy)]
pub struct Answers {
    pub openai: bool,
    pub openrouter: bool,
    pub store: bool,
    pub developer_role: bool,
    pub usage_in_stream: bool,
    pub strict: bool,
    pub max_tokens_field: &'static str,
    pub thinking: ThinkingFormat,
    pub tool_result_name: bool,
    pub assistant_after_tool_result: bool,
    pub thinking_as_text: bool,
    pub mistral_ids: bool,
}

pub fn is_openrouter(call: &Call) -> bool {
    call.model.provider == "openrouter" || call.endpoint.base_url.contains("openrouter.ai")
}

impl Answers {
    pub fn of(call: &Call) -> Self {
        let compat = &call.model.compat;
        let url = call.endpoint.base_url.as_str();
        let provider = call.model.provider.as_str();
        let at = |name: &str, host: &str| provider == name || url.contains(host);
        let openai = url.contains("api.openai.com");
        let openrouter = is_openrouter(call);
        let mistral = at("mistral", "mistral.ai");
        let thinking = match compat.thinking_format.as_deref() {
            Some("openai") => ThinkingFormat::OpenAi,
            Some("openrouter") => ThinkingFormat::OpenRouter,
            Some("zai") => ThinkingFormat::Zai,
            Some("qwen") => ThinkingFormat::Qwen,
            _ if compat.supports_reasoning_effort == Some(false) => ThinkingFormat::None,
            _ if openrouter => ThinkingFormat::OpenRouter,
            _ if at("zai", "api.z.ai") => ThinkingFormat::Zai,
            // These think as the model id says, and refuse or ignore the field.
            _ if at("xai", "api.x.ai")
                || at("deepseek", "deepseek.com")
                || at("moonshot", "moonshot.")
                || mistral =>
            {
                ThinkingFormat::None
            }
            _ => ThinkingFormat::OpenAi,
        };
        let max_tokens_field = match compat.max_tokens_field.as_deref() {
            Some("max_completion_tokens") => "max_completion_tokens",
            Some(_) => "max_tokens",
            None if openai => "max_completion_tokens",
            None => "max_tokens",
        };
        Self {
            openai,
            openrouter,
            store: compat.supports_store.unwrap_or(openai),
            developer_role: compat.supports_developer_role.unwrap_or(openai),
            usage_in_stream: compat.supports_usage_in_streaming.unwrap_or(true),
            strict: compat.supports_strict_mode.unwrap_or(openai),
            max_tokens_field,
            thinking,
            tool_result_name: compat.requires_tool_result_name.unwrap_or(mistral),
            assistant_after_tool_result: compat.requires_assistant_after_tool_result.unwrap_or(false),
            thinking_as_text: compat.requires_thinking_as_text.unwrap_or(mistral),
            mistral_ids: compat.requires_mistral_tool_ids.unwrap_or(mistral),
        }
    }
}
