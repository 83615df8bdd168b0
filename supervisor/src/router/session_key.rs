//! The grammar of session keys (PURE).
//!
//! `agent:<agent>:<rest>`, all lower case; `global` and `unknown` are reserved. A key routes, it does not authorise.

use proto::view::{PeerKind, SessionScope, SessionView, normalize_agent_id};

/// The one session of `session.scope: "global"`.
pub const GLOBAL: &str = "global";
/// Messages without a sender that could be told; never listed.
pub const UNKNOWN: &str = "unknown";

/// A key taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    pub agent: &'a str,
    /// Everything after `agent:<agent>:`.
    pub rest: &'a str,
}

/// `None` for reserved and bare keys.
pub fn parse(key: &str) -> Option<Parts<'_>> {
    let (agent, rest) = key.strip_prefix("agent:")?.split_once(':')?;
    (!agent.is_empty() && !rest.is_empty()).then_some(Parts { agent, rest })
}

/// The session in which an agent talks to its owner.
pub fn main_session(agent: &str, session: &SessionView) -> String {
    match session.scope {
        SessionScope::Global => GLOBAL.to_owned(),
        SessionScope::PerSender => format!("agent:{agent}:{}", session.main_key()),
    }
}

/// The key that a client meant: aliases of the main session resolved, bare keys put under the default agent, lower case.
pub fn canonical(raw: &str, default_agent: &str, session: &SessionView) -> String {
    let key = raw.trim().to_lowercase();
    if key == GLOBAL || key == UNKNOWN {
        return key;
    }
    let is_main = |rest: &str| rest.is_empty() || rest == "main" || rest == session.main_key();
    if let Some(tail) = key.strip_prefix("agent:") {
        let (agent, rest) = tail.split_once(':').unwrap_or((tail, ""));
        let agent = normalize_agent_id(agent);
        return if is_main(rest) { main_session(&agent, session) } else { format!("agent:{agent}:{rest}") };
    }
    if is_main(&key) { main_session(default_agent, session) } else { format!("agent:{default_agent}:{key}") }
}

/// What kind of conversation a key stands for; `None` for the main session, jobs and sub-agents.
pub fn chat_kind(key: &str) -> Option<PeerKind> {
    let rest = parse(key).map_or(key, |parts| parts.rest);
    rest.split(':').find_map(|token| match token {
        "group" => Some(PeerKind::Group),
        "channel" => Some(PeerKind::Channel),
        // Early releases wrote `dm`.
        "direct" | "dm" => Some(PeerKind::Direct),
        _ => None,
    })
}

/// How deep a sub-agent's session is nested; 0 for others.
pub fn subagent_depth(key: &str) -> usize {
    parse(key).map_or(0, |parts| parts.rest.split(':').filter(|token| *token == "subagent").count())
}

pub fn is_cron(key: &str) -> bool {
    parse(key).is_some_and(|parts| parts.rest.starts_with("cron:"))
}

/// A topic's or thread's key without the topic: where it inherits from.
#[cfg_attr(not(test), expect(dead_code, reason = "inheritance comes with the whole session rules"))]
pub fn parent(key: &str) -> Option<&str> {
    let at = key.rfind(":topic:").into_iter().chain(key.rfind(":thread:")).max()?;
    key.get(..at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_may_say_main_in_many_ways() {
        let session = SessionView::default();
        for raw in ["main", " MAIN ", "", "agent:main:main", "AGENT:main:MAIN", "agent:main", "agent:main:"] {
            assert_eq!(canonical(raw, "main", &session), "agent:main:main", "{raw:?}");
        }
        assert_eq!(canonical("agent:Sales Team:main", "main", &session), "agent:sales-team:main");
        assert_eq!(canonical("hook:1F", "main", &session), "agent:main:hook:1f");
        assert_eq!(canonical("agent:x:Telegram:Group:-1", "main", &session), "agent:x:telegram:group:-1");
        assert_eq!(canonical("Global", "main", &session), GLOBAL);
        let global = SessionView { scope: SessionScope::Global, ..session };
        assert_eq!(canonical("main", "main", &global), GLOBAL);
        assert_eq!(canonical("agent:x:main", "main", &global), GLOBAL);
        assert_eq!(canonical("agent:x:cron:1", "main", &global), "agent:x:cron:1");
    }

    #[test]
    fn canonical_is_a_fixed_point() {
        let session = SessionView::default();
        for raw in ["main", "agent:a:b", "agent::x", "hook:1", "node-7", "agent:ä:b", ":", "agent:x:main:y"]
        {
            let once = canonical(raw, "main", &session);
            assert_eq!(canonical(&once, "main", &session), once, "{raw:?}");
            assert!(parse(&once).is_some(), "{once}");
        }
    }

    #[test]
    fn keys_tell_their_kind() {
        assert_eq!(chat_kind("agent:a:telegram:group:-1:topic:2"), Some(PeerKind::Group));
        assert_eq!(chat_kind("agent:a:slack:channel:c1"), Some(PeerKind::Channel));
        assert_eq!(chat_kind("agent:a:telegram:dm:1"), Some(PeerKind::Direct));
        assert_eq!(chat_kind("agent:a:direct:group"), Some(PeerKind::Direct), "the first token counts");
        assert_eq!(chat_kind("agent:group:main"), None, "an agent's name is no kind");
        assert_eq!(subagent_depth("agent:a:subagent:1:subagent:2"), 2);
        assert_eq!(subagent_depth("agent:a:main"), 0);
        assert!(is_cron("agent:a:cron:j:run:s") && !is_cron("cron:j"));
        assert_eq!(parent("agent:a:telegram:group:-1:topic:2"), Some("agent:a:telegram:group:-1"));
        assert_eq!(parent("agent:a:main"), None);
        assert_eq!(parse("agent::x"), None);
    }
}
