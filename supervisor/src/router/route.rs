//! Which agent answers, in which session (PURE): bindings, direct-message scope, identity links, topics and threads.

use proto::view::{
    AgentsView, BindingView, DmScope, PeerKind, SessionScope, SessionView, normalize_agent_id,
};

use super::session_key::{GLOBAL, main_session};

/// The account that a binding without one means, when the channel names no other.
const DEFAULT_ACCOUNT: &str = "default";

/// How a part of a conversation is written in a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub<'a> {
    None,
    /// A topic of a group: a conversation of its own, whose parent is the group. Bindings may name `<group>:topic:<id>`.
    Topic(&'a str),
    /// A thread below a conversation; bindings see the conversation.
    #[cfg_attr(not(test), expect(dead_code, reason = "no channel that is built has threads"))]
    Thread(&'a str),
}

/// What a message says about where it comes from. Ids as the network writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    pub channel: &'a str,
    pub account: &'a str,
    /// The channel's own default account, for bindings that name none.
    pub default_account: &'a str,
    pub kind: PeerKind,
    /// Sender of a direct message, else the group or channel.
    pub peer: &'a str,
    pub sub: Sub<'a>,
    /// What the peer belongs to, where the network nests them (a thread's channel).
    pub parent: Option<(PeerKind, &'a str)>,
    pub guild: Option<&'a str>,
    pub team: Option<&'a str>,
    pub roles: &'a [String],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub agent: String,
    pub session_key: String,
    /// The agent's main session, for events that belong to no conversation.
    pub main_session_key: String,
    pub matched_by: MatchedBy,
    /// The binding named an agent that does not exist: the default agent answers, and the operator should know.
    pub unknown_agent: Option<String>,
}

/// Tiers, most exact first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchedBy {
    Peer,
    PeerParent,
    GuildRoles,
    Guild,
    Team,
    Account,
    Channel,
    Default,
}

impl MatchedBy {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Peer => "binding.peer",
            Self::PeerParent => "binding.peer.parent",
            Self::GuildRoles => "binding.guild+roles",
            Self::Guild => "binding.guild",
            Self::Team => "binding.team",
            Self::Account => "binding.account",
            Self::Channel => "binding.channel",
            Self::Default => "default",
        }
    }
}

pub fn route(
    arrival: &Arrival<'_>,
    agents: &AgentsView,
    bindings: &[BindingView],
    session: &SessionView,
) -> Route {
    let best = bindings
        .iter()
        .filter_map(|binding| tier(arrival, binding).map(|tier| (tier, binding)))
        // The first of equal tiers wins: `min_by_key` keeps the earliest.
        .min_by_key(|(tier, _)| *tier);
    let (matched_by, wanted) = match best {
        Some((tier, binding)) => (tier, normalize_agent_id(&binding.agent_id)),
        None => (MatchedBy::Default, agents.default_id().to_owned()),
    };
    let known = agents.contains(&wanted);
    let unknown_agent = (!known && matched_by != MatchedBy::Default).then(|| wanted.clone());
    let agent = if unknown_agent.is_some() { agents.default_id().to_owned() } else { wanted };
    Route {
        session_key: session_key(arrival, &agent, session),
        main_session_key: main_session(&agent, session),
        agent,
        matched_by,
        unknown_agent,
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// The tier in which a binding takes the message; `None` when any constraint that it gives does not hold.
fn tier(arrival: &Arrival<'_>, binding: &BindingView) -> Option<MatchedBy> {
    let want = &binding.matches;
    if !same(&want.channel, arrival.channel) {
        return None;
    }
    let account = want.account_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
    let any_account = account == Some("*");
    let account_fits = match account {
        Some("*") => true,
        Some(id) => same(id, arrival.account),
        None => same(arrival.account, DEFAULT_ACCOUNT) || same(arrival.account, arrival.default_account),
    };
    let given =
        |want: &Option<String>| want.as_deref().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
    let (guild, team) = (given(&want.guild_id), given(&want.team_id));
    let holds = |want: &Option<String>, have: Option<&str>| {
        want.as_deref().is_none_or(|want| have.is_some_and(|have| same(want, have)))
    };
    let roles_hold = want.roles.is_empty() || want.roles.iter().any(|role| arrival.roles.contains(role));
    if !account_fits || !holds(&guild, arrival.guild) || !holds(&team, arrival.team) || !roles_hold {
        return None;
    }
    if let Some(peer) = want.peer.as_ref().filter(|peer| !peer.id.trim().is_empty()) {
        return peer_tier(arrival, peer.kind, &peer.id);
    }
    Some(match (guild, team) {
        (Some(_), _) if !want.roles.is_empty() => MatchedBy::GuildRoles,
        (Some(_), _) => MatchedBy::Guild,
        (None, Some(_)) => MatchedBy::Team,
        (None, None) if any_account => MatchedBy::Channel,
        (None, None) => MatchedBy::Account,
    })
}

fn peer_tier(arrival: &Arrival<'_>, kind: PeerKind, id: &str) -> Option<MatchedBy> {
    let conversation = arrival.kind == kind && same(id, arrival.peer);
    if let Sub::Topic(topic) = arrival.sub {
        if arrival.kind == kind && same(id, &format!("{}:topic:{topic}", arrival.peer)) {
            return Some(MatchedBy::Peer);
        }
        if conversation {
            return Some(MatchedBy::PeerParent);
        }
    } else if conversation {
        return Some(MatchedBy::Peer);
    }
    let parent = arrival.parent.is_some_and(|(parent_kind, parent)| parent_kind == kind && same(id, parent));
    parent.then_some(MatchedBy::PeerParent)
}

fn session_key(arrival: &Arrival<'_>, agent: &str, session: &SessionView) -> String {
    if session.scope == SessionScope::Global {
        return GLOBAL.to_owned();
    }
    let channel = arrival.channel.trim();
    let peer = arrival.peer.trim();
    let base = match arrival.kind {
        PeerKind::Direct => direct_key(arrival, agent, session),
        PeerKind::Group => format!("agent:{agent}:{channel}:group:{peer}"),
        PeerKind::Channel => format!("agent:{agent}:{channel}:channel:{peer}"),
    };
    let key = match arrival.sub {
        Sub::None => base,
        Sub::Topic(id) => format!("{base}:topic:{id}"),
        Sub::Thread(id) => format!("{base}:thread:{id}"),
    };
    key.to_lowercase()
}

fn direct_key(arrival: &Arrival<'_>, agent: &str, session: &SessionView) -> String {
    if session.dm_scope == DmScope::Main || arrival.peer.trim().is_empty() {
        return main_session(agent, session);
    }
    let channel = arrival.channel.trim();
    let linked = linked_identity(arrival, session);
    let peer = linked.as_deref().unwrap_or(arrival.peer.trim());
    match session.dm_scope {
        DmScope::Main | DmScope::PerPeer => format!("agent:{agent}:direct:{peer}"),
        DmScope::PerChannelPeer => format!("agent:{agent}:{channel}:direct:{peer}"),
        DmScope::PerAccountChannelPeer => {
            let account = Some(arrival.account.trim()).filter(|id| !id.is_empty()).unwrap_or(DEFAULT_ACCOUNT);
            format!("agent:{agent}:{channel}:{account}:direct:{peer}")
        }
    }
}

/// The name under which one person's ids are kept together: by the bare id or `channel:id`.
fn linked_identity(arrival: &Arrival<'_>, session: &SessionView) -> Option<String> {
    let peer = arrival.peer.trim().to_lowercase();
    let scoped = format!("{}:{peer}", arrival.channel.trim().to_lowercase());
    let matches = |id: &String| {
        let id = id.trim().to_lowercase();
        !id.is_empty() && (id == peer || id == scoped)
    };
    let (name, _) = session.identity_links.iter().find(|(_, ids)| ids.iter().any(matches))?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests;
