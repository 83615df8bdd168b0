//! Who may talk, who may command, and when the bot is addressed (PURE).
//!
//! Order for a message: direct or group policy, then (groups) the mention gate. Nothing here replies: the caller sends the
//! pairing challenge, keeps unaddressed messages as context, and drops the rest silently.

use proto::view::{AccountView, CommandsView, DmPolicy, GroupPolicy, GroupView, TopicView};

/// What became of a message at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Allow(Reason),
    /// Unknown sender under policy `pairing`: offer a code.
    Challenge,
    Block(Reason),
    /// Allowed, but not addressed: keep it as context, do not answer.
    NotAddressed,
}

/// Why, for diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    GroupAllowed,
    GroupDisabled,
    GroupEmptyAllowlist,
    GroupNotAllowlisted,
    DmOpen,
    DmDisabled,
    DmAllowlisted,
    DmNotAllowlisted,
}

impl Reason {
    pub const fn code(self) -> &'static str {
        match self {
            Self::GroupAllowed => "group_policy_allowed",
            Self::GroupDisabled => "group_policy_disabled",
            Self::GroupEmptyAllowlist => "group_policy_empty_allowlist",
            Self::GroupNotAllowlisted => "group_policy_not_allowlisted",
            Self::DmOpen => "dm_policy_open",
            Self::DmDisabled => "dm_policy_disabled",
            Self::DmAllowlisted => "dm_policy_allowlisted",
            Self::DmNotAllowlisted => "dm_policy_not_allowlisted",
        }
    }
}

/// A direct message. `paired` are the approved ids of the account's pairing store; they count under `pairing` (and `open`)
/// only, never under `allowlist`.
pub fn direct(account: &AccountView, channel: &str, sender: &str, paired: &[String]) -> Access {
    let listed = |list: &[String]| listed(list, channel, sender).is_some();
    match account.dm_policy {
        DmPolicy::Disabled => Access::Block(Reason::DmDisabled),
        DmPolicy::Open => Access::Allow(Reason::DmOpen),
        _ if listed(&account.allow_from) => Access::Allow(Reason::DmAllowlisted),
        DmPolicy::Allowlist => Access::Block(Reason::DmNotAllowlisted),
        // Approvals are of persons: an entry `*` in the store (edited by hand) opens nothing.
        DmPolicy::Pairing if listed(&without_wildcard(paired)) => Access::Allow(Reason::DmAllowlisted),
        DmPolicy::Pairing => Access::Challenge,
    }
}

fn without_wildcard(list: &[String]) -> Vec<String> {
    list.iter().filter(|entry| entry.trim() != "*").cloned().collect()
}

/// A group message, before the mention gate. `None` for an account that the configuration does not know: closed. The
/// pairing store never counts here.
pub fn group(
    account: Option<&AccountView>,
    channel: &str,
    chat: &str,
    topic: Option<&str>,
    sender: &str,
) -> Access {
    let Some(account) = account else { return Access::Block(Reason::GroupEmptyAllowlist) };
    let rules = Rules::of(account, chat, topic);
    if rules.policy == GroupPolicy::Disabled || rules.off {
        return Access::Block(Reason::GroupDisabled);
    }
    if !account.groups.is_empty() && rules.group.is_none() {
        return Access::Block(Reason::GroupNotAllowlisted);
    }
    if rules.policy == GroupPolicy::Open {
        return Access::Allow(Reason::GroupAllowed);
    }
    match rules.senders {
        [] => Access::Block(Reason::GroupEmptyAllowlist),
        list if listed(list, channel, sender).is_some() => Access::Allow(Reason::GroupAllowed),
        _ => Access::Block(Reason::GroupNotAllowlisted),
    }
}

/// The rules of one chat: topic over group over account.
struct Rules<'a> {
    group: Option<&'a GroupView>,
    policy: GroupPolicy,
    senders: &'a [String],
    off: bool,
}

impl<'a> Rules<'a> {
    fn of(account: &'a AccountView, chat: &str, topic: Option<&str>) -> Self {
        let group = account.group(chat);
        let topic: Option<&TopicView> = topic.and_then(|id| group.and_then(|group| group.topics.get(id)));
        let policy = topic.and_then(|t| t.group_policy).or(group.and_then(|g| g.group_policy));
        let senders = topic
            .and_then(|t| t.allow_from.as_deref())
            .or(group.and_then(|g| g.allow_from.as_deref()))
            .or(account.group_allow_from.as_deref())
            .unwrap_or(&account.allow_from);
        Self {
            group,
            policy: policy.unwrap_or_else(|| account.group_policy()),
            senders,
            off: group.is_some_and(|g| !g.enabled) || topic.is_some_and(|t| !t.enabled),
        }
    }
}

/// What the channel worker and the session say about a group message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mention {
    /// The chat wants the bot to be addressed (`requireMention`).
    pub required: bool,
    /// Mentions can be told at all on this network; if not, the gate is open.
    pub detectable: bool,
    /// By the network's own mention or by a pattern.
    pub mentioned: bool,
    pub reply_to_bot: bool,
    /// A command from somebody who may command, with nobody else mentioned.
    pub authorised_command: bool,
    /// `/activation always` in this session.
    pub always: bool,
}

/// The mention gate: `true` = answer.
pub const fn addressed(mention: Mention) -> bool {
    let gate_open = !mention.required || !mention.detectable || mention.always;
    gate_open || mention.mentioned || mention.reply_to_bot || mention.authorised_command
}

/// Policy and gate together.
pub fn group_message(access: Access, mention: Mention) -> Access {
    match access {
        Access::Allow(_) if !addressed(mention) => Access::NotAddressed,
        access => access,
    }
}

/// What makes somebody's `/command` count.
#[derive(Debug, Clone, Copy)]
pub struct CommandFacts<'a> {
    pub channel: &'a str,
    pub sender: &'a str,
    /// The message passed its access check.
    pub allowed: bool,
    /// The channel lets only owners command.
    pub owner_only: bool,
    /// `allowFrom` of the account, from which owners are told when no list of them is configured.
    pub allow_from: &'a [String],
}

/// May this sender give commands? `commands.allowFrom` for the channel (or `*`), once set, is the only source.
pub fn may_command(commands: &CommandsView, facts: CommandFacts<'_>) -> bool {
    let own = commands.allow_from.get(facts.channel).or_else(|| commands.allow_from.get("*"));
    if let Some(list) = own {
        let list: Vec<String> = list.iter().filter_map(entry_text).collect();
        return listed(&list, facts.channel, facts.sender).is_some();
    }
    let allowed = facts.allowed || !commands.use_access_groups;
    allowed && (!facts.owner_only || owners(commands, facts).is_empty() || is_owner(commands, facts))
}

fn entry_text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Is this sender an owner? Only an entry that names them makes them one, never `*`, never an approved pairing.
pub fn is_owner(commands: &CommandsView, facts: CommandFacts<'_>) -> bool {
    listed(&owners(commands, facts), facts.channel, facts.sender).is_some()
}

fn owners(commands: &CommandsView, facts: CommandFacts<'_>) -> Vec<String> {
    let named = without_wildcard(&commands.owner_allow_from);
    if named.is_empty() { without_wildcard(facts.allow_from) } else { named }
}

/// Direct chats of the owners named in `commands.ownerAllowFrom` on this channel. Names and phone numbers are left out:
/// they are no ids of chats.
pub fn owner_chats(commands: &CommandsView, channel: &str) -> Vec<String> {
    let named = without_wildcard(&commands.owner_allow_from);
    let ids = named.iter().filter(|entry| !entry.contains(['@', '+'])).map(|entry| normal(channel, entry));
    // What still has a prefix belongs to another channel.
    ids.filter(|id| !id.is_empty() && !id.contains(':')).collect()
}

/// How an entry matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    Wildcard,
    Id,
}

/// Looks a sender up by id. Entries may carry the channel's name (`<channel>:123`, `tg:123`) or `user:`; phone numbers
/// compare by digits. Names do not count: they can be changed by whoever bears them.
pub fn listed(list: &[String], channel: &str, sender: &str) -> Option<Match> {
    let sender = normal(channel, sender);
    if sender.is_empty() {
        // Nobody in particular: only an open list lets them in.
        return list.iter().any(|entry| entry.trim() == "*").then_some(Match::Wildcard);
    }
    let by_id = list.iter().any(|entry| entry.trim() != "*" && normal(channel, entry) == sender);
    let open = || list.iter().any(|entry| entry.trim() == "*");
    if by_id { Some(Match::Id) } else { open().then_some(Match::Wildcard) }
}

fn normal(channel: &str, entry: &str) -> String {
    let mut text = entry.trim().to_lowercase();
    while let Some((prefix, rest)) = text.split_once(':') {
        if !names_channel(prefix, &channel.to_lowercase()) {
            break;
        }
        text = rest.trim().to_owned();
    }
    match text.strip_prefix('+') {
        Some(number) => number.chars().filter(char::is_ascii_digit).collect(),
        None => text,
    }
}

/// The channel's name, the word `user`, or two or three letters of the name in its order (`tg`).
fn names_channel(prefix: &str, channel: &str) -> bool {
    if prefix == channel || prefix == "user" {
        return true;
    }
    let same_start = prefix.chars().next() == channel.chars().next();
    let mut rest = channel.chars();
    let in_order = prefix.chars().all(|c| rest.any(|have| have == c));
    (2..=3).contains(&prefix.chars().count()) && same_start && in_order
}

#[cfg(test)]
mod tests;
