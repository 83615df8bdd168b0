//! Chat commands that this worker answers without a model: parsing (PURE) and the table. One file each below.
//! Queueing, stopping and pairing are the supervisor's; `/stop` comes here only when nothing was running.

use crate::agent::{Active, Agent, row};
use crate::clock::now_ms;
use crate::session::store::SessionEntry;
use crate::tool::BoxFuture;
use proto::wire::agent::RunSpec;
use serde_json::Value;

pub mod compact;
pub mod context;
pub mod cost;
pub mod directive;
pub mod help;
pub mod model;
pub mod new;
pub mod reset;
pub mod setting;
pub mod status;
pub mod stop;
pub mod whoami;

/// What a command may look at.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub agent: &'a Agent,
    pub active: &'a Active,
    pub session_key: &'a str,
    pub spec: &'a RunSpec,
    /// The rest of the message, trimmed.
    pub args: &'a str,
}

/// What becomes of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Reply(String),
    /// The older part of the conversation is summarised; the run answers with what came of it.
    Compact {
        wishes: String,
    },
    /// A new session, and the run goes on with `args` or a greeting.
    NewSession {
        is_new: bool,
    },
}

/// One command.
pub trait Command: Sync {
    /// Without the slash.
    fn name(&self) -> &'static str;
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }
    /// One line of `/help`.
    fn help(&self) -> &'static str;
    fn run<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Outcome>;
}

/// Every command, in the order of `/help`.
pub fn all() -> &'static [&'static dyn Command] {
    ALL
}

static ALL: &[&dyn Command] = &[
    &new::New,
    &reset::Reset,
    &stop::Stop,
    &status::Status,
    &model::Model,
    &model::Models,
    &setting::THINK,
    &setting::REASONING,
    &setting::USAGE,
    &compact::Compact,
    &context::Context,
    &whoami::Whoami,
    &help::Help,
];

/// Fields of a session's entry, to be set.
pub type Fields = Vec<(&'static str, Value)>;

/// Writes fields of the session's entry; gives the reply, or why it could not be done.
pub async fn stored(asked: Asked<'_>, fields: Fields, reply: String) -> String {
    let change = move |entry: &mut SessionEntry| {
        if entry.session_id().is_none() {
            entry.set("sessionId", uuid::Uuid::new_v4().to_string());
        }
        for (field, value) in fields {
            entry.set(field, value);
        }
        entry.set("updatedAt", now_ms());
        Ok::<(), std::convert::Infallible>(())
    };
    match asked.agent.sessions.update(asked.session_key, change).await {
        Ok(Ok(entry)) => {
            let row = row(&asked.active.setup.agent_id, asked.session_key, &entry);
            asked.agent.session_changed(row, "patch").await;
            reply
        }
        Err(error) => format!("⚠️ The session cannot be changed: {error}"),
    }
}

/// The command that a message is, and its arguments. A bot name behind the command and a colon are allowed.
pub fn parse(text: &str) -> Option<(&'static dyn Command, &str)> {
    let body = text.trim().strip_prefix('/')?;
    let end = body.find(|c: char| c.is_whitespace() || c == ':' || c == '@').unwrap_or(body.len());
    let (word, mut rest) = body.split_at(end);
    if let Some(bot) = rest.strip_prefix('@') {
        let end = bot.find(char::is_whitespace).unwrap_or(bot.len());
        rest = bot.get(end..).unwrap_or_default();
    }
    let rest = rest.strip_prefix(':').unwrap_or(rest).trim();
    let word = word.to_ascii_lowercase();
    let found =
        all().iter().find(|command| command.name() == word || command.aliases().contains(&word.as_str()))?;
    Some((*found, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_command() {
        let parsed = |text| parse(text).map(|(command, args)| (command.name(), args));
        assert_eq!(parsed("/status"), Some(("status", "")));
        assert_eq!(parsed(" /Context@my_bot  detail "), Some(("context", "detail")));
        assert_eq!(parsed("/new: hello\nthere"), Some(("new", "hello\nthere")));
        assert_eq!(parsed("/statusbar"), None);
        assert_eq!(parsed("say /status"), None);
        assert_eq!(parsed("/"), None);
    }

    #[test]
    fn names_are_unique_and_helped() {
        let mut names: Vec<&str> =
            all().iter().flat_map(|command| [&[command.name()], command.aliases()].concat()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(all().iter().all(|command| !command.help().is_empty()));
    }
}
