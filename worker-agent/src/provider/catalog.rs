//! The providers and models that are known without any configuration. A table, nothing else: a model that is
//! not here still works by its reference, with cautious assumptions (`Model::unknown`).

use super::http::origin;
use super::model::{Input, Model, Price};

/// A provider that works as soon as it has a key, or at once when it needs none.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    pub id: &'static str,
    pub api: &'static str,
    pub base_url: &'static str,
    /// Environment variables that may hold its key, best first.
    pub env: &'static [&'static str],
    /// Whether it runs on the user's own machine and takes requests without a key.
    pub keyless: bool,
    pub models: &'static [Known],
}

/// One known model: prices in US dollars per million tokens (input, output, cache read, cache write), sizes in
/// tokens (context window, longest reply).
#[derive(Debug, Clone, Copy)]
pub struct Known {
    id: &'static str,
    name: &'static str,
    /// Reads images, reasons.
    abilities: (bool, bool),
    price: (f64, f64, f64, f64),
    sizes: (u32, u32),
}

const fn known(
    id: &'static str,
    name: &'static str,
    abilities: (bool, bool),
    price: (f64, f64, f64, f64),
    sizes: (u32, u32),
) -> Known {
    Known { id, name, abilities, price, sizes }
}

impl BuiltIn {
    /// The api kind at this base URL. Of another server than the vendor's own, when nothing is said of its api, the
    /// kind is assumed that nearly all of them speak.
    pub fn api_at(&self, base_url: Option<&str>) -> &'static str {
        let own = base_url.is_none_or(|url| origin(url) == origin(self.base_url));
        if own || !matches!(self.id, "openai" | "google") { self.api } else { COMPLETIONS }
    }

    /// Full descriptions of the provider's known models.
    pub fn models(&self) -> impl Iterator<Item = Model> + '_ {
        self.models.iter().map(|k| {
            let (image, reasoning) = k.abilities;
            let (input, output, cache_read, cache_write) = k.price;
            let mut model = Model::unknown(self.id, k.id, self.api);
            model.name = k.name.to_owned();
            model.reasoning = reasoning;
            model.input = if image { vec![Input::Text, Input::Image] } else { vec![Input::Text] };
            model.price = Price { input, output, cache_read, cache_write };
            (model.context_window, model.max_tokens) = k.sizes;
            model
        })
    }
}

/// The built-in provider with this (normalised) id.
pub fn find(provider: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|b| b.id == provider)
}

/// Provider id as in references: lower case, other spellings replaced.
pub fn normalised(provider: &str) -> String {
    let lower = provider.trim().to_lowercase();
    match lower.as_str() {
        "z.ai" | "z-ai" => "zai",
        "kimi" | "kimi-code" => "kimi-coding",
        "qwen" => "qwen-portal",
        "bedrock" | "aws-bedrock" => "amazon-bedrock",
        "x-ai" => "xai",
        "lm-studio" => "lmstudio",
        "llama.cpp" | "llama-cpp" => "llamacpp",
        "gemini" => "google",
        _ => return lower,
    }
    .to_owned()
}

/// Model for an agent without any configuration, as in the original.
pub const DEFAULT_REFERENCE: &str = "anthropic/claude-opus-4-6";
/// Provider of a reference without a slash.
pub const DEFAULT_PROVIDER: &str = "anthropic";

/// Short names that count when their model is in `agents.defaults.models`.
pub const ALIASES: &[(&str, &str)] = &[
    ("opus", "anthropic/claude-opus-4-6"),
    ("sonnet", "anthropic/claude-sonnet-4-6"),
    ("gpt", "openai/gpt-5.2"),
    ("gpt-mini", "openai/gpt-5-mini"),
    ("gemini", "google/gemini-3-pro-preview"),
    ("gemini-flash", "google/gemini-3-flash-preview"),
];

const COMPLETIONS: &str = "openai-completions";
/// Abilities: (reads images, reasons).
const PLAIN: (bool, bool) = (false, false);
const SEES: (bool, bool) = (true, false);
const THINKS: (bool, bool) = (false, true);
const BOTH: (bool, bool) = (true, true);
const FREE: (f64, f64, f64, f64) = (0.0, 0.0, 0.0, 0.0);

const fn completions(
    id: &'static str,
    base_url: &'static str,
    env: &'static [&'static str],
    models: &'static [Known],
) -> BuiltIn {
    BuiltIn { id, api: COMPLETIONS, base_url, env, keyless: false, models }
}

const fn local(
    id: &'static str,
    api: &'static str,
    base_url: &'static str,
    env: &'static [&'static str],
) -> BuiltIn {
    BuiltIn { id, api, base_url, env, keyless: true, models: &[] }
}

/// Every provider that needs no description in the config.
pub const ALL: &[BuiltIn] = &[
    completions("openrouter", "https://openrouter.ai/api/v1", &["OPENROUTER_API_KEY"], OPENROUTER),
    BuiltIn {
        id: "anthropic",
        api: "anthropic-messages",
        base_url: "https://api.anthropic.com",
        env: &["ANTHROPIC_OAUTH_TOKEN", "ANTHROPIC_API_KEY"],
        keyless: false,
        models: ANTHROPIC,
    },
    BuiltIn {
        id: "openai",
        api: "openai-responses",
        base_url: "https://api.openai.com/v1",
        env: &["OPENAI_API_KEY"],
        keyless: false,
        models: OPENAI,
    },
    BuiltIn {
        id: "google",
        api: "google-generative-ai",
        base_url: "https://generativelanguage.googleapis.com/v1beta",
        env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        keyless: false,
        models: GOOGLE,
    },
    completions("groq", "https://api.groq.com/openai/v1", &["GROQ_API_KEY"], GROQ),
    completions("xai", "https://api.x.ai/v1", &["XAI_API_KEY"], XAI),
    completions("moonshot", "https://api.moonshot.ai/v1", &["MOONSHOT_API_KEY"], MOONSHOT),
    completions("deepseek", "https://api.deepseek.com/v1", &["DEEPSEEK_API_KEY"], DEEPSEEK),
    completions("mistral", "https://api.mistral.ai/v1", &["MISTRAL_API_KEY"], &[]),
    completions("together", "https://api.together.xyz/v1", &["TOGETHER_API_KEY"], &[]),
    completions("cerebras", "https://api.cerebras.ai/v1", &["CEREBRAS_API_KEY"], &[]),
    completions("nvidia", "https://integrate.api.nvidia.com/v1", &["NVIDIA_API_KEY"], &[]),
    completions("venice", "https://api.venice.ai/api/v1", &["VENICE_API_KEY"], &[]),
    completions("zai", "https://api.z.ai/api/paas/v4", &["ZAI_API_KEY", "Z_AI_API_KEY"], &[]),
    completions(
        "huggingface",
        "https://router.huggingface.co/v1",
        &["HUGGINGFACE_HUB_TOKEN", "HF_TOKEN"],
        &[],
    ),
    completions("vercel-ai-gateway", "https://ai-gateway.vercel.sh/v1", &["AI_GATEWAY_API_KEY"], &[]),
    local("ollama", "ollama", "http://127.0.0.1:11434", &["OLLAMA_API_KEY"]),
    local("lmstudio", COMPLETIONS, "http://127.0.0.1:1234/v1", &["LMSTUDIO_API_KEY"]),
    local("llamacpp", COMPLETIONS, "http://127.0.0.1:8080/v1", &["LLAMACPP_API_KEY"]),
    local("vllm", COMPLETIONS, "http://127.0.0.1:8000/v1", &["VLLM_API_KEY"]),
    local("litellm", COMPLETIONS, "http://127.0.0.1:4000/v1", &["LITELLM_API_KEY"]),
    BuiltIn { id: "demo", api: "demo", base_url: "", env: &[], keyless: true, models: DEMO },
];

const DEMO: &[Known] =
    &[known("demo", "Built-in demo (offline, not a language model)", PLAIN, FREE, (32_000, 4096))];

const OPENROUTER: &[Known] = &[
    known("auto", "OpenRouter Auto", BOTH, FREE, (200_000, 8192)),
    known("x-ai/grok-4.1-fast", "Grok 4.1 Fast", BOTH, (0.2, 0.5, 0.05, 0.0), (2_000_000, 30_000)),
    known("moonshotai/kimi-k2.5", "Kimi K2.5", BOTH, (0.6, 3.0, 0.1, 0.0), (262_144, 65_536)),
    known("anthropic/claude-opus-4.6", "Claude Opus 4.6", BOTH, (5.0, 25.0, 0.5, 6.25), (200_000, 128_000)),
    known(
        "anthropic/claude-sonnet-4.6",
        "Claude Sonnet 4.6",
        BOTH,
        (3.0, 15.0, 0.3, 3.75),
        (200_000, 64_000),
    ),
    known("openai/gpt-5.2", "GPT-5.2", BOTH, (1.75, 14.0, 0.175, 0.0), (400_000, 128_000)),
    known(
        "google/gemini-3-flash-preview",
        "Gemini 3 Flash",
        BOTH,
        (0.5, 3.0, 0.05, 0.0),
        (1_048_576, 65_536),
    ),
    known("deepseek/deepseek-v3.2", "DeepSeek V3.2", THINKS, (0.28, 0.42, 0.028, 0.0), (131_072, 65_536)),
];

const ANTHROPIC: &[Known] = &[
    known("claude-opus-4-6", "Claude Opus 4.6", BOTH, (5.0, 25.0, 0.5, 6.25), (200_000, 128_000)),
    known("claude-sonnet-4-6", "Claude Sonnet 4.6", BOTH, (3.0, 15.0, 0.3, 3.75), (200_000, 64_000)),
    known("claude-opus-4-5", "Claude Opus 4.5", BOTH, (5.0, 25.0, 0.5, 6.25), (200_000, 64_000)),
    known("claude-sonnet-4-5", "Claude Sonnet 4.5", BOTH, (3.0, 15.0, 0.3, 3.75), (200_000, 64_000)),
    known("claude-haiku-4-5", "Claude Haiku 4.5", BOTH, (1.0, 5.0, 0.1, 1.25), (200_000, 64_000)),
];

const OPENAI: &[Known] = &[
    known("gpt-5.2", "GPT-5.2", BOTH, (1.75, 14.0, 0.175, 0.0), (400_000, 128_000)),
    known("gpt-5.1", "GPT-5.1", BOTH, (1.25, 10.0, 0.125, 0.0), (400_000, 128_000)),
    known("gpt-5-mini", "GPT-5 mini", BOTH, (0.25, 2.0, 0.025, 0.0), (400_000, 128_000)),
    known("gpt-4.1", "GPT-4.1", SEES, (2.0, 8.0, 0.5, 0.0), (1_047_576, 32_768)),
    known("gpt-4o", "GPT-4o", SEES, (2.5, 10.0, 1.25, 0.0), (128_000, 16_384)),
    known("gpt-4o-mini", "GPT-4o mini", SEES, (0.15, 0.6, 0.075, 0.0), (128_000, 16_384)),
];

const GOOGLE: &[Known] = &[
    known("gemini-3-pro-preview", "Gemini 3 Pro", BOTH, (2.0, 12.0, 0.2, 0.0), (1_048_576, 65_536)),
    known("gemini-3-flash-preview", "Gemini 3 Flash", BOTH, (0.5, 3.0, 0.05, 0.0), (1_048_576, 65_536)),
    known("gemini-2.5-pro", "Gemini 2.5 Pro", BOTH, (1.25, 10.0, 0.125, 0.0), (1_048_576, 65_536)),
    known("gemini-2.5-flash", "Gemini 2.5 Flash", BOTH, (0.3, 2.5, 0.03, 0.0), (1_048_576, 65_536)),
];

const GROQ: &[Known] = &[
    known("llama-3.3-70b-versatile", "Llama 3.3 70B", PLAIN, (0.59, 0.79, 0.0, 0.0), (131_072, 32_768)),
    known("openai/gpt-oss-120b", "GPT-OSS 120B", THINKS, (0.15, 0.6, 0.075, 0.0), (131_072, 65_536)),
    known("moonshotai/kimi-k2-instruct-0905", "Kimi K2 0905", PLAIN, (1.0, 3.0, 0.5, 0.0), (262_144, 16_384)),
];

const XAI: &[Known] = &[
    known("grok-4-1-fast", "Grok 4.1 Fast", BOTH, (0.2, 0.5, 0.05, 0.0), (2_000_000, 30_000)),
    known("grok-4", "Grok 4", BOTH, (3.0, 15.0, 0.75, 0.0), (256_000, 64_000)),
    known("grok-code-fast-1", "Grok Code Fast 1", THINKS, (0.2, 1.5, 0.02, 0.0), (256_000, 10_000)),
];

const MOONSHOT: &[Known] = &[
    known("kimi-k2.5", "Kimi K2.5", BOTH, (0.6, 3.0, 0.1, 0.0), (262_144, 65_536)),
    known("kimi-k2-0905-preview", "Kimi K2 0905", PLAIN, (0.6, 2.5, 0.15, 0.0), (262_144, 16_384)),
];

const DEEPSEEK: &[Known] = &[
    known("deepseek-chat", "DeepSeek Chat", PLAIN, (0.28, 0.42, 0.028, 0.0), (131_072, 8192)),
    known("deepseek-reasoner", "DeepSeek Reasoner", THINKS, (0.28, 0.42, 0.028, 0.0), (131_072, 65_536)),
];
