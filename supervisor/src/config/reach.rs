//! How far a key reaches: what a change of it restarts, and whether anything reads it yet.
//!
//! One row per prefix, the longest match wins. Every known key has a row (a test walks them all); one that had none would
//! restart the gateway when changed and count as not built yet.

use serde_json::Value;

/// What must happen for a change to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nothing reads it at run time, or everyone reads it at each use.
    None,
    /// Applied in the running gateway.
    Hot,
    /// The agent's worker is replaced.
    Agent,
    /// The account's worker is replaced.
    Channel,
    /// The listener moves to another address.
    Rebind,
    /// The gateway restarts.
    Restart,
}

impl Reach {
    /// `x-class` of the schema.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hot => "hot",
            Self::Agent => "worker-agent",
            Self::Channel => "worker-channel",
            Self::Rebind => "rebind",
            Self::Restart => "restart",
        }
    }

    /// `reloadKind` of `config.schema.lookup`: clients know only three.
    #[must_use]
    pub fn reload_kind(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hot | Self::Agent | Self::Channel => "hot",
            Self::Rebind | Self::Restart => "restart",
        }
    }
}

use Reach::{Agent, Channel, Hot, Rebind, Restart};

/// Prefix, reach, built. `*` matches any one part.
const TABLE: &[(&str, Reach, bool)] = &[
    ("$schema", Reach::None, true),
    ("meta", Reach::None, true),
    ("wizard", Reach::None, true),
    ("compat", Reach::None, true),
    // What a variable reaches shows in the values that name it, and in the workers that have it.
    ("env", Hot, true),
    ("env.shellEnv", Restart, false),
    ("oauth", Hot, false),
    ("agents.defaults", Agent, false),
    ("agents.defaults.bootstrapMaxChars", Hot, true),
    ("agents.defaults.bootstrapTotalMaxChars", Hot, true),
    ("agents.defaults.compaction.keepRecentTokens", Hot, true),
    ("agents.defaults.compaction.maxHistoryShare", Hot, true),
    ("agents.defaults.compaction.mode", Hot, true),
    ("agents.defaults.compaction.reserveTokens", Hot, true),
    ("agents.defaults.compaction.reserveTokensFloor", Hot, true),
    ("agents.defaults.contextTokens", Hot, true),
    ("agents.defaults.isolation", Agent, true),
    ("agents.defaults.maxConcurrent", Hot, true),
    ("agents.defaults.model", Hot, true),
    ("agents.defaults.models", Hot, true),
    ("agents.defaults.repoRoot", Hot, true),
    ("agents.defaults.retry", Hot, true),
    ("agents.defaults.skipBootstrap", Agent, true),
    ("agents.defaults.thinkingDefault", Hot, true),
    ("agents.defaults.timeoutSeconds", Hot, true),
    ("agents.defaults.userTimezone", Hot, true),
    ("agents.defaults.verboseDefault", Hot, true),
    ("agents.defaults.workspace", Agent, true),
    ("agents.defaults.heartbeat", Hot, false),
    ("agents.list", Agent, true),
    ("agents.list.*", Agent, true),
    ("agents.list.*.default", Hot, true),
    ("agents.list.*.groupChat", Hot, true),
    ("agents.list.*.heartbeat", Hot, false),
    ("agents.list.*.identity", Hot, true),
    ("agents.list.*.model", Hot, true),
    ("agents.list.*.name", Hot, true),
    ("agents.list.*.skills", Hot, true),
    ("agents.list.*.tools", Hot, true),
    ("agents.list.*.sandbox", Agent, false),
    ("agents.list.*.subagents", Agent, false),
    ("agents.list.*.memorySearch", Agent, false),
    ("agents.list.*.humanDelay", Agent, false),
    ("agents.entries", Agent, true),
    ("agents.ownership", Restart, false),
    ("auth", Hot, false),
    ("auth.cooldowns", Hot, true),
    ("auth.order", Hot, true),
    ("auth.profiles", Hot, true),
    ("models", Hot, false),
    ("models.mode", Hot, true),
    ("models.providers", Hot, true),
    ("tools", Hot, false),
    ("tools.allow", Hot, true),
    ("tools.alsoAllow", Hot, true),
    ("tools.byProvider", Hot, true),
    ("tools.deny", Hot, true),
    ("tools.exec", Hot, false),
    ("tools.exec.applyPatch", Hot, true),
    ("tools.exec.ask", Hot, true),
    ("tools.exec.backgroundMs", Hot, true),
    ("tools.exec.cleanupMs", Hot, true),
    ("tools.exec.notifyOnExit", Hot, true),
    ("tools.exec.notifyOnExitEmptySuccess", Hot, true),
    ("tools.exec.pathPrepend", Hot, true),
    ("tools.exec.security", Hot, true),
    ("tools.exec.timeoutSec", Hot, true),
    ("tools.fs", Hot, true),
    ("tools.profile", Hot, true),
    ("skills", Hot, false),
    ("skills.entries", Hot, true),
    ("skills.limits", Hot, true),
    // What tools may read of the disk is put in force at the start of a process.
    ("skills.load.extraDirs", Agent, true),
    ("session", Hot, true),
    ("session.agentToAgent", Hot, false),
    ("session.maintenance", Hot, false),
    ("session.sendPolicy", Hot, false),
    ("session.threadBindings", Hot, false),
    ("messages", Hot, false),
    ("messages.groupChat", Hot, true),
    ("messages.queue", Hot, true),
    ("bindings", Hot, true),
    ("commands", Hot, false),
    ("commands.ownerAllowFrom", Hot, true),
    ("commands.restart", Hot, true),
    ("channels", Channel, false),
    ("channels.defaults", Hot, true),
    ("channels.telegram", Channel, true),
    // Who may talk and how much of a group is remembered is read here for each message.
    ("channels.telegram.allowFrom", Hot, true),
    ("channels.telegram.configWrites", Hot, true),
    ("channels.telegram.dmHistoryLimit", Hot, true),
    ("channels.telegram.dmPolicy", Hot, true),
    ("channels.telegram.groupAllowFrom", Hot, true),
    ("channels.telegram.groupPolicy", Hot, true),
    ("channels.telegram.groups", Hot, true),
    ("channels.telegram.historyLimit", Hot, true),
    ("channels.telegram.name", Hot, true),
    ("channels.telegram.onUnknown", Hot, true),
    ("channels.telegram.responsePrefix", Hot, false),
    ("channels.telegram.ackReaction", Hot, false),
    ("channels.telegram.groups.*.skills", Hot, false),
    ("channels.telegram.groups.*.systemPrompt", Hot, false),
    ("channels.telegram.groups.*.topics.*.systemPrompt", Hot, false),
    ("channels.telegram.reactionLevel", Hot, false),
    ("channels.telegram.reactionNotifications", Hot, false),
    ("channels.telegram.streaming", Hot, true),
    ("channels.telegram.accounts.*.allowFrom", Hot, true),
    ("channels.telegram.accounts.*.configWrites", Hot, true),
    ("channels.telegram.accounts.*.dmHistoryLimit", Hot, true),
    ("channels.telegram.accounts.*.dmPolicy", Hot, true),
    ("channels.telegram.accounts.*.groupAllowFrom", Hot, true),
    ("channels.telegram.accounts.*.groupPolicy", Hot, true),
    ("channels.telegram.accounts.*.groups", Hot, true),
    ("channels.telegram.accounts.*.historyLimit", Hot, true),
    ("channels.telegram.accounts.*.name", Hot, true),
    ("channels.telegram.accounts.*.onUnknown", Hot, true),
    ("channels.telegram.accounts.*.responsePrefix", Hot, false),
    ("channels.telegram.accounts.*.ackReaction", Hot, false),
    ("channels.telegram.accounts.*.groups.*.skills", Hot, false),
    ("channels.telegram.accounts.*.groups.*.systemPrompt", Hot, false),
    ("channels.telegram.accounts.*.groups.*.topics.*.systemPrompt", Hot, false),
    ("channels.telegram.accounts.*.reactionLevel", Hot, false),
    ("channels.telegram.accounts.*.reactionNotifications", Hot, false),
    ("channels.telegram.accounts.*.streaming", Hot, true),
    ("hooks", Hot, false),
    ("cron", Hot, false),
    ("browser", Hot, false),
    ("web", Hot, false),
    ("logging", Restart, true),
    ("logging.consoleLevel", Hot, true),
    ("logging.level", Hot, true),
    ("ui", Reach::None, false),
    ("update.command", Reach::None, true),
    ("talk", Reach::None, false),
    ("audio", Reach::None, false),
    ("secrets", Hot, false),
    // Rules are put in force at the start of a process: every worker, channels too, is replaced.
    ("isolation", Agent, true),
    // Nothing reads them yet.
    ("accessGroups", Restart, false),
    ("acp", Restart, false),
    ("approvals", Restart, false),
    ("attachments", Restart, false),
    ("broadcast", Restart, false),
    ("canvasHost", Restart, false),
    ("cloudWorkers", Restart, false),
    ("desktop", Restart, false),
    ("diagnostics", Restart, false),
    ("discovery", Restart, false),
    ("mcp", Restart, false),
    ("media", Restart, false),
    ("memory", Restart, false),
    ("nodeHost", Restart, false),
    ("plugins", Restart, false),
    ("proxy", Restart, false),
    ("security", Restart, false),
    ("surfaces", Restart, false),
    ("telemetry", Restart, false),
    ("transcripts", Restart, false),
    ("tts", Restart, false),
    ("update", Restart, false),
    ("worktreeAcceleration", Restart, false),
    ("worktreeRoot", Restart, false),
    ("gateway", Restart, false),
    ("gateway.allowRealIpFallback", Hot, true),
    ("gateway.auth.allowTailscale", Hot, false),
    ("gateway.auth.mode", Hot, true),
    ("gateway.auth.password", Hot, true),
    ("gateway.auth.rateLimit", Hot, true),
    ("gateway.auth.token", Hot, true),
    ("gateway.auth.trustedProxy", Hot, true),
    ("gateway.bind", Rebind, true),
    ("gateway.channelHealthCheckMinutes", Hot, false),
    ("gateway.controlUi.allowInsecureAuth", Hot, true),
    ("gateway.controlUi.allowedOrigins", Hot, true),
    ("gateway.controlUi.basePath", Hot, true),
    ("gateway.controlUi.dangerouslyAllowHostHeaderOriginFallback", Hot, true),
    ("gateway.controlUi.dangerouslyDisableDeviceAuth", Hot, true),
    ("gateway.controlUi.enabled", Hot, true),
    ("gateway.controlUi.root", Hot, true),
    ("gateway.customBindHost", Rebind, true),
    ("gateway.http.endpoints.chatCompletions.enabled", Hot, true),
    ("gateway.http.endpoints.responses", Hot, false),
    ("gateway.http.securityHeaders", Hot, true),
    ("gateway.limits", Restart, true),
    ("gateway.limits.maxRuns", Hot, true),
    ("gateway.mode", Restart, true),
    ("gateway.nodes.pairing.autoApproveLocal", Hot, true),
    ("gateway.onInvalidConfig", Reach::None, true),
    ("gateway.port", Rebind, true),
    ("gateway.reload", Reach::None, true),
    ("gateway.remote.password", Reach::None, true),
    ("gateway.remote.token", Reach::None, true),
    ("gateway.remote.url", Reach::None, true),
    ("gateway.remote", Reach::None, false),
    ("gateway.restart.keepSockets", Hot, true),
    ("gateway.tailscale.mode", Restart, true),
    ("gateway.tailscale.resetOnExit", Restart, true),
    ("gateway.tls.enabled", Restart, true),
    ("gateway.trustedProxies", Hot, true),
];

/// `agents.entries.<id>` holds what an item of `agents.list` holds.
fn parts_of(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.split('.').collect();
    if let ["agents", second @ "entries", _, ..] = parts.as_mut_slice() {
        *second = "list";
    }
    parts
}

/// The row of a dotted path.
fn row(path: &str) -> Option<&'static (&'static str, Reach, bool)> {
    let parts = parts_of(path);
    let matches = |prefix: &str| {
        let wanted: Vec<&str> = prefix.split('.').collect();
        wanted.len() <= parts.len()
            && wanted.iter().zip(&parts).all(|(want, part)| *want == "*" || want == part)
    };
    TABLE
        .iter()
        .filter(|(prefix, _, _)| matches(prefix))
        .max_by_key(|(prefix, _, _)| prefix.matches('.').count())
}

/// What a change at this path needs.
#[must_use]
pub fn reach(path: &str) -> Reach {
    row(path).map_or(Restart, |(_, reach, _)| *reach)
}

/// Whether anything reads this path.
#[must_use]
pub fn is_built(path: &str) -> bool {
    row(path).is_some_and(|(_, _, built)| *built)
}

/// Whether a longer row may say something else about keys below this path.
fn is_split(path: &str) -> bool {
    let at = parts_of(path);
    TABLE.iter().any(|(prefix, _, _)| {
        let parts: Vec<&str> = prefix.split('.').collect();
        parts.len() > at.len() && parts.iter().zip(&at).all(|(want, part)| *want == "*" || want == part)
    })
}

/// The part of a value at `path` whose change needs exactly this.
#[must_use]
pub fn part(value: &Value, path: &str, wanted: Reach) -> Value {
    let below = |key: &str| format!("{path}.{key}");
    if !is_split(path) {
        return if reach(path) == wanted { value.clone() } else { Value::Null };
    }
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), part(value, &below(key), wanted)));
            Value::Object(kept.filter(|(_, value)| !value.is_null()).collect())
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| part(item, &below("*"), wanted)).collect())
        }
        other if reach(path) == wanted => other.clone(),
        _ => Value::Null,
    }
}

/// The configured keys that nothing reads yet, each as the topmost path of which that is true.
#[must_use]
pub fn unbuilt(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(config, "", &mut found);
    found
}

fn collect(value: &Value, path: &str, found: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    if !path.is_empty() && !is_split(path) {
        if !is_built(path) {
            found.push(path.to_owned());
        }
        return;
    }
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, &below(key), found)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| collect(value, &below(&index.to_string()), found));
        }
        _ if !path.is_empty() && !is_built(path) => found.push(path.to_owned()),
        _ => {}
    }
}

/// A copy without the keys that nothing reads yet: what the strict typed forms are given.
#[must_use]
pub fn without_unbuilt(config: &Value) -> Value {
    let mut copy = config.clone();
    for path in unbuilt(config) {
        if let Ok(path) = super::key_path::KeyPath::parse(&path) {
            path.remove(&mut copy);
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::known::shapes;
    use serde_json::json;

    #[test]
    fn every_row_names_keys_that_exist() {
        let root = shapes();
        for (prefix, _, _) in TABLE {
            let found = prefix.split('.').try_fold(&root, |shape, part| {
                if part == "*" { shape.item.as_ref().or(shape.any_key.as_ref()) } else { shape.child(part) }
                    .map(|child| &**child)
            });
            assert!(found.is_some(), "{prefix}");
        }
    }

    /// Calls with the path of every key, `*` and `[]` as `*`; a shape that is used in many places is walked in each.
    fn each_key(shape: &crate::config::known::Shape, path: &str, seen: &mut impl FnMut(&str)) {
        let below = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
        let named = shape.keys.iter().map(|(key, child)| (key.as_str(), child));
        let any = shape.any_key.iter().chain(&shape.item).map(|child| ("*", child));
        for (part, child) in named.chain(any) {
            let path = below(part);
            seen(&path);
            each_key(child, &path, seen);
        }
    }

    #[test]
    fn every_key_has_a_row_of_its_own_or_of_its_section() {
        let mut without = Vec::new();
        let mut count = 0;
        each_key(&shapes(), "", &mut |path| {
            count += 1;
            // `agents` itself is not a key to be set: each part of it has its row.
            if row(path).is_none() && path != "agents" {
                without.push(path.to_owned());
            }
        });
        assert_eq!(without, Vec::<String>::new());
        assert!(count > 3_000, "only {count} keys");
    }

    #[test]
    fn the_longest_row_decides_and_the_rest_restarts() {
        assert_eq!(reach("gateway.port"), Rebind);
        assert_eq!(reach("gateway.terminal.enabled"), Restart);
        assert_eq!(reach("agents.defaults.heartbeat.every"), Hot);
        assert_eq!(reach("agents.list.0.heartbeat.every"), Hot);
        assert_eq!(reach("agents.list.0.model"), Hot);
        assert_eq!(reach("agents.entries.ops.workspace"), Agent);
        assert_eq!(reach("agents.entries.ops"), Agent);
        assert_eq!(reach("discovery.mdns.mode"), Restart);
        assert_eq!(reach("gateway.bind").reload_kind(), "restart");
    }

    #[test]
    fn what_nothing_reads_is_listed_at_its_top() {
        let config = json!({"browser": {"enabled": true}, "gateway": {"port": 1, "nodes": {"allowCommands": []}},
            "agents": {"list": [{"id": "a", "sandbox": {"mode": "all"}}]}, "tools": {"exec": {"host": "node"}}});
        assert_eq!(
            unbuilt(&config),
            ["browser", "gateway.nodes.allowCommands", "agents.list.0.sandbox", "tools.exec.host"]
        );
        let read = without_unbuilt(&config);
        assert_eq!(read, json!({"gateway": {"port": 1}, "agents": {"list": [{"id": "a"}]}}));
    }
}
