//! Commands that show or change one setting of the session: `/think`, `/reasoning`, `/usage`.

use super::{Asked, Command, Outcome};
use crate::provider::ThinkingLevel;
use crate::tool::BoxFuture;
use serde_json::Value;

/// One setting: a field of the session's entry and the words that it takes.
pub struct Setting {
    name: &'static str,
    aliases: &'static [&'static str],
    help: &'static str,
    /// Field of the entry in `sessions.json`.
    pub field: &'static str,
    /// What people call it.
    noun: &'static str,
    options: &'static str,
    /// A person's word → the stored one.
    parse: fn(&str) -> Option<&'static str>,
}

pub static THINK: Setting = Setting {
    name: "think",
    aliases: &["thinking", "t"],
    help: "/think [off|minimal|low|medium|high|xhigh]: how long the model thinks",
    field: "thinkingLevel",
    noun: "Thinking level",
    options: "off, minimal, low, medium, high, xhigh",
    parse: |word| ThinkingLevel::parse(word).map(ThinkingLevel::as_str),
};

pub static REASONING: Setting = Setting {
    name: "reasoning",
    aliases: &["reason"],
    help: "/reasoning [on|off|stream]: show the model's thoughts",
    field: "reasoningLevel",
    noun: "Reasoning",
    options: "on, off, stream",
    parse: |word| {
        Some(match word {
            "on" | "true" | "yes" | "show" => "on",
            "off" | "false" | "no" | "hide" => "off",
            "stream" | "streaming" | "live" => "stream",
            _ => return None,
        })
    },
};

pub static USAGE: Setting = Setting {
    name: "usage",
    aliases: &[],
    help: "/usage [off|tokens|full|cost]: a line with tokens below each answer, or what was spent",
    field: "responseUsage",
    noun: "Usage line",
    options: "off, tokens, full",
    parse: |word| {
        Some(match word {
            "off" | "no" | "none" => "off",
            "tokens" | "on" | "token" => "tokens",
            "full" | "all" => "full",
            _ => return None,
        })
    },
};

impl Setting {
    /// The stored word, if this is one of the setting's words.
    pub fn meant(&self, word: &str) -> Option<&'static str> {
        (self.parse)(&word.trim().to_lowercase())
    }

    /// The names that it goes by, in messages too.
    pub fn is_called(&self, word: &str) -> bool {
        self.name == word || self.aliases.contains(&word)
    }

    pub fn changed(&self, value: &str) -> String {
        format!("⚙️ {} set to {value}.", self.noun)
    }

    fn shown(&self, now: &str) -> String {
        format!("⚙️ {}: {now}.\nOptions: {}.", self.noun, self.options)
    }

    fn unknown(&self, word: &str) -> String {
        format!("⚠️ \"{word}\" is not an option of /{}. Options: {}.", self.name, self.options)
    }

    async fn now(&self, asked: Asked<'_>) -> String {
        let entry = asked.agent.sessions.entry(asked.session_key).await.ok().flatten().unwrap_or_default();
        let default = match self.field {
            "thinkingLevel" => asked.active.setup.agent.thinking_default.clone(),
            _ => None,
        };
        match (entry.str(self.field), default) {
            (Some(value), _) => value.to_owned(),
            (None, Some(default)) => format!("{default} (default)"),
            (None, None) if self.field == "thinkingLevel" => {
                "what the model does by itself (default)".to_owned()
            }
            (None, None) => "off (default)".to_owned(),
        }
    }
}

/// Words that take a setting back.
fn clears(word: &str) -> bool {
    matches!(word, "default" | "reset" | "clear" | "inherit")
}

impl Command for Setting {
    fn name(&self) -> &'static str {
        self.name
    }

    fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let word = asked.args.to_lowercase();
            if word.is_empty() || word == "status" {
                return Outcome::Reply(self.shown(&self.now(asked).await));
            }
            if self.name == "usage" && word == "cost" {
                return Outcome::Reply(super::cost::text(asked).await);
            }
            let value = match (clears(&word), self.meant(&word)) {
                (true, _) => Value::Null,
                (false, Some(value)) => value.into(),
                (false, None) => return Outcome::Reply(self.unknown(asked.args)),
            };
            let reply = match value.as_str() {
                Some(value) => self.changed(value),
                None => format!("⚙️ {} is the default again.", self.noun),
            };
            Outcome::Reply(super::stored(asked, vec![(self.field, value)], reply).await)
        })
    }
}
